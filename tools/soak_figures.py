"""Say in a line each what the tests of one stage of tools/soak have measured; end with 1 where not all of it is as it should.

    python tools/soak_figures.py FILE EXPECTED

FILE has the figures as tests/figures.py writes them; EXPECTED is how many lines of it a stage has in which no test failed early.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


def main() -> int:
    path, expected = Path(sys.argv[1]), int(sys.argv[2])
    figures = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    points = [each for each in figures if "twice_bytes" in each]
    lines = [words_of_points(points, expected)] if points else []
    wires = [each for each in figures if each["stage"] == "wire"]
    lines += [words_of_wires(wires, expected)] if wires else []
    kills = [each for each in figures if each["stage"] in ("kills", "containers")]
    lines += [words_of_kills(kills, expected)] if kills else []
    faults = [each for each in figures if "injected" in each]
    lines += [words_of_faults(faults, expected)] if faults else []
    lines += [words_of(each) for each in figures if each not in (*points, *wires, *kills, *faults)]
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
    return (
        f"killed at random moments, {expected} workflows: {len(kills)} came to an end; that came, in seconds after the last "
        f"restart: {spread([each['converged_s'] for each in kills])}"
    )


def words_of_wires(wires: Sequence[Figures], expected: int) -> str:
    """Return what came of workflows whose wires went wrong; those of which nothing was measured went wrong themselves."""
    ends = Counter(each["status"] for each in wires)
    faults = sum((Counter(each["faults"]) for each in wires), Counter[str]())
    return (
        f"{expected} schedules of faulty wires: {len(wires)} came right ({said(ends)}), {sum(each['is_long'] for each in wires)} of them "
        f"with a fault longer than liveness; faults: {said(faults)}; everything was settled, in seconds after healing: "
        f"{spread([each['converged_s'] for each in wires])}; sent again, in million bytes: "
        f"{spread([each['resent_bytes'] / 1e6 for each in wires])}; attempts beyond the first of a delivery: "
        f"{sum(each['attempts_more'] for each in wires):,}"
    )


def spread(values: Sequence[float]) -> str:
    """Return the median, the 95th percentile and the most of some values."""
    ordered = sorted(values)
    p95 = ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]
    return f"median {statistics.median(ordered):.1f}, 95th percentile {p95:.1f}, most {ordered[-1]:.1f}"


def said(counts: Counter[str]) -> str:
    """Return counts, the highest first."""
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def words_of_faults(faults: Sequence[Figures], expected: int) -> str:
    """Return what came of workflows during which system calls failed; those of which nothing was measured went wrong."""
    met = [each for each in faults if each["injected"]]
    ends = ", ".join(f"{count} {end}" for end, count in sorted(Counter(each["outcome"] for each in met).items()))
    return (
        f"system calls that fail, {expected} workflows: {len(faults)} were right; {len(met)} met the fault: {ends}; "
        f"{sum(each['died'] for each in met)} of their daemons ended and started again"
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
