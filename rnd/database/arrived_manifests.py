"""What has come from other peers before, by the SHA-256 of its manifest (design section 6)."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import Final

from rnd.types.ids import PeerId
from rnd.types.times import to_text

KEPT_FOR: Final = timedelta(days=30)
"""How long after it has last come content is recognised, where its folder is not deleted earlier."""


def remember(
    conn: sqlite3.Connection,
    *,
    sender: PeerId,
    orderer: PeerId,
    manifest_sha256: str,
    folder: str,
    now: datetime,
) -> None:
    """Write down where content has arrived, in place of where it arrived before; what came long ago is forgotten."""
    conn.execute(
        """
        INSERT INTO arrived_manifests (sender_peer_id, ordering_peer_id, manifest_sha256, folder, arrived_at)
        VALUES (:sender, :orderer, :manifest_sha256, :folder, :now)
        ON CONFLICT DO UPDATE SET folder = excluded.folder, arrived_at = excluded.arrived_at
        """,
        {
            "sender": sender,
            "orderer": orderer,
            "manifest_sha256": manifest_sha256,
            "folder": folder,
            "now": to_text(now),
        },
    )
    conn.execute("DELETE FROM arrived_manifests WHERE arrived_at < :long_ago", {"long_ago": to_text(now - KEPT_FOR)})


def find_folder(conn: sqlite3.Connection, *, sender: PeerId, orderer: PeerId, manifest_sha256: str) -> str | None:
    """Return the folder, relative to the data directory, in which content arrived; `None` if it never came, or is forgotten."""
    row = conn.execute(
        """
        SELECT folder
        FROM arrived_manifests
        WHERE sender_peer_id = :sender
          AND ordering_peer_id = :orderer
          AND manifest_sha256 = :manifest_sha256
        """,
        {"sender": sender, "orderer": orderer, "manifest_sha256": manifest_sha256},
    ).fetchone()
    return None if row is None else str(row[0])
