"""The JobRunner: one claimed job from its staging to its end (document: Node Execution Details).

Each job is a task of its own, and the boundary at which whatever goes wrong becomes that job's error. A worker is held
from the claim until the program has ended; hashing and committing its outputs happens beside the next job's run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from rnd import crash_points
from rnd.core.claims import Claims
from rnd.core.docker_jobs import DockerJobs
from rnd.core.growth import Growth
from rnd.core.job_ends import JobEnds
from rnd.core.job_run import (
    ClaimedJob,
    RunningJob,
    Stop,
    StopKind,
    runtime_bound,
)
from rnd.core.worker_slots import WorkerSlots
from rnd.database.connection import Database
from rnd.database.job_moves import JobEnd
from rnd.log import about_run, get_logger
from rnd.services.executor import Executor, JobRun, Observation, Phase, container_id_of
from rnd.services.images import PullProgress
from rnd.services.service_secrets import ServiceSecrets
from rnd.services.standalone_run import build_run
from rnd.types.config import Config
from rnd.types.enums import ServiceType
from rnd.types.errors import CalledOff, DatabaseGone, ExecutorUnavailable, RndError
from rnd.types.executions import JobExecution
from rnd.types.ids import JobExecutionId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock, Entropy
from rnd.types.services import DockerSettings, Sandbox
from rnd.workers.data_worker import DataWorker
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard
from rnd.workers.staging import StagedJob, is_bare, stage_job

KILL_AGAIN_S: Final = 20.0
"""How long after its grace a program that was to end may still be there before it is killed anew."""

FIND_AGAIN_S: Final = 1.0
"""How long after an engine has not answered it is asked again what became of a run."""

FIND_AT_LEAST: Final = timedelta(minutes=5)
"""So long at least an engine may be away before its run is called lost, though the run's own time be over."""

log = get_logger()


class JobRunner:
    """Runs claimed jobs on their executors, and stops them when told."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        folders: JobFolders,
        executors: Mapping[ServiceType, Executor],
        secrets: ServiceSecrets,
        docker_jobs: DockerJobs,
        data_worker: DataWorker,
        disk: DiskGuard,
        board: NewsBoard,
        claims: Claims,
        slots: WorkerSlots,
        sandbox: Sandbox,
    ) -> None:
        """`sandbox` is what native programs are confined with on this machine."""
        self._database = database
        self._clock = clock
        self._config = config
        self._folders = folders
        self._executors = executors
        self._secrets = secrets
        self._docker_jobs = docker_jobs
        self._data_worker = data_worker
        self._board = board
        self._slots = slots
        self._sandbox = sandbox
        self._growth = Growth(database=database, clock=clock, config=config, folders=folders)
        self._running: dict[JobExecutionId, RunningJob] = {}
        self._ends = JobEnds(
            database=database,
            clock=clock,
            entropy=entropy,
            config=config,
            folders=folders,
            growth=self._growth,
            disk=disk,
            board=board,
            claims=claims,
            in_hand=self.in_hand,
        )

    async def watch_growth(self) -> None:
        """End running jobs that write more than their order may hold here, until cancelled."""
        while True:
            await asyncio.sleep(self._growth.pause_s)
            running = [each.claimed.job for each in self._running.values() if each.handle is not None]
            for job_id, reason in (await self._growth.look(running)).items():
                self.stop(job_id, Stop(kind=StopKind.BEYOND_LIMIT, reason=reason))

    def begin(self, claimed: ClaimedJob, group: asyncio.TaskGroup) -> None:
        """Run a claimed job, which must not be in hand, as a task of the group."""
        job = claimed.job
        with about_run(job.execution_uid, job.ordering_peer_id):
            log.info(LogEvent.EXECUTING_JOB, job_id=job.id, type=job.service_type)
            if job.service_type is ServiceType.DATA:
                group.create_task(self._run_data(claimed))
                return
            running = RunningJob(claimed=claimed, stop=claimed.stop)
            if job.pull_by is None:  # else it waited for its image when its daemon ended, and does so again
                self._slots.hold(running)
            self._running[job.id] = running
            group.create_task(self._run_program(running))

    def reattach(self, claimed: Iterable[ClaimedJob], group: asyncio.TaskGroup) -> None:
        """Take up again what an earlier daemon was running."""
        for found in claimed:
            self.begin(found, group)

    def in_hand(self) -> set[JobExecutionId]:
        """Return the programs that a task sees to."""
        return set(self._running)

    def running_among(self, job_ids: set[JobExecutionId]) -> set[JobExecutionId]:
        """Return which of these jobs are in hand."""
        return job_ids & self._running.keys()

    def has_handle(self, job_id: JobExecutionId) -> bool:
        """Say whether the engine has taken a job on."""
        running = self._running.get(job_id)
        return running is not None and running.handle is not None

    def has_ended(self, job_id: JobExecutionId) -> bool:
        """Say whether the program of a job in hand has ended, so that what it left is being seen to."""
        running = self._running.get(job_id)
        return running is not None and running.ended

    def pull_of(self, job_id: JobExecutionId) -> PullProgress | None:
        """Return how far the image of a job is; `None` where it is not on its way."""
        running = self._running.get(job_id)
        return None if running is None else running.pull

    def waits_for_worker(self, job_id: JobExecutionId) -> bool:
        """Say whether a job whose image has come waits for a worker."""
        running = self._running.get(job_id)
        return running is not None and running.waits_for_worker

    def trouble_of(self, job_id: JobExecutionId) -> str:
        """Return why the engine of a job cannot be asked what became of it; "" where it can."""
        running = self._running.get(job_id)
        return "" if running is None else running.trouble

    def stop(self, job_id: JobExecutionId, stop: Stop) -> None:
        """Decide that a job is to end; its task kills what runs and settles the row. Nothing where it is not in hand."""
        running = self._running.get(job_id)
        if running is not None:
            running.decide(stop)

    # ---- tasks

    async def _run_data(self, claimed: ClaimedJob) -> None:
        try:
            await self._data_worker.execute_data_service(claimed.job, claimed.service, claimed.interfaces)
        except DatabaseGone:
            raise
        except RndError as error:
            await self._ends.fail(claimed, JobEnd(error=str(error)), retry=False)
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="data job", job_id=claimed.job.id)
            await self._ends.fail(claimed, JobEnd(error=f"internal error: {type(error).__name__}"), retry=False)

    async def _run_program(self, running: RunningJob) -> None:
        """See one job through: the boundary beyond which only a database that is gone may pass.

        What could not even be written down as failed stays RUNNING, and the ticker takes it up again.
        """
        job = running.claimed.job
        try:
            await self._see_through(running)
            await self._clean_up(running)
        except DatabaseGone:
            raise
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="job", job_id=job.id)
        finally:
            running.left = True
            self._slots.let_go(running)
            del self._running[job.id]
        if running.stop is not None and running.stop.kind is StopKind.DISOWNED:
            self._board.ring_for_ready()  # another attempt may have waited for this one to be out of the way

    async def _clean_up(self, running: RunningJob) -> None:
        if running.handle is None:
            return
        job = running.claimed.job
        try:
            await self._executors[job.service_type].cleanup(running.handle)
        except ExecutorUnavailable as error:  # the sweep comes by
            log.warning(LogEvent.NOT_CLEANED_UP, job_id=job.id, reason=str(error))

    async def _see_through(self, running: RunningJob) -> None:
        claimed = running.claimed
        try:
            observation = await self._carry_out(running)
            running.ended = True
            self._slots.note_ended(running)
            self._slots.let_go(running)
            await self._ends.settle(running, observation)
        except DatabaseGone:
            raise
        except Exception as error:
            if not isinstance(error, RndError | OSError):
                log.exception(LogEvent.INTERNAL_ERROR, where="job", job_id=claimed.job.id)
                error = RndError(f"internal error: {type(error).__name__}")
            if running.handle is not None and not running.ended:
                await self._make_end(running, running.handle, str(error))
            # A container that was not begun may be tried again: its registry, or its engine, may be back by then.
            is_away = isinstance(error, ExecutorUnavailable) and claimed.job.service_type is ServiceType.DOCKER
            await self._ends.fail(claimed, JobEnd(error=str(error)), retry=is_away)

    async def _carry_out(self, running: RunningJob) -> Observation | None:
        """Start the program, or find it after a restart, and return how it ended; `None` if it was stopped before."""
        claimed = running.claimed
        job = claimed.job
        if claimed.found:
            running.handle = await self._find(running)
        if running.handle is not None:
            log.info(LogEvent.JOB_REATTACHED, job_id=job.id)
        elif running.stop is not None:
            return None
        elif claimed.rebooted and job.pull_by is None:  # what waited for its image had not begun
            return Observation(phase=Phase.LOST, reason="the machine was restarted before anybody saw how it ended")
        else:
            try:
                run = await self._prepare(running)
            except CalledOff:
                return None
            if running.called_off():
                return None
            running.handle = await self._start(running, run)
            self._slots.note_began(running)
        return await self._watch(running, running.handle)

    async def _watch(self, running: RunningJob, handle: str) -> Observation:
        """Return how a program ended: by itself, or made to at its time or because somebody wants it stopped."""
        claimed = running.claimed
        if running.stop is None:
            remaining_s = max(0.0, (claimed.run_by - self._clock.now()).total_seconds())
            try:
                async with asyncio.timeout(remaining_s) as running.bound:
                    return await self._executors[claimed.job.service_type].wait(handle)
            except TimeoutError:
                pass
            finally:
                running.bound = None
        if running.stop is None:
            bound_s, whose = runtime_bound(claimed.job, claimed.service)
            log.warning(LogEvent.JOB_TIMED_OUT, job_id=claimed.job.id, deadline=whose)
            running.stop = Stop(kind=StopKind.TIMED_OUT, reason=f"timed out after {bound_s:g} s ({whose})")
        return await self._make_end(running, handle, running.stop.reason)

    async def _make_end(self, running: RunningJob, handle: str, reason: str) -> Observation:
        """Kill a program until it has ended, and return how: LOST where its engine stays away."""
        job = running.claimed.job
        executor = self._executors[job.service_type]
        grace_s = self._config.deadlines.cancel_grace_s
        until = self._clock.now() + FIND_AT_LEAST
        while True:
            log.info(LogEvent.KILLING_JOB, job_id=job.id, reason=reason)
            try:
                await executor.cancel(handle, grace_s)
            except (RndError, OSError):
                log.exception(LogEvent.INTERNAL_ERROR, where="kill", job_id=job.id)
            try:
                async with asyncio.timeout(grace_s + KILL_AGAIN_S):
                    return await executor.wait(handle)
            except TimeoutError:
                seen = (await executor.poll([handle]))[handle]
            if seen.phase is not Phase.UNKNOWN:
                running.trouble = ""
                until = self._clock.now() + FIND_AT_LEAST
                continue
            running.trouble = seen.reason
            if self._clock.now() >= until:
                words = f"lost: its engine does not say what became of it: {seen.reason}"
                return Observation(phase=Phase.LOST, reason=words)

    async def _prepare(self, running: RunningJob) -> JobRun:
        claimed = running.claimed
        job, limits, settings = claimed.job, self._config.limits, claimed.service.settings
        if isinstance(settings, DockerSettings):
            log.info(LogEvent.EXECUTING_DOCKER_SERVICE, job_id=job.id, image=settings.image)
        if is_bare(job, claimed.interfaces):
            staged = StagedJob(directory=self._folders.job(job))
        else:
            staged = await asyncio.to_thread(
                stage_job, self._folders, job, claimed.interfaces, limits, cancelled=running.called_off
            )
        if isinstance(settings, DockerSettings):
            return await self._docker_jobs.prepare(running, settings, staged)
        return build_run(
            job,
            claimed.service,
            staged.directory,
            claimed.interfaces,
            staged.stdin_files,
            engine_name=claimed.engine_name,
            stream_bytes=self._config.limits.stream_bytes,
            secrets=await self._secrets.of_service(claimed.service),
            sandbox=self._sandbox,
            data_dir=self._folders.data_dir,
        )

    async def _start(self, running: RunningJob, run: JobRun) -> str:
        """Have the engine start a program, in the documented words; return its handle."""
        job = running.claimed.job
        if run.container is None:
            self._log_start(job, run)
            return await self._submit(running, run)
        log.info(LogEvent.CREATING_CONTAINER, name=run.container.name, job_id=job.id)
        try:
            handle = await self._submit(running, run)
        except ExecutorUnavailable as error:
            log.error(LogEvent.CONTAINER_CREATE_FAILED, name=run.container.name, job_id=job.id, error=str(error))
            raise
        log.info(LogEvent.STARTING_CONTAINER, container_id=container_id_of(handle), job_id=job.id)
        log.info(LogEvent.STREAMING_LOGS, job_id=job.id)
        return handle

    async def _submit(self, running: RunningJob, run: JobRun) -> str:
        """Have a program started. Where the answer is that it cannot be, make sure that it was not: what runs has not failed."""
        service_type = running.claimed.job.service_type
        crash_points.reach("submit", service_type)
        try:
            handle = await self._executors[service_type].submit(run)
        except ExecutorUnavailable:
            found = await self._find(running)
            if found is None:
                raise
            handle = found
        crash_points.reach("submitted", service_type)
        return handle

    async def _find(self, running: RunningJob) -> str | None:
        """Return the handle of a run that may be there, or `None`.

        From the silence of an engine nothing follows: it is asked again as long as the run could go on.
        """
        claimed = running.claimed
        executor = self._executors[claimed.job.service_type]
        until = max(claimed.run_by, self._clock.now() + FIND_AT_LEAST)
        while True:
            try:
                found = await executor.find(claimed.engine_name, self._folders.job(claimed.job))
            except ExecutorUnavailable as error:
                if self._clock.now() >= until:
                    raise ExecutorUnavailable(f"lost: its engine does not say what became of it: {error}") from error
                if not running.trouble:
                    log.warning(LogEvent.ENGINE_AWAY, job_id=claimed.job.id, reason=str(error), until=until)
                running.trouble = str(error)
                await asyncio.sleep(FIND_AGAIN_S)
            else:
                running.trouble = ""
                return found

    def _log_start(self, job: JobExecution, run: JobRun) -> None:
        log.info(LogEvent.EXECUTING_STANDALONE_SERVICE, job_id=job.id, binary=run.argv[0])
        log.info(LogEvent.SETTING_WORKING_DIRECTORY, path=run.working_directory, job_id=job.id)
        args = json.dumps(run.argv[1:], ensure_ascii=False)
        log.info(LogEvent.EXECUTING_PROCESS, command=run.argv[0], args=args, job_id=job.id)
