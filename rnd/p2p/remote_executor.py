"""Another peer as an executor: the endpoint through which the WorkflowManager orders jobs there (document: Two-Phase Execution).

What that peer accepted is mirrored here before the order goes on. Starts are repeated until they are answered or their time
is up; cancels are written down and told by the courier, however long the peer is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from rnd.core.side_by_side import side_by_side
from rnd.database import address_records, job_executions, job_interfaces, job_moves, mirrors, workflow_jobs
from rnd.database.connection import Database
from rnd.database.consequences import reuse_job
from rnd.database.mirrors import AcceptedOrder
from rnd.database.news import News
from rnd.database.owing import owe_inputs_from_self_peer
from rnd.log import get_logger
from rnd.p2p.peer_manager import CONNECT_TIMEOUT_S, PeerManager
from rnd.protocol.job_messages import JobRequestMessage, JobResponseMessage, JobStartMessage
from rnd.protocol.link_messages import CapabilitiesRequest, CapabilitiesResponse
from rnd.protocol.messages import Message
from rnd.rules.backoff import backoff_s
from rnd.rules.capabilities import Capabilities, capability_refusal, read_capabilities
from rnd.rules.reuse import is_reused
from rnd.types.enums import JobStatus, ServiceType
from rnd.types.errors import CalledOff, LinkEnded, PeerRefused, PeerUnreachable, TimedOut
from rnd.types.executions import JobExecution
from rnd.types.ids import JobExecutionId, NodeId, PeerId
from rnd.types.log_events import LogEvent
from rnd.types.orders import ForeignBounds, JobRequest, JobResponse, JobStart, StartReport
from rnd.types.peers import PASSING, AddressRecord
from rnd.types.seams import Clock, Entropy
from rnd.workers.insistence import insist
from rnd.workers.news_board import NewsBoard

ASKED_AT_ONCE: Final = 32
ANSWER_TIMEOUT_S: Final = 30.0
CHECK_CONNECT_S: Final = 5.0
CHECK_TIMEOUT_S: Final = 10.0
"""How long a question that creates nothing waits: a plan has to tell who does not answer, and not to wait with them."""
CAPABILITIES_TIMEOUT_S: Final = 5.0
CAPABILITIES_KEPT_S: Final = 60.0
LINKS_A_REQUEST: Final = 3
"""How many links may end before the answer to a request has come: a peer that is started again is asked again."""

log = get_logger()


class RemoteExecutor:
    """Implements `JobEndpoint` for one other peer."""

    def __init__(
        self,
        executor: PeerId,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        links: PeerManager,
        board: NewsBoard,
        own_record: Callable[[], AddressRecord | None],
        peer_id: PeerId,
    ) -> None:
        self._executor = executor
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._links = links
        self._board = board
        self._own_record = own_record
        self._peer_id = peer_id
        self._places = asyncio.Semaphore(ASKED_AT_ONCE)
        self._said = Capabilities()
        self._said_until = 0.0

    async def check_jobs(self, requests: Sequence[JobRequest]) -> list[JobResponse]:
        """Ask what would be answered to these requests. Raises `PeerUnreachable`, `PeerRefused`, `TimedOut`."""
        return await self._ask_all(requests, check_only=True)

    async def create_jobs(self, requests: Sequence[JobRequest]) -> list[JobResponse]:
        """Have every job created there and mirror those that were; who refuses one says why in its answer.

        Raises `PeerUnreachable`, `TimedOut` where an answer is missing; some jobs may exist there then.
        """
        answers = await self._ask_all(requests, check_only=False)
        accepted = [
            AcceptedOrder(
                request=request,
                remote_job_execution_id=answer.job_execution_id,
                service_revision=answer.service_revision or 1,
            )
            for request, answer in zip(requests, answers, strict=True)
            if answer.job_execution_id is not None
        ]
        now = self._clock.now()
        reused = {answer.node_id for answer in answers if answer.reused}

        def work(conn: sqlite3.Connection) -> list[JobExecutionId]:
            ids = mirrors.create_mirrors(conn, accepted, now=now)
            for order, job_id in zip(accepted, ids, strict=True):
                if order.request.plan.node_id in reused:
                    _reuse(conn, order.request, job_id, now=now)
            return ids

        ids = await self._database.write(work)
        own_ids = {order.request.plan.node_id: job_id for order, job_id in zip(accepted, ids, strict=True)}
        for order in accepted:
            remote_id = order.remote_job_execution_id
            log.info(LogEvent.RECEIVED_REMOTE_JOB_EXECUTION_ID, remote_job_id=remote_id, peer_id=self._executor)
        return [replace(answer, job_execution_id=own_ids.get(answer.node_id)) for answer in answers]

    async def start_jobs(self, starts: Sequence[JobStart]) -> StartReport:
        """Hand every job its routing and start it, trying again while its start_by has not passed.

        Raises `PeerUnreachable` or `TimedOut` then, `PeerRefused`, and `CalledOff` once somebody wants the job cancelled.
        """
        failures = await side_by_side(self._start(start) for start in starts)
        for error in failures:
            if error is not None:
                raise error
        return StartReport(started=tuple(start.job_execution_id for start in starts))

    async def cancel_jobs(self, job_execution_ids: Sequence[JobExecutionId], *, reason: str) -> None:
        """Write down the wish to cancel mirrored jobs; the courier tells their executor."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> None:
            for job_id in job_execution_ids:
                mirrors.ask_to_cancel(conn, job_executions.get_job(conn, job_id), reason, now=now)

        await self._database.write(work)

    # ---- small steps

    async def _ask_all(self, requests: Sequence[JobRequest], *, check_only: bool) -> list[JobResponse]:
        unfit = await self._unfit({request.plan.service_type for request in requests})
        fit = [request for request in requests if request.plan.service_type not in unfit]
        if not check_only:
            for request in fit:
                name = request.plan.service_name
                log.info(LogEvent.SENDING_REMOTE_JOB_REQUEST, peer_id=self._executor, service_name=name)
        records = await self._records(fit)
        found = await side_by_side(self._ask(request, records, check_only=check_only) for request in fit)
        answers: dict[NodeId, JobResponse] = {}
        for request, answer in zip(fit, found, strict=True):
            if isinstance(answer, Exception):
                raise answer
            answers[request.plan.node_id] = answer
        return [
            answers.get(request.plan.node_id)
            or JobResponse(
                node_id=request.plan.node_id, job_execution_id=None, reasons=(unfit[request.plan.service_type],)
            )
            for request in requests
        ]

    async def _unfit(self, kinds: set[ServiceType]) -> dict[ServiceType, str]:
        """Return of which kinds no job can be assigned to that peer, by what it says of itself, and why.

        What was said a while ago is good enough to ask for a job, not to give one up: then it is asked once more.
        """
        if kinds <= {ServiceType.DATA}:
            return {}
        is_known = self._clock.monotonic() < self._said_until
        if not is_known:
            await self._hear()
        found = self._refused(kinds)
        if found and is_known:
            await self._hear()
            found = self._refused(kinds)
        return found

    async def _hear(self) -> None:
        """Ask that peer what it can do. Where it does not say, its answer to each request decides alone."""
        self._said = Capabilities()
        if not self._links.is_connected(self._executor):
            return
        try:
            reply = await self._links.ask(self._executor, CapabilitiesRequest(), timeout_s=CAPABILITIES_TIMEOUT_S)
        except (PeerRefused, PeerUnreachable, TimedOut) as error:
            log.debug(LogEvent.PEER_QUESTION_FAILED, peer_id=self._executor, reason=str(error))
            return
        assert isinstance(reply, CapabilitiesResponse)
        self._said = read_capabilities(reply.capabilities)
        self._said_until = self._clock.monotonic() + CAPABILITIES_KEPT_S

    def _refused(self, kinds: set[ServiceType]) -> dict[ServiceType, str]:
        refusals = {kind: capability_refusal(kind, self._said) for kind in kinds}
        return {kind: words for kind, words in refusals.items() if words is not None}

    async def _ask(
        self, request: JobRequest, records: dict[PeerId, AddressRecord], *, check_only: bool
    ) -> JobResponse | PeerUnreachable | TimedOut:
        """Ask for one job. A missing answer is returned, so that one silence does not take back other answers."""
        message = _message(request, records, check_only=check_only)
        try:
            async with self._places:
                reply = await self._answer_to(message)
        except PeerRefused as error:
            return JobResponse(
                node_id=request.plan.node_id,
                job_execution_id=None,
                reasons=(error.reason or str(error),),
                may_pass=error.word in PASSING,
            )
        except (PeerUnreachable, TimedOut) as error:
            return error
        assert isinstance(reply, JobResponseMessage)
        job_id, reasons = reply.job_execution_id, reply.reasons
        if not reply.accepted:
            job_id, reasons = None, reasons or ("refused without a reason",)
        elif reply.reused and request.reuse_of is None:
            job_id, reasons = None, ("accepted as one that serves again, which it was not asked for",)
        elif job_id is None and not check_only:
            reasons = ("accepted without saying as which job",)
        else:
            reasons = ()
        return JobResponse(
            node_id=request.plan.node_id,
            job_execution_id=job_id,
            reasons=reasons,
            service_revision=reply.service_revision,
            reused=reply.reused and not reasons,
        )

    async def _answer_to(self, message: JobRequestMessage) -> Message:
        """Return the answer to a request, which is made anew where the link that was to bring it has ended."""
        connect_s = CHECK_CONNECT_S if message.check_only else CONNECT_TIMEOUT_S
        timeout_s = CHECK_TIMEOUT_S if message.check_only else ANSWER_TIMEOUT_S
        for _ in range(LINKS_A_REQUEST - 1):
            with contextlib.suppress(LinkEnded):
                return await self._links.ask(self._executor, message, timeout_s=timeout_s, connect_s=connect_s)
        return await self._links.ask(self._executor, message, timeout_s=timeout_s, connect_s=connect_s)

    async def _records(self, requests: Sequence[JobRequest]) -> dict[PeerId, AddressRecord]:
        """Return the address records of all peers that the jobs name, as far as they are known here."""
        named = {
            peer.peer_id
            for request in requests
            for interface in request.plan.interfaces
            for peer in interface.interface_peers
        } - {self._executor}

        def work(conn: sqlite3.Connection) -> list[AddressRecord]:
            found = (address_records.find_record(conn, peer_id) for peer_id in sorted(named))
            return [record for record in found if record is not None]

        records = {record.peer_id: record for record in await self._database.read(work)}
        own = self._own_record()
        if own is not None and self._peer_id in named:
            records[self._peer_id] = own
        return records

    async def _start(self, start: JobStart) -> PeerUnreachable | TimedOut | PeerRefused | CalledOff | None:
        job = await self._database.read(lambda conn: job_executions.get_job(conn, start.job_execution_id))
        message = JobStartMessage(
            execution_uid=job.execution_uid,
            node_id=job.node_id,
            job_execution_id=job.remote_job_execution_id or job.id,
            routes=start.routes,
        )
        pauses_s = backoff_s()
        trouble = ""
        while True:
            try:
                async with self._places:
                    await self._links.ask(self._executor, message, timeout_s=ANSWER_TIMEOUT_S)
            except (PeerUnreachable, TimedOut, PeerRefused) as error:
                if isinstance(error, PeerRefused) and error.word not in PASSING:
                    return error
                job = await self._database.read(lambda conn: job_executions.get_job(conn, start.job_execution_id))
                if job.cancel_requested_at is not None:
                    return CalledOff(f"job {job.id} is to be cancelled")
                if self._clock.now() > job.start_by:
                    return error
                if error.message != trouble:
                    trouble = error.message
                    await self._note_trouble(job, trouble)
                await asyncio.sleep(next(pauses_s))
                continue
            await self._note_start(job, start)
            return None

    async def _note_trouble(self, job: JobExecution, words: str) -> None:
        """Say in the log and in the row of a job why it is not started yet."""
        log.warning(LogEvent.PEER_ORDER_WAITS, peer_id=self._executor, node_id=job.node_id, reason=words)
        workflow_job_id = job.workflow_job_id
        if workflow_job_id is not None:
            await insist(self._database, lambda conn, _: workflow_jobs.note_wait(conn, workflow_job_id, words))

    async def _note_start(self, job: JobExecution, start: JobStart) -> None:
        """Write down that a job is started elsewhere, and what the self-peer owes to it from now on."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            job_interfaces.set_routes(conn, [(job.id, start.routes)])
            job_moves.mark_started_elsewhere(conn, job.id)
            if job.workflow_job_id is not None:
                workflow_jobs.note_wait(conn, job.workflow_job_id, None)
            if not is_reused(job):
                owe_inputs_from_self_peer(
                    conn, job.id, new_transfer_id=self._entropy.new_transfer_id, now=now, news=news
                )

        _, news = await insist(self._database, work)
        self._board.publish(news)


def _reuse(conn: sqlite3.Connection, request: JobRequest, job_id: JobExecutionId, *, now: datetime) -> None:
    """Complete the mirror of a job that its executor has completed by what an earlier one left."""
    mirror = job_executions.get_job(conn, job_id)
    if request.reused_from is not None and mirror.status is JobStatus.IDLE:
        reuse_job(conn, mirror, mirror, origin=request.reused_from, now=now, news=News())


def _message(request: JobRequest, records: dict[PeerId, AddressRecord], *, check_only: bool) -> JobRequestMessage:
    bounds = request.bounds or ForeignBounds(deadline_s=request.max_runtime_s, transfer_idle_s=300.0, hold_s=0.0)
    named = {peer.peer_id for interface in request.plan.interfaces for peer in interface.interface_peers}
    return JobRequestMessage(
        execution_uid=request.execution_uid,
        workflow_job_id=request.workflow_job_id,
        job=request.plan,
        start_by_s=request.start_by_s,
        max_runtime_s=request.max_runtime_s,
        transfer_idle_s=bounds.transfer_idle_s,
        hold_s=bounds.hold_s,
        deadline_s=bounds.deadline_s,
        check_only=check_only,
        addresses=tuple(records[peer_id] for peer_id in sorted(named & records.keys())),
        reuse_of=request.reuse_of,
    )
