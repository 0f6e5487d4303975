"""The workers of this peer: how many programs it runs at once, and which of them wait for a worker again (document: Job Scheduling).

A job holds a worker from its claim until its program has ended, but not while its image is on its way: then it gives its
worker to others, and waits for one before it goes on. Who waits here comes before what is READY.

A program that takes a few milliseconds keeps a worker busy with being claimed and committed rather than with running. Where the
number of workers was not chosen by the owner, several programs of a service that has always been so quick lately share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rnd.core.job_run import RunningJob
from rnd.types.config import Config
from rnd.types.executions import JobExecution
from rnd.types.ids import JobExecutionId, ServiceId
from rnd.types.seams import Clock
from rnd.workers.news_board import NewsBoard

SHARING: Final = 8
"""How many quick programs share a worker."""
QUICK_S: Final = 0.1
"""A program that has ended within so long was quick."""
QUICK_RUNS: Final = 8
"""So many runs one after the other have to be quick before those of a service share workers; one that was not ends that."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Workers that are reserved for jobs to be claimed, in parts: a quick job takes one, any other `sharing` of them."""

    parts: int
    sharing: int
    quick: frozenset[ServiceId]

    def most(self) -> int:
        """Return how many jobs there is room for at most."""
        return self.parts if self.quick else self.parts // self.sharing

    def needs(self, job: JobExecution) -> int:
        """Return how many parts a job takes."""
        return 1 if job.service_id in self.quick else self.sharing

    def fit(self, jobs: Sequence[JobExecution]) -> list[JobExecution]:
        """Return the first of these jobs, as many as there is room for; none overtakes another."""
        fitting: list[JobExecution] = []
        parts = self.parts
        for job in jobs:
            parts -= self.needs(job)
            if parts < 0:
                break
            fitting.append(job)
        return fitting


class WorkerSlots:
    """Counts workers. A turn of the queue reserves what is free before it claims jobs for it."""

    def __init__(self, config: Config, board: NewsBoard, clock: Clock) -> None:
        self._is_closed = False
        self.resize(config)
        self._board = board
        self._clock = clock
        self._held: dict[JobExecutionId, RunningJob] = {}
        self._quick_runs: dict[ServiceId, int] = {}
        self._quick: frozenset[ServiceId] = frozenset()
        self._reserved = 0
        self._waiting: deque[tuple[RunningJob, asyncio.Future[None]]] = deque()

    def resize(self, config: Config) -> None:
        """Have as many workers as this configuration says; those that are held beyond that are not taken from anybody."""
        self.total = min(config.job_slots or max(8, 4 * (os.cpu_count() or 1)), config.limits.concurrent_jobs)
        chosen_by_owner = config.job_slots > 0
        self._sharing = 1 if chosen_by_owner else min(SHARING, config.limits.concurrent_jobs // self.total)

    def close(self) -> None:
        """Let nobody have a worker any more; who holds one keeps it."""
        self._is_closed = True

    @property
    def busy(self) -> int:
        """How many workers are held, those that are shared in part counted as whole."""
        return -(-self._held_parts() // self._sharing)

    @property
    def most_at_once(self) -> int:
        """How many programs run at once where all of them are quick."""
        return self.total * self._sharing

    def free_parts(self) -> int:
        """Return how much nobody holds or has reserved; after a restart more may be held than there is."""
        if self._is_closed:
            return 0
        return max(0, self.total * self._sharing - self._held_parts() - self._reserved)

    def reserve(self) -> Reserved:
        """Reserve what is free and return how much that is."""
        parts = self.free_parts()
        self._reserved += parts
        return Reserved(parts, self._sharing, self._quick)

    def give_up(self, reserved: Reserved) -> None:
        """Give up what was reserved: whatever was claimed for it holds a worker itself by now."""
        self._reserved -= reserved.parts
        self._hand_out()

    def hold(self, running: RunningJob) -> None:
        """Have a job hold a worker, or share one."""
        running.holds_slot = True
        running.shares_slot = not running.claimed.found and running.claimed.job.service_id in self._quick
        self._held[running.claimed.job.id] = running

    def note_began(self, running: RunningJob) -> None:
        """Note that the program of a job runs from now on."""
        running.began_s = self._clock.monotonic()

    def note_ended(self, running: RunningJob) -> None:
        """Note that the program of a job has ended, and whether that was quick."""
        service_id = running.claimed.job.service_id
        if running.began_s is None or self._clock.monotonic() - running.began_s > QUICK_S:
            if self._quick_runs.pop(service_id, 0) >= QUICK_RUNS:
                self._quick -= {service_id}
            return
        runs = self._quick_runs[service_id] = self._quick_runs.get(service_id, 0) + 1
        if runs == QUICK_RUNS and self._sharing > 1:
            self._quick |= {service_id}

    def let_go(self, running: RunningJob) -> None:
        """Take the worker of a job, if it holds one, for who waits for it."""
        if running.holds_slot:
            running.holds_slot = False
            del self._held[running.claimed.job.id]
            self._hand_out()
            if self._board.has_ready_jobs and self.free_parts() > 0:
                self._board.jobs.ring()

    def _held_parts(self) -> int:
        """Count parts; a program that was expected to be quick and is not has a worker of its own, even if there is none."""
        if self._sharing == 1:
            return len(self._held)
        late_s = self._clock.monotonic() - QUICK_S
        return sum(
            1 if each.shares_slot and (each.began_s is None or each.began_s > late_s) else self._sharing
            for each in self._held.values()
        )

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
        while self._waiting and self.free_parts() >= self._sharing:
            running, turn = self._waiting.popleft()
            if not turn.done():
                self.hold(running)
                turn.set_result(None)
