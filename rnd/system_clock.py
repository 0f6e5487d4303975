"""The host's time for a daemon that runs on while somebody sets the clock (design, section 7: deadlines are relative).

Deadlines are rows, so that they survive a restart, and rows hold times of day. Were a step of the wall clock taken at once, a
workflow of a week would be over a second after its start, or a retry would wait two hours for its tenth of a second. So `now`
goes on by a clock that nobody can set, and comes closer to the wall clock by no more than a hundredth of what passes meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from rnd.log import get_logger
from rnd.types.log_events import LogEvent

FOLLOWS: Final = 0.01
"""By so much of the time that passes `now` comes closer to the wall clock: so much may a deadline be short or long."""

STEP_S: Final = 1.0
"""From how far off on the wall clock has been set, and the log says so."""

log = get_logger()


class SystemClock:
    """The host's time. `wall_s` and `steady_s` tell the seconds since 1970 and since some moment, the latter without steps."""

    def __init__(self, wall_s: Callable[[], float] = time.time, steady_s: Callable[[], float] | None = None) -> None:
        self._wall_s = wall_s
        self._steady_s = steady_s or _steady_clock()
        self._lock = threading.Lock()
        self._now_s = wall_s()
        self._read_at_s = self._steady_s()
        self._is_off = False

    def now(self) -> datetime:
        """Return the time of day in UTC; it never goes back, nor on by more than has passed and a hundredth."""
        with self._lock:
            read_at_s, wall_s = self._steady_s(), self._wall_s()
            passed_s = read_at_s - self._read_at_s
            off_s = wall_s - self._now_s - passed_s
            most_s = passed_s * FOLLOWS
            self._now_s += passed_s + max(-most_s, min(most_s, off_s))
            self._read_at_s = read_at_s
            now_s = self._now_s
            was_set = abs(off_s) >= STEP_S and not self._is_off
            self._is_off = abs(off_s) >= STEP_S
        if was_set:
            log.warning(LogEvent.CLOCK_SET, by_s=round(off_s, 3))
        return datetime.fromtimestamp(now_s, UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


def _steady_clock() -> Callable[[], float]:
    """Return a clock that nobody can set: one that counts a suspended machine's time too, where there is one."""
    try:
        time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):
        return time.monotonic
    return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
