"""Peers that a job ordered by another peer exchanges bytes with: table `introductions`.

They are let in for the transfers of that job alone, until its hold ends, and only while the peer that ordered the job is
still allowed itself. The owner's denial of a peer stands above any introduction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from rnd.types.ids import JobExecutionId, PeerId
from rnd.types.times import from_text, to_text

_STANDING = """
    FROM introductions AS i
    JOIN job_executions AS je ON je.id = i.job_execution_id
    JOIN peers AS orderer ON orderer.peer_id = je.ordering_peer_id AND orderer.state = 'allowed'
    WHERE i.valid_until > :now
      AND NOT EXISTS (
        SELECT 1
        FROM peers AS denied
        WHERE denied.peer_id = i.peer_id
          AND denied.state = 'denied'
      )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """A row of `introductions`."""

    peer_id: PeerId
    job_execution_id: JobExecutionId
    valid_until: datetime


def introduce(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, peer_ids: Collection[PeerId], *, valid_until: datetime
) -> None:
    """Introduce the peers of a job until a time; for those that it has introduced before, the new time holds."""
    conn.executemany(
        """
        INSERT INTO introductions (peer_id, job_execution_id, valid_until)
        VALUES (:peer_id, :job_execution_id, :valid_until)
        ON CONFLICT (peer_id, job_execution_id) DO UPDATE
        SET valid_until = excluded.valid_until
        """,
        [
            {"peer_id": peer_id, "job_execution_id": job_execution_id, "valid_until": to_text(valid_until)}
            for peer_id in sorted(peer_ids)
        ],
    )


def set_end(conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, valid_until: datetime) -> int:
    """Let all introductions of a job hold until a time, as its hold does; return how many there are."""
    return conn.execute(
        """
        UPDATE introductions
        SET valid_until = :valid_until
        WHERE job_execution_id = :job_execution_id
        """,
        {"job_execution_id": job_execution_id, "valid_until": to_text(valid_until)},
    ).rowcount


def is_introduced(conn: sqlite3.Connection, peer_id: PeerId, *, now: datetime) -> bool:
    """Say whether some job introduces a peer at this time."""
    row = conn.execute(
        "SELECT 1" + _STANDING + "AND i.peer_id = :peer_id LIMIT 1", {"peer_id": peer_id, "now": to_text(now)}
    ).fetchone()
    return row is not None


def is_introduced_by(conn: sqlite3.Connection, orderer: PeerId, peer_id: PeerId, *, now: datetime) -> bool:
    """Say whether some job of one orderer introduces a peer at this time."""
    row = conn.execute(
        """
        SELECT 1
        FROM introductions AS i
        JOIN job_executions AS je ON je.id = i.job_execution_id
        WHERE i.peer_id = :peer_id
          AND i.valid_until > :now
          AND je.ordering_peer_id = :orderer
        LIMIT 1
        """,
        {"orderer": orderer, "peer_id": peer_id, "now": to_text(now)},
    ).fetchone()
    return row is not None


def count_introduced_by(conn: sqlite3.Connection, orderer: PeerId, *, now: datetime) -> int:
    """Return how many peers the jobs of one orderer introduce at this time."""
    row = conn.execute(
        """
        SELECT COUNT(DISTINCT i.peer_id)
        FROM job_executions AS je
        JOIN introductions AS i ON i.job_execution_id = je.id
        WHERE je.ordering_peer_id = :orderer
          AND i.valid_until > :now
        """,
        {"orderer": orderer, "now": to_text(now)},
    ).fetchone()
    return int(row[0])


def list_introductions(conn: sqlite3.Connection, peer_id: PeerId, *, now: datetime) -> list[Introduction]:
    """Return what introduces a peer at this time, by job: it may exchange the bytes of these jobs and no others."""
    rows = conn.execute(
        "SELECT i.peer_id, i.job_execution_id, i.valid_until"
        + _STANDING
        + "AND i.peer_id = :peer_id ORDER BY i.job_execution_id",
        {"peer_id": peer_id, "now": to_text(now)},
    )
    return [
        Introduction(
            peer_id=PeerId(row["peer_id"]),
            job_execution_id=JobExecutionId(row["job_execution_id"]),
            valid_until=from_text(row["valid_until"]),
        )
        for row in rows
    ]


def list_introduced_peers(conn: sqlite3.Connection, *, now: datetime) -> list[PeerId]:
    """Return every peer that some job introduces at this time."""
    rows = conn.execute("SELECT DISTINCT i.peer_id" + _STANDING + "ORDER BY i.peer_id", {"now": to_text(now)})
    return [PeerId(row["peer_id"]) for row in rows]


def forget_peer(conn: sqlite3.Connection, peer_id: PeerId) -> int:
    """Drop all introductions of a peer, whatever job they are for; return how many."""
    return conn.execute("DELETE FROM introductions WHERE peer_id = :peer_id", {"peer_id": peer_id}).rowcount


def drop_expired(conn: sqlite3.Connection, *, now: datetime) -> int:
    """Drop the introductions whose time is up; return how many."""
    return conn.execute("DELETE FROM introductions WHERE valid_until <= :now", {"now": to_text(now)}).rowcount
