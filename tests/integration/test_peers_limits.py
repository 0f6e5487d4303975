"""What the orders of another peer, and one execution, may hold on the disk of a peer: refused before a byte comes, ended
where it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live_files import found_below
from tests.running_peer import running_peer
from tests.running_peers import Peer, pair, running_peers

MIB = 1 << 20
LIMITS = f"[limits]\npeer_bytes = {12 * MIB}\nexecution_bytes = {8 * MIB}\npeer_jobs = 6\n"


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[tuple[Peer, Peer]]:
    with running_peers(tmp_path, "orchestrator") as (orchestrator,):
        worker = Peer(tmp_path / "worker", config=LIMITS)
        try:
            worker.start()
            pair(orchestrator, worker)
            yield orchestrator, worker
        finally:
            worker.dispose()


def sending(orchestrator: Peer, worker: Peer, name: str, count: int, script: str = "wc -c") -> int:
    """Draw a workflow that sends so many MiB to a program of the worker."""
    source = orchestrator.data_dir.parent / f"{name}.bin"
    source.write_bytes(bytes(count * MIB))
    workflow = orchestrator.workflow(name)
    node = orchestrator.remote_node(workflow, worker, worker.offer(name, script))
    orchestrator.connect(workflow, None, node, source_path=str(source))
    orchestrator.connect(workflow, node, None)
    return workflow


def files_below(peer: Peer) -> int:
    folder = peer.data_dir / "workflows"
    return sum(path.stat().st_size for path in found_below(folder, "*") if path.is_file())


def test_a_delivery_beyond_what_an_execution_may_hold_is_refused_before_a_byte_comes(
    peers: tuple[Peer, Peer],
) -> None:
    orchestrator, worker = peers
    fits = orchestrator.run(sending(orchestrator, worker, "fits", 7))
    assert (fits["status"], fits["error"]) == ("COMPLETED", None)
    held = files_below(worker)
    ended = orchestrator.run(sending(orchestrator, worker, "too-much", 9))
    assert ended["status"] == "FAILED"
    assert "9,437,184 bytes are too many" in ended["error"]
    assert "limits.execution_bytes is 8,388,608; split the workflow" in ended["error"]
    assert files_below(worker) == held


def test_a_delivery_beyond_what_a_peer_may_hold_waits_and_then_its_orders_are_refused(
    peers: tuple[Peer, Peer],
) -> None:
    orchestrator, worker = peers
    assert orchestrator.run(sending(orchestrator, worker, "first", 7))["status"] == "COMPLETED"
    second = orchestrator.execute(sending(orchestrator, worker, "second", 7))
    orchestrator.until(
        "SELECT COUNT(*) FROM transfers WHERE status = 'PENDING' AND error LIKE '%limits.peer_bytes is 12,582,912; wait%'",
        1,
    )
    # What has ended is let go of, here by a hold that somebody has cut short: then there is room.
    worker.sql("UPDATE job_executions SET hold_s = 0 WHERE status = 'COMPLETED'")
    assert orchestrator.wait(second)["status"] == "COMPLETED"
    third = orchestrator.run(sending(orchestrator, worker, "third", 5))
    assert third["status"] == "COMPLETED"
    refused = orchestrator.run(sending(orchestrator, worker, "fourth", 1))
    assert refused["status"] == "FAILED"
    assert "no more bytes are taken: the orders of peer" in refused["error"]
    plan = orchestrator.call("workflow.plan", workflow_id=refused["workflow_id"])
    assert not plan["ok"]
    assert "limits.peer_bytes" in str(plan["jobs"][0]["reasons"])


def test_a_job_that_writes_beyond_the_limit_is_ended(peers: tuple[Peer, Peer]) -> None:
    orchestrator, worker = peers
    script = "i=0; while [ $i -lt 4000 ]; do head -c 1048576 /dev/zero >> grows; i=$((i+1)); sleep 0.1; done"
    ended = orchestrator.run(sending(orchestrator, worker, "writes", 1, script), timeout_s=60)
    assert ended["status"] == "FAILED"
    assert "ended because it went on writing: its execution holds" in ended["error"]
    ((left,),) = worker.rows("SELECT left_bytes FROM job_executions")
    assert 8 * MIB <= left <= files_below(worker)


def test_no_more_rows_of_jobs_are_kept_for_one_peer_than_allowed(peers: tuple[Peer, Peer]) -> None:
    orchestrator, worker = peers
    workflow = orchestrator.workflow("rows")
    orchestrator.remote_node(workflow, worker, worker.offer("true", "true"))
    for _ in range(6):
        assert orchestrator.run(workflow)["status"] == "COMPLETED"
    refused = orchestrator.run(workflow)
    assert "6 of your jobs are kept here, and limits.peer_jobs is 6; wait until" in refused["error"]
    worker.sql("UPDATE job_executions SET hold_s = 0")
    worker.until("SELECT COUNT(*) FROM job_executions", 0)
    assert orchestrator.run(workflow)["status"] == "COMPLETED"


def test_an_own_execution_holds_no_more_than_allowed_either(tmp_path: Path) -> None:
    (tmp_path / "source.bin").write_bytes(bytes(5 * MIB))
    with running_peer(tmp_path / "peer", config=LIMITS) as peer:
        workflow = peer.workflow("own")
        data = peer.node(workflow, peer.data("data", tmp_path / "source.bin"))
        first, second = (peer.node(workflow, peer.program(name, "wc -c")) for name in ("one", "two"))
        peer.connect(workflow, data, first)
        assert peer.run(workflow)["status"] == "COMPLETED"
        peer.connect(workflow, data, second)
        ended = peer.run(workflow)
        assert ended["status"] == "FAILED"
        assert "5,242,880 bytes are too many: with them its execution holds 10,485,760 bytes" in ended["error"]
        assert [row[0] for row in peer.sql("SELECT status FROM transfers WHERE workflow_execution_id = 2")].count(
            "COMPLETED"
        ) <= 1
