"""What other peers have yet to be told: table `outbox`.

A message is posted in the transaction of the change that it tells of, and struck out when the other peer has answered
that it is on record. Messages of one topic and key replace each other: only the newest state is worth telling.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rnd.types.ids import PeerId
from rnd.types.times import from_text, to_text

KEPT_S: Final = 7 * 24 * 3600.0
"""How long a peer may be away and still be told; as long as a workflow may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A row of `outbox`. `topic` is the type of the message, `body` its fields, `key` what it is about."""

    id: int
    peer_id: PeerId
    topic: str
    key: str
    body: Mapping[str, object]
    created_at: datetime
    expires_at: datetime
    attempts: int
    last_error: str | None


def post(
    conn: sqlite3.Connection,
    peer_id: PeerId,
    topic: str,
    key: str,
    body: Mapping[str, object],
    *,
    now: datetime,
    kept_s: float = KEPT_S,
) -> None:
    """Have a peer told; what it was to be told before of the same topic and key is dropped."""
    values = {
        "peer_id": peer_id,
        "topic": topic,
        "key": key,
        "body": json.dumps(body, ensure_ascii=False),
        "now": to_text(now),
        "expires_at": to_text(now + timedelta(seconds=kept_s)),
    }
    conn.execute("DELETE FROM outbox WHERE peer_id = :peer_id AND topic = :topic AND key = :key", values)
    conn.execute(
        """
        INSERT INTO outbox (peer_id, topic, key, body, created_at, expires_at)
        VALUES (:peer_id, :topic, :key, :body, :now, :expires_at)
        """,
        values,
    )


def list_letters(conn: sqlite3.Connection, peer_id: PeerId, *, after_id: int = 0, limit: int) -> list[Letter]:
    """Return what a peer is to be told, oldest first."""
    rows = conn.execute(
        """
        SELECT id, peer_id, topic, key, body, created_at, expires_at, attempts, last_error
        FROM outbox
        WHERE peer_id = :peer_id
          AND id > :after_id
        ORDER BY id
        LIMIT :limit
        """,
        {"peer_id": peer_id, "after_id": after_id, "limit": limit},
    ).fetchall()
    return [_letter(row) for row in rows]


def newest_letters(conn: sqlite3.Connection) -> list[tuple[PeerId, int]]:
    """Return the peers that are to be told something, each with the number of its newest letter."""
    rows = conn.execute("SELECT peer_id, MAX(id) FROM outbox GROUP BY peer_id ORDER BY peer_id").fetchall()
    return [(PeerId(row[0]), row[1]) for row in rows]


def strike_out(conn: sqlite3.Connection, letter_id: int) -> bool:
    """Drop a message that is on the other peer's record; False if a newer one has taken its place."""
    return conn.execute("DELETE FROM outbox WHERE id = :id", {"id": letter_id}).rowcount == 1


def note_failure(conn: sqlite3.Connection, letter_id: int, error: str) -> None:
    """Count an attempt that came to nothing, and why, for people who debug."""
    conn.execute(
        """
        UPDATE outbox
        SET attempts = attempts + 1, last_error = :error
        WHERE id = :id
        """,
        {"id": letter_id, "error": error},
    )


def drop_expired(conn: sqlite3.Connection, *, now: datetime) -> int:
    """Drop what nobody wants to know any more; return how many messages."""
    return conn.execute("DELETE FROM outbox WHERE expires_at < :now", {"now": to_text(now)}).rowcount


def drop_letters(conn: sqlite3.Connection, peer_id: PeerId) -> int:
    """Drop all that a peer has yet to be told; return how many messages."""
    return conn.execute("DELETE FROM outbox WHERE peer_id = :peer_id", {"peer_id": peer_id}).rowcount


def _letter(row: sqlite3.Row) -> Letter:
    return Letter(
        id=row["id"],
        peer_id=PeerId(row["peer_id"]),
        topic=row["topic"],
        key=row["key"],
        body=json.loads(row["body"]),
        created_at=from_text(row["created_at"]),
        expires_at=from_text(row["expires_at"]),
        attempts=row["attempts"],
        last_error=row["last_error"],
    )
