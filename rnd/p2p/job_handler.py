"""The JobHandler: what other peers say about jobs, and what is answered (document: P2P job messaging).

As an executor this peer creates, starts and cancels what allowed peers order, each only its own; as an orchestrator it
takes the reports of its executors. Who may say what at all is decided before; here it is checked whose job it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from rnd.database import cancelled_orders, job_executions, job_interfaces, job_reports, mirrors, workflow_jobs
from rnd.database.connection import Database
from rnd.database.consequences import give_up_mirror, take_report
from rnd.database.mirrors import OpenOrder
from rnd.database.news import News
from rnd.log import about_run, get_logger
from rnd.p2p.peer_manager import AnswerTo, PeerManager
from rnd.protocol.job_messages import (
    JobCancel,
    JobCancelResponse,
    JobExplainRequest,
    JobExplainResponse,
    JobLogsRequest,
    JobLogsResponse,
    JobRequestMessage,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobStatusRequest,
    JobStatusResponse,
    JobStatusUpdate,
)
from rnd.protocol.link_messages import Ack
from rnd.protocol.messages import Message
from rnd.rules.explain import Explanation, without_folder
from rnd.rules.foreign_plans import shared_folder
from rnd.rules.reuse import reused_order
from rnd.types.enums import JobStatus, LogStream
from rnd.types.errors import ApplicationError, Conflict, LimitExceeded, NotFound, PermissionDenied
from rnd.types.executions import JobExecution
from rnd.types.ids import ExecutionUid, JobExecutionId, NodeId, PeerId
from rnd.types.log_events import LogEvent
from rnd.types.orders import ForeignBounds, JobEndpoint, JobRequest, JobStart, JobStatusReport
from rnd.types.seams import Clock
from rnd.workers.insistence import insist
from rnd.workers.news_board import NewsBoard

STATUS_TIMEOUT_S: Final = 15.0

log = get_logger()


class JobManager(JobEndpoint, Protocol):
    """What is needed of the JobManager."""

    async def explain(self, job_execution_id: JobExecutionId) -> Explanation:
        """Say why a job is where it is."""


ReadLog = Callable[[JobExecution, LogStream, int, int], Awaitable[tuple[bytes, bool]]]
"""Reads a piece of a job's log: job, stream, offset, at most so many bytes; whether it was the last."""


class JobHandler:
    """Answers messages about jobs."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        links: PeerManager,
        job_manager: JobManager,
        board: NewsBoard,
        read_log: ReadLog,
        peers_changed: Callable[[], Awaitable[None]],
        duties_changed: Callable[[], None],
        data_dir: Path,
        peer_id: PeerId,
    ) -> None:
        """`peers_changed` is called when a job has introduced peers, `duties_changed` when bytes may be expected."""
        self._database = database
        self._clock = clock
        self._links = links
        self._job_manager = job_manager
        self._board = board
        self._read_log = read_log
        self._peers_changed = peers_changed
        self._duties_changed = duties_changed
        self._data_dir = data_dir
        self._peer_id = peer_id

    def handlers(self) -> Mapping[type[Message], AnswerTo]:
        """Return what answers which request."""
        return {
            JobRequestMessage: _about_order(self._request),
            JobStartMessage: _about_order(self._start),
            JobCancel: _about_order(self._cancel),
            JobStatusRequest: self._status,
            JobStatusUpdate: self._update,
            JobLogsRequest: self._logs,
            JobExplainRequest: self._explain,
        }

    # ---- as an executor

    async def _request(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobRequestMessage)
        plan = message.job
        log.info(LogEvent.RECEIVED_JOB_REQUEST, orchestrator=peer, service_name=plan.service_name)
        if plan.executor_peer_id != self._peer_id:
            raise PermissionDenied(f"that job is for peer {plan.executor_peer_id}, and this is {self._peer_id}")
        request = JobRequest(
            orchestrator_peer_id=peer,
            execution_uid=message.execution_uid,
            workflow_execution_id=None,
            workflow_job_id=message.workflow_job_id,
            plan=plan,
            start_by_s=message.start_by_s,
            max_runtime_s=message.max_runtime_s,
            reuse_of=message.reuse_of,
            bounds=ForeignBounds(
                deadline_s=message.deadline_s, transfer_idle_s=message.transfer_idle_s, hold_s=message.hold_s
            ),
        )
        if message.check_only:
            (answer,) = await self._job_manager.check_jobs([request])
            revision = None if answer.reasons else answer.service_revision
            return JobResponseMessage(
                accepted=not answer.reasons,
                job_execution_id=None,
                service_revision=revision,
                reasons=answer.reasons,
                reused=answer.reused,
            )
        await self._links.learn(message.addresses, told_by=peer)
        (answer,) = await self._job_manager.create_jobs([request])
        if answer.job_execution_id is None:
            log.warning(
                LogEvent.REFUSED_JOB_REQUEST,
                orchestrator=peer,
                service_name=plan.service_name,
                reason="; ".join(answer.reasons),
            )
            return JobResponseMessage(accepted=False, job_execution_id=None, reasons=answer.reasons)
        job_id = answer.job_execution_id
        job = await self._database.read(lambda conn: job_executions.get_job(conn, job_id))
        log.info(LogEvent.FOUND_SERVICE, id=job.service_id, name=job.service_name, type=job.service_type)
        log.info(LogEvent.CREATED_JOB_EXECUTION, id=job_id)
        if answer.reused:
            log.info(LogEvent.REUSING_OUTPUTS, job_id=job_id, node_id=job.node_id, reused_from=reused_order(job))
        named = {each.peer_id for interface in plan.interfaces for each in interface.interface_peers}
        if named - {peer, self._peer_id}:
            await self._peers_changed()
        log.info(LogEvent.SENDING_JOB_REQUEST_RESPONSE, remote_job_id=job_id)
        return JobResponseMessage(
            accepted=True,
            job_execution_id=job_id,
            service_revision=answer.service_revision,
            reasons=(),
            reused=answer.reused,
        )

    async def _start(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobStartMessage)
        job = await self._find(peer, message.execution_uid, message.node_id)
        if job is None or job.id != message.job_execution_id:
            raise NotFound(f"there is no job {message.job_execution_id} of that order here")
        job_id = job.id
        problem = shared_folder(
            await self._database.read(lambda conn: job_interfaces.list_interfaces(conn, job_id)), message.routes
        )
        if problem:
            raise Conflict(f"no workflow has such routes: {problem}")
        log.info(LogEvent.RECEIVED_JOB_START_COMMAND, job_id=job.id)
        await self._job_manager.start_jobs([JobStart(job_execution_id=job.id, routes=message.routes)])
        self._duties_changed()
        return JobStartResponse(status=await self._status_of(job.id))

    async def _cancel(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobCancel)
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> JobExecution | None:
            job = self._find_order(conn, peer, message.execution_uid, message.node_id)
            if job is None:  # perhaps its request is just being answered: one of the two comes first
                cancelled_orders.add_tombstone(
                    conn,
                    ordering_peer_id=peer,
                    execution_uid=message.execution_uid,
                    node_id=message.node_id,
                    reason=message.reason,
                    now=now,
                )
            return job

        job = await self._database.write(work)
        if job is None:
            return JobCancelResponse(status=None)
        await self._job_manager.cancel_jobs([job.id], reason=message.reason)
        self._duties_changed()
        return JobCancelResponse(status=await self._status_of(job.id))

    async def _status(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobStatusRequest)
        reports = await self._database.read(
            lambda conn: job_reports.list_reports(
                conn, orderer=peer, execution_uid=message.execution_uid, node_ids=list(message.node_ids)
            )
        )
        return JobStatusResponse(jobs=tuple(reports))

    async def _logs(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobLogsRequest)
        job = await self._own(peer, message.execution_uid, message.node_id)
        data, eof = await self._read_log(job, message.stream, message.offset, message.limit_bytes)
        return JobLogsResponse(data=data, next_offset=message.offset + len(data), eof=eof)

    async def _explain(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobExplainRequest)
        job = await self._own(peer, message.execution_uid, message.node_id)
        found = without_folder(await self._job_manager.explain(job.id), str(self._data_dir))
        return JobExplainResponse(
            status=JobStatus(found.status), because=found.because, checks=found.checks, do=found.do
        )

    async def _status_of(self, job_id: JobExecutionId) -> JobStatus:
        return (await self._database.read(lambda conn: job_executions.get_job(conn, job_id))).status

    async def _own(self, peer: PeerId, execution_uid: ExecutionUid, node_id: NodeId) -> JobExecution:
        job = await self._find(peer, execution_uid, node_id)
        if job is None:
            raise NotFound("there is no job of that order here")
        return job

    async def _find(self, peer: PeerId, execution_uid: ExecutionUid, node_id: NodeId) -> JobExecution | None:
        """Return the job of a peer's own order; another peer's is none of its business."""
        return await self._database.read(lambda conn: self._find_order(conn, peer, execution_uid, node_id))

    def _find_order(
        self, conn: sqlite3.Connection, peer: PeerId, execution_uid: ExecutionUid, node_id: NodeId
    ) -> JobExecution | None:
        return job_executions.find_order(
            conn, orderer=peer, execution_uid=execution_uid, node_id=node_id, executor=self._peer_id
        )

    # ---- as an orchestrator

    async def _update(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobStatusUpdate)
        with about_run(message.report.execution_uid, self._peer_id):
            for report in await self._take(peer, [message.report]):
                log.info(LogEvent.RECEIVED_JOB_STATUS, job_id=report.job_execution_id, status=report.status)
        return Ack()

    async def _take(self, executor: PeerId, reports: list[JobStatusReport]) -> list[JobStatusReport]:
        """Carry reports into their mirrors and return those that moved one.

        Raises `LimitExceeded` (come again) for a job that is about to get one.
        """
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> list[JobStatusReport]:
            moved: list[JobStatusReport] = []
            for report in reports:
                mirror = mirrors.find_mirror(
                    conn,
                    self_peer_id=self._peer_id,
                    execution_uid=report.execution_uid,
                    node_id=report.node_id,
                    executor=executor,
                )
                if mirror is not None:
                    is_that_job = mirror.remote_job_execution_id == report.job_execution_id
                    if is_that_job and take_report(conn, mirror, report, now=now, news=news):
                        moved.append(report)
                elif workflow_jobs.is_awaited(
                    conn, execution_uid=report.execution_uid, node_id=report.node_id, executor=executor
                ):
                    raise LimitExceeded("the answer to that order has not been written down yet")
            return moved

        moved, news = await insist(self._database, work)
        self._board.publish(news)
        return moved

    async def poll(self, executor: PeerId) -> None:
        """Ask a peer how the jobs stand that it has not reported the end of; a silent peer is asked again some time."""
        orders = await self._database.read(lambda conn: mirrors.list_open_orders(conn, self_peer_id=self._peer_id))
        for order in orders:
            if order.executor_peer_id == executor:
                try:
                    with about_run(order.execution_uid, self._peer_id):
                        await self._poll_order(order)
                except ApplicationError as error:
                    log.debug(LogEvent.PEER_QUESTION_FAILED, peer_id=executor, reason=str(error))

    async def _poll_order(self, order: OpenOrder) -> None:
        executor = order.executor_peer_id
        mirrored = await self._database.read(
            lambda conn: [
                (node_id, mirror.remote_job_execution_id)
                for node_id in order.node_ids
                if (
                    mirror := mirrors.find_mirror(
                        conn,
                        self_peer_id=self._peer_id,
                        execution_uid=order.execution_uid,
                        node_id=node_id,
                        executor=executor,
                    )
                )
            ]
        )
        for _, remote_id in mirrored:
            log.info(LogEvent.REQUESTING_JOB_STATUS, peer_id=executor, job_id=remote_id)
        reply = await self._links.ask(
            executor,
            JobStatusRequest(execution_uid=order.execution_uid, node_ids=order.node_ids),
            timeout_s=STATUS_TIMEOUT_S,
        )
        assert isinstance(reply, JobStatusResponse)
        asked = {node_id for node_id, _ in mirrored}
        reports = [report for report in reply.jobs if report.node_id in asked]
        for report in reports:
            log.info(LogEvent.RECEIVED_JOB_STATUS, job_id=report.job_execution_id, status=report.status)
        await self._take(executor, reports)
        gone = asked - {report.node_id for report in reports}
        if gone:
            await self._give_up(order, sorted(gone), f"peer {executor} does not know this job any more")

    async def _give_up(self, order: OpenOrder, node_ids: list[NodeId], error: str) -> None:
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            for node_id in node_ids:
                mirror = mirrors.find_mirror(
                    conn,
                    self_peer_id=self._peer_id,
                    execution_uid=order.execution_uid,
                    node_id=node_id,
                    executor=order.executor_peer_id,
                )
                if mirror is not None:
                    give_up_mirror(conn, mirror, error, now=now, news=news)

        _, news = await insist(self._database, work)
        self._board.publish(news)


def _about_order(answer: AnswerTo) -> AnswerTo:
    """Have what is logged while another peer's order is seen to say which of its runs that is."""

    async def answer_about(peer: PeerId, message: Message) -> Message:
        assert isinstance(message, JobRequestMessage | JobStartMessage | JobCancel)
        with about_run(message.execution_uid, peer):
            return await answer(peer, message)

    return answer_about
