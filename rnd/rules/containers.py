"""What an owner may say of a container: names of images, users, capabilities, and where its files may be (ruling 14)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from rnd.rules.paths import OUTPUT_MOUNT, mount_target_problem, nested_mounts, normalise_mount_path
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.services import ServiceInterface

INPUT_MOUNT: Final = "/input"
"""Where a container finds what STDIN gets, unless a MOUNT is there or below it."""
SCRATCH: Final = "/tmp"  # noqa: S108 - in the container, where it is a filesystem of its own
_OWN: Final = (SCRATCH, "/run")
"""What every container has of its own; a MOUNT over it would hide the files of secrets, or take the place to scribble."""

DEFAULT_REGISTRY: Final = "docker.io"
IMAGE_NAME_MAX: Final = 500
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_DIGEST: Final = r"sha256:[0-9a-f]{64}"
_IMAGE: Final = re.compile(
    rf"(?:(?P<host>{_HOST})/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@{_DIGEST})?", re.ASCII
)

USER_PATTERN: Final = r"([0-9]{1,9})(?::([0-9]{1,9}))?"
"""Names are not taken: what they mean is the image's to say, and whose files a job leaves is not."""
USER_WORDS: Final = "must be the number of a user, or of a user and a group such as 1000:1000"

TMPFS_MAX_BYTES: Final = 64 << 30

CAPABILITIES: Final = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_NICE",
)  # fmt: skip
"""What an owner may give back: what any container has by default, but for raw sockets and devices, and two harmless ones."""


def image_name_problem(image: str) -> str | None:
    """Return why no image can have that name (`must be ...`), or `None`. An image's id, `sha256:...`, is a name too."""
    if re.fullmatch(_DIGEST, image):
        return None
    if len(image) <= IMAGE_NAME_MAX and _IMAGE.fullmatch(image):
        return None
    return "must be the name of an image, such as python:3-slim or registry.example:5000/team/tool:1.2"


def registry_of(image: str) -> str:
    """Return the host, with its port, that an image of this name is pulled from; `docker.io` where it names none."""
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    return first if named else DEFAULT_REGISTRY


def built_image_name(service_name: str) -> str:
    """Return the name under which an image is kept that is built for a service and given no name by its owner."""
    words = re.findall("[a-z0-9]+", service_name.lower())
    return f"rnd/{'-'.join(words)[:100] or 'service'}"


def capability_name(name: str) -> str | None:
    """Return a capability as engines call it: `CAP_CHOWN` and `chown` are `CHOWN`; `None` where none may be given back."""
    plain = name.upper().removeprefix("CAP_")
    return plain if plain in CAPABILITIES else None


def container_mount_problem(path: str) -> str | None:
    """Return why a container must not have a MOUNT there, or `None`; `path` is normalised."""
    problem = mount_target_problem(path)
    if problem is not None:
        return problem
    if path in _OWN or f"{path}/".startswith("/run/secrets/"):
        return f"MOUNT path {path!r} would cover what every container has of its own"
    if path.startswith(OUTPUT_MOUNT + "/"):
        return f"MOUNT path {path!r} lies inside {OUTPUT_MOUNT}, where the job leaves its files"
    return None


def mounts_problem(paths: Sequence[str]) -> str | None:
    """Return why a container cannot have these MOUNTs together, or `None`; paths are normalised."""
    for path in paths:
        problem = container_mount_problem(path)
        if problem is not None:
            return problem
    for outer, inner in nested_mounts(paths):
        return f"MOUNT {outer} is declared twice" if outer == inner else f"MOUNT {inner} lies inside MOUNT {outer}"
    return None


def shows_stdin(mount_paths: Iterable[str]) -> bool:
    """Say whether a container sees what its STDIN gets as files at `/input` too: a MOUNT there or below it wins."""
    return not any(path == INPUT_MOUNT or path.startswith(INPUT_MOUNT + "/") for path in mount_paths)


def suggested_mounts(volumes: Iterable[str], working_directory: str) -> tuple[ServiceInterface, ...]:
    """Return the MOUNTs that an image suggests: its volumes and its working directory, as far as a MOUNT may be there."""
    places: dict[str, str] = {}
    for volume in sorted(volumes):
        places[normalise_mount_path(volume)] = "volume of the image"
    if working_directory:
        words = "working directory of the image; the MOUNT hides what the image has there"
        places.setdefault(normalise_mount_path(working_directory), words)
    fit = [path for path in places if container_mount_problem(path) is None]
    inner = {below for _, below in nested_mounts(fit)}
    functions = {INPUT_MOUNT: MountFunction.INPUT, OUTPUT_MOUNT: MountFunction.OUTPUT}
    return tuple(
        ServiceInterface(
            interface_type=InterfaceType.MOUNT,
            path=path,
            mount_function=functions.get(path, MountFunction.BOTH),
            description=places[path],
        )
        for path in sorted(set(fit) - inner)
    )
