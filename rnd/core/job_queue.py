"""The queue of this peer's jobs: it has them begin when their inputs are whole (document: Job Scheduling).

Rows decide. A turn looks at jobs whose inputs changed, claims what is READY, and hands each job to its executor. Turns come
by wake-ups; the ticker (10 s) is the safety net that also notices deadlines and what people repair in sqlite3.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from rnd.core.claims import Claims, Turn, is_running, ordered_service
from rnd.core.job_run import ClaimedJob, Stop, StopKind, runtime_bound
from rnd.core.job_runner import JobRunner
from rnd.core.repairs import honour_job_repairs
from rnd.core.worker_slots import Reserved, WorkerSlots
from rnd.database import executor_handles, job_executions, job_interfaces, service_revisions
from rnd.database.connection import Database
from rnd.database.consequences import fail_open_job
from rnd.database.job_moves import JobEnd
from rnd.database.news import News
from rnd.log import about_run, get_logger
from rnd.types.config import Config
from rnd.types.enums import JobStatus, MountFunction, ServiceType
from rnd.types.errors import DatabaseNotNow, NotFound
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface
from rnd.types.ids import JobExecutionId, PeerId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard

TURNS_AT_ONCE: Final = 2
"""While one turn is being committed, workers that become free meanwhile are given work by the next."""

DISOWNED: Final = Stop(kind=StopKind.DISOWNED, reason="its row has ended without it")

log = get_logger()


class JobQueue:
    """Gives jobs to workers, in the order of their ids."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        folders: JobFolders,
        runner: JobRunner,
        claims: Claims,
        slots: WorkerSlots,
        board: NewsBoard,
        peer_id: PeerId,
        boot_id: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._folders = folders
        self._runner = runner
        self._claims = claims
        self._slots = slots
        self._board = board
        self._peer_id = peer_id
        self._boot_id = boot_id
        self._turns = asyncio.Semaphore(TURNS_AT_ONCE)
        self._next_attempt_at: datetime | None = None
        self._repairs_are_due = True  # also those that were typed while no daemon ran

    async def run(self) -> None:
        """Work the queue until cancelled; first take up again what an earlier daemon was running."""
        async with asyncio.TaskGroup() as group:
            self._claims.when_claimed = functools.partial(self._go_on_with, group=group)
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
        reserved = self._slots.reserve()
        rings = self._board.ready_rings
        try:
            turn = await self._turn(changed, reserved)
            self._board.has_ready_jobs = turn.leaves_programs or self._board.ready_rings != rings
            self._log_looked_at(turn)
            self._board.publish(turn.news)
            self._begin(turn, group)
        finally:
            self._slots.give_up(reserved)
            self._turns.release()
        waits_for_another_time = reserved.parts > 0 and turn.next_attempt_at != self._next_attempt_at
        if waits_for_another_time:
            self._next_attempt_at = turn.next_attempt_at
        has_work = self._board.has_ready_jobs and self._slots.free_parts() >= turn.next_needs
        if waits_for_another_time or has_work or turn.leaves_data:
            self._board.jobs.ring()

    @contextlib.asynccontextmanager
    async def _no_turn(self) -> AsyncIterator[None]:
        """Wait for the turns that go on and keep others from beginning: what they have claimed is in hand then."""
        for _ in range(TURNS_AT_ONCE):
            await self._turns.acquire()
        try:
            async with self._claims.shut():
                yield
        finally:
            for _ in range(TURNS_AT_ONCE):
                self._turns.release()

    async def _turn(self, changed: set[JobExecutionId], reserved: Reserved) -> Turn:
        now = self._clock.now()
        in_hand = self._runner.in_hand()

        def work(conn: sqlite3.Connection, news: News) -> Turn:
            turn = self._claims.look_and_claim(conn, news, changed, reserved, in_hand, now=now)
            if reserved.parts > 0:
                turn.next_attempt_at = job_executions.next_attempt_at(conn, executor=self._peer_id)
            turn.disowned += [job_id for job_id in changed & in_hand if not is_running(conn, job_id)]
            return turn

        turn, _ = await insist(self._database, work)
        turn.news.ready.clear()  # claimed as far as there are workers
        return turn

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
                if claimed is not None and (claimed.stop is not None or is_running(conn, claimed.job.id))
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
            service = service_revisions.get_ordered(conn, *ordered_service(job))
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

    def _log_looked_at(self, turn: Turn) -> None:
        for job, missing in turn.waiting:
            with about_run(job.execution_uid, job.ordering_peer_id):
                log.info(LogEvent.CHECKING_INPUTS_READY, job_id=job.id)
                self._log_input(job, missing)
        for job, interfaces in turn.whole:
            with about_run(job.execution_uid, job.ordering_peer_id):
                self._log_whole(job, interfaces)

    def _begin(self, turn: Turn, group: asyncio.TaskGroup) -> None:
        if turn.claimed:
            log.info(LogEvent.JOB_QUEUE_PROCESSING, count=len(turn.claimed))
        for claimed in turn.claimed:
            self._runner.begin(claimed, group)
        for job_id in turn.disowned:
            self._runner.stop(job_id, DISOWNED)

    def _go_on_with(self, turn: Turn, group: asyncio.TaskGroup) -> None:
        """Begin what the end of a job has made ready."""
        self._log_looked_at(turn)
        self._begin(turn, group)
        if self._board.has_ready_jobs and self._slots.free_parts() >= turn.next_needs:
            self._board.jobs.ring()

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
