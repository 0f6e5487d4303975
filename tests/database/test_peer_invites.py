"""An invite is for one peer, for a time, and for a few tries."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

import pytest

from rnd.database import peer_invites, peers
from rnd.types.enums import PeerState
from rnd.types.errors import StaleState
from rnd.types.ids import PeerId
from rnd.types.peers import PeerInvite

ME = PeerId("rnme")
LAB = PeerId("rnlab")
CLINIC = PeerId("rnclinic")
VALID = timedelta(minutes=15)
INSTANT = timedelta(milliseconds=1)


def create(conn: sqlite3.Connection, now: datetime, invite_id: str = "i", tries: int = 5) -> PeerInvite:
    return peer_invites.create_invite(
        conn, invite_id=invite_id, key=b"secret key", expires_at=now + VALID, tries=tries, now=now
    )


def test_an_invite_is_found_until_its_time_is_up(conn: sqlite3.Connection, now: datetime) -> None:
    invite = create(conn, now)
    assert invite == PeerInvite(invite_id="i", key=b"secret key", expires_at=now + VALID, tries_left=5, used_by=None)
    assert peer_invites.find_live(conn, "i", peer_id=LAB, now=now + VALID - INSTANT) == invite
    assert peer_invites.find_live(conn, "i", peer_id=LAB, now=now + VALID) is None
    assert peer_invites.find_live(conn, "j", peer_id=LAB, now=now) is None


def test_the_key_does_not_show(conn: sqlite3.Connection, now: datetime) -> None:
    assert "secret" not in repr(create(conn, now))


def test_the_peer_that_has_used_an_invite_may_use_it_again_and_no_other(
    conn: sqlite3.Connection, now: datetime
) -> None:
    create(conn, now)
    for moment in (now, now + INSTANT):
        assert peer_invites.use_invite(conn, "i", peer_id=LAB, now=moment).used_by == LAB
    assert peer_invites.find_live(conn, "i", peer_id=LAB, now=now) is not None
    assert peer_invites.find_live(conn, "i", peer_id=CLINIC, now=now) is None
    with pytest.raises(StaleState):
        peer_invites.use_invite(conn, "i", peer_id=CLINIC, now=now)
    with pytest.raises(StaleState):
        peer_invites.use_invite(conn, "i", peer_id=LAB, now=now + VALID)
    assert conn.execute("SELECT used_by, used_at FROM peer_invites").fetchall()[0]["used_by"] == LAB


def test_the_last_try_kills_an_invite(conn: sqlite3.Connection, now: datetime) -> None:
    create(conn, now, tries=3)
    assert [peer_invites.count_failed_try(conn, "i") for _ in range(5)] == [2, 1, 0, 0, 0]
    assert peer_invites.find_live(conn, "i", peer_id=LAB, now=now) is None
    assert peer_invites.count_failed_try(conn, "never was") == 0
    with pytest.raises(StaleState):
        peer_invites.use_invite(conn, "i", peer_id=LAB, now=now)


def test_a_denied_peer_uses_no_invite(conn: sqlite3.Connection, now: datetime) -> None:
    create(conn, now)
    peers.add_peer(conn, LAB, self_peer_id=ME, state=PeerState.DENIED, now=now)
    with pytest.raises(StaleState):
        peer_invites.use_invite(conn, "i", peer_id=LAB, now=now)
    assert peer_invites.use_invite(conn, "i", peer_id=CLINIC, now=now).used_by == CLINIC


def test_a_used_invite_is_live_for_the_one_that_has_used_it(conn: sqlite3.Connection, now: datetime) -> None:
    def live(moment: datetime) -> list[bool]:
        return [peer_invites.has_live(conn, peer_id=peer_id, now=moment) for peer_id in (None, LAB, CLINIC)]

    assert live(now) == [False, False, False]
    create(conn, now)
    assert live(now) == [True, True, True]
    peer_invites.use_invite(conn, "i", peer_id=LAB, now=now)
    assert live(now) == [False, True, False]
    assert live(now + VALID) == [False, False, False]


def test_what_nobody_can_use_is_dropped(conn: sqlite3.Connection, now: datetime) -> None:
    create(conn, now, "early")
    create(conn, now + INSTANT, "late")
    create(conn, now + INSTANT, "tried", tries=1)
    peer_invites.count_failed_try(conn, "tried")
    assert peer_invites.drop_expired(conn, now=now + VALID) == 2
    assert peer_invites.find_live(conn, "late", peer_id=LAB, now=now + VALID) is not None
