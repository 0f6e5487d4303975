"""What a delivery between two peers costs, beside rsync, scp and the raw pipes that bound it.

    python tools/bench/transfers.py [--rounds 5] [--only big,small,far,slow,narrow] [--big-bytes N] [--files N] [--chart FILE.svg]

`big`: one file of 1 GiB. `small`: 10,000 files of 4 KiB. `far`: both again, and every contender along a way that delays each byte by 10 ms
in each direction; scp, which waits several times for each file, takes part in the one file. `slow`: 256 MiB along such a way,
beside the same way without delay and beside one piece of 1 MiB after the other, each acknowledged. `narrow` (root): 1 GiB between two
network namespaces whose cable lets 100 MiB/s through. Every round runs all contenders one after the other on this
machine, in changing order; medians and the ratio to the pipe that is the limit for Python: TLS 1.3 on both sides, SHA-256
in a thread on both sides, what arrives flushed (for `small`: tar through it, then sha256sum of each file). rnd is measured
from `workflow.execute` to the commit of the receiver's confirmation: DATA of one peer delivered to a job of another; `rnd
sealed` is the same with every chunk sealed from end to end besides. Of both, the seconds of CPU of the two daemons are told too.
rsync and scp take part where they are installed with sshd; what they write is flushed by `sync -f` in the time that counts.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

from copiers import By, running_copiers  # noqa: E402 - modules beside this one, found once the path is set
from copiers import Copier as Contender  # noqa: E402 - modules beside this one, found once the path is set
from raw_pipes import piped_file, piped_tar, sent_file, stop_and_wait, straight  # noqa: E402 - modules beside this one, found once the path is set
from slow_way import SlowWay  # noqa: E402 - modules beside this one, found once the path is set

from tests.running_peers import Peer, pair, running_peers  # noqa: E402 - the project is not installed here

KEPT = Path(tempfile.mkdtemp(prefix="rnd-bench-transfers-"))
atexit.register(shutil.rmtree, KEPT, ignore_errors=True)

ONE_WAY_S = 0.01
SLOW_BYTES = 256 << 20
NARROW_BYTES_S = 100 << 20
NARROW_BYTES = 1 << 30
DEFAULTS = {
    "RND_STATUS_INTERVAL_S": "10",
    "RND_QUEUE_INTERVAL_S": "10",
    **{name: value for name, value in os.environ.items() if name.startswith("RND_")},
}
"""As a daemon is configured when nobody says otherwise, but for what this bench is told."""


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[tuple[Peer, Peer]]:
    """Have two peers that know each other."""
    with running_peers(folder, "giver", "taker", env=DEFAULTS) as (giver, taker):
        pair(giver, taker)
        yield giver, taker


@contextlib.contextmanager
def distant_peers(folder: Path, way: SlowWay) -> Iterator[tuple[Peer, Peer]]:
    """Have two peers that know each other, and have no other way to each other than this one."""
    giver = Peer(folder / "giver", env={**DEFAULTS, "RND_ADVERTISE": way.address})
    taker = Peer(folder / "taker", env=DEFAULTS)
    taker.listen_at = ""  # so that it dials, by way of the proxy
    try:
        giver.start()
        taker.start()
        listening = [line for line in giver.log_lines() if "Listening for peers: address=" in line]
        way.target = listening[-1].rpartition("=")[2]
        pair(giver, taker)
        yield giver, taker
    finally:
        giver.dispose()
        taker.dispose()
        way.close()


def far_away(port: int) -> int:
    """Return a port that leads to a port of this machine along a slow way."""
    return int(SlowWay(f"127.0.0.1:{port}", ONE_WAY_S).address.rpartition(":")[2])


class Delivery:
    """DATA of one peer, delivered to a job of another, again and again."""

    def __init__(self, giver: Peer, taker: Peer, source: Path, *, seal: bool = False) -> None:
        self.cpu_s: list[float] = []
        self._giver = giver
        self._taker = taker
        data = giver.give(f"data-{time.monotonic_ns()}", source, seal=seal)
        program = taker.offer(f"noop-{time.monotonic_ns()}", "exit 0\n")
        self._workflow = giver.workflow("delivery")
        first = giver.node(self._workflow, data["id"])
        second = giver.remote_node(self._workflow, taker, program)
        giver.connect(self._workflow, first, second)

    def __call__(self, _source: Path, _target: Path) -> float:
        with contextlib.closing(sqlite3.connect(self._taker.data_dir / "rnd.db", timeout=30)) as conn, conn:
            conn.execute("DELETE FROM arrived_folders")  # else the same content would not be sent again
        begun, used_s = time.perf_counter(), self._used_s()
        execution_id = self._giver.execute(self._workflow)
        question = (
            "SELECT t.status FROM transfers t JOIN workflow_executions w ON w.id = t.workflow_execution_id "
            "WHERE w.id = ? AND t.direction = 'OUTGOING'"
        )
        while self._giver.rows(question, execution_id) != [("COMPLETED",)]:
            time.sleep(0.01)
        took = time.perf_counter() - begun
        self.cpu_s.append(self._used_s() - used_s)
        assert self._giver.wait(execution_id, timeout_s=120)["status"] == "COMPLETED"
        return took

    def _used_s(self) -> float:
        """Return how much CPU both daemons have used so far."""
        ticks = 0
        for peer in (self._giver, self._taker):
            assert peer.process is not None
            fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def big_file(size_bytes: int) -> Path:
    """Make a file whose content does not repeat."""
    path = KEPT / "big.bin"
    with path.open("wb") as file:
        for _ in range(size_bytes >> 20):
            file.write(os.urandom(1 << 20))
    return path


def small_files(count: int) -> Path:
    """Make a folder of files of 4 KiB."""
    folder = KEPT / "small"
    for number in range(count):
        path = folder / f"{number // 100:03d}" / f"{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4096))
    return folder


def along_a_slow_way(rounds: int) -> dict[str, list[float]]:
    """Deliver along a way with and without delay; return what each took."""
    took: dict[str, list[float]] = {"rnd, 0 ms": [], "rnd, 20 ms round trip": [], "stop and wait, 20 ms round trip": []}
    source = KEPT / "slow.bin"
    with source.open("wb") as file:
        for _ in range(SLOW_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    folder, way = KEPT / "slow", SlowWay("")
    with distant_peers(folder, way) as (giver, taker):
        delivery = Delivery(giver, taker, source)
        for number in range(rounds):
            for name, one_way_s in (("rnd, 0 ms", 0.0), ("rnd, 20 ms round trip", ONE_WAY_S)):
                way.one_way_s = one_way_s
                took[name].append(delivery(source, folder))
                print(f"slow {number + 1}: {name} {took[name][-1]:.2f} s", file=sys.stderr)
            with socket.create_server(("127.0.0.1", 0)) as server:
                other = SlowWay(f"127.0.0.1:{server.getsockname()[1]}", ONE_WAY_S)
                took["stop and wait, 20 ms round trip"].append(stop_and_wait(source, other.address, server))
                other.close()
    return took


@contextlib.contextmanager
def narrow_cable() -> Iterator[tuple[str, str]]:
    """Have two network namespaces, at 10.77.0.1 and 10.77.0.2, between which 100 MiB/s pass; yield their names."""
    names = [f"rnd-bench-{os.getpid()}-{side}" for side in "ab"]
    cable = f"rb{os.getpid()}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", cable, "type", "veth", "peer", "name", cable, "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
            bound = ["rate", f"{NARROW_BYTES_S * 8}bit", "burst", "2mb", "latency", "50ms"]
            subprocess.run(["tc", "-n", name, "qdisc", "add", "dev", cable, "root", "tbf", *bound], check=True)
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def through_a_narrow_cable(rounds: int) -> dict[str, list[float]]:
    """Deliver between two namespaces; the time that the bytes alone would take stands beside."""
    source = big_file(NARROW_BYTES)
    took: list[float] = []
    folder = KEPT / "narrow"
    with narrow_cable() as names:
        peers = [Peer(folder / name, env=DEFAULTS) for name in ("giver", "taker")]
        try:
            for number, (peer, name) in enumerate(zip(peers, names, strict=True), start=1):
                peer.within, peer.listen_at = ("ip", "netns", "exec", name), f"10.77.0.{number}:0"
                peer.start()
            pair(*peers)
            delivery = Delivery(*peers, source)
            for number in range(rounds):
                took.append(delivery(source, folder))
                print(f"narrow {number + 1}: rnd {took[-1]:.2f} s", file=sys.stderr)
        finally:
            for peer in peers:
                peer.dispose()
    return {"the cable alone": [NARROW_BYTES / NARROW_BYTES_S] * rounds, "rnd": took}


def run(work: str, source: Path, contenders: dict[str, Contender], rounds: int, root: Path) -> dict[str, list[float]]:
    """Run every contender once a round; return what each took."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            target = root / re.sub(r"[^A-Za-z0-9]+", "-", f"{work} {number} {name}")
            target.mkdir(parents=True)
            os.sync()
            took[name].append(contenders[name](source, target))
            if source.is_file():
                shutil.rmtree(target)
            print(f"{work} {number + 1}: {name} {took[name][-1]:.2f} s", file=sys.stderr)
    return took


def chart(path: Path, results: dict[str, dict[str, list[float]]]) -> None:
    """Write the medians as bars, with lines from the shortest to the longest round, as one SVG."""
    rows: list[str] = []
    y = 10
    for work, took in results.items():
        longest = max(max(seconds) for seconds in took.values())
        rows.append(f'<text x="10" y="{y + 16}" font-weight="bold">{work} (s)</text>')
        y += 28
        for name, seconds in sorted(took.items(), key=lambda item: statistics.median(item[1])):
            median = statistics.median(seconds)
            low, high, end = (250 + 420 * value / longest for value in (min(seconds), max(seconds), median))
            colour = "#2a6f97" if name.startswith("rnd") else "#a9b4bd"
            rows += [
                f'<text x="240" y="{y + 14}" text-anchor="end">{name}</text>',
                f'<rect x="250" y="{y + 2}" width="{end - 250:.1f}" height="15" fill="{colour}"/>',
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 9.5}" y2="{y + 9.5}" stroke="#222"/>',
                f'<text x="{high + 6:.1f}" y="{y + 14}">{median:.2f}</text>',
            ]
            y += 22
        y += 14
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{y}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="740" height="{y}" fill="white"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def table(
    work: str, took: dict[str, list[float]], limit: str, contenders: Mapping[str, Contender] = MappingProxyType({})
) -> None:
    """Print medians and ratios to the contender that is the limit."""
    base = statistics.median(took[limit])
    print(f"\n| {work} | s (lowest to highest) | ratio | CPU s of the daemons |\n|---|---|---|---|")
    for name, seconds in sorted(took.items(), key=lambda item: statistics.median(item[1])):
        median = statistics.median(seconds)
        contender = contenders.get(name)
        cpu = f"{statistics.median(contender.cpu_s):.2f}" if isinstance(contender, Delivery) else ""
        print(f"| {name} | {median:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) | {median / base:.2f} | {cpu} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="big,small,far,slow")
    parser.add_argument("--chart", type=Path, help="write a chart of the medians there")
    parser.add_argument("--big-bytes", type=int, default=1 << 30)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--contenders", default="", help="separated by commas; all where empty")
    options = parser.parse_args()
    root = KEPT / "targets"
    root.mkdir()
    wanted = options.contenders.split(",") if options.contenders else []
    results: dict[str, dict[str, list[float]]] = {}

    def measure(work: str, source: Path, contenders: dict[str, Contender]) -> None:
        taking_part = {name: each for name, each in contenders.items() if not wanted or name in wanted}
        results[work] = run(work, source, taking_part, options.rounds, root)
        table(work, results[work], next(iter(taking_part)), taking_part)

    def one_file(giver: Peer, taker: Peer, others: dict[str, Contender], by: By, where: str) -> None:
        source = big_file(options.big_bytes)
        ours: dict[str, Contender] = {
            "raw TLS and SHA-256": partial(piped_file, by=by),
            "rnd": Delivery(giver, taker, source),
            "rnd sealed": Delivery(giver, taker, source, seal=True),
        }
        if by is straight:
            ours["raw sendfile"] = sent_file
        measure(f"one file{where}", source, ours | others)
        source.unlink()

    def many_files(giver: Peer, taker: Peer, others: dict[str, Contender], by: By, where: str) -> None:
        source = small_files(options.files)
        ours: dict[str, Contender] = {
            "tar, raw TLS, sha256sum": partial(piped_tar, by=by),
            "rnd": Delivery(giver, taker, source),
            "rnd sealed": Delivery(giver, taker, source, seal=True),
        }
        measure(f"many small files{where}", source, ours | others)

    if "big" in options.only or "small" in options.only:
        with running_copiers(KEPT, root, straight) as others, peers(KEPT) as (giver, taker):
            if "big" in options.only:
                one_file(giver, taker, others, straight, "")
            if "small" in options.only:
                many_files(giver, taker, others, straight, "")
    if "far" in options.only:
        far = running_copiers(KEPT, root, far_away)
        with far as others, distant_peers(KEPT / "far", SlowWay("", ONE_WAY_S)) as (giver, taker):
            one_file(giver, taker, others, far_away, ", 20 ms")
            others.pop("scp", None)
            many_files(giver, taker, others, far_away, ", 20 ms")
    if "slow" in options.only:
        results["256 MiB, slow way"] = along_a_slow_way(options.rounds)
        table("256 MiB, slow way", results["256 MiB, slow way"], "rnd, 0 ms")
    if "narrow" in options.only:
        results["1 GiB, 100 MiB/s"] = through_a_narrow_cable(options.rounds)
        table("1 GiB, 100 MiB/s", results["1 GiB, 100 MiB/s"], "the cable alone")
    if options.chart:
        chart(options.chart, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
