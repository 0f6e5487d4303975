"""The container engine through the docker SDK, on a bounded pool of threads, each call with a bound in time.

Only the process that holds the engine's socket imports this (ADR 13); the SDK itself is imported at its first use. What
lasts as long as a container does is in `engine_streams`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rnd.services import processes
from rnd.services.docker_spec import LABEL_DIRECTORY
from rnd.services.engine_streams import EngineGone, EngineRefused, Opened, open_stream

if TYPE_CHECKING:
    from docker import APIClient

DEFAULT_SOCKET = "/var/run/docker.sock"
CALL_TIMEOUT_S = 60
CALLERS = 8
"""Calls at once; an engine that is asked to start more containers at a time than this is none the faster."""
PULLERS = 3
PULL_TIMEOUT_S = 3600.0
PULL_SILENCE_S = 120
BUILD_TIMEOUT_S = 3600
BUILD_MEMORY_BYTES = 4 << 30
LAST_LINES = 20

T = TypeVar("T")
Tell = Callable[[dict[str, Any]], None]
"""Takes one piece of news of a pull or a build, in whichever thread it is."""


class EngineFacts(NamedTuple):
    """What kind of engine this is."""

    version: str
    api_version: str
    cpus: int
    rootless: bool
    remapped: bool


class Engine:
    """One container engine, reached by a unix socket."""

    def __init__(self, socket_path: str = "") -> None:
        """Prepare; nothing is asked yet. `socket_path` empty means where `DOCKER_HOST` says, else the usual place."""
        self.socket_path = socket_path or _socket_of(os.environ.get("DOCKER_HOST", ""))
        self._callers = ThreadPoolExecutor(CALLERS, "engine")
        self._pullers = ThreadPoolExecutor(PULLERS, "images")
        self._client: APIClient | None = None
        self._facts: EngineFacts | None = None
        self._volumes: dict[str, tuple[str, ...]] = {}

    async def facts(self, *, anew: bool = False) -> EngineFacts:
        """Return what the engine is. Raises `EngineGone`."""
        if self._facts is None or anew:
            self._facts = await self._ask_again(_facts)
        return self._facts

    async def mark(self) -> str:
        """Return what names the engine's process: another one has been restarted since. Raises `EngineGone`."""
        return await asyncio.get_running_loop().run_in_executor(self._callers, self._mark)

    def _mark(self) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CALL_TIMEOUT_S)
            try:
                connection.connect(self.socket_path)
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            except OSError as error:
                raise EngineGone(f"the container engine at {self.socket_path} does not answer: {error}") from None
        pid, _, _ = struct.unpack("3i", credentials)
        if pid == 1:  # a service manager listens for the engine
            with contextlib.suppress(OSError, ValueError):
                folder = os.path.dirname(os.path.realpath(self.socket_path))
                with open(os.path.join(folder, "docker.pid")) as file:
                    pid = int(file.read())
        return f"{processes.boot_id()} {pid} {processes.start_time(pid)}"

    async def create(self, body: dict[str, Any], name: str) -> str:
        """Create a container and return its id. Raises `EngineRefused` with 409 where the name is taken, 404 without image."""

        def create(client: APIClient) -> str:
            return str(client.create_container_from_config(body, name)["Id"])  # type: ignore[no-untyped-call]  # the stubs lack its type

        return await self._call(create)

    async def start(self, container_id: str) -> None:
        """Start a container that was created."""
        await self._call(lambda client: client.start(container_id))

    async def kill(self, container_id: str, signal_name: str) -> None:
        """Send a signal to a container's first process; one that is paused goes on with it."""

        def kill(client: APIClient) -> None:
            client.kill(container_id, signal_name)
            state = client.inspect_container(container_id)["State"]
            if state.get("Paused"):
                client.unpause(container_id)

        await self._call(kill)

    async def state(self, container_id: str) -> dict[str, Any] | None:
        """Return the `State` of a container, or `None` if there is none of this id."""

        def state(client: APIClient) -> dict[str, Any]:
            return dict(client.inspect_container(container_id)["State"])

        try:
            return await self._ask_again(state)
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    async def remove(self, container_id: str) -> None:
        """Remove a container with all that is its own, also if it still runs. Idempotent."""
        try:
            await self._ask_again(lambda client: client.remove_container(container_id, v=True, force=True))
        except EngineRefused as error:
            gone = error.status == 404 or (error.status == 409 and "in progress" in error.words)
            if not gone:
                raise

    async def containers(self, **labels: str) -> list[dict[str, Any]]:
        """Return every container that has these labels and is one of ours, in whatever state."""
        wanted = [LABEL_DIRECTORY, *(f"{name}={value}" for name, value in labels.items())]

        def containers(client: APIClient) -> list[dict[str, Any]]:
            return list(client.containers(all=True, filters={"label": wanted}))

        return await self._ask_again(containers)

    async def attach(self, container_id: str) -> Opened:
        """Return the output of a container that has not been started: no byte of it is missed."""
        return await self._stream(
            "POST", f"containers/{container_id}/attach?stream=1&stdout=1&stderr=1", both_ways=True
        )

    async def attach_input(self, container_id: str) -> Opened:
        """Return the way to a container's standard input: apart, since it stays open while somebody has yet to write."""
        return await self._stream("POST", f"containers/{container_id}/attach?stream=1&stdin=1", both_ways=True)

    async def output(self, container_id: str, *, follow: bool) -> Opened:
        """Return what the engine has kept of a container's output, from its start, and what comes if it is followed."""
        return await self._stream("GET", f"containers/{container_id}/logs?follow={int(follow)}&stdout=1&stderr=1")

    async def end(self, container_id: str, *, started: bool) -> Opened:
        """Return an answer that ends, with the exit code, when the container does."""
        condition = "not-running" if started else "next-exit"
        return await self._stream("POST", f"containers/{container_id}/wait?condition={condition}")

    # ------------------------------------------------------------- images

    async def image(self, name: str) -> dict[str, Any] | None:
        """Return what the engine says of an image, or `None` if it is not there."""

        def image(client: APIClient) -> dict[str, Any]:
            return dict(client.inspect_image(name))  # type: ignore[no-untyped-call]  # the stubs lack its type

        try:
            return await self._ask_again(image)
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    async def image_volumes(self, image_id: str) -> tuple[str, ...]:
        """Return the volumes that an image declares; what has an id never changes, so it is asked for once."""
        if image_id not in self._volumes:
            found = await self.image(image_id)
            if found is None:
                raise EngineRefused(404, f"the image {image_id} is not there")
            self._volumes[image_id] = tuple((found.get("Config") or {}).get("Volumes") or ())
        return self._volumes[image_id]

    async def pull(self, image: str, auth: dict[str, str] | None, tell: Tell) -> None:
        """Have an image brought here. Raises `EngineRefused` with the registry's words."""

        def pull(client: APIClient) -> None:
            repository, tag = _name_and_tag(image)
            news = client.pull(repository, tag=tag, stream=True, decode=True, auth_config=auth)
            _follow(news, tell, time.monotonic() + PULL_TIMEOUT_S)

        await self._call(pull, pool=self._pullers, silence_s=PULL_SILENCE_S)

    async def build(self, context: int, tag: str, tell: Tell) -> None:
        """Build an image from a tar, an open file, without network. Raises `EngineRefused` with its last lines."""

        def build(client: APIClient) -> None:
            with open(context, "rb", closefd=False) as tar:
                news = client.build(
                    fileobj=tar,
                    custom_context=True,
                    tag=tag,
                    rm=True,
                    forcerm=True,
                    pull=False,
                    decode=True,
                    network_mode="none",
                    container_limits={"memory": BUILD_MEMORY_BYTES, "memswap": BUILD_MEMORY_BYTES},
                )
                _follow(iter(news), tell, time.monotonic() + BUILD_TIMEOUT_S)

        await self._call(build, pool=self._pullers, silence_s=BUILD_TIMEOUT_S)

    def close(self) -> None:
        """Let go of the threads; what they are in the middle of has its own bounds."""
        self._callers.shutdown(wait=False, cancel_futures=True)
        self._pullers.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------- within

    async def _stream(self, method: str, path: str, *, both_ways: bool = False) -> Opened:
        api_version = (await self.facts()).api_version
        return await open_stream(self.socket_path, method, f"/v{api_version}/{path}", both_ways=both_ways)

    async def _call(
        self, act: Callable[[APIClient], T], *, pool: ThreadPoolExecutor | None = None, silence_s: int = CALL_TIMEOUT_S
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool or self._callers, self._ask, act, silence_s)

    async def _ask_again(self, act: Callable[[APIClient], T]) -> T:
        """Ask what can be asked twice: a connection that was kept open may have broken since."""
        try:
            return await self._call(act)
        except EngineGone:
            return await self._call(act)

    def _ask(self, act: Callable[[APIClient], T], silence_s: int) -> T:
        """Ask in this thread, and say in two words what can go wrong."""
        import requests
        from docker.errors import APIError, DockerException
        from urllib3.exceptions import HTTPError

        try:
            return act(self._connected(silence_s))
        except APIError as error:
            status = int(error.response.status_code) if error.response is not None else 500
            raise EngineRefused(status, str(error.explanation or error)) from None
        except (DockerException, requests.RequestException, HTTPError, OSError) as error:
            raise EngineGone(f"the container engine at {self.socket_path} does not answer: {_plain(error)}") from None

    def _connected(self, silence_s: int) -> APIClient:
        from docker import APIClient

        if silence_s != CALL_TIMEOUT_S:
            return APIClient(f"unix://{self.socket_path}", version="auto", timeout=silence_s)
        if self._client is None:
            self._client = APIClient(
                f"unix://{self.socket_path}", version="auto", timeout=CALL_TIMEOUT_S, num_pools=CALLERS
            )
        return self._client


def _facts(client: APIClient) -> EngineFacts:
    info, version = client.info(), client.version(api_version=False)
    security = info.get("SecurityOptions") or []
    return EngineFacts(
        version=str(version["Version"]),
        api_version=str(client.api_version),
        cpus=max(1, int(info.get("NCPU") or 1)),
        rootless=any("name=rootless" in option for option in security),
        remapped=any("name=userns" in option for option in security),
    )


def _socket_of(host: str) -> str:
    return host.removeprefix("unix://") if host.startswith("unix://") else DEFAULT_SOCKET


def _name_and_tag(image: str) -> tuple[str, str]:
    """Part a name from its tag or digest; `latest` where it has neither."""
    name, at, digest = image.partition("@")
    if at:
        return name.partition(":")[0] if ":" in name.rpartition("/")[2] else name, digest
    head, slash, last = image.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag or "latest"


def _follow(news: Iterator[dict[str, Any]], tell: Tell, until: float) -> None:
    """Hand on what a pull or a build says. Raises `EngineRefused` with what went wrong, in the engine's words."""
    lines: list[str] = []
    for piece in news:
        if "error" in piece:
            words = str((piece.get("errorDetail") or {}).get("message") or piece["error"])
            raise EngineRefused(500, "\n".join([*lines[-LAST_LINES:], words]))
        if stream := str(piece.get("stream", "")).strip():
            lines.append(stream)
        tell(piece)
        if time.monotonic() > until:
            raise EngineRefused(504, "it took too long")


def _plain(error: Exception) -> str:
    """Return the last cause of an error of the SDK, which wraps one in another."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__
