"""From a file to connections that can be trusted: private, checked, migrated, with the right pragmas."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from rnd.database import migrations
from rnd.database.faults import named_error
from rnd.types.errors import DatabaseCorrupt, DatabaseFailed, RndError

_CACHED_STATEMENTS: Final = 512
_CLOSED_CLEANLY: Final = "closed_cleanly"

CHECKED_ALWAYS_BYTES: Final = 256 << 20
"""Up to this size, which takes about a second, the file is checked at every start: a disk forgets while nobody looks as well."""


def open_connections(path: Path, *, readers: int, busy_timeout_ms: int) -> list[sqlite3.Connection]:
    """Return the writing connection and after it `readers` that cannot write; see `Database.open` for the errors."""
    connections: list[sqlite3.Connection] = []
    try:
        _create_private(path)
        connections.append(_connect(path, busy_timeout_ms))
        _prepare(connections[0], path)
        for _ in range(readers):
            connections.append(_connect(path, busy_timeout_ms))
            connections[-1].execute("PRAGMA query_only = ON")
    except (sqlite3.Error, OSError, RndError) as error:
        for conn in connections:
            conn.close()
        if isinstance(error, RndError):
            raise
        named = named_error(error, path)
        if isinstance(named, RndError):
            raise named from error
        raise DatabaseFailed(f"{path} cannot be opened: {error}") from error
    return connections


def mark_closed(conn: sqlite3.Connection) -> None:
    """Note in the database that it was closed in order; without that note the next start checks the whole file."""
    conn.execute(
        """
        INSERT INTO node_facts (key, value)
        VALUES (:key, '1')
        ON CONFLICT (key) DO NOTHING
        """,
        {"key": _CLOSED_CLEANLY},
    )


def _create_private(path: Path) -> None:
    """Make sure that the file is there and only its owner can read it; SQLite gives -wal and -shm the same mode."""
    try:
        # Only ever a new file: closing a descriptor of a database that is in use would drop its POSIX locks.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        path.chmod(0o600)


def _connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    conn = sqlite3.connect(
        path,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,  # transactions are begun and ended by this module alone
        check_same_thread=False,  # made here, used on exactly one thread from then on
        cached_statements=_CACHED_STATEMENTS,
    )
    conn.row_factory = sqlite3.Row
    try:
        # The first statement reads the file, so this is where a damaged one shows.
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.Error:
        conn.close()
        raise
    return conn


def _prepare(writer: sqlite3.Connection, path: Path) -> None:
    """Check, migrate and mark as open."""
    migrations.refuse_newer(writer, path)
    if migrations.read_version(writer) > 0 and _is_doubtful(writer, path):
        _check(writer, path)
    if writer.execute("PRAGMA page_count").fetchone()[0] == 0:
        # What rows leave free can then be given back to the disk in small pieces (retention.release_pages).
        writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = writer.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise DatabaseFailed(f"{path} cannot use a write-ahead log (journal mode {mode}): is it on a network drive?")
    migrations.migrate(writer, path)
    writer.execute(
        """
        DELETE FROM node_facts
        WHERE key = :key
        """,
        {"key": _CLOSED_CLEANLY},
    )


def _is_doubtful(conn: sqlite3.Connection, path: Path) -> bool:
    return path.stat().st_size <= CHECKED_ALWAYS_BYTES or not _was_closed_cleanly(conn)


def _was_closed_cleanly(conn: sqlite3.Connection) -> bool:
    row = conn.execute(
        """
        SELECT value
        FROM node_facts
        WHERE key = :key
        """,
        {"key": _CLOSED_CLEANLY},
    ).fetchone()
    return row is not None


def _check(conn: sqlite3.Connection, path: Path) -> None:
    """Look at every page, and at every row's place in each index: one that an index has lost would be found by some queries only."""
    findings = [str(row[0]) for row in conn.execute("PRAGMA integrity_check(5)")]
    if findings != ["ok"]:
        raise DatabaseCorrupt(
            f"{path} is damaged and was left as it is: {'; '.join(findings)}. Put a backup back, or save what can be "
            "read with `sqlite3 rnd.db .recover`."
        )
