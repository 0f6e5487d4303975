"""Whether a machine can run a kind of job at all: what its peer says of itself, and what a program is built for
(document: Platform Considerations). Asked before a job is assigned; the executor's own answer still decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rnd.types.enums import ServiceType

ELF_HEADER_BYTES: Final = 20

# e_machine of an ELF header, by the name that `uname -m` has for it.
_MACHINES: Final = {3: "i686", 21: "ppc64", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}

# The machine that an image is for, as registries call it.
_IMAGE_MACHINES: Final = {
    "386": "i686", "amd64": "x86_64", "arm": "armv7l", "arm64": "aarch64", "ppc64le": "ppc64le", "riscv64": "riscv64",
    "s390x": "s390x",
}  # fmt: skip

# What a machine runs besides its own programs, where its kernel is built so.
_RUNS_TOO: Final = {"x86_64": frozenset({"i686"}), "aarch64": frozenset({"armv7l"})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What runs one kind of jobs, and why it does not, if so."""

    available: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a peer says a job could count on there, as far as it says so. `engines` by the kind of service."""

    platform: str = ""
    architecture: str = ""
    engines: Mapping[ServiceType, Engine] = field(default_factory=dict)

    @property
    def machine(self) -> str:
        """Return platform and architecture as one word."""
        return "/".join(filter(None, (self.platform, self.architecture)))


def read_capabilities(said: Mapping[str, object]) -> Capabilities:
    """Return what can be read from another peer's capabilities; what is missing or of another form is not said."""
    executors = said.get("executors")
    found: dict[ServiceType, Engine] = {}
    for kind in (ServiceType.DOCKER, ServiceType.STANDALONE):
        engine = executors.get(kind.lower()) if isinstance(executors, Mapping) else None
        if isinstance(engine, Mapping) and isinstance(engine.get("available"), bool):
            found[kind] = Engine(available=engine["available"], reason=_text(engine.get("reason")))
    return Capabilities(
        platform=_text(said.get("platform")), architecture=_text(said.get("architecture")), engines=found
    )


def capability_refusal(service_type: ServiceType, there: Capabilities) -> str | None:
    """Return why no job of a kind can be assigned to a peer that says this of itself; `None` where nothing speaks against it."""
    engine = there.engines.get(service_type)
    if engine is None or engine.available:
        return None
    machine = f" ({there.machine})" if there.machine else ""
    reason = f": {engine.reason}" if engine.reason else ""
    return f"that peer{machine} runs no {service_type} jobs{reason}"


def platform_refusal(header: bytes, machine: str) -> str | None:
    """Return why a program with this beginning cannot run on a machine (`uname -m`), `None` where it may."""
    if len(header) < ELF_HEADER_BYTES or not header.startswith(b"\x7fELF"):
        return None
    built_for = _MACHINES.get(int.from_bytes(header[18:20], "big" if header[5] == 2 else "little"))
    known = machine in _MACHINES.values()
    if built_for is None or not known or built_for == machine or built_for in _RUNS_TOO.get(machine, ()):
        return None
    return f"it is built for {built_for}, and this machine is {machine}"


def image_refusal(architecture: str, machine: str) -> str | None:
    """Return why an image for an architecture (`amd64`) cannot run on a machine (`uname -m`), `None` where it may."""
    built_for = _IMAGE_MACHINES.get(architecture)
    known = machine in _IMAGE_MACHINES.values()
    if built_for is None or not known or built_for == machine or built_for in _RUNS_TOO.get(machine, ()):
        return None
    return f"it is built for {architecture}, and this machine is {machine}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
