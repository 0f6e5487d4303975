"""The Database: group commit, durability, snapshots, and what happens when something is in its way."""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rnd.database import connection as connection_module
from rnd.database import opening
from rnd.database.connection import GROUP_CALLS, Database
from rnd.types.errors import (
    DatabaseBusy,
    DatabaseClosed,
    DatabaseCorrupt,
    DatabaseFailed,
    DatabaseFull,
    DatabaseTooNew,
    RndError,
)

OTHER_PROCESS = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit(); c.close()"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder" / "rnd.db"


@pytest.fixture(autouse=True)
def _folder(path: Path) -> None:
    path.parent.mkdir()


def run_with(path: Path, story: Callable[[Database], Coroutine[Any, Any, None]], **options: int) -> None:
    """Open the database, run `story` with it in a loop, and close it."""
    database = Database.open(path, **options)

    async def whole() -> None:
        try:
            await story(database)
        finally:
            await database.close()

    asyncio.run(whole())


def put(key: str, value: str = "x") -> Callable[[sqlite3.Connection], str]:
    def work(conn: sqlite3.Connection) -> str:
        conn.execute("INSERT INTO node_facts (key, value) VALUES (:key, :value)", {"key": key, "value": value})
        return key

    return work


def keys(conn: sqlite3.Connection) -> list[str]:
    return [row["key"] for row in conn.execute("SELECT key FROM node_facts ORDER BY key")]


def commit_from_outside(path: Path, statement: str) -> None:
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, path, statement], check=True)


def pragmas(conn: sqlite3.Connection) -> dict[str, object]:
    return {
        "journal_mode": conn.execute("PRAGMA journal_mode").fetchone()[0],
        "synchronous": conn.execute("PRAGMA synchronous").fetchone()[0],
        "foreign_keys": conn.execute("PRAGMA foreign_keys").fetchone()[0],
        "busy_timeout": conn.execute("PRAGMA busy_timeout").fetchone()[0],
        "wal_autocheckpoint": conn.execute("PRAGMA wal_autocheckpoint").fetchone()[0],
        "query_only": conn.execute("PRAGMA query_only").fetchone()[0],
    }


def test_a_commit_is_durable_before_its_caller_hears_of_it(path: Path) -> None:
    """synchronous=FULL (2) in WAL mode is what makes SQLite sync at each commit."""

    async def story(database: Database) -> None:
        expected = {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "busy_timeout": 5000,
            "wal_autocheckpoint": 0,
        }
        assert await database.write(pragmas) == expected | {"query_only": 0}
        assert await database.read(pragmas) == expected | {"query_only": 1}

    run_with(path, story)


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    async def story(database: Database) -> None:
        await database.write(put("a"))
        assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {
            "rnd.db": "0o600",
            "rnd.db-wal": "0o600",
            "rnd.db-shm": "0o600",
        }

    old_mask = os.umask(0)
    try:
        run_with(path, story)
    finally:
        os.umask(old_mask)


def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    path.touch(mode=0o644)

    async def story(database: Database) -> None:
        assert path.stat().st_mode & 0o777 == 0o600

    run_with(path, story)


def test_a_write_returns_its_value_and_a_read_sees_it(path: Path) -> None:
    async def story(database: Database) -> None:
        assert await database.write(put("a")) == "a"
        assert await database.read(keys) == ["a"]

    run_with(path, story)


def test_an_error_reaches_its_own_caller_and_the_rest_of_the_group_is_committed(path: Path) -> None:
    gate = threading.Event()

    def fail_halfway(conn: sqlite3.Connection) -> None:
        put("half")(conn)
        raise LookupError("mine alone")

    async def story(database: Database) -> None:
        blocker = asyncio.ensure_future(database.write(lambda conn: gate.wait()))
        group = [asyncio.ensure_future(database.write(work)) for work in (put("a"), fail_halfway, put("a"), put("b"))]
        await asyncio.sleep(0)
        gate.set()
        outcomes = await asyncio.gather(*group, return_exceptions=True)
        await blocker
        assert [type(outcome) for outcome in outcomes] == [str, LookupError, sqlite3.IntegrityError, str]
        assert await database.read(keys) == ["a", "b"]

    run_with(path, story)


def test_an_exception_that_is_no_error_stays_with_its_caller_too(path: Path) -> None:
    def leave(conn: sqlite3.Connection) -> None:
        raise SystemExit(3)

    def run_out(conn: sqlite3.Connection) -> object:
        return next(iter(()))

    async def story(database: Database) -> None:
        for method in (database.write, database.read):
            with pytest.raises(SystemExit):
                await method(leave)
            with pytest.raises(RuntimeError, match="StopIteration"):
                await method(run_out)
        assert await database.write(put("a")) == "a"

    run_with(path, story)


def test_what_waits_together_is_committed_together(path: Path) -> None:
    """A thousand writes that wait behind one need no more commits than groups of the allowed size."""
    commits: list[int] = []
    gate = threading.Event()

    async def story(database: Database) -> None:
        await database.write(put("first"))
        await asyncio.sleep(0)
        database.on_commit(lambda: commits.append(1))
        writes = [asyncio.ensure_future(database.write(lambda conn: gate.wait()))]
        writes += [asyncio.ensure_future(database.write(put(str(number)))) for number in range(1000)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*writes)
        await asyncio.sleep(0)
        assert len(await database.read(keys)) == 1001
        assert len(commits) <= 2 + 1000 // GROUP_CALLS + 1

    run_with(path, story)


def test_many_callers_at_once_lose_nothing(path: Path) -> None:
    def count_up(conn: sqlite3.Connection) -> None:
        conn.execute("UPDATE node_facts SET value = value + 1 WHERE key = 'count'")

    async def caller(database: Database) -> None:
        for _ in range(20):
            await database.write(count_up)

    async def story(database: Database) -> None:
        await database.write(put("count", "0"))
        await asyncio.gather(*(caller(database) for _ in range(64)))
        count = await database.read(lambda conn: conn.execute("SELECT value FROM node_facts").fetchone()[0])
        assert int(count) == 64 * 20

    run_with(path, story)


def test_more_callers_than_places_all_get_their_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "QUEUED_CALLS", 3)

    async def story(database: Database) -> None:
        await asyncio.gather(*(database.write(put(str(number))) for number in range(50)))
        assert await asyncio.gather(*(database.read(lambda conn: len(keys(conn))) for _ in range(50))) == [50] * 50

    run_with(path, story)


def test_a_caller_who_stops_waiting_takes_nobody_along(path: Path) -> None:
    gate = threading.Event()

    async def story(database: Database) -> None:
        blocker = asyncio.ensure_future(database.write(lambda conn: gate.wait()))
        gone = asyncio.ensure_future(database.write(put("gone")))
        stays = asyncio.ensure_future(database.write(put("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        gate.set()
        assert await stays == "stays"
        await blocker
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await database.read(keys) == ["gone", "stays"]

    run_with(path, story)


def test_close_finishes_what_is_queued_and_refuses_what_comes_after(path: Path) -> None:
    async def story() -> None:
        database = Database.open(path)
        writes = [asyncio.ensure_future(database.write(put(str(number)))) for number in range(9)]
        await asyncio.sleep(0)
        await database.close()
        assert await asyncio.gather(*writes) == [str(number) for number in range(9)]
        for method in (database.write, database.read):
            with pytest.raises(DatabaseClosed):
                await method(keys)
        await database.close()

    asyncio.run(story())
    assert [file.name for file in path.parent.iterdir()] == ["rnd.db"]


def test_a_loop_that_ends_before_the_answer_does_not_break_the_writer(path: Path) -> None:
    database = Database.open(path)
    gate = threading.Event()

    async def leave() -> None:
        task = asyncio.ensure_future(database.write(lambda conn: (gate.wait(), put("late")(conn))))
        await asyncio.sleep(0)
        task.cancel()

    async def look() -> None:
        assert await database.read(keys) == ["late"]
        await database.close()

    asyncio.run(leave())
    gate.set()
    asyncio.run(_settle(database))
    asyncio.run(look())


async def _settle(database: Database) -> None:
    await database.write(lambda conn: None)


def test_a_thread_that_waits_keeps_nothing_of_what_it_was_given_and_gave(path: Path) -> None:
    """A manifest of 100,000 files would else stay in memory until something is read or written again."""

    class Manifest:
        pass

    async def story(database: Database) -> None:
        loop = asyncio.get_running_loop()
        for submit in (database.read, database.write):
            gone = asyncio.Semaphore(0)

            def manifest(gone: asyncio.Semaphore = gone) -> Manifest:
                made = Manifest()
                weakref.finalize(made, loop.call_soon_threadsafe, gone.release)
                return made

            await submit(functools.partial(lambda _, given, make: make(), given=manifest(), make=manifest))
            async with asyncio.timeout(10):
                await gone.acquire()
                await gone.acquire()

    run_with(path, story, readers=1)


def test_a_reader_cannot_write(path: Path) -> None:
    async def story(database: Database) -> None:
        with pytest.raises(DatabaseFailed, match="readonly"):
            await database.read(put("a"))
        assert await database.read(keys) == []

    run_with(path, story)


def test_a_read_sees_one_moment_only(path: Path) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(conn: sqlite3.Connection) -> tuple[list[str], list[str]]:
        before = keys(conn)
        looked.set()
        assert written.wait(10)
        return before, keys(conn)

    async def story(database: Database) -> None:
        reading = asyncio.ensure_future(database.read(look_twice))
        await asyncio.to_thread(looked.wait, 10)
        await database.write(put("new"))
        written.set()
        assert await reading == ([], [])
        assert await database.read(keys) == ["new"]

    run_with(path, story)


def test_commit_callbacks_run_in_the_loop_when_a_row_changed(path: Path) -> None:
    heard: list[str] = []

    async def story(database: Database) -> None:
        database.on_commit(lambda: heard.append(threading.current_thread().name))
        await database.write(lambda conn: None)
        await asyncio.sleep(0)
        assert heard == []
        await database.write(put("a"))
        await asyncio.sleep(0)
        assert heard == [threading.main_thread().name]

    run_with(path, story)


def test_a_commit_by_another_process_is_noticed_once(path: Path) -> None:
    async def story(database: Database) -> None:
        await database.write(put("ours"))
        assert not await database.changed_from_outside()
        commit_from_outside(path, "INSERT INTO node_facts VALUES ('theirs', 'x')")
        assert await database.changed_from_outside()
        assert not await database.changed_from_outside()
        assert await database.read(keys) == ["ours", "theirs"]

    run_with(path, story)


def test_our_own_commits_and_checkpoints_are_no_change_from_outside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "WAL_CHECKPOINT_BYTES", 1)

    async def story(database: Database) -> None:
        for number in range(5):
            await database.write(put(str(number)))
            await database.read(keys)
            assert not await database.changed_from_outside()

    run_with(path, story)


def test_a_lock_that_somebody_keeps_ends_in_a_clear_error_and_then_work_goes_on(path: Path) -> None:
    async def story(database: Database) -> None:
        person = sqlite3.connect(path, isolation_level=None)
        person.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match="another program"):
            await database.write(put("a"))
        assert not await database.changed_from_outside()
        assert await database.read(keys) == []
        person.execute("COMMIT")
        person.close()
        assert await database.write(put("a")) == "a"

    run_with(path, story, busy_timeout_ms=20)


def test_a_lock_that_is_soon_let_go_only_delays(path: Path) -> None:
    async def story(database: Database) -> None:
        person = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        person.execute("BEGIN IMMEDIATE")
        threading.Timer(0.05, person.execute, ["COMMIT"]).start()
        assert await database.write(put("a")) == "a"
        person.close()

    run_with(path, story)


def test_a_full_disk_fails_those_who_asked_and_nobody_after_them(path: Path) -> None:
    def limit(pages: int) -> Callable[[sqlite3.Connection], None]:
        def work(conn: sqlite3.Connection) -> None:
            conn.execute("PRAGMA max_page_count = " + str(pages))

        return work

    async def story(database: Database) -> None:
        await database.write(limit(1))  # SQLite takes the present size for less
        with pytest.raises(DatabaseFull, match="No space"):
            await database.write(put("large", "x" * 100_000))
        await database.write(limit(1_000_000))
        assert await database.write(put("a")) == "a"
        assert await database.read(keys) == ["a"]

    run_with(path, story)


def test_work_that_ends_the_transaction_fails_its_group_but_not_the_writer(path: Path) -> None:
    def commit(conn: sqlite3.Connection) -> None:
        conn.execute("COMMIT")

    def commit_and_fail(conn: sqlite3.Connection) -> None:
        conn.execute("ROLLBACK")
        raise ValueError("and now?")

    async def story(database: Database) -> None:
        with pytest.raises(sqlite3.OperationalError):
            await database.write(commit)
        with pytest.raises(DatabaseFailed, match="and now"):
            await database.write(commit_and_fail)
        assert await database.write(put("a")) == "a"

    run_with(path, story)


def test_a_write_that_the_system_refuses_is_named_and_later_ones_work(path: Path) -> None:
    """A limit on the size of files stands for every other reason why the system does not take bytes."""
    script = """
import asyncio, resource, signal, sys
from pathlib import Path
from rnd.database.connection import Database
from rnd.types.errors import DatabaseFailed, DatabaseFull

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def put(key, value):
    return lambda conn: conn.execute("INSERT INTO node_facts VALUES (:k, :v)", {"k": key, "v": value}).rowcount

async def main():
    database = Database.open(Path(sys.argv[1]))
    await database.write(put("before", "x"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    refused = await asyncio.gather(database.write(put("large", "x" * 500_000)), return_exceptions=True)
    assert isinstance(refused[0], DatabaseFailed | DatabaseFull), refused
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await database.write(put("after", "x"))
    await database.close()

asyncio.run(main())
"""
    project = Path(connection_module.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, path], env={"PYTHONPATH": str(project)}, check=True)

    async def story(database: Database) -> None:
        assert await database.read(keys) == ["after", "before"]

    run_with(path, story)


def test_after_a_commit_that_could_not_be_made_durable_nothing_is_written_any_more(path: Path) -> None:
    """The kernel may have dropped what it could not write, so no later success could be believed."""

    def fail_to_sync(conn: sqlite3.Connection) -> None:
        conn.execute("ROLLBACK")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    async def story(database: Database) -> None:
        for work in (fail_to_sync, put("a"), put("b")):
            with pytest.raises(DatabaseFailed, match="disk I/O error"):
                await database.write(work)
        assert await database.read(keys) == []

    run_with(path, story)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT key FROM node_facts").fetchall() == []  # so the next start checks the whole file


def test_the_write_ahead_log_is_emptied_when_it_is_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "WAL_CHECKPOINT_BYTES", 50_000)
    wal = path.with_name("rnd.db-wal")

    async def story(database: Database) -> None:
        for number in range(40):
            await database.write(put(str(number), "x" * 4000))
        # The last group's checkpoint may still be at work when its callers hear of the commit.
        await database.write(lambda conn: None)
        assert wal.stat().st_size < 100_000

    run_with(path, story)


def test_a_person_who_reads_on_and_on_only_puts_the_checkpoint_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "WAL_CHECKPOINT_BYTES", 50_000)
    monkeypatch.setattr(connection_module, "CHECKPOINT_BUSY_TIMEOUT_MS", 1)
    wal = path.with_name("rnd.db-wal")

    async def story(database: Database) -> None:
        await database.write(put("seen"))
        person = sqlite3.connect(path, isolation_level=None)
        person.execute("BEGIN")
        assert person.execute("SELECT COUNT(*) FROM node_facts").fetchone() == (1,)
        for number in range(40):
            await database.write(put(str(number), "x" * 4000))
        assert wal.stat().st_size > 100_000
        assert person.execute("SELECT COUNT(*) FROM node_facts").fetchone() == (1,)
        person.close()
        for number in range(40, 80):
            await database.write(put(str(number), "x" * 4000))
        await database.write(lambda conn: None)
        assert wal.stat().st_size < 100_000
        assert (await database.write(pragmas))["busy_timeout"] == 5000

    run_with(path, story)


def damage(path: Path) -> None:
    """Overwrite the page on which the table of events begins with noise, as a dying disk would."""
    with closing(sqlite3.connect(path)) as conn:
        page_bytes = conn.execute("PRAGMA page_size").fetchone()[0]
        page = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)


def test_a_damaged_file_after_a_crash_is_refused_in_words_and_left_alone(path: Path) -> None:
    run_with(path, lambda database: _settle(database))
    sqlite3_set(path, "DELETE FROM node_facts WHERE key = 'closed_cleanly'")
    damage(path)
    before = path.read_bytes()
    with pytest.raises(DatabaseCorrupt, match="damaged"):
        Database.open(path)
    assert path.read_bytes() == before


def sqlite3_set(path: Path, statement: str) -> None:
    conn = sqlite3.connect(path)
    conn.execute(statement)
    conn.commit()
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()


def test_a_clean_end_is_no_reason_not_to_look(path: Path) -> None:
    """A row that an index has under another key is there for some queries and not for others; nothing else shows it."""
    run_with(path, lambda database: _settle(database))
    sqlite3_set(path, "INSERT INTO events (time, type, workflow_execution_id, data) VALUES ('', '', 0x5a5b, '{}')")
    with closing(sqlite3.connect(path)) as conn:
        page_bytes = conn.execute("PRAGMA page_size").fetchone()[0]
        page = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events_by_execution'").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[content.index(b"\x5a\x5b", (page - 1) * page_bytes) + 1] += 1
    path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match="missing from index events_by_execution"):
        Database.open(path)


def test_damage_that_shows_only_at_work_is_named_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CHECKED_ALWAYS_BYTES", 0)
    run_with(path, lambda database: _settle(database))
    damage(path)

    async def story(database: Database) -> None:
        def read_events(conn: sqlite3.Connection) -> None:
            conn.execute("SELECT data FROM events").fetchall()

        for method in (database.read, database.write):
            with pytest.raises(DatabaseCorrupt, match="damaged"):
                await method(read_events)

    run_with(path, story)


def test_damage_that_anybody_finds_ends_the_watch_and_no_close_is_clean_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "CHECKED_ALWAYS_BYTES", 0)
    run_with(path, lambda database: _settle(database))
    damage(path)

    async def story(database: Database) -> None:
        watch = asyncio.create_task(database.watch())
        with pytest.raises(DatabaseCorrupt):
            await database.read(lambda conn: conn.execute("SELECT data FROM events").fetchall())
        with pytest.raises(DatabaseCorrupt, match="damaged"):
            await watch

    run_with(path, story)
    with pytest.raises(DatabaseCorrupt, match="damaged"):
        Database.open(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to look at: " * 100)
    with pytest.raises(DatabaseCorrupt):
        Database.open(path)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    sqlite3_set(path, "CREATE TABLE theirs (a)")
    with pytest.raises(DatabaseCorrupt, match="not one of rnd"):
        Database.open(path)


def test_a_database_of_a_newer_rnd_is_refused_and_left_alone(path: Path) -> None:
    run_with(path, lambda database: _settle(database))
    sqlite3_set(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match="version 99"):
        Database.open(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DatabaseFailed):
        Database.open(tmp_path / "missing" / "rnd.db")


def test_what_was_committed_survives_a_kill(path: Path) -> None:
    """A process that is killed without any goodbye leaves every row whose commit was answered."""
    script = """
import asyncio, os, signal, sys
from pathlib import Path
from rnd.database.connection import Database

async def main():
    database = Database.open(Path(sys.argv[1]))
    for number in range(30):
        await database.write(
            lambda conn: conn.execute("INSERT INTO node_facts VALUES (:k, 'x')", {"k": str(number)}).rowcount
        )
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    project = Path(connection_module.__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", script, path], env={"PYTHONPATH": str(project)}, check=False)
    assert killed.returncode == -9

    async def story(database: Database) -> None:
        assert len(await database.read(keys)) == 30

    run_with(path, story)


def test_every_fault_of_the_database_has_a_sentence_for_people() -> None:
    for fault in (DatabaseBusy, DatabaseFull, DatabaseCorrupt, DatabaseFailed, DatabaseClosed, DatabaseTooNew):
        assert issubclass(fault, RndError)
        assert fault.__doc__
