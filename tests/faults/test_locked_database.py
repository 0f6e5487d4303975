"""Somebody holds the databases of two daemons locked, again and again, while a workflow runs across them: it only takes longer."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.machine_site import FaultSite, Scribe, fault_site
from tests.running_peers import Peer

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("test_locked_database")]  # its tests share daemons

SEEDS = range(1)
LONGER_THAN_A_STATEMENT_WAITS_S = 7.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    with fault_site(tmp_path_factory.mktemp("site")) as daemons:
        yield daemons


@contextlib.contextmanager
def meddling(peer: Peer, rng: random.Random) -> Iterator[None]:
    """Be a person who forgets transactions, empties the log by hand and reads on and on."""
    is_over = threading.Event()
    pauses = [LONGER_THAN_A_STATEMENT_WAITS_S, *(rng.uniform(0, 0.4) for _ in range(200))]
    modes = [rng.choice(("IMMEDIATE", "EXCLUSIVE", "DEFERRED")) for _ in pauses]

    def meddle() -> None:
        with contextlib.closing(sqlite3.connect(peer.data_dir / "rnd.db", isolation_level=None, timeout=30)) as person:
            for pause_s, mode in zip(pauses, ["EXCLUSIVE", *modes], strict=False):
                person.execute(f"BEGIN {mode}")
                person.execute("SELECT COUNT(*) FROM job_executions").fetchone()
                is_over.wait(pause_s)
                person.execute("ROLLBACK")
                person.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                if is_over.wait(rng.uniform(0, 0.05)):
                    return

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("seed", SEEDS)
def test_locks_cost_time_and_nothing_else(site: FaultSite, tmp_path: Path, seed: int) -> None:
    home, b = site.home, site.b
    drawn = site.draw()
    with contextlib.ExitStack() as stack:
        for number, peer in enumerate((home, b)):
            stack.enter_context(meddling(peer, random.Random(10 * seed + number)))
        scribe = stack.enter_context(Scribe(home, f"locked{seed}"))
        drawn.gate.touch()
        execution_id = site.execute(drawn)
        execution = home.wait(execution_id, timeout_s=90)
    assert site.check(drawn, execution) == "COMPLETED", execution["error"]
    scribe.check()
    assert not home.is_dead()
    assert not b.is_dead()
    assert all("is locked by another program" in refusal.message for refusal in scribe.refusals)
    assert scribe.refusals or "Database takes no write now" in home.log() + b.log(), "somebody has met a lock"
