"""The document's Debugging Guide on two peers that orchestrate and execute for each other at the same time.

Each query shows the workflows of the peer on which it is typed and no job that it runs for another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_debugging_guide import _sqlite3
from tests.running_peers import Peer, pair, running_peers, wait_until

ISSUE_1 = "SELECT id, status, execution_constraint, start_received FROM job_executions WHERE id = {};"
ISSUE_2 = """
  SELECT ji.interface_type, ji.path,
         jip.peer_id, jip.peer_mount_function, jip.duty_acknowledged
  FROM job_interfaces ji
  JOIN job_interface_peers jip ON ji.id = jip.job_interface_id
  WHERE ji.job_execution_id = {};
"""
ISSUE_4 = """
  SELECT id, executor_peer_id, remote_job_execution_id, status
  FROM workflow_jobs
  WHERE workflow_execution_id = {};
"""
ISSUE_5 = """
  SELECT je.id, je.status, je.error_message
  FROM job_executions je
  JOIN workflow_jobs wj ON je.workflow_job_id = wj.id
  WHERE wj.workflow_execution_id = {};
"""
NON_TERMINAL = """
  SELECT id, status FROM job_executions
  WHERE workflow_job_id IN (
    SELECT id FROM workflow_jobs WHERE workflow_execution_id = {}
  ) AND status NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED');
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Two peers. Each has an execution of its own: a job of its own that is done, one of the other's that waits at a gate,
    and one of its own that waits for both."""

    x: Peer
    y: Peer
    executions: dict[Peer, int]
    gates: dict[Peer, Path]

    def other(self, peer: Peer) -> Peer:
        return self.y if peer is self.x else self.x

    def jobs(self, peer: Peer) -> dict[str, int]:
        """Return a peer's own rows of its own execution, by name."""
        query = "SELECT job_name, id FROM job_executions WHERE workflow_execution_id = ?"
        return dict(peer.rows(query, self.executions[peer]))

    def foreign(self, peer: Peer) -> int:
        """Return the job that a peer runs for the other."""
        query = "SELECT MAX(id) FROM job_executions WHERE ordering_peer_id = ?"
        ((job_id,),) = peer.rows(query, self.other(peer).peer_id)
        return int(job_id)


@pytest.fixture(scope="module")
def offers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Peer, dict[str, dict[str, Any]]]]:
    """Two paired peers, and what each of them offers, by name."""
    env = {"RND_STATUS_INTERVAL_S": "0.3", "RND_QUEUE_INTERVAL_S": "0.3"}
    with running_peers(tmp_path_factory.mktemp("guide"), "x", "y", env=env) as (x, y):
        pair(x, y)
        scripts = {"done": "echo done", "waits": 'while ! test -e "$1"; do sleep 0.05; done; echo w', "last": "cat"}
        yield {
            peer: {name: peer.offer(name, script, allow_override=True) for name, script in scripts.items()}
            for peer in (x, y)
        }


@pytest.fixture
def sides(offers: dict[Peer, dict[str, dict[str, Any]]], tmp_path: Path) -> Iterator[Sides]:
    x, y = offers
    sides = Sides(x=x, y=y, executions={}, gates={x: tmp_path / "gate-x", y: tmp_path / "gate-y"})
    for peer in (x, y):
        workflow = peer.workflow("mixed")
        other = sides.other(peer)
        done = peer.node(workflow, offers[peer]["done"]["id"])
        slow = peer.remote_node(workflow, other, offers[other]["waits"], cmd=[str(sides.gates[peer])])
        last = peer.node(workflow, offers[peer]["last"]["id"])
        for start in (done, slow):
            peer.connect(workflow, start, last)
        peer.connect(workflow, last, None)
        sides.executions[peer] = peer.execute(workflow)
    for peer in (x, y):
        peer.until(
            """
            SELECT group_concat(status || duties, ' ')
            FROM (
                SELECT je.status, (
                    SELECT COUNT(*)
                    FROM job_interface_peers AS jip
                    JOIN job_interfaces AS ji ON ji.id = jip.job_interface_id
                    WHERE ji.job_execution_id = je.id AND jip.duty_acknowledged = 1
                ) AS duties
                FROM job_executions AS je
                WHERE je.workflow_execution_id = ?
                ORDER BY je.node_id
            )
            """,
            "COMPLETED1 RUNNING0 IDLE1",
            sides.executions[peer],
        )
    yield sides
    for gate in sides.gates.values():
        gate.touch()
    for peer in (x, y):
        peer.wait(sides.executions[peer])


def test_each_query_shows_the_workflows_of_its_own_peer(sides: Sides) -> None:
    for peer in (sides.x, sides.y):
        me, other = peer.peer_id, sides.other(peer).peer_id
        jobs, foreign = sides.jobs(peer), sides.foreign(peer)
        there = sides.foreign(sides.other(peer))
        assert set(jobs) == {"done", "waits", "last"}
        assert _sqlite3(peer, ISSUE_1.format(jobs["last"])) == f"{jobs['last']}|IDLE|INPUTS_READY|1\n"
        assert _sqlite3(peer, ISSUE_1.format(jobs["waits"])) == f"{jobs['waits']}|RUNNING|NONE|1\n"
        assert _sqlite3(peer, ISSUE_1.format(foreign)) == f"{foreign}|RUNNING|NONE|1\n"
        assert sorted(_sqlite3(peer, ISSUE_2.format(jobs["last"])).splitlines()) == sorted(
            [f"STDIN|/input|{other}|OUTPUT|0", f"STDIN|/input|{me}|OUTPUT|1", f"STDOUT|/output|{me}|INPUT|0"]
        )
        assert _sqlite3(peer, ISSUE_2.format(jobs["waits"])) == f"STDOUT|/output|{me}|INPUT|0\n"
        assert _sqlite3(peer, ISSUE_2.format(foreign)) == f"STDOUT|/output|{other}|INPUT|0\n"
        shown = [row.split("|")[1:] for row in _sqlite3(peer, ISSUE_4.format(sides.executions[peer])).splitlines()]
        assert shown == [[me, "", "COMPLETED"], [other, str(there), "RUNNING"], [me, "", "IDLE"]]
        statuses = {"done": "COMPLETED", "waits": "RUNNING", "last": "IDLE"}
        wanted = sorted(f"{job_id}|{statuses[name]}|" for name, job_id in jobs.items())
        assert sorted(_sqlite3(peer, ISSUE_5.format(sides.executions[peer])).splitlines()) == wanted
        waiting = sorted(f"{jobs[name]}|{statuses[name]}" for name in ("waits", "last"))
        assert sorted(_sqlite3(peer, NON_TERMINAL.format(sides.executions[peer])).splitlines()) == waiting
        assert _sqlite3(peer, "SELECT workflow_job_id IS NULL FROM job_executions WHERE id = " + str(foreign)) == "1\n"
    for gate in sides.gates.values():
        gate.touch()
    for peer in (sides.x, sides.y):
        assert peer.wait(sides.executions[peer])["status"] == "COMPLETED"
        assert _sqlite3(peer, NON_TERMINAL.format(sides.executions[peer])) == ""
        jobs = sides.jobs(peer)
        wanted = sorted(f"{job_id}|COMPLETED|" for job_id in jobs.values())
        assert sorted(_sqlite3(peer, ISSUE_5.format(sides.executions[peer])).splitlines()) == wanted
        for job_id in (*jobs.values(), sides.foreign(peer)):
            peer.until(
                """
                SELECT COUNT(*)
                FROM job_interface_peers AS jip
                JOIN job_interfaces AS ji ON ji.id = jip.job_interface_id
                WHERE ji.job_execution_id = ? AND jip.duty_acknowledged = 0
                """,
                0,
                job_id,
            )


def test_a_job_of_another_peer_set_to_errored_by_hand_ends_there_too(sides: Sides) -> None:
    """The guide's repair of an orphaned job, typed where the workflow is: the execution ends and the process is killed."""
    mirror = sides.jobs(sides.x)["waits"]
    _sqlite3(sides.x, f"UPDATE job_executions SET status = 'ERRORED' WHERE id = {mirror};")
    execution = sides.x.wait(sides.executions[sides.x], timeout_s=10)
    assert execution["status"] == "FAILED"
    assert sides.x.statuses(execution["id"]) == {"done": "COMPLETED", "waits": "ERRORED", "last": "CANCELLED"}
    foreign = sides.foreign(sides.y)
    sides.y.until("SELECT status FROM job_executions WHERE id = ?", "CANCELLED", foreign)
    assert sides.y.call("execution.get", execution_id=sides.executions[sides.y])["status"] == "RUNNING"
    assert _sqlite3(sides.x, ISSUE_1.format(mirror)) == f"{mirror}|ERRORED|NONE|1\n"


def test_an_execution_forced_to_completed_by_hand_ends_what_runs_on_other_peers(sides: Sides) -> None:
    execution_id = sides.executions[sides.x]
    _sqlite3(
        sides.x,
        "UPDATE workflow_executions SET status = 'COMPLETED', completed_at = datetime('now')\n"
        f"WHERE id = {execution_id};",
    )
    sides.y.until("SELECT status FROM job_executions WHERE id = ?", "CANCELLED", sides.foreign(sides.y))
    sides.x.until("SELECT status FROM job_executions WHERE id = ?", "CANCELLED", sides.jobs(sides.x)["waits"])
    assert sides.x.call("execution.get", execution_id=execution_id)["status"] == "COMPLETED"
    assert sides.y.call("execution.get", execution_id=sides.executions[sides.y])["status"] == "RUNNING"


def test_a_job_set_to_errored_by_hand_on_its_executor_ends_the_workflow_of_the_other(sides: Sides) -> None:
    _sqlite3(sides.y, f"UPDATE job_executions SET status = 'ERRORED' WHERE id = {sides.foreign(sides.y)};")
    execution = sides.x.wait(sides.executions[sides.x], timeout_s=10)
    assert execution["status"] == "FAILED"
    assert "set to ERRORED by hand" in execution["error"]


def test_each_side_explains_each_waiting_state(sides: Sides) -> None:
    """Waiting for an input from elsewhere, running elsewhere, running for another, and what became of it."""
    x, y = sides.x, sides.y
    jobs, foreign = sides.jobs(x), sides.foreign(y)
    waiting = x.call("job.explain", job_execution_id=jobs["last"])
    assert waiting["status"] == "IDLE"
    assert "waits" in waiting["because"]
    assert [check["ok"] for check in waiting["checks"] if "from waits" in check["check"]] == [False]
    running = x.call("job.explain", job_execution_id=jobs["waits"])
    assert running["status"] == "RUNNING"
    for_another = y.call("job.explain", job_execution_id=foreign)
    assert for_another["status"] == "RUNNING"
    assert "runs" in for_another["because"]
    sides.gates[x].touch()
    x.wait(sides.executions[x])
    for peer, job_id in ((x, jobs["waits"]), (y, foreign)):
        peer.until("SELECT status FROM job_executions WHERE id = ?", "COMPLETED", job_id)
        wait_until(
            lambda peer=peer, job_id=job_id: all(
                check["ok"] for check in peer.call("job.explain", job_execution_id=job_id)["checks"]
            ),
            f"job {job_id} of {peer.data_dir.name} is explained as delivered",
        )
