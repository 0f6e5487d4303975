"""Peers that are put back from a backup that is older than what they have done: nothing runs twice, nothing waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import PROJECT, RunningPeer, processes_below
from tests.running_peers import Peer, running_peers, wait_until

WORDS = "that this peer was restored from; nobody can say how it went on"


def command(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "rnd", *map(str, words)], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def lose(peer: RunningPeer) -> None:
    """End a daemon and all that it runs, as a machine that is gone does."""
    peer.kill()
    for pid in processes_below(peer.data_dir):
        os.kill(pid, signal.SIGKILL)


def counting(place: Path, gate: Path) -> str:
    """A program that says in a file that it runs, and goes on once another file is there."""
    return f"echo run >> {place}\nwhile [ ! -e {gate} ]; do sleep 0.05; done\necho out\n"


def runs(place: Path) -> int:
    return len(place.read_text().splitlines()) if place.exists() else 0


def test_what_was_open_in_a_backup_fails_and_runs_no_more(tmp_path: Path) -> None:
    peer = RunningPeer(tmp_path / "peer", config="job_slots = 1\n")
    again = RunningPeer(tmp_path / "again")
    count, gate = tmp_path / "count", tmp_path / "gate"
    source = tmp_path / "data.txt"
    source.write_text("hello\n")
    try:
        peer.start()
        done = peer.workflow("done")
        node = peer.node(done, peer.data("text", source))
        peer.connect(done, node, None, "STDOUT->MOUNT")
        assert peer.run(done)["status"] == "COMPLETED"
        slow = peer.workflow("slow")
        first = peer.node(slow, peer.program("slow", counting(count, gate)))
        second = peer.node(slow, peer.program("second", f"cat; echo run >> {count}\n"))
        peer.connect(slow, first, second)
        running, waiting = peer.execute(slow), peer.execute(slow)
        wait_until(lambda: runs(count) == 1, "the first job runs")
        assert "whoever can read this file can be this peer" in command(
            "backup", tmp_path / "b.tar", "--data-dir", peer.data_dir, "--with-data"
        )
        gate.touch()
        assert {peer.wait(running)["status"], peer.wait(waiting)["status"]} == {"COMPLETED"}
        assert runs(count) == 4
        later = peer.run(slow)["id"]
        lose(peer)

        told = command("restore", tmp_path / "b.tar", "--data-dir", again.data_dir)
        assert "2 executions and 4 jobs were open in the backup" in told
        again.start()
        for execution in (running, waiting):
            ended = again.wait(execution)
            assert (ended["status"], WORDS in ended["error"]) == ("FAILED", True)
        again.eventually("SELECT DISTINCT status FROM job_executions WHERE job_name <> 'text'", [("ERRORED",)])
        assert runs(count) == 6, "nothing of it has run again"
        assert again.call("workflow.get", workflow_id=done)["name"] == "done"
        new = again.run(done)
        assert new["status"] == "COMPLETED"
        assert new["id"] > later, "no id is given out twice"
        assert list(again.results(new["id"]).values()) == [b"hello\n"]
    finally:
        peer.dispose()
        again.dispose()


def test_data_that_is_not_in_a_backup_is_offered_no_more_until_it_is_back(tmp_path: Path) -> None:
    peer, again = RunningPeer(tmp_path / "peer"), RunningPeer(tmp_path / "again")
    source = tmp_path / "data.txt"
    source.write_text("hello\n")
    try:
        peer.start()
        service = peer.data("text", source)
        command("backup", tmp_path / "b.tar", "--data-dir", peer.data_dir)
        peer.stop()
        assert "INACTIVE until their files are back below services/: text" in command(
            "restore", tmp_path / "b.tar", "--data-dir", again.data_dir
        )
        (peer.data_dir / "services").rename(again.data_dir / "services")
        again.start()
        assert again.call("service.get", service_id=service)["status"] == "INACTIVE"
        again.call("service.set_status", service_id=service, status="ACTIVE")
        workflow = again.workflow("read")
        again.connect(workflow, again.node(workflow, service), None, "STDOUT->MOUNT")
        execution = again.run(workflow)
        assert list(again.results(execution["id"]).values()) == [b"hello\n"]
    finally:
        peer.dispose()
        again.dispose()


class Pair:
    """Two peers of which one is put back; `home` orders, `worker` runs."""

    def __init__(self, place: Path, home: Peer, worker: Peer) -> None:
        self.place, self.home, self.worker = place, home, worker
        self.count, self.gate = place / "count", place / "gate"
        home.allow(worker)
        worker.allow(home)
        service = worker.offer("remote", counting(self.count, self.gate))
        self.workflow = home.workflow("across")
        home.connect(self.workflow, home.remote_node(self.workflow, worker, service), None, "STDOUT->MOUNT")

    def put_back(self, peer: Peer) -> None:
        """Lose a peer and have its backup take its place."""
        lose(peer)
        peer.data_dir.rename(peer.data_dir.with_name(f"{peer.data_dir.name}-lost"))
        command("restore", self.place / "b.tar", "--data-dir", peer.data_dir)
        peer.listen_at = peer.address
        peer.start()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    env = {"RND_STATUS_INTERVAL_S": "0.3", "RND_QUEUE_INTERVAL_S": "0.3"}
    with running_peers(tmp_path, "home", "worker", env=env) as (home, worker):
        yield Pair(tmp_path, home, worker)


def test_an_executor_that_is_put_back_repeats_nothing_that_it_has_delivered(pair: Pair) -> None:
    execution = pair.home.execute(pair.workflow)
    wait_until(lambda: runs(pair.count) == 1, "the job runs")
    command("backup", pair.place / "b.tar", "--data-dir", pair.worker.data_dir)
    pair.gate.touch()
    assert pair.home.wait(execution)["status"] == "COMPLETED"
    pair.put_back(pair.worker)
    pair.worker.until("SELECT status FROM job_executions", "ERRORED")
    pair.worker.until("SELECT COUNT(*) FROM outbox", 0)
    assert pair.home.call("execution.get", execution_id=execution)["status"] == "COMPLETED"
    assert list(pair.home.results(execution).values()) == [b"out\n"]
    assert runs(pair.count) == 1
    again = pair.home.run(pair.workflow)
    assert (again["status"], runs(pair.count)) == ("COMPLETED", 2)


def test_whoever_waits_for_an_executor_that_is_put_back_is_told_at_once(pair: Pair) -> None:
    """Its report is newer than all that it has said after the backup, and so is taken."""
    execution = pair.home.execute(pair.workflow)
    wait_until(lambda: runs(pair.count) == 1, "the job runs")
    command("backup", pair.place / "b.tar", "--data-dir", pair.worker.data_dir)
    pair.home.sql("UPDATE job_executions SET status_seq = status_seq + 1000")
    pair.put_back(pair.worker)
    ended = pair.home.wait(execution, timeout_s=20)
    assert (ended["status"], WORDS in ended["error"]) == ("FAILED", True)
    assert runs(pair.count) == 1


def test_an_orchestrator_that_is_put_back_repeats_no_order_and_may_retry(pair: Pair) -> None:
    execution = pair.home.execute(pair.workflow)
    wait_until(lambda: runs(pair.count) == 1, "the job runs")
    command("backup", pair.place / "b.tar", "--data-dir", pair.home.data_dir)
    pair.gate.touch()
    assert pair.home.wait(execution)["status"] == "COMPLETED"
    pair.put_back(pair.home)
    ended = pair.home.wait(execution, timeout_s=20)
    assert (ended["status"], WORDS in ended["error"]) == ("FAILED", True)
    pair.home.until("SELECT COUNT(*) FROM outbox", 0)
    assert pair.worker.rows("SELECT status FROM job_executions") == [("COMPLETED",)]
    assert runs(pair.count) == 1
    retried = pair.home.wait(pair.home.call("execution.retry", execution_id=execution)["execution_id"])
    assert retried["status"] == "COMPLETED"
    assert list(pair.home.results(retried["id"]).values()) == [b"out\n"]
