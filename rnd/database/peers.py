"""Other peers that the owner has a word on: table `peers`. Every change is told as `peer.updated`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from rnd.database import address_records, grants, introductions, outbox, peer_invites
from rnd.database.events import record_event
from rnd.database.rows import moment_or_none, page_of
from rnd.types.enums import EventType, PeerState
from rnd.types.errors import Conflict, LimitExceeded, NotFound
from rnd.types.ids import PeerId
from rnd.types.pages import Page
from rnd.types.peers import Peer
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
    FROM peers
"""
_MATCHING = """
    WHERE (:state IS NULL OR state = :state)
"""
_COUNT = """
    SELECT COUNT(*)
    FROM peers
"""


def add_peer(
    conn: sqlite3.Connection,
    peer_id: PeerId,
    *,
    self_peer_id: PeerId,
    state: PeerState,
    name: str = "",
    addresses: Sequence[str] = (),
    now: datetime,
) -> Peer:
    """Take a peer in on the operator's word. Raises `Conflict` where it is known already or is this peer itself."""
    _refuse_self(peer_id, self_peer_id)
    row = conn.execute(
        """
        INSERT INTO peers (peer_id, name, state, addresses, created_at, updated_at)
        VALUES (:peer_id, :name, :state, :addresses, :now, :now)
        ON CONFLICT (peer_id) DO NOTHING
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {
            "peer_id": peer_id,
            "name": name,
            "state": state,
            "addresses": json.dumps(list(addresses)),
            "now": to_text(now),
        },
    ).fetchone()
    if row is None:
        raise Conflict(
            f"Peer {peer_id} is known already",
            hint="peer.set_state, peer.rename and peer.set_addresses change it, peer.remove forgets it.",
        )
    return _told(conn, _peer(row), "added", now=now)


def pair_peer(
    conn: sqlite3.Connection,
    peer_id: PeerId,
    *,
    self_peer_id: PeerId,
    name: str,
    addresses: Sequence[str] = (),
    now: datetime,
) -> Peer:
    """Allow a peer that an invite has brought, known before or not; repeating it changes nothing.

    A name that it has here stays; addresses take the place of older ones, unless none are given. Raises `Conflict`
    where the owner denies that peer, or it is this peer itself.
    """
    _refuse_self(peer_id, self_peer_id)
    row = conn.execute(
        """
        INSERT INTO peers (peer_id, name, state, addresses, created_at, updated_at)
        VALUES (:peer_id, :name, 'allowed', :addresses, :now, :now)
        ON CONFLICT (peer_id) DO UPDATE
        SET state = 'allowed',
            name = CASE peers.name WHEN '' THEN excluded.name ELSE peers.name END,
            addresses = CASE excluded.addresses WHEN '[]' THEN peers.addresses ELSE excluded.addresses END,
            updated_at = excluded.updated_at
        WHERE peers.state <> 'denied'
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {"peer_id": peer_id, "name": name, "addresses": json.dumps(list(addresses)), "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise Conflict(f"Peer {peer_id} is denied here", hint="Set its state to allowed if it is to come in after all.")
    return _told(conn, _peer(row), "paired", now=now)


def find_peer(conn: sqlite3.Connection, peer_id: PeerId) -> Peer | None:
    """Return a peer; `None` where the owner has no word on it."""
    row = conn.execute(_SELECT + "WHERE peer_id = :peer_id", {"peer_id": peer_id}).fetchone()
    return None if row is None else _peer(row)


def get_peer(conn: sqlite3.Connection, peer_id: PeerId) -> Peer:
    """Return a peer. Raises `NotFound`."""
    peer = find_peer(conn, peer_id)
    if peer is None:
        raise _not_found(peer_id)
    return peer


def require_room(conn: sqlite3.Connection, peer_id: PeerId | None, *, limit: int) -> None:
    """Raise `LimitExceeded` where `limit` peers are known already; `None` stands for one that is not known yet.

    Denied peers do not count, so that there is always room to keep somebody out; nor does the peer itself.
    """
    row = conn.execute(
        """
        SELECT COUNT(*)
        FROM peers
        WHERE state <> 'denied'
          AND peer_id IS NOT :peer_id
        """,
        {"peer_id": peer_id},
    ).fetchone()
    if row[0] >= limit:
        raise LimitExceeded(
            f"A peer knows at most {limit} others",
            hint="Remove one that is not needed any more, or raise limits.peers in the configuration.",
        )


def list_peers(conn: sqlite3.Connection, *, state: PeerState | None = None) -> list[Peer]:
    """Return all peers in a state, or all there are, oldest first."""
    rows = conn.execute(_SELECT + _MATCHING + "ORDER BY id", {"state": state})
    return [_peer(row) for row in rows]


def page_peers(
    conn: sqlite3.Connection, *, state: PeerState | None = None, limit: int, after_id: int = 0
) -> Page[Peer]:
    """Return one page of the peers in a state, or of all, oldest first."""
    rows = conn.execute(
        _SELECT
        + _MATCHING
        + """
          AND id > :after_id
        ORDER BY id
        LIMIT :limit
        """,
        {"state": state, "after_id": after_id, "limit": limit + 1},
    )
    items = [_peer(row) for row in rows]
    total = conn.execute(_COUNT + _MATCHING, {"state": state}).fetchone()[0]
    return page_of(items, limit=limit, total=total, id_of=lambda peer: peer.id)


def set_state(conn: sqlite3.Connection, peer_id: PeerId, state: PeerState, *, now: datetime) -> Peer:
    """Let a peer in or keep it out; return it. Raises `NotFound`.

    Whoever is not allowed any more cannot come back by the invite that it has used. Its grants stay, for the day it is
    allowed again.
    """
    row = conn.execute(
        """
        UPDATE peers
        SET state = :state, updated_at = :now
        WHERE peer_id = :peer_id
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {"peer_id": peer_id, "state": state, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(peer_id)
    if state is not PeerState.ALLOWED:
        peer_invites.forget_used_by(conn, peer_id)
    return _told(conn, _peer(row), "state", now=now)


def rename_peer(conn: sqlite3.Connection, peer_id: PeerId, name: str, *, now: datetime) -> Peer:
    """Call a peer by a name of the operator's; "" gives way to the name by which it calls itself. Raises `NotFound`."""
    row = conn.execute(
        """
        UPDATE peers
        SET name = :name, updated_at = :now
        WHERE peer_id = :peer_id
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {"peer_id": peer_id, "name": name, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(peer_id)
    return _told(conn, _peer(row), "renamed", now=now)


def set_addresses(conn: sqlite3.Connection, peer_id: PeerId, addresses: Sequence[str], *, now: datetime) -> Peer:
    """Write down where the operator says that a peer can be reached, in place of what was said before.

    Raises `NotFound`.
    """
    row = conn.execute(
        """
        UPDATE peers
        SET addresses = :addresses, updated_at = :now
        WHERE peer_id = :peer_id
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {"peer_id": peer_id, "addresses": json.dumps(list(addresses)), "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(peer_id)
    return _told(conn, _peer(row), "addresses", now=now)


def touch_seen(conn: sqlite3.Connection, peer_id: PeerId, *, instance_id: str, name: str, now: datetime) -> Peer | None:
    """Note that a peer is linked, and what it says of itself; `None` where the owner has no word on it.

    The name counts only where the peer has none here. Told only where more than the time has changed.
    """
    before = find_peer(conn, peer_id)
    if before is None:
        return None
    row = conn.execute(
        """
        UPDATE peers
        SET instance_id = :instance_id, name = CASE name WHEN '' THEN :name ELSE name END, last_seen_at = :now
        WHERE peer_id = :peer_id
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {"peer_id": peer_id, "instance_id": instance_id, "name": name, "now": to_text(now)},
    ).fetchone()
    peer = _peer(row)
    if (peer.instance_id, peer.name) == (before.instance_id, before.name):
        return peer
    return _told(conn, peer, "seen", now=now)


def remove_peer(conn: sqlite3.Connection, peer_id: PeerId, *, now: datetime) -> Peer:
    """Forget a peer and all that would let it in again; return what it was. Raises `NotFound`.

    Its grants, introductions, addresses and the invite it has used go, and what it was yet to be told. It is a stranger
    then; to keep it out for good, deny it instead.
    """
    row = conn.execute(
        """
        DELETE FROM peers
        WHERE peer_id = :peer_id
        RETURNING id, peer_id, name, state, addresses, instance_id, last_seen_at, created_at, updated_at
        """,
        {"peer_id": peer_id},
    ).fetchone()
    if row is None:
        raise _not_found(peer_id)
    grants.forget_grants_of(conn, peer_id)
    peer_invites.forget_used_by(conn, peer_id)
    introductions.forget_peer(conn, peer_id)
    address_records.forget_record(conn, peer_id)
    outbox.drop_letters(conn, peer_id)
    return _told(conn, _peer(row), "removed", now=now)


def _told(conn: sqlite3.Connection, peer: Peer, change: str, *, now: datetime) -> Peer:
    data = {"peer_id": peer.peer_id, "name": peer.name, "state": peer.state, "change": change}
    record_event(conn, EventType.PEER_UPDATED, data, execution_id=None, now=now)
    return peer


def _refuse_self(peer_id: PeerId, self_peer_id: PeerId) -> None:
    if peer_id == self_peer_id:
        raise Conflict(f"Peer {peer_id} is this peer itself", hint="Give the peer_id of the other machine.")


def _not_found(peer_id: PeerId) -> NotFound:
    return NotFound(f"Peer {peer_id} not found")


def _peer(row: sqlite3.Row) -> Peer:
    return Peer(
        id=row["id"],
        peer_id=PeerId(row["peer_id"]),
        name=row["name"],
        state=PeerState(row["state"]),
        addresses=tuple(json.loads(row["addresses"])),
        instance_id=row["instance_id"],
        last_seen_at=moment_or_none(row["last_seen_at"]),
        created_at=from_text(row["created_at"]),
        updated_at=from_text(row["updated_at"]),
    )
