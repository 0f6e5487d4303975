"""Committed news: said once in the log, then a wake-up for whoever acts on it (document: State Management).

Rows are the truth; a wake-up only says that looking at them is worth while. Losing one costs a tick, never a fact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from rnd.database.job_moves import JobHead
from rnd.database.news import News
from rnd.log import about_run, get_logger
from rnd.types.enums import JobStatus, ServiceType, TransferDirection, TransferStatus
from rnd.types.ids import ExecutionId, JobExecutionId, TransferId
from rnd.types.log_events import LogEvent

Id = TypeVar("Id")

log = get_logger()


class Bell(Generic[Id]):
    """A wake-up with the ids that it is about. One waiter; ringing never blocks."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._ids: set[Id] = set()

    def ring(self, *ids: Id) -> None:
        """Wake the waiter; the ids are collected until it takes them."""
        self._ids.update(ids)
        self._rung.set()

    async def wait(self, timeout_s: float) -> set[Id]:
        """Return the ids collected since the last call, at once if there was a ring, else at the ring or the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()
        ids, self._ids = self._ids, set()
        return ids


class NewsBoard:
    """Where transactions' news are put up after their commit.

    `jobs` rings with jobs whose inputs changed or that were ended by somebody else, `transfers` when deliveries within
    this peer are owed or called off, `outgoing` the same between this peer and others, `executions` with executions that may have ended. `has_ready_jobs` says that READY jobs may wait
    which no turn of the queue has seen or had a worker for; without any a free worker is no reason to look. `ready_rings`
    counts how often it was said that there are some.
    """

    def __init__(self) -> None:
        self.has_ready_jobs = True
        self.ready_rings = 0
        self.jobs: Bell[JobExecutionId] = Bell()
        self.transfers: Bell[TransferId] = Bell()
        self.outgoing: Bell[TransferId] = Bell()
        self.executions: Bell[ExecutionId] = Bell()
        self.when_started: Callable[[], None] = lambda: None
        """Is called when started jobs wait for inputs, or an execution for results, which may come from other peers."""
        self.when_called_off: Callable[[Mapping[TransferId, str]], None] = lambda _reasons: None
        """Is called with deliveries from other peers whose receiver has ended, and why."""

    def ring_for_ready(self) -> None:
        """Have the queue look for READY jobs."""
        self.has_ready_jobs = True
        self.ready_rings += 1
        self.jobs.ring()

    def publish(self, news: News) -> None:
        """Log what was committed and wake those who act on it."""
        if news.waiting:
            self.when_started()
        for row_id in news.acknowledged:
            log.info(LogEvent.DUTY_ACKNOWLEDGED, interface_peer_id=row_id)
        for head, error in news.ended:
            with about_run(head.execution_uid, head.ordering_peer_id):
                _log_end(head, error)
        ended = [transfer for transfer in news.transfers_ended if transfer.status is not TransferStatus.COMPLETED]
        for transfer in ended:
            with about_run(transfer.execution_uid, transfer.ordering_peer_id):
                if transfer.status is TransferStatus.FAILED:
                    log.error(LogEvent.TRANSFER_FAILED, transfer_id=transfer.transfer_id, error=transfer.error)
                else:
                    log.info(LogEvent.TRANSFER_CANCELLED, transfer_id=transfer.transfer_id, reason=transfer.error)
        here = [transfer.transfer_id for transfer in ended if transfer.direction is TransferDirection.LOCAL]
        if news.transfers_created or here:
            self.transfers.ring(*here)
        coming = {
            transfer.transfer_id: transfer.error or "it is not wanted any more"
            for transfer in ended
            if transfer.direction is TransferDirection.INCOMING
        }
        if coming:
            self.when_called_off(coming)
        abroad = [transfer.transfer_id for transfer in ended if transfer.direction is not TransferDirection.LOCAL]
        if news.outgoing_created or abroad:
            self.outgoing.ring(*abroad)
        ended_jobs = [head.id for head, _ in news.ended if head.status is not JobStatus.COMPLETED]
        if news.ready:
            self.ring_for_ready()
        if news.inputs_changed or ended_jobs:
            self.jobs.ring(*news.inputs_changed, *ended_jobs)
        if news.executions:
            self.executions.ring(*news.executions)


def _log_end(head: JobHead, error: str | None) -> None:
    if head.status is JobStatus.ERRORED:
        log.error(LogEvent.JOB_ERRORED, job_id=head.id, error=error)
    elif head.status is JobStatus.CANCELLED:
        log.info(LogEvent.JOB_CANCELLED, job_id=head.id, reason=error)
    elif head.service_type is ServiceType.DATA:
        log.info(LogEvent.DATA_SERVICE_COMPLETED, job_id=head.id)
    else:
        log.debug(LogEvent.JOB_COMPLETED, job_id=head.id)
