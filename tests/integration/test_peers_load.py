"""Many daemons on this machine under one workflow: every job right, and begun soon after its inputs had come while a worker was free.

`RND_TEST_LOAD_PEERS` says how many there are (`tools/soak load`: 50), each of which runs twenty jobs.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from tests.daemon_holdings import holdings_of
from tests.figures import note_figures
from tests.running_peers import Peer, introduce, running_peers

PEERS = int(os.environ.get("RND_TEST_LOAD_PEERS", "5"))
JOBS_A_PEER = 20
LENGTH = 10
"""So many jobs in a row, each on another peer than the one before, get what that one made."""
SEED_BYTES = 20_000
SLOTS = 8
ENVIRONMENT = {"RND_JOB_SLOTS": str(SLOTS), "RND_QUEUE_INTERVAL_S": "10", "RND_STATUS_INTERVAL_S": "10"}
"""Intervals as they are by default: tests else ask after each of a thousand jobs every second."""
BEGUN_P50_S_MAX = 0.25
BEGUN_P99_S_MAX = 2.0
RSS_BYTES_MAX = 100 << 20
ORCHESTRATOR_RSS_BYTES_MAX = 160 << 20
"""It has a mirror of every job, and read a workflow of a thousand nodes."""
RUN_WITHIN_S = 60.0 + 6 * PEERS


@pytest.mark.timeout(120 + 20 * PEERS)
def test_every_daemon_runs_twenty_jobs_of_one_workflow(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    names = [f"p{number}" for number in range(1, PEERS)]
    with running_peers(tmp_path, "home", *names, env=ENVIRONMENT) as peers:
        home = peers[0]
        introduce(*((home, peer) for peer in peers[1:]))
        script = f'sleep 0.2; echo "$1" >> \'{runs}\'; cat; echo "$1"'
        steps = [peer.offer("step", script, allow_override=True) for peer in peers]
        workflow = home.workflow("load")
        expected: dict[int, bytes] = {}
        chance = random.Random(50)
        for chain in range(PEERS * JOBS_A_PEER // LENGTH):
            seed = tmp_path / f"seed-{chain}"
            seed.write_bytes(chance.randbytes(SEED_BYTES))
            previous: int | None = None
            numbers = range(chain * LENGTH, (chain + 1) * LENGTH)
            for number in numbers:
                place = number % PEERS
                node = home.remote_node(workflow, peers[place], steps[place], cmd=[str(number)])
                more = {"source_path": str(seed)} if previous is None else {}
                home.connect(workflow, previous, node, **more)
                previous = node
            words = "".join(f"{number}\n" for number in numbers)
            expected[home.connect(workflow, previous, None)] = seed.read_bytes() + words.encode()
        began_s, before_s = time.monotonic(), _processor_s(peers)
        execution = home.run(workflow, timeout_s=RUN_WITHIN_S)
        took_s = time.monotonic() - began_s
        assert (execution["status"], execution["error"]) == ("COMPLETED", None)
        assert home.results(execution["id"]) == {(key, "stdout.txt"): content for key, content in expected.items()}
        assert Counter(runs.read_text().split()) == Counter(str(number) for number in range(PEERS * JOBS_A_PEER))
        mine = "SELECT status, COUNT(*) FROM job_executions WHERE executor_peer_id = ? GROUP BY status"
        for peer in peers:
            assert peer.rows(mine, peer.peer_id) == [("COMPLETED", JOBS_A_PEER)]
        waits = sorted(wait for peer in peers for wait in _waits_s(peer))
        assert len(waits) == PEERS * JOBS_A_PEER
        p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        resident = [holdings_of(peer).processes["daemon"].rss_bytes for peer in peers]
        note_figures(
            "load",
            what=f"{PEERS} daemons, {PEERS * JOBS_A_PEER} jobs",
            took_s=round(took_s, 1),
            processor_s=round(_processor_s(peers) - before_s, 1),
            begun_p50_ms=round(p50 * 1000),
            begun_p99_ms=round(p99 * 1000),
            begun_most_ms=round(waits[-1] * 1000),
            daemon_mib_mean=round(sum(resident) / len(resident) / (1 << 20), 1),
            daemon_mib_most=round(max(resident[1:]) / (1 << 20), 1),
            orchestrator_mib=round(resident[0] / (1 << 20), 1),
            load=round(os.getloadavg()[0], 1),
        )
        assert p50 <= BEGUN_P50_S_MAX
        assert p99 <= BEGUN_P99_S_MAX
        assert max(resident[1:]) <= RSS_BYTES_MAX
        assert resident[0] <= ORCHESTRATOR_RSS_BYTES_MAX


def _waits_s(peer: Peer) -> Iterator[float]:
    """Yield for each job of a peer how long it waited, all its inputs there, while a worker was free, from the rows."""
    moves: dict[int, dict[str, float]] = {}
    query = "SELECT time, data FROM events WHERE type = 'job.updated' ORDER BY seq"
    own = {row[0] for row in peer.rows("SELECT id FROM job_executions WHERE executor_peer_id = ?", peer.peer_id)}
    for at, data in peer.rows(query):
        told = json.loads(data)
        if told["job_execution_id"] in own:
            moves.setdefault(told["job_execution_id"], {})[told["status"]] = datetime.fromisoformat(at).timestamp()
    arrivals = "SELECT dest_job_execution_id, MAX(completed_at) FROM transfers WHERE direction <> 'OUTGOING' GROUP BY 1"
    for job_id, at in peer.rows(arrivals):
        if job_id in own:
            moves[job_id]["READY"] = min(moves[job_id]["READY"], datetime.fromisoformat(at).timestamp())
    begins = [(each["RUNNING"], 1) for each in moves.values()]
    changes = sorted([*begins, *((each["COMPLETED"], -1) for each in moves.values())])
    for each in moves.values():
        yield _free_s(changes, each["READY"], each["RUNNING"])


def _free_s(changes: Sequence[tuple[float, int]], begin: float, end: float) -> float:
    """Return for how long of a time fewer jobs ran than there are workers; `changes` are of how many do, by their times."""
    free_s, running, last = 0.0, 0, begin
    for at, change in changes:
        if begin < at <= end:
            free_s += at - last if running < SLOTS else 0.0
            last = at
        elif at > end:
            break
        running += change
    return free_s + (end - last if running < SLOTS else 0.0)


def _processor_s(peers: Sequence[Peer]) -> float:
    """Return how much of the processors the daemons have used."""
    ticks = 0
    for peer in peers:
        assert peer.process is not None
        fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
