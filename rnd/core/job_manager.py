"""The JobManager: creates, starts and cancels the jobs whose executor is this peer (document: Job Creation; Job Start).

It is the endpoint that the WorkflowManager speaks to; in between and afterwards a job is with the queue and its runner.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from rnd.core.earlier_orders import find_serving
from rnd.core.explaining import Explainer
from rnd.core.foreign_orders import known_job, with_own_service_id
from rnd.core.job_orders import (
    OfferedServices,
    accept_jobs,
    engine_refusals,
    needs_engine,
    refusals,
    request_digest,
    why_unavailable,
)
from rnd.core.job_queue import JobQueue
from rnd.core.job_run import Stop, StopKind
from rnd.core.job_runner import JobRunner
from rnd.core.worker_slots import WorkerSlots
from rnd.database import job_executions, job_moves
from rnd.database.connection import Database
from rnd.database.consequences import spread_failure, start_jobs
from rnd.database.job_moves import JobEnd, JobHead
from rnd.database.news import News
from rnd.log import get_logger
from rnd.rules.explain import Explanation
from rnd.rules.reuse import is_reused
from rnd.services.executor import Executor
from rnd.types.config import Config
from rnd.types.enums import JobStatus, ServiceType
from rnd.types.ids import JobExecutionId, NodeId, PeerId, ServiceId
from rnd.types.log_events import LogEvent
from rnd.types.orders import JobRequest, JobResponse, JobStart, StartReport
from rnd.types.seams import Clock, Entropy
from rnd.types.services import DataSettings, Sandbox, Service
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard

LOOKS_AT_ONCE: Final = 2
"""For how many orders at a time the disk is looked at for what an earlier job left: up to 100,000 files each."""

log = get_logger()


class JobManager:
    """Creates, starts and cancels jobs, says why they are where they are, and has the queue run them."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        folders: JobFolders,
        executors: Mapping[ServiceType, Executor],
        is_unlocked: Callable[[ServiceId], Awaitable[bool]],
        runner: JobRunner,
        explainer: Explainer,
        disk: DiskGuard,
        board: NewsBoard,
        queue: JobQueue,
        slots: WorkerSlots,
        peer_id: PeerId,
        sandbox: Sandbox,
    ) -> None:
        """`is_unlocked` says whether the owner has opened an encrypted DATA service, for the orders of other peers."""
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._folders = folders
        self._executors = executors
        self._is_unlocked = is_unlocked
        self._runner = runner
        self._explainer = explainer
        self._disk = disk
        self._board = board
        self._queue = queue
        self._slots = slots
        self._peer_id = peer_id
        self._sandbox = sandbox
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)

    # ---- the endpoint that the WorkflowManager speaks to

    async def check_jobs(self, requests: Sequence[JobRequest]) -> list[JobResponse]:
        """Say what would be answered to these requests; create nothing."""
        no_room = self._disk.refusal()
        serving = await self._serving(requests)
        engine_reasons = await self._engine_reasons(requests, serving)

        def work(conn: sqlite3.Connection) -> list[JobResponse]:
            answers = self._answers(conn, _own_terms(conn, requests), engine_reasons, no_room)
            return [replace(answer, reused=not answer.reasons and answer.node_id in serving) for answer in answers]

        return await self._database.read(work)

    async def create_jobs(self, requests: Sequence[JobRequest]) -> list[JobResponse]:
        """Create every job (IDLE) or, if any is refused, none; the same request twice gets the same answer."""
        now = self._clock.now()
        no_room = self._disk.refusal()
        serving = await self._serving(requests)
        engine_reasons = await self._engine_reasons(requests, serving)
        self._expect_runs(requests)

        def work(conn: sqlite3.Connection) -> list[JobResponse]:
            if (before := _answered_before(conn, requests)) is not None:
                return before
            orders = _own_terms(conn, requests)
            answers = self._answers(conn, orders, engine_reasons, no_room)
            if any(answer.reasons for answer in answers):
                return answers
            return accept_jobs(
                conn,
                requests,
                self_peer_id=self._peer_id,
                deadlines=self._config.deadlines,
                serving=serving,
                now=now,
            )

        return await self._database.write(work)

    def _expect_runs(self, requests: Sequence[JobRequest]) -> None:
        """Have the engines prepare for the programs of own executions that wait for no input: they begin when all are started."""
        at_once = Counter(
            request.plan.service_type
            for request in requests
            if request.orchestrator_peer_id == self._peer_id and not request.plan.constraint_detail
        )
        for service_type, count in at_once.items():
            if (executor := self._executors.get(service_type)) is not None:
                executor.expect_runs(min(count, self._slots.most_at_once))

    async def start_jobs(self, starts: Sequence[JobStart]) -> StartReport:
        """Take start commands with complete routing; repeating them changes nothing."""
        news = News()
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> list[JobExecutionId]:
            return start_jobs(conn, starts, new_transfer_id=self._entropy.new_transfer_id, now=now, news=news)

        started = await self._database.write(work)
        for job_id in started:
            log.info(LogEvent.JOB_START_RECEIVED, job_id=job_id)
        self._board.publish(news)
        self._board.jobs.ring(*news.waiting)
        return StartReport(started=tuple(started))

    async def cancel_jobs(self, job_execution_ids: Sequence[JobExecutionId], *, reason: str) -> None:
        """Record the wish to cancel and act on it: what has not begun ends now, what runs is killed."""
        news = News()
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> list[JobExecutionId]:
            to_stop: list[JobExecutionId] = []
            heads: list[JobHead] = []
            for job_id in job_execution_ids:
                status = job_moves.request_cancel(conn, job_id, reason=reason, now=now)
                if status is None:
                    continue
                job = job_executions.get_job(conn, job_id)
                if status is JobStatus.RUNNING and job.service_type is not ServiceType.DATA:
                    to_stop.append(job_id)
                else:
                    head = job_moves.mark_cancelled(conn, job_id, JobEnd(error=reason), now=now)
                    news.ended.append((head, reason))
                    heads.append(head)
            for head in heads:
                spread_failure(conn, head, reason, now=now, news=news)
            return to_stop

        for job_id in await self._database.write(work):
            self._runner.stop(job_id, Stop(kind=StopKind.CANCELLED, reason=reason))
        self._board.publish(news)

    async def _serving(self, requests: Sequence[JobRequest]) -> set[NodeId]:
        """Return the nodes whose earlier job serves again; a peer that asks and asks leaves threads to others."""
        async with self._looks:
            return await find_serving(self._database, self._folders, requests, now=self._clock.now())

    async def _engine_reasons(self, requests: Sequence[JobRequest], serving: Collection[NodeId]) -> list[str | None]:
        """Return for each request why its engine could not run it; asked outside of transactions, since it looks at disks."""

        def find(conn: sqlite3.Connection) -> list[Service | None]:
            offered = OfferedServices(conn)
            return [offered.find(order.plan.service_id) for order in _own_terms(conn, requests)]

        services = await self._database.read(find)
        reasons = await asyncio.to_thread(
            engine_refusals, services, requests, self._executors, self_peer_id=self._peer_id, serving=serving
        )
        reasons = await self._with_health(services, requests, serving, reasons)
        for at, (service, request) in enumerate(zip(services, requests, strict=True)):
            if (
                request.orchestrator_peer_id != self._peer_id
                and request.plan.node_id not in serving
                and service is not None
                and isinstance(service.settings, DataSettings)
                and service.settings.encrypted
                and not await self._is_unlocked(service.id)
            ):
                reasons[at] = f"DATA service {service.name} is encrypted, and its owner has not unlocked it"
        return reasons

    async def _with_health(
        self,
        services: Sequence[Service | None],
        requests: Sequence[JobRequest],
        serving: Collection[NodeId],
        reasons: Sequence[str | None],
    ) -> list[str | None]:
        """Return the reasons with that of the container engine before them, where it takes no work; asked once for all."""
        at_stake = [
            service is not None
            and service.service_type is ServiceType.DOCKER
            and needs_engine(request, serving, self_peer_id=self._peer_id)
            for service, request in zip(services, requests, strict=True)
        ]
        executor = self._executors.get(ServiceType.DOCKER)
        trouble = await why_unavailable(executor) if any(at_stake) else None
        return [trouble if asked and trouble else reason for asked, reason in zip(at_stake, reasons, strict=True)]

    def _answers(
        self,
        conn: sqlite3.Connection,
        requests: Sequence[JobRequest],
        engine_reasons: Sequence[str | None],
        no_room: str | None,
    ) -> list[JobResponse]:
        own_reasons = () if no_room is None else (no_room,)
        now = self._clock.now()
        offered = OfferedServices(conn)
        answers: list[JobResponse] = []
        for request, engine_reason in zip(requests, engine_reasons, strict=True):
            reasons = refusals(
                offered,
                request,
                self_peer_id=self._peer_id,
                sandbox=self._sandbox,
                limits=self._config.limits,
                now=now,
                engine_reason=engine_reason,
            )
            service = offered.find(request.plan.service_id)
            answers.append(
                JobResponse(
                    node_id=request.plan.node_id,
                    job_execution_id=None,
                    reasons=(*reasons, *own_reasons),
                    service_revision=None if service is None else service.revision,
                )
            )
        return answers

    async def explain(self, job_execution_id: JobExecutionId) -> Explanation:
        """Say why a job is where it is, and what to do. Raises `NotFound`."""
        return await self._explainer.explain(job_execution_id, slots=self.slots())

    def slots(self) -> tuple[int, int]:
        """Return how many workers are busy and how many there are."""
        return self._slots.busy, self._slots.total

    async def run(self) -> None:
        """Work the queue until cancelled."""
        await self._queue.run()


def _own_terms(conn: sqlite3.Connection, requests: Sequence[JobRequest]) -> list[JobRequest]:
    """Return orders with the ids that the services have here; another peer may know them by name alone."""
    return [request if request.bounds is None else with_own_service_id(conn, request) for request in requests]


def _answered_before(conn: sqlite3.Connection, requests: Sequence[JobRequest]) -> list[JobResponse] | None:
    """Return the answer that an order of another peer got before, whatever has changed here since; `None` if it is new."""
    if any(request.bounds is None for request in requests):
        return None  # own orders are written down with what they order
    known = [known_job(conn, request, request_digest(request)) for request in requests]
    jobs = [job for job in known if job is not None]
    if not jobs or len(jobs) < len(known):
        return None
    return [
        JobResponse(
            node_id=job.node_id,
            job_execution_id=job.id,
            service_revision=job.service_revision,
            reused=is_reused(job),
        )
        for job in jobs
    ]
