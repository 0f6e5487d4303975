"""When deliveries that came to nothing may be tried again, and what has come of them so far.

All times are those of one monotonic clock, in seconds; nothing here waits or reads a clock itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from rnd.types.ids import PeerId, TransferId

AGAIN_FIRST_S: Final = 0.1
AGAIN_MOST_S: Final = 30.0
SOON_S: Final = 1.0
"""How long to wait at most for a receiver that is there and only not ready yet."""
REASONS_TOLD_MAX: Final = 8
"""How many reasons the log tells of one delivery: the other side words some of them."""

_NUMBERS: Final = re.compile(r"\d[\d.,]*")


@dataclass(slots=True)
class Rest:
    """A delivery between two attempts, or in one that is not its first."""

    peer_id: PeerId
    until_s: float = 0.0
    pause_s: float = 0.0
    failures: int = 0
    """How often its receiver has failed on its own side since more of it had come than ever before."""
    bytes_done: int = 0
    """The most that the receiver has said to have of it."""
    _told: set[str] = field(default_factory=set)

    def is_news(self, reason: str) -> bool:
        """Say whether a reason was not told of this delivery yet, and note that it is now; numbers in it make no other one."""
        kind = _NUMBERS.sub("#", reason)
        if kind in self._told or len(self._told) >= REASONS_TOLD_MAX:
            return False
        self._told.add(kind)
        return True


class Rests:
    """The deliveries that have made an attempt in vain and have not ended."""

    def __init__(self) -> None:
        self._rests: dict[TransferId, Rest] = {}
        self._came_at_s: dict[PeerId, float] = {}
        """When the newest link to each peer came up."""

    def __contains__(self, transfer_id: object) -> bool:
        return transfer_id in self._rests

    def forget(self, transfer_id: TransferId) -> None:
        """Let go of a delivery that has ended."""
        self._rests.pop(transfer_id, None)

    def resting(self, now_s: float) -> set[TransferId]:
        """Return the deliveries whose pause is not over."""
        return {transfer_id for transfer_id, rest in self._rests.items() if rest.until_s > now_s}

    def next_over_s(self, after_s: float) -> float | None:
        """Return when the next pause is over of those that were not at `after_s`; `None` if there is none.

        A delivery whose pause was over when the rows were looked at waits for a place or has ended, and not for time.
        """
        return min((rest.until_s for rest in self._rests.values() if rest.until_s > after_s), default=None)

    def peer_came(self, peer_id: PeerId, now_s: float) -> None:
        """A link to a peer is up: what waits for it need not wait for its pause."""
        self._came_at_s[peer_id] = now_s
        for rest in self._rests.values():
            if rest.peer_id == peer_id:
                rest.until_s = 0.0

    def note_failure(self, transfer_id: TransferId, peer_id: PeerId, *, bytes_done: int, has_failed: bool) -> Rest:
        """Take note of an attempt that came to nothing; `has_failed`: its receiver did, on its own side.

        What has come further than ever before begins anew with its failures and its pauses.
        """
        rest = self._rests.setdefault(transfer_id, Rest(peer_id=peer_id))
        if bytes_done > rest.bytes_done:
            rest.bytes_done, rest.failures, rest.pause_s = bytes_done, 0, 0.0
        rest.failures += has_failed
        return rest

    def begin(self, rest: Rest, *, is_soon: bool, begun_s: float, now_s: float) -> None:
        """Begin the pause before the next attempt, longer than the one before.

        `is_soon`: the receiver is only not ready yet. The pause is cut short where a link to the receiver has come up since
        the attempt began at `begun_s`.
        """
        rest.pause_s = min(AGAIN_MOST_S, 2 * rest.pause_s) if rest.pause_s else AGAIN_FIRST_S
        if is_soon:
            rest.pause_s = min(rest.pause_s, SOON_S)
        has_come = self._came_at_s.get(rest.peer_id, 0.0) > begun_s
        rest.until_s = now_s + (min(rest.pause_s, SOON_S) if has_come else rest.pause_s)
