"""The document's Debugging Guide works as written: its sqlite3 queries, its greps, and its two manual repairs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.running_peer import RunningPeer


def _sqlite3(peer: RunningPeer, query: str) -> str:
    """Type a query into the sqlite3 shell, as the guide does."""
    done = subprocess.run(
        ["sqlite3", str(peer.data_dir / "rnd.db"), query], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout


def _grep(peer: RunningPeer, words: str) -> list[str]:
    done = subprocess.run(
        ["grep", words, "logs/peer.log"], cwd=peer.data_dir, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()


def _waiting_workflow(peer: RunningPeer, tmp_path: Path) -> tuple[int, Path]:
    """Start a workflow of three jobs: one done, one that runs until its gate opens, one that waits for both."""
    gate = tmp_path / "gate"
    workflow = peer.workflow("waiting")
    done = peer.node(workflow, peer.program("done", "echo done"))
    slow = peer.node(workflow, peer.program("slow", f"while ! test -e '{gate}'; do sleep 0.05; done; echo slow"))
    last = peer.node(workflow, peer.program("last", "cat"))
    peer.connect(workflow, done, last)
    peer.connect(workflow, slow, last)
    peer.connect(workflow, last, None)
    execution_id = peer.execute(workflow)
    peer.eventually(
        "SELECT je.id, je.status FROM job_executions AS je ORDER BY je.id",
        [(1, "COMPLETED"), (2, "RUNNING"), (3, "IDLE")],
    )
    peer.eventually("SELECT COUNT(*) FROM job_interface_peers WHERE duty_acknowledged = 1", [(2,)])
    return execution_id, gate


def test_queries_on_a_waiting_and_then_finished_workflow(peer: RunningPeer, tmp_path: Path) -> None:
    execution_id, gate = _waiting_workflow(peer, tmp_path)
    me = peer.call("node.status")["peer_id"]
    issue_1 = "SELECT id, status, execution_constraint, start_received FROM job_executions WHERE id = {};"
    assert _sqlite3(peer, issue_1.format(3)) == "3|IDLE|INPUTS_READY|1\n"
    assert _sqlite3(peer, issue_1.format(2)) == "2|RUNNING|NONE|1\n"
    issue_2 = """
      SELECT ji.interface_type, ji.path,
             jip.peer_id, jip.peer_mount_function, jip.duty_acknowledged
      FROM job_interfaces ji
      JOIN job_interface_peers jip ON ji.id = jip.job_interface_id
      WHERE ji.job_execution_id = 3;
    """
    assert sorted(_sqlite3(peer, issue_2).splitlines()) == [
        f"STDIN|/input|{me}|OUTPUT|0",
        f"STDIN|/input|{me}|OUTPUT|1",
        f"STDOUT|/output|{me}|INPUT|0",
    ]
    issue_4 = """
      SELECT id, executor_peer_id, remote_job_execution_id, status
      FROM workflow_jobs
      WHERE workflow_execution_id = 1;
    """
    assert _sqlite3(peer, issue_4) == f"1|{me}||COMPLETED\n2|{me}||RUNNING\n3|{me}||IDLE\n"
    issue_5 = """
      SELECT je.id, je.status, je.error_message
      FROM job_executions je
      JOIN workflow_jobs wj ON je.workflow_job_id = wj.id
      WHERE wj.workflow_execution_id = 1;
    """
    assert _sqlite3(peer, issue_5) == "1|COMPLETED|\n2|RUNNING|\n3|IDLE|\n"
    non_terminal = """
      SELECT id, status FROM job_executions
      WHERE workflow_job_id IN (
        SELECT id FROM workflow_jobs WHERE workflow_execution_id = 1
      ) AND status NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED');
    """
    assert _sqlite3(peer, non_terminal) == "2|RUNNING\n3|IDLE\n"
    listing = subprocess.run(
        f"ls -d '{peer.data_dir}'/workflows/*/*/jobs/*/*/input/*/*/",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(listing.stdout.splitlines()) == 1
    explanation = peer.call("job.explain", job_execution_id=3)
    assert explanation["status"] == "IDLE"
    assert "slow" in explanation["because"]
    gate.touch()
    assert peer.wait(execution_id)["status"] == "COMPLETED"
    assert _sqlite3(peer, issue_5) == "1|COMPLETED|\n2|COMPLETED|\n3|COMPLETED|\n"
    assert sorted(_sqlite3(peer, issue_2).splitlines())[2] == f"STDOUT|/output|{me}|INPUT|1"
    assert _sqlite3(peer, non_terminal) == ""
    assert _sqlite3(peer, "SELECT * FROM offered_services WHERE name = 'slow';").startswith("2|slow|")


def test_queries_on_a_failed_workflow(peer: RunningPeer) -> None:
    workflow = peer.workflow("failed")
    bad = peer.node(workflow, peer.program("bad", "exit 7"))
    after = peer.node(workflow, peer.program("after", "cat"))
    peer.connect(workflow, bad, after)
    assert peer.run(workflow)["status"] == "FAILED"
    issue_5 = """
      SELECT je.id, je.status, je.error_message
      FROM job_executions je
      JOIN workflow_jobs wj ON je.workflow_job_id = wj.id
      WHERE wj.workflow_execution_id = 1;
    """
    assert _sqlite3(peer, issue_5) == (
        "1|ERRORED|Process exited with code 7\n2|CANCELLED|upstream job bad failed: Process exited with code 7\n"
    )
    assert _sqlite3(peer, "SELECT node, status, exit_code FROM v_job_story WHERE execution = 1") == (
        "bad|ERRORED|7\nafter|CANCELLED|\n"
    )


def test_an_orphaned_job_set_to_errored_by_hand(peer: RunningPeer, tmp_path: Path) -> None:
    """`UPDATE job_executions SET status = 'ERRORED'`: the process is killed, the failure spreads, the event is there."""
    execution_id, _ = _waiting_workflow(peer, tmp_path)
    _sqlite3(peer, "UPDATE job_executions SET status = 'ERRORED' WHERE id = 2;")
    execution = peer.wait(execution_id, timeout_s=10)
    assert execution["status"] == "FAILED"
    assert {job["job_name"]: job["status"] for job in execution["jobs"]} == {
        "done": "COMPLETED",
        "slow": "ERRORED",
        "last": "CANCELLED",
    }
    deadline = time.monotonic() + 10
    while _slow_runs(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _slow_runs(tmp_path)
    told = peer.sql("""SELECT data FROM events WHERE type = 'job.updated' AND data LIKE '%"status":"ERRORED"%'""")
    assert len(told) == 1
    assert _grep(peer, "Repair by hand noticed: table=job_executions, id=2, status=ERRORED")


def test_an_execution_forced_to_completed_by_hand(peer: RunningPeer, tmp_path: Path) -> None:
    """The guide's forced completion: what still runs is killed, the status stays as typed, the event is written."""
    execution_id, _ = _waiting_workflow(peer, tmp_path)
    _sqlite3(
        peer,
        "UPDATE workflow_executions SET status = 'COMPLETED', completed_at = datetime('now')\n"
        f"WHERE id = {execution_id};",
    )
    peer.eventually(
        "SELECT status FROM job_executions ORDER BY id", [("COMPLETED",), ("CANCELLED",), ("CANCELLED",)], timeout_s=10
    )
    execution = peer.call("execution.get", execution_id=execution_id)
    assert execution["status"] == "COMPLETED"
    assert execution["completed_at"].endswith("Z")
    deadline = time.monotonic() + 10
    while _slow_runs(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _slow_runs(tmp_path)
    told = peer.sql("SELECT COUNT(*) FROM events WHERE type = 'execution.updated' AND data LIKE '%by_hand%'")
    assert told == [(1,)]


def test_the_greps_of_the_guide(peer: RunningPeer, tmp_path: Path) -> None:
    """Each grep that can find something on one peer does, for a workflow that moves data and runs a program."""
    source = tmp_path / "source.txt"
    source.write_text("content\n")
    workflow = peer.workflow("greps")
    start = peer.node(workflow, peer.data("source", source))
    node = peer.node(workflow, peer.program("cat", "cat"))
    peer.connect(workflow, start, node)
    peer.connect(workflow, node, None)
    assert peer.run(workflow)["status"] == "COMPLETED"
    for words in (
        "Initiating transfer",
        "Transfer request sent",
        "Transfer accepted",
        "Transfer completed",
        "Sending start command",
        "Job start received",
    ):
        assert _grep(peer, words), words


def _slow_runs(tmp_path: Path) -> bool:
    """Say whether the program that waits for the gate still runs."""
    found = subprocess.run(["pgrep", "-f", "peer-programs/slow"], capture_output=True, text=True, check=False)
    return any(str(tmp_path) in _command_line(pid) for pid in found.stdout.split())


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
