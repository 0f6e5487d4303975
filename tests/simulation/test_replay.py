"""The same seed makes the same world, to the last log line, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.runner import run_range

PROJECT: Final = Path(__file__).resolve().parent.parent.parent
SEEDS: Final = range(134, 142)


def _begin(hash_seed: str) -> subprocess.Popen[str]:
    """Run the seeds in a process of its own, in which strings have other hashes."""
    command = [
        *(sys.executable, str(PROJECT / "tools" / "simulate.py"), "--workers", "1"),
        *("--seeds", f"{SEEDS[0]}..{SEEDS[-1]}", "--verbose"),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT)


def _hashes(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return the hash of each seed's log."""
    said, _ = process.communicate()
    assert process.returncode == 0, said
    words = [line.split() for line in said.splitlines() if line.startswith("seed ")]
    return {line[1]: line[-1] for line in words}


@pytest.mark.timeout(300)
def test_a_seed_makes_the_same_world_in_two_processes() -> None:
    with _begin("1") as one, _begin("2") as other:
        first, second = _hashes(one), _hashes(other)
    assert len(first) == len(SEEDS)
    assert first == second
    assert len(set(first.values())) == len(SEEDS), "different seeds make different worlds"


def test_a_seed_makes_the_same_world_twice_in_a_row() -> None:
    seed = SEEDS[0]
    first, second = (next(iter(run_range(seed, seed, workers=1))).log_hash for _ in range(2))
    assert first == second
