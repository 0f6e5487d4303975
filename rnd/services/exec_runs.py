"""The runs that rnd-exec keeps: each is created once, seen through, found again, and accounted for (ADR 13)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import traceback
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from rnd.services import container_record, job_places, run_files
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

SUBMITS_AT_ONCE: Final = 16
LOOK_EVERY_S: Final = 0.1
SLOW_S: Final = 60.0
"""How long an engine that has not answered may take to make what it was asked for."""

T = TypeVar("T")
Fields = dict[str, Any]


class ExecRuns:
    """Every run of one data directory that has begun and has not ended; each has a task of the group."""

    def __init__(self, engine: Engine, data_dir: str, group: asyncio.TaskGroup, *, left: Callable[[], None]) -> None:
        """`left` is called whenever a run has come to its end."""
        self._engine = engine
        self._data_dir = data_dir
        self._group = group
        self._left = left
        self._runs: dict[tuple[str, str], ContainerRun] = {}
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        self._submits = asyncio.Semaphore(SUBMITS_AT_ONCE)
        self._boot_shared_memory = os.path.isdir(run_files.SHARED_MEMORY)

    def __len__(self) -> int:
        return len(self._runs)

    async def until_loose(self, within_s: float) -> None:
        """Wait until every run can be taken up by another process without loss, but not for ever."""
        until = time.monotonic() + within_s
        for run in tuple(self._runs.values()):
            while not run.is_loose() and time.monotonic() < until:  # noqa: ASYNC110 - a run says nothing by itself
                await asyncio.sleep(LOOK_EVERY_S)

    async def submit(self, request: Fields) -> Fields:
        """Create a container and begin to keep it, unless its run was ever begun. Raises `EngineGone`, `EngineRefused`."""
        return await self._whole(self._create_or_find(request["run"]))

    async def _whole(self, act: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, also if who has asked for it goes away meanwhile."""
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
        body = create_body(order, Surroundings(user, facts.cpus, volumes, folder, facts.is_podman))
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
        names = iter((order.name, f"{order.name}-{mark[:8]}", f"{order.name}-{mark}"))
        name, is_unanswered = next(names), False
        while True:
            try:
                return await self._engine.create(body, name)
            except EngineGone:
                found = await self._look_up(order.engine_name, order.directory)
                if not found and is_unanswered:
                    raise
                is_unanswered = True
            except EngineRefused as error:
                if error.status != 409:
                    raise
                # The name is taken: by ours, if an answer never came, and that may be just about to be made.
                found = await self._look_up(order.engine_name, order.directory, wait_s=SLOW_S if is_unanswered else 0.0)
                if not found:
                    name, is_unanswered = next(names, ""), False
                    if not name:
                        raise
            if found:
                return found

    async def _look_up(self, engine_name: str, directory: str, *, wait_s: float = 0.0) -> str:
        """Return the container that has these labels, "" if none has, also after so long."""
        until = time.monotonic() + wait_s
        while True:
            found = await self._engine.containers(**{LABEL_ENGINE_NAME: engine_name, LABEL_DIRECTORY: directory})
            if found or time.monotonic() >= until:
                return str(found[0]["Id"]) if found else ""
            await asyncio.sleep(LOOK_EVERY_S)

    def _keep(self, directory: str, record: Record, *, fresh: bool = False) -> ContainerRun:
        """Begin to see a run through."""
        run = ContainerRun(self._engine, self._data_dir, directory, record, fresh=fresh)
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
            self._left()

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

    async def find(self, request: Fields) -> Fields:
        try:
            engine_name, directory = self._named(request)
        except FileNotFoundError:
            return {"container_id": ""}  # it was never submitted: that makes the folder
        async with self._lock_of(engine_name, directory):
            return {"container_id": await self._take_up(engine_name, directory, look=True)}

    async def wait(self, request: Fields) -> Fields:
        run, seen = await self._run_of(request)
        return {"ended": await asyncio.shield(run.ended) if run is not None else seen}

    async def poll(self, request: Fields) -> Fields:
        return {"seen": [await self._see(each) for each in request["runs"]]}

    async def _see(self, request: Fields) -> dict[str, Any]:
        run, seen = await self._run_of(request)
        if run is None:
            return seen
        return {"phase": "UNKNOWN", "reason": run.trouble} if run.trouble else {"phase": "RUNNING", "reason": ""}

    async def _run_of(self, request: Fields) -> tuple[ContainerRun | None, dict[str, Any]]:
        """Return the run that is asked for, or `None` and how it ended."""
        engine_name, directory = self._named(request)
        async with self._lock_of(engine_name, directory):
            run = self._runs.get((engine_name, directory))
            if run is not None:
                return run, {}
            record = container_record.read(directory, engine_name)
            if record is None:
                # Its record is gone, but whoever asks has seen the container: that is the run, whatever became of it.
                container_id = container_id_in(request)
                record = Record(_unknown(engine_name), container_id, starting="unknown")
                container_record.begin(directory, record.begun)
                container_record.add(directory, engine_name, created=container_id)
            if record.ended is not None:
                return None, record.ended
            if not record.container_id:
                record = record._replace(container_id=container_id_in(request))
            return self._keep(directory, record), {}

    async def cancel(self, request: Fields) -> Fields:
        run, _ = await self._run_of(request)
        if run is not None:
            run.cancel(float(request["grace_s"]))
        return {}

    async def cleanup(self, request: Fields) -> Fields:
        return await self._whole(self._remove(*self._named(request)))

    async def _remove(self, engine_name: str, directory: str) -> dict[str, Any]:
        async with self._lock_of(engine_name, directory):
            run = self._runs.get((engine_name, directory))
            record = container_record.read(directory, engine_name)
            if run is not None or record is None or not record.container_id:
                return {}
            await asyncio.to_thread(job_places.remove_secrets, record.begun.secrets_directory, directory, engine_name)
            await self._engine.remove(record.container_id)
        return {}

    def _named(self, request: Fields) -> tuple[str, str]:
        """Return the name and folder of a run that is asked for. Raises `BadOrder` for any folder that is no job's."""
        engine_name, directory = str(request["engine_name"]), str(request["directory"])
        if not ENGINE_NAME.fullmatch(engine_name):
            raise BadOrder("engine_name")
        job_places.check_job_folder(self._data_dir, directory)
        return engine_name, directory

    def _lock_of(self, engine_name: str, directory: str) -> asyncio.Lock:
        lock = self._locks.get((engine_name, directory))
        if lock is None:
            lock = self._locks[engine_name, directory] = asyncio.Lock()
        return lock


async def _settle(outcome: asyncio.Future[T], act: Coroutine[Any, Any, T]) -> None:
    try:
        result = await act
    except Exception as error:  # noqa: BLE001 - handed on to whoever waits
        outcome.set_exception(error)
        outcome.exception()  # nobody may wait any more
    else:
        outcome.set_result(result)


def container_id_in(request: Fields) -> str:
    """Return the container that a request names. Raises `BadOrder`."""
    text = str(request["container_id"])
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise BadOrder("container_id")
    return text


def _unknown(engine_name: str) -> Begun:
    """Return what to take for granted of a run whose record was lost."""
    return Begun(engine_name, "", [], True, 1 << 30, 0, None, 0, "")
