"""Who may hash or copy what is here already: few deliveries at a time, and no sender takes the places of all others
(document: Transfer Acceptance).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rnd.types.ids import PeerId

COPYING_MAX: Final = 3
"""How many deliveries at a time hash or copy what is here already: it takes as much of disk and processor as there is."""
COPYING_OF_ONE_SENDER: Final = 2


class CopyingPlaces:
    """The places, and who waits for one; who has waited longest and may have it gets it."""

    def __init__(self) -> None:
        self._taken: Counter[PeerId] = Counter()
        self._waiting: list[tuple[PeerId, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, sender: PeerId, *, within_s: float) -> AsyncIterator[bool]:
        """Have a place for a delivery of this sender; false where none has become free in this time."""
        has_place = await self._take(sender, within_s)
        try:
            yield has_place
        finally:
            if has_place:
                self._give_back(sender)

    async def _take(self, sender: PeerId, within_s: float) -> bool:
        if self._is_free(sender):
            self._taken[sender] += 1
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((sender, turn))
        try:
            await asyncio.wait([turn], timeout=within_s)
        except BaseException:
            if turn.done():
                self._give_back(sender)
            raise
        finally:
            if not turn.done():
                self._waiting.remove((sender, turn))
        return turn.done()

    def _give_back(self, sender: PeerId) -> None:
        self._taken -= Counter([sender])
        for waiting in list(self._waiting):
            other, turn = waiting
            if self._is_free(other):
                self._taken[other] += 1
                self._waiting.remove(waiting)
                turn.set_result(None)

    def _is_free(self, sender: PeerId) -> bool:
        return self._taken.total() < COPYING_MAX and self._taken[sender] < COPYING_OF_ONE_SENDER
