"""Runs a parser over many inputs, and looks at errors, memory and time of each."""

from __future__ import annotations

import gc
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, Self

from tests.figures import note_figures
from tests.fuzz.mutation import Mutator
from tests.fuzz.parsers import Parser

RUNS: Final = int(os.environ.get("RND_TEST_FUZZ_RUNS", "50000"))
SEED: Final = int(os.environ.get("RND_TEST_FUZZ_SEED") or int.from_bytes(os.urandom(4)))
"""Another one each time; what fails says it, and `RND_TEST_FUZZ_SEED` has the same inputs made again."""
MEMORY_MAX: Final = 64 << 20
WARM_AFTER: Final = 500
HIDDEN_MAX: Final = 1 << 20
PAGE_BYTES: Final = resource.getpagesize()
INPUT_WITHIN_S: Final = 2.0
"""Processor time for one input; what is parsed takes microseconds to milliseconds."""


class TookTooLong(BaseException):
    """One input has cost more processor time than any may."""


def fuzz(parser: Parser, runs: int = RUNS, seed: int = SEED) -> int:
    """Run a parser; fail with the input, the seed and the number of what goes wrong. Return how many inputs it has taken."""
    mutator = Mutator(Random(f"{parser.name} {seed}"))
    taken, begun_s = 0, time.monotonic()
    before = most = 0
    specimen: object = None
    with Memory() as memory:
        for number in range(runs):
            if number == min(
                runs // 2, WARM_AFTER
            ):  # what is made once is no growth: tables, caches, compiled patterns
                before = memory.resident()
            specimen = parser.specimen(mutator)
            begun_with = memory.begin()
            try:
                with _bounded():
                    taken += _run(parser, specimen)
            except (Exception, TookTooLong) as error:
                problem = f"{type(error).__name__}: {error}"
                raise AssertionError(_words(parser, specimen, number, seed, problem)) from error
            took = memory.most() - begun_with
            assert took <= MEMORY_MAX, _words(parser, specimen, number, seed, f"it took {took:,} bytes of memory")
            most = max(most, took)
        specimen = None
        gc.collect()
        kept = memory.resident() - before
    assert kept <= MEMORY_MAX, _words(parser, None, runs, seed, f"{kept:,} bytes more are in memory than before")
    note_figures(
        "fuzz",
        what=parser.name,
        runs=runs,
        taken=taken,
        seed=seed,
        seconds=round(time.monotonic() - begun_s, 1),
        most=most,
        kept=kept,
    )
    return taken


def _run(parser: Parser, specimen: object) -> bool:
    try:
        parser.parse(specimen)
    except parser.errors:
        return False
    return True


class Memory:
    """How much memory this process has, and has had at most: what the inputs themselves have taken to be made is left out.

    A peak that is less than `HIDDEN_MAX` above what making the input has left behind is not seen.
    """

    def __enter__(self) -> Self:
        self._pages = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._forget = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._pages)
        os.close(self._forget)

    def resident(self) -> int:
        """Return how many bytes are in memory now (proc(5), statm)."""
        return int(os.pread(self._pages, 100, 0).split()[1]) * PAGE_BYTES

    def begin(self) -> int:
        """Forget the peak that there has been, if it could hide another; return how many bytes are in memory now."""
        now = self.resident()
        if self.most() - now > HIDDEN_MAX:
            os.pwrite(self._forget, b"5", 0)
        return now

    def most(self) -> int:
        """Return how many bytes were in memory at most since the last peak that was forgotten (getrusage(2), ru_maxrss)."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _bounded() -> Iterator[None]:
    before = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, INPUT_WITHIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_long(_number: int, _frame: object) -> None:
    raise TookTooLong(f"it took more than {INPUT_WITHIN_S:g} s")


def _words(parser: Parser, specimen: object, number: int, seed: int, problem: str) -> str:
    shown = repr(specimen)
    shown = shown if len(shown) < 2_000 else f"{shown[:1_000]} ... {shown[-500:]}"
    return f"{parser.name}: {problem}\ninput {number} of RND_TEST_FUZZ_SEED={seed}: {shown}"
