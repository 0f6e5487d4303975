"""Events: numbered, filtered, pruned, and never told without the change that they are about."""

from __future__ import annotations

import sqlite3
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnd.database import events
from rnd.types.enums import EventType
from rnd.types.events import Event
from rnd.types.ids import ExecutionId

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record(conn: sqlite3.Connection, now: datetime, count: int) -> None:
    for number in range(1, count + 1):
        events.record_event(
            conn,
            EventType.JOB_UPDATED if number % 2 else EventType.TRANSFER_PROGRESS,
            {"number": number},
            execution_id=ExecutionId(number % 3) if number % 3 else None,
            now=now,
        )


def seqs(found: list[Event]) -> list[int]:
    return [event.seq for event in found]


def test_events_are_numbered_from_one_in_the_order_of_their_recording(conn: sqlite3.Connection, now: datetime) -> None:
    assert events.newest_seq(conn) == 0
    assert events.oldest_seq(conn) == 1
    record(conn, now, 3)
    assert seqs(events.list_events(conn, after_seq=0, limit=10)) == [1, 2, 3]
    assert (events.oldest_seq(conn), events.newest_seq(conn)) == (1, 3)


def test_a_listing_starts_after_a_number_and_stops_at_its_limit(conn: sqlite3.Connection, now: datetime) -> None:
    record(conn, now, 9)
    assert seqs(events.list_events(conn, after_seq=4, limit=3)) == [5, 6, 7]


def test_a_listing_can_be_of_some_types_and_of_one_execution(conn: sqlite3.Connection, now: datetime) -> None:
    record(conn, now, 9)
    jobs = frozenset({EventType.JOB_UPDATED})
    assert seqs(events.list_events(conn, after_seq=0, types=jobs, limit=10)) == [1, 3, 5, 7, 9]
    assert seqs(events.list_events(conn, after_seq=0, types=frozenset(), limit=10)) == []
    assert seqs(events.list_events(conn, after_seq=1, execution_id=ExecutionId(1), limit=10)) == [4, 7]
    both = events.list_events(conn, after_seq=1, types=jobs, execution_id=ExecutionId(1), limit=10)
    assert seqs(both) == [7]


def test_a_change_that_is_rolled_back_leaves_no_event_and_no_gap(conn: sqlite3.Connection, now: datetime) -> None:
    record(conn, now, 1)
    conn.execute("BEGIN")
    record(conn, now, 1)
    conn.execute("ROLLBACK")
    record(conn, now, 1)
    assert seqs(events.list_events(conn, after_seq=0, limit=10)) == [1, 2]


def test_pruning_keeps_the_newest(conn: sqlite3.Connection, now: datetime) -> None:
    record(conn, now, 9)
    assert events.prune_events(conn, 4) == 5
    assert seqs(events.list_events(conn, after_seq=0, limit=10)) == [6, 7, 8, 9]
    assert (events.oldest_seq(conn), events.newest_seq(conn)) == (6, 9)
    assert events.prune_events(conn, 4) == 0


def test_pruning_everything_does_not_start_the_numbers_again(conn: sqlite3.Connection, now: datetime) -> None:
    record(conn, now, 3)
    assert events.prune_events(conn, 0) == 3
    assert (events.oldest_seq(conn), events.newest_seq(conn)) == (4, 3)
    record(conn, now, 1)
    assert seqs(events.list_events(conn, after_seq=0, limit=10)) == [4]


def test_pruning_takes_a_bounded_bite(conn: sqlite3.Connection, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PRUNED_ROWS", 4)
    record(conn, now, 9)
    assert [events.prune_events(conn, 2) for _ in range(3)] == [4, 3, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(st.text(), JSON, max_size=4),
    event_type=st.sampled_from(EventType),
    execution_id=st.none() | st.integers(1, 2**63 - 1).map(ExecutionId),
)
def test_an_event_comes_back_as_it_was_recorded(
    conn: sqlite3.Connection,
    now: datetime,
    data: dict[str, object],
    event_type: EventType,
    execution_id: ExecutionId | None,
) -> None:
    seq = events.record_event(conn, event_type, data, execution_id=execution_id, now=now)
    [event] = events.list_events(conn, after_seq=seq - 1, limit=5)
    assert event == Event(seq=seq, time=now, type=event_type, execution_id=execution_id, data=data)
