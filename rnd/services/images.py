"""What a DOCKER service's image is, and the interface through which images are looked up, pulled and built (ruling 14).

An image is pinned when its service is created: by the id of its configuration, and by the digest under which a registry
gives out that very image. A name such as `python:3.12` may mean another image tomorrow; a job never runs that one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image that is in the engine's store. `digest` is `name@sha256:...`, "" where no registry has given it out."""

    image_id: str
    digest: str
    architecture: str
    size_bytes: int
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    working_directory: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """Who asks a registry. Never in a log, a row in clear, an event, an error or the arguments of a process."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far a pull or a build is; bytes of all layers that are known so far."""

    image: str
    status: str
    bytes_done: int = 0
    bytes_total: int = 0


Tell = Callable[[PullProgress], None]
"""Takes news of a pull in the event loop; must not block."""


class Images(Protocol):
    """The image store of the container engine. Everything has a bound in time; blocking work is on threads of its own."""

    async def look_up(self, image: str) -> ImageFacts | None:
        """Return an image that is in the store, by name, digest or id, or `None`. Raises `ExecutorUnavailable`."""

    async def pull(self, image: str, auth: RegistryAuth | None, tell: Tell) -> ImageFacts:
        """Have an image brought here; many who ask for one at the same time wait for the same pull.

        `image` is a name or, for one that is pinned, its digest. Raises `ExecutorUnavailable` with the words of the registry:
        not found, not allowed, no way to it, no room.
        """

    async def build(self, context: Path, tag: str, tell: Tell) -> ImageFacts:
        """Build an image from a folder with a Dockerfile, without network. Raises `ExecutorUnavailable` with its last lines."""
