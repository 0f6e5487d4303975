"""Where deliveries of other peers have arrived: table `arrived_folders` (design section 6). What came there stands in the manifest
beside each folder, so that a delivery costs one row here, whatever the number of its files.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rnd.types.ids import PeerId
from rnd.types.times import to_text

KEPT_FOR: Final = timedelta(days=30)
"""How long after it has come a delivery is remembered, where its folder is not deleted earlier."""
OF_TWO_MAX: Final = 256
"""How many deliveries of one sender for one orderer are remembered: the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedFolder:
    """A folder, relative to the data directory, in which so many entries have arrived; perhaps deleted or changed since."""

    id: int
    folder: str
    entry_count: int


def knows_any(conn: sqlite3.Connection, *, sender: PeerId, orderer: PeerId) -> bool:
    """Say whether it is remembered that this sender has sent anything for this orderer."""
    row = conn.execute(
        """
        SELECT EXISTS (
            SELECT 1
            FROM arrived_folders
            WHERE sender_peer_id = :sender
              AND ordering_peer_id = :orderer
        )
        """,
        {"sender": sender, "orderer": orderer},
    ).fetchone()
    return bool(row[0])


def list_folders(conn: sqlite3.Connection, *, sender: PeerId, orderer: PeerId) -> list[ArrivedFolder]:
    """Return where this sender has sent something for this orderer, the newest first."""
    rows = conn.execute(
        """
        SELECT id, folder, entry_count
        FROM arrived_folders
        WHERE sender_peer_id = :sender
          AND ordering_peer_id = :orderer
        ORDER BY id DESC
        LIMIT :limit
        """,
        {"sender": sender, "orderer": orderer, "limit": OF_TWO_MAX},
    ).fetchall()
    return [ArrivedFolder(id=row["id"], folder=row["folder"], entry_count=row["entry_count"]) for row in rows]


def list_all(conn: sqlite3.Connection) -> list[str]:
    """Return every folder in which something has arrived, the newest first."""
    return [row["folder"] for row in conn.execute("SELECT folder FROM arrived_folders ORDER BY id DESC").fetchall()]


def remember(
    conn: sqlite3.Connection, folder: str, *, sender: PeerId, orderer: PeerId, entry_count: int, now: datetime
) -> None:
    """Write down where a delivery has arrived; what came long ago is forgotten, and what is too much of these two."""
    whose = {"sender": sender, "orderer": orderer}
    conn.execute(
        """
        INSERT INTO arrived_folders (sender_peer_id, ordering_peer_id, folder, entry_count, arrived_at)
        VALUES (:sender, :orderer, :folder, :entry_count, :now)
        """,
        {**whose, "folder": folder, "entry_count": entry_count, "now": to_text(now)},
    )
    conn.execute(
        """
        DELETE FROM arrived_folders
        WHERE id IN (
            SELECT id
            FROM arrived_folders
            WHERE sender_peer_id = :sender
              AND ordering_peer_id = :orderer
            ORDER BY id DESC
            LIMIT -1 OFFSET :most
        )
        """,
        {**whose, "most": OF_TWO_MAX},
    )
    conn.execute("DELETE FROM arrived_folders WHERE arrived_at < :long_ago", {"long_ago": to_text(now - KEPT_FOR)})


def forget(conn: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Strike folders out that are not there any more."""
    conn.execute(
        """
        DELETE FROM arrived_folders
        WHERE id IN (SELECT value FROM json_each(:ids))
        """,
        {"ids": json.dumps(ids)},
    )
