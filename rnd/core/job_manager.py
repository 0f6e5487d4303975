"""The JobManager: every job of this peer, from its creation to its end (document: Job Scheduling, Dependency Resolution).

Rows decide. A turn of the queue looks at jobs whose inputs changed, moves those that are whole to READY, claims as many
as there are workers, and hands each to its executor. Turns come by wake-ups; the ticker (10 s) is the safety net that
also notices deadlines and what people repair in sqlite3. Claiming commits the name under which the engine will know the
job, so that a restarted daemon finds it again instead of running it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
from rnd.core.job_run import ClaimedJob, Stop, StopKind, runtime_bound
from rnd.core.job_runner import JobRunner
from rnd.core.repairs import honour_job_repairs
from rnd.core.worker_slots import WorkerSlots
from rnd.database import executor_handles, job_executions, job_interfaces, job_moves, service_revisions
from rnd.database.connection import Database
from rnd.database.consequences import check_inputs, fail_open_job, spread_failure, start_jobs
from rnd.database.job_moves import JobEnd, JobHead
from rnd.database.news import News
from rnd.log import get_logger
from rnd.rules.explain import Explanation
from rnd.rules.reuse import is_reused
from rnd.services.executor import Executor
from rnd.types.config import Config
from rnd.types.enums import JobStatus, MountFunction, ServiceType
from rnd.types.errors import DatabaseNotNow, NotFound
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface
from rnd.types.ids import JobExecutionId, NodeId, PeerId, ServiceId
from rnd.types.log_events import LogEvent
from rnd.types.orders import JobRequest, JobResponse, JobStart, StartReport
from rnd.types.seams import Clock, Entropy
from rnd.types.services import DataSettings, DockerSettings, Sandbox, Service
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard

DATA_JOBS_A_TURN: Final = 64
"""How many DATA jobs begin in one turn of the queue; they hold no worker, only deliveries."""

TURNS_AT_ONCE: Final = 2
"""While one turn is being committed, workers that become free meanwhile are given work by the next."""

LOOKS_AT_ONCE: Final = 2
"""For how many orders at a time the disk is looked at for what an earlier job left: up to 100,000 files each."""

DISOWNED: Final = Stop(kind=StopKind.DISOWNED, reason="its row has ended without it")

log = get_logger()


@dataclass(slots=True)
class _Turn:
    """What one transaction of the queue found and moved."""

    news: News
    waiting: list[tuple[JobExecution, InterfacePeer]] = field(default_factory=list)
    whole: list[tuple[JobExecution, tuple[JobInterface, ...]]] = field(default_factory=list)
    claimed: list[ClaimedJob] = field(default_factory=list)
    disowned: list[JobExecutionId] = field(default_factory=list)
    leaves_programs: bool = False
    leaves_data: bool = False
    next_attempt_at: datetime | None = None


class JobManager:
    """Creates, starts, runs and cancels the jobs whose executor is this peer."""

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
        slots: WorkerSlots,
        peer_id: PeerId,
        boot_id: str,
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
        self._slots = slots
        self._peer_id = peer_id
        self._boot_id = boot_id
        self._sandbox = sandbox
        self._turns = asyncio.Semaphore(TURNS_AT_ONCE)
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._next_attempt_at: datetime | None = None
        self._repairs_are_due = True  # also those that were typed while no daemon ran

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

    # ---- the queue

    async def run(self) -> None:
        """Work the queue until cancelled; first take up again what an earlier daemon was running."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runner.watch_growth())
            self._runner.reattach(await self._take_up(is_restarted=True), group)
            changed: set[JobExecutionId] = set()
            next_tick = self._clock.monotonic()
            while True:
                if self._clock.monotonic() >= next_tick:
                    next_tick = self._clock.monotonic() + self._config.queue_interval_s
                    async with self._no_turn():
                        changed |= await self._tick(group)
                await self._turns.acquire()
                group.create_task(self._take_turn(changed, group))
                changed = await self._board.jobs.wait(self._pause_s(next_tick))

    def _pause_s(self, next_tick: float) -> float:
        pause_s = next_tick - self._clock.monotonic()
        if self._next_attempt_at is not None:
            pause_s = min(pause_s, (self._next_attempt_at - self._clock.now()).total_seconds())
        return max(0.0, pause_s)

    async def _take_turn(self, changed: set[JobExecutionId], group: asyncio.TaskGroup) -> None:
        """Take one turn of the queue, with the workers that no other turn has reserved."""
        free = self._slots.reserve()
        rings = self._board.ready_rings
        try:
            turn = await self._turn(changed, free)
            self._board.has_ready_jobs = turn.leaves_programs or self._board.ready_rings != rings
            self._act_on(turn, group)
        finally:
            self._slots.give_up(free)
            self._turns.release()
        waits_for_another_time = free > 0 and turn.next_attempt_at != self._next_attempt_at
        if waits_for_another_time:
            self._next_attempt_at = turn.next_attempt_at
        has_work = self._board.has_ready_jobs and self._slots.free() > 0
        if waits_for_another_time or has_work or turn.leaves_data:
            self._board.jobs.ring()

    @contextlib.asynccontextmanager
    async def _no_turn(self) -> AsyncIterator[None]:
        """Wait for the turns that go on and keep others from beginning: what they have claimed is in hand then."""
        for _ in range(TURNS_AT_ONCE):
            await self._turns.acquire()
        try:
            yield
        finally:
            for _ in range(TURNS_AT_ONCE):
                self._turns.release()

    async def _turn(self, changed: set[JobExecutionId], free: int) -> _Turn:
        now = self._clock.now()
        in_hand = self._runner.in_hand()

        def work(conn: sqlite3.Connection, news: News) -> _Turn:
            turn = _Turn(news=news)
            for job_id in sorted(changed):
                self._look_at(conn, job_id, turn, now=now)
            programs = self._ready_programs(conn, free, in_hand, now=now)
            data_jobs = job_executions.list_ready_data(conn, executor=self._peer_id, limit=DATA_JOBS_A_TURN)
            turn.leaves_programs = len(programs) == free
            turn.leaves_data = len(data_jobs) == DATA_JOBS_A_TURN
            self._claim(conn, [*programs, *data_jobs], turn, now=now)
            if free > 0:
                turn.next_attempt_at = job_executions.next_attempt_at(conn, executor=self._peer_id)
            turn.disowned += [job_id for job_id in changed & in_hand if not _is_running(conn, job_id)]
            return turn

        turn, _ = await insist(self._database, work)
        turn.news.ready.clear()  # claimed as far as there are workers
        return turn

    def _ready_programs(
        self, conn: sqlite3.Connection, count: int, in_hand: set[JobExecutionId], *, now: datetime
    ) -> list[JobExecution]:
        """Return the next programs to run. An attempt that was taken away by hand has to be out of the way first."""
        ready = job_executions.list_ready_programs(conn, executor=self._peer_id, limit=count, now=now)
        if any(job.id in in_hand for job in ready):
            limit = count + len(in_hand)
            ready = job_executions.list_ready_programs(conn, executor=self._peer_id, limit=limit, now=now)
        return [job for job in ready if job.id not in in_hand][:count]

    def _look_at(self, conn: sqlite3.Connection, job_id: JobExecutionId, turn: _Turn, *, now: datetime) -> None:
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

    def _claim(self, conn: sqlite3.Connection, jobs: Sequence[JobExecution], turn: _Turn, *, now: datetime) -> None:
        """Commit to running READY jobs: RUNNING, under names that their engines will know them by."""
        services: dict[tuple[ServiceId, int], Service] = {}
        orphans: list[JobExecution] = []
        for job in jobs:
            if _ordered(job) in services:
                continue
            try:
                services[_ordered(job)] = service_revisions.get_ordered(conn, *_ordered(job))
            except NotFound as error:
                orphans.append(job)
                fail_open_job(conn, job.id, JobEnd(error=str(error)), now=now, news=turn.news)
        if orphans:  # the failure of one may have ended another
            jobs = [job for job in jobs if job_executions.get_job(conn, job.id).status is JobStatus.READY]
        runs_by = {job.id: now + timedelta(seconds=runtime_bound(job, services[_ordered(job)])[0]) for job in jobs}
        job_moves.record_images(conn, list(_images(jobs, services)))
        job_moves.mark_all_running(conn, [(job, runs_by[job.id]) for job in jobs], now=now)
        programs = [job for job in jobs if job.service_type is not ServiceType.DATA]
        executor_handles.record_intents(conn, programs, boot_id=self._boot_id, now=now)
        interfaces = job_interfaces.list_interfaces_of(conn, [job.id for job in jobs])
        turn.claimed += [
            ClaimedJob(
                job=job,
                service=services[_ordered(job)],
                interfaces=interfaces[job.id],
                engine_name="" if job.service_type is ServiceType.DATA else executor_handles.engine_name_of(job),
                run_by=runs_by[job.id],
            )
            for job in jobs
        ]

    async def _take_up(self, *, is_restarted: bool) -> list[ClaimedJob]:
        """Return what is RUNNING in nobody's hands: after a restart all that an earlier daemon ran.

        What a person has taken away from the stopped daemon is among them, so that no process of it goes on.
        """
        now = self._clock.now()
        in_hand = self._runner.in_hand()

        def work(conn: sqlite3.Connection, news: News) -> list[ClaimedJob]:
            jobs = job_executions.list_running(conn, executor=self._peer_id)
            if is_restarted:
                jobs += job_executions.list_taken_away(conn, executor=self._peer_id)
            found = [
                self._find_again(conn, job, news, now=now)
                for job in jobs
                if job.id not in in_hand and (is_restarted or job.service_type is not ServiceType.DATA)
            ]
            # The failure of one may have ended another, so who is still to be run is decided last.
            return [
                claimed
                for claimed in found
                if claimed is not None and (claimed.stop is not None or _is_running(conn, claimed.job.id))
            ]

        claimed, news = await insist(self._database, work)
        self._board.publish(news)
        return claimed

    def _find_again(
        self, conn: sqlite3.Connection, job: JobExecution, news: News, *, now: datetime
    ) -> ClaimedJob | None:
        stop = None
        if job.status is not JobStatus.RUNNING:
            stop = DISOWNED
        elif job.cancel_requested_at is not None:
            stop = Stop(kind=StopKind.CANCELLED, reason=job_executions.cancel_reason(conn, job.id) or "cancelled")
        if stop is DISOWNED and job.service_type is ServiceType.DATA:
            return None  # it has no process, and its deliveries end with the repair
        try:
            service = service_revisions.get_ordered(conn, *_ordered(job))
        except NotFound as error:
            fail_open_job(conn, job.id, JobEnd(error=str(error)), now=now, news=news)
            return None
        return ClaimedJob(
            job=job,
            service=service,
            interfaces=job_interfaces.list_interfaces(conn, job.id),
            engine_name=executor_handles.engine_name_of(job),
            run_by=job.run_by or now + timedelta(seconds=runtime_bound(job, service)[0]),
            found=True,
            rebooted=executor_handles.boot_of_intent(conn, job) not in (None, self._boot_id),
            stop=stop,
        )

    def _act_on(self, turn: _Turn, group: asyncio.TaskGroup) -> None:
        for job, missing in turn.waiting:
            log.info(LogEvent.CHECKING_INPUTS_READY, job_id=job.id)
            self._log_input(job, missing)
        for job, interfaces in turn.whole:
            self._log_whole(job, interfaces)
        self._board.publish(turn.news)
        if turn.claimed:
            log.info(LogEvent.JOB_QUEUE_PROCESSING, count=len(turn.claimed))
        for claimed in turn.claimed:
            self._runner.begin(claimed, group)
        for job_id in turn.disowned:
            self._runner.stop(job_id, DISOWNED)

    def _log_whole(self, job: JobExecution, interfaces: Sequence[JobInterface]) -> None:
        """Say what the document's checkInputsReady says of a job whose inputs are all there."""
        log.info(LogEvent.CHECKING_INPUTS_READY, job_id=job.id)
        for interface in interfaces:
            for peer in interface.peers:
                if peer.peer_mount_function is MountFunction.OUTPUT:
                    self._log_input(job, peer)
        log.info(LogEvent.ALL_INPUTS_READY, job_id=job.id)
        log.info(LogEvent.JOB_TRANSITIONING, job_id=job.id)
        log.info(LogEvent.INPUTS_READY, job_id=job.id)

    def _log_input(self, job: JobExecution, peer: InterfacePeer) -> None:
        path = self._folders.input(job, peer)
        exists = path.exists()
        log.info(LogEvent.EXPECTED_INPUT_PATH, path=path, job_id=job.id)
        log.info(LogEvent.INPUT_PATH_EXISTS if exists else LogEvent.INPUT_PATH_MISSING, path=path, job_id=job.id)
        log.debug(
            LogEvent.CHECKING_INPUT_PATH,
            path=path,
            exists=exists,
            duty_acknowledged=peer.duty_acknowledged,
            job_id=job.id,
        )
        if not peer.duty_acknowledged:
            log.info(LogEvent.DUTY_NOT_ACKNOWLEDGED, job_id=job.id, interface_peer_id=peer.id)

    async def _tick(self, group: asyncio.TaskGroup) -> set[JobExecutionId]:
        """The safety net: deadlines, repairs by hand, and every waiting job, whatever wake-up may have been lost."""
        now = self._clock.now()
        with contextlib.suppress(
            DatabaseNotNow
        ):  # then nobody else can have committed either; the next tick asks again
            self._repairs_are_due |= await self._database.changed_from_outside()
        self._runner.reattach(await self._take_up(is_restarted=False), group)

        def work(conn: sqlite3.Connection, news: News) -> set[JobExecutionId]:
            if self._repairs_are_due:
                honour_job_repairs(conn, self_peer_id=self._peer_id, now=now, news=news)
            for job in job_executions.list_expired(conn, executor=self._peer_id, now=now):
                error = "no start command came before start_by; phase 2 never reached this job"
                fail_open_job(conn, job.id, JobEnd(error=error), now=now, news=news)
            for job in job_executions.list_overdue_orders(conn, executor=self._peer_id, now=now):
                error = "the deadline of the workflow that ordered it has passed"
                fail_open_job(conn, job.id, JobEnd(error=error), now=now, news=news)
            for job in job_executions.list_running(conn, executor=self._peer_id):
                if job.service_type is ServiceType.DATA and job.run_by is not None and job.run_by < now:
                    error = "timed out: max_runtime has passed"
                    fail_open_job(conn, job.id, JobEnd(error=error), now=now, news=news)
            return {
                job.id
                for job in job_executions.list_waiting(conn, executor=self._peer_id)
                if not job_interfaces.open_inputs(conn, job.id)
            }

        if self._repairs_are_due:
            for job_id in await self._database.read(self._list_deleted):
                self._runner.stop(job_id, DISOWNED)
        changed, news = await insist(self._database, work)
        self._repairs_are_due = False
        self._board.publish(news)
        return changed

    def _list_deleted(self, conn: sqlite3.Connection) -> list[JobExecutionId]:
        """Return the programs in hand whose rows a person has deleted."""
        return [job_id for job_id in self._runner.in_hand() if not _exists(conn, job_id)]


def _exists(conn: sqlite3.Connection, job_id: JobExecutionId) -> bool:
    try:
        job_executions.get_job(conn, job_id)
    except NotFound:
        return False
    return True


def _ordered(job: JobExecution) -> tuple[ServiceId, int]:
    return job.service_id, job.service_revision


def _images(
    jobs: Sequence[JobExecution], services: Mapping[tuple[ServiceId, int], Service]
) -> Iterator[tuple[JobExecutionId, str]]:
    """Yield the DOCKER jobs with the image that each runs."""
    for job in jobs:
        settings = services[_ordered(job)].settings
        if isinstance(settings, DockerSettings):
            yield job.id, settings.digest or settings.image_id


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


def _is_running(conn: sqlite3.Connection, job_id: JobExecutionId) -> bool:
    try:
        return job_executions.get_job(conn, job_id).status is JobStatus.RUNNING
    except NotFound:
        return False
