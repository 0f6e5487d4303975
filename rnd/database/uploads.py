"""Files that a client has uploaded and no service has taken yet: table `uploads`.

An execution may have an upload to send: its frozen definition names it then as a `source_path`, `upload:NAME`. Names
hold nothing that JSON would write in another way, so they are looked for in the definition's text.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from rnd.database.rows import page_of
from rnd.types.errors import Conflict, NotFound
from rnd.types.pages import Page
from rnd.types.times import from_text, to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A row of `uploads`; `id` only serves to page through them."""

    id: int
    name: str
    size_bytes: int
    sha256: str
    created_at: datetime
    used_at: datetime


def add_upload(conn: sqlite3.Connection, *, name: str, size_bytes: int, sha256: str, now: datetime) -> Upload:
    """List a file that has arrived whole. Raises `Conflict` where the name is taken."""
    row = conn.execute(
        """
        INSERT INTO uploads (name, size_bytes, sha256, created_at, used_at)
        VALUES (:name, :size_bytes, :sha256, :now, :now)
        ON CONFLICT (name) DO NOTHING
        RETURNING rowid AS id, name, size_bytes, sha256, created_at, used_at
        """,
        {"name": name, "size_bytes": size_bytes, "sha256": sha256, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise Conflict(f'An upload named "{name}" exists already', hint="Choose another name, or delete that upload.")
    return _upload(row)


def get_upload(conn: sqlite3.Connection, name: str) -> Upload:
    """Return one upload. Raises `NotFound`."""
    row = conn.execute(
        """
        SELECT rowid AS id, name, size_bytes, sha256, created_at, used_at
        FROM uploads
        WHERE name = :name
        """,
        {"name": name},
    ).fetchone()
    if row is None:
        raise _not_found(name)
    return _upload(row)


def list_uploads(conn: sqlite3.Connection, *, limit: int, after_id: int = 0) -> Page[Upload]:
    """Return one page of all uploads, oldest first."""
    rows = conn.execute(
        """
        SELECT rowid AS id, name, size_bytes, sha256, created_at, used_at
        FROM uploads
        WHERE rowid > :after_id
        ORDER BY rowid
        LIMIT :limit
        """,
        {"after_id": after_id, "limit": limit + 1},
    )
    items = [_upload(row) for row in rows]
    total = conn.execute(
        """
        SELECT COUNT(*)
        FROM uploads
        """
    ).fetchone()[0]
    return page_of(items, limit=limit, total=total, id_of=lambda upload: upload.id)


def touch_upload(conn: sqlite3.Connection, name: str, *, now: datetime) -> None:
    """Note that an upload is of use, which puts off its end. Raises `NotFound`."""
    row = conn.execute(
        """
        UPDATE uploads
        SET used_at = :now
        WHERE name = :name
        RETURNING name
        """,
        {"name": name, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(name)


def delete_upload(conn: sqlite3.Connection, name: str) -> None:
    """Take an upload off the list: a service has it now, or nobody wants it. Raises `NotFound`."""
    row = conn.execute(
        """
        DELETE FROM uploads
        WHERE name = :name
        RETURNING name
        """,
        {"name": name},
    ).fetchone()
    if row is None:
        raise _not_found(name)


def give_up_upload(conn: sqlite3.Connection, name: str) -> None:
    """Take an upload off the list if no execution has it to send. Raises `NotFound`, `Conflict`."""
    row = conn.execute(
        """
        SELECT id
        FROM workflow_executions
        WHERE status IN ('PENDING', 'RUNNING')
          AND instr(definition, :source) > 0
        """,
        {"source": f'"upload:{name}"'},
    ).fetchone()
    if row is not None:
        raise Conflict(
            f'Upload "{name}" is to be sent by execution {row["id"]}',
            hint="Wait for the end of that execution, or cancel it.",
        )
    delete_upload(conn, name)


def delete_unused_uploads(conn: sqlite3.Connection, *, before: datetime) -> list[str]:
    """Take uploads off the list that were last of use before that time and that no execution has to send.

    Returns their names.
    """
    rows = conn.execute(
        """
        DELETE FROM uploads
        WHERE used_at < :before
          AND NOT EXISTS (
            SELECT 1
            FROM workflow_executions
            WHERE status IN ('PENDING', 'RUNNING')
              AND instr(definition, '"upload:' || uploads.name || '"') > 0
          )
        RETURNING name
        """,
        {"before": to_text(before)},
    ).fetchall()
    return sorted(row["name"] for row in rows)


def _not_found(name: str) -> NotFound:
    return NotFound(f'Upload "{name}" not found')


def _upload(row: sqlite3.Row) -> Upload:
    return Upload(
        id=row["id"],
        name=row["name"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        created_at=from_text(row["created_at"]),
        used_at=from_text(row["used_at"]),
    )
