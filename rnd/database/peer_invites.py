"""One-time invites: table `peer_invites`. Neither the line nor its secret is here, only the key that checks a proof.

An invite is live for a peer while its time is not up, tries are left, and no other peer has used it. To find it, check the
proof, and count or use it belongs into one transaction, so that no two tries count as one.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from rnd.types.errors import StaleState
from rnd.types.ids import PeerId
from rnd.types.peers import PeerInvite
from rnd.types.times import from_text, to_text


def create_invite(
    conn: sqlite3.Connection, *, invite_id: str, key: bytes, expires_at: datetime, tries: int, now: datetime
) -> PeerInvite:
    """Keep what checks the proof of an invite."""
    row = conn.execute(
        """
        INSERT INTO peer_invites (invite_id, key, created_at, expires_at, tries_left)
        VALUES (:invite_id, :key, :now, :expires_at, :tries)
        RETURNING invite_id, key, expires_at, tries_left, used_by
        """,
        {
            "invite_id": invite_id,
            "key": key,
            "now": to_text(now),
            "expires_at": to_text(expires_at),
            "tries": tries,
        },
    ).fetchone()
    return _invite(row)


def find_live(conn: sqlite3.Connection, invite_id: str, *, peer_id: PeerId, now: datetime) -> PeerInvite | None:
    """Return an invite that is live for a peer; `None` if there is none."""
    row = conn.execute(
        """
        SELECT invite_id, key, expires_at, tries_left, used_by
        FROM peer_invites
        WHERE invite_id = :invite_id
          AND expires_at > :now
          AND tries_left > 0
          AND (used_by IS NULL OR used_by = :peer_id)
        """,
        {"invite_id": invite_id, "peer_id": peer_id, "now": to_text(now)},
    ).fetchone()
    return None if row is None else _invite(row)


def has_live(conn: sqlite3.Connection, *, peer_id: PeerId | None, now: datetime) -> bool:
    """Say whether any invite is live for a peer (`None`: for one that has used none)."""
    row = conn.execute(
        """
        SELECT 1
        FROM peer_invites
        WHERE expires_at > :now
          AND tries_left > 0
          AND (used_by IS NULL OR used_by = :peer_id)
        LIMIT 1
        """,
        {"peer_id": peer_id, "now": to_text(now)},
    ).fetchone()
    return row is not None


def count_failed_try(conn: sqlite3.Connection, invite_id: str) -> int:
    """Take one try off an invite, the last of which kills it; return how many are left."""
    row = conn.execute(
        """
        UPDATE peer_invites
        SET tries_left = tries_left - 1
        WHERE invite_id = :invite_id
          AND tries_left > 0
        RETURNING tries_left
        """,
        {"invite_id": invite_id},
    ).fetchone()
    return 0 if row is None else int(row["tries_left"])


def use_invite(conn: sqlite3.Connection, invite_id: str, *, peer_id: PeerId, now: datetime) -> PeerInvite:
    """Spend a live invite on a peer; that peer may use it again while it is valid.

    Raises `StaleState` where it is not live for that peer, or the owner denies the peer.
    """
    row = conn.execute(
        """
        UPDATE peer_invites
        SET used_by = :peer_id, used_at = COALESCE(used_at, :now)
        WHERE invite_id = :invite_id
          AND expires_at > :now
          AND tries_left > 0
          AND (used_by IS NULL OR used_by = :peer_id)
          AND NOT EXISTS (
            SELECT 1
            FROM peers
            WHERE peers.peer_id = :peer_id
              AND peers.state = 'denied'
          )
        RETURNING invite_id, key, expires_at, tries_left, used_by
        """,
        {"invite_id": invite_id, "peer_id": peer_id, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise StaleState(f"invite {invite_id} is not there for peer {peer_id} to use")
    return _invite(row)


def forget_used_by(conn: sqlite3.Connection, peer_id: PeerId) -> int:
    """Drop the invites that a peer has used, so that it cannot use them again; return how many."""
    return conn.execute("DELETE FROM peer_invites WHERE used_by = :peer_id", {"peer_id": peer_id}).rowcount


def drop_expired(conn: sqlite3.Connection, *, now: datetime) -> int:
    """Drop the invites that nobody can use any more; return how many."""
    return conn.execute(
        """
        DELETE FROM peer_invites
        WHERE expires_at <= :now
           OR tries_left <= 0
        """,
        {"now": to_text(now)},
    ).rowcount


def _invite(row: sqlite3.Row) -> PeerInvite:
    return PeerInvite(
        invite_id=row["invite_id"],
        key=bytes(row["key"]),
        expires_at=from_text(row["expires_at"]),
        tries_left=row["tries_left"],
        used_by=None if row["used_by"] is None else PeerId(row["used_by"]),
    )
