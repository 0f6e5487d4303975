"""Each limit holds at its value and one past it, with small configured values on a real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running_peer import RpcError, RunningPeer, running_peer

LIMITS = {
    "RND_LIMITS_NODES_PER_WORKFLOW": "3",
    "RND_LIMITS_CONNECTIONS_PER_WORKFLOW": "2",
    "RND_LIMITS_CONCURRENT_JOBS": "2",
    "RND_JOB_SLOTS": "10",
    "RND_LIMITS_FILES_PER_TRANSFER": "3",
    "RND_LIMITS_FILE_BYTES": "1000",
    "RND_LIMITS_STREAM_BYTES": "500",
    "RND_LIMITS_EVENTS_KEPT": "100",
    "RND_STATUS_INTERVAL_S": "0.05",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    with running_peer(tmp_path_factory.mktemp("limits") / "peer", env=LIMITS) as peer:
        yield peer


def refused(peer: RunningPeer, method: str, /, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        peer.call(method, **params)
    assert caught.value.data["hint"]
    return caught.value


def leaving(peer: RunningPeer, name: str, script: str, types: str = "STDOUT->MOUNT") -> dict[str, Any]:
    """Run one job whose output goes home."""
    workflow = peer.workflow(name)
    peer.connect(workflow, peer.node(workflow, peer.program(name, script)), None, types)
    return peer.run(workflow)


def test_nodes_of_a_workflow(small: RunningPeer) -> None:
    service = small.program("node", "exit 0")
    workflow = small.workflow("nodes")
    for _ in range(3):
        small.node(workflow, service)
    error = refused(small, "workflow.add_node", workflow_id=workflow, service_id=service)
    assert (error.code, error.data["error"]) == (1700, "LIMIT_EXCEEDED")
    assert small.call("workflow.validate", workflow_id=workflow)["valid"]
    document = small.call("workflow.export", workflow_id=workflow)
    assert small.call("workflow.import", document=document, name="as large")["id"]
    document["nodes"].append({**document["nodes"][0], "name": "one more"})
    assert refused(small, "workflow.import", document=document, name="too large").code == 1700


def test_nodes_that_somebody_types_into_the_database_are_refused_at_execution(small: RunningPeer) -> None:
    service = small.program("typed", "exit 0")
    workflow = small.workflow("typed")
    for _ in range(3):
        small.node(workflow, service)
    small.sql(
        'INSERT INTO workflow_nodes (workflow_id, service_id, peer_id, service_name, service_type, "order", interfaces,'
        " gui_x, gui_y, pricing_amount, pricing_type) SELECT workflow_id, service_id, peer_id, service_name,"
        ' service_type, 9, interfaces, 0, 0, 0, "FREE" FROM workflow_nodes WHERE workflow_id = :id LIMIT 1',
        id=workflow,
    )
    error = refused(small, "workflow.execute", workflow_id=workflow)
    assert error.code == 1100
    assert "Workflow has 4 nodes; at most 3 are allowed" in error.message


def test_connections_of_a_workflow(small: RunningPeer) -> None:
    workflow = small.workflow("connections")
    start, end = (small.node(workflow, small.program(name, "cat")) for name in ("start", "end"))
    small.connect(workflow, start, end)
    small.connect(workflow, end, None)
    error = refused(
        small,
        "workflow.add_connection",
        workflow_id=workflow,
        from_node_id=start,
        from_interface_type="STDOUT",
        to_node_id=None,
        to_interface_type="MOUNT",
    )
    assert (error.code, error.data["error"]) == (1700, "LIMIT_EXCEEDED")
    assert small.run(workflow)["status"] == "COMPLETED"


def test_jobs_at_once(small: RunningPeer, tmp_path: Path) -> None:
    """However many slots are configured, no more jobs run at once than the limit says; the next one says why it waits."""
    gate = tmp_path / "gate"
    service = small.program("slot", f"while ! test -e '{gate}'; do sleep 0.02; done")
    workflow = small.workflow("slots")
    for _ in range(3):
        small.node(workflow, service)
    execution_id = small.execute(workflow)
    statuses = f"SELECT status FROM job_executions WHERE workflow_execution_id = {execution_id} ORDER BY status"
    small.eventually(statuses, [("READY",), ("RUNNING",), ("RUNNING",)])
    waiting = small.sql(
        f"SELECT id FROM job_executions WHERE workflow_execution_id = {execution_id} AND status = 'READY'"
    )
    explanation = small.call("job.explain", job_execution_id=waiting[0][0])
    assert explanation["because"] == "All 2 job slots of this peer are in use."
    gate.touch()
    assert small.wait(execution_id)["status"] == "COMPLETED"


def test_files_of_a_transfer(small: RunningPeer, tmp_path: Path) -> None:
    at_limit = leaving(small, "two and stdout", "echo 1 > a; echo 2 > b")
    assert at_limit["status"] == "COMPLETED"
    assert len(small.results(at_limit["id"])) == 3
    beyond = leaving(small, "four", "for i in 1 2 3 4; do echo $i > $i; done")
    assert beyond["status"] == "FAILED"
    assert "3" in beyond["jobs"][0]["error"]
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / str(number)).touch()
    assert small.data("three files", folder)
    (folder / "3").touch()
    assert refused(small, "service.create", name="four files", service_type="DATA", paths=[str(folder)]).code == 1100
    sent = _send_from_self_peer(small, "four from home", folder)
    assert sent["status"] == "FAILED"
    assert "more than 3" in sent["error"]


def test_bytes_of_a_file(small: RunningPeer, tmp_path: Path) -> None:
    assert leaving(small, "at", "head -c 1000 /dev/zero > a")["status"] == "COMPLETED"
    beyond = leaving(small, "past", "head -c 1001 /dev/zero > a")
    assert beyond["status"] == "FAILED"
    assert "a " in beyond["jobs"][0]["error"]
    file = tmp_path / "file"
    file.write_bytes(bytes(1000))
    assert small.data("thousand bytes", file)
    assert _send_from_self_peer(small, "thousand from home", file)["status"] == "COMPLETED"
    file.write_bytes(bytes(1001))
    assert refused(small, "service.create", name="a byte more", service_type="DATA", paths=[str(file)]).code == 1100
    assert _send_from_self_peer(small, "a byte more from home", file)["status"] == "FAILED"


def test_bytes_of_a_captured_stream(small: RunningPeer) -> None:
    whole = leaving(small, "whole stream", "head -c 500 /dev/zero | tr '\\0' x")
    assert whole["status"] == "COMPLETED"
    assert [len(content) for content in small.results(whole["id"]).values()] == [500]
    cut = leaving(small, "cut stream", "head -c 501 /dev/zero | tr '\\0' x")
    assert cut["status"] == "FAILED"
    assert "stdout grew beyond the limit of 500 bytes" in cut["error"]


def test_events(small: RunningPeer) -> None:
    """Old events go and the newest stay; whoever polls from too far back is told."""
    workflow = small.workflow("events")
    small.node(workflow, small.program("event", "exit 0"))
    while small.sql("SELECT seq FROM sqlite_sequence WHERE name = 'events'")[0][0] < 250:
        small.run(workflow)
    small.eventually("SELECT COUNT(*), MAX(seq) - MIN(seq) FROM events", [(100, 99)])


def _send_from_self_peer(peer: RunningPeer, name: str, source: Path) -> dict[str, Any]:
    workflow = peer.workflow(name)
    node = peer.node(workflow, peer.program(name, "cat > /dev/null"))
    peer.connect(workflow, None, node, source_path=str(source))
    return peer.run(workflow)


# ---------------------------------------------------------------- executions kept


def _age(peer: RunningPeer) -> None:
    """Have every end lie back so far that nobody can still be waiting for it."""
    peer.sql("UPDATE workflow_executions SET completed_at = '2026-01-01T00:00:00.000Z' WHERE completed_at IS NOT NULL")


def _rows_of(peer: RunningPeer, execution_id: int) -> dict[str, int]:
    """Count what is left of an execution in every table that names executions."""
    counts = {}
    for table in ("workflow_jobs", "job_executions", "results", "transfers"):
        counts[table] = peer.sql(f"SELECT COUNT(*) FROM {table} WHERE workflow_execution_id = :id", id=execution_id)[0][
            0
        ]
    return counts


ORPHANS = """
    SELECT (SELECT COUNT(*) FROM job_interfaces WHERE job_execution_id NOT IN (SELECT id FROM job_executions)),
           (SELECT COUNT(*) FROM job_interface_peers WHERE job_interface_id NOT IN (SELECT id FROM job_interfaces)),
           (SELECT COUNT(*) FROM job_outputs WHERE job_execution_id NOT IN (SELECT id FROM job_executions)),
           (SELECT COUNT(*) FROM executor_handles WHERE job_execution_id NOT IN (SELECT id FROM job_executions)),
           (SELECT COUNT(*) FROM result_files WHERE result_id NOT IN (SELECT id FROM results)),
           (SELECT COUNT(*) FROM doomed_folders)
"""


def test_executions_kept(tmp_path: Path) -> None:
    """At the limit all stay; one past it the oldest goes with its rows and folders, and its events stay."""
    env = {"RND_LIMITS_EXECUTIONS_KEPT": "2", "RND_STATUS_INTERVAL_S": "0.1", "RND_LOG_LEVEL": "DEBUG"}
    source = tmp_path / "source.txt"
    source.write_text("content\n")
    with running_peer(tmp_path / "a peer", env=env) as peer:
        workflow = peer.workflow("kept")
        data, node = peer.node(workflow, peer.data("data", source)), peer.node(workflow, peer.program("cat", "cat"))
        peer.connect(workflow, data, node)
        home = peer.connect(workflow, node, None)
        first, second = (peer.run(workflow)["id"] for _ in range(2))
        _age(peer)
        third = peer.run(workflow)["id"]
        peer.eventually("SELECT id FROM workflow_executions ORDER BY id", [(second,), (third,)])
        peer.eventually(ORPHANS, [(0, 0, 0, 0, 0, 0)])
        assert _rows_of(peer, first) == dict.fromkeys(_rows_of(peer, first), 0)
        assert refused(peer, "execution.get", execution_id=first).code == 1000
        kept = {str(row[0]) for row in peer.sql("SELECT id FROM workflow_jobs")}
        me = peer.call("node.status")["peer_id"]
        folders = {folder.name for folder in (peer.data_dir / "workflows" / me).iterdir()}
        assert folders
        assert folders <= kept
        for execution_id in (second, third):
            assert peer.results(execution_id) == {(home, "stdout.txt"): b"content\n"}
        assert peer.sql("SELECT COUNT(*) > 0 FROM events WHERE workflow_execution_id = :id", id=first) == [(1,)]
        assert any(line.endswith("Cleaned up: what=executions, count=1") for line in peer.log_lines())


def test_what_a_kept_execution_reuses_is_kept(tmp_path: Path) -> None:
    env = {
        "RND_LIMITS_EXECUTIONS_KEPT": "1",
        "RND_STATUS_INTERVAL_S": "0.1",
        "RND_KEEP_INTERMEDIATE_S": str(50 * 366 * 86400),
    }
    gate = tmp_path / "gate"
    with running_peer(tmp_path / "peer", env=env) as peer:
        workflow = peer.workflow("reuse")
        made = peer.node(workflow, peer.program("made", "echo made once"))
        flaky = peer.node(workflow, peer.program("flaky", f"test -e '{gate}' && cat"))
        peer.connect(workflow, made, flaky)
        home = peer.connect(workflow, flaky, None)
        first = peer.run(workflow)["id"]
        second = peer.wait(peer.call("execution.retry", execution_id=first)["execution_id"])["id"]
        _age(peer)
        gate.touch()
        third = peer.wait(peer.call("execution.retry", execution_id=second)["execution_id"])
        assert third["status"] == "COMPLETED", third
        assert third["jobs"][0]["result"] == f"reused:{first}"
        _age(peer)
        peer.eventually("SELECT id FROM workflow_executions ORDER BY id", [(first,), (third["id"],)])
        assert peer.results(third["id"]) == {(home, "stdout.txt"): b"made once\n"}
        fourth = peer.run(workflow)["id"]
        _age(peer)
        peer.eventually("SELECT id FROM workflow_executions ORDER BY id", [(fourth,)])


def test_what_has_not_ended_and_what_ended_just_now_is_kept(tmp_path: Path) -> None:
    env = {"RND_LIMITS_EXECUTIONS_KEPT": "1", "RND_STATUS_INTERVAL_S": "0.1", "RND_LOG_LEVEL": "DEBUG"}
    gate = tmp_path / "gate"
    with running_peer(tmp_path / "peer", env=env) as peer:
        service = peer.program("gated", f"while ! test -e '{gate}'; do sleep 0.02; done")
        workflow, quick = peer.workflow("gated"), peer.workflow("quick")
        peer.node(workflow, service)
        peer.node(quick, peer.program("quick", "exit 0"))
        running = peer.execute(workflow)
        old = peer.run(quick)["id"]
        _age(peer)
        fresh, newest = peer.run(quick)["id"], peer.run(quick)["id"]
        peer.eventually("SELECT id FROM workflow_executions ORDER BY id", [(running,), (fresh,), (newest,)])
        assert old not in (running, fresh, newest)
        gate.touch()
        assert peer.wait(running)["status"] == "COMPLETED"


# ---------------------------------------------------------------- the disk's floor


def test_below_the_floor_orders_are_refused_and_status_and_cancel_go_on(tmp_path: Path) -> None:
    """What runs ends, its deliveries wait and say why; nothing new starts; a cancel works; with room all goes on."""
    gate = tmp_path / "gate"
    low = {"RND_LIMITS_DISK_FLOOR_BYTES": str(1 << 50)}
    with running_peer(tmp_path / "peer") as peer:
        workflow = peer.workflow("floor")
        node = peer.node(workflow, peer.program("gated", f"while ! test -e '{gate}'; do sleep 0.02; done; echo late"))
        after = peer.node(workflow, peer.program("after", "cat"))
        peer.connect(workflow, node, after)
        home = peer.connect(workflow, after, None)
        one, other = peer.execute(workflow), peer.execute(workflow)
        peer.eventually("SELECT COUNT(*) FROM executor_handles", [(2,)])  # they run, and go on without the daemon
        assert peer.stop() == 0
        with peer.variables(low):
            peer.start()
        gate.touch()
        peer.eventually("SELECT status, error LIKE '%nearly full%' FROM transfers", [("PENDING", 1), ("PENDING", 1)])
        error = refused(peer, "workflow.execute", workflow_id=workflow)
        assert (error.code, error.data["error"]) == (1700, "LIMIT_EXCEEDED")
        assert "nearly full" in error.message
        plan = peer.call("workflow.plan", workflow_id=workflow)
        assert not plan["ok"]
        assert "nearly full" in json.dumps(plan["jobs"][0]["reasons"])
        waiting = peer.call("job.list", execution_id=one, status="IDLE")["items"][0]
        assert "nearly full" in peer.call("job.explain", job_execution_id=waiting["id"])["because"]
        assert peer.call("node.status")["jobs"]["COMPLETED"] == 2
        peer.call("execution.cancel", execution_id=one)
        assert peer.wait(one)["status"] == "CANCELLED"
        assert sum("[ERROR] Disk nearly full" in line for line in peer.log_lines()) == 1
        assert peer.stop() == 0
        peer.start()
        assert peer.wait(other)["status"] == "COMPLETED"
        assert peer.results(other) == {(home, "stdout.txt"): b"late\n"}
        assert peer.sql("SELECT DISTINCT error FROM transfers WHERE workflow_execution_id = :id", id=other) == [(None,)]
