"""rnd demo and tools/localnet: peers on this machine that run a workflow, can be started again, and leave nothing running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rnd.cli.connection import Daemon
from tests.integration.test_quickstart import PROJECT, processes_that_know

LOCALNET = PROJECT / "tools" / "localnet"
ENVIRONMENT = {**os.environ, "TOOLS_ENVIRONMENT": sys.prefix, "PYTHONPATH": str(PROJECT), "RND_CHUNK_BYTES": "nonsense"}


def run_demo(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rnd", "demo", "--directory", str(place), *arguments],
        env=ENVIRONMENT,
        cwd=place.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo_runs_a_workflow_across_two_peers_and_ends_both(tmp_path: Path) -> None:
    place = tmp_path / "a demo"
    (tmp_path / "words.txt").write_text("two one Two\n")
    done = run_demo(place, "words.txt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "      2 two\n      1 one\n" in done.stdout
    assert (place / "results" / "counts.txt").read_text().split() == ["2", "two", "1", "one"]
    assert processes_that_know(place) == []
    again = run_demo(place)
    assert (again.returncode, again.stderr.splitlines()[0]) == (2, f"rnd: {place} is not empty")


def test_what_the_demo_cannot_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    done = run_demo(place, "nothing-there")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "rnd: nothing-there is no file")
    assert not place.exists()


def run_localnet(folder: Path, output: Path, *arguments: str) -> list[str]:
    """Start a network, wait until it says so, look at who is linked, stop it; return its lines."""
    with output.open("w") as out:
        process = subprocess.Popen(
            [str(LOCALNET), "3", str(folder), *arguments], env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline_s = time.monotonic() + 60
        while "Ctrl-C stops them all." not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline_s, output.read_text()
            time.sleep(0.05)
        with contextlib.closing(Daemon(data_dir=folder / "peer-2")) as daemon:
            status = daemon.call("node.status")
        assert status["peers_connected"] == (1 if "--star" in arguments else 2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
    assert processes_that_know(folder) == []
    return output.read_text().splitlines()


def test_a_local_network_is_paired_and_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    first = run_localnet(folder, tmp_path / "first.txt")
    again = run_localnet(folder, tmp_path / "again.txt")
    assert [line.split()[:3] for line in again[:3]] == [line.split()[:3] for line in first[:3]]


def test_a_star_pairs_the_first_with_all_others_only(tmp_path: Path) -> None:
    lines = run_localnet(tmp_path / "net", tmp_path / "said.txt", "--star")
    assert [line.split()[3] for line in lines[:3]] == ["2", "1", "1"]
