"""Every line about a run says which one, the same on each peer: `execution_uid` and the peer that orchestrates it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from rnd.types.log_events import LogEvent
from tests.running_peers import Peer, pair, running_peers

# Their job_id is that of the job on its executor, which this peer's rows call something else.
OF_THE_EXECUTOR: Final = {
    "SENDING_START_COMMAND",
    "SENT_START_COMMAND_REMOTE",
    "REQUESTING_JOB_STATUS",
    "RECEIVED_JOB_STATUS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one daemon has logged about runs, and what its rows say which run each thing belongs to."""

    lines: tuple[dict[str, Any], ...]
    runs: dict[tuple[str, object], tuple[str, str]]


def told(peer: Peer) -> Told:
    runs: dict[tuple[str, object], tuple[str, str]] = {}
    for job, orderer, uid in peer.rows("SELECT id, ordering_peer_id, execution_uid FROM job_executions"):
        runs["job_id", job] = runs["job_execution_id", job] = (uid, orderer)
    for transfer, orderer, uid in peer.rows("SELECT transfer_id, ordering_peer_id, execution_uid FROM transfers"):
        runs["transfer_id", transfer] = (uid, orderer)
    for execution, uid in peer.rows("SELECT id, execution_uid FROM workflow_executions"):
        runs["execution_id", execution] = (uid, peer.peer_id)
    for row, orderer, uid in peer.rows(
        "SELECT jip.id, je.ordering_peer_id, je.execution_uid FROM job_interface_peers jip"
        " JOIN job_interfaces ji ON ji.id = jip.job_interface_id JOIN job_executions je ON je.id = ji.job_execution_id"
    ):
        runs["interface_peer_id", row] = (uid, orderer)
    lines = [json.loads(line) for line in peer.log_lines()]
    return Told(lines=tuple(line for line in lines if is_about_a_run(line)), runs=runs)


def is_about_a_run(line: dict[str, Any]) -> bool:
    return "event" in line and bool(LogEvent[line["event"]].run_fields)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Told, Told]]:
    """Two peers order of each other at the same time, so that lines of several runs come between each other."""
    place = tmp_path_factory.mktemp("named runs")
    (place / "data.bin").write_bytes(bytes(3 << 20))
    env = {"RND_STATUS_INTERVAL_S": "0.2", "RND_LOG_FORMAT": "json", "RND_LOG_LEVEL": "DEBUG"}
    with running_peers(place, "left", "right", env=env) as (left, right):
        pair(left, right)
        executions = []
        for home, other in ((left, right), (right, left)):
            away = other.offer("away", "sleep 1; wc -c")
            broken = other.offer("broken", "exit 3")
            own = home.program("own", "cat")
            workflow = home.workflow("across")
            source = home.node(workflow, home.data("data", place / "data.bin"))
            first = home.remote_node(workflow, other, away)
            second = home.node(workflow, own)
            home.connect(workflow, source, first)
            home.connect(workflow, first, second)
            home.connect(workflow, second, None, destination_file_name="count.txt")
            failing = home.workflow("failing")
            start = home.remote_node(failing, other, broken)
            home.connect(failing, start, home.node(failing, own))
            executions += [(home, home.execute(workflow), "COMPLETED") for _ in range(2)]
            executions.append((home, home.execute(failing), "FAILED"))
        for home, execution, status in executions:
            assert home.wait(execution)["status"] == status
        for peer in (left, right):
            peer.until("SELECT COUNT(*) FROM outbox", 0)
        yield told(left), told(right)


def test_every_line_about_a_run_names_it(both: tuple[Told, Told]) -> None:
    for each in both:
        nameless = {line["event"]: line for line in each.lines if not {"execution_uid", "orchestrator"} <= line.keys()}
        assert nameless == {}


def test_the_run_that_a_line_names_is_the_one_that_it_is_about(both: tuple[Told, Told]) -> None:
    for each in both:
        checked = 0
        for line in each.lines:
            for name in ("job_id", "job_execution_id", "transfer_id", "execution_id", "interface_peer_id"):
                if name in line and line["event"] not in OF_THE_EXECUTOR and (name, line[name]) in each.runs:
                    checked += 1
                    assert (line["execution_uid"], line["orchestrator"]) == each.runs[name, line[name]], line
        assert checked > 100


def test_each_side_of_a_run_can_be_found_by_what_it_is_called(both: tuple[Told, Told]) -> None:
    left, right = ({line["execution_uid"] for line in each.lines} for each in both)
    assert left == right
    assert len(left) == 6


def test_the_lines_cover_what_runs_do(both: tuple[Told, Told]) -> None:
    """Were too few lines looked at, the tests above would say little."""
    events = {line["event"] for each in both for line in each.lines}
    assert len(events) > 50, sorted(events)
