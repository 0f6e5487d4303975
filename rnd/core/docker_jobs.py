"""What a DOCKER job needs before its container can be created: mounts that are there, and its image (document: DOCKER
Service Execution, steps 2, 3 and 5).

An image that is not here is pulled as a step of its own: the row says until when at most (`pull_by`), the job holds no worker
meanwhile, its own time begins when the image and a worker are there, and the pull ends with the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from rnd.core.job_run import RunningJob, runtime_bound
from rnd.core.worker_slots import WorkerSlots
from rnd.database import job_moves
from rnd.database.connection import Database
from rnd.log import get_logger
from rnd.rules.containers import registry_of
from rnd.services.docker_run import build_run, with_image
from rnd.services.executor import JobRun, Mount
from rnd.services.image_pulls import ImagePulls, Purpose
from rnd.services.images import ImageFacts, PullProgress
from rnd.services.service_secrets import ServiceSecrets
from rnd.types.config import Config
from rnd.types.errors import CalledOff, ExecutorUnavailable, RndError, StaleState
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.types.services import DockerSettings
from rnd.workers.insistence import insist
from rnd.workers.staging import StagedJob

log = get_logger()


class DockerJobs:
    """Prepares the runs of DOCKER jobs."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        pulls: ImagePulls | None,
        secrets: ServiceSecrets,
        slots: WorkerSlots,
    ) -> None:
        """`pulls` is `None` on a peer without a container engine."""
        self._database = database
        self._clock = clock
        self._config = config
        self._pulls = pulls
        self._secrets = secrets
        self._slots = slots

    async def prepare(self, running: RunningJob, settings: DockerSettings, staged: StagedJob) -> JobRun:
        """Return the run of a staged job whose image is here.

        Raises `ExecutorUnavailable`, `JobFailed`, `PermissionDenied`, and `CalledOff` where the job is stopped meanwhile.
        """
        claimed = running.claimed
        run = build_run(
            claimed.job,
            claimed.service,
            staged.directory,
            claimed.interfaces,
            staged.stdin_files,
            engine_name=claimed.engine_name,
            stream_bytes=self._config.limits.stream_bytes,
            secrets=await self._secrets.of_service(claimed.service),
        )
        assert run.container is not None  # every run of a DOCKER job has one
        await asyncio.to_thread(_make_sources, run.container.mounts)
        log.info(LogEvent.BUILDING_MOUNTS, count=len(run.container.mounts), job_id=claimed.job.id)
        return with_image(run, await self._image(running, settings))

    async def _image(self, running: RunningJob, settings: DockerSettings) -> ImageFacts:
        if self._pulls is None:
            raise ExecutorUnavailable("this peer runs no containers")
        found = await self._pulls.look_up(settings.image_id)
        if found is not None:
            if running.claimed.job.pull_by is not None:  # it came while no daemon was there to see it
                await self._go_on(running)
            return found
        job = running.claimed.job
        try:
            return await self._pull(running, settings, self._pulls)
        except (CalledOff, StaleState):
            raise
        except RndError as error:
            log.error(LogEvent.IMAGE_PULL_FAILED, image=settings.image, job_id=job.id, error=str(error))
            raise ExecutorUnavailable(f"Image pull failed: {settings.image}: {error}") from error

    async def _pull(self, running: RunningJob, settings: DockerSettings, pulls: ImagePulls) -> ImageFacts:
        job = running.claimed.job
        log.info(LogEvent.PULLING_DOCKER_IMAGE, image=settings.image, job_id=job.id)
        if not settings.digest:
            raise ExecutorUnavailable(
                f"the image {settings.image_id} is gone from this machine, and no registry gives it out; its owner has to "
                "build or load it again, and to name it to service.update"
            )
        auth = await self._secrets.registry_auth(running.claimed.service.id, registry_of(settings.digest))
        pull_s = self._config.deadlines.image_pull_s
        pull_by = self._clock.now() + timedelta(seconds=pull_s)
        running.pull = PullProgress(image=settings.image, status="Waiting")
        await insist(self._database, lambda conn, _: job_moves.mark_pulling(conn, job, pull_by=pull_by))
        if running.called_off():
            raise CalledOff
        self._slots.let_go(running)
        purpose = Purpose(
            members={"job_execution_id": job.id, "execution_id": job.workflow_execution_id, "node_id": job.node_id},
            execution_id=job.workflow_execution_id,
        )

        def hear(progress: PullProgress) -> None:
            running.pull = progress

        try:
            async with asyncio.timeout(pull_s) as running.bound:
                facts = await pulls.pull(settings.digest, auth, purpose, hear)
        except TimeoutError:
            if running.called_off():
                raise CalledOff from None
            words = f"it was not here within {pull_s:g} s (deadlines.image_pull_s)"
            raise ExecutorUnavailable(words) from None
        finally:
            running.bound = None
            running.pull = None
        await self._go_on(running)
        return facts

    async def _go_on(self, running: RunningJob) -> None:
        """Begin the own time of a job whose image is here, once there is a worker for it. Raises `CalledOff`."""
        if running.called_off():
            raise CalledOff
        try:
            async with asyncio.timeout(None) as running.bound:
                await self._slots.wait_for_one(running)
        except TimeoutError:
            raise CalledOff from None
        finally:
            running.bound = None
        claimed = running.claimed
        bound_s, _ = runtime_bound(claimed.job, claimed.service)
        run_by = self._clock.now() + timedelta(seconds=bound_s)
        await insist(self._database, lambda conn, _: job_moves.mark_pulled(conn, claimed.job, run_by=run_by))
        running.claimed = replace(claimed, run_by=run_by)


def _make_sources(mounts: Sequence[Mount]) -> None:
    """In a thread: make what staging does not, the folders of MOUNTs that no connection reaches."""
    for mount in mounts:
        mount.source.mkdir(parents=True, exist_ok=True)
