"""What the daemon and the service manager that runs it owe each other: word of how it is, signs of life, an end in order.

A sign of life is an answer of the database's writer that the event loop passes on: where either is stuck, none comes, and the
service manager starts the daemon anew; programs run on meanwhile. Without a service manager nothing is told to anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rnd.api.server import ApiServer
from rnd.core.worker_slots import WorkerSlots
from rnd.database import job_executions, transfers
from rnd.database.connection import Database
from rnd.database.node_facts import delete_fact, set_fact
from rnd.log import get_logger
from rnd.services.service_manager import ServiceManager, extend_timeout, reloading, status
from rnd.types.errors import DatabaseGone, RndError
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock

STATUS_EVERY_S: Final = 10.0
FEEDS: Final = 3
"""How often in the watchdog's time it is fed: once may come to nothing."""
OPENING_S: Final = 1800.0
"""How long a start may take: after a crash the whole of a large database is looked through, and a new release may migrate it."""
CLOSING_S: Final = 60.0
"""How much time is asked for beyond the drain: calls are answered, tasks end, the database is emptied of its log."""
LOOK_EVERY_S: Final = 0.2
TELL_EVERY_S: Final = 1.0

log = get_logger()


class Supervision:
    """Speaks to the service manager. One that cannot be told is complained about once, and told the next time."""

    def __init__(self, manager: ServiceManager, clock: Clock) -> None:
        self._manager = manager
        self._clock = clock
        self._is_deaf = False

    def starting(self) -> None:
        """Say that the start may take its time."""
        self._tell(status("opening the database"), extend_timeout(OPENING_S))

    def ready(self) -> None:
        """Say that the database is open and every listener up; or again, after a reload."""
        self._tell("READY=1", status("ready"))

    def reloading(self) -> None:
        """Say that the configuration is being read; `ready` ends that."""
        self._tell(reloading(self._clock.monotonic()), status("reading the configuration"))

    def stopping(self, within_s: float) -> None:
        """Say that this is the end, and how long it may take."""
        self._tell("STOPPING=1", status("stopping"), extend_timeout(within_s + CLOSING_S))

    def draining(self, words: str, left_s: float) -> None:
        """Say what the end waits for."""
        self._tell(status(f"waiting for {words}"), extend_timeout(left_s + CLOSING_S))

    async def watch(self, database: Database, peers_connected: Callable[[], int]) -> None:
        """Tell how the daemon is, and give signs of life, until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._manager.is_there:
                group.create_task(self._tell_status(database, peers_connected))
            if self._manager.watchdog_s is not None:
                group.create_task(self._feed(database, self._manager.watchdog_s / FEEDS))
            await asyncio.Event().wait()

    async def _tell_status(self, database: Database, peers_connected: Callable[[], int]) -> None:
        while True:
            await asyncio.sleep(STATUS_EVERY_S)
            with contextlib.suppress(
                RndError
            ):  # the part of the daemon that needs the database says what is wrong with it
                running, moving = await database.read(_work_under_way)
                self._tell(
                    status(
                        f"{_counted(peers_connected(), 'peer')} connected, {_counted(running, 'job')} running, "
                        f"{_counted(moving, 'delivery')} under way"
                    )
                )

    async def _feed(self, database: Database, every_s: float) -> None:
        while True:
            try:
                await database.write(_write_a_row)
            except DatabaseGone:
                raise
            except RndError:
                pass  # it is locked by a person or the disk is full: the writer lives, and a restart would not help
            self._tell("WATCHDOG=1")
            await asyncio.sleep(every_s)

    def _tell(self, *lines: str) -> None:
        try:
            self._manager.tell(*lines)
        except OSError as error:
            if not self._is_deaf:
                log.warning(LogEvent.SERVICE_MANAGER_NOT_TOLD, reason=error.strerror or str(error))
            self._is_deaf = True
        else:
            self._is_deaf = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """The time between the word to end and the end, in which what is under way may come to its own end.

    No program is begun and nobody new is let in. Waited for are uploads and downloads, which would have to begin anew, and the
    deliveries that are under way when it begins; never programs, which run on without the daemon.
    """

    supervision: Supervision
    server: ApiServer
    slots: WorkerSlots
    database: Database
    clock: Clock

    async def run(self, within_s: float, hurry: asyncio.Event) -> None:
        """Return when nothing is left to wait for, when the time is over, or at the word to hurry."""
        self.slots.close()
        self.server.close_doors()
        began_s = self.clock.monotonic()
        deliveries = await self.database.read(transfers.list_active)
        told: tuple[int, int] | None = None
        told_s = began_s
        while True:
            now_s = self.clock.monotonic()
            files, moving = self.server.files_moving, len(deliveries & await self.database.read(transfers.list_active))
            left_s = began_s + within_s - now_s
            if (not files and not moving) or left_s <= 0 or hurry.is_set():
                break
            if told is None:
                log.info(LogEvent.DAEMON_DRAINING, deliveries=moving, files=files, within_s=within_s)
            if told != (files, moving) or now_s - told_s >= TELL_EVERY_S:
                words = f"{_counted(moving, 'delivery')} and {_counted(files, 'upload or download', 'uploads and downloads')}"
                self.supervision.draining(f"{words}, {left_s:.0f} s at most", left_s)
                told, told_s = (files, moving), now_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_EVERY_S, left_s)):
                    await hurry.wait()
        if told is not None:
            log.info(LogEvent.DAEMON_DRAINED, after_s=round(now_s - began_s, 3), deliveries=moving, files=files)


def _work_under_way(conn: sqlite3.Connection) -> tuple[int, int]:
    return job_executions.count_by_status(conn).get("RUNNING", 0), transfers.count_active(conn)


def _write_a_row(conn: sqlite3.Connection) -> None:
    """Have the writer commit; nothing is left of it."""
    set_fact(conn, "watchdog", "1")
    delete_fact(conn, "watchdog")


def _counted(count: int, one: str, several: str = "") -> str:
    several = several or (f"{one[:-1]}ies" if one.endswith("y") else f"{one}s")
    return f"{count} {one if count == 1 else several}"
