"""Deliveries that wait, in the words of `rnd transfers`, `rnd show` and `rnd watch`: why, how often tried, when again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rnd.cli import moving
from tests.cli.command import Rnd
from tests.cli.scripted_daemon import ScriptedDaemon

NO_PEERS = {"peer.list": {"items": [], "total": 0, "next_after_id": None}, "node.status": {"peer_id": "rnme"}}
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def transfer(**more: Any) -> dict[str, Any]:
    return {
        "transfer_id": "t-1", "direction": "OUTGOING", "status": "PENDING", "execution_id": 1, "connection_id": 4,
        "peer_id": "rnfar", "source_job_execution_id": 0, "source_peer_id": "rnme", "dest_job_execution_id": 9,
        "dest_peer_id": "rnfar", "size_bytes": 100, "bytes_done": 70, "attempts": 5, "error": "nobody is there",
        "next_attempt_at": (NOW + timedelta(seconds=12)).isoformat(), "rate_bytes_s": None, "left_s": None, **more,
    }  # fmt: skip


def listed(*items: dict[str, Any]) -> Any:
    """Answer `transfer.list` as the daemon does."""

    def answer(params: dict[str, Any]) -> dict[str, Any]:
        found = [each for each in items if params.get("status") in (None, each["status"])]
        return {"items": found, "total": len(found), "next_after_id": None}

    return answer


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "self-peer -> job 9  70 B of 100 B (70%)  nobody is there  tried 5 times, again in 12s"),
        ({"attempts": 1, "next_attempt_at": None}, "self-peer -> job 9  70 B of 100 B (70%)  nobody is there  tried 1 time"),
        ({"status": "ACTIVE", "error": None, "rate_bytes_s": 10, "left_s": 3}, "self-peer -> job 9  70 B of 100 B (70%)  10 B/s, 3.0s left"),
    ],
)  # fmt: skip
def test_a_line_says_why_a_delivery_waits_and_when_it_is_tried_again(more: dict[str, Any], line: str) -> None:
    assert moving.line_of(transfer(**more), {"jobs": []}, time=NOW) == line


def running(daemon: ScriptedDaemon) -> None:
    daemon.methods |= {
        "execution.get": {
            "id": 1, "status": "RUNNING", "error": None, "started_at": None, "completed_at": None, "jobs": [],
            "progress": {"jobs_total": 1, "jobs_terminal": 0, "bytes_total": 100, "bytes_done": 70, "transfers_active": 0},
        },
        "job.list": {"items": [], "total": 0, "next_after_id": None},
        **NO_PEERS,
        "events.poll": {"items": [], "next_seq": 1},
        "transfer.list": listed(transfer(), transfer(transfer_id="t-2", error=None, attempts=0)),
    }  # fmt: skip


def test_watching_tells_of_a_delivery_that_waits(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    running(daemon)
    done = rnd("watch", "1", "--timeout", "0.1s")
    assert "nobody is there  tried 5 times" in done.err
    assert done.err.count("self-peer -> job 9") == 1  # what only waits for its turn is no news


def test_showing_tells_of_a_delivery_that_waits(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    running(daemon)
    assert "nobody is there  tried 5 times" in rnd("show", "1").err


def test_transfers_lists_what_is_not_over_and_with_an_execution_all_of_it(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    over = transfer(transfer_id="t-3", status="COMPLETED", error=None, bytes_done=100, attempts=1)
    daemon.methods |= NO_PEERS
    daemon.methods["transfer.list"] = listed(transfer(), over)
    assert rnd("transfers", "-q").out.split() == ["t-1"]
    assert rnd("transfers", "1", "-q").out.split() == ["t-1", "t-3"]
    row = rnd("transfers").out.splitlines()[1]
    assert row.split()[:3] == ["1", "4", "OUTGOING"]
    assert "70 B of 100 B" in row
    assert "nobody is there" in row


def test_no_transfers_are_said_in_words(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["transfer.list"] = listed()
    assert rnd("transfers").err == "nothing is on its way, and nothing waits\n"
