"""What is granted is kept, listed, and goes with its service."""

from __future__ import annotations

import sqlite3
from datetime import datetime

import pytest

from rnd.database import grants, offered_services, peers
from rnd.database.offered_services import NewService
from rnd.types.enums import PeerState, ServiceType, Verb
from rnd.types.errors import NotFound
from rnd.types.ids import PeerId, ServiceId
from rnd.types.peers import EVERY_PEER, Grant, GrantLimits
from rnd.types.services import StandaloneSettings

ME = PeerId("rnme")
LAB = PeerId("rnlab")
CLINIC = PeerId("rnclinic")


@pytest.fixture
def service_id(conn: sqlite3.Connection, now: datetime) -> ServiceId:
    for peer_id in (LAB, CLINIC):
        peers.add_peer(conn, peer_id, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
    new = NewService(
        name="wc",
        service_type=ServiceType.STANDALONE,
        interfaces=(),
        settings=StandaloneSettings(executable="/usr/bin/wc"),
    )
    return offered_services.create_service(conn, new, now=now).id


def grant(conn: sqlite3.Connection, now: datetime, peer_id: PeerId, service_id: ServiceId | None) -> Grant:
    return grants.add_grant(conn, peer_id=peer_id, service_id=service_id, verbs=[Verb.ORDER], now=now)


def test_a_grant_is_kept_as_it_was_made(conn: sqlite3.Connection, now: datetime, service_id: ServiceId) -> None:
    limits = GrantLimits(concurrent_jobs=2, max_runtime_s=0.5, max_bytes=1 << 40)
    verbs = {Verb.FETCH, Verb.DISCOVER}
    made = grants.add_grant(conn, peer_id=LAB, service_id=service_id, verbs=verbs, limits=limits, now=now)
    assert grants.list_grants_for(conn, LAB) == [made]
    assert (made.peer_id, made.service_id, made.verbs, made.limits) == (LAB, service_id, frozenset(verbs), limits)
    assert made.created_at == now


def test_a_peers_grants_are_its_own_and_those_of_every_peer(
    conn: sqlite3.Connection, now: datetime, service_id: ServiceId
) -> None:
    own, everybodys = grant(conn, now, LAB, None), grant(conn, now, EVERY_PEER, service_id)
    others = grant(conn, now, CLINIC, service_id)
    assert grants.list_grants_for(conn, LAB) == [own, everybodys]
    assert grants.list_grants_for(conn, CLINIC) == [everybodys, others]
    assert grants.list_grants_for(conn, PeerId("rnstranger")) == [everybodys]
    assert own.limits == GrantLimits()


def test_grants_come_in_pages_by_peer_and_service(
    conn: sqlite3.Connection, now: datetime, service_id: ServiceId
) -> None:
    made = [grant(conn, now, peer_id, which) for peer_id in (LAB, CLINIC, EVERY_PEER) for which in (service_id, None)]
    page = grants.page_grants(conn, limit=4)
    assert (list(page.items), page.total, page.next_after_id) == (made[:4], 6, made[3].id)
    assert list(grants.page_grants(conn, limit=4, after_id=made[3].id).items) == made[4:]
    assert list(grants.page_grants(conn, peer_id=LAB, limit=9).items) == made[:2]
    assert list(grants.page_grants(conn, service_id=service_id, limit=9).items) == made[::2]
    assert list(grants.page_grants(conn, peer_id=EVERY_PEER, service_id=service_id, limit=9).items) == [made[4]]


def test_a_grant_is_taken_back_once(conn: sqlite3.Connection, now: datetime, service_id: ServiceId) -> None:
    made = grant(conn, now, LAB, service_id)
    assert grants.remove_grant(conn, made.id) == made
    assert grants.list_grants_for(conn, LAB) == []
    with pytest.raises(NotFound, match=f"Grant {made.id} not found"):
        grants.remove_grant(conn, made.id)


def test_nothing_is_granted_to_nobody_or_on_nothing(
    conn: sqlite3.Connection, now: datetime, service_id: ServiceId
) -> None:
    with pytest.raises(NotFound, match="Peer rnstranger not found"):
        grant(conn, now, PeerId("rnstranger"), service_id)
    with pytest.raises(NotFound, match="Service 404 not found"):
        grant(conn, now, LAB, ServiceId(404))
    assert grants.page_grants(conn, limit=9).total == 0


def test_the_grants_on_a_service_go_with_it(conn: sqlite3.Connection, now: datetime, service_id: ServiceId) -> None:
    grant(conn, now, LAB, service_id)
    on_all = grant(conn, now, LAB, None)
    offered_services.delete_service(conn, service_id, self_peer_id=ME, now=now)
    assert grants.list_grants_for(conn, LAB) == [on_all]


def test_a_limit_that_cannot_be_read_does_not_become_no_limit(
    conn: sqlite3.Connection, now: datetime, service_id: ServiceId
) -> None:
    made = grant(conn, now, LAB, service_id)
    conn.execute("UPDATE grants SET limits = :limits WHERE id = :id", {"limits": '{"max_byte": 1}', "id": made.id})
    with pytest.raises(TypeError):
        grants.list_grants_for(conn, LAB)
