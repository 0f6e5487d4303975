"""Numbered news of committed changes: table `events`. Recorded in the transaction of the change itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from rnd.types.enums import EventType
from rnd.types.events import Event
from rnd.types.ids import ExecutionId
from rnd.types.times import from_text, to_text

_LIST: Final = """
    SELECT seq, time, type, workflow_execution_id, data
    FROM events
    WHERE seq > :after_seq
      AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types)))
    ORDER BY seq
    LIMIT :limit
"""
# A statement of its own, because one for both cases could not use the index.
_LIST_OF_EXECUTION: Final = """
    SELECT seq, time, type, workflow_execution_id, data
    FROM events
    WHERE workflow_execution_id = :execution_id
      AND seq > :after_seq
      AND (:types IS NULL OR type IN (SELECT value FROM json_each(:types)))
    ORDER BY seq
    LIMIT :limit
"""

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
PRUNED_ROWS: Final = 5_000
"""How many events one call of `prune_events` deletes at most, so that it never holds up the writer for long."""


def record_event(
    conn: sqlite3.Connection,
    event_type: EventType,
    data: Mapping[str, object],
    *,
    execution_id: ExecutionId | None,
    now: datetime,
) -> int:
    """Record what has just been changed in this transaction and return its number; `data` is what JSON can hold."""
    cursor = conn.execute(
        """
        INSERT INTO events (time, type, workflow_execution_id, data)
        VALUES (:time, :type, :execution_id, :data)
        """,
        {
            "time": to_text(now),
            "type": event_type,
            "execution_id": execution_id,
            "data": _ENCODER.encode(data),
        },
    )
    seq = cursor.lastrowid
    assert seq is not None  # an INSERT into a table with row ids always has one
    return seq


def record_events(
    conn: sqlite3.Connection,
    event_type: EventType,
    news: Iterable[tuple[Mapping[str, object], ExecutionId | None]],
    *,
    now: datetime,
) -> None:
    """Record several changes of one kind, each with its own execution, as `record_event` does."""
    time_text, type_text = to_text(now), event_type.value
    conn.executemany(
        """
        INSERT INTO events (time, type, workflow_execution_id, data)
        VALUES (?, ?, ?, ?)
        """,
        [(time_text, type_text, execution_id, _ENCODER.encode(data)) for data, execution_id in news],
    )


def list_events(
    conn: sqlite3.Connection,
    *,
    after_seq: int,
    types: Collection[EventType] | None = None,
    execution_id: ExecutionId | None = None,
    limit: int,
) -> list[Event]:
    """Return up to `limit` retained events after `after_seq`, oldest first; `types` of `None` means every type."""
    rows = conn.execute(
        _LIST if execution_id is None else _LIST_OF_EXECUTION,
        {
            "after_seq": after_seq,
            "types": None if types is None else json.dumps(sorted(types)),
            "execution_id": execution_id,
            "limit": limit,
        },
    )
    return [_event(row) for row in rows]


def oldest_seq(conn: sqlite3.Connection) -> int:
    """Return the number of the oldest retained event; one past `newest_seq` where none is.

    Whoever has read up to `after_seq` has missed something if `after_seq + 1 < oldest_seq`.
    """
    row = conn.execute(
        """
        SELECT MIN(seq)
        FROM events
        """
    ).fetchone()
    return newest_seq(conn) + 1 if row[0] is None else int(row[0])


def newest_seq(conn: sqlite3.Connection) -> int:
    """Return the number that was given last; 0 before the first."""
    row = conn.execute(
        """
        SELECT seq
        FROM sqlite_sequence
        WHERE name = 'events'
        """
    ).fetchone()
    return 0 if row is None else int(row[0])


def prune_events(conn: sqlite3.Connection, keep: int) -> int:
    """Delete the oldest events beyond the newest `keep`, at most `PRUNED_ROWS` of them; return how many went."""
    return conn.execute(
        """
        DELETE FROM events
        WHERE seq <= (SELECT MAX(seq) FROM events) - :keep
          AND seq < (SELECT MIN(seq) FROM events) + :at_most
        """,
        {"keep": keep, "at_most": PRUNED_ROWS},
    ).rowcount


def _event(row: sqlite3.Row) -> Event:
    return Event(
        seq=row["seq"],
        time=from_text(row["time"]),
        type=EventType(row["type"]),
        execution_id=row["workflow_execution_id"],
        data=json.loads(row["data"]),
    )
