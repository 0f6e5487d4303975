"""A database whose rows have gone gives its room back to the disk, a bounded piece at a time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnd.database.opening import open_connections
from rnd.database.retention import release_pages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rnd.db"


@pytest.fixture
def conn(path: Path) -> Iterator[sqlite3.Connection]:
    (conn,) = open_connections(path, readers=0, busy_timeout_ms=0)
    with contextlib.closing(conn):
        yield conn


def fill(conn: sqlite3.Connection) -> None:
    rows = [("t", "job.updated", "x" * 4000)] * 2000
    conn.executemany("INSERT INTO events (time, type, data) VALUES (?, ?, ?)", rows)


def pages(conn: sqlite3.Connection, name: str = "page_count") -> int:
    return int(conn.execute(f"PRAGMA {name}").fetchone()[0])


def test_what_rows_have_left_free_goes_back_in_bounded_pieces(conn: sqlite3.Connection, path: Path) -> None:
    fill(conn)
    full = pages(conn)
    conn.execute("DELETE FROM events WHERE seq > 100")
    assert pages(conn) == full, "by itself SQLite keeps the room"
    assert release_pages(conn, spare_bytes=0, at_most=300) == 300
    assert pages(conn) == full - 300
    while release_pages(conn, spare_bytes=0, at_most=300):
        pass
    assert pages(conn, "freelist_count") <= pages(conn) // 4 + 1
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size == pages(conn) * 4096 < full * 4096 // 2
    assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert conn.execute("SELECT COUNT(*) FROM events").fetchone()[0] == 100


def test_it_works_within_the_transaction_of_the_writer(conn: sqlite3.Connection) -> None:
    fill(conn)
    conn.execute("DELETE FROM events")
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("SAVEPOINT caller")
    assert release_pages(conn, spare_bytes=0, at_most=10) == 10
    conn.execute("RELEASE caller")
    conn.execute("COMMIT")


def test_room_for_rows_to_come_is_kept(conn: sqlite3.Connection) -> None:
    fill(conn)
    full = pages(conn)
    conn.execute("DELETE FROM events WHERE seq > 1600")
    assert release_pages(conn, spare_bytes=0, at_most=10_000) == 0, "less than a quarter"
    conn.execute("DELETE FROM events")
    assert release_pages(conn, spare_bytes=64 << 20, at_most=10_000) == 0, "less than is spared"
    assert pages(conn) == full


def test_a_file_from_before_is_left_as_it_is(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as earlier:
        earlier.execute("PRAGMA auto_vacuum = NONE")
        earlier.execute("PRAGMA journal_mode = WAL")
        earlier.execute("CREATE TABLE t (x)")
        earlier.execute("DROP TABLE t")
    (conn,) = open_connections(path, readers=0, busy_timeout_ms=0)
    with contextlib.closing(conn):
        fill(conn)
        conn.execute("DELETE FROM events")
        assert release_pages(conn, spare_bytes=0, at_most=100) == 0
