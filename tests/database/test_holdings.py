"""What counts as held on the disk of a peer: what has come or is coming, and nothing of what has ended in vain."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import pytest

from rnd.database import holdings, transfers
from rnd.database.transfers import NewTransfer
from rnd.types.enums import TransferDirection, TransferStatus
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ORDERER, SENDER, ME = PeerId("rnorderer"), PeerId("rnsender"), PeerId("rnme")
UID = ExecutionUid("ab" * 16)
CONNECTION, INCOMING = ConnectionId(1), TransferId("one")


def held(conn: sqlite3.Connection) -> set[int]:
    """Return what counts by each of the three measures."""
    return {
        holdings.held_for_peer(conn, ORDERER),
        holdings.held_by_execution(conn, ORDERER, UID),
        holdings.held_by_delivery(conn, ORDERER, UID, CONNECTION),
    }


@pytest.fixture
def coming(conn: sqlite3.Connection) -> sqlite3.Connection:
    """A delivery of 100 bytes of which 70 have come."""
    new = NewTransfer(
        transfer_id=INCOMING,
        direction=TransferDirection.INCOMING,
        workflow_execution_id=None,
        ordering_peer_id=ORDERER,
        execution_uid=UID,
        connection_id=CONNECTION,
        source_peer_id=SENDER,
        source_job_execution_id=JobExecutionId(9),
        dest_peer_id=ME,
        dest_job_execution_id=JobExecutionId(5),
        source_peer_row_id=None,
        dest_peer_row_id=None,
        result_id=None,
        source_path=None,
    )
    assert transfers.open_incoming(conn, new, file_count=1, size_bytes=100, bytes_done=70, now=NOW) is not None
    return conn


def test_what_comes_counts_whole_from_its_first_byte_on(coming: sqlite3.Connection) -> None:
    assert held(coming) == {100}


def test_what_waits_counts_as_far_as_it_has_come(coming: sqlite3.Connection) -> None:
    transfers.put_back(coming, INCOMING, "the link was lost", bytes_done=70, now=NOW)
    assert held(coming) == {70}


@pytest.mark.parametrize("end", [TransferStatus.FAILED, TransferStatus.CANCELLED])
def test_what_has_ended_in_vain_counts_for_nothing_and_says_how_far_it_was(
    coming: sqlite3.Connection, end: TransferStatus
) -> None:
    transfers.mark_ended(coming, INCOMING, end, "not wanted any more", now=NOW)
    assert held(coming) == {0}
    assert transfers.get_transfer(coming, INCOMING).bytes_done == 70
