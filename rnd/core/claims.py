"""What the queue does within a transaction (document: Job Scheduling, Dependency Resolution).

It looks at jobs whose inputs changed, moves those that are whole to READY, and claims as many as there are workers for.
Claiming commits the name under which the engine will know the job, so that a restarted daemon finds it again instead of
running it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from rnd.core.job_run import ClaimedJob, runtime_bound
from rnd.core.worker_slots import Reserved, WorkerSlots
from rnd.database import executor_handles, job_executions, job_interfaces, job_moves, service_revisions
from rnd.database.consequences import check_inputs, fail_open_job
from rnd.database.job_moves import JobEnd
from rnd.database.news import News
from rnd.types.enums import JobStatus, ServiceType
from rnd.types.errors import NotFound
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface
from rnd.types.ids import JobExecutionId, PeerId, ServiceId
from rnd.types.services import DockerSettings, Service
from rnd.workers.news_board import NewsBoard

DATA_JOBS_A_TURN: Final = 64
"""How many DATA jobs begin in one turn of the queue; they hold no worker, only deliveries."""

SUCCESSORS_MAX: Final = 16
"""With more jobs behind it, the end of a job is committed alone: whoever waits for it must not wait for all of them."""


@dataclass(slots=True)
class Turn:
    """What one transaction of the queue found and moved. `news` is to be published by whoever commits it.

    `next_needs` is how many parts of a worker the first program takes that was left for want of them.
    """

    news: News
    waiting: list[tuple[JobExecution, InterfacePeer]] = field(default_factory=list)
    whole: list[tuple[JobExecution, tuple[JobInterface, ...]]] = field(default_factory=list)
    claimed: list[ClaimedJob] = field(default_factory=list)
    disowned: list[JobExecutionId] = field(default_factory=list)
    leaves_programs: bool = False
    next_needs: int = 1
    leaves_data: bool = False
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Succession:
    """Workers that are reserved for what the end of a job makes ready."""

    reserved: Reserved
    ready_rings: int


class Claims:
    """Claims jobs, for turns of the queue and for the ends of jobs that make others ready."""

    def __init__(self, *, board: NewsBoard, slots: WorkerSlots, peer_id: PeerId, boot_id: str) -> None:
        self.when_claimed: Callable[[Turn], None] = lambda _: None
        """Is called with what the end of a job made ready, once it is committed and published."""
        self._board = board
        self._slots = slots
        self._peer_id = peer_id
        self._boot_id = boot_id
        self._successions = 0
        self._is_shut = False
        self._none_is_open = asyncio.Event()
        self._none_is_open.set()

    # ---- within a transaction

    def look_and_claim(
        self,
        conn: sqlite3.Connection,
        news: News,
        changed: Collection[JobExecutionId],
        reserved: Reserved,
        in_hand: Collection[JobExecutionId],
        *,
        now: datetime,
        data_jobs: int = DATA_JOBS_A_TURN,
    ) -> Turn:
        """Move the changed jobs that are whole to READY, then claim for the reserved workers; `in_hand` are not claimed again."""
        turn = Turn(news=news)
        for job_id in sorted(set(changed)):
            self._look_at(conn, job_id, turn, now=now)
        programs = self._ready_programs(conn, turn, reserved, in_hand, now=now)
        data = job_executions.list_ready_data(conn, executor=self._peer_id, limit=data_jobs) if data_jobs else []
        turn.leaves_data = 0 < data_jobs == len(data)
        self._claim(conn, [*programs, *data], turn, now=now)
        return turn

    def claim_successors(
        self,
        conn: sqlite3.Connection,
        news: News,
        succession: Succession,
        in_hand: Collection[JobExecutionId],
        *,
        now: datetime,
    ) -> Turn | None:
        """Claim what the news of this transaction make ready, and take it out of them; `None` if that is left to the queue."""
        if not 0 < len(news.inputs_changed) <= SUCCESSORS_MAX:
            return None
        changed, news.inputs_changed = news.inputs_changed, []
        turn = self.look_and_claim(conn, news, changed, succession.reserved, in_hand, now=now, data_jobs=0)
        news.ready.clear()
        return turn

    def _look_at(self, conn: sqlite3.Connection, job_id: JobExecutionId, turn: Turn, *, now: datetime) -> None:
        """Move a started job whose inputs are all acknowledged to READY, and remember what was seen for the log."""
        try:
            job = job_executions.get_job(conn, job_id)
        except NotFound:
            return
        if job.status is not JobStatus.IDLE or not job.start_received:
            return
        missing = job_interfaces.find_open_input(conn, job_id)
        if missing is not None:
            # The first that is missing decides, as in the document; a job of 1,000 inputs is looked at 1,000 times.
            turn.waiting.append((job, missing))
        elif check_inputs(conn, job_id, now=now, news=turn.news):
            turn.whole.append((job, job_interfaces.list_interfaces(conn, job_id)))

    def _ready_programs(
        self,
        conn: sqlite3.Connection,
        turn: Turn,
        reserved: Reserved,
        in_hand: Collection[JobExecutionId],
        *,
        now: datetime,
    ) -> list[JobExecution]:
        """Return the next programs to run. An attempt that was taken away by hand has to be out of the way first."""
        count = reserved.most()
        ready = job_executions.list_ready_programs(conn, executor=self._peer_id, limit=count, now=now)
        if any(job.id in in_hand for job in ready):
            limit = count + len(in_hand)
            ready = job_executions.list_ready_programs(conn, executor=self._peer_id, limit=limit, now=now)
        waiting = [job for job in ready if job.id not in in_hand]
        chosen = reserved.fit(waiting)
        turn.leaves_programs = len(waiting) >= count or len(chosen) < len(waiting)
        turn.next_needs = reserved.needs(waiting[len(chosen)]) if len(chosen) < len(waiting) else 1
        return chosen

    def _claim(self, conn: sqlite3.Connection, jobs: Sequence[JobExecution], turn: Turn, *, now: datetime) -> None:
        """Commit to running READY jobs: RUNNING, under names that their engines will know them by."""
        services: dict[tuple[ServiceId, int], Service] = {}
        orphans: list[JobExecution] = []
        for job in jobs:
            if ordered_service(job) in services:
                continue
            try:
                services[ordered_service(job)] = service_revisions.get_ordered(conn, *ordered_service(job))
            except NotFound as error:
                orphans.append(job)
                fail_open_job(conn, job.id, JobEnd(error=str(error)), now=now, news=turn.news)
        if orphans:  # the failure of one may have ended another
            jobs = [job for job in jobs if job_executions.get_job(conn, job.id).status is JobStatus.READY]
        runs_by = {
            job.id: now + timedelta(seconds=runtime_bound(job, services[ordered_service(job)])[0]) for job in jobs
        }
        job_moves.record_images(conn, list(_images(jobs, services)))
        job_moves.mark_all_running(conn, [(job, runs_by[job.id]) for job in jobs], now=now)
        programs = [job for job in jobs if job.service_type is not ServiceType.DATA]
        executor_handles.record_intents(conn, programs, boot_id=self._boot_id, now=now)
        interfaces = job_interfaces.list_interfaces_of(conn, [job.id for job in jobs])
        turn.claimed += [
            ClaimedJob(
                job=job,
                service=services[ordered_service(job)],
                interfaces=interfaces[job.id],
                engine_name="" if job.service_type is ServiceType.DATA else executor_handles.engine_name_of(job),
                run_by=runs_by[job.id],
            )
            for job in jobs
        ]

    # ---- around one that ends a job

    def open_succession(self) -> Succession | None:
        """Reserve workers for what a job's end may make ready; `None` where others wait already, or for want of a worker."""
        if self._is_shut or self._board.has_ready_jobs or self._slots.free_parts() == 0:
            return None
        self._successions += 1
        self._none_is_open.clear()
        return Succession(self._slots.reserve(), self._board.ready_rings)

    def close_succession(self, succession: Succession, turn: Turn | None) -> None:
        """Have what was claimed begin, if it is committed, and give up what is still reserved."""
        try:
            if turn is not None:
                self._board.has_ready_jobs = turn.leaves_programs or self._board.ready_rings != succession.ready_rings
                self.when_claimed(turn)
        finally:
            self._slots.give_up(succession.reserved)
            self._successions -= 1
            if not self._successions:
                self._none_is_open.set()

    @contextlib.asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Wait until what the ends of jobs have claimed is in hand, and let them claim nothing meanwhile."""
        self._is_shut = True
        try:
            await self._none_is_open.wait()
            yield
        finally:
            self._is_shut = False


def ordered_service(job: JobExecution) -> tuple[ServiceId, int]:
    """Return which service, and which revision of it, a job was ordered of."""
    return job.service_id, job.service_revision


def is_running(conn: sqlite3.Connection, job_id: JobExecutionId) -> bool:
    """Say whether the row of a job is there and RUNNING."""
    try:
        return job_executions.get_job(conn, job_id).status is JobStatus.RUNNING
    except NotFound:
        return False


def _images(
    jobs: Sequence[JobExecution], services: Mapping[tuple[ServiceId, int], Service]
) -> Iterator[tuple[JobExecutionId, str]]:
    """Yield the DOCKER jobs with the image that each runs."""
    for job in jobs:
        settings = services[ordered_service(job)].settings
        if isinstance(settings, DockerSettings):
            yield job.id, settings.digest or settings.image_id
