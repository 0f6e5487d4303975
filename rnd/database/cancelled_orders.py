"""Orders that were cancelled before they came: table `cancelled_orders`. A request for one is refused when it comes.

What was acknowledged is never forgotten before its time, so a peer that has many of them is told to come again.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rnd.types.errors import LimitExceeded
from rnd.types.ids import ExecutionUid, NodeId, PeerId
from rnd.types.times import from_text, to_text

TOMBSTONES_OF_ONE_PEER: Final = 10_000
"""Ten of the largest executions, cancelled before any of their jobs came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledOrder:
    """A row of `cancelled_orders`: the tombstone of one order."""

    ordering_peer_id: PeerId
    execution_uid: ExecutionUid
    node_id: NodeId
    reason: str
    cancelled_at: datetime


def add_tombstone(
    conn: sqlite3.Connection,
    *,
    ordering_peer_id: PeerId,
    execution_uid: ExecutionUid,
    node_id: NodeId,
    reason: str,
    now: datetime,
) -> None:
    """Remember that an order is not to be taken; the first reason stays.

    Raises `LimitExceeded` where this peer has TOMBSTONES_OF_ONE_PEER already.
    """
    known = find_tombstone(conn, ordering_peer_id=ordering_peer_id, execution_uid=execution_uid, node_id=node_id)
    if known is not None:
        return
    count = conn.execute(
        "SELECT COUNT(*) FROM cancelled_orders WHERE ordering_peer_id = :peer_id", {"peer_id": ordering_peer_id}
    ).fetchone()[0]
    if count >= TOMBSTONES_OF_ONE_PEER:
        raise LimitExceeded(f"{count:,} of your orders were cancelled here before they came")
    conn.execute(
        """
        INSERT INTO cancelled_orders (ordering_peer_id, execution_uid, node_id, reason, cancelled_at)
        VALUES (:ordering_peer_id, :execution_uid, :node_id, :reason, :now)
        """,
        {
            "ordering_peer_id": ordering_peer_id,
            "execution_uid": execution_uid,
            "node_id": node_id,
            "reason": reason,
            "now": to_text(now),
        },
    )


def find_tombstone(
    conn: sqlite3.Connection, *, ordering_peer_id: PeerId, execution_uid: ExecutionUid, node_id: NodeId
) -> CancelledOrder | None:
    """Return the tombstone of an order; `None` if it was not cancelled before it came."""
    row = conn.execute(
        """
        SELECT ordering_peer_id, execution_uid, node_id, reason, cancelled_at
        FROM cancelled_orders
        WHERE ordering_peer_id = :ordering_peer_id
          AND execution_uid = :execution_uid
          AND node_id = :node_id
        """,
        {"ordering_peer_id": ordering_peer_id, "execution_uid": execution_uid, "node_id": node_id},
    ).fetchone()
    if row is None:
        return None
    return CancelledOrder(
        ordering_peer_id=PeerId(row["ordering_peer_id"]),
        execution_uid=ExecutionUid(row["execution_uid"]),
        node_id=NodeId(row["node_id"]),
        reason=row["reason"],
        cancelled_at=from_text(row["cancelled_at"]),
    )


def drop_older(conn: sqlite3.Connection, *, cancelled_before: datetime) -> int:
    """Drop tombstones of orders that were cancelled before that time; return how many."""
    return conn.execute(
        "DELETE FROM cancelled_orders WHERE cancelled_at < :before", {"before": to_text(cancelled_before)}
    ).rowcount
