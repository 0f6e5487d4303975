"""What the daemon gets from outside so that it can run in simulation: the clock, fresh ids and randomness."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from rnd.types.ids import ExecutionUid, TransferId


class Clock(Protocol):
    """The only source of time. Waiting goes through the event loop, which a simulation replaces as a whole."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC. Never used to decide an order or a deadline on its own."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


class Entropy(Protocol):
    """The only source of fresh ids and random bytes."""

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes fit for keys and nonces."""

    def new_execution_uid(self) -> ExecutionUid:
        """Return 128 random bits as 32 hexadecimal digits."""

    def new_transfer_id(self) -> TransferId:
        """Return a random UUID in its usual text form."""
