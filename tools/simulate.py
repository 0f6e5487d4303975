"""What `tools/simulate` runs: see there."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.report import report
from tests.simulation.runner import run_range


def main() -> int:
    """Run the seeds that were asked for; 1 if one went wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the workers are ended on the way out
    parser = argparse.ArgumentParser(prog="tools/simulate")
    parser.add_argument("--seeds", default="1..100", metavar="A..B", help="the first and the last seed, or one alone")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes at a time (default: 2)")
    parser.add_argument(
        "--verbose", action="store_true", help="a line for each seed, and the whole log of a failing one"
    )
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    verdicts = run_range(int(first), int(last or first), workers=arguments.workers)
    return 1 if report(verdicts, verbose=arguments.verbose) else 0


if __name__ == "__main__":
    sys.exit(main())
