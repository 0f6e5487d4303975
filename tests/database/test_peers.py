"""Other peers, where they are, and what removing one takes with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from rnd.database import address_records, events, grants, introductions, outbox, peer_invites, peers
from rnd.types.enums import EventType, PeerState, Verb
from rnd.types.errors import Conflict, NotFound, StaleState
from rnd.types.ids import JobExecutionId, PeerId
from rnd.types.peers import EVERY_PEER, AddressRecord, Peer

ME = PeerId("rnme")
LAB = PeerId("rnlab")
CLINIC = PeerId("rnclinic")


def add(conn: sqlite3.Connection, now: datetime, peer_id: PeerId = LAB, state: PeerState = PeerState.ALLOWED) -> Peer:
    return peers.add_peer(conn, peer_id, self_peer_id=ME, state=state, now=now)


def changes(conn: sqlite3.Connection) -> list[tuple[object, object]]:
    """What was told of peers: the state then, and what had changed."""
    told = events.list_events(conn, after_seq=0, types=[EventType.PEER_UPDATED], limit=99)
    return [(event.data["state"], event.data["change"]) for event in told]


def record(peer_id: PeerId = LAB, issued_at_ms: int = 5, *addresses: str) -> AddressRecord:
    return AddressRecord(peer_id=peer_id, addresses=addresses, issued_at_ms=issued_at_ms, signature="c2ln")


def test_a_peer_is_kept_as_it_was_added(conn: sqlite3.Connection, now: datetime) -> None:
    peer = peers.add_peer(
        conn, LAB, self_peer_id=ME, state=PeerState.PENDING, name="lab", addresses=["lab.example:30906"], now=now
    )
    assert peers.get_peer(conn, LAB) == peers.find_peer(conn, LAB) == peer
    assert (peer.peer_id, peer.name, peer.state, peer.addresses) == (LAB, "lab", "pending", ("lab.example:30906",))
    assert (peer.instance_id, peer.last_seen_at, peer.created_at, peer.updated_at) == (None, None, now, now)
    assert peers.find_peer(conn, CLINIC) is None


def test_a_peer_that_is_known_is_not_added_again(conn: sqlite3.Connection, now: datetime) -> None:
    add(conn, now, state=PeerState.DENIED)
    with pytest.raises(Conflict, match="known already"):
        add(conn, now, state=PeerState.ALLOWED)
    assert peers.get_peer(conn, LAB).state is PeerState.DENIED
    assert changes(conn) == [("denied", "added")]


def test_this_peer_is_no_other_peer(conn: sqlite3.Connection, now: datetime) -> None:
    with pytest.raises(Conflict, match="this peer itself"):
        add(conn, now, ME)
    with pytest.raises(Conflict, match="this peer itself"):
        peers.pair_peer(conn, ME, self_peer_id=ME, name="me", now=now)
    assert peers.list_peers(conn) == []


@pytest.mark.parametrize("known_as", [None, PeerState.PENDING, PeerState.ALLOWED])
def test_an_invite_makes_a_peer_allowed_however_it_was_known(
    conn: sqlite3.Connection, now: datetime, known_as: PeerState | None
) -> None:
    if known_as is not None:
        add(conn, now, state=known_as)
    for _ in range(2):
        peer = peers.pair_peer(conn, LAB, self_peer_id=ME, name="lab", addresses=["192.0.2.1:30906"], now=now)
        assert (peer.name, peer.state, peer.addresses) == ("lab", PeerState.ALLOWED, ("192.0.2.1:30906",))
    assert peers.list_peers(conn) == [peer]


def test_an_invite_does_not_overrule_what_the_operator_has_said(conn: sqlite3.Connection, now: datetime) -> None:
    peers.add_peer(
        conn, LAB, self_peer_id=ME, state=PeerState.PENDING, name="the lab", addresses=["lab.example:1"], now=now
    )
    paired = peers.pair_peer(conn, LAB, self_peer_id=ME, name="lab-7", now=now)
    assert (paired.name, paired.addresses) == ("the lab", ("lab.example:1",))
    add(conn, now, CLINIC, PeerState.DENIED)
    with pytest.raises(Conflict, match="denied here"):
        peers.pair_peer(conn, CLINIC, self_peer_id=ME, name="clinic", now=now)
    assert peers.get_peer(conn, CLINIC).state is PeerState.DENIED


def test_peers_are_listed_by_state_and_in_pages(conn: sqlite3.Connection, now: datetime) -> None:
    states = [PeerState.ALLOWED, PeerState.DENIED, PeerState.ALLOWED, PeerState.ALLOWED]
    listed = [add(conn, now, PeerId(f"rn{number}"), state) for number, state in enumerate(states)]
    assert peers.list_peers(conn) == listed
    allowed = [listed[0], listed[2], listed[3]]
    assert peers.list_peers(conn, state=PeerState.ALLOWED) == allowed
    page = peers.page_peers(conn, state=PeerState.ALLOWED, limit=2)
    assert (list(page.items), page.total, page.next_after_id) == (allowed[:2], 3, allowed[1].id)
    rest = peers.page_peers(conn, state=PeerState.ALLOWED, limit=2, after_id=allowed[1].id)
    assert (list(rest.items), rest.total, rest.next_after_id) == (allowed[2:], 3, None)
    assert list(peers.page_peers(conn, limit=9).items) == listed


def test_every_change_is_kept_and_told(conn: sqlite3.Connection, now: datetime) -> None:
    later = now + timedelta(minutes=1)
    peer = add(conn, now)
    expected = replace(peer, state=PeerState.PENDING, updated_at=later)
    assert peers.set_state(conn, LAB, PeerState.PENDING, now=later) == expected
    expected = replace(expected, name="bench")
    assert peers.rename_peer(conn, LAB, "bench", now=later) == expected
    expected = replace(expected, addresses=("lab.example:1", "[2001:db8::1]:2"))
    assert peers.set_addresses(conn, LAB, ["lab.example:1", "[2001:db8::1]:2"], now=later) == expected
    assert peers.get_peer(conn, LAB) == expected
    assert peers.remove_peer(conn, LAB, now=later) == expected
    assert changes(conn) == [
        ("allowed", "added"),
        ("pending", "state"),
        ("pending", "renamed"),
        ("pending", "addresses"),
        ("pending", "removed"),
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda conn, now: peers.get_peer(conn, LAB),
        lambda conn, now: peers.set_state(conn, LAB, PeerState.ALLOWED, now=now),
        lambda conn, now: peers.rename_peer(conn, LAB, "lab", now=now),
        lambda conn, now: peers.set_addresses(conn, LAB, [], now=now),
        lambda conn, now: peers.remove_peer(conn, LAB, now=now),
    ],
)
def test_a_peer_that_is_not_known_is_not_found(
    conn: sqlite3.Connection, now: datetime, call: Callable[[sqlite3.Connection, datetime], object]
) -> None:
    with pytest.raises(NotFound, match=f"Peer {LAB} not found"):
        call(conn, now)
    assert changes(conn) == []


def test_a_link_notes_when_and_which_daemon_and_is_told_only_when_that_is_another(
    conn: sqlite3.Connection, now: datetime
) -> None:
    add(conn, now)
    for minutes, instance_id in enumerate(["1" * 32, "1" * 32, "2" * 32]):
        moment = now + timedelta(minutes=minutes)
        seen = peers.touch_seen(conn, LAB, instance_id=instance_id, name="", now=moment)
        assert seen is not None
        assert (seen.instance_id, seen.last_seen_at) == (instance_id, moment)
        assert peers.get_peer(conn, LAB) == seen
    assert [change for _, change in changes(conn)] == ["added", "seen", "seen"]


def test_the_name_that_a_peer_gives_itself_gives_way_to_the_operators(conn: sqlite3.Connection, now: datetime) -> None:
    def name_after_link(own_name: str) -> str:
        seen = peers.touch_seen(conn, LAB, instance_id="1" * 32, name=own_name, now=now)
        assert seen is not None
        return seen.name

    add(conn, now)
    assert name_after_link("lab-7") == "lab-7"
    peers.rename_peer(conn, LAB, "bench", now=now)
    assert name_after_link("lab-7") == "bench"
    peers.rename_peer(conn, LAB, "", now=now)
    assert name_after_link("lab-8") == "lab-8"


def test_a_stranger_that_is_seen_leaves_no_row(conn: sqlite3.Connection, now: datetime) -> None:
    assert peers.touch_seen(conn, LAB, instance_id="1" * 32, name="lab", now=now) is None
    assert peers.list_peers(conn) == []


def test_only_a_newer_record_takes_the_place_of_what_is_known(conn: sqlite3.Connection, now: datetime) -> None:
    first, same_time, newer = record(LAB, 5, "192.0.2.1:1"), record(LAB, 5, "192.0.2.2:1"), record(LAB, 6)
    assert address_records.find_record(conn, LAB) is None
    assert address_records.store_record(conn, first, told_by=LAB, now=now)
    assert not address_records.store_record(conn, same_time, told_by=LAB, now=now)
    assert not address_records.store_record(conn, record(LAB, 4, "192.0.2.3:1"), told_by=LAB, now=now)
    assert address_records.find_record(conn, LAB) == first
    assert address_records.store_record(conn, newer, told_by=LAB, now=now)
    assert address_records.find_record(conn, LAB) == newer


def test_addresses_are_the_operators_and_then_the_peers_own_each_once(conn: sqlite3.Connection, now: datetime) -> None:
    assert address_records.newest_addresses(conn, LAB) == ()
    address_records.store_record(conn, record(LAB, 5, "192.0.2.1:1", "192.0.2.2:1"), told_by=LAB, now=now)
    assert address_records.newest_addresses(conn, LAB) == ("192.0.2.1:1", "192.0.2.2:1")
    add(conn, now)
    peers.set_addresses(conn, LAB, ["lab.example:1", "192.0.2.2:1"], now=now)
    assert address_records.newest_addresses(conn, LAB) == ("lab.example:1", "192.0.2.2:1", "192.0.2.1:1")
    address_records.forget_record(conn, LAB)
    assert address_records.newest_addresses(conn, LAB) == ("lab.example:1", "192.0.2.2:1")


def foreign_job(conn: sqlite3.Connection, orderer: PeerId, now: datetime) -> JobExecutionId:
    row = conn.execute(
        """
        INSERT INTO job_executions (
            ordering_peer_id, executor_peer_id, order_workflow_job_id, execution_uid, node_id, service_type, created_at,
            start_by, max_runtime_s, status
        )
        VALUES (?, ?, 1, 'ab', (SELECT COUNT(*) FROM job_executions), 'STANDALONE', ?, '', 1, 'IDLE')
        RETURNING id
        """,
        (orderer, ME, str(now)),
    ).fetchone()
    return JobExecutionId(row["id"])


def test_records_of_peers_that_nobody_needs_are_dropped_in_time(conn: sqlite3.Connection, now: datetime) -> None:
    introduced, stranger, fresh = PeerId("rnintroduced"), PeerId("rnstranger"), PeerId("rnfresh")
    add(conn, now)
    introductions.introduce(conn, foreign_job(conn, LAB, now), [introduced], valid_until=now)
    for peer_id in (LAB, introduced, stranger):
        address_records.store_record(conn, record(peer_id), told_by=LAB, now=now)
    address_records.store_record(conn, record(fresh), told_by=LAB, now=now + timedelta(hours=1))
    assert address_records.drop_strangers(conn, received_before=now + timedelta(minutes=1)) == 1
    assert address_records.find_record(conn, stranger) is None
    assert all(address_records.find_record(conn, peer_id) for peer_id in (LAB, introduced, fresh))


def test_of_strangers_that_one_peer_tells_of_the_newest_are_kept(conn: sqlite3.Connection, now: datetime) -> None:
    introduced, others = PeerId("rnintroduced"), PeerId("rnof-others")
    strangers = [PeerId(f"rnstranger{number}") for number in range(5)]
    add(conn, now)
    introductions.introduce(conn, foreign_job(conn, LAB, now), [introduced], valid_until=now)
    for peer_id in (LAB, introduced):
        address_records.store_record(conn, record(peer_id), told_by=LAB, now=now)
    address_records.store_record(conn, record(others), told_by=CLINIC, now=now)
    for number, peer_id in enumerate(strangers, start=1):
        address_records.store_record(conn, record(peer_id), told_by=LAB, now=now + timedelta(seconds=number))
    assert address_records.drop_strangers_told_by(conn, LAB, keep=2) == 3
    kept = [each for each in (LAB, introduced, others, *strangers) if address_records.find_record(conn, each)]
    assert kept == [LAB, introduced, others, *strangers[3:]]


def test_removing_a_peer_leaves_nothing_that_lets_it_in(conn: sqlite3.Connection, now: datetime) -> None:
    later = now + timedelta(minutes=15)
    for peer_id in (LAB, CLINIC):
        add(conn, now, peer_id)
        grants.add_grant(conn, peer_id=peer_id, service_id=None, verbs=[Verb.ORDER], now=now)
        peer_invites.create_invite(conn, invite_id=peer_id, key=b"k", expires_at=later, tries=5, now=now)
        peer_invites.use_invite(conn, peer_id, peer_id=peer_id, now=now)
        address_records.store_record(conn, record(peer_id), told_by=peer_id, now=now)
        outbox.post(conn, peer_id, "job_status_update", "1", {}, now=now)
    every = grants.add_grant(conn, peer_id=EVERY_PEER, service_id=None, verbs=[Verb.ORDER], now=now)
    introductions.introduce(conn, foreign_job(conn, CLINIC, now), [LAB], valid_until=later)
    assert introductions.is_introduced(conn, LAB, now=now)
    peers.remove_peer(conn, LAB, now=now)
    assert grants.list_grants_for(conn, LAB) == [every]
    assert peer_invites.find_live(conn, LAB, peer_id=LAB, now=now) is None
    assert not introductions.is_introduced(conn, LAB, now=now)
    assert address_records.newest_addresses(conn, LAB) == ()
    ((addressee, _),) = outbox.newest_letters(conn)
    assert addressee == CLINIC
    held = json.dumps([list(map(str, row)) for table in NAMING_PEERS for row in conn.execute(f"SELECT * FROM {table}")])
    assert LAB not in held
    assert CLINIC in held
    assert peer_invites.find_live(conn, CLINIC, peer_id=CLINIC, now=now) is not None


NAMING_PEERS = ("peers", "grants", "peer_invites", "introductions", "address_records", "outbox")


@pytest.mark.parametrize("state", [PeerState.PENDING, PeerState.DENIED])
def test_whoever_is_not_allowed_any_more_cannot_use_its_invite_again(
    conn: sqlite3.Connection, now: datetime, state: PeerState
) -> None:
    end = now + timedelta(minutes=15)
    peer_invites.create_invite(conn, invite_id="i", key=b"k", expires_at=end, tries=5, now=now)
    peer_invites.use_invite(conn, "i", peer_id=LAB, now=now)
    peers.pair_peer(conn, LAB, self_peer_id=ME, name="lab", now=now)
    peers.set_state(conn, LAB, PeerState.ALLOWED, now=now)
    assert peer_invites.find_live(conn, "i", peer_id=LAB, now=now) is not None
    peers.set_state(conn, LAB, state, now=now)
    with pytest.raises(StaleState):
        peer_invites.use_invite(conn, "i", peer_id=LAB, now=now)
