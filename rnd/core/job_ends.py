"""How one attempt of a job ends: what it left is collected, and its end committed (document: Node Execution Details)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from rnd.core.claims import Claims, Succession, Turn
from rnd.core.growth import Growth
from rnd.core.job_run import (
    ClaimedJob,
    RunningJob,
    Stop,
    StopKind,
    cut_and_connected,
    cut_words,
    failure_words,
    remark,
)
from rnd.database import holdings, job_executions, job_moves
from rnd.database.connection import Database
from rnd.database.consequences import cancel_job, complete_job, complete_owed, fail_job
from rnd.database.job_moves import JobEnd
from rnd.database.news import News
from rnd.log import get_logger
from rnd.services.executor import Observation, Phase
from rnd.types.config import Config
from rnd.types.enums import JobStatus, MountFunction, ServiceType
from rnd.types.errors import CalledOff, JobFailed, StaleState
from rnd.types.executions import FileEntry, JobExecution, Transfer
from rnd.types.ids import JobExecutionId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock, Entropy
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.durability import Unflushed
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard
from rnd.workers.prompt_delivery import PromptDelivery, deliver_promptly, log_prompt_delivery
from rnd.workers.staging import collect_outputs

LEFT_FROM_BYTES: Final = 64 << 10
"""What a job leaves is written down from this size on; less than that is not worth a transaction."""

log = get_logger()


class JobEnds:
    """Commits ends."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        folders: JobFolders,
        growth: Growth,
        disk: DiskGuard,
        board: NewsBoard,
        claims: Claims,
        in_hand: Callable[[], Collection[JobExecutionId]],
    ) -> None:
        """`in_hand` says which programs a task sees to."""
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._folders = folders
        self._growth = growth
        self._disk = disk
        self._board = board
        self._claims = claims
        self._in_hand = in_hand

    async def settle(self, running: RunningJob, observation: Observation | None) -> None:
        """Commit how a job ended; only now is its end a fact."""
        claimed = running.claimed
        if observation is not None:
            await self._note_left(claimed.job)
            self._log_end(claimed.job, observation)
            if running.stop is None and observation.phase is Phase.EXITED and observation.exit_code == 0:
                try:
                    await self._complete(running, observation)
                except CalledOff:
                    pass  # it was stopped while its outputs were collected
                else:
                    return
        match running.stop:
            case None:
                assert observation is not None  # only what was stopped has nothing to show
                what = "Container" if claimed.job.service_type is ServiceType.DOCKER else "Process"
                logs = self._folders.logs(claimed.job)
                words = await asyncio.to_thread(failure_words, observation, logs, what=what)
                await self.fail(claimed, _end(words, observation), retry=True)
            case Stop(kind=StopKind.DISOWNED):
                pass  # its row tells another story already
            case Stop(kind=StopKind.CANCELLED, reason=reason):
                await self._cancel(claimed.job, _end(reason, observation))
            case Stop(kind=StopKind.BEYOND_LIMIT, reason=reason):
                await self.fail(claimed, _end(reason, observation), retry=False)
            case Stop(reason=reason):
                await self.fail(claimed, _end(reason, observation), retry=True)

    async def _note_left(self, job: JobExecution) -> None:
        """Write down what a job of another peer has left in its folder: it counts until its hold is over."""
        if job.hold_s is None:
            return
        left_bytes = await self._growth.measure(job)
        if left_bytes >= LEFT_FROM_BYTES:
            await insist(self._database, lambda conn, _: holdings.set_left_bytes(conn, {job.id: left_bytes}))

    async def _complete(self, running: RunningJob, observation: Observation) -> None:
        claimed = running.claimed
        job = claimed.job
        cut = cut_and_connected(observation, claimed.interfaces)
        if cut is not None:
            words = cut_words(observation, cut, stream_bytes=self._config.limits.stream_bytes)
            await self.fail(claimed, _end(words, observation), retry=False)
            return
        outputs: dict[str, list[FileEntry]] = {}
        prompt: list[PromptDelivery] = []
        if any(
            peer.peer_mount_function is MountFunction.INPUT
            for interface in claimed.interfaces
            for peer in interface.peers
        ):
            outputs, prompt = await asyncio.to_thread(self._collect, running)
        succession = self._claims.open_succession() if prompt else None
        turn: Turn | None = None
        try:
            made, turn, news = await self._commit_completion(claimed, observation, outputs, prompt, succession)
            if job.service_type is ServiceType.DOCKER:
                log.info(LogEvent.DOCKER_SERVICE_COMPLETED, job_id=job.id, status=JobStatus.COMPLETED)
            else:
                log.info(LogEvent.STANDALONE_SERVICE_COMPLETED, job_id=job.id)
            if made or news.transfers_created or news.outgoing_created:
                log.info(LogEvent.TRANSFERRING_OUTPUTS, count=_count_files(outputs.values()), job_id=job.id)
            self._log_prompt(job, prompt, made)
            self._board.publish(news)
        finally:
            if succession is not None:
                self._claims.close_succession(succession, turn)

    async def _commit_completion(
        self,
        claimed: ClaimedJob,
        observation: Observation,
        outputs: Mapping[str, Sequence[FileEntry]],
        prompt: Sequence[PromptDelivery],
        succession: Succession | None,
    ) -> tuple[list[Transfer | None], Turn | None, News]:
        """Commit that a job has completed, what was delivered at once, and the claim of what that makes ready."""
        job = claimed.job
        now = self._clock.now()
        in_hand = self._in_hand()
        left_bytes = sum(entry.size_bytes for entries in outputs.values() for entry in entries)

        def work(conn: sqlite3.Connection, news: News) -> tuple[list[Transfer | None], Turn | None]:
            if job.hold_s is None and left_bytes >= LEFT_FROM_BYTES:
                holdings.set_left_bytes(conn, {job.id: left_bytes})
            complete_job(
                conn,
                job,
                claimed.interfaces,
                outputs,
                exit_code=0,
                remark=remark(observation, stream_bytes=self._config.limits.stream_bytes),
                new_transfer_id=self._entropy.new_transfer_id,
                now=now,
                news=news,
            )
            made = [
                complete_owed(conn, job.id, one.connection_id, one.receiver, one.files, now=now, news=news)
                for one in prompt
            ]
            if succession is None:
                return made, None
            return made, self._claims.claim_successors(conn, news, succession, in_hand, now=now)

        (made, turn), news = await insist(self._database, work)
        return made, turn, news

    def _collect(self, running: RunningJob) -> tuple[dict[str, list[FileEntry]], list[PromptDelivery]]:
        """In a thread: make the outputs of an ended job durable, and copy at once what is little and stays here."""
        job, interfaces = running.claimed.job, running.claimed.interfaces
        cancelled = running.called_off
        with _disk_words(), Unflushed() as unflushed:
            outputs = collect_outputs(
                self._folders, job, interfaces, self._config.limits, unflushed, cancelled=cancelled
            )
            prompt: list[PromptDelivery] = []
            if self._disk.refusal() is None:  # else the DataWorker holds deliveries back, and says so
                prompt = deliver_promptly(self._folders, job, interfaces, outputs, unflushed, cancelled=cancelled)
            unflushed.flush()
        return outputs, prompt

    def _log_prompt(self, job: JobExecution, prompt: Sequence[PromptDelivery], made: Sequence[Transfer | None]) -> None:
        if not made:
            return
        source = self._folders.job(job).relative_to(self._folders.data_dir)
        for delivery, transfer in zip(prompt, made, strict=True):
            if transfer is not None:
                destination = delivery.destination.relative_to(self._folders.data_dir)
                log_prompt_delivery(
                    transfer, source=source, destination=destination, chunk_bytes=self._config.chunk_bytes
                )

    async def _cancel(self, job: JobExecution, end: JobEnd) -> None:
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> bool:
            with contextlib.suppress(StaleState):  # ended meanwhile by hand; its row says why
                cancel_job(conn, job.id, end, now=now, news=news)
                return True
            return False

        has_ended, news = await insist(self._database, work)
        if has_ended and job.service_type is ServiceType.DOCKER:
            log.info(LogEvent.DOCKER_SERVICE_COMPLETED, job_id=job.id, status=JobStatus.CANCELLED)
        self._board.publish(news)

    async def fail(self, claimed: ClaimedJob, end: JobEnd, *, retry: bool) -> None:
        """Commit a failure: another attempt where the service allows one and one is left, else the end.

        A job that somebody wants to be cancelled gets no other attempt.
        """
        job, service = claimed.job, claimed.service
        wanted = retry and service.retry_safe and job.attempt < service.retry.attempts
        now = self._clock.now()
        not_before = now + timedelta(seconds=service.retry.backoff_s)

        def work(conn: sqlite3.Connection, news: News) -> JobStatus | None:
            row = job_executions.get_job(conn, job.id)
            if row.status is not JobStatus.RUNNING:
                return None  # ended meanwhile by a cancel or by hand; its row says why
            if wanted and row.cancel_requested_at is None:
                job_moves.mark_ready_again(conn, job.id, error=end.error or "", not_before=not_before, now=now)
                return JobStatus.READY
            fail_job(conn, job.id, end, now=now, news=news)
            return JobStatus.ERRORED

        becomes, news = await insist(self._database, work)
        if becomes is JobStatus.READY:
            log.warning(LogEvent.JOB_RETRYING, job_id=job.id, attempt=job.attempt + 1, reason=end.error)
            self._board.ring_for_ready()
        elif becomes is JobStatus.ERRORED and job.service_type is ServiceType.DOCKER:
            log.info(LogEvent.DOCKER_SERVICE_COMPLETED, job_id=job.id, status=JobStatus.ERRORED)
        self._board.publish(news)

    def _log_end(self, job: JobExecution, observation: Observation) -> None:
        is_container = job.service_type is ServiceType.DOCKER
        match observation.phase:
            case Phase.REJECTED:
                event = LogEvent.CONTAINER_NOT_STARTED if is_container else LogEvent.PROCESS_NOT_STARTED
                log.error(event, job_id=job.id, reason=observation.reason)
            case Phase.LOST:
                log.error(LogEvent.JOB_LOST, job_id=job.id, reason=observation.reason)
            case Phase.EXITED | Phase.RUNNING | Phase.UNKNOWN:
                event = LogEvent.CONTAINER_EXITED if is_container else LogEvent.PROCESS_EXITED
                log.info(event, code=observation.exit_code, job_id=job.id, signal=observation.signal)
        for stream in observation.streams_cut:
            if observation.streams_lost:
                log.warning(LogEvent.STREAM_NOT_WHOLE, job_id=job.id, stream=stream)
            else:
                limit = self._config.limits.stream_bytes
                log.warning(LogEvent.STREAM_CUT, job_id=job.id, stream=stream, limit_bytes=limit)
        if observation.leftovers_killed:
            log.warning(LogEvent.LEFTOVERS_KILLED, job_id=job.id, count=observation.leftovers_killed)


@contextlib.contextmanager
def _disk_words() -> Iterator[None]:
    """Say in words what the disk does not take: whoever reads the error of a job sees no line of this program."""
    try:
        yield
    except OSError as error:
        raise JobFailed(f"what it left could not be kept: {error.strerror or error}") from error


def _end(words: str, observation: Observation | None) -> JobEnd:
    if observation is None:
        return JobEnd(error=words)
    return JobEnd(error=words, exit_code=observation.exit_code, exit_signal=observation.signal)


def _count_files(outputs: Iterable[Sequence[FileEntry]]) -> int:
    return sum(1 for entries in outputs for entry in entries if entry.sha256)
