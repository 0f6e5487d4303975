"""rnd-exec: the one process that holds the container engine's socket (ADR 13).

The daemon starts it when it needs it, or a unit of its own does; it speaks in lines of JSON over
`<data-dir>/run/exec.sock` to its own user alone. It runs hardened containers over folders of jobs of this data directory
and knows images by name; nothing else can be asked of the engine through it.

Requests carry `id` and `op`; each is answered by a line with that `id` and either its result or `error`:
  hello                              -> {version, pid}
  check                              -> {engine: {version, ...}}
  submit {run}                       -> {container_id}  creates it, or finds what was created under its engine name
  find {engine_name, directory}      -> {container_id}        "" where nothing was ever created
  wait {engine_name, directory, container_id} -> {ended}      once that run has ended
  poll {runs: [{the same}]}          -> {seen: [...]}
  cancel {the same, grace_s}         -> {}
  cleanup {the same}                 -> {}
  list                               -> {containers: [...]}   all of this data directory
  discard {container_id}             -> {}                    ends and removes one of those
  image {image}                      -> {image}               what the engine says of it, or null
  pull {image, auth} / build {context, tag} -> {}             with lines {id, news} before
  stop                               -> {}                    exit as soon as no run is left
  retire                             -> {}                    exit now, for another to take the runs up
  abandon                                                     nobody waits any more for the request of this `id`
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

from rnd import __version__
from rnd.services import job_places, linux, seat
from rnd.services.docker_spec import LABEL_DIRECTORY, BadOrder
from rnd.services.engine import Engine
from rnd.services.engine_streams import EngineGone, EngineRefused
from rnd.services.exec_images import ExecImages
from rnd.services.exec_runs import ExecRuns, container_id_in
from rnd.services.executor import LABEL_ATTEMPT, LABEL_ENGINE_NAME, LABEL_JOB, LABEL_PEER
from rnd.services.service_manager import ServiceManager

SEAT: Final = "exec"
MESSAGE_MAX_BYTES: Final = 32 << 20
IDLE_S: Final = 60.0
HANDOVER_S: Final = 30.0
"""How long runs that would lose something by it may hold up another rnd-exec that is to take over."""
DISMISS_S: Final = 5.0
"""How long a client may take to read what it has yet to be told, when this process ends."""
CLIENT_REQUESTS_MAX: Final = 4096
"""Far above what one daemon has under way; whoever asks for more at once waits."""
PR_SET_DUMPABLE: Final = 4

OWN_LABELS: Final = frozenset({LABEL_PEER, LABEL_JOB, LABEL_ATTEMPT, LABEL_ENGINE_NAME, LABEL_DIRECTORY})
IMAGE_CONFIG: Final = ("Entrypoint", "Cmd", "Volumes", "WorkingDir", "User")

Request = dict[str, Any]
Send = Callable[[dict[str, Any]], None]


def main(data_dir: str, version: str, *, foreground: bool) -> None:
    """Become the rnd-exec of `data_dir`, or find that there is one; return when it can be connected to.

    In the foreground, as a service manager wants it, stay until told to go. `version` is the daemon's who starts it.
    """
    os.umask(0o077)
    folder = seat.open_folder(data_dir)
    lock = seat.take(folder, SEAT)
    if lock is None:
        if foreground:
            sys.exit("another rnd-exec has this data directory: restart the daemon that has started it")
        return
    listener = seat.listen(folder, SEAT)
    if foreground:
        seat.note_unit(folder, SEAT)
        ServiceManager.from_environment(os.environ).tell("READY=1")
    else:
        if os.fork():
            return
        seat.settle(folder, SEAT)
    linux.name_process(b"rnd-exec")
    linux.forgo_privileges()
    # Not to be read or traced by others of the same user, who may lack the rights on the engine that this process has.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    code = 0
    try:
        engine = Engine(os.environ.get("DOCKER_HOST", ""))
        server = ExecServer(os.path.realpath(data_dir), listener, engine, version=version, stays=foreground)
        asyncio.run(server.serve())
    except BaseException:  # noqa: BLE001 - the last thing this process can do is to say why it ends
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        os.unlink(seat.socket_name(SEAT), dir_fd=folder)
    os._exit(code)  # threads in the middle of a call would keep it


class ExecServer:
    """Answers what is asked of one data directory's containers and of images."""

    def __init__(
        self, data_dir: str, listener: socket.socket, engine: Engine, *, version: str = __version__, stays: bool
    ) -> None:
        """`stays` says that neither idleness nor a daemon that goes is a reason to end."""
        self._data_dir = data_dir
        self._version = version
        self._listener = listener
        self._stays = stays
        self._engine = engine
        self._clients: set[asyncio.StreamWriter] = set()
        self._stopping = False
        self._leaving = False
        self._idle_since = time.monotonic()
        self._stirred = asyncio.Event()

    async def serve(self) -> None:
        """Serve until told to stop, or until nobody has needed this process for a while."""
        try:
            async with asyncio.TaskGroup() as group:
                self._runs = ExecRuns(self._engine, self._data_dir, group, left=self._stir)
                self._images = ExecImages(self._engine, group)
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGTERM, lambda: group.create_task(self._hand_over()))
                server = await asyncio.start_unix_server(self._meet, sock=self._listener, limit=MESSAGE_MAX_BYTES)
                while not self._done():
                    self._stirred.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(IDLE_S / 10):
                            await self._stirred.wait()
                server.close()
                await self._dismiss()
                raise _Done
        except* _Done:
            self._engine.close()

    async def _dismiss(self) -> None:
        """Hang up on every client, and see it go; one that does not read what it was told is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISMISS_S):
                while self._clients:
                    self._stirred.clear()
                    for writer in self._clients:
                        writer.close()
                    await self._stirred.wait()
        for writer in self._clients:
            writer.transport.abort()

    def _stir(self) -> None:
        self._idle_since = time.monotonic()
        self._stirred.set()

    def _done(self) -> bool:
        if self._leaving:
            return True
        if len(self._runs) > 0:
            return False
        if self._stopping:
            return True
        return not self._stays and not self._clients and time.monotonic() - self._idle_since >= IDLE_S

    async def _hand_over(self) -> None:
        """Make room for another process, which takes up every run from where it is."""
        await self._runs.until_loose(HANDOVER_S)
        self._leaving = True
        self._stirred.set()

    # ------------------------------------------------------------- who asks

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: the boundary of one client."""
        if not seat.may_speak(writer.get_extra_info("socket")):
            writer.close()
            return
        self._clients.add(writer)
        room = asyncio.Semaphore(CLIENT_REQUESTS_MAX)
        under_way: dict[object, asyncio.Task[None]] = {}

        def send(fields: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(fields).encode() + b"\n")

        async def answer(number: object, request: Request) -> None:
            try:
                await self._answer(number, request, send)
            finally:
                under_way.pop(number, None)
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                while line := await reader.readline():
                    number, request = _parsed(line)
                    if request.get("op") == "abandon":
                        if number in under_way:
                            under_way[number].cancel()
                        continue
                    await room.acquire()
                    under_way[number] = group.create_task(answer(number, request))
                raise _Done
        except* (_Done, OSError, ValueError):
            pass
        finally:
            writer.close()
            self._clients.discard(writer)
            self._stir()

    async def _answer(self, number: object, request: Request, send: Send) -> None:
        """Answer one request, whatever it is: the boundary beyond which nothing that goes wrong may pass."""
        try:
            operation = self._operations()[request["op"]]
            facts = await operation(request, lambda news: send({"id": number, "news": news}))
        except (BadOrder, EngineGone) as error:
            facts = {"error": str(error)}
        except EngineRefused as error:
            facts = {"error": error.words, "status": error.status}
        except OSError as error:
            facts = {"error": f"{error.strerror}" + (f": {error.filename}" if error.filename else "")}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            facts = {"error": f"rnd-exec does not understand this: {type(error).__name__}"}
        except Exception as error:  # noqa: BLE001 - the boundary of one request
            traceback.print_exc()
            facts = {"error": f"rnd-exec has failed: {type(error).__name__}"}
        send({"id": number, **facts})

    def _operations(self) -> dict[str, Callable[[Request, Send], Awaitable[dict[str, Any]]]]:
        runs = self._runs
        return {
            "hello": self._hello,
            "check": self._check,
            "submit": lambda request, _: runs.submit(request),
            "find": lambda request, _: runs.find(request),
            "wait": lambda request, _: runs.wait(request),
            "poll": lambda request, _: runs.poll(request),
            "cancel": lambda request, _: runs.cancel(request),
            "cleanup": lambda request, _: runs.cleanup(request),
            "list": self._list,
            "discard": self._discard,
            "image": self._image,
            "pull": self._pull,
            "build": self._build,
            "stop": self._stop,
            "retire": self._retire,
        }

    # ------------------------------------------------------------- the process itself

    async def _hello(self, _request: Request, _tell: Send) -> dict[str, Any]:
        self._stopping = False
        return {"version": self._version, "pid": os.getpid()}

    async def _stop(self, _request: Request, _tell: Send) -> dict[str, Any]:
        self._stopping = not self._stays
        self._stirred.set()
        return {}

    async def _retire(self, _request: Request, _tell: Send) -> dict[str, Any]:
        await self._hand_over()
        return {}

    async def _check(self, _request: Request, _tell: Send) -> dict[str, Any]:
        return {"engine": (await self._engine.facts(anew=True))._asdict()}

    # ------------------------------------------------------------- what nobody may know of

    async def _list(self, _request: Request, _tell: Send) -> dict[str, Any]:
        return {"containers": [_facts_of(each) for each in await self._engine.containers() if self._is_ours(each)]}

    async def _discard(self, request: Request, _tell: Send) -> dict[str, Any]:
        wanted = container_id_in(request)
        for each in await self._engine.containers():
            if each["Id"] == wanted and self._is_ours(each):
                await self._engine.remove(wanted)
        return {}

    def _is_ours(self, container: dict[str, Any]) -> bool:
        directory = str(container["Labels"].get(LABEL_DIRECTORY, ""))
        return directory.startswith(f"{self._data_dir}/{job_places.JOBS_FOLDER}/")

    # ------------------------------------------------------------- images

    async def _image(self, request: Request, _tell: Send) -> dict[str, Any]:
        found = await self._engine.image(str(request["image"]))
        return {"image": None if found is None else _facts_of_image(found)}

    async def _pull(self, request: Request, tell: Send) -> dict[str, Any]:
        auth = request["auth"]
        if auth is not None:
            auth = {"username": str(auth["username"]), "password": str(auth["password"])}
        await self._images.pull(str(request["image"]), auth, tell)
        return {}

    async def _build(self, request: Request, tell: Send) -> dict[str, Any]:
        """Build from a tar that the daemon has made in `<data-dir>/run`; the name says nothing of where it lies."""
        name = os.path.basename(str(request["context"]))
        tar = os.open(os.path.join(self._data_dir, "run", name), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            await self._images.build(tar, str(request["tag"]), tell)
        finally:
            os.close(tar)
        return {}


class _Done(Exception):
    """There is nothing more to be done here; what is under way is of no use to anybody."""


def _parsed(line: bytes) -> tuple[object, Request]:
    """Return the id and the fields of a request; none where it makes no sense, which is what the answer says then."""
    try:
        request = json.loads(line)
        number = request["id"]
        hash(number)
    except (KeyError, TypeError, ValueError):
        return None, {}
    return number, request


def _facts_of_image(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked for: an image has as many labels, and as much history, as its maker likes."""
    config = found.get("Config") or {}
    own = {name: found.get(name) for name in ("Id", "RepoDigests", "Architecture", "Size")}
    return {**own, "Config": {name: config.get(name) for name in IMAGE_CONFIG}}


def _facts_of(container: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked for; a container has the labels of its image too."""
    return {
        "container_id": container["Id"],
        "name": str((container.get("Names") or ["/"])[0]).removeprefix("/"),
        "engine_name": container["Labels"].get(LABEL_ENGINE_NAME, ""),
        "directory": container["Labels"][LABEL_DIRECTORY],
        "labels": {name: value for name, value in container["Labels"].items() if name in OWN_LABELS},
        "state": container.get("State", ""),
        "created_s": container.get("Created", 0),
    }
