"""Whole peers in worlds that go wrong: as many seeds as there is time for (docs/simulation.md)."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Final

import pytest

from tests.figures import note_figures
from tests.simulation.report import KINDS_OF_MISHAPS, story
from tests.simulation.runner import run_range

SECONDS: Final = float(os.environ.get("RND_TEST_SIMULATION_S", "130"))
SEEDS_AT_LEAST: Final = 40
WORKERS: Final = 2
SHARE_OF_EACH: Final = 0.01


@pytest.mark.timeout(SECONDS + 300)
def test_nothing_that_must_not_happen_happens_in_any_world() -> None:
    begun_s = time.monotonic()
    worlds_with: Counter[str] = Counter()
    done = 0
    for verdict in run_range(1, 1_000_000, workers=WORKERS):
        done += 1
        worlds_with.update(verdict.counts.keys())
        assert not verdict.problems, f"tools/simulate --seeds {verdict.seed}\n{verdict.problems[0]}\n{story(verdict)}"
        if done >= SEEDS_AT_LEAST and time.monotonic() - begun_s > SECONDS:
            break
    took_s = time.monotonic() - begun_s
    note_figures("simulation", seeds=done, seconds=round(took_s, 1), seeds_a_second=round(done / took_s, 2))
    rare = [kind for kind in KINDS_OF_MISHAPS if worlds_with[kind] < SHARE_OF_EACH * done]
    assert not rare or done < 1 / SHARE_OF_EACH, f"hardly ever happened in {done} worlds: {rare}"
    for what in ("execution COMPLETED", "execution FAILED", "execution CANCELLED", "act retry"):
        assert worlds_with[what], f"there was no {what} in {done} worlds"
