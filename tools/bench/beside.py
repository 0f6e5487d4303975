"""What goes on beside a big delivery: others on the same link, questions to the daemons, and the memory of both.

    python tools/bench/beside.py [--rounds 5] [--only equal,small,big] [--big-bytes N] [--folder FOLDER]

`equal`: two deliveries of 512 MiB between the same two peers at a time, then four of 256 MiB; the share of the slowest in
what the fastest got while all of them moved. `small`: files of 1 KiB, one after the other beside one of 1 GiB, and with
nothing beside them: from the moment the delivery is owed to its arrival, by the rows of both peers, and from
`workflow.execute` to the end. `big`: one delivery of 4 GiB; how long the sender takes to answer `execution.get` and the
receiver `job.get`, before and meanwhile, and how far the memory of each grows above what it was before the first byte. A
bystander, a daemon that has no part in it, is asked `node.status`: what it takes is what the machine itself makes everybody
wait.
Sources are random bytes, on the disk before anything is measured: 9 GiB at most, with what a delivery brings. Every round has daemons of its own.
What else the machine does shows in all of it: the load is printed with every round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

from tests.running_peers import Peer, pair, running_peers  # noqa: E402 - the project is not installed here

LOOK_EVERY_S = 0.01
SMALL_ONES = 8
MOUNT = {"interface_type": "MOUNT", "path": "/in", "mount_function": "INPUT"}
ENV = {"RND_STATUS_INTERVAL_S": "10", "RND_QUEUE_INTERVAL_S": "10"}


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[tuple[Peer, Peer, Peer]]:
    """Have a giver, which orders too, a taker and a bystander, configured as daemons are when nobody says otherwise."""
    place = Path(tempfile.mkdtemp(prefix="rnd-bench-beside-", dir=folder))
    try:
        with running_peers(place, "giver", "taker", "bystander", env=ENV) as (giver, taker, bystander):
            pair(giver, taker)
            yield giver, taker, bystander
    finally:
        shutil.rmtree(place, ignore_errors=True)


def filled(folder: Path, name: str, size_bytes: int) -> Path:
    """Make a file that differs under each name and each time, has no holes and is on the disk."""
    path = folder / name
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for start in range(0, size_bytes, len(block)):
            file.write(block[: size_bytes - start])
        file.flush()
        os.fsync(file.fileno())
    return path


class Order:
    """Files of the giver's own host, one to each of as many jobs of the taker, over and over again."""

    def __init__(self, giver: Peer, taker: Peer, name: str, size_bytes: int, count: int = 1) -> None:
        self._giver = giver
        self._taker = taker
        self.size_bytes = size_bytes
        self.names = [f"{name}-{number}.bin" for number in range(count)]
        program = taker.offer(name, "exit 0\n", interfaces=[MOUNT])
        self._workflow = giver.workflow(name)
        for each in self.names:
            node = giver.remote_node(self._workflow, taker, program)
            source = filled(giver.data_dir.parent, each, size_bytes)
            giver.connect(self._workflow, None, node, "STDOUT->MOUNT", source_path=str(source))
        self.execution_id = 0

    def begin(self) -> None:
        """Have it carried out."""
        self.execution_id = self._giver.execute(self._workflow)

    def finish(self) -> None:
        """Wait for its end."""
        execution = self._giver.wait(self.execution_id, timeout_s=600)
        assert execution["status"] == "COMPLETED", execution["error"]

    def arrived(self) -> dict[str, int]:
        """Return how much of each file is on the taker's disk."""
        found: dict[str, int] = {}
        for path in (self._taker.data_dir / "workflows").glob("*/*/jobs/*/*/input/**/*.bin"):
            if path.name in self.names:
                with contextlib.suppress(FileNotFoundError):  # it was put in its place in this moment
                    found[path.name] = path.stat().st_size
        return found

    def from_owed_to_arrived_s(self) -> float:
        """Return how long the one delivery took, by the clock that both peers share."""
        ((owed,),) = self._giver.rows(
            "SELECT created_at FROM transfers WHERE workflow_execution_id = ?", self.execution_id
        )
        ((uid,),) = self._giver.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", self.execution_id)
        ((arrived,),) = self._taker.rows("SELECT completed_at FROM transfers WHERE execution_uid = ?", uid)
        return (datetime.fromisoformat(arrived) - datetime.fromisoformat(owed)).total_seconds()


class Watch(threading.Thread):
    """Asks daemons something again and again, and looks at their memory."""

    def __init__(self, giver: Peer, taker: Peer, bystander: Peer, execution_id: int, job_id: int) -> None:
        super().__init__(daemon=True)
        self._giver, self._taker, self._bystander = giver, taker, bystander
        self._execution_id, self._job_id = execution_id, job_id
        self._over = threading.Event()
        self.answers_s: dict[str, list[float]] = {"giver": [], "taker": [], "bystander": []}
        self.resident_mib: dict[str, list[float]] = {"giver": [], "taker": [], "bystander": []}

    def run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self._ask("giver", self._giver, "execution.get", execution_id=self._execution_id)
            self._ask("taker", self._taker, "job.get", job_execution_id=self._job_id)
            self._ask("bystander", self._bystander, "node.status")

    def end(self) -> None:
        self._over.set()
        self.join()

    def _ask(self, name: str, peer: Peer, method: str, **params: Any) -> None:
        begun = time.perf_counter()
        peer.call(method, **params)
        self.answers_s[name].append(time.perf_counter() - begun)
        self.resident_mib[name].append(resident_mib(peer))


def resident_mib(peer: Peer) -> float:
    """Return how much memory a daemon has."""
    assert peer.process is not None
    for line in Path(f"/proc/{peer.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError("VmRSS")


def until(found: Any, within_s: float = 120.0) -> None:
    """Wait for something."""
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(LOOK_EVERY_S)


def share_of_the_slowest(order: Order) -> float:
    """Carry an order out; return the least share over the greatest of what came while all of its deliveries moved."""
    order.begin()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    while True:
        now = order.arrived()
        if len(now) == len(order.names) and min(now.values()) > 0:
            if max(now.values()) >= order.size_bytes:
                break
            first, last = first or now, now
        time.sleep(LOOK_EVERY_S)
    order.finish()
    came = [last[name] - first[name] for name in order.names]
    return min(came) / max(came)


def equal(folder: Path) -> dict[str, list[float]]:
    """Measure how deliveries of the same size share a link."""
    with peers(folder) as (giver, taker, _):
        share_of_the_slowest(Order(giver, taker, "warm", 64 << 20, 2))
        two = share_of_the_slowest(Order(giver, taker, "two", 512 << 20, 2))
        four = share_of_the_slowest(Order(giver, taker, "four", 256 << 20, 4))
    return {"share of the slowest of two, %": [100 * two], "share of the slowest of four, %": [100 * four]}


def small(folder: Path, big_bytes: int) -> dict[str, list[float]]:
    """Measure what a small delivery waits for beside a big one."""
    took: dict[str, list[float]] = {}
    with peers(folder) as (giver, taker, _):
        tiny = Order(giver, taker, "tiny", 1024)
        big = Order(giver, taker, "big", big_bytes)

        def deliver(what: str) -> None:
            begun = time.perf_counter()
            tiny.begin()
            tiny.finish()
            took.setdefault(f"1 KiB {what}, execute to end, ms", []).append(1e3 * (time.perf_counter() - begun))
            took.setdefault(f"1 KiB {what}, owed to arrived, ms", []).append(1e3 * tiny.from_owed_to_arrived_s())

        tiny.begin()
        tiny.finish()
        for _ in range(SMALL_ONES):
            deliver("alone")
        big.begin()
        until(lambda: sum(big.arrived().values()) > big_bytes // 20)
        while sum(big.arrived().values()) < big_bytes * 19 // 20:
            deliver("beside 1 GiB")
        big.finish()
    return took


def big(folder: Path, size_bytes: int) -> dict[str, list[float]]:
    """Measure answers and memory during one big delivery."""
    figures: dict[str, list[float]] = {}
    with peers(folder) as (giver, taker, bystander):
        warm = Order(giver, taker, "warm", 1024)
        warm.begin()
        warm.finish()
        order = Order(giver, taker, "big", size_bytes)

        def note(watch: Watch, what: str) -> None:
            for name, seconds in watch.answers_s.items():
                figures[f"{name} answers {what}, ms"] = [1e3 * each for each in seconds]

        ((job_id,),) = taker.rows("SELECT MAX(id) FROM job_executions")
        alone = Watch(giver, taker, bystander, warm.execution_id, job_id)
        alone.start()
        time.sleep(3)
        alone.end()
        note(alone, "alone")
        order.begin()
        until(lambda: bool(order.arrived()))
        ((job_id,),) = taker.rows("SELECT MAX(id) FROM job_executions")
        watch = Watch(giver, taker, bystander, order.execution_id, job_id)
        begun = time.perf_counter()
        watch.start()
        until(lambda: sum(order.arrived().values()) >= size_bytes, within_s=600)
        figures["MiB/s meanwhile"] = [size_bytes / (1 << 20) / (time.perf_counter() - begun)]
        watch.end()
        note(watch, "beside 4 GiB")
        order.finish()
        for name, memory in watch.resident_mib.items():
            figures[f"{name} grows by, MiB"] = [max(memory) - alone.resident_mib[name][-1]]
    return figures


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of all lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="equal,small,big")
    parser.add_argument("--big-bytes", type=int, default=4 << 30)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the daemons end with it
    rounds: dict[str, list[list[float]]] = {}
    for number in range(options.rounds):
        for name, measure in (
            ("equal", lambda: equal(options.folder)),
            ("small", lambda: small(options.folder, 1 << 30)),
            ("big", lambda: big(options.folder, options.big_bytes)),
        ):
            if name in options.only.split(","):
                before = os.getloadavg()[0]
                for what, values in measure().items():
                    rounds.setdefault(what, []).append(values)
                print(f"{number + 1}: {name}, load {before:.1f} to {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(
        "| what | median | p99 | lowest to highest of the rounds' medians | highest | values |\n|---|---|---|---|---|---|"
    )
    for what, found in rounds.items():
        values = [value for each in found for value in each]
        medians = [statistics.median(each) for each in found]
        print(
            f"| {what} | {statistics.median(values):.1f} | {quantile(values, 0.99):.1f} "
            f"| {min(medians):.1f} to {max(medians):.1f} | {max(values):.1f} | {len(values)} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
