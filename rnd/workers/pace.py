"""How fast a delivery goes: lately, which tells when it will be over, and in the whole attempt. Bytes that an earlier
attempt has moved count as done, and not as moved."""

from __future__ import annotations

from collections import deque
from typing import Final

LATELY_S: Final = 5.0
"""The time that the recent rate is measured over."""


class Pace:
    """Notes of how much is done at which time, by one monotonic clock."""

    def __init__(self, bytes_done: int, now_s: float) -> None:
        """`bytes_done` is what there is before the first byte of this attempt moves."""
        self._first = (now_s, bytes_done)
        self._lately: deque[tuple[float, int]] = deque([self._first])

    def note(self, bytes_done: int, now_s: float) -> float:
        """Take note of how much is done, and return the recent rate in bytes a second."""
        self._lately.append((now_s, bytes_done))
        while len(self._lately) > 2 and self._lately[1][0] < now_s - LATELY_S:
            self._lately.popleft()
        return _rate(self._lately[0], self._lately[-1])

    def mean(self, bytes_done: int, now_s: float) -> float | None:
        """Return the mean rate of the attempt; `None` where it took no time."""
        return _rate(self._first, (now_s, bytes_done)) if now_s > self._first[0] else None


def _rate(earlier: tuple[float, int], later: tuple[float, int]) -> float:
    took_s = later[0] - earlier[0]
    return round(max(0, later[1] - earlier[1]) / took_s, 1) if took_s > 0 else 0.0
