"""A person who forgets an open transaction at the sqlite3 shell delays the daemon; it neither falls nor fails a job."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from tests.running_peer import RunningPeer

LONGER_THAN_A_STATEMENT_WAITS_S = 6.0


def test_a_forgotten_transaction_costs_time_and_nothing_else(peer: RunningPeer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    workflow = peer.workflow("locked")
    first = peer.node(workflow, peer.program("first", f"while ! test -e '{gate}'; do sleep 0.05; done; echo first"))
    second = peer.node(workflow, peer.program("second", "cat; echo second"))
    peer.connect(workflow, first, second)
    home = peer.connect(workflow, second, None)
    execution_id = peer.execute(workflow)
    peer.eventually("SELECT status FROM job_executions WHERE id = 1", [("RUNNING",)])
    with contextlib.closing(sqlite3.connect(peer.data_dir / "rnd.db", isolation_level=None, timeout=10)) as person:
        person.execute("BEGIN IMMEDIATE")
        gate.touch()
        time.sleep(LONGER_THAN_A_STATEMENT_WAITS_S)
        person.execute("ROLLBACK")
    assert peer.process is not None
    assert peer.process.poll() is None
    execution = peer.wait(execution_id)
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution_id) == {(home, "stdout.txt"): b"first\nsecond\n"}
    assert any("Database takes no write now" in line for line in peer.log_lines())
