"""A daemon that was killed carries on with what it was doing: rows are the truth from the first commit on."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from rnd.services.spawner import IDLE_S
from tests.running_peer import RunningPeer
from tests.running_peers import wait_until
from tests.services.native_processes import name_of, processes_of


def test_a_native_job_survives_the_daemon_and_its_result_is_taken(peer: RunningPeer, tmp_path: Path) -> None:
    """Kill the daemon while a job runs; the job goes on, ends meanwhile, and its output is taken by the next daemon."""
    runs = tmp_path / "runs"
    gate = tmp_path / "gate"
    workflow = peer.workflow("survivor")
    script = f"echo ran >> '{runs}'; while ! test -e '{gate}'; do sleep 0.05; done; echo result; exit 0"
    node = peer.node(workflow, peer.program("survivor", script))
    after = peer.node(workflow, peer.program("after", "cat; echo after"))
    peer.connect(workflow, node, after)
    home = peer.connect(workflow, after, None)
    execution_id = peer.execute(workflow)
    while not runs.exists():
        time.sleep(0.02)
    peer.kill()
    gate.touch()
    time.sleep(0.5)
    peer.start()
    execution = peer.wait(execution_id)
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution_id) == {(home, "stdout.txt"): b"result\nafter\n"}
    assert runs.read_text() == "ran\n"
    assert any("Job reattached" in line for line in peer.log_lines())


def test_a_running_job_is_reattached_and_can_be_cancelled(peer: RunningPeer, tmp_path: Path) -> None:
    workflow = peer.workflow("long")
    mark = tmp_path / "mark"
    peer.node(workflow, peer.program("long", f"echo $$ > '{mark}'; exec sleep 600"))
    execution_id = peer.execute(workflow)
    while not mark.exists() or not mark.read_text():
        time.sleep(0.02)
    peer.kill()
    peer.start()
    peer.call("execution.cancel", execution_id=execution_id)
    assert peer.wait(execution_id)["status"] == "CANCELLED"
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()


def test_kills_at_many_moments_of_one_workflow_change_nothing(peer: RunningPeer, tmp_path: Path) -> None:
    """Pull the plug again and again while a graph runs; it ends COMPLETED, byte-exact, each job run once."""
    runs = tmp_path / "runs"
    source = tmp_path / "source.txt"
    source.write_text("seed\n")
    workflow = peer.workflow("plug")
    previous = peer.node(workflow, peer.data("seed", source))
    step = peer.program("step", f"echo $1 >> '{runs}'; cat; sleep 0.05; echo $1")
    for number in range(12):
        node = peer.node(workflow, step, cmd=[str(number)])
        peer.connect(workflow, previous, node)
        previous = node
    home = peer.connect(workflow, previous, None)
    execution_id = peer.execute(workflow)
    for moment in range(8):
        time.sleep(0.03 + 0.04 * moment)
        peer.kill()
        peer.start()
    execution = peer.wait(execution_id)
    assert execution["status"] == "COMPLETED", execution
    expected = "seed\n" + "".join(f"{number}\n" for number in range(12))
    assert peer.results(execution_id) == {(home, "stdout.txt"): expected.encode()}
    assert runs.read_text().split() == [str(number) for number in range(12)]


def test_a_stop_in_order_keeps_jobs_and_ends_with_code_0(peer: RunningPeer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    workflow = peer.workflow("stop")
    node = peer.node(workflow, peer.program("waits", f"while ! test -e '{gate}'; do sleep 0.05; done; echo ok"))
    home = peer.connect(workflow, node, None)
    execution_id = peer.execute(workflow)
    peer.eventually("SELECT status FROM job_executions", [("RUNNING",)])
    assert peer.stop() == 0
    peer.start()
    gate.touch()
    assert peer.wait(execution_id)["status"] == "COMPLETED"
    assert peer.results(execution_id) == {(home, "stdout.txt"): b"ok\n"}


def test_a_damaged_database_is_refused_and_left_alone(peer: RunningPeer) -> None:
    peer.run(_with_one_job(peer))
    peer.kill()
    database = peer.data_dir / "rnd.db"
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(database.read_bytes())
    damaged[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    database.write_bytes(bytes(damaged))
    for leftover in peer.data_dir.glob("rnd.db-*"):
        leftover.unlink()
    try:
        peer.start()
    except AssertionError as error:
        assert "ended with 65" in str(error)
        assert "Database refused" in str(error)
    else:
        raise AssertionError("a daemon started on a damaged database")
    assert database.read_bytes() == bytes(damaged)


def _with_one_job(peer: RunningPeer) -> int:
    workflow = peer.workflow("one")
    peer.node(workflow, peer.program("one", "echo one"))
    return workflow


def test_the_spawner_is_there_before_the_first_run_of_a_peer_that_offers_programs(peer: RunningPeer) -> None:
    """Starting it takes as long as many a program; a peer that offers none keeps none."""

    def has_spawner() -> bool:
        return any(name_of(pid) == "rnd-spawner" for pid in processes_of(peer.data_dir))

    assert not has_spawner()
    peer.program("nothing", "exit 0")
    wait_until(has_spawner, "there is a spawner")
    peer.stop()
    wait_until(lambda: not has_spawner(), "the spawner has gone", within_s=IDLE_S / 2)
    peer.start()
    wait_until(has_spawner, "there is a spawner again")
    assert peer.sql("SELECT COUNT(*) FROM job_executions") == [(0,)]
