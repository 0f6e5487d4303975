"""The clock and the entropy of tests: they stand still and repeat themselves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from rnd.types.ids import ExecutionUid, TransferId


class CountingEntropy:
    """Entropy that repeats itself from test to test; each seed gives other bytes. `asked` counts the questions."""

    def __init__(self, seed: str = "") -> None:
        self.asked = 0
        self._seed = seed

    def random_bytes(self, count: int) -> bytes:
        """Return the next bytes of this seed."""
        self.asked += 1
        return hashlib.shake_256(f"{self._seed} {self.asked}".encode()).digest(count)

    def new_execution_uid(self) -> ExecutionUid:
        """Return the next uid of this seed."""
        return ExecutionUid(self.random_bytes(16).hex())

    def new_transfer_id(self) -> TransferId:
        """Return the next id of this seed."""
        return TransferId(self.random_bytes(16).hex())


class StillClock:
    """A clock that moves only when a test moves it."""

    def __init__(self, at: datetime = datetime(2026, 1, 31, 12, tzinfo=UTC)) -> None:
        self._at = at
        self._passed_s = 0.0

    def now(self) -> datetime:
        """Return the time."""
        return self._at + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        """Return how far the test has moved it."""
        return self._passed_s

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back; no time passes."""
        self._at += timedelta(seconds=seconds)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._passed_s += seconds
