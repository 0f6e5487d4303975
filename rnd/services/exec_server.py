"""rnd-exec: the one process that holds the container engine's socket (ADR 13).

The daemon starts it when it needs it, or a unit of its own does; it speaks in lines of JSON over
`<data-dir>/run/exec.sock` to its own user alone. It runs hardened containers over folders of jobs of this data directory
and knows images by name; nothing else can be asked of the engine through it.

Requests carry `id` and `op`; each is answered by a line with that `id` and either its result or `error`:
  hello                              -> {version, pid}
  check                              -> {engine: {version, ...}}
  submit {run}                       -> {container_id, name}  creates it, or finds what was created under its engine name
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
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import socket
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from rnd.services import container_record, job_places, linux, run_files, seat
from rnd.services.container_end import lost
from rnd.services.container_record import Begun, Record
from rnd.services.disk_use import used_bytes
from rnd.services.docker_keeper import ContainerRun
from rnd.services.docker_spec import (
    ENGINE_NAME,
    LABEL_DIRECTORY,
    BadOrder,
    ContainerOrder,
    Surroundings,
    create_body,
    order_from_message,
)
from rnd.services.engine import Engine
from rnd.services.engine_streams import EngineGone, EngineRefused
from rnd.services.executor import LABEL_ENGINE_NAME

SEAT: Final = "exec"
MESSAGE_MAX_BYTES: Final = 32 << 20
IDLE_S: Final = 60.0
CLIENT_REQUESTS_MAX: Final = 4096
"""Far above what one daemon has under way; whoever asks for more at once waits."""
SUBMITS_AT_ONCE: Final = 16
PR_SET_DUMPABLE: Final = 4

T = TypeVar("T")
Request = dict[str, Any]
Send = Callable[[dict[str, Any]], None]


def main(data_dir: str, version: str, *, foreground: bool) -> None:
    """Become the rnd-exec of `data_dir`, or find that there is one; return when it can be connected to.

    In the foreground, as a service manager wants it, stay until told to go.
    """
    os.umask(0o077)
    folder = seat.open_folder(data_dir)
    lock = seat.take(folder, SEAT)
    if lock is None:
        return
    listener = seat.listen(folder, SEAT)
    if not foreground:
        if os.fork():
            return
        seat.settle(folder, SEAT)
    linux.name_process(b"rnd-exec")
    linux.forgo_privileges()
    # Not to be read or traced by others of the same user, who may lack the rights on the engine that this process has.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    code = 0
    try:
        server = ExecServer(os.path.realpath(data_dir), version, listener, stays=foreground)
        asyncio.run(server.serve())
    except BaseException:  # noqa: BLE001 - the last thing this process can do is to say why it ends
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        os.unlink(seat.socket_name(SEAT), dir_fd=folder)
    os._exit(code)  # threads in the middle of a call would keep it


class ExecServer:
    """Answers what is asked, and keeps the runs."""

    def __init__(self, data_dir: str, version: str, listener: socket.socket, *, stays: bool) -> None:
        self._data_dir = data_dir
        self._version = version
        self._listener = listener
        self._stays = stays
        self._engine = Engine()
        self._runs: dict[tuple[str, str], ContainerRun] = {}
        self._taking_up: dict[tuple[str, str], asyncio.Lock] = {}
        self._submits = asyncio.Semaphore(SUBMITS_AT_ONCE)
        self._clients = 0
        self._stopping = False
        self._idle_since = time.monotonic()
        self._stirred = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._boot_shared_memory = os.path.isdir(run_files.SHARED_MEMORY)

    async def serve(self) -> None:
        """Serve until told to stop, or until nobody has needed this process for a while."""
        server = await asyncio.start_unix_server(self._meet, sock=self._listener, limit=MESSAGE_MAX_BYTES)
        async with asyncio.TaskGroup() as group:
            self._group = group
            while not self._done():
                self._stirred.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_S / 10):
                        await self._stirred.wait()
            server.close()
        self._engine.close()

    def _done(self) -> bool:
        if self._runs:
            return False
        if self._stopping:
            return True
        return not self._stays and not self._clients and time.monotonic() - self._idle_since >= IDLE_S

    # ------------------------------------------------------------- who asks

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: the boundary of one client."""
        if not seat.may_speak(writer.get_extra_info("socket")):
            writer.close()
            return
        self._clients += 1
        room = asyncio.Semaphore(CLIENT_REQUESTS_MAX)

        def send(fields: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(fields).encode() + b"\n")

        try:
            async with asyncio.TaskGroup() as group:
                while line := await reader.readline():
                    await room.acquire()
                    group.create_task(self._answer(line, send)).add_done_callback(lambda _: room.release())
                raise _HungUp
        except* (_HungUp, OSError, ValueError):
            pass
        finally:
            self._clients -= 1
            self._idle_since = time.monotonic()
            self._stirred.set()
            writer.close()

    async def _answer(self, line: bytes, send: Send) -> None:
        """Answer one request, whatever it is: the boundary beyond which nothing that goes wrong may pass."""
        number: object = None
        try:
            request = json.loads(line)
            number = request["id"]
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
        return {
            "hello": self._hello,
            "check": self._check,
            "submit": self._submit,
            "find": self._find,
            "wait": self._wait,
            "poll": self._poll,
            "cancel": self._cancel,
            "cleanup": self._cleanup,
            "list": self._list,
            "discard": self._discard,
            "image": self._image,
            "pull": self._pull,
            "build": self._build,
            "stop": self._stop,
        }

    # ------------------------------------------------------------- the process itself

    async def _hello(self, _request: Request, _tell: Send) -> dict[str, Any]:
        self._stopping = False
        return {"version": self._version, "pid": os.getpid()}

    async def _stop(self, _request: Request, _tell: Send) -> dict[str, Any]:
        self._stopping = not self._stays
        self._stirred.set()
        return {}

    async def _check(self, _request: Request, _tell: Send) -> dict[str, Any]:
        return {"engine": (await self._engine.facts(anew=True))._asdict()}

    # ------------------------------------------------------------- runs

    async def _submit(self, request: Request, _tell: Send) -> dict[str, Any]:
        """Create a container and begin to keep it, unless its run was ever begun. Raises `EngineGone`, `EngineRefused`."""
        return await self._whole(self._create_or_find(request["run"]))

    async def _whole(self, act: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, also if who has asked for it goes away meanwhile."""
        assert self._group is not None
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._group.create_task(_settle(outcome, act))
        return await asyncio.shield(outcome)

    async def _create_or_find(self, fields: dict[str, Any]) -> dict[str, Any]:
        order = order_from_message(fields)
        secrets = {str(name): bytes.fromhex(value) for name, value in fields["secrets"].items()}
        await asyncio.to_thread(job_places.lay_out, order, self._data_dir)
        async with self._lock_of(order.engine_name, order.directory), self._submits:
            found = await self._take_up(order.engine_name, order.directory, look=False)
            if found:
                return {"container_id": found}
            record = await self._create(order, secrets)
            self._keep(order.directory, record, fresh=True)
            return {"container_id": record.container_id}

    async def _create(self, order: ContainerOrder, secrets: dict[str, bytes]) -> Record:
        facts = await self._engine.facts()
        user = order.user or ("0:0" if facts.rootless else job_places.own_user())
        volumes = await self._engine.image_volumes(order.image_id)
        folder = ""
        if secrets:
            folder = run_files.secrets_directory(
                order.directory, order.engine_name, shared_memory=self._boot_shared_memory
            )
        begun = await asyncio.to_thread(self._prepare, order, user, folder, secrets)
        body = create_body(order, Surroundings(user, facts.cpus, volumes, folder))
        try:
            container_id = await self._create_named(order, body)
        except EngineRefused:
            await asyncio.to_thread(job_places.remove_secrets, folder, order.directory, order.engine_name)
            raise
        container_record.add(order.directory, order.engine_name, created=container_id)
        return Record(begun, container_id)

    def _prepare(self, order: ContainerOrder, user: str, folder: str, secrets: dict[str, bytes]) -> Begun:
        """Lay out what the container's user needs, and write the first line of the record."""
        before = container_record.read(order.directory, order.engine_name)
        if before is not None:
            job_places.remove_secrets(before.begun.secrets_directory, order.directory, order.engine_name)
        job_places.arrange(order, user)
        begun = Begun(
            engine_name=order.engine_name,
            program=" ".join((order.entrypoint or order.cmd or ("the image's program",))[:1]),
            stdin_files=list(order.stdin_files),
            read_only_root=order.read_only_root,
            stream_bytes=order.stream_bytes,
            memory_bytes=order.bounds.memory,
            disk_bytes=order.bounds.disk_bytes,
            before_bytes=used_bytes(order.directory, besides="") if order.bounds.disk_bytes is not None else 0,
            secrets_directory=folder,
        )
        container_record.begin(order.directory, begun)
        if folder:
            job_places.lay_out_secrets(folder, secrets, user)
        return begun

    async def _create_named(self, order: ContainerOrder, body: dict[str, Any]) -> str:
        """Create under the name that was ordered, or with a suffix where somebody else has it."""
        mark = hashlib.sha256(f"{order.directory}\0{order.engine_name}".encode()).hexdigest()
        for name in (order.name, f"{order.name}-{mark[:8]}", f"{order.name}-{mark}"):
            try:
                return await self._engine.create(body, name)
            except EngineRefused as error:
                if error.status != 409:
                    raise
                found = await self._look_up(order.engine_name, order.directory)
                if found:
                    return found  # ours, of a question whose answer never came
            except EngineGone:
                found = await self._look_up(order.engine_name, order.directory)
                return found or await self._engine.create(body, name)
        raise EngineRefused(409, f"the names {order.name} and {order.name}-{mark[:8]} are both taken")

    async def _look_up(self, engine_name: str, directory: str) -> str:
        found = await self._engine.containers(**{LABEL_ENGINE_NAME: engine_name, LABEL_DIRECTORY: directory})
        return str(found[0]["Id"]) if found else ""

    def _keep(self, directory: str, record: Record, *, fresh: bool = False) -> ContainerRun:
        """Begin to see a run through."""
        run = ContainerRun(self._engine, self._data_dir, directory, record, fresh=fresh)
        assert self._group is not None
        self._runs[record.begun.engine_name, directory] = run
        self._group.create_task(self._live(run))
        return run

    async def _live(self, run: ContainerRun) -> None:
        """See one run through: the boundary of one job."""
        try:
            await run.live()
        except Exception as error:  # noqa: BLE001 - one run that goes wrong must not end the others
            traceback.print_exc()
            run.give_up(lost(f"rnd-exec has failed: {error!r}"))
        finally:
            del self._runs[run.engine_name, run.directory]
            self._idle_since = time.monotonic()
            self._stirred.set()

    async def _take_up(self, engine_name: str, directory: str, *, look: bool) -> str:
        """Return the container of a run, which is kept from now on if it has not ended; "" where there is none.

        `look` asks the engine also where nothing was ever written down: a power cut may have taken the record.
        """
        run = self._runs.get((engine_name, directory))
        if run is not None:
            return run.container_id
        record = container_record.read(directory, engine_name)
        if record is not None and record.container_id:
            if record.ended is None:
                self._keep(directory, record)
            return record.container_id
        if record is None and not look:
            return ""
        found = await self._look_up(engine_name, directory)
        if not found:
            return ""
        if record is None:
            record = Record(_unknown(engine_name))
            container_record.begin(directory, record.begun)
        container_record.add(directory, engine_name, created=found)
        self._keep(directory, record._replace(container_id=found))
        return found

    async def _find(self, request: Request, _tell: Send) -> dict[str, Any]:
        try:
            engine_name, directory = self._named(request)
        except FileNotFoundError:
            return {"container_id": ""}  # it was never submitted: that makes the folder
        async with self._lock_of(engine_name, directory):
            return {"container_id": await self._take_up(engine_name, directory, look=True)}

    async def _wait(self, request: Request, _tell: Send) -> dict[str, Any]:
        run, seen = await self._run_of(request)
        return {"ended": await asyncio.shield(run.ended) if run is not None else seen}

    async def _poll(self, request: Request, _tell: Send) -> dict[str, Any]:
        return {"seen": [await self._see(each) for each in request["runs"]]}

    async def _see(self, request: Request) -> dict[str, Any]:
        run, seen = await self._run_of(request)
        if run is None:
            return seen
        return {"phase": "UNKNOWN", "reason": run.trouble} if run.trouble else {"phase": "RUNNING", "reason": ""}

    async def _run_of(self, request: Request) -> tuple[ContainerRun | None, dict[str, Any]]:
        """Return the run that is asked for, or `None` and how it ended."""
        engine_name, directory = self._named(request)
        async with self._lock_of(engine_name, directory):
            run = self._runs.get((engine_name, directory))
            if run is not None:
                return run, {}
            record = container_record.read(directory, engine_name)
            if record is None:
                # Its record is gone, but whoever asks has seen the container: that is the run, whatever became of it.
                container_id = _container_id(request)
                record = Record(_unknown(engine_name), container_id, starting="unknown")
                container_record.begin(directory, record.begun)
                container_record.add(directory, engine_name, created=container_id)
            if record.ended is not None:
                return None, record.ended
            if not record.container_id:
                record = record._replace(container_id=_container_id(request))
            return self._keep(directory, record), {}

    async def _cancel(self, request: Request, _tell: Send) -> dict[str, Any]:
        run, _ = await self._run_of(request)
        if run is not None:
            run.cancel(float(request["grace_s"]))
        return {}

    async def _cleanup(self, request: Request, _tell: Send) -> dict[str, Any]:
        return await self._whole(self._remove(*self._named(request)))

    async def _remove(self, engine_name: str, directory: str) -> dict[str, Any]:
        async with self._lock_of(engine_name, directory):
            run = self._runs.get((engine_name, directory))
            record = container_record.read(directory, engine_name)
            if run is not None or record is None or not record.container_id:
                return {}
            await asyncio.to_thread(job_places.remove_secrets, record.begun.secrets_directory, directory, engine_name)
            await self._engine.remove(record.container_id)
        self._taking_up.pop((engine_name, directory), None)
        return {}

    def _named(self, request: Request) -> tuple[str, str]:
        """Return the name and folder of a run that is asked for. Raises `BadOrder` for any folder that is no job's."""
        engine_name, directory = str(request["engine_name"]), str(request["directory"])
        if not ENGINE_NAME.fullmatch(engine_name):
            raise BadOrder("engine_name")
        job_places.check_job_folder(self._data_dir, directory)
        return engine_name, directory

    def _lock_of(self, engine_name: str, directory: str) -> asyncio.Lock:
        return self._taking_up.setdefault((engine_name, directory), asyncio.Lock())

    # ------------------------------------------------------------- what nobody may know of

    async def _list(self, _request: Request, _tell: Send) -> dict[str, Any]:
        return {"containers": [_facts_of(each) for each in await self._engine.containers() if self._is_ours(each)]}

    async def _discard(self, request: Request, _tell: Send) -> dict[str, Any]:
        wanted = _container_id(request)
        for each in await self._engine.containers():
            if each["Id"] == wanted and self._is_ours(each):
                await self._engine.remove(wanted)
        return {}

    def _is_ours(self, container: dict[str, Any]) -> bool:
        directory = str(container["Labels"].get(LABEL_DIRECTORY, ""))
        return directory.startswith(f"{self._data_dir}/{job_places.JOBS_FOLDER}/")

    # ------------------------------------------------------------- images

    async def _image(self, request: Request, _tell: Send) -> dict[str, Any]:
        return {"image": await self._engine.image(str(request["image"]))}

    async def _pull(self, request: Request, tell: Send) -> dict[str, Any]:
        auth = request["auth"]
        if auth is not None:
            auth = {"username": str(auth["username"]), "password": str(auth["password"])}
        await self._engine.pull(str(request["image"]), auth, self._from_thread(tell))
        return {}

    async def _build(self, request: Request, tell: Send) -> dict[str, Any]:
        """Build from a tar that the daemon has made in `<data-dir>/run`; the name says nothing of where it lies."""
        name = os.path.basename(str(request["context"]))
        tar = os.open(os.path.join(self._data_dir, "run", name), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            await self._engine.build(tar, str(request["tag"]), self._from_thread(tell))
        finally:
            os.close(tar)
        return {}

    def _from_thread(self, tell: Send) -> Send:
        loop = asyncio.get_running_loop()
        return lambda news: None if loop.is_closed() else _swallow(loop.call_soon_threadsafe(tell, news))


class _HungUp(Exception):
    """The client has gone; what it waits for is of no use to anybody."""


async def _settle(outcome: asyncio.Future[T], act: Coroutine[Any, Any, T]) -> None:
    try:
        result = await act
    except Exception as error:  # noqa: BLE001 - handed on to whoever waits
        outcome.set_exception(error)
        outcome.exception()  # nobody may wait any more
    else:
        outcome.set_result(result)


def _swallow(_: object) -> None:
    return None


def _container_id(request: Request) -> str:
    text = str(request["container_id"])
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise BadOrder("container_id")
    return text


def _unknown(engine_name: str) -> Begun:
    """Return what to take for granted of a run whose record was lost."""
    return Begun(engine_name, "", [], True, 1 << 30, 0, None, 0, "")


def _facts_of(container: dict[str, Any]) -> dict[str, Any]:
    return {
        "container_id": container["Id"],
        "name": str((container.get("Names") or ["/"])[0]).removeprefix("/"),
        "engine_name": container["Labels"].get(LABEL_ENGINE_NAME, ""),
        "directory": container["Labels"][LABEL_DIRECTORY],
        "labels": container["Labels"],
        "state": container.get("State", ""),
        "created_s": container.get("Created", 0),
    }
