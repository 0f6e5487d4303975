"""An image store and a registry of a test: what is where is written down, and a pull holds until it is let go."""

from __future__ import annotations

import asyncio
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path

from rnd.services.images import ImageFacts, PullProgress, RegistryAuth, Tell
from rnd.types.errors import ExecutorUnavailable


def image_facts(number: int, name: str = "docker.io/library/python", **more: object) -> ImageFacts:
    """Return an image that a registry gives out, with an id and a digest of its own."""
    known = ImageFacts(
        image_id=f"sha256:{number:064x}",
        digest=f"{name}@sha256:{number + 0xD000:064x}",
        architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), ""),
        size_bytes=1000,
        cmd=("python3",),
    )
    return replace(known, **more)  # type: ignore[arg-type]  # a test says what it changes


@dataclass(slots=True)
class ScriptedImages:
    """Images here and in the registry, by every name that means them."""

    here: dict[str, ImageFacts] = field(default_factory=dict)
    registry: dict[str, ImageFacts] = field(default_factory=dict)
    pulled: list[tuple[str, RegistryAuth | None]] = field(default_factory=list)
    built: list[tuple[Path, str]] = field(default_factory=list)
    trouble: str = ""
    broken: bool = False
    holds: bool = False
    cancelled: int = 0
    _gate: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, *names: str, facts: ImageFacts) -> None:
        """Have an image here, under its names, its id and its digest."""
        self.here |= dict.fromkeys((*names, facts.image_id), facts)
        if facts.digest:
            self.here[facts.digest] = facts

    def offer(self, *names: str, facts: ImageFacts) -> None:
        """Have an image in the registry, under its names and its digest."""
        self.registry |= dict.fromkeys((*names, facts.digest), facts)

    def let_go(self) -> None:
        """Let the pulls that hold go on."""
        self.holds = False
        self._gate.set()

    def renew(self) -> None:
        """Belong to the loop of the next daemon."""
        self._gate = asyncio.Event()

    async def look_up(self, image: str) -> ImageFacts | None:
        self._complain()
        return self.here.get(image)

    async def pull(self, image: str, auth: RegistryAuth | None, tell: Tell) -> ImageFacts:
        self._complain()
        self.pulled.append((image, auth))
        tell(PullProgress(image=image, status="Downloading", bytes_done=400, bytes_total=1000))
        try:
            while self.holds:
                await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if image not in self.registry:
            raise ExecutorUnavailable(f"pull access denied for {image}, or there is no such image")
        tell(PullProgress(image=image, status="Extracting", bytes_done=1000, bytes_total=1000))
        self.put(image, facts=self.registry[image])
        return self.registry[image]

    async def build(self, context: Path, tag: str, tell: Tell) -> ImageFacts:
        self._complain()
        self.built.append((context, tag))
        if not (context / "Dockerfile").exists():
            raise ExecutorUnavailable(f"{tag} could not be built: there is no Dockerfile")
        tell(PullProgress(image=tag, status="Step 1/1"))
        facts = image_facts(100 + len(self.built), digest="")
        self.put(tag, facts=facts)
        return facts

    def _complain(self) -> None:
        if self.broken:
            raise BrokenPipeError(32, "Broken pipe")
        if self.trouble:
            raise ExecutorUnavailable(self.trouble)
