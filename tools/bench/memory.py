"""What big deliveries leave in the daemon's memory: a DATA service of many small files through a job, again and again.

    python tools/bench/memory.py [--files 100000] [--rounds 4] [--settle 5] [--rest 120]

Prints a row of resident memory for the idle daemon, after taking the files in, and after each execution: the peak since
the row before, and what is left `--settle` seconds later; the last row comes after `--rest` seconds without work.
Nothing here is a test: allocators and machines differ.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

from tests.running_peer import RunningPeer, running_peer  # noqa: E402 - the project is not installed here

FILES_A_FOLDER = 1000
MOUNT = {"interface_type": "MOUNT", "path": "/in", "mount_function": "INPUT"}
STDOUT = {"interface_type": "STDOUT"}


def print_row(peer: RunningPeer, what: str, settle_s: float) -> None:
    """Print the peak since the last row, and what is left after a while; begin a new peak."""
    peak = _resident_mib(peer, "VmHWM")
    time.sleep(settle_s)
    print(f"| {what} | {peak:.1f} | {_resident_mib(peer, 'VmRSS'):.1f} |", flush=True)
    assert peer.process is not None
    Path(f"/proc/{peer.process.pid}/clear_refs").write_text("5")


def _resident_mib(peer: RunningPeer, field: str) -> float:
    assert peer.process is not None
    for line in Path(f"/proc/{peer.process.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def _make_files(folder: Path, count: int) -> None:
    for number in range(count):
        below = folder / f"{number // FILES_A_FOLDER:04}"
        if number % FILES_A_FOLDER == 0:
            below.mkdir(parents=True)
        (below / f"file-{number:06}.txt").write_text(f"{number}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds between an end and the look at it")
    parser.add_argument("--rest", type=float, default=120.0, help="seconds without work before the last row")
    parser.add_argument("--folder", help="where to make the files and the peer; a temporary folder without it")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rnd-bench-", dir=options.folder))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _make_files(folder / "many", options.files)
    # The intervals of a real peer, not the short ones of tests.
    intervals = {name: os.environ.get(name, "10") for name in ("RND_QUEUE_INTERVAL_S", "RND_STATUS_INTERVAL_S")}
    with running_peer(folder / "peer", env=intervals) as peer:
        print("| daemon | peak, MiB | afterwards, MiB |\n|---|---|---|")
        print_row(peer, "idle", options.settle)
        data = peer.data("many", folder / "many")
        print_row(peer, f"{options.files:,} files taken in", options.settle)
        count = peer.program("count", 'find "$RND_MOUNT_IN/" -type f | wc -l\n', interfaces=[MOUNT, STDOUT])
        workflow = peer.workflow("count")
        source, counter = peer.node(workflow, data), peer.node(workflow, count)
        peer.connect(workflow, source, counter, "STDOUT->MOUNT")
        peer.connect(workflow, counter, None, "STDOUT->MOUNT")
        for number in range(options.rounds):
            execution = peer.run(workflow, timeout_s=600)
            assert execution["status"] == "COMPLETED", execution["error"]
            print_row(peer, f"execution {number + 1}", options.settle)
        print_row(peer, f"{options.rest:g} s later", options.rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
