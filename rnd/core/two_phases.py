"""The two-phase start of an execution (document: Two-Phase Execution Model).

Phase 1 creates every job on its executor (IDLE), phase 2 hands every job the ids of all others and starts it. Each step
is idempotent and the column `phase` says which is next, so that the start of an execution survives any stop of the daemon.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rnd.core.reuse import EarlierExecution, find_earlier
from rnd.core.side_by_side import side_by_side
from rnd.database import job_executions, job_interfaces, results, workflow_executions, workflow_jobs
from rnd.database.connection import Database
from rnd.database.consequences import reuse_job
from rnd.database.news import News
from rnd.database.owing import owe_deliveries
from rnd.database.results import NewResult
from rnd.database.workflow_executions import ExecutionBounds
from rnd.log import get_logger
from rnd.rules.backoff import backoff_s
from rnd.rules.reuse import data_to_reuse, is_reused, reused_execution
from rnd.types.definitions import JobPlan, WorkflowDefinition
from rnd.types.enums import ExecutionPhase, ExecutionStatus, JobStatus, MountFunction, WorkflowJobStatus
from rnd.types.errors import CalledOff, PeerRefused, PeerUnreachable, RndError, TimedOut
from rnd.types.executions import JobExecution, WorkflowExecution, WorkflowJob
from rnd.types.ids import SELF_PEER_JOB, ConnectionId, JobExecutionId, NodeId, PeerId
from rnd.types.log_events import LogEvent
from rnd.types.orders import ForeignBounds, JobEndpoint, JobRequest, JobResponse, JobStart, Route
from rnd.types.seams import Clock, Entropy
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard

EndpointOf = Callable[[PeerId], JobEndpoint]

log = get_logger()


class PhaseOneRefused(RndError):
    """An executor did not take a job; `reasons` are its words. Nothing has started."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class PhaseTwoFailed(RndError):
    """An executor that has created its jobs could not be told to start them before their time was up."""


class TwoPhases:
    """Starts one execution after another; keeps no state of its own."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        folders: JobFolders,
        endpoint_of: EndpointOf,
        board: NewsBoard,
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._folders = folders
        self._endpoint_of = endpoint_of
        self._board = board
        self._peer_id = peer_id

    async def start(self, execution: WorkflowExecution, definition: WorkflowDefinition) -> None:
        """Bring an open execution through both phases, from wherever it stands.

        Raises `PhaseOneRefused` where an executor refuses, `StaleState` where the execution has ended meanwhile,
        `CalledOff` where somebody asked for its cancel before anything was started.
        """
        if execution.status is ExecutionStatus.PENDING:
            log.info(LogEvent.STARTING_WORKFLOW_EXECUTION, execution_id=execution.id)
            now = self._clock.now()
            await self._database.write(lambda conn: workflow_executions.mark_running(conn, execution.id, now=now))
        if execution.phase is ExecutionPhase.CREATING:
            await self._phase_1(execution, definition)
        if execution.phase is not ExecutionPhase.STARTED:
            await self._phase_2(execution, definition)
            log.info(LogEvent.WORKFLOW_EXECUTION_STARTED, execution_id=execution.id)

    # ---- phase 1

    async def _phase_1(self, execution: WorkflowExecution, definition: WorkflowDefinition) -> None:
        log.info(LogEvent.PHASE_1_CREATING_JOBS, execution_id=execution.id)
        rows, bounds = await self._database.write(
            lambda conn: (
                workflow_jobs.create_workflow_jobs(conn, execution, definition),
                workflow_executions.get_bounds(conn, execution.id),
            )
        )
        earlier = None
        if execution.retry_of is not None:
            earlier = await find_earlier(self._database, self._folders, execution.retry_of, definition)
        orders = self._requests(execution, definition, rows, bounds)
        reused: set[NodeId] = set()
        if earlier is not None:
            asking = [_reusing(order, earlier, earlier.programs_elsewhere) for order in orders]
            reused = await self._ask_for_earlier(definition, asking, earlier, start_by_s=bounds.start_by_s)
            orders = [
                _reusing(order, earlier, reused)
                for order in orders
                if order.plan.node_id not in earlier.programs_elsewhere
            ]
        requests = _by_executor(orders)
        await self._create_here(requests.pop(self._peer_id, []))
        await self._create_elsewhere(requests, start_by_s=bounds.start_by_s)
        jobs = await self._database.write(
            lambda conn: self._finish_phase_1(conn, execution, definition, earlier, reused)
        )
        for job in jobs:
            if is_reused(job):
                origin = reused_execution(job)
                log.info(LogEvent.REUSING_OUTPUTS, job_id=job.id, node_id=job.node_id, reused_from=origin)
        log.info(LogEvent.ALL_JOBS_CREATED, count=len(rows), execution_id=execution.id)

    async def _ask_for_earlier(
        self,
        definition: WorkflowDefinition,
        orders: Sequence[JobRequest],
        earlier: EarlierExecution,
        *,
        start_by_s: float,
    ) -> set[NodeId]:
        """Return the nodes whose earlier job serves again; the jobs of other peers that might are created by asking.

        They come before all others, since what they say decides which DATA is needed.
        """
        asked = _by_executor(order for order in orders if order.plan.node_id in earlier.programs_elsewhere)
        answers = await self._create_elsewhere(asked, start_by_s=start_by_s)
        programs = {*earlier.programs_here, *(answer.node_id for answer in answers if answer.reused)}
        return programs | data_to_reuse(definition, earlier.jobs, programs)

    async def _create_here(self, orders: Sequence[JobRequest]) -> None:
        """Create the jobs of this peer, all at once; the lines stand in pairs, as in the transcript."""
        if not orders:
            return
        answers = await self._endpoint_of(self._peer_id).create_jobs(orders)
        for order, answer in zip(orders, answers, strict=True):
            log.info(LogEvent.CREATING_WORKFLOW_JOB, node_id=order.plan.node_id, executor=self._peer_id)
            if answer.job_execution_id is not None:
                log.info(LogEvent.CREATED_LOCAL_JOB_EXECUTION, job_id=answer.job_execution_id)
        _refuse(_refusals(list(zip(orders, answers, strict=True))))

    async def _create_elsewhere(
        self, requests: Mapping[PeerId, Sequence[JobRequest]], *, start_by_s: float
    ) -> list[JobResponse]:
        """Ask other peers side by side to create their jobs, and return what they say; all that refuse or are silent are named.

        Who only cannot take an order now is asked again, for as long as a job that exists already waits for its start.
        """
        give_up_at = self._clock.monotonic() + start_by_s
        pauses_s = backoff_s()
        waiting: dict[NodeId, str] = {}
        created: list[JobResponse] = []
        while requests:
            answers = await side_by_side(self._ask(executor, orders) for executor, orders in requests.items())
            pairs = [pair for found, _ in answers for pair in found]
            is_over = self._clock.monotonic() > give_up_at
            final = [(order, answer) for order, answer in pairs if is_over or not answer.may_pass]
            _refuse([*_refusals(final), *(silence for _, silence in answers if silence)])
            created += [answer for _, answer in pairs if not answer.may_pass]
            later = [(order, answer) for order, answer in pairs if answer.may_pass]
            requests = _by_executor(order for order, _ in later)
            if requests:
                await self._note_waits(later, waiting)
                await asyncio.sleep(next(pauses_s))
        return created

    async def _ask(
        self, executor: PeerId, orders: Sequence[JobRequest]
    ) -> tuple[list[tuple[JobRequest, JobResponse]], str]:
        """Return what a peer answers to each order, or why it does not answer."""
        for order in orders:
            log.info(LogEvent.CREATING_WORKFLOW_JOB, node_id=order.plan.node_id, executor=executor)
        try:
            answers = await self._endpoint_of(executor).create_jobs(orders)
        except (PeerUnreachable, PeerRefused, TimedOut) as error:
            return [], f"peer {executor}: {error}"
        return list(zip(orders, answers, strict=True)), ""

    async def _note_waits(self, pairs: Sequence[tuple[JobRequest, JobResponse]], waiting: dict[NodeId, str]) -> None:
        """Say in the log and in its row why a job is not created yet; once, unless there is another reason."""
        news = {
            order.plan.node_id: (order, words)
            for order, answer in pairs
            if waiting.get(order.plan.node_id) != (words := "; ".join(answer.reasons))
        }
        for node_id, (order, words) in news.items():
            waiting[node_id] = words
            log.warning(LogEvent.PEER_ORDER_WAITS, peer_id=order.plan.executor_peer_id, node_id=node_id, reason=words)

        def work(conn: sqlite3.Connection) -> None:
            for order, words in news.values():
                peer = order.plan.executor_peer_id
                workflow_jobs.note_wait(conn, order.workflow_job_id, f"peer {peer} does not take it now: {words}")

        if news:
            await self._database.write(work)

    def _requests(
        self,
        execution: WorkflowExecution,
        definition: WorkflowDefinition,
        rows: Sequence[WorkflowJob],
        bounds: ExecutionBounds,
    ) -> list[JobRequest]:
        workflow_job_ids = {row.node_id: row.id for row in rows}
        return [
            JobRequest(
                orchestrator_peer_id=self._peer_id,
                execution_uid=execution.execution_uid,
                workflow_execution_id=execution.id,
                workflow_job_id=workflow_job_ids[plan.node_id],
                plan=plan,
                start_by_s=bounds.start_by_s,
                max_runtime_s=bounds.max_runtime_s,
                bounds=self._foreign_bounds(execution, bounds) if plan.executor_peer_id != self._peer_id else None,
            )
            for plan in definition.jobs
        ]

    def _foreign_bounds(self, execution: WorkflowExecution, bounds: ExecutionBounds) -> ForeignBounds:
        """Return what bounds a job on another peer: durations, since no peer trusts the clock of another."""
        left_s = max(0.0, (execution.deadline_at - self._clock.now()).total_seconds())
        return ForeignBounds(deadline_s=left_s, transfer_idle_s=bounds.transfer_idle_s, hold_s=bounds.hold_s)

    def _finish_phase_1(
        self,
        conn: sqlite3.Connection,
        execution: WorkflowExecution,
        definition: WorkflowDefinition,
        earlier: EarlierExecution | None,
        reused: Collection[NodeId],
    ) -> list[JobExecution]:
        """Write down what the self-peer waits for and what is reused; from here on phase 2 is next.

        Returns the jobs of a retry.
        """
        senders = [plan for plan in definition.jobs if _homeward(plan)]
        jobs: dict[NodeId, JobExecution] = {}
        if senders or earlier is not None:
            jobs = {job.node_id: job for job in job_executions.list_jobs_of_execution(conn, execution.id)}
        for plan in senders:
            for connection_id, lane in _homeward(plan):
                job = jobs[plan.node_id]
                folder = self._folders.result(job, self._peer_id, lane).relative_to(self._folders.data_dir)
                results.create_result(
                    conn,
                    NewResult(
                        workflow_execution_id=execution.id,
                        node_id=plan.node_id,
                        connection_id=connection_id,
                        source_peer_id=plan.executor_peer_id,
                        source_job_execution_id=job.id,
                        directory=str(folder),
                    ),
                )
        now = self._clock.now()
        if earlier is not None:
            for node_id in reused:
                job = jobs[node_id]  # what another peer reuses is written down with its answer
                if job.status is JobStatus.IDLE and job.executor_peer_id == self._peer_id:
                    origin = earlier.origin(node_id)
                    reuse_job(conn, job, earlier.jobs[node_id], origin=origin, now=now, news=News())
        workflow_executions.set_phase(conn, execution.id, ExecutionPhase.STARTING)
        if earlier is None:
            return []
        return job_executions.list_jobs_of_execution(conn, execution.id)

    # ---- phase 2

    async def _phase_2(self, execution: WorkflowExecution, definition: WorkflowDefinition) -> None:
        if await self._database.read(lambda conn: workflow_executions.cancel_reason(conn, execution.id)) is not None:
            raise CalledOff(f"execution {execution.id} is to be cancelled")
        self._board.when_started()  # results may come home from other peers as soon as one is started
        log.info(LogEvent.PHASE_2_BUILDING_MAPPINGS, execution_id=execution.id)
        log.info(LogEvent.BUILDING_MAPPINGS, execution_id=execution.id)
        rows = await self._database.read(lambda conn: workflow_jobs.list_workflow_jobs(conn, execution.id))
        mapping = {row.node_id: row for row in rows}
        words = ", ".join(f"{node_id}: {_id_on_its_executor(row)}" for node_id, row in mapping.items())
        log.info(LogEvent.NODE_TO_JOB_EXECUTION_ID, mapping=f"{{{words}}}", execution_id=execution.id)
        await self._start_reused(definition, mapping)
        log.info(LogEvent.SENDING_START_COMMANDS, execution_id=execution.id)
        by_executor = _starts(definition, mapping)
        for plan, job_id in _to_start(definition, mapping):
            log.info(LogEvent.SENDING_START_COMMAND, job_execution_id=job_id, executor=plan.executor_peer_id)
        # Others first: what starts here sends at once, and its receiver should expect it.
        await side_by_side(
            self._start_elsewhere(executor_peer_id, starts)
            for executor_peer_id, starts in by_executor.items()
            if executor_peer_id != self._peer_id
        )
        if self._peer_id in by_executor:
            await self._endpoint_of(self._peer_id).start_jobs(by_executor[self._peer_id])
        self._log_started(definition, mapping)
        await self._database.write(
            lambda conn: workflow_executions.set_phase(conn, execution.id, ExecutionPhase.STARTED)
        )
        self._board.executions.ring(execution.id)

    async def _start_elsewhere(self, executor: PeerId, starts: Sequence[JobStart]) -> None:
        """Start jobs of another peer. Raises `PhaseTwoFailed`, which ends the execution, where that cannot be."""
        try:
            await self._endpoint_of(executor).start_jobs(starts)
        except (PeerUnreachable, PeerRefused, TimedOut) as error:
            raise PhaseTwoFailed(f"peer {executor} could not be told to start its jobs: {error}") from error

    def _log_started(self, definition: WorkflowDefinition, mapping: Mapping[NodeId, WorkflowJob]) -> None:
        for plan, job_id in _to_start(definition, mapping):
            if plan.executor_peer_id == self._peer_id:
                log.info(LogEvent.SENT_START_COMMAND_LOCAL, job_id=job_id)
            else:
                log.info(LogEvent.SENT_START_COMMAND_REMOTE, job_id=job_id, peer_id=plan.executor_peer_id)

    async def _start_reused(self, definition: WorkflowDefinition, mapping: Mapping[NodeId, WorkflowJob]) -> None:
        """Route the jobs of this peer whose outputs are reused, and owe what they have to deliver in this execution."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            for plan in definition.jobs:
                row = mapping[plan.node_id]
                if row.result is None or row.job_execution_id is None or plan.executor_peer_id != self._peer_id:
                    continue
                job = job_executions.get_job(conn, row.job_execution_id)
                job_interfaces.set_routes(conn, [(job.id, _routes(plan, mapping))])
                interfaces = job_interfaces.list_interfaces(conn, job.id)
                owe_deliveries(conn, job, interfaces, new_transfer_id=self._entropy.new_transfer_id, now=now, news=news)

        if any(row.result is not None for row in mapping.values()):
            _, news = await insist(self._database, work)
            self._board.publish(news)


def _reusing(order: JobRequest, earlier: EarlierExecution, reused: Collection[NodeId]) -> JobRequest:
    """Return an order that asks for the earlier job of its node, if it is one of those."""
    node_id = order.plan.node_id
    if node_id not in reused:
        return order
    if order.bounds is None:
        return replace(order, reused_from=earlier.id)
    return replace(order, reused_from=earlier.origin(node_id), reuse_of=earlier.jobs[node_id].execution_uid)


def _by_executor(orders: Iterable[JobRequest]) -> dict[PeerId, list[JobRequest]]:
    requests: dict[PeerId, list[JobRequest]] = {}
    for order in orders:
        requests.setdefault(order.plan.executor_peer_id, []).append(order)
    return requests


def _refusals(pairs: Sequence[tuple[JobRequest, JobResponse]]) -> list[str]:
    return [f"{order.plan.name}: {reason}" for order, answer in pairs for reason in answer.reasons]


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise PhaseOneRefused(reasons)


def _homeward(plan: JobPlan) -> list[tuple[ConnectionId, str]]:
    """Return the connections of a job that lead to the self-peer, with their lanes."""
    return [
        (peer.connection_id, peer.lane)
        for interface in plan.interfaces
        for peer in interface.interface_peers
        if peer.peer_mount_function is MountFunction.INPUT and peer.peer_workflow_node_id is None
    ]


def _starts(definition: WorkflowDefinition, mapping: Mapping[NodeId, WorkflowJob]) -> dict[PeerId, list[JobStart]]:
    starts: dict[PeerId, list[JobStart]] = {}
    for plan, _ in _to_start(definition, mapping):
        job_id = mapping[plan.node_id].job_execution_id
        assert job_id is not None
        start = JobStart(job_execution_id=job_id, routes=_routes(plan, mapping))
        starts.setdefault(plan.executor_peer_id, []).append(start)
    return starts


def _to_start(
    definition: WorkflowDefinition, mapping: Mapping[NodeId, WorkflowJob]
) -> Iterator[tuple[JobPlan, JobExecutionId]]:
    """Yield the jobs to start with their ids on their executors.

    A job that has failed already is told as well whom it was to feed, and takes those with it; one that another peer
    reuses is told so that it delivers.
    """
    for plan in definition.jobs:
        row = mapping[plan.node_id]
        job_id = _id_on_its_executor(row)
        delivers = row.result is not None and row.remote_job_execution_id is not None
        if job_id is not None and (delivers or row.status is not WorkflowJobStatus.COMPLETED):
            yield plan, job_id


def _id_on_its_executor(row: WorkflowJob) -> JobExecutionId | None:
    return row.remote_job_execution_id or row.job_execution_id


def _routes(plan: JobPlan, mapping: Mapping[NodeId, WorkflowJob]) -> tuple[Route, ...]:
    routes: list[Route] = []
    for interface in plan.interfaces:
        for peer in interface.interface_peers:
            if peer.peer_workflow_node_id is None:
                other_job, other_id = None, SELF_PEER_JOB
            else:
                row = mapping[peer.peer_workflow_node_id]
                other_job, other_id = row.id, _id_on_its_executor(row) or SELF_PEER_JOB
            routes.append(
                Route(
                    connection_id=peer.connection_id,
                    peer_workflow_job_id=other_job,
                    peer_job_execution_id=JobExecutionId(other_id),
                )
            )
    return tuple(routes)
