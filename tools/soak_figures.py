"""Say in a line each what the tests of one stage of tools/soak have measured; end with 1 where not all of it is as it should.

    python tools/soak_figures.py FILE EXPECTED

FILE has the figures as tests/figures.py writes them; EXPECTED is how many lines of it a stage has in which no test failed early.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


def main() -> int:
    path, expected = Path(sys.argv[1]), int(sys.argv[2])
    figures = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    points = [each for each in figures if "twice_bytes" in each]
    lines = [words_of_points(points, expected)] if points else []
    kills = [each for each in figures if "converged_s" in each]
    lines += [words_of_kills(kills, expected)] if kills else []
    lines += [words_of(each) for each in figures if each not in points and each not in kills]
    print("\n".join(lines) or f"{path.name}: nothing was measured")
    return 0 if len(figures) == expected and all(map(is_good, points)) else 1


def words_of_points(points: Sequence[Figures], expected: int) -> str:
    """Return what came of deliveries that came to harm at random points."""
    exact = sum(each["is_exact"] for each in points)
    twice = [each["twice_bytes"] / 1e6 for each in points]
    allowed = max(each["allowed_bytes"] for each in points) / 1e6
    beyond = sum(each["twice_bytes"] >= each["allowed_bytes"] for each in points)
    words = "all exact: yes" if exact == expected else f"all exact: NO, {expected - exact} are not"
    return (
        f"{points[0]['what']}, {expected} points: {words}; went twice, in million bytes: median {statistics.median(twice):.1f}, "
        f"most {max(twice):.1f}, allowed {allowed:.1f} (5 % or 7 MiB, and one window), beyond that {beyond}"
    )


def words_of_kills(kills: Sequence[Figures], expected: int) -> str:
    """Return what came of workflows whose daemons were killed; those of which nothing was measured went wrong."""
    took = sorted(each["converged_s"] for each in kills)
    p95 = took[max(0, -(-len(took) * 95 // 100) - 1)]
    return (
        f"killed at random moments, {expected} workflows: {len(kills)} came to an end; that came, in seconds after the last "
        f"restart: median {statistics.median(took):.1f}, 95th percentile {p95:.1f}, most {took[-1]:.1f}"
    )


def words_of(figures: Figures) -> str:
    """Return the figures of one measurement, by their names."""
    words = (f"{name} {value:,}" for name, value in figures.items() if name not in {"stage", "what"})
    return f"{figures['what']}: {', '.join(words)}"


def is_good(point: Figures) -> bool:
    """Say whether a delivery arrived exact and no more of it went twice than is allowed."""
    return bool(point["is_exact"]) and point["twice_bytes"] < point["allowed_bytes"]


if __name__ == "__main__":
    sys.exit(main())
