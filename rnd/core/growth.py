"""Measures what running jobs write, and ends those whose order has come to hold more than it may (limits `peer_bytes`,
`execution_bytes`).

A look at folders every few seconds, the less often the longer it takes. What is written in between goes beyond the limit by
as much as the disk takes in that time; the free-space floor is below that.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rnd.database import holdings
from rnd.database.connection import Database
from rnd.services.disk_use import used_bytes
from rnd.types.config import Config
from rnd.types.errors import DatabaseNotNow
from rnd.types.executions import JobExecution
from rnd.types.ids import JobExecutionId
from rnd.types.seams import Clock
from rnd.workers.job_folders import JobFolders

LOOK_EVERY_S: Final = 5.0
LOOKING_SHARE: Final = 0.05
"""How much of the time may go into looking."""
WORTH_NOTING_BYTES: Final = 1 << 20
"""Jobs that have written less than this more are not written down anew."""


class Growth:
    """What running jobs have written so far."""

    def __init__(self, *, database: Database, clock: Clock, config: Config, folders: JobFolders) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._folders = folders
        self._noted: dict[JobExecutionId, int] = {}
        self.pause_s = LOOK_EVERY_S

    async def look(self, jobs: Sequence[JobExecution]) -> dict[JobExecutionId, str]:
        """Measure running jobs and return which of them are to end, with the reason: those that have grown beyond a limit."""
        self._noted = {job.id: self._noted.get(job.id, 0) for job in jobs}
        if not jobs:
            self.pause_s = LOOK_EVERY_S
            return {}
        begun_s = self._clock.monotonic()
        found = await asyncio.to_thread(self._measure, jobs)
        self.pause_s = max(LOOK_EVERY_S, (self._clock.monotonic() - begun_s) / LOOKING_SHARE)
        grown = {job_id: count for job_id, count in found.items() if count - self._noted[job_id] >= WORTH_NOTING_BYTES}
        if not grown:
            return {}

        def work(conn: sqlite3.Connection) -> dict[JobExecutionId, str]:
            holdings.set_left_bytes(conn, grown)
            return self._beyond(conn, [job for job in jobs if job.id in grown])

        try:
            beyond = await self._database.write(work)
        except DatabaseNotNow:
            return {}  # the next look tells the same
        self._noted.update(grown)
        return beyond

    async def measure(self, job: JobExecution) -> int:
        """Return how much one job has in its folder beside its inputs."""
        return await asyncio.to_thread(_written, self._folders.job(job))

    def _measure(self, jobs: Sequence[JobExecution]) -> Mapping[JobExecutionId, int]:
        return {job.id: _written(self._folders.job(job)) for job in jobs}

    def _beyond(self, conn: sqlite3.Connection, jobs: Sequence[JobExecution]) -> dict[JobExecutionId, str]:
        beyond: dict[JobExecutionId, str] = {}
        for job in jobs:
            bound = holdings.tightest_bound(
                conn,
                job.ordering_peer_id,
                job.execution_uid,
                self_peer_id=job.executor_peer_id,
                limits=self._config.limits,
            )
            if bound.room_bytes < 0:
                beyond[job.id] = f"ended because it went on writing: {bound.words}"
        return beyond


def _written(folder: Path) -> int:
    """Return the bytes below a job's folder, but for its inputs, which are counted as deliveries."""
    try:
        return used_bytes(str(folder), besides="input")
    except OSError:
        return 0  # what hides its files is bounded by the floor alone, as is what lies elsewhere
