"""How fast what is said on a link leaves, and how long its frames are to be for that (docs/wire.md, section 5).

On a slow line everything stands behind the frame before it: an acknowledgement, a ping, a goodbye. Frames are therefore so short that each
leaves soon, and no more is given to the socket than leaves soon: what still waits here can be called off. Without loop or clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from rnd.p2p.tcp_progress import TcpProgress

SHORTEST_BYTES: Final = 16 << 10
FIRST_BYTES: Final = 64 << 10
"""How long frames are while nobody knows how fast they leave."""
LONGEST_BYTES: Final = 8 << 20
SLOW_S: Final = 1.0
"""What has not left after so long makes the next frames shorter; and again each time that it has taken twice as long."""
QUICK_S: Final = 0.25
"""A long frame that has left within so long makes the next ones longer."""
FRAMES_AHEAD: Final = 2
"""How many frames may be in the socket's layers and not on the wire."""


@dataclass(slots=True)
class _Item:
    """Something that was given to the socket; `end` is where it ends among all bytes that were."""

    end: int
    length: int
    begun_s: float
    slow_after_s: float = SLOW_S


class Outflow:
    """What has been given to the socket of a link, and has left or not."""

    def __init__(self, progress: TcpProgress) -> None:
        self.frame_bytes = FIRST_BYTES
        """How long frames should be at most."""
        self.items_left = 0
        """How many of the items that were given have left."""
        self._given = self._left = progress.left
        self._items: deque[_Item] = deque()

    @property
    def has_room(self) -> bool:
        """Say whether the next item may be given to the socket."""
        return self._given - self._left <= FRAMES_AHEAD * self.frame_bytes

    def give(self, length: int, now_s: float) -> None:
        """Take note of an item that is given to the socket."""
        self._given += length
        self._items.append(_Item(self._given, length, now_s))

    def note(self, progress: TcpProgress, now_s: float) -> None:
        """Take note of a look at the connection."""
        self._left = progress.left
        # Headers, TLS and pings are not counted here; the system knows better as soon as it has all that there is.
        self._given = max(self._given, progress.acknowledged + progress.queued)
        if not progress.queued:
            self._given = self._left
        while self._items and self._items[0].end <= self._left:
            self._note_left(self._items.popleft(), now_s)
        if self._items:
            self._note_waiting(self._items[0], now_s)

    def _note_left(self, item: _Item, now_s: float) -> None:
        self.items_left += 1
        if now_s - item.begun_s < QUICK_S and item.length >= self.frame_bytes * 3 // 4:
            self.frame_bytes = min(LONGEST_BYTES, 2 * self.frame_bytes)

    def _note_waiting(self, item: _Item, now_s: float) -> None:
        if now_s - item.begun_s >= item.slow_after_s:
            item.slow_after_s *= 2
            self.frame_bytes = max(SHORTEST_BYTES, self.frame_bytes // 2)
