"""Deliveries along connections: table `transfers` (document: Transfer Protocol)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rnd.database.events import record_event
from rnd.database.rows import moment_or_none
from rnd.types.enums import EventType, TransferDirection, TransferStatus
from rnd.types.errors import NotFound, StaleState
from rnd.types.executions import Transfer
from rnd.types.ids import (
    ConnectionId,
    ExecutionId,
    ExecutionUid,
    InterfacePeerId,
    JobExecutionId,
    PeerId,
    ResultId,
    TransferId,
)
from rnd.types.pages import Page
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT rowid, transfer_id, direction, status, workflow_execution_id, ordering_peer_id, execution_uid, connection_id,
           source_peer_id, source_job_execution_id, dest_peer_id, dest_job_execution_id, source_peer_row_id, dest_peer_row_id,
           result_id, source_path, file_count, size_bytes, bytes_done, rate_bytes_s, progress_at, sealed, attempts, next_attempt_at,
           error, created_at, started_at, completed_at
    FROM transfers
"""
_COUNT = "SELECT COUNT(*) FROM transfers "
# One condition for each set of filters, so that each finds its index: (status given, execution given).
_MATCHING: Final = {
    (False, False): "WHERE rowid > :after_id",
    (True, False): "WHERE status = :status AND rowid > :after_id",
    (False, True): "WHERE workflow_execution_id = :execution_id AND rowid > :after_id",
    (True, True): "WHERE workflow_execution_id = :execution_id AND status = :status AND rowid > :after_id",
}

_FIRST_TO_EACH = """
    WHERE rowid IN (
        SELECT rowid
        FROM (
            SELECT rowid, ROW_NUMBER() OVER (PARTITION BY dest_peer_id ORDER BY created_at, rowid) AS place
            FROM transfers
            WHERE status IN ('PENDING', 'ACTIVE')
              AND status = 'PENDING'
              AND direction = 'OUTGOING'
        )
        WHERE place <= :each
    )
    ORDER BY created_at, rowid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTransfer:
    """A delivery to be made; each end's job id is that of its own peer (0: the self-peer)."""

    transfer_id: TransferId
    direction: TransferDirection
    workflow_execution_id: ExecutionId | None
    ordering_peer_id: PeerId
    execution_uid: ExecutionUid
    connection_id: ConnectionId
    source_peer_id: PeerId
    source_job_execution_id: JobExecutionId
    dest_peer_id: PeerId
    dest_job_execution_id: JobExecutionId
    source_peer_row_id: InterfacePeerId | None
    dest_peer_row_id: InterfacePeerId | None
    result_id: ResultId | None
    source_path: str | None


def create_transfer(conn: sqlite3.Connection, transfer: NewTransfer, *, now: datetime) -> bool:
    """Write down a delivery to be made; False if there is one for this connection and these ends already."""
    row = conn.execute(
        """
        INSERT INTO transfers (
            transfer_id, direction, status, workflow_execution_id, ordering_peer_id, execution_uid, connection_id,
            source_peer_id, source_job_execution_id, dest_peer_id, dest_job_execution_id, source_peer_row_id, dest_peer_row_id,
            result_id, source_path, created_at
        )
        VALUES (
            :transfer_id, :direction, 'PENDING', :execution_id, :ordering_peer_id, :execution_uid, :connection_id,
            :source_peer_id, :source_job, :dest_peer_id, :dest_job, :source_row, :dest_row,
            :result_id, :source_path, :now
        )
        ON CONFLICT DO NOTHING
        RETURNING transfer_id
        """,
        {
            "transfer_id": transfer.transfer_id,
            "direction": transfer.direction,
            "execution_id": transfer.workflow_execution_id,
            "ordering_peer_id": transfer.ordering_peer_id,
            "execution_uid": transfer.execution_uid,
            "connection_id": transfer.connection_id,
            "source_peer_id": transfer.source_peer_id,
            "source_job": transfer.source_job_execution_id,
            "dest_peer_id": transfer.dest_peer_id,
            "dest_job": transfer.dest_job_execution_id,
            "source_row": transfer.source_peer_row_id,
            "dest_row": transfer.dest_peer_row_id,
            "result_id": transfer.result_id,
            "source_path": transfer.source_path,
            "now": to_text(now),
        },
    ).fetchone()
    return row is not None


def get_transfer(conn: sqlite3.Connection, transfer_id: TransferId) -> Transfer:
    """Return one transfer. Raises `NotFound`."""
    row = conn.execute(_SELECT + "WHERE transfer_id = :id", {"id": transfer_id}).fetchone()
    if row is None:
        raise NotFound(f"Transfer {transfer_id} not found")
    return _transfer(row)


def list_transfers(
    conn: sqlite3.Connection,
    *,
    execution_id: ExecutionId | None = None,
    status: TransferStatus | None = None,
    limit: int,
    after_id: int,
) -> Page[Transfer]:
    """Return transfers in the order they were written down; `after_id` is the row number a page ended with."""
    values = {"status": status, "execution_id": execution_id, "after_id": after_id, "limit": limit + 1}
    matching = _MATCHING[status is not None, execution_id is not None]
    total = conn.execute(_COUNT + matching, values | {"after_id": 0}).fetchone()[0]
    rows = conn.execute(_SELECT + matching + " ORDER BY rowid LIMIT :limit", values).fetchall()
    last = rows[limit - 1]["rowid"] if len(rows) > limit else None
    return Page(items=[_transfer(row) for row in rows[:limit]], total=total, next_after_id=last)


def list_pending(conn: sqlite3.Connection, *, direction: TransferDirection, limit: int) -> list[Transfer]:
    """Return the oldest deliveries that nobody has begun."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE status IN ('PENDING', 'ACTIVE')
          AND status = 'PENDING'
          AND direction = :direction
        ORDER BY created_at, rowid
        LIMIT :limit
        """,
        {"direction": direction, "limit": limit},
    ).fetchall()
    return [_transfer(row) for row in rows]


def list_pending_outgoing(conn: sqlite3.Connection, *, each: int) -> list[Transfer]:
    """Return the oldest deliveries to other peers that nobody has begun, of each receiver so many at most."""
    rows = conn.execute(
        _SELECT + _FIRST_TO_EACH,
        {"each": each},
    ).fetchall()
    return [_transfer(row) for row in rows]


def find_pending(
    conn: sqlite3.Connection, *, source_job: JobExecutionId, connection_id: ConnectionId, dest_job: JobExecutionId
) -> TransferId | None:
    """Return the delivery that a job of this peer owes along a connection and nobody has begun; `None` without one."""
    row = conn.execute(
        """
        SELECT transfer_id
        FROM transfers
        WHERE source_job_execution_id = :source_job
          AND direction IN ('LOCAL', 'OUTGOING')
          AND connection_id = :connection_id
          AND dest_job_execution_id = :dest_job
          AND status = 'PENDING'
        """,
        {"source_job": source_job, "connection_id": connection_id, "dest_job": dest_job},
    ).fetchone()
    return None if row is None else TransferId(row[0])


def list_by_source_job(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> list[Transfer]:
    """Return every delivery that a job of this peer owes or has made."""
    rows = conn.execute(
        _SELECT + "WHERE source_job_execution_id = :id AND direction IN ('LOCAL', 'OUTGOING') ORDER BY rowid",
        {"id": job_execution_id},
    ).fetchall()
    return [_transfer(row) for row in rows]


def list_by_dest_job(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> list[Transfer]:
    """Return every delivery that a job of this peer waits for or has got."""
    rows = conn.execute(
        _SELECT + "WHERE dest_job_execution_id = :id AND direction IN ('LOCAL', 'INCOMING') ORDER BY rowid",
        {"id": job_execution_id},
    ).fetchall()
    return [_transfer(row) for row in rows]


def count_active(conn: sqlite3.Connection) -> int:
    """Return how many deliveries are under way."""
    row = conn.execute(
        "SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE') AND status = 'ACTIVE'"
    ).fetchone()
    return int(row[0])


def list_active(conn: sqlite3.Connection) -> frozenset[TransferId]:
    """Return which deliveries are under way."""
    rows = conn.execute(
        "SELECT transfer_id FROM transfers WHERE status IN ('PENDING', 'ACTIVE') AND status = 'ACTIVE'"
    ).fetchall()
    return frozenset(TransferId(row[0]) for row in rows)


def count_open(conn: sqlite3.Connection) -> int:
    """Return how many deliveries have not ended."""
    row = conn.execute("SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE')").fetchone()
    return int(row[0])


def mark_active(conn: sqlite3.Connection, transfer_id: TransferId, *, now: datetime) -> Transfer:
    """PENDING -> ACTIVE, the claim of a worker; counts an attempt. Raises `StaleState`."""
    changed = conn.execute(
        """
        UPDATE transfers
        SET status = 'ACTIVE', started_at = :now, attempts = attempts + 1, bytes_done = 0, rate_bytes_s = NULL,
            progress_at = NULL, next_attempt_at = NULL, error = NULL
        WHERE transfer_id = :id
          AND status = 'PENDING'
        """,
        {"id": transfer_id, "now": to_text(now)},
    ).rowcount
    if not changed:
        raise StaleState(f"transfer {transfer_id} is not PENDING")
    return get_transfer(conn, transfer_id)


def set_progress(
    conn: sqlite3.Connection,
    transfer_id: TransferId,
    *,
    file_count: int,
    size_bytes: int,
    bytes_done: int,
    rate_bytes_s: float,
    sealed: bool = False,
    held_up: str | None = None,
    now: datetime,
) -> None:
    """Note how far a delivery is, or what holds it up, and tell it; nothing is decided by this note."""
    changed = conn.execute(
        """
        UPDATE transfers
        SET file_count = :file_count, size_bytes = :size_bytes, bytes_done = :bytes_done, rate_bytes_s = :rate_bytes_s,
            progress_at = :now, sealed = :sealed, error = :held_up
        WHERE transfer_id = :id
          AND status = 'ACTIVE'
        """,
        {
            "id": transfer_id,
            "file_count": file_count,
            "size_bytes": size_bytes,
            "bytes_done": bytes_done,
            "rate_bytes_s": rate_bytes_s,
            "sealed": sealed,
            "held_up": held_up,
            "now": to_text(now),
        },
    ).rowcount
    if changed:
        _announce(conn, transfer_id, now=now)


def set_hold_up(conn: sqlite3.Connection, words: str | None, *, direction: TransferDirection, now: datetime) -> None:
    """Note on every delivery that nobody has begun why it may not begin; `None` takes the note back."""
    rows = conn.execute(
        """
        UPDATE transfers
        SET error = :words
        WHERE status IN ('PENDING', 'ACTIVE')
          AND status = 'PENDING'
          AND direction = :direction
          AND error IS NOT :words
        RETURNING transfer_id
        """,
        {"words": words, "direction": direction},
    ).fetchall()
    for row in rows:
        _announce(conn, TransferId(row[0]), now=now)


def mark_completed(
    conn: sqlite3.Connection,
    transfer_id: TransferId,
    *,
    file_count: int,
    size_bytes: int,
    started_at: datetime,
    rate_bytes_s: float | None = None,
    sealed: bool = False,
    now: datetime,
) -> Transfer:
    """PENDING or ACTIVE -> COMPLETED: all of it is whole, verified and durable in its place. Raises `StaleState`.

    A quick delivery never was ACTIVE; `started_at` stands for what that would have written down.
    """
    changed = conn.execute(
        """
        UPDATE transfers
        SET status = 'COMPLETED', file_count = :file_count, size_bytes = :size_bytes, bytes_done = :size_bytes,
            attempts = attempts + (status = 'PENDING'), started_at = COALESCE(started_at, :started_at), completed_at = :now,
            rate_bytes_s = :rate_bytes_s, sealed = :sealed, progress_at = NULL, next_attempt_at = NULL, error = NULL
        WHERE transfer_id = :id
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {
            "id": transfer_id,
            "sealed": sealed,
            "file_count": file_count,
            "size_bytes": size_bytes,
            "started_at": to_text(started_at),
            "rate_bytes_s": rate_bytes_s,
            "now": to_text(now),
        },
    ).rowcount
    if not changed:
        raise StaleState(f"transfer {transfer_id} has ended already")
    return _announce(conn, transfer_id, now=now)


def mark_ended(
    conn: sqlite3.Connection, transfer_id: TransferId, status: TransferStatus, error: str, *, now: datetime
) -> Transfer:
    """PENDING or ACTIVE -> FAILED or CANCELLED, for good. Raises `StaleState`."""
    changed = conn.execute(
        """
        UPDATE transfers
        SET status = :status, error = :error, completed_at = :now, rate_bytes_s = NULL, progress_at = NULL,
            next_attempt_at = NULL
        WHERE transfer_id = :id
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {"id": transfer_id, "status": status, "error": error, "now": to_text(now)},
    ).rowcount
    if not changed:
        raise StaleState(f"transfer {transfer_id} has ended already")
    return _announce(conn, transfer_id, now=now)


def put_back(
    conn: sqlite3.Connection,
    transfer_id: TransferId,
    words: str,
    *,
    bytes_done: int = 0,
    next_attempt_at: datetime | None = None,
    now: datetime,
) -> bool:
    """PENDING or ACTIVE -> PENDING: an attempt came to nothing, and why; it counts, if it had not been told to be ACTIVE too.

    `bytes_done` is how much of it need not come again; `next_attempt_at` is for people alone. Nothing happens to one that has ended: False.
    """
    changed = conn.execute(
        """
        UPDATE transfers
        SET status = 'PENDING', error = :words, bytes_done = MIN(:bytes_done, size_bytes), rate_bytes_s = NULL,
            progress_at = NULL, attempts = attempts + (status = 'PENDING'), next_attempt_at = :next_attempt_at
        WHERE transfer_id = :id
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {
            "id": transfer_id,
            "words": words,
            "bytes_done": bytes_done,
            "next_attempt_at": None if next_attempt_at is None else to_text(next_attempt_at),
        },
    ).rowcount
    if changed:
        _announce(conn, transfer_id, now=now)
    return changed > 0


def open_incoming(
    conn: sqlite3.Connection,
    transfer: NewTransfer,
    *,
    file_count: int = 0,
    size_bytes: int = 0,
    bytes_done: int = 0,
    now: datetime,
) -> Transfer | None:
    """Take on a delivery that another peer offers: a new row, or the one of an earlier attempt, ACTIVE.

    `bytes_done` is what has come of it already.

    `None` where it has ended for this connection, or its id is another delivery's.
    """
    create_transfer(conn, transfer, now=now)
    row = conn.execute(
        """
        UPDATE transfers
        SET status = 'ACTIVE', transfer_id = :transfer_id, started_at = COALESCE(started_at, :now),
            attempts = attempts + 1, file_count = :file_count, size_bytes = :size_bytes, bytes_done = :bytes_done,
            rate_bytes_s = NULL, progress_at = NULL, error = NULL
        WHERE ordering_peer_id = :ordering_peer_id
          AND execution_uid = :execution_uid
          AND connection_id = :connection_id
          AND direction = 'INCOMING'
          AND status IN ('PENDING', 'ACTIVE', 'FAILED')
          AND NOT EXISTS (
              SELECT 1
              FROM transfers AS other
              WHERE other.transfer_id = :transfer_id
                AND other.rowid <> transfers.rowid
          )
        RETURNING transfer_id
        """,
        {
            "transfer_id": transfer.transfer_id,
            "ordering_peer_id": transfer.ordering_peer_id,
            "execution_uid": transfer.execution_uid,
            "connection_id": transfer.connection_id,
            "file_count": file_count,
            "size_bytes": size_bytes,
            "bytes_done": bytes_done,
            "now": to_text(now),
        },
    ).fetchone()
    return None if row is None else _announce(conn, TransferId(row[0]), now=now)


def requeue_active(conn: sqlite3.Connection, *, direction: TransferDirection) -> int:
    """ACTIVE -> PENDING for every delivery that a stopped daemon was making; return how many."""
    return conn.execute(
        """
        UPDATE transfers
        SET status = 'PENDING', bytes_done = CASE direction WHEN 'LOCAL' THEN 0 ELSE bytes_done END, rate_bytes_s = NULL,
            progress_at = NULL
        WHERE status IN ('PENDING', 'ACTIVE')
          AND status = 'ACTIVE'
          AND direction = :direction
        """,
        {"direction": direction},
    ).rowcount


def list_open_of_job(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> list[TransferId]:
    """Return the unfinished deliveries to and from a job."""
    rows = conn.execute(
        """
        SELECT transfer_id
        FROM transfers
        WHERE source_job_execution_id = :id
          AND direction IN ('LOCAL', 'OUTGOING')
          AND status IN ('PENDING', 'ACTIVE')
        UNION
        SELECT transfer_id
        FROM transfers
        WHERE dest_job_execution_id = :id
          AND direction IN ('LOCAL', 'INCOMING')
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {"id": job_execution_id},
    ).fetchall()
    return [TransferId(row[0]) for row in rows]


def list_open_to_remote_job(
    conn: sqlite3.Connection, peer_id: PeerId, job_execution_id: JobExecutionId
) -> list[TransferId]:
    """Return the unfinished deliveries to a job of another peer."""
    rows = conn.execute(
        """
        SELECT transfer_id
        FROM transfers
        WHERE dest_job_execution_id = :id
          AND dest_peer_id = :peer_id
          AND direction = 'OUTGOING'
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {"id": job_execution_id, "peer_id": peer_id},
    ).fetchall()
    return [TransferId(row[0]) for row in rows]


def list_open_from_remote_job(
    conn: sqlite3.Connection, peer_id: PeerId, job_execution_id: JobExecutionId
) -> list[Transfer]:
    """Return the unfinished deliveries from a job of another peer."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE source_job_execution_id = :id
          AND source_peer_id = :peer_id
          AND direction = 'INCOMING'
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {"id": job_execution_id, "peer_id": peer_id},
    ).fetchall()
    return [_transfer(row) for row in rows]


def list_open_of_execution(conn: sqlite3.Connection, execution_id: ExecutionId) -> list[TransferId]:
    """Return the unfinished deliveries of an own execution."""
    rows = conn.execute(
        """
        SELECT transfer_id
        FROM transfers
        WHERE workflow_execution_id = :id
          AND status IN ('PENDING', 'ACTIVE')
        """,
        {"id": execution_id},
    ).fetchall()
    return [TransferId(row[0]) for row in rows]


def _announce(conn: sqlite3.Connection, transfer_id: TransferId, *, now: datetime) -> Transfer:
    transfer = get_transfer(conn, transfer_id)
    record_event(
        conn,
        EventType.TRANSFER_PROGRESS,
        {
            "transfer_id": transfer_id,
            "execution_id": transfer.workflow_execution_id,
            "connection_id": transfer.connection_id,
            "status": transfer.status,
            "bytes_done": transfer.bytes_done,
            "size_bytes": transfer.size_bytes,
            "rate_bytes_s": transfer.rate_bytes_s,
            "left_s": transfer.left_s(now),
            "attempts": transfer.attempts,
            "next_attempt_at": None if transfer.next_attempt_at is None else to_text(transfer.next_attempt_at),
            "error": transfer.error,
        },
        execution_id=transfer.workflow_execution_id,
        now=now,
    )
    return transfer


def _transfer(row: sqlite3.Row) -> Transfer:
    execution_id, source_row, dest_row, result = (
        row["workflow_execution_id"],
        row["source_peer_row_id"],
        row["dest_peer_row_id"],
        row["result_id"],
    )
    return Transfer(
        transfer_id=TransferId(row["transfer_id"]),
        direction=TransferDirection(row["direction"]),
        status=TransferStatus(row["status"]),
        workflow_execution_id=None if execution_id is None else ExecutionId(execution_id),
        ordering_peer_id=PeerId(row["ordering_peer_id"]),
        execution_uid=ExecutionUid(row["execution_uid"]),
        connection_id=ConnectionId(row["connection_id"]),
        source_peer_id=PeerId(row["source_peer_id"]),
        source_job_execution_id=JobExecutionId(row["source_job_execution_id"]),
        dest_peer_id=PeerId(row["dest_peer_id"]),
        dest_job_execution_id=JobExecutionId(row["dest_job_execution_id"]),
        source_peer_row_id=None if source_row is None else InterfacePeerId(source_row),
        dest_peer_row_id=None if dest_row is None else InterfacePeerId(dest_row),
        result_id=None if result is None else ResultId(result),
        source_path=row["source_path"],
        file_count=row["file_count"],
        size_bytes=row["size_bytes"],
        bytes_done=row["bytes_done"],
        rate_bytes_s=row["rate_bytes_s"],
        progress_at=moment_or_none(row["progress_at"]),
        sealed=bool(row["sealed"]),
        attempts=row["attempts"],
        next_attempt_at=moment_or_none(row["next_attempt_at"]),
        error=row["error"],
        created_at=from_text(row["created_at"]),
        started_at=moment_or_none(row["started_at"]),
        completed_at=moment_or_none(row["completed_at"]),
    )
