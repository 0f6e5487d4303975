"""Jobs that fail, flood, fork, ignore or cheat end in the right state with words a person understands; the daemon is unharmed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.running_peer import RunningPeer


def _run_one(peer: RunningPeer, script: str, *, connect: str = "STDOUT->STDIN", **service: Any) -> tuple[Any, Any]:
    """Run one job that is connected home; return (execution, job)."""
    workflow = peer.workflow("one")
    node = peer.node(workflow, peer.program("one", script, **service))
    if connect:
        peer.connect(workflow, node, None, connect)
    execution = peer.run(workflow)
    [job] = peer.call("job.list", execution_id=execution["id"])["items"]
    return execution, job


def _alive(peer: RunningPeer) -> None:
    assert peer.call("node.status")["jobs"].get("RUNNING", 0) == 0
    assert peer.get("/readyz")[0] == 200


def test_a_job_that_fails_says_its_code_and_last_words(peer: RunningPeer) -> None:
    execution, job = _run_one(peer, "echo working; echo 'no such column: age' >&2; exit 3")
    assert (execution["status"], job["status"], job["exit_code"]) == ("FAILED", "ERRORED", 3)
    assert job["error_message"] == "Process exited with code 3; last words on stderr: no such column: age"
    assert execution["error"] == f"job one failed: {job['error_message']}"
    _alive(peer)


def test_failure_spreads_to_everything_downstream(peer: RunningPeer) -> None:
    workflow = peer.workflow("spread")
    bad = peer.node(workflow, peer.program("bad", "exit 1"))
    good = peer.node(workflow, peer.program("good", "echo fine"))
    after = peer.node(workflow, peer.program("after", "cat"))
    last = peer.node(workflow, peer.program("last", "cat"))
    peer.connect(workflow, bad, after)
    peer.connect(workflow, after, last)
    peer.connect(workflow, last, None)
    home = peer.connect(workflow, good, None)
    execution = peer.run(workflow)
    jobs = {job["job_name"]: job for job in execution["jobs"]}
    assert execution["status"] == "FAILED"
    assert {name: job["status"] for name, job in jobs.items()} == {
        "bad": "ERRORED",
        "good": "COMPLETED",
        "after": "CANCELLED",
        "last": "CANCELLED",
    }
    assert jobs["last"]["error"] == "upstream job bad failed: Process exited with code 1"
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): b"fine\n"}


def test_a_job_killed_by_a_signal(peer: RunningPeer) -> None:
    execution, job = _run_one(peer, "kill -SEGV $$")
    assert (execution["status"], job["status"], job["exit_signal"]) == ("FAILED", "ERRORED", 11)
    assert "signal 11 (SIGSEGV)" in job["error_message"]
    _alive(peer)


def test_a_job_that_ignores_sigterm_ends_at_its_timeout(tmp_path: Path) -> None:
    with_short_grace = RunningPeer(tmp_path / "peer", env={"RND_DEADLINES_CANCEL_GRACE_S": "0.5"})
    try:
        with_short_grace.start()
        begun = time.monotonic()
        execution, job = _run_one(with_short_grace, "trap '' TERM; while :; do sleep 0.1; done", timeout_s=1)
        assert (execution["status"], job["status"]) == ("FAILED", "ERRORED")
        assert job["error_message"] == "timed out after 1 s (timeout_s of service one)"
        assert time.monotonic() - begun < 15
        _alive(with_short_grace)
    finally:
        with_short_grace.dispose()


def test_cancel_kills_the_whole_family(peer: RunningPeer, tmp_path: Path) -> None:
    """Children, daemonised grandchildren with a session of their own: all gone when the cancel is confirmed."""
    pids = tmp_path / "pids"
    script = f"sleep 987 & echo $! >> '{pids}'; setsid sleep 987 & echo $! >> '{pids}'; echo $$ >> '{pids}'; wait"
    workflow = peer.workflow("family")
    node = peer.node(workflow, peer.program("family", script))
    waiting = peer.node(workflow, peer.program("waiting", "cat"))
    peer.connect(workflow, node, waiting)
    execution_id = peer.execute(workflow)
    peer.eventually("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING'", [(1,)])
    while not pids.exists() or len(pids.read_text().split()) < 3:
        time.sleep(0.02)
    peer.call("execution.cancel", execution_id=execution_id, reason="changed my mind")
    execution = peer.wait(execution_id)
    assert execution["status"] == "CANCELLED"
    assert {job["status"] for job in execution["jobs"]} == {"CANCELLED"}
    assert {job["error"] for job in execution["jobs"]} == {"changed my mind"}
    for pid in map(int, pids.read_text().split()):
        assert not Path(f"/proc/{pid}").exists() or _is_zombie(pid)
    _alive(peer)


def test_a_job_that_leaves_processes_behind_completes_and_they_are_ended(peer: RunningPeer, tmp_path: Path) -> None:
    marker = f"9{os.getpid()}"
    execution, job = _run_one(peer, f"echo done; (setsid sleep {marker} >/dev/null 2>&1 &)")
    assert (execution["status"], job["status"]) == ("COMPLETED", "COMPLETED")
    left = subprocess.run(["pgrep", "-f", f"sleep {marker}"], capture_output=True, check=False)
    assert left.stdout == b""
    assert any("Leftover processes killed" in line for line in peer.log_lines())


def test_links_in_the_output_are_refused_and_nothing_is_carried(peer: RunningPeer) -> None:
    execution, job = _run_one(peer, "ln -s /etc/passwd stolen.txt; echo fine", connect="STDOUT->MOUNT")
    assert (execution["status"], job["status"]) == ("FAILED", "ERRORED")
    assert "stolen.txt" in job["error_message"]
    assert "link" in job["error_message"]
    assert peer.call("execution.results", execution_id=execution["id"])["items"] == []


def test_a_stream_that_floods_is_cut_and_not_passed_on_as_whole(tmp_path: Path) -> None:
    """Beyond the limit a stream is cut: harmless where nobody needs it, an error where a connection carries it."""
    flooding = RunningPeer(tmp_path / "peer", env={"RND_LIMITS_STREAM_BYTES": "1000000"})
    try:
        flooding.start()
        execution, job = _run_one(flooding, "yes | head -c 5000000")
        assert (execution["status"], job["status"]) == ("FAILED", "ERRORED")
        assert "stdout grew beyond the limit of 1000000 bytes" in job["error_message"]
        workflow = flooding.workflow("unconnected")
        flooding.node(workflow, flooding.program("unconnected", "yes | head -c 5000000"))
        execution = flooding.run(workflow)
        assert execution["status"] == "COMPLETED"
        log = flooding.call(
            "job.logs", job_execution_id=execution["jobs"][0]["job_execution_id"], stream="stdout", offset=999_990
        )
        assert log["next_offset"] == 1_000_000
        assert any("Stream cut" in line for line in flooding.log_lines())
    finally:
        flooding.dispose()


def test_a_job_that_removes_its_own_folder_is_told_that(peer: RunningPeer) -> None:
    execution, job = _run_one(peer, 'own=$(cd ..; pwd); cd /; rm -rf "$own"')
    assert (execution["status"], job["status"]) == ("FAILED", "ERRORED")
    assert job["error_message"] == "the job has removed its own folder, and its outputs with it"
    _alive(peer)


def test_a_program_that_is_gone_says_so(peer: RunningPeer) -> None:
    workflow = peer.workflow("gone")
    peer.node(workflow, peer.program("gone", "exit 0"))
    for path in (peer.data_dir.parent / f"{peer.data_dir.name}-programs").iterdir():
        path.unlink()
    execution = peer.run(workflow)
    assert execution["status"] == "FAILED"
    assert "gone" in execution["error"]


def test_a_flaky_service_that_is_retry_safe_gets_its_attempts(peer: RunningPeer, tmp_path: Path) -> None:
    counter = tmp_path / "count"
    script = f"cat >> '{counter}'; echo x >> '{counter}'; test $(grep -c x '{counter}') -ge 3 && echo third time"
    execution, job = _run_one(peer, script, retry_safe=True, retry={"attempts": 3, "backoff_s": 0.1})
    assert (execution["status"], job["status"], job["attempt"]) == ("COMPLETED", "COMPLETED", 3)
    assert list(peer.results(execution["id"]).values()) == [b"third time\n"]


def test_a_failed_execution_is_retried_and_reuses_what_completed(peer: RunningPeer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    runs = tmp_path / "runs"
    workflow = peer.workflow("retry")
    first = peer.node(workflow, peer.program("first", f"echo first >> '{runs}'; echo data"))
    second = peer.node(workflow, peer.program("second", f"echo second >> '{runs}'; test -e '{gate}' && cat"))
    peer.connect(workflow, first, second)
    home = peer.connect(workflow, second, None)
    failed = peer.run(workflow)
    assert failed["status"] == "FAILED"
    gate.touch()
    again = peer.wait(peer.call("execution.retry", execution_id=failed["id"])["execution_id"])
    assert again["status"] == "COMPLETED"
    assert {job["job_name"]: job["result"] for job in again["jobs"]} == {
        "first": f"reused:{failed['id']}",
        "second": None,
    }
    assert peer.results(again["id"]) == {(home, "stdout.txt"): b"data\n"}
    assert runs.read_text().split() == ["first", "second", "second"]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_captured_stream_that_the_job_removes_does_not_pass_for_an_empty_one(peer: RunningPeer) -> None:
    execution, job = _run_one(peer, "echo important; rm ../logs/stdout.txt")
    assert (execution["status"], job["status"]) == ("FAILED", "ERRORED")
    assert "logs/stdout.txt is missing" in job["error_message"]
    assert peer.call("execution.results", execution_id=execution["id"])["items"] == []
