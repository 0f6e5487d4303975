"""The pauses between one try and the next, where another peer may well do later what it does not do now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

AGAIN_FIRST_S: Final = 0.5
AGAIN_MOST_S: Final = 10.0


def backoff_s() -> Iterator[float]:
    """Yield one pause after the other: each twice as long as the one before, up to a bound."""
    pause_s = AGAIN_FIRST_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, AGAIN_MOST_S)
