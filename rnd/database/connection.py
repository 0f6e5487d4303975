"""The one way to the rows (document: Database Schema Summary): a writer thread with group commit, reader threads.

Why so. A commit with synchronous=FULL costs an fsync. The writer therefore takes everything that waits, runs each
caller's work in a savepoint of its own within one transaction, commits once and only then answers them all. One
connection writes and checkpoints, which also keeps clear of the race between a checkpoint and another writer that SQLite
before 3.51.3 has (sqlite.org/wal.html, "The WAL-Reset Bug").

`Database.open` is called before the event loop runs; everything else belongs to that loop.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Never, TypeVar

from rnd import crash_points
from rnd.database.faults import is_fsync_failure, named_error
from rnd.database.opening import mark_closed, open_connections
from rnd.types.errors import DatabaseBusy, DatabaseClosed, DatabaseFailed, DatabaseGone, RndError

T = TypeVar("T")

QUEUED_CALLS: Final = 4096
"""How many writes, and how many reads, may wait for a thread; further callers wait for a place."""

GROUP_CALLS: Final = 256
"""From how many writes on a commit takes no more, which bounds how long the first of them waits for the last."""

BUSY_TIMEOUT_MS: Final = 5_000
"""How long a statement waits for a lock that somebody else holds, such as a person at the sqlite3 shell."""

CHECKPOINT_BUSY_TIMEOUT_MS: Final = 50
"""How long a checkpoint waits for readers. What it cannot finish then waits for the next one."""

WAL_CHECKPOINT_BYTES: Final = 8 << 20
"""The size of the write-ahead log from which on it is copied into the database and emptied."""


class _Call(Generic[T]):
    """One caller's work on its way through a thread, and its outcome."""

    __slots__ = ("error", "future", "value", "work")

    value: T

    def __init__(self, work: Callable[[sqlite3.Connection], T], future: asyncio.Future[None]) -> None:
        self.work = work
        self.future = future
        self.error: BaseException | None = None

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value


class Database:
    """The rows of one peer. Work is a plain function of a connection (`sqlite3.Row` rows) and runs on a thread.

    Errors of work reach its caller as they are, except for those that are about the database as a whole:
    `DatabaseBusy`, `DatabaseFull`, `DatabaseCorrupt`, `DatabaseFailed`. After `close` every call raises `DatabaseClosed`.
    """

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection,
        readers: Sequence[sqlite3.Connection],
        *,
        busy_timeout_ms: int,
    ) -> None:
        """Take over open connections; `Database.open` makes them."""
        self.path = path
        self._writer = writer
        self._busy_timeout_ms = busy_timeout_ms
        self._seen_data_version = _data_version(writer)
        self._failure: RndError | None = None
        self._gone: DatabaseGone | None = None
        self._is_gone = asyncio.Event()
        self._wal_path = path.with_name(path.name + "-wal")
        self._checkpoint_at_bytes = WAL_CHECKPOINT_BYTES
        self._callbacks: list[Callable[[], None]] = []
        self._closing = False
        self._measure: Callable[[], float] | None = None
        self._measured: Callable[[float], None] = lambda _: None
        self._write_places = asyncio.Semaphore(QUEUED_CALLS)
        self._read_places = asyncio.Semaphore(QUEUED_CALLS)
        # The semaphores bound these queues; None asks a thread to end.
        self._gathered: list[_Call[Any]] = []
        self._writes: queue.SimpleQueue[list[_Call[Any]] | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._write_thread = threading.Thread(target=self._run_writer, name="rnd-db-writer", daemon=True)
        self._read_threads = [
            threading.Thread(target=self._run_reader, args=(conn,), name=f"rnd-db-reader-{number}", daemon=True)
            for number, conn in enumerate(readers)
        ]
        self._begin()

    def _begin(self) -> None:
        """Start the threads."""
        for thread in (self._write_thread, *self._read_threads):
            thread.start()

    @classmethod
    def open(cls, path: Path, *, readers: int = 2, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Database:
        """Open the database at `path`, creating or migrating it first; blocks, so call it before the loop runs.

        The whole file is checked, if it is not large or its last close was not clean. Raises `DatabaseCorrupt`, `DatabaseTooNew`,
        `DatabaseBusy`, `DatabaseFull` or `DatabaseFailed`.
        """
        connections = open_connections(path, readers=readers, busy_timeout_ms=busy_timeout_ms)
        return cls(path, connections[0], connections[1:], busy_timeout_ms=busy_timeout_ms)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` within the next group commit and return its value once that is durable.

        An exception of `work` rolls back what this work did and nothing else. Cancelling the wait does not take back
        the work: it is committed like the rest of its group. `work` must neither commit nor block.
        """
        return await self._submit(self._gather, self._write_places, work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a connection that cannot write, in one consistent snapshot, and return its value."""
        return await self._submit(self._send_read, self._read_places, work)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the event loop after each group commit that changed a row."""
        self._callbacks.append(callback)

    def measure_writes(self, clock: Callable[[], float], measured: Callable[[float], None]) -> None:
        """Have `measured` called, on the writer's thread, with the seconds that each group commit takes from now on."""
        self._measured = measured
        self._measure = clock

    async def watch(self) -> Never:
        """Wait until the database cannot be worked with any more, whoever finds out, and raise the `DatabaseGone` that says why."""
        await self._is_gone.wait()
        assert self._gone is not None
        raise self._gone

    async def changed_from_outside(self) -> bool:
        """Return whether another process (a person's sqlite3) has committed since this was last asked.

        The writer asks, because a connection's data_version moves only with the commits of *other* connections, and
        ours other than the writer never commit. A checkpoint by another process may be reported too.
        """
        try:
            version = await self.write(_data_version)
        except DatabaseBusy:
            # Whoever holds the lock has not committed yet; the next time that somebody asks will tell.
            return False
        changed = version != self._seen_data_version
        self._seen_data_version = version
        return changed

    async def close(self) -> None:
        """Finish what is queued, empty the write-ahead log, note that the end was clean, and close. Idempotent."""
        if not self._closing:
            self._closing = True
            self._send_gathered()
            self._writes.put(None)
            for _ in self._read_threads:
                self._reads.put(None)
        await asyncio.to_thread(self._join)

    # ------------------------------------------------------------------ in the event loop

    async def _submit(
        self,
        hand_in: Callable[[_Call[Any]], None],
        places: asyncio.Semaphore,
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        await places.acquire()
        if self._closing:
            places.release()
            raise DatabaseClosed("The database is closed.")
        call = _Call(work, asyncio.get_running_loop().create_future())
        hand_in(call)
        await call.future
        return call.result()

    def _gather(self, call: _Call[Any]) -> None:
        """Collect what this turn of the event loop and the two after it want to write, so that one commit takes it all.

        Else the writer would wake up to the first and let all the others wait for the commit after.
        """
        if not self._gathered:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._send_gathered)
        self._gathered.append(call)

    def _send_read(self, call: _Call[Any]) -> None:
        self._reads.put(call)

    def _send_gathered(self) -> None:
        if self._gathered:
            self._writes.put(self._gathered)
            self._gathered = []

    def _deliver(self, calls: Sequence[_Call[Any]], places: asyncio.Semaphore, changed: bool) -> None:
        for call in calls:
            places.release()
            if isinstance(call.error, DatabaseGone):
                self._gone = self._gone or call.error
                self._is_gone.set()
            if not call.future.done():  # cancelled: nobody waits for it any more
                call.future.set_result(None)
        if changed:
            for callback in self._callbacks:
                asyncio.get_running_loop().call_soon(callback)

    def _join(self) -> None:
        for thread in (*self._read_threads, self._write_thread):
            thread.join()

    # ------------------------------------------------------------------ on the writer thread

    def _run_writer(self) -> None:
        last = False
        while not last:
            group, last = self._take_group()
            if group:
                began_s = self._measure() if self._measure else None
                changed = self._commit_group(group)
                if self._measure and began_s is not None:
                    self._measured(self._measure() - began_s)
                self._hand_over(group, self._write_places, changed)
                del group  # waiting for the next one, the thread would keep what this one was given and gave
                self._checkpoint_if_long()
        for thread in self._read_threads:
            thread.join()
        self._finish()

    def _take_group(self) -> tuple[list[_Call[Any]], bool]:
        group: list[_Call[Any]] = []
        calls = self._writes.get()
        while calls is not None:
            group += calls
            if len(group) >= GROUP_CALLS:
                return group, False
            try:
                calls = self._writes.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit_group(self, group: Sequence[_Call[Any]]) -> bool:
        """Run and commit `group`; return whether a row changed. Every call has its value or its error afterwards."""
        conn = self._writer
        changes_before = conn.total_changes
        try:
            if self._failure is not None:
                raise self._failure
            conn.execute("BEGIN IMMEDIATE")
            for call in group:
                self._run_in_savepoint(call)
            crash_points.reach_commit("commit", lambda: [call.work for call in group])
            conn.execute("COMMIT")
            crash_points.reach_commit("committed", lambda: [call.work for call in group])
        except (sqlite3.Error, RndError) as error:
            self._fail_group(group, error)
            return False
        return conn.total_changes != changes_before

    def _run_in_savepoint(self, call: _Call[Any]) -> None:
        conn = self._writer
        conn.execute("SAVEPOINT caller")
        try:
            call.value = call.work(conn)
        except BaseException as error:  # boundary of one request: its error is its caller's, whatever it is
            if not conn.in_transaction:
                # SQLite has rolled back the whole transaction (disk full, I/O error): the group is lost with it.
                named = named_error(error, self.path)
                raise named if isinstance(named, RndError) else DatabaseFailed(f"Rolled back: {error}") from error
            conn.execute("ROLLBACK TO caller")
            call.error = named_error(error, self.path)
        conn.execute("RELEASE caller")

    def _fail_group(self, group: Sequence[_Call[Any]], error: sqlite3.Error | RndError) -> None:
        named = named_error(error, self.path)
        if is_fsync_failure(error):
            self._distrust(error)
        for call in group:
            if call.error is None:
                call.error = named
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as rollback_error:
            self._failure = DatabaseFailed(f"{self.path} cannot roll back: {rollback_error}")

    def _distrust(self, error: sqlite3.Error | RndError) -> None:
        """Believe no later commit: the kernel may have dropped the pages that it could not write."""
        named = named_error(error, self.path)
        if isinstance(named, RndError):
            self._failure = named

    def _checkpoint_if_long(self) -> None:
        """Empty the write-ahead log where it is long; a reader that holds on to it puts that off, but not for ever."""
        try:
            wal_bytes = self._wal_path.stat().st_size
        except OSError:
            return
        if wal_bytes < self._checkpoint_at_bytes:
            return
        emptied = self._checkpoint()
        self._checkpoint_at_bytes = WAL_CHECKPOINT_BYTES if emptied else wal_bytes + WAL_CHECKPOINT_BYTES

    def _checkpoint(self) -> bool:
        """Copy the write-ahead log into the database as far as readers allow; return whether it is empty now."""
        _set_busy_timeout(self._writer, CHECKPOINT_BUSY_TIMEOUT_MS)
        try:
            blocked = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            # The log still holds every commit; what keeps this from working will be told to the next caller that writes.
            if is_fsync_failure(error):
                self._distrust(error)
            blocked = 1
        finally:
            _set_busy_timeout(self._writer, self._busy_timeout_ms)
        return not blocked

    def _finish(self) -> None:
        try:
            if self._failure is None and self._gone is None:  # else it must not be called a clean end
                mark_closed(self._writer)
                self._checkpoint()
        except sqlite3.Error:
            # Not marked as clean, so the next start checks the whole file: that is all that can be done here.
            return
        finally:
            self._writer.close()

    # ------------------------------------------------------------------ on a reader thread

    def _run_reader(self, conn: sqlite3.Connection) -> None:
        while (call := self._reads.get()) is not None:
            self._run_read(conn, call)
            self._hand_over([call], self._read_places, changed=False)
            del call  # as on the writer: a manifest may hang on it
        conn.close()

    def _run_read(self, conn: sqlite3.Connection, call: _Call[Any]) -> None:
        try:
            conn.execute("BEGIN DEFERRED")
            call.value = call.work(conn)
            conn.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - boundary of one request, as on the writer
            call.error = named_error(error, self.path)
            if conn.in_transaction:
                conn.execute("ROLLBACK")

    # ------------------------------------------------------------------ on any thread

    def _hand_over(self, calls: Sequence[_Call[Any]], places: asyncio.Semaphore, changed: bool) -> None:
        try:
            # The newest caller's loop is the one that still runs, should there ever have been another before it.
            calls[-1].future.get_loop().call_soon_threadsafe(self._deliver, calls, places, changed)
        except RuntimeError:
            # The loop is closed: everybody who waited has gone with it. What was committed stays committed.
            return


def _set_busy_timeout(conn: sqlite3.Connection, timeout_ms: int) -> None:
    conn.execute("PRAGMA busy_timeout = " + str(timeout_ms))  # a pragma takes no parameters


def _data_version(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA data_version").fetchone()[0])
