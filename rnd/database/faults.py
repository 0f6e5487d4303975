"""What SQLite's result codes mean to rnd: errors about the database as a whole get names of their own."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from rnd.types.errors import DatabaseBusy, DatabaseCorrupt, DatabaseFailed, DatabaseFull, RndError

_FSYNC_FAILURES: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


def is_fsync_failure(error: BaseException) -> bool:
    """Return whether the system could not make a commit durable, after which its cache cannot be trusted either."""
    codes = (getattr(fault, "sqlite_errorcode", None) for fault in (error, error.__cause__))
    return any(code in _FSYNC_FAILURES for code in codes)


def named_error(error: BaseException, path: Path) -> BaseException:
    """Return rnd's own error for one that is about the database as a whole, and any other as it is."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            named: RndError = DatabaseBusy(
                f"{path} is locked by another program, such as an sqlite3 shell with an open transaction: end it there."
            )
        case sqlite3.SQLITE_FULL:
            named = DatabaseFull(f"No space is left for {path}.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            named = DatabaseCorrupt(
                f"{path} is damaged, or its disk cannot be read: {error}. Look at the disk; if it is well, put a backup back."
            )
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY:
            named = DatabaseFailed(f"{path} cannot be read or written: {error}")
        case _:
            return error
    named.__cause__ = error
    return named
