"""Ten executors that know only their orchestrator run a workflow of 200 jobs: every job right, every job once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.running_peers import introduce, running_peers

PEERS = 10
CHAINS = 20
LENGTH = 10


def test_200_jobs_spread_over_ten_peers(tmp_path: Path) -> None:
    """Twenty chains of ten, each job on another peer than the one before, and each with its number in the result."""
    runs = tmp_path / "runs"
    with running_peers(tmp_path, "home", *(f"p{number}" for number in range(PEERS))) as (home, *executors):
        introduce(*((home, peer) for peer in executors))
        script = f'echo "$1" >> \'{runs}\'; cat; echo "$1"'
        steps = [peer.offer("step", script, allow_override=True) for peer in executors]
        (tmp_path / "seed").write_text("seed\n")
        workflow = home.workflow("many")
        expected: dict[int, bytes] = {}
        for chain in range(CHAINS):
            numbers = [str(chain * LENGTH + step) for step in range(LENGTH)]
            previous: int | None = None
            for step, number in enumerate(numbers):
                place = (chain + step * 3) % PEERS
                node = home.remote_node(workflow, executors[place], steps[place], cmd=[number])
                if previous is None:
                    home.connect(workflow, None, node, source_path=str(tmp_path / "seed"))
                else:
                    home.connect(workflow, previous, node)
                previous = node
            expected[home.connect(workflow, previous, None)] = "\n".join(["seed", *numbers, ""]).encode()
        execution = home.run(workflow, timeout_s=120)
        assert (execution["status"], execution["error"]) == ("COMPLETED", None)
        assert home.results(execution["id"]) == {(key, "stdout.txt"): content for key, content in expected.items()}
        assert Counter(runs.read_text().split()) == Counter(str(number) for number in range(CHAINS * LENGTH))
        counted = (
            "SELECT status, COUNT(*) FROM job_executions WHERE remote_job_execution_id IS NOT NULL GROUP BY status"
        )
        assert home.rows(counted) == [("COMPLETED", CHAINS * LENGTH)]
        for peer in executors:
            peer.until("SELECT COUNT(*) FROM outbox", 0)
            assert peer.rows("SELECT status, COUNT(*) FROM job_executions GROUP BY status") == [
                ("COMPLETED", CHAINS * LENGTH // PEERS)
            ]
