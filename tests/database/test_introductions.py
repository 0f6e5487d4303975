"""Peers that a job brings are let in while it needs them; orders cancelled before they came are remembered."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

import pytest

from rnd.database import cancelled_orders, introductions, peers
from rnd.database.introductions import Introduction
from rnd.types.enums import PeerState
from rnd.types.errors import LimitExceeded
from rnd.types.ids import ExecutionUid, JobExecutionId, NodeId, PeerId
from rnd.types.times import to_text

ME = PeerId("rnme")
ORDERER = PeerId("rnorderer")
SENDER = PeerId("rnsender")
RECEIVER = PeerId("rnreceiver")
JOB = JobExecutionId(7)
OTHER_JOB = JobExecutionId(8)
HOUR = timedelta(hours=1)
INSTANT = timedelta(milliseconds=1)


@pytest.fixture
def ordered(conn: sqlite3.Connection, now: datetime) -> None:
    """Two jobs that an allowed peer has ordered."""
    peers.add_peer(conn, ORDERER, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
    conn.execute(
        """
        INSERT INTO job_executions (
            id, ordering_peer_id, executor_peer_id, order_workflow_job_id, execution_uid, node_id, service_type,
            created_at, start_by, max_runtime_s, status
        )
        VALUES (7, :orderer, :me, 1, 'ab', 1, 'STANDALONE', '', '', 1, 'IDLE'),
               (8, :orderer, :me, 2, 'ab', 2, 'STANDALONE', '', '', 1, 'IDLE')
        """,
        {"orderer": ORDERER, "me": ME},
    )


@pytest.mark.usefixtures("ordered")
def test_an_introduction_ends_at_its_time(conn: sqlite3.Connection, now: datetime) -> None:
    introductions.introduce(conn, JOB, {SENDER, RECEIVER}, valid_until=now + HOUR)
    assert introductions.is_introduced(conn, SENDER, now=now + HOUR - INSTANT)
    assert not introductions.is_introduced(conn, SENDER, now=now + HOUR)
    assert not introductions.is_introduced(conn, PeerId("rnstranger"), now=now)
    assert introductions.list_introduced_peers(conn, now=now) == [RECEIVER, SENDER]
    assert introductions.list_introduced_peers(conn, now=now + HOUR) == []


@pytest.mark.usefixtures("ordered")
def test_a_peer_is_introduced_for_the_jobs_that_name_it(conn: sqlite3.Connection, now: datetime) -> None:
    introductions.introduce(conn, JOB, [SENDER], valid_until=now + HOUR)
    introductions.introduce(conn, OTHER_JOB, [SENDER, RECEIVER], valid_until=now + 2 * HOUR)
    first = Introduction(peer_id=SENDER, job_execution_id=JOB, valid_until=now + HOUR)
    second = Introduction(peer_id=SENDER, job_execution_id=OTHER_JOB, valid_until=now + 2 * HOUR)
    assert introductions.list_introductions(conn, SENDER, now=now) == [first, second]
    assert introductions.list_introductions(conn, SENDER, now=now + HOUR) == [second]


@pytest.mark.usefixtures("ordered")
def test_a_jobs_introductions_hold_as_long_as_it_is_held(conn: sqlite3.Connection, now: datetime) -> None:
    for valid_until in (now + HOUR, now + 2 * HOUR):
        introductions.introduce(conn, JOB, [SENDER], valid_until=valid_until)
        assert introductions.is_introduced(conn, SENDER, now=valid_until - INSTANT)
    introductions.introduce(conn, JOB, [RECEIVER], valid_until=now + 2 * HOUR)
    assert introductions.set_end(conn, JOB, valid_until=now + INSTANT) == 2
    assert introductions.list_introduced_peers(conn, now=now + INSTANT) == []


@pytest.mark.parametrize("state", [PeerState.PENDING, PeerState.DENIED, None])
@pytest.mark.usefixtures("ordered")
def test_only_an_allowed_peers_job_introduces_anybody(
    conn: sqlite3.Connection, now: datetime, state: PeerState | None
) -> None:
    introductions.introduce(conn, JOB, [SENDER], valid_until=now + HOUR)
    if state is None:
        peers.remove_peer(conn, ORDERER, now=now)
    else:
        peers.set_state(conn, ORDERER, state, now=now)
    assert not introductions.is_introduced(conn, SENDER, now=now)
    assert introductions.list_introductions(conn, SENDER, now=now) == []
    assert introductions.list_introduced_peers(conn, now=now) == []


@pytest.mark.usefixtures("ordered")
def test_nobody_introduces_a_peer_that_is_denied(conn: sqlite3.Connection, now: datetime) -> None:
    introductions.introduce(conn, JOB, [SENDER, RECEIVER], valid_until=now + HOUR)
    peers.add_peer(conn, SENDER, self_peer_id=ME, state=PeerState.DENIED, now=now)
    peers.add_peer(conn, RECEIVER, self_peer_id=ME, state=PeerState.PENDING, now=now)
    assert introductions.list_introduced_peers(conn, now=now) == [RECEIVER]
    assert not introductions.is_introduced(conn, SENDER, now=now)
    assert introductions.list_introductions(conn, SENDER, now=now) == []


@pytest.mark.usefixtures("ordered")
def test_introductions_go_with_their_job_and_their_time(conn: sqlite3.Connection, now: datetime) -> None:
    introductions.introduce(conn, JOB, [SENDER], valid_until=now + HOUR)
    introductions.introduce(conn, OTHER_JOB, [SENDER], valid_until=now + 2 * HOUR)
    assert introductions.drop_expired(conn, now=now + HOUR) == 1
    conn.execute("DELETE FROM job_executions WHERE id = :id", {"id": OTHER_JOB})
    assert introductions.forget_peer(conn, SENDER) == 0


def test_an_order_that_was_cancelled_before_it_came_is_remembered_for_a_time(
    conn: sqlite3.Connection, now: datetime
) -> None:
    uid = ExecutionUid("ab")
    for reason, moment in (("changed my mind", now), ("once more", now + HOUR)):
        cancelled_orders.add_tombstone(
            conn, ordering_peer_id=ORDERER, execution_uid=uid, node_id=NodeId(1), reason=reason, now=moment
        )
    found = cancelled_orders.find_tombstone(conn, ordering_peer_id=ORDERER, execution_uid=uid, node_id=NodeId(1))
    assert found is not None
    assert (found.reason, found.cancelled_at) == ("changed my mind", now)
    for orderer, node_id in ((SENDER, NodeId(1)), (ORDERER, NodeId(2))):
        assert (
            cancelled_orders.find_tombstone(conn, ordering_peer_id=orderer, execution_uid=uid, node_id=node_id) is None
        )
    assert cancelled_orders.drop_older(conn, cancelled_before=now) == 0
    assert cancelled_orders.drop_older(conn, cancelled_before=now + INSTANT) == 1
    assert cancelled_orders.find_tombstone(conn, ordering_peer_id=ORDERER, execution_uid=uid, node_id=NodeId(1)) is None


def test_a_peer_that_has_cancelled_too_many_orders_before_they_came_is_told_to_come_again(
    conn: sqlite3.Connection, now: datetime
) -> None:
    conn.executemany(
        "INSERT INTO cancelled_orders VALUES (?, 'ab', ?, 'why', ?)",
        [(ORDERER, number, to_text(now)) for number in range(cancelled_orders.TOMBSTONES_OF_ONE_PEER)],
    )

    def add(orderer: PeerId, node_id: int) -> None:
        cancelled_orders.add_tombstone(
            conn,
            ordering_peer_id=orderer,
            execution_uid=ExecutionUid("ab"),
            node_id=NodeId(node_id),
            reason="why",
            now=now,
        )

    with pytest.raises(LimitExceeded):
        add(ORDERER, cancelled_orders.TOMBSTONES_OF_ONE_PEER)
    add(ORDERER, 0)  # that one it has
    add(SENDER, 0)
    assert conn.execute("SELECT COUNT(*) FROM cancelled_orders").fetchone()[0] == (
        cancelled_orders.TOMBSTONES_OF_ONE_PEER + 1
    )
