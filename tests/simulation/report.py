"""Says what became of seeds: figures for those that went well, a short story for each that did not."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tests.simulation.faults import KINDS
from tests.simulation.world import Verdict

KINDS_OF_MISHAPS: Final = (*(f"fault {kind}" for kind in KINDS), "duplicate connection")
PROGRESS_EVERY: Final = 250
LAST_LINES: Final = 12
"""How many of its last log lines a story has of each peer."""


def story(verdict: Verdict, *, whole: bool = False) -> str:
    """Return what happened in a world that went wrong: the world's own events, then each peer's last words."""
    lines = verdict.story
    if whole:
        return "\n".join(lines)
    events = [line for line in lines if " -- " in line]
    peers: dict[str, list[str]] = {}
    for line in lines:
        if " -- " not in line:
            peers.setdefault(line.split()[1], []).append(line)
    told = [line[:400] for line in events]
    for peer in sorted(peers):
        told += ["", f"the last words of {peer}:", *(line[:400] for line in peers[peer][-LAST_LINES:])]
    return "\n".join(told)


def report(verdicts: Iterable[Verdict], *, verbose: bool = False) -> int:
    """Print what became of seeds as it becomes known, then the figures; return how many went wrong."""
    begun_s = time.monotonic()
    counts: Counter[str] = Counter()
    worlds_with: Counter[str] = Counter()
    done, virtual_s = 0, 0.0
    failed: list[int] = []
    for verdict in verdicts:
        done += 1
        virtual_s += verdict.virtual_s
        counts += verdict.counts
        worlds_with.update(kind for kind in verdict.counts if verdict.counts[kind])
        if verdict.problems:
            failed.append(verdict.seed)
            print(f"\nSEED {verdict.seed} WENT WRONG: {verdict.problems[0]}\n{story(verdict, whole=verbose)}\n")
        elif verbose:
            print(
                f"seed {verdict.seed}: well, {verdict.virtual_s:.0f} s, {verdict.steps} steps, {verdict.log_hash[:16]}"
            )
        if done % PROGRESS_EVERY == 0:
            print(f"{done} seeds, {len(failed)} went wrong, {done / (time.monotonic() - begun_s):.2f} a second")
        sys.stdout.flush()
    took_s = time.monotonic() - begun_s
    print(f"{done} seeds in {took_s:.1f} s ({done / took_s:.2f} a second), {virtual_s / 3600:.1f} hours of their time")
    for kind in KINDS_OF_MISHAPS:
        share = 1000 * worlds_with[kind] / max(1, done)
        print(f"  {kind:28} {counts[kind]:7}  in {share:5.0f} of 1,000 seeds")
    for what in sorted(counts):
        if not what.startswith(("fault ", "duplicate ")):
            print(f"  {what:28} {counts[what]:7}")
    print(f"WENT WRONG: {len(failed)}: {' '.join(map(str, sorted(failed)))}" if failed else "all went well")
    return len(failed)
