"""A database that is locked or full for a while delays what is to be written down; nothing is lost, and nobody falls."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest

from rnd.daemon import root_cause
from rnd.database.connection import Database
from rnd.database.news import News
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import DatabaseBusy, DatabaseCorrupt, DatabaseFailed, DatabaseFull, RndError
from rnd.types.ids import ExecutionId
from rnd.workers import insistence
from rnd.workers.insistence import insist
from tests.core.core_peer import Daemon, Machine, Script, edge

T = TypeVar("T")
ONE = ExecutionId(1)


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insistence, "PAUSE_S", 0.01)


@asynccontextmanager
async def locked(daemon: Daemon) -> AsyncIterator[None]:
    """Be a person who has typed BEGIN IMMEDIATE."""
    with closing(
        sqlite3.connect(daemon.machine.data_dir / "rnd.db", isolation_level=None, timeout=10, check_same_thread=False)
    ) as conn:
        await asyncio.to_thread(conn.execute, "BEGIN IMMEDIATE")
        try:
            yield
        finally:
            conn.execute("ROLLBACK")


def test_a_job_that_ends_while_the_database_is_locked_has_succeeded(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("first", Script(holds=True)), await daemon.program("second")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.submitted))
        async with locked(daemon):
            daemon.engine.let_go("first")
            daemon.tick()
            await asyncio.sleep(0.2)
            assert not daemon.is_dead()
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(ONE) == {"second/stdout.txt": b"first\nsecond\n"}

    machine.play(play, busy_timeout_ms=20)


def test_a_start_and_its_deliveries_wait_for_the_lock_to_go(machine: Machine) -> None:
    """The lock comes and goes from before the start until after the end; each time everything merely waits."""

    async def play(daemon: Daemon) -> None:
        services = [await daemon.files("seed", {"a": b"a"}), await daemon.program("cat")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        for _ in range(12):
            async with locked(daemon):
                await asyncio.sleep(0.03)
            await asyncio.sleep(0.002)
            assert not daemon.is_dead()
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(ONE) == {"cat/stdout.txt": b"acat\n"}

    machine.play(play, busy_timeout_ms=5)


def test_a_cancel_that_was_recorded_is_repeated_when_the_lock_is_gone(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("long", Script(holds=True))], [])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.submitted))
        async with locked(daemon):
            with pytest.raises(DatabaseBusy):
                await daemon.workflow_manager.cancel(ONE, reason="too early")
        await daemon.workflow_manager.cancel(ONE, reason="now")
        assert (await daemon.ended(ONE)).error == "cancelled: now"

    machine.play(play, busy_timeout_ms=20)


class TroubledDatabase(Database):
    """Refuses so many writes after having done them, as a disk does that is full at the commit."""

    refusals = 0
    refusal: RndError = DatabaseFull("no space")

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.refusals:
            self.refusals -= 1

            def undone(conn: sqlite3.Connection) -> T:
                work(conn)
                raise self.refusal

            return await super().write(undone)
        return await super().write(work)


def _note(conn: sqlite3.Connection, news: News) -> int:
    news.transfers_created += 1
    conn.execute("INSERT INTO node_facts (key, value) VALUES ('note', 'x')")
    return 7


@pytest.mark.parametrize("refusal", [DatabaseFull("no space"), DatabaseBusy("locked")])
def test_what_is_insisted_on_is_done_once_and_told_once(tmp_path: Path, refusal: RndError) -> None:
    async def play() -> None:
        database = TroubledDatabase.open(tmp_path / "rnd.db")
        assert isinstance(database, TroubledDatabase)
        database.refusals, database.refusal = 3, refusal
        try:
            value, news = await insist(database, _note)
            assert (value, news.transfers_created) == (7, 1)
        finally:
            await database.close()

    asyncio.run(play())


def test_other_errors_are_not_insisted_on(tmp_path: Path) -> None:
    async def play() -> None:
        database = TroubledDatabase.open(tmp_path / "rnd.db")
        assert isinstance(database, TroubledDatabase)
        database.refusals, database.refusal = 1, DatabaseFailed("gone")
        try:
            with pytest.raises(DatabaseFailed):
                await insist(database, _note)
        finally:
            await database.close()

    asyncio.run(play())


def test_a_database_that_is_gone_ends_every_part(machine: Machine) -> None:
    """Nothing is called failed because it could not be written down; the daemon stops instead."""

    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("long", Script(holds=True))], [])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.submitted))
        daemon.database.dies_at = 0
        daemon.engine.let_go("long")
        await daemon.until(daemon.is_dead)
        errors = [task.exception() for task in daemon.tasks if task.done()]
        assert all(error is not None and isinstance(root_cause(error), DatabaseFailed) for error in errors)
        assert await daemon.story() == [("long", "RUNNING", None)]

    machine.play(play)


def test_what_the_database_said_is_the_cause_of_a_group() -> None:
    inner = BaseExceptionGroup("tasks", [ValueError("a"), ExceptionGroup("more", [DatabaseCorrupt("b")])])
    assert isinstance(root_cause(inner), DatabaseCorrupt)
    assert isinstance(root_cause(ExceptionGroup("tasks", [ValueError("a")])), ValueError)
    assert isinstance(root_cause(OSError("x")), OSError)
