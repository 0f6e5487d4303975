"""Brings a database to the schema of this rnd: `PRAGMA user_version` says which one it has.

Version 1 is `schema.sql` as it was first released. Each later version is one SQL script; together they lead from every
released version to the newest. A script, its new `user_version` and the check of its foreign keys are one transaction, so
that a database is wholly at one version or at the next.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Final

from rnd.types.errors import DatabaseCorrupt, DatabaseFailed, DatabaseTooNew

MIGRATIONS: Final[tuple[str, ...]] = ()
"""The scripts that lead from version 1 on. Each ends in `PRAGMA user_version = N;` with N one more than before."""

_FIRST_VERSION: Final = "PRAGMA user_version = 1;"


def migrate(conn: sqlite3.Connection, path: Path, scripts: Sequence[str] = MIGRATIONS) -> None:
    """Bring the database behind `conn` to the newest version; `path` is its file, beside which a copy is kept.

    An empty file gets the whole schema. A database of an older version is first copied to
    `<path>.before-version-<newest>`. Raises `DatabaseTooNew` for one of a newer rnd, `DatabaseCorrupt` for a file that
    holds another program's tables, `DatabaseFailed` where a script fails; the database is then as it was.
    """
    refuse_newer(conn, path, scripts)
    version, newest = read_version(conn), 1 + len(scripts)
    if version == 0:
        _refuse_foreign_tables(conn, path)
        schema = resources.files("rnd").joinpath("schema.sql").read_text(encoding="utf-8")
        _apply(conn, schema + _FIRST_VERSION, becomes=1)
        version = 1
    elif version < newest:
        _copy_beside(conn, path.with_name(f"{path.name}.before-version-{newest}"))
    for script in scripts[version - 1 :]:
        version += 1
        _apply(conn, script, becomes=version)


def refuse_newer(conn: sqlite3.Connection, path: Path, scripts: Sequence[str] = MIGRATIONS) -> None:
    """Raise `DatabaseTooNew` where the database has a version that this rnd does not know."""
    version, newest = read_version(conn), 1 + len(scripts)
    if version > newest:
        raise DatabaseTooNew(
            f"{path} has version {version} and this rnd knows versions up to {newest}: install the newer rnd again, "
            "or put the copy back that it made before it migrated."
        )


def read_version(conn: sqlite3.Connection) -> int:
    """Return the version of the schema; 0 for an empty database."""
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def _refuse_foreign_tables(conn: sqlite3.Connection, path: Path) -> None:
    count = conn.execute(
        """
        SELECT COUNT(*)
        FROM sqlite_master
        """
    ).fetchone()[0]
    if count:
        raise DatabaseCorrupt(f"{path} is an SQLite database, but not one of rnd: move it away or name another folder.")


def _apply(conn: sqlite3.Connection, script: str, *, becomes: int) -> None:
    # A script may rebuild a table that others refer to, so keys are checked once, at its end. The pragma has no effect
    # within a transaction.
    conn.execute("PRAGMA foreign_keys = OFF")
    try:
        conn.executescript("BEGIN IMMEDIATE;" + script)
        dangling = conn.execute("PRAGMA foreign_key_check").fetchall()
        if dangling or read_version(conn) != becomes:
            raise DatabaseFailed(f"The migration to version {becomes} left {len(dangling)} dangling foreign keys.")
        conn.execute("COMMIT")
    except sqlite3.Error as error:
        raise DatabaseFailed(f"The migration to version {becomes} failed: {error}") from error
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        conn.execute("PRAGMA foreign_keys = ON")


def _copy_beside(conn: sqlite3.Connection, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(part)) as copy:
        conn.backup(copy)
    # SQLite made the copy's content durable; the rename makes it a copy that can be trusted to be whole.
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
