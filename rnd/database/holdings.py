"""What orders hold on the disk of this peer, counted in rows: what was delivered here or is coming, and what jobs have written.

Nothing is walked to count it: a delivery has its size in its row before its first byte comes (table `transfers`), a job's
own files are measured while it runs and at its end (`job_executions.left_bytes`). Of a delivery that waits what has come of
it counts, and of one that has failed or was cancelled nothing: it leaves nothing here. The rows of another peer's orders go with
their folders when their hold is over. What lies in the folders besides is small: manifests, notes, an exit file a run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from rnd.types.config import Limits
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A limit on the bytes that something holds here, and how much that is; `words` name both for people."""

    held_bytes: int
    limit_bytes: int
    words: str
    frees_itself: bool = False
    """Whether room comes with time alone."""

    @property
    def room_bytes(self) -> int:
        """How much may come on top; negative where more is held than allowed."""
        return self.limit_bytes - self.held_bytes


def tightest_bound(
    conn: sqlite3.Connection,
    orderer: PeerId,
    execution_uid: ExecutionUid,
    *,
    self_peer_id: PeerId,
    limits: Limits,
) -> Bound:
    """Return which limit leaves an execution the least room."""
    bounds = bounds_of(conn, orderer, execution_uid, self_peer_id=self_peer_id, limits=limits)
    return min(bounds, key=lambda bound: bound.room_bytes)


def bounds_of(
    conn: sqlite3.Connection,
    orderer: PeerId,
    execution_uid: ExecutionUid,
    *,
    self_peer_id: PeerId,
    limits: Limits,
) -> list[Bound]:
    """Return the limits on an execution: its own, and where another peer has ordered it, that peer's, which frees itself."""
    held = held_by_execution(conn, orderer, execution_uid)
    own = Bound(
        held_bytes=held,
        limit_bytes=limits.execution_bytes,
        words=f"its execution holds {held:,} bytes on this peer, and limits.execution_bytes is {limits.execution_bytes:,}; "
        "split the workflow, have its data made smaller, or have the owner of this peer raise the limit",
    )
    if orderer == self_peer_id:
        return [own]
    held = held_for_peer(conn, orderer)
    whole = Bound(
        held_bytes=held,
        limit_bytes=limits.peer_bytes,
        words=f"the orders of peer {orderer} hold {held:,} bytes on this peer, and limits.peer_bytes is "
        f"{limits.peer_bytes:,}; wait until what has ended is let go of (hold_s after its end), or have the owner of this "
        "peer raise the limit",
        frees_itself=True,
    )
    return [own, whole]


def held_for_peer(conn: sqlite3.Connection, orderer: PeerId) -> int:
    """Return how many bytes the orders of another peer hold here."""
    row = conn.execute(
        """
        SELECT (
            SELECT COALESCE(SUM(CASE WHEN status IN ('ACTIVE', 'COMPLETED') THEN size_bytes WHEN status = 'PENDING' THEN bytes_done END), 0)
            FROM transfers
            WHERE ordering_peer_id = :orderer
              AND direction <> 'OUTGOING'
        ) + (
            SELECT COALESCE(SUM(left_bytes), 0)
            FROM job_executions
            WHERE ordering_peer_id = :orderer
              AND hold_s IS NOT NULL
        )
        """,
        {"orderer": orderer},
    ).fetchone()
    return int(row[0])


def held_by_execution(conn: sqlite3.Connection, orderer: PeerId, execution_uid: ExecutionUid) -> int:
    """Return how many bytes one execution holds here, whoever has ordered it."""
    row = conn.execute(
        """
        SELECT (
            SELECT COALESCE(SUM(CASE WHEN status IN ('ACTIVE', 'COMPLETED') THEN size_bytes WHEN status = 'PENDING' THEN bytes_done END), 0)
            FROM transfers
            WHERE ordering_peer_id = :orderer
              AND execution_uid = :execution_uid
              AND direction <> 'OUTGOING'
        ) + (
            SELECT COALESCE(SUM(left_bytes), 0)
            FROM job_executions
            WHERE ordering_peer_id = :orderer
              AND execution_uid = :execution_uid
        )
        """,
        {"orderer": orderer, "execution_uid": execution_uid},
    ).fetchone()
    return int(row[0])


def held_by_delivery(
    conn: sqlite3.Connection, orderer: PeerId, execution_uid: ExecutionUid, connection_id: ConnectionId
) -> int:
    """Return how many of these bytes are those of one delivery from another peer, there or expected."""
    row = conn.execute(
        """
        SELECT CASE WHEN status IN ('ACTIVE', 'COMPLETED') THEN size_bytes WHEN status = 'PENDING' THEN bytes_done ELSE 0 END
        FROM transfers
        WHERE ordering_peer_id = :orderer
          AND execution_uid = :execution_uid
          AND connection_id = :connection_id
          AND direction = 'INCOMING'
        """,
        {"orderer": orderer, "execution_uid": execution_uid, "connection_id": connection_id},
    ).fetchone()
    return 0 if row is None else int(row[0])


def count_jobs_of_orderer(conn: sqlite3.Connection, orderer: PeerId) -> int:
    """Return how many jobs of another peer have rows here, ended ones within their hold too."""
    row = conn.execute(
        """
        SELECT COUNT(*)
        FROM job_executions
        WHERE ordering_peer_id = :orderer
          AND hold_s IS NOT NULL
        """,
        {"orderer": orderer},
    ).fetchone()
    return int(row[0])


def set_left_bytes(conn: sqlite3.Connection, left_bytes: Mapping[JobExecutionId, int]) -> None:
    """Write down how much jobs of this peer have written into their folders."""
    conn.executemany(
        "UPDATE job_executions SET left_bytes = :bytes WHERE id = :id",
        [{"id": job_id, "bytes": count} for job_id, count in left_bytes.items()],
    )
