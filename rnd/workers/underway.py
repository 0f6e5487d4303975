"""A delivery in the hands of a thread: how far it is, whether it is alive, held up, or called off."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Final

from rnd.workers.disk_guard import DiskGuard
from rnd.workers.pace import Pace

LOOK_AGAIN_S: Final = 0.5
"""How often a delivery that is held up looks whether it may go on."""


class Underway:
    """What the thread that carries a delivery and the task that watches it tell each other.

    The thread writes `file_count`, `size_bytes`, `bytes_done`, `signs_of_life` and `held_up`; the task reads them and
    keeps `active`, whether the row says ACTIVE, and `pace`, from the first byte on. `held_up` is why the thread waits, `None` while it works.
    """

    def __init__(self, *, started_at: datetime, disk: DiskGuard) -> None:
        self.started_at = started_at
        self.active = False
        self.pace: Pace | None = None
        self.file_count = 0
        self.size_bytes = 0
        self.bytes_done = 0
        self.signs_of_life = 0
        self.held_up: str | None = None
        self.sealed = False
        self._disk = disk
        self._called_off = threading.Event()

    def call_off(self) -> None:
        """Have the thread stop at the next buffer."""
        self._called_off.set()

    def add(self, count: int) -> None:
        """Take note of bytes that have moved."""
        self.bytes_done += count

    def is_called_off(self) -> bool:
        """Say whether the delivery was called off; for those who take no room on this disk."""
        return self._called_off.is_set()

    def must_stop(self) -> bool:
        """Say whether the delivery was called off; first wait while the disk has no room.

        The thread asks between two buffers, so each question is a sign of life, also where it only reads and hashes.
        """
        while (words := self._disk.refusal()) is not None:
            self.held_up = words
            if self._called_off.wait(LOOK_AGAIN_S):
                break
        self.held_up = None
        self.signs_of_life += 1
        return self._called_off.is_set()
