"""Every wait ends at its deadline, in words that name it, and nothing of it stays behind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.running_peer import RpcError, RunningPeer, running_peer

SLEEPS = "echo $$ > '{mark}'; sleep 601 & echo $! >> '{mark}'; wait"


def _pids(mark: Path, count: int = 2) -> list[int]:
    """Return the process ids that a job has written down, once they are all there."""
    deadline = time.monotonic() + 30
    while not mark.exists() or len(mark.read_text().split()) < count:
        assert time.monotonic() < deadline, f"{mark} was not written"
        time.sleep(0.01)
    return [int(word) for word in mark.read_text().split()]


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def _job(peer: RunningPeer, execution: dict[str, Any], name: str) -> dict[str, Any]:
    (job_id,) = (job["job_execution_id"] for job in execution["jobs"] if job["job_name"] == name)
    job: dict[str, Any] = peer.call("job.get", job_execution_id=job_id)
    return job


def test_max_runtime_ends_a_job_with_all_its_processes(peer: RunningPeer, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    workflow = peer.workflow("long")
    node = peer.node(workflow, peer.program("long", SLEEPS.format(mark=mark)))
    peer.connect(workflow, node, None)
    execution_id = peer.execute(workflow, deadlines={"max_runtime_s": 0.7})
    pids = _pids(mark)
    execution = peer.wait(execution_id)
    assert execution["status"] == "FAILED"
    assert "timed out after 0.7 s (max_runtime)" in execution["error"]
    assert _job(peer, execution, "long")["status"] == "ERRORED"
    assert [_is_gone(pid) for pid in pids] == [True, True]
    assert any("[WARNING] Job timed out: job_id=1, deadline=max_runtime" in line for line in peer.log_lines())


def test_a_services_timeout_counts_where_it_is_shorter(peer: RunningPeer) -> None:
    workflow = peer.workflow("timeout")
    peer.node(workflow, peer.program("timeout", "exec sleep 601", timeout_s=0.4))
    execution = peer.run(workflow, deadlines={"max_runtime_s": 300})
    assert "timed out after 0.4 s" in execution["error"]


def test_the_workflow_deadline_ends_all_of_an_execution(peer: RunningPeer, tmp_path: Path) -> None:
    """Two jobs run and one waits for them when the time is up: all are ended, and the execution FAILED by name."""
    marks = [tmp_path / "one", tmp_path / "two"]
    workflow = peer.workflow("overdue")
    last = peer.node(workflow, peer.program("last", "cat"))
    for mark in marks:
        node = peer.node(workflow, peer.program(mark.name, SLEEPS.format(mark=mark)))
        peer.connect(workflow, node, last)
    peer.connect(workflow, last, None)
    execution_id = peer.execute(workflow, deadlines={"workflow_deadline_s": 1.5})
    pids = [pid for mark in marks for pid in _pids(mark)]
    execution = peer.wait(execution_id)
    assert execution["status"] == "FAILED"
    assert "the workflow deadline has passed" in execution["error"]
    assert {job["status"] for job in execution["jobs"]} == {"CANCELLED"}
    assert all(_is_gone(pid) for pid in pids)
    passed = [line for line in peer.log_lines() if "Execution deadline passed" in line]
    assert len(passed) == 1
    assert f"execution_id={execution_id}, deadline=" in passed[0]


def test_the_workflow_deadline_counts_also_while_no_daemon_runs(peer: RunningPeer, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    workflow = peer.workflow("overdue")
    peer.node(workflow, peer.program("alone", SLEEPS.format(mark=mark)))
    execution_id = peer.execute(workflow, deadlines={"workflow_deadline_s": 1.0})
    pids = _pids(mark)
    peer.kill()
    time.sleep(1.0)
    peer.start()
    execution = peer.wait(execution_id)
    assert execution["status"] == "FAILED"
    assert "the workflow deadline has passed" in execution["error"]
    assert all(_is_gone(pid) for pid in pids)


def test_the_workflow_deadline_ends_an_execution_whose_results_cannot_come_home(tmp_path: Path) -> None:
    """Nothing is left to run, but a delivery is held up: that wait ends at the deadline as well."""
    gate = tmp_path / "gate"
    with running_peer(tmp_path / "peer") as peer:
        workflow = peer.workflow("held up")
        script = f"while ! test -e '{gate}'; do sleep 0.02; done; echo done"
        peer.connect(workflow, peer.node(workflow, peer.program("gated", script)), None)
        execution_id = peer.execute(workflow, deadlines={"workflow_deadline_s": 4})
        peer.eventually("SELECT COUNT(*) FROM executor_handles", [(1,)])  # it runs, and goes on without the daemon
        assert peer.stop() == 0
        with peer.variables({"RND_LIMITS_DISK_FLOOR_BYTES": str(1 << 50)}):
            peer.start()
        gate.touch()
        peer.eventually("SELECT status FROM transfers", [("PENDING",)])
        execution = peer.wait(execution_id)
        assert execution["status"] == "FAILED"
        assert "the workflow deadline has passed" in execution["error"]
        assert [job["status"] for job in execution["jobs"]] == ["COMPLETED"]


def test_a_job_that_never_gets_its_start_command_ends_at_start_by(peer: RunningPeer, tmp_path: Path) -> None:
    """Rows as a peer has them whose orchestrator went away between phase 1 and phase 2."""
    gate = tmp_path / "gate"
    workflow = peer.workflow("never started")
    first = peer.node(workflow, peer.program("first", f"while ! test -e '{gate}'; do sleep 0.02; done"))
    peer.connect(workflow, first, peer.node(workflow, peer.program("second", "cat")))
    execution_id = peer.execute(workflow)
    peer.eventually("SELECT status FROM job_executions ORDER BY id", [("RUNNING",), ("IDLE",)])
    peer.kill()
    peer.sql(
        "UPDATE job_executions SET start_received = 0, start_by = '2026-01-01T00:00:00.000Z' WHERE status = 'IDLE'"
    )
    peer.start()
    peer.eventually("SELECT status FROM job_executions ORDER BY id", [("RUNNING",), ("ERRORED",)])
    words = "no start command came before start_by; phase 2 never reached this job"
    assert peer.sql("SELECT error_message FROM job_executions WHERE status = 'ERRORED'") == [(words,)]
    explanation = peer.call("job.explain", job_execution_id=2)
    assert "start_by" in explanation["because"]
    gate.touch()
    execution = peer.wait(execution_id)
    assert (execution["status"], execution["error"]) == ("FAILED", f"job second failed: {words}")


def test_cancel_by_ends_the_wait_for_a_job_that_does_not_die_and_the_killing_goes_on(tmp_path: Path) -> None:
    env = {"RND_DEADLINES_CANCEL_BY_S": "0.3", "RND_DEADLINES_CANCEL_GRACE_S": "4", "RND_STATUS_INTERVAL_S": "0.2"}
    mark = tmp_path / "mark"
    with running_peer(tmp_path / "peer", env=env) as peer:
        workflow = peer.workflow("stubborn")
        script = f"trap '' TERM; echo $$ > '{mark}'; while :; do sleep 0.05; done"
        peer.node(workflow, peer.program("stubborn", script))
        execution_id = peer.execute(workflow)
        (pid,) = _pids(mark, 1)
        peer.call("execution.cancel", execution_id=execution_id, reason="enough")
        execution = peer.wait(execution_id)
        assert execution["status"] == "CANCELLED"
        me = peer.call("node.status")["peer_id"]
        assert execution["error"] == f"cancelled: enough (not confirmed by {me})"
        assert execution["jobs"][0]["status"] == "RUNNING"
        assert not _is_gone(pid)
        peer.eventually("SELECT je.status, wj.status FROM job_executions je, workflow_jobs wj", [("CANCELLED",) * 2])
        assert _is_gone(pid)
        assert peer.call("execution.get", execution_id=execution_id)["error"] == execution["error"]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"start_by_s": 901}, "start_by_s may only be shortened: at most 900 s, not 901"),
        ({"max_runtime_s": 86401}, "max_runtime_s may only be shortened: at most 86400 s"),
        ({"transfer_idle_s": 300.5}, "transfer_idle_s may only be shortened: at most 300 s"),
        ({"hold_s": 86401}, "hold_s may only be shortened: at most 86400 s"),
        ({"workflow_deadline_s": 604801}, "workflow_deadline_s may only be shortened: at most 604800 s"),
    ],
)
def test_a_deadline_is_never_lengthened(shared: RunningPeer, wish: dict[str, float], words: str) -> None:
    with pytest.raises(RpcError) as caught:
        shared.execute(1, deadlines=wish)
    assert (caught.value.code, caught.value.data["error"]) == (1100, "VALIDATION_FAILED")
    assert words in caught.value.data["problems"][0]["message"]
    assert shared.sql("SELECT COUNT(*) FROM workflow_executions WHERE start_by_s > 900") == [(0,)]


def test_deadlines_as_long_as_the_configured_ones_are_taken(shared: RunningPeer) -> None:
    wishes = {"start_by_s": 900, "max_runtime_s": 86400, "transfer_idle_s": 300, "hold_s": 86400}
    wishes["workflow_deadline_s"] = 604800
    execution = shared.run(1, deadlines=wishes)
    assert execution["status"] == "COMPLETED", execution


def test_every_deadline_that_is_too_long_is_named_at_once(shared: RunningPeer) -> None:
    with pytest.raises(RpcError) as caught:
        shared.execute(1, deadlines={"start_by_s": 901, "max_runtime_s": 86401})
    assert len(caught.value.data["problems"]) == 2


@pytest.mark.parametrize(
    "wish", [{"max_runtime_s": 0}, {"max_runtime_s": -1}, {"cancel_by_s": 1}, {"max_runtime_s": "1"}]
)
def test_what_is_no_deadline_is_refused_by_name(shared: RunningPeer, wish: dict[str, Any]) -> None:
    with pytest.raises(RpcError) as caught:
        shared.execute(1, deadlines=wish)
    assert caught.value.code == -32602
    assert next(iter(wish)) in caught.value.message


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon with workflow 1, one quick job."""
    with running_peer(tmp_path_factory.mktemp("deadlines") / "peer") as peer:
        peer.node(peer.workflow("quick"), peer.program("quick", "exit 0"))
        yield peer
