"""Looks for containers that nobody sees to any more: of jobs whose end is written down, and of no job at all.

A daemon may die between the commit of a job's end and the removal of its container. A container of this peer whose job has
no row is told at once and removed after a time of grace: somebody may have put an older database in place. Containers of
others are never looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import Final, Protocol

from rnd.core.job_runner import JobRunner
from rnd.database import job_executions, offered_services
from rnd.database.connection import Database
from rnd.log import get_logger
from rnd.services.executor import LABEL_ATTEMPT, LABEL_JOB, OwnContainer
from rnd.types.enums import JobStatus
from rnd.types.errors import DatabaseNotNow, ExecutorUnavailable
from rnd.types.ids import JobExecutionId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock

LOOK_EVERY_S: Final = 600.0
LOOK_AGAIN_S: Final = 30.0
"""After a look that came to nothing, since the engine was away."""
ORPHAN_GRACE: Final = timedelta(hours=1)

log = get_logger()


class ContainerStore(Protocol):
    """The container engine, as far as the sweep needs it."""

    async def containers(self) -> Sequence[OwnContainer]:
        """Return every container of this data directory, in whatever state."""

    async def discard(self, container: OwnContainer) -> None:
        """End and remove a container. Idempotent."""


class Fate(Enum):
    """What is to become of a container."""

    KEEP = auto()
    """Its job runs in it, or is about to."""
    REMOVE = auto()
    """The end of its job's attempt is written down."""
    ORPHAN = auto()
    """No job is known for it."""


def fate_of(
    labels: Mapping[str, str],
    standing: Mapping[JobExecutionId, tuple[JobStatus, int]],
    in_hand: set[JobExecutionId],
) -> Fate:
    """Return what is to become of a container with these labels; `standing` is status and attempt of the jobs there are."""
    job_id, attempt = _number(labels.get(LABEL_JOB)), _number(labels.get(LABEL_ATTEMPT))
    if job_id is None or attempt is None or job_id not in standing:
        return Fate.ORPHAN
    status, current = standing[JobExecutionId(job_id)]
    if job_id in in_hand or (status is JobStatus.RUNNING and attempt == current):
        return Fate.KEEP
    return Fate.REMOVE


class ContainerSweep:
    """Removes containers that nobody sees to."""

    def __init__(self, *, database: Database, clock: Clock, store: ContainerStore, runner: JobRunner) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._runner = runner
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look at once, for what an earlier daemon has left, and now and then until cancelled.

        What that daemon was running is RUNNING by its row, whether or not it has been taken up again.
        """
        while True:
            pause_s = LOOK_EVERY_S
            try:
                if await self._database.read(offered_services.offers_containers):
                    await self.look()
            except (ExecutorUnavailable, OSError, DatabaseNotNow):
                pause_s = LOOK_AGAIN_S
            await asyncio.sleep(pause_s)

    async def look(self) -> None:
        """Look once. Raises `ExecutorUnavailable` and `OSError` where the engine cannot be asked."""
        found = await self._store.containers()
        ids = {JobExecutionId(job_id) for each in found if (job_id := _number(each.labels.get(LABEL_JOB))) is not None}
        standing = await self._database.read(lambda conn: job_executions.standing_of(conn, ids))
        in_hand = self._runner.in_hand()
        for container in found:
            match fate_of(container.labels, standing, in_hand):
                case Fate.REMOVE:
                    await self._discard(container, "the end of its job is written down")
                case Fate.ORPHAN:
                    await self._see_to_orphan(container)
                case Fate.KEEP:
                    pass

    async def _see_to_orphan(self, container: OwnContainer) -> None:
        goes_at = container.created_at + ORPHAN_GRACE
        if self._clock.now() >= goes_at:
            await self._discard(container, "no job is known for it")
        elif container.name not in self._told:
            self._told.add(container.name)
            log.warning(LogEvent.CONTAINER_OF_NO_JOB, name=container.name, goes_at=goes_at)

    async def _discard(self, container: OwnContainer, reason: str) -> None:
        await self._store.discard(container)
        self._told.discard(container.name)
        log.info(LogEvent.CONTAINER_REMOVED, name=container.name, reason=reason)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
