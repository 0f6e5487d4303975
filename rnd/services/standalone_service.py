"""The STANDALONE executor: native programs of this machine, through the spawner (document: STANDALONE Service Execution).

`standalone_run` turns a job and its service into what is run; `StandaloneExecutor` has it run. Waiting is a pidfd in the
event loop, so neither many jobs nor long ones cost anything, and a restarted daemon waits in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rnd import __version__
from rnd.services import processes, run_files
from rnd.services.executor import Confinement, Health, JobRun, Observation, Phase
from rnd.services.run_end import moment, observation
from rnd.services.spawner_client import SpawnerClient, probe_confinement
from rnd.services.standalone_orders import order_refusal
from rnd.types.definitions import JobPlan
from rnd.types.errors import ExecutorUnavailable
from rnd.types.services import Sandbox, Service

BOUND_NAMES = ("cpus", "memory_bytes", "pids", "disk_bytes", "open_files")
"""Limits that a native program can be held to; `gpus` is not one of them."""
SANDBOX_TIER = "landlock"
"""The one tier there is: a private root, Landlock, a filter of system calls, no capabilities (ADR 8)."""


class StandaloneExecutor:
    """Runs native programs of one data directory. `expect_runs`, else the first submit, starts the spawner if none is there."""

    name = "standalone"

    def __init__(self, data_dir: Path, *, version: str = __version__) -> None:
        self._data_dir = data_dir
        self._spawner = SpawnerClient(data_dir, version=version)
        self._boot_id = processes.boot_id() if sys.platform == "linux" else ""
        self._failure = ""
        self._sandbox: Sandbox | None = None
        self._expects_runs = asyncio.Event()
        self._expected_at_once = 0
        self._cancelled: set[str] = set()
        self._tidy: set[str] = set()  # runs whose keeper has said that they left nothing to remove

    async def run(self) -> None:
        """Hold the connection until cancelled; then tell the spawner that it may go once it keeps nothing."""
        try:
            await self._expects_runs.wait()
            starting = asyncio.create_task(self._start_spawner())
            try:
                await asyncio.shield(starting)
                while True:
                    await self._prepare_keepers()
                    await self._expects_runs.wait()
            finally:
                await starting  # else it would be there with nobody to tell it that it may go
        finally:
            await self.close()

    def expect_runs(self, at_once: int = 0) -> None:
        """Have the spawner there before the first run, and keepers: starting them takes longer than many a program.

        See `Executor.expect_runs`.
        """
        self._expected_at_once = max(self._expected_at_once, at_once)
        self._expects_runs.set()

    async def _prepare_keepers(self) -> None:
        self._expects_runs.clear()
        at_once, self._expected_at_once = self._expected_at_once, 0
        if at_once:
            with contextlib.suppress(ExecutorUnavailable, OSError):  # whoever submits meets it again
                await self._spawner.request("expect", at_once=at_once)

    async def _start_spawner(self) -> None:
        try:
            await self._spawner.connect()
        except (ExecutorUnavailable, OSError) as error:  # `check` says so, and whoever submits meets it again
            self._failure = str(error)

    async def close(self) -> None:
        """Hang up. Jobs go on; the spawner ends when the last one has, unless a daemon comes back to it."""
        await self._spawner.close(stop=True)

    async def sandbox(self) -> Sandbox:
        """Return what confines programs here, found out once by confining a process and letting it try to get out."""
        if self._sandbox is None:
            reason = await asyncio.to_thread(probe_confinement, self._data_dir)
            self._sandbox = Sandbox(tier="none", reason=reason) if reason else Sandbox(tier=SANDBOX_TIER, reason="")
        return self._sandbox

    async def check(self) -> Health:
        """Say whether programs can be run here. Starts nothing that stays, except to try again what failed before."""
        if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
            return Health(available=False, reason="native programs need Linux 5.4 or newer")
        if self._failure:
            try:
                await self._spawner.request("hello")
                self._failure = ""
            except (ExecutorUnavailable, OSError) as error:
                return Health(available=False, version=__version__, reason=str(error))
        sandbox = await self.sandbox()
        return Health(available=True, version=__version__, sandbox=sandbox.tier, sandbox_reason=sandbox.reason or None)

    def refusal(self, service: Service, plan: JobPlan, *, foreign: bool) -> str | None:
        """Say why a job could not be run here as things are. See `Executor.refusal`."""
        return order_refusal(service, plan, foreign=foreign)

    async def submit(self, run: JobRun) -> str:
        """Start a run, or find the one of this name, and return its handle. See `Executor.submit`."""
        if not run_files.ENGINE_NAME.fullmatch(run.engine_name):
            raise ExecutorUnavailable(f"{run.engine_name!r} cannot name a run")
        try:
            handle = await self._spawner.submit(_message(run))
        except (ExecutorUnavailable, OSError) as error:
            self._failure = str(error)
            raise ExecutorUnavailable(f"cannot start {run.argv[0]}: {error}") from error
        self._failure = ""
        return json.dumps(handle)

    async def find(self, engine_name: str, directory: Path) -> str | None:
        """Return the handle of a run that was started under this name in `directory`, or `None`."""
        folder = os.fspath(directory.absolute())  # noqa: ASYNC240 - asks the kernel at most for the current folder
        record = run_files.read(folder, engine_name)
        return json.dumps(run_files.handle(record.started, folder)) if record else None

    async def wait(self, handle: str) -> Observation:
        """Return how a run ended, once it has. See `Executor.wait`."""
        kept = _parse(handle)
        ended = None if self._spawner.tells(kept.engine_name) else _read_end(kept)
        if ended is None and kept.boot_id == self._boot_id:
            # A spawner says when the run is over. Where it is gone, the keeper takes no other run and ends after this.
            told = await self._spawner.ended(kept.engine_name, kept.keeper_pid)
            if told:
                if told.get("tidy") is True and kept.engine_name not in self._cancelled:
                    self._tidy.add(kept.engine_name)
                return observation(told)
            if told is None:
                await _end_of_process(kept.keeper_pid, kept.keeper_start)
            ended = _read_end(kept)
        return ended or await self._give_up(kept)

    async def poll(self, handles: Sequence[str]) -> dict[str, Observation]:
        """Return what is known of each run now."""
        return {handle: self._look(_parse(handle)) for handle in handles}

    async def cancel(self, handle: str, grace_s: float) -> None:
        """Have the keeper end every process of a run: SIGTERM, and SIGKILL after `grace_s`. See `Executor.cancel`."""
        kept = _parse(handle)
        pidfd = self._open_keeper(kept)
        if pidfd is None:
            return
        self._cancelled.add(kept.engine_name)
        try:
            record = run_files.read(kept.directory, kept.engine_name)
            if record is None or record.ended is not None:
                return
            run_files.ask_to_end(kept.directory, kept.engine_name, grace_s)
            processes.ask_to_end(pidfd)  # a keeper that is at its next run by now finds no cancel of that one
        finally:
            os.close(pidfd)

    async def cleanup(self, handle: str) -> None:
        """Remove a run's secrets, its notes and what it left in its temporary folder. Idempotent.

        The record itself stays, with the job's folder, as a trace of what ran: removing a file and a folder a job costs
        more than half of what running it does, since ext4 is slow to use their inodes again.
        """
        kept = _parse(handle)
        self._spawner.forget(kept.engine_name)
        self._cancelled.discard(kept.engine_name)
        if kept.engine_name in self._tidy and not kept.secrets_directory:
            self._tidy.remove(kept.engine_name)
            return
        secrets = kept.secrets_directory
        temporary = os.path.join(kept.directory, run_files.TEMPORARY_FOLDER)
        if _is_empty(temporary):
            temporary = ""
        if not secrets or not run_files.is_secrets_directory(secrets, kept.directory, kept.engine_name):
            secrets = ""
        for folder in filter(None, (temporary, secrets)):
            with contextlib.suppress(OSError, RecursionError):  # a job's doing; its folder goes as a whole some day
                await asyncio.to_thread(run_files.remove_tree, folder)
        run_files.remove_notes(kept.directory, kept.engine_name)

    def _open_keeper(self, kept: _Kept) -> int | None:
        if kept.boot_id != self._boot_id:
            return None
        return processes.open_process(kept.keeper_pid, kept.keeper_start)

    def _look(self, kept: _Kept) -> Observation:
        pidfd = self._open_keeper(kept)
        if pidfd is not None:
            os.close(pidfd)
        record = run_files.read(
            kept.directory, kept.engine_name
        )  # after the look at the keeper, which may end meanwhile
        if record is not None and record.ended is not None:
            return observation(record.ended)
        if pidfd is None or record is None:
            return Observation(phase=Phase.LOST, reason=self._why_lost(kept))
        return Observation(phase=Phase.RUNNING, started_at=moment(record.started.started_at))

    async def _give_up(self, kept: _Kept) -> Observation:
        """Call a run lost, after ending what it may have left: its result will not count, so it must not go on."""
        if kept.boot_id == self._boot_id:
            marker = run_files.marker(kept.directory, kept.engine_name)
            await asyncio.to_thread(processes.kill_marked, marker.encode("utf-8", "surrogateescape"))
        return Observation(phase=Phase.LOST, reason=self._why_lost(kept))

    def _why_lost(self, kept: _Kept) -> str:
        if kept.boot_id != self._boot_id:
            return "the machine was restarted while it ran"
        if run_files.read(kept.directory, kept.engine_name) is None:
            return "its record is gone; the job has removed or changed its own folder"
        return "the process that kept it was killed, so nobody knows how it ended"


class _Kept(NamedTuple):
    """A handle, parsed: who keeps which run. `keeper_start` in clock ticks since the boot named by `boot_id`."""

    engine_name: str
    directory: str
    keeper_pid: int
    keeper_start: int
    boot_id: str
    secrets_directory: str


@lru_cache(maxsize=1024)
def _parse(handle: str) -> _Kept:
    fields = json.loads(handle)
    return _Kept(*(fields[name] for name in _Kept._fields))


async def _end_of_process(pid: int, started: int) -> None:
    """Return when exactly this process has ended, without asking again and again."""
    pidfd = processes.open_process(pid, started)
    if pidfd is None:
        return
    try:
        await _readable(pidfd)
    finally:
        os.close(pidfd)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _read_end(kept: _Kept) -> Observation | None:
    """Return how a run ended, if it has: one small file that was just written, so it is read in place."""
    record = run_files.read(kept.directory, kept.engine_name)
    return observation(record.ended) if record is not None and record.ended is not None else None


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _message(run: JobRun) -> dict[str, object]:
    """Return a run as the spawner reads it. Names that are not UTF-8 pass through JSON as lone surrogates."""
    return {
        "engine_name": run.engine_name,
        "directory": os.fspath(run.directory.absolute()),
        "argv": list(run.argv),
        "env": dict(run.env),
        "working_directory": os.fspath(run.working_directory.absolute()),
        "stdin_files": [os.fspath(path.absolute()) for path in run.stdin_files],
        "limits": {name: getattr(run.limits, name) for name in BOUND_NAMES},
        "stream_bytes": run.stream_bytes,
        "grace_s": run.grace_s,
        "secrets": {name: value.hex() for name, value in run.secrets.items()},
        "confinement": None if run.confinement is None else _confinement_message(run.confinement),
    }


def _confinement_message(confinement: Confinement) -> dict[str, object]:
    return {
        "network": confinement.network,
        "places": [
            {"path": os.fspath(place.path.absolute()), "writable": place.writable, "own": place.own}
            for place in confinement.places
        ],
    }
