"""What `/metrics` counts: how much is there now, and what has happened since an event, summed up by SQLite.

Events say what happened; the rows that they name say of which kind it was. A row that is gone by now counts for nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from rnd.types.ids import JobExecutionId
from rnd.types.times import from_text


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedDeliveries:
    """Deliveries of one direction that have come to one end: how many, of how many bytes, and how many were results."""

    direction: str
    status: str
    count: int
    size_bytes: int
    results: int


def count_jobs(conn: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Return how many jobs of each type stand in each status, by `(status, type)`."""
    rows = conn.execute("SELECT status, service_type, COUNT(*) FROM job_executions GROUP BY status, service_type")
    return {(row[0], row[1]): row[2] for row in rows}


def count_letters(conn: sqlite3.Connection) -> int:
    """Return how much other peers have yet to be told."""
    return int(conn.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])


def count_allowed_peers(conn: sqlite3.Connection) -> int:
    """Return how many peers may be linked to."""
    return int(conn.execute("SELECT COUNT(*) FROM peers WHERE state = 'allowed'").fetchone()[0])


def count_ended_executions(conn: sqlite3.Connection, *, after_seq: int, to_seq: int) -> dict[str, int]:
    """Return how many executions have come to each end within a range of events."""
    rows = conn.execute(
        """
        SELECT json_extract(data, '$.status') AS status, COUNT(*)
        FROM events
        WHERE seq > :after_seq
          AND seq <= :to_seq
          AND type = 'execution.updated'
          AND json_extract(data, '$.status') IN ('COMPLETED', 'FAILED', 'CANCELLED')
        GROUP BY status
        """,
        {"after_seq": after_seq, "to_seq": to_seq},
    )
    return {row[0]: row[1] for row in rows}


def count_ended_jobs(conn: sqlite3.Connection, *, after_seq: int, to_seq: int) -> dict[tuple[str, str], int]:
    """Return how many jobs have come to each end within a range of events, by `(status, type)`."""
    rows = conn.execute(
        """
        SELECT json_extract(e.data, '$.status') AS status, je.service_type, COUNT(*)
        FROM events AS e
        CROSS JOIN job_executions AS je ON je.id = json_extract(e.data, '$.job_execution_id')
        WHERE e.seq > :after_seq
          AND e.seq <= :to_seq
          AND e.type = 'job.updated'
          AND json_extract(e.data, '$.status') IN ('COMPLETED', 'ERRORED', 'CANCELLED')
        GROUP BY status, je.service_type
        """,
        {"after_seq": after_seq, "to_seq": to_seq},
    )
    return {(row[0], row[1]): row[2] for row in rows}


def sum_ended_deliveries(conn: sqlite3.Connection, *, after_seq: int, to_seq: int) -> list[EndedDeliveries]:
    """Return the deliveries that have come to an end within a range of events."""
    rows = conn.execute(
        """
        SELECT t.direction, t.status, COUNT(*) AS count, SUM(t.size_bytes) AS size_bytes,
               COUNT(t.result_id) AS results
        FROM events AS e
        CROSS JOIN transfers AS t ON t.transfer_id = json_extract(e.data, '$.transfer_id')
        WHERE e.seq > :after_seq
          AND e.seq <= :to_seq
          AND e.type = 'transfer.progress'
          AND json_extract(e.data, '$.status') IN ('COMPLETED', 'FAILED', 'CANCELLED')
          AND t.status = json_extract(e.data, '$.status')
        GROUP BY t.direction, t.status
        """,
        {"after_seq": after_seq, "to_seq": to_seq},
    )
    return [
        EndedDeliveries(
            direction=row["direction"],
            status=row["status"],
            count=row["count"],
            size_bytes=row["size_bytes"],
            results=row["results"],
        )
        for row in rows
    ]


def list_queue_moves(
    conn: sqlite3.Connection, *, after_seq: int, to_seq: int
) -> list[tuple[JobExecutionId, str, datetime]]:
    """Return when jobs of this peer came into the queue and out of it within a range of events, in their order."""
    rows = conn.execute(
        """
        SELECT je.id, json_extract(e.data, '$.status') AS status, e.time
        FROM events AS e
        CROSS JOIN job_executions AS je ON je.id = json_extract(e.data, '$.job_execution_id')
        WHERE e.seq > :after_seq
          AND e.seq <= :to_seq
          AND e.type = 'job.updated'
          AND json_extract(e.data, '$.status') <> 'IDLE'
          AND je.remote_job_execution_id IS NULL
        ORDER BY e.seq
        """,
        {"after_seq": after_seq, "to_seq": to_seq},
    )
    return [(JobExecutionId(row["id"]), row["status"], from_text(row["time"])) for row in rows]


def transfer_rates(conn: sqlite3.Connection) -> dict[str, float]:
    """Return how fast the deliveries of each direction are that are under way, in bytes a second."""
    rows = conn.execute(
        """
        SELECT direction, SUM(COALESCE(rate_bytes_s, 0))
        FROM transfers
        WHERE status = 'ACTIVE'
        GROUP BY direction
        """
    )
    return {row[0]: row[1] for row in rows}
