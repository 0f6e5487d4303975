"""What `/metrics` cannot read from rows as they are: what has happened since the daemon started, and how long things took.

What has ended is read from the events when somebody asks, so that a peer that nobody watches counts nothing. Two figures
need to be taken as it goes: how long a group commit takes, and how late the event loop comes to what is due.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from datetime import datetime
from typing import Final

from rnd.database import figures
from rnd.database.connection import Database
from rnd.database.events import newest_seq, oldest_seq
from rnd.database.figures import EndedDeliveries
from rnd.rules.histogram import Histogram
from rnd.types.enums import JobStatus
from rnd.types.ids import JobExecutionId
from rnd.types.seams import Clock

EVENTS_A_READ: Final = 5_000
"""How many events are summed up by one read, so that it holds up the others for milliseconds."""
LAG_EVERY_S: Final = 1.0

WAIT_BOUNDS_S: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WRITE_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
LAG_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Figures:
    """Counts from `begin` on. `run` lives as long as the API does; `catch_up` comes before reading."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.queue_wait = Histogram(WAIT_BOUNDS_S)
        self.database_write = Histogram(WRITE_BOUNDS_S)
        self.loop_lag = Histogram(LAG_BOUNDS_S)
        self.ended_executions: Counter[str] = Counter()
        self.ended_jobs: Counter[tuple[str, str]] = Counter()
        self.ended_deliveries: Counter[tuple[str, str]] = Counter()
        self.delivered_bytes: Counter[str] = Counter()
        self.results = 0
        self._database = database
        self._clock = clock
        self._seq = 0
        self._ready_since: dict[JobExecutionId, datetime] = {}
        self._one_at_a_time = asyncio.Lock()
        database.measure_writes(clock.monotonic, self.database_write.observe)

    async def begin(self) -> None:
        """Count from the newest event on."""
        self._seq = await self._database.read(newest_seq)

    async def run(self) -> None:
        """Measure how late the event loop is until cancelled."""
        while True:
            due_s = self._clock.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.loop_lag.observe(max(0.0, self._clock.monotonic() - due_s))

    async def catch_up(self) -> None:
        """Count what has happened since this was last asked; what was pruned meanwhile counts for nothing."""
        async with self._one_at_a_time:
            newest = await self._database.read(newest_seq)
            while self._seq < newest:
                await self._database.read(self._sum_up)

    def _sum_up(self, conn: sqlite3.Connection) -> None:
        after_seq = max(self._seq, oldest_seq(conn) - 1)
        to_seq = after_seq + EVENTS_A_READ
        ended_executions = figures.count_ended_executions(conn, after_seq=after_seq, to_seq=to_seq)
        ended_jobs = figures.count_ended_jobs(conn, after_seq=after_seq, to_seq=to_seq)
        deliveries = figures.sum_ended_deliveries(conn, after_seq=after_seq, to_seq=to_seq)
        moves = figures.list_queue_moves(conn, after_seq=after_seq, to_seq=to_seq)
        # All or nothing: a read that fails is repeated from the same event on.
        self._seq = min(to_seq, newest_seq(conn))
        self.ended_executions.update(ended_executions)
        self.ended_jobs.update(ended_jobs)
        for each in deliveries:
            self._count_deliveries(each)
        for job_id, status, time in moves:
            self._move(job_id, status, time)

    def _count_deliveries(self, ended: EndedDeliveries) -> None:
        self.ended_deliveries[ended.direction, ended.status] += ended.count
        if ended.status == "COMPLETED":
            self.delivered_bytes[ended.direction] += ended.size_bytes
            self.results += ended.results

    def _move(self, job_id: JobExecutionId, status: str, time: datetime) -> None:
        if status == JobStatus.READY:
            self._ready_since[job_id] = time
            return
        since = self._ready_since.pop(job_id, None)
        if since is not None and status == JobStatus.RUNNING:
            self.queue_wait.observe(max(0.0, (time - since).total_seconds()))
