"""Two machines as two network namespaces: they pair and run workflows across in every direction, also where one is behind NAT."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import PROJECT

CANNOT = 77


@pytest.mark.parametrize("more", [[], ["--behind-nat"]], ids=["open", "behind NAT"])
def test_workflows_run_across_two_machines_whoever_can_be_dialled(more: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "tools/two_machines.py", *more], cwd=PROJECT, capture_output=True, text=True, timeout=110
    )
    if done.returncode == CANNOT and not os.environ.get("CI"):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("a and b are paired")
    assert sorted(line.partition(":")[0] for line in lines[1:]) == sorted(
        f"ordered by {orchestrator}, text of {source}, program of {program}"
        for orchestrator in "ab"
        for source, program in ("ab", "ba")
    )
