"""The figures of tools/soak say what was measured, and end with 1 where a test is missing or not as it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "soak_figures.py"
MANY = {"stage": "sizes", "what": "many entries", "entries": 100_000, "took_s": 20.5}


def point(twice_bytes: int, *, is_exact: bool = True) -> dict[str, Any]:
    return {
        "stage": "cuts",
        "what": "256 MiB",
        "twice_bytes": twice_bytes,
        "allowed_bytes": 47_000_000,
        "is_exact": is_exact,
    }


def summed_up(folder: Path, figures: list[dict[str, Any]], expected: int) -> tuple[int, str]:
    path = folder / "cuts"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in figures))
    done = subprocess.run([sys.executable, TOOL, path, str(expected)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_points_are_summed_up_in_a_line(tmp_path: Path) -> None:
    code, line = summed_up(tmp_path, [point(1_000_000), point(40_000_000), point(2_000_000)], 3)
    assert code == 0
    assert line.startswith("256 MiB, 3 points: all exact: yes; went twice, in million bytes: median 2.0, most 40.0, ")
    assert line.endswith("allowed 47.0 (5 % or 7 MiB, and one window), beyond that 0\n")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (point(1, is_exact=False), "all exact: NO, 1 are not"),
        (point(47_000_000), "beyond that 1"),
        (None, "all exact: NO, 1 are not"),
    ],
)
def test_a_point_that_is_not_as_it_should_be_is_said(tmp_path: Path, last: dict[str, Any] | None, words: str) -> None:
    code, line = summed_up(tmp_path, [point(1), *([] if last is None else [last])], 2)
    assert code == 1
    assert words in line


def test_other_figures_are_said_by_their_names(tmp_path: Path) -> None:
    assert summed_up(tmp_path, [MANY], 1) == (0, "many entries: entries 100,000, took_s 20.5\n")
    assert summed_up(tmp_path, [MANY], 2)[0] == 1
    assert summed_up(tmp_path, [], 2) == (1, "cuts: nothing was measured\n")


def test_faults_are_summed_up_in_a_line_and_one_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    ends = [(3, True, "COMPLETED"), (1, False, "FAILED"), (2, False, "COMPLETED"), (0, False, "COMPLETED")]
    faults = [
        {"stage": "faults", "what": "", "seed": seed, "injected": injected, "died": died, "outcome": outcome}
        for seed, (injected, died, outcome) in enumerate(ends)
    ]
    code, line = summed_up(tmp_path, faults, 4)
    assert code == 0
    assert line == (
        "system calls that fail, 4 workflows: 4 were right; 3 met the fault: 2 COMPLETED, 1 FAILED; "
        "1 of their daemons ended and started again\n"
    )
    assert summed_up(tmp_path, faults, 5)[0] == 1


def test_kills_are_summed_up_in_a_line_and_one_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    kills = [
        {"stage": "kills", "what": f"seed {each}", "fate": "ample", "converged_s": each / 10} for each in range(1, 101)
    ]
    code, line = summed_up(tmp_path, kills, 100)
    assert code == 0
    assert line == (
        "killed at random moments, 100 workflows: 100 came to an end; that came, in seconds after the last restart: median 5.0, "
        "95th percentile 9.5, most 10.0\n"
    )
    code, line = summed_up(tmp_path, kills[1:], 100)
    assert code == 1
    assert "100 workflows: 99 came to an end" in line


def test_schedules_of_wires_are_summed_up_in_a_line_and_one_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    wires: list[dict[str, Any]] = [
        {
            "stage": "wire",
            "what": f"seed {each}",
            "status": "CANCELLED" if each % 4 == 0 else "COMPLETED",
            "converged_s": each / 10,
            "resent_bytes": each * 100_000,
            "attempts_more": 1,
            "faults": {"stall": 1, "reset": 2},
            "is_long": each == 1,
        }
        for each in range(1, 101)
    ]
    code, line = summed_up(tmp_path, wires, 100)
    assert code == 0
    assert line == (
        "100 schedules of faulty wires: 100 came right (COMPLETED 75, CANCELLED 25), 1 of them with a fault longer than liveness; "
        "faults: reset 200, stall 100; everything was settled, in seconds after healing: median 5.0, 95th percentile 9.5, most 10.0; "
        "sent again, in million bytes: median 5.0, 95th percentile 9.5, most 10.0; attempts beyond the first of a delivery: 100\n"
    )
    code, line = summed_up(tmp_path, wires[1:], 100)
    assert code == 1
    assert "100 schedules of faulty wires: 99 came right" in line
