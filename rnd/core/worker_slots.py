"""The workers of this peer: how many programs it runs at once, and which of them wait for a worker again (document: Job Scheduling).

A job holds a worker from its claim until its program has ended, but not while its image is on its way: then it gives its
worker to others, and waits for one before it goes on. Who waits here comes before what is READY.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque

from rnd.core.job_run import RunningJob
from rnd.types.config import Config
from rnd.workers.news_board import NewsBoard


class WorkerSlots:
    """Counts workers. A turn of the queue reserves what is free before it claims jobs for it."""

    def __init__(self, config: Config, board: NewsBoard) -> None:
        slots = config.job_slots or max(8, 4 * (os.cpu_count() or 1))
        self.total = min(slots, config.limits.concurrent_jobs)
        self.busy = 0
        self._board = board
        self._reserved = 0
        self._waiting: deque[tuple[RunningJob, asyncio.Future[None]]] = deque()

    def free(self) -> int:
        """Return how many workers nobody holds or has reserved; after a restart more may be held than there are."""
        return max(0, self.total - self.busy - self._reserved)

    def reserve(self) -> int:
        """Reserve what is free and return how much that is."""
        count = self.free()
        self._reserved += count
        return count

    def give_up(self, reserved: int) -> None:
        """Give up what was reserved: whatever was claimed for it holds a worker itself by now."""
        self._reserved -= reserved
        self._hand_out()

    def hold(self, running: RunningJob) -> None:
        """Have a job hold a worker."""
        running.holds_slot = True
        self.busy += 1

    def let_go(self, running: RunningJob) -> None:
        """Take the worker of a job, if it holds one, for who waits for it."""
        if running.holds_slot:
            running.holds_slot = False
            self.busy -= 1
            self._hand_out()
            if self.free() > 0 and self._board.has_ready_jobs:
                self._board.jobs.ring()

    async def wait_for_one(self, running: RunningJob) -> None:
        """Return once a job that gave its worker up holds one again. Whoever stops the job ends this."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((running, turn))
        self._hand_out()
        running.waits_for_worker = not running.holds_slot
        try:
            await turn
        except asyncio.CancelledError:
            self.let_go(running)  # its turn may have come just then
            raise
        finally:
            running.waits_for_worker = False
            with contextlib.suppress(ValueError):
                self._waiting.remove((running, turn))

    def _hand_out(self) -> None:
        while self._waiting and self.free() > 0:
            running, turn = self._waiting.popleft()
            if not turn.done():
                self.hold(running)
                turn.set_result(None)
