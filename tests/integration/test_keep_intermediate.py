"""What jobs received and left goes some time after the end of their execution; results, logs and rows stay."""

from __future__ import annotations

from pathlib import Path

from tests.live_files import found_below
from tests.running_peer import RunningPeer, running_peer
from tests.running_peers import pair, running_peers, wait_until

SOON = {"RND_KEEP_INTERMEDIATE_S": "0", "RND_STATUS_INTERVAL_S": "0.1", "RND_LOG_LEVEL": "DEBUG"}
LATER = {"RND_STATUS_INTERVAL_S": "0.1"}
AGED = "UPDATE workflow_executions SET completed_at = '2020-01-01T00:00:00.000Z' WHERE id = :id"


def is_cleared(peer: RunningPeer, execution_id: int) -> bool:
    return peer.call("execution.get", execution_id=execution_id)["cleared_at"] is not None


def parts_below(peer: RunningPeer) -> list[Path]:
    return found_below(peer.data_dir / "workflows", ".*.part*")


def until_cleared(peer: RunningPeer, execution_id: int) -> None:
    wait_until(lambda: is_cleared(peer, execution_id), f"execution {execution_id} is cleared")


def kept_below(peer: RunningPeer, workflow_job_id: int) -> set[str]:
    """Return the files that are there of one job, its results apart, relative to the folder of the workflow job."""
    (folder,) = (peer.data_dir / "workflows").glob(f"*/{workflow_job_id}")
    files = {str(path.relative_to(folder)) for path in found_below(folder, "*") if path.is_file()}
    return {"/".join(name.split("/")[2:]) for name in files if name.split("/")[2] != "0"}


def test_inputs_and_outputs_go_and_results_and_logs_stay(tmp_path: Path) -> None:
    (tmp_path / "source.txt").write_text("content\n")
    with running_peer(tmp_path / "peer", env=SOON) as peer:
        workflow = peer.workflow("kept")
        data = peer.node(workflow, peer.data("data", tmp_path / "source.txt"))
        interfaces = [{"interface_type": "MOUNT", "path": "/left", "mount_function": "OUTPUT"}]
        node = peer.node(
            workflow,
            peer.program(
                "writes",
                "cat; echo words >&2; echo left > ../mounts/left/file; head -c 1500000 /dev/zero > large",
                interfaces=[{"interface_type": each} for each in ("STDIN", "STDOUT", "STDERR", "LOGS")] + interfaces,
            ),
        )
        peer.connect(workflow, data, node)
        home = peer.connect(workflow, node, None, destination_file_name="out.txt")
        execution = peer.run(workflow)
        assert execution["status"] == "COMPLETED", execution
        until_cleared(peer, execution["id"])
        peer.eventually("SELECT COUNT(*) FROM doomed_folders", [(0,)])
        job = execution["jobs"][1]
        names = {name.split("/", 1)[1] for name in kept_below(peer, job["id"])}
        assert {"logs/stdout.txt", "logs/stderr.txt", "logs/logs.txt"} <= names
        assert not [name for name in names if name.startswith(("input/", "output/", "mounts/"))], names
        assert peer.results(execution["id"]) == {(home, "out.txt"): b"content\n"}
        log = peer.call("job.logs", job_execution_id=job["job_execution_id"], stream="stderr")
        assert log["data"] == "words\n"
        assert peer.call("execution.get", execution_id=execution["id"])["cleared_at"]


def test_a_stream_that_was_carried_goes_where_it_is_long(tmp_path: Path) -> None:
    with running_peer(tmp_path / "peer", env=SOON) as peer:
        workflow = peer.workflow("streams")
        node = peer.node(workflow, peer.program("long", "head -c 1500000 /dev/zero"))
        home = peer.connect(workflow, node, None, destination_file_name="out")
        execution = peer.run(workflow)
        until_cleared(peer, execution["id"])
        peer.eventually("SELECT COUNT(*) FROM doomed_folders", [(0,)])
        assert not [name for name in kept_below(peer, execution["jobs"][0]["id"]) if "/logs/" in name]
        assert len(peer.results(execution["id"])[home, "out"]) == 1_500_000


def test_a_retry_finds_what_it_reuses_for_as_long_as_an_execution_keeps_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_peer(tmp_path / "peer", env=LATER) as peer:
        workflow = peer.workflow("reuse")
        made = peer.node(workflow, peer.program("made", "echo made once"))
        flaky = peer.node(workflow, peer.program("flaky", f"test -e '{gate}' && cat"))
        peer.connect(workflow, made, flaky)
        home = peer.connect(workflow, flaky, None)
        first = peer.run(workflow)["id"]
        second = peer.wait(peer.call("execution.retry", execution_id=first)["execution_id"])
        assert second["jobs"][0]["result"] == f"reused:{first}"
        # The first has ended long ago; the second, which reuses it, has not.
        other = peer.workflow("other")
        peer.node(other, peer.program("other", "true"))
        elsewhere = peer.run(other)["id"]
        for execution_id in (first, elsewhere):
            peer.sql(AGED, id=execution_id)
        until_cleared(peer, elsewhere)
        assert not is_cleared(peer, first)
        gate.touch()
        third = peer.wait(peer.call("execution.retry", execution_id=second["id"])["execution_id"])
        assert third["jobs"][0]["result"] == f"reused:{first}"
        assert peer.results(third["id"]) == {(home, "stdout.txt"): b"made once\n"}
        for execution_id in (first, second["id"], third["id"]):
            peer.sql(AGED, id=execution_id)
        for execution_id in (first, second["id"], third["id"]):
            until_cleared(peer, execution_id)
        fourth = peer.wait(peer.call("execution.retry", execution_id=second["id"])["execution_id"])
        assert fourth["jobs"][0]["result"] is None
        assert fourth["status"] == "COMPLETED"


def test_what_came_of_a_result_in_part_goes_too_and_an_executor_keeps_nothing_beyond_its_hold(tmp_path: Path) -> None:
    """The sender is killed while it delivers and never comes back; later it does, after the hold."""
    config = "[deadlines]\nhold_s = 3\n"
    with running_peers(tmp_path, "orchestrator", "worker", env=SOON, config=config) as (orchestrator, worker):
        pair(orchestrator, worker)
        workflow = orchestrator.workflow("half")
        node = orchestrator.remote_node(workflow, worker, worker.offer("large", "head -c 700000000 /dev/zero"))
        orchestrator.connect(workflow, node, None, destination_file_name="large")
        execution_id = orchestrator.execute(workflow)
        wait_until(lambda: bool(parts_below(orchestrator)), "some of it has come")
        worker.kill()
        orchestrator.until("SELECT status FROM transfers", "PENDING")
        assert parts_below(orchestrator)
        orchestrator.call("execution.cancel", execution_id=execution_id)
        orchestrator.sql("UPDATE workflow_executions SET cancel_by = '2020-01-01T00:00:00.000Z'")
        assert orchestrator.wait(execution_id)["status"] == "CANCELLED"
        until_cleared(orchestrator, execution_id)
        wait_until(lambda: not parts_below(orchestrator), "what had come is gone")
        worker.start()
        worker.until("SELECT COUNT(*) FROM job_executions", 0)
        wait_until(lambda: not found_below(worker.data_dir / "workflows", "*.txt"), "nothing is kept of the order")
