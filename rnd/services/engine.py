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
from collections.abc import Callable
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
OLDEST_API = "1.41"
"""Of Docker 20.10: the first that gives each container a cgroup namespace of its own."""
ONLY_SOCKETS = "a container engine is reached by a unix socket on this machine: DOCKER_HOST must be unix:///..."

T = TypeVar("T")


class EngineFacts(NamedTuple):
    """What kind of engine this is."""

    version: str
    api_version: str
    cpus: int
    rootless: bool
    remapped: bool
    is_podman: bool


class Engine:
    """One container engine, reached by a unix socket."""

    def __init__(self, host: str = "", *, call_timeout_s: int = CALL_TIMEOUT_S) -> None:
        """Prepare; nothing is asked yet. `host` is what `DOCKER_HOST` says, empty for the usual place."""
        self.socket_path = host.removeprefix("unix://") if host else DEFAULT_SOCKET
        self._unusable = "" if self.socket_path.startswith("/") else f"{ONLY_SOCKETS}, not {host}"
        self._call_timeout_s = call_timeout_s
        self._callers = ThreadPoolExecutor(CALLERS, "engine")
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

        try:
            return await self._call(create)
        except EngineRefused as error:
            if "is already in use" in error.words:  # podman says 500
                raise EngineRefused(409, error.words) from None
            raise

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

    async def stream(self, method: str, path: str, **terms: Any) -> Opened:
        """Ask what takes its time, and return its answer once it has begun; `terms` as `open_stream` takes them."""
        api_version = (await self.facts()).api_version
        return await open_stream(self.socket_path, method, f"/v{api_version}/{path}", **terms)

    async def attach(self, container_id: str) -> Opened:
        """Return the output of a container that has not been started: no byte of it is missed."""
        return await self.stream("POST", f"containers/{container_id}/attach?stream=1&stdout=1&stderr=1", both_ways=True)

    async def attach_input(self, container_id: str) -> Opened:
        """Return the way to a container's standard input: apart, since it stays open while somebody has yet to write."""
        return await self.stream("POST", f"containers/{container_id}/attach?stream=1&stdin=1", both_ways=True)

    async def output(self, container_id: str, *, follow: bool) -> Opened:
        """Return what the engine has kept of a container's output, from its start, and what comes if it is followed."""
        return await self.stream("GET", f"containers/{container_id}/logs?follow={int(follow)}&stdout=1&stderr=1")

    async def end_of_next(self, container_id: str) -> Opened | None:
        """Return an answer that ends, with the exit code, when a container that is about to be started does.

        `None` where the engine cannot be asked that before the start: podman says nothing until then.
        """
        if (await self.facts()).is_podman:
            return None
        return await self.stream("POST", f"containers/{container_id}/wait?condition=next-exit")

    async def end(self, container_id: str) -> Opened:
        """Return an answer that ends, with the exit code, when a container that was started does, or has."""
        begins_late = (await self.facts()).is_podman
        path = f"containers/{container_id}/wait?condition=not-running"
        return await self.stream("POST", path, begins_late=begins_late)

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

    def close(self) -> None:
        """Let go of the threads; what they are in the middle of has its own bounds."""
        self._callers.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------- within

    async def _call(self, act: Callable[[APIClient], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._callers, self._ask, act)

    async def _ask_again(self, act: Callable[[APIClient], T]) -> T:
        """Ask what can be asked twice: a connection that was kept open may have broken since."""
        try:
            return await self._call(act)
        except EngineGone:
            return await self._call(act)

    def _ask(self, act: Callable[[APIClient], T]) -> T:
        """Ask in this thread, and say in two words what can go wrong."""
        import requests
        from docker.errors import APIError, DockerException
        from urllib3.exceptions import HTTPError

        try:
            return act(self._connected())
        except APIError as error:
            status = int(error.response.status_code) if error.response is not None else 500
            raise EngineRefused(status, str(error.explanation or error)) from None
        except (DockerException, requests.RequestException, HTTPError, OSError) as error:
            self._client = self._facts = None  # it may be another version when it is back
            raise EngineGone(f"the container engine at {self.socket_path} does not answer: {_plain(error)}") from None

    def _connected(self) -> APIClient:
        from docker import APIClient
        from docker.utils import version_lt

        client = self._client
        if client is None:
            if self._unusable:
                raise EngineGone(self._unusable)
            self._find_somebody()
            client = APIClient(
                f"unix://{self.socket_path}", version="auto", timeout=self._call_timeout_s, num_pools=CALLERS
            )
            if version_lt(client.api_version, OLDEST_API):
                client.close()
                raise EngineGone(
                    f"the container engine at {self.socket_path} speaks API {client.api_version}, and {OLDEST_API} is needed: "
                    "Docker 20.10 or newer"
                )
            self._client = client
        return client

    def _find_somebody(self) -> None:
        """Raise `OSError` where nobody listens: the SDK would leave its sockets open until the collector comes by."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(self._call_timeout_s)
            connection.connect(self.socket_path)


def _facts(client: APIClient) -> EngineFacts:
    info, version = client.info(), client.version(api_version=False)
    security = info.get("SecurityOptions") or []
    return EngineFacts(
        version=str(version["Version"]),
        api_version=str(client.api_version),
        cpus=max(1, int(info.get("NCPU") or 1)),
        rootless=any("name=rootless" in option for option in security),
        remapped=any("name=userns" in option for option in security),
        is_podman=any("Podman" in str(each.get("Name")) for each in version.get("Components") or []),
    )


def _plain(error: Exception) -> str:
    """Return the last cause of an error of the SDK, which wraps one in another."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__
