"""What other peers cost: the start of many jobs on ten peers, the hop from a job on one to a job on another, and idling.

    python tools/bench/peers.py [--rounds 5] [--peers 10] [--jobs 200] [--hops 20] [--only start,hop,idle]

`start`: phase 1 and 2 of a workflow whose jobs are spread over the peers, from `workflow.execute` to the line that says that
it has started. `hop`: jobs in a row on two peers by turns with a small file between, each hop beside a bare `cat` process. `idle`:
memory and processor of one daemon linked to all others, which do nothing. All daemons run on this machine; medians.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import os
import shutil
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

from tests.running_peers import Peer, introduce, running_peers  # noqa: E402 - the project is not installed here

CAT = shutil.which("cat") or "/bin/cat"
NOOP = shutil.which("true") or "/bin/true"
KEPT = tempfile.mkdtemp(prefix="rnd-bench-peers-")
atexit.register(shutil.rmtree, KEPT, ignore_errors=True)
# As a daemon is configured when nobody says otherwise.
DEFAULTS = {"RND_STATUS_INTERVAL_S": "10", "RND_QUEUE_INTERVAL_S": "10"}


def offer(peer: Peer, name: str, executable: str) -> dict[str, object]:
    """Offer a program to other peers."""
    service: dict[str, object] = peer.call(
        "service.create", name=name, service_type="STANDALONE", executable=executable, confine="never"
    )
    return service


def seconds_to_start(home: Peer, executors: list[Peer], count: int) -> float:
    """Return how long phases 1 and 2 take for so many jobs on other peers, as the log tells."""
    workflow = home.workflow("start")
    services = [offer(peer, f"noop-{time.monotonic_ns()}", NOOP) for peer in executors]
    for number in range(count):
        home.remote_node(workflow, executors[number % len(executors)], services[number % len(executors)])
    execution_id = home.execute(workflow)
    assert home.wait(execution_id, timeout_s=300)["status"] == "COMPLETED"
    return _between(
        home,
        f"Executing workflow: workflow_id={workflow}, execution_id={execution_id}",
        f"Workflow execution started: execution_id={execution_id}",
    )


def _between(peer: Peer, first: str, last: str) -> float:
    times: dict[str, datetime] = {}
    for line in peer.log_lines():
        for words in (first, last):
            if f"{words} " in f"{line} ":
                times[words] = datetime.fromisoformat(line.split(" ", 1)[0])
    return (times[last] - times[first]).total_seconds()


def ms_a_hop(home: Peer, one: Peer, other: Peer, count: int) -> float:
    """Return how long a hop takes in a chain of jobs on two peers by turns, from the first start to the last end."""
    workflow = home.workflow("hops")
    services = [offer(peer, f"cat-{time.monotonic_ns()}", CAT) for peer in (one, other)]
    seed = home.data_dir.parent / "seed.txt"
    seed.write_text("seed\n")
    previous: int | None = None
    for number in range(count + 1):
        node = home.remote_node(workflow, (one, other)[number % 2], services[number % 2])
        if previous is None:
            home.connect(workflow, None, node, source_path=str(seed))
        else:
            home.connect(workflow, previous, node)
        previous = node
    home.connect(workflow, previous, None)
    execution_id = home.execute(workflow)
    assert home.wait(execution_id, timeout_s=300)["status"] == "COMPLETED"
    assert list(home.results(execution_id).values()) == [b"seed\n"]
    ((uid,),) = home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", execution_id)
    query = "SELECT started_at FROM job_executions WHERE execution_uid = ?"
    starts = sorted(datetime.fromisoformat(row[0]) for peer in (one, other) for row in peer.rows(query, uid))
    assert len(starts) == count + 1
    return (starts[-1] - starts[0]).total_seconds() * 1000 / count


def ms_a_bare_process(count: int) -> float:
    """Return how long `cat` after `cat` takes, each on the output file of the one before."""

    async def work(folder: Path) -> None:
        (folder / "0").write_text("seed\n")
        for number in range(count):
            with (folder / str(number)).open("rb") as source, (folder / str(number + 1)).open("wb") as target:
                process = await asyncio.create_subprocess_exec(CAT, stdin=source, stdout=target)
                assert await process.wait() == 0

    folder = Path(tempfile.mkdtemp(dir=KEPT))
    begun = time.perf_counter()
    asyncio.run(work(folder))
    return (time.perf_counter() - begun) * 1000 / count


def idle(peer: Peer, seconds: float) -> tuple[float, float]:
    """Return resident MiB and percent of a core of a daemon over some time."""
    assert peer.process is not None
    pid, ticks = peer.process.pid, os.sysconf("SC_CLK_TCK")

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before = used()
    time.sleep(seconds)
    share = (used() - before) / seconds * 100
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]) / 1024, share


def main() -> None:
    """Measure what was asked for and print medians with the span of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--hops", type=int, default=20)
    parser.add_argument("--idle-s", type=float, default=120.0)
    parser.add_argument("--folder", type=Path, default=Path(KEPT))
    parser.add_argument("--only", default="start,hop,idle")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(","))
    names = [f"p{number}" for number in range(arguments.peers)]
    place = Path(tempfile.mkdtemp(prefix="peers-", dir=arguments.folder))
    with running_peers(place, "home", *names, env=DEFAULTS) as (home, *executors):
        introduce(*((home, peer) for peer in executors))
        if "idle" in wanted:
            resident, share = idle(home, arguments.idle_s)
            print(f"idle, {len(executors)} links: {resident:.1f} MiB resident, {share:.3f} % of a core")
        if "start" in wanted:
            show(
                "phases 1 and 2, s",
                [seconds_to_start(home, executors, arguments.jobs) for _ in range(arguments.rounds)],
            )
        if "hop" in wanted:
            hops = [ms_a_hop(home, *executors[:2], arguments.hops) for _ in range(arguments.rounds)]
            bare = [ms_a_bare_process(arguments.hops) for _ in range(arguments.rounds)]
            show("a hop, ms", hops)
            show("a bare process, ms", bare)
            print(f"a hop over the bare process: {statistics.median(hops) - statistics.median(bare):.1f} ms")
    shutil.rmtree(place, ignore_errors=True)


def show(what: str, values: list[float]) -> None:
    """Print a median and the span of all rounds."""
    print(f"{what}: {statistics.median(values):.3f} (of {len(values)}: {min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
