"""Two peers run one workflow: data of one, a program of the other, the result home."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running_peers import await_links, pair, running_peers, wait_until


def test_data_here_goes_through_a_program_there_and_comes_home(tmp_path: Path) -> None:
    content = "to be or not to be\n" * 5_000
    (tmp_path / "text.txt").write_text(content)
    with running_peers(tmp_path, "orchestrator", "worker") as (orchestrator, worker):
        pair(orchestrator, worker)
        text = orchestrator.call("service.create", name="text", service_type="DATA", paths=[str(tmp_path / "text.txt")])
        upper = worker.call(
            "service.create",
            name="upper",
            service_type="STANDALONE",
            executable="/usr/bin/tr",
            cmd=["a-z", "A-Z"],
        )
        workflow = orchestrator.workflow("across")
        source = orchestrator.node(workflow, text["id"])
        program = orchestrator.remote_node(workflow, worker, upper)
        orchestrator.connect(workflow, source, program)
        home = orchestrator.call(
            "workflow.add_connection",
            workflow_id=workflow,
            from_node_id=program,
            from_interface_type="STDOUT",
            to_node_id=None,
            to_interface_type="MOUNT",
            destination_file_name="upper.txt",
        )
        execution = orchestrator.run(workflow, timeout_s=60)
        assert (execution["status"], execution["error"]) == ("COMPLETED", None)
        (result,) = orchestrator.call("execution.results", execution_id=execution["id"])["items"]
        assert result["connection_id"] == home["id"]
        assert Path(result["absolute_path"]).read_text() == content.upper()
        assert [job["status"] for job in execution["jobs"]] == ["COMPLETED", "COMPLETED"]
        worker.until("SELECT COUNT(*) FROM outbox", 0)


@pytest.mark.parametrize("pin", [False, True])
def test_a_service_elsewhere_that_was_changed_is_a_warning_and_recorded_or_with_pin_refused(
    tmp_path: Path, *, pin: bool
) -> None:
    with running_peers(tmp_path, "orchestrator", "worker") as (orchestrator, worker):
        pair(orchestrator, worker)
        service = worker.call("service.create", name="x", service_type="STANDALONE", executable="/usr/bin/true")
        workflow = orchestrator.workflow("pinned")
        drawn = orchestrator.call(
            "workflow.add_node", workflow_id=workflow, peer_id=worker.peer_id, service_id=service["id"], pin=pin
        )
        assert drawn["service_revision"] == 1
        assert orchestrator.run(workflow, timeout_s=60)["status"] == "COMPLETED"

        worker.call("service.update", service_id=service["id"], cmd=["again"])
        (planned,) = orchestrator.call("workflow.plan", workflow_id=workflow)["jobs"]
        execution = orchestrator.run(workflow, timeout_s=60)
        revisions = orchestrator.rows("SELECT service_revision FROM job_executions ORDER BY id")
        if pin:
            refusal = "service x is at revision 2, and the job is pinned to 1"
            assert (planned["accepted"], planned["reasons"]) == (False, [refusal])
            assert execution["status"] == "FAILED"
            assert refusal in execution["error"]
            assert revisions == [(1,)]
        else:
            changed = "Service x has been changed since this node was drawn: revision 1 then, 2 now"
            assert (planned["accepted"], planned["warnings"]) == (True, [changed])
            assert execution["status"] == "COMPLETED"
            assert revisions == [(1,), (2,)]


def test_what_somebody_should_know_of_a_completed_job_elsewhere_is_told_here(tmp_path: Path) -> None:
    with running_peers(tmp_path, "orchestrator", "worker", config="[limits]\nstream_bytes = 3\n") as (
        orchestrator,
        worker,
    ):
        pair(orchestrator, worker)
        program = worker.call(
            "service.create", name="x", service_type="STANDALONE", executable="/usr/bin/printf", cmd=["four"]
        )
        workflow = orchestrator.workflow("remark")
        orchestrator.remote_node(workflow, worker, program)
        execution = orchestrator.run(workflow, timeout_s=60)
        assert (execution["status"], execution["error"]) == ("COMPLETED", None)
        (job,) = orchestrator.call("job.list")["items"]
        assert job["remark"] == "stdout was cut at 3 bytes; logs was cut at 3 bytes"


def test_a_job_whose_peer_has_stopped_is_explained_with_the_time_that_it_is_waited_for(tmp_path: Path) -> None:
    with running_peers(tmp_path, "orchestrator", "worker") as (orchestrator, worker):
        pair(orchestrator, worker)
        workflow = orchestrator.workflow("waiting")
        orchestrator.remote_node(workflow, worker, worker.offer("slow", "sleep 600"))
        execution = orchestrator.call("workflow.execute", workflow_id=workflow)["execution_id"]
        orchestrator.until("SELECT status FROM job_executions", "RUNNING")
        running = orchestrator.call("job.explain", job_execution_id=1)
        assert running["do"].startswith("rnd logs 1   (its owner, there: ")
        worker.stop()
        orchestrator.until("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING'", 1)
        told = orchestrator.call("job.explain", job_execution_id=1)
        assert told["status"] == "RUNNING"
        assert told["because"].startswith("Its peer was last heard to say RUNNING, and cannot be asked now: ")
        (deadline,) = orchestrator.rows("SELECT deadline_at FROM workflow_executions WHERE id = ?", execution)[0]
        assert told["because"].endswith(f"It is waited for until {deadline}, and given up then.")
        orchestrator.call("execution.cancel", execution_id=execution)


@pytest.mark.parametrize("way", ["stopped", "frozen"])
def test_a_plan_tells_of_a_peer_that_does_not_answer(tmp_path: Path, way: str) -> None:
    with running_peers(tmp_path, "orchestrator", "worker") as (orchestrator, worker):
        pair(orchestrator, worker)
        workflow = orchestrator.workflow("planned")
        node = orchestrator.remote_node(workflow, worker, worker.offer("x", "true"))
        orchestrator.connect(workflow, node, None, "STDOUT->MOUNT")
        if way == "stopped":
            worker.stop()
        else:
            worker.freeze()
        plan = orchestrator.call("workflow.plan", workflow_id=workflow)
        if way == "frozen":
            worker.thaw()
        (job,), (edge,) = plan["jobs"], plan["edges"]
        assert (plan["ok"], job["accepted"], edge["reachable"]) == (False, False, False)
        assert job["reasons"] == [edge["reason"]]
        assert worker.peer_id in edge["reason"]


def test_a_peer_that_stops_says_goodbye_and_dials_nobody_any_more(tmp_path: Path) -> None:
    with running_peers(tmp_path, "orchestrator", "worker") as (orchestrator, worker):
        worker.call("peer.add", peer_id=orchestrator.peer_id, addresses=[])  # so that the one that stops has dialled
        orchestrator.allow(worker)
        await_links(orchestrator, 1)
        workflow = orchestrator.workflow("expected")
        node = orchestrator.remote_node(workflow, worker, worker.offer("slow", "sleep 600"))
        orchestrator.connect(workflow, node, None, "STDOUT->MOUNT")
        orchestrator.call("workflow.execute", workflow_id=workflow)
        orchestrator.until("SELECT status FROM job_executions", "RUNNING")
        orchestrator.stop()
        assert "Internal error" not in orchestrator.log()
        wait_until(lambda: "Peer disconnected" in worker.log(), "the worker has lost its link")
        assert "closed by the other side with code 1001" in worker.log()
        assert worker.call("peer.get", peer_id=orchestrator.peer_id)["connected"] is False
