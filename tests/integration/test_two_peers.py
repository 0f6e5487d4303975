"""Two peers run one workflow: data of one, a program of the other, the result home."""

from __future__ import annotations

from pathlib import Path

from tests.running_peers import pair, running_peers


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
