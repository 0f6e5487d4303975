"""The WorkflowManager: executions from the order to the end (document: Execution Triggers, State Management).

An order is checked as a whole before it is answered; what was accepted is a row. `core/execution_watch.py` starts it and
watches for its end.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from rnd.core.execution_watch import ExecutionWatch
from rnd.core.planning import (
    Drawing,
    EdgeAnswer,
    JobAnswer,
    Passphrases,
    PlanReport,
    ValidationReport,
    as_before,
    definition_text,
    encrypted_services,
    locked,
    read_drawing,
    shortened,
    source_problems,
    validate,
    with_inputs,
    with_warnings,
)
from rnd.core.retention import Retention
from rnd.core.reuse import find_earlier
from rnd.core.side_by_side import side_by_side
from rnd.core.two_phases import EndpointOf, TwoPhases
from rnd.database import workflow_executions, workflows
from rnd.database.connection import Database
from rnd.log import about_run, get_logger
from rnd.rules.definition import definition_from_json
from rnd.rules.lifecycle import execution_is_terminal
from rnd.rules.reuse import data_to_reuse
from rnd.services.data_service import DataService
from rnd.types.config import Config, Deadlines
from rnd.types.definitions import JobPlan, WorkflowDefinition
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import Conflict, LimitExceeded, PeerRefused, PeerUnreachable, TimedOut, ValidationFailed
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import ConnectionId, ExecutionId, PeerId, ServiceId, WorkflowId, WorkflowJobId
from rnd.types.log_events import LogEvent
from rnd.types.orders import ExecutionOrder, JobRequest, JobResponse
from rnd.types.seams import Clock, Entropy
from rnd.types.workflows import WorkflowConnection
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard

NO_INPUTS: Final[Mapping[ConnectionId, str]] = {}
NO_PASSPHRASES: Final[Mapping[ServiceId, str]] = {}
NO_WISHES: Final[Mapping[str, float]] = {}

WhyNotBetween = Callable[[PeerId, PeerId], Coroutine[Any, Any, str | None]]

log = get_logger()


class WorkflowManager:
    """Takes orders for workflows, sees them through, and says how they ended."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        folders: JobFolders,
        data_service: DataService,
        disk: DiskGuard,
        endpoint_of: EndpointOf,
        why_not_between: WhyNotBetween,
        board: NewsBoard,
        peer_id: PeerId,
    ) -> None:
        """`why_not_between` says why no byte could go from one peer to another, `None` if it could."""
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._folders = folders
        self._data_service = data_service
        self._disk = disk
        self._endpoint_of = endpoint_of
        self._why_not = why_not_between
        self._board = board
        self._peer_id = peer_id
        self._waiters: dict[ExecutionId, set[asyncio.Event]] = {}
        self._watch = ExecutionWatch(
            database=database,
            clock=clock,
            config=config,
            two_phases=TwoPhases(
                database=database,
                clock=clock,
                entropy=entropy,
                folders=folders,
                endpoint_of=endpoint_of,
                board=board,
                peer_id=peer_id,
            ),
            retention=Retention(database=database, clock=clock, config=config, folders=folders, peer_id=peer_id),
            endpoint_of=endpoint_of,
            board=board,
            tell_ended=self._tell_ended,
            peer_id=peer_id,
        )

    # ---- orders

    async def validate(self, workflow_id: WorkflowId) -> ValidationReport:
        """Check a workflow and build its definition; change nothing. Raises `NotFound`."""
        return validate(await self._drawing(workflow_id), self_peer_id=self._peer_id, config=self._config)

    async def plan(self, workflow_id: WorkflowId) -> PlanReport:
        """Ask every executor what it would answer to the job request. Raises `NotFound`, `ValidationFailed`."""
        drawing = await self._drawing(workflow_id)
        definition = await asyncio.to_thread(self._definition, drawing)
        return with_warnings(await self.plan_definition(definition, drawing.connections), drawing)

    async def plan_definition(
        self, definition: WorkflowDefinition, connections: Sequence[WorkflowConnection]
    ) -> PlanReport:
        """Ask every executor of a definition that may be stored nowhere, and for every connection whether there is a way."""
        executor_of = {job.node_id: job.executor_peer_id for job in definition.jobs}
        executors = list(dict.fromkeys(executor_of.values()))
        asked = await side_by_side(self._ask(definition, executor) for executor in executors)
        silent = {executor: why for executor, (_, why) in zip(executors, asked, strict=True) if why is not None}
        ends = {
            connection.id: tuple(
                self._peer_id if node_id is None else executor_of[node_id]
                for node_id in (connection.from_node_id, connection.to_node_id)
            )
            for connection in connections
        }
        pairs = [pair for pair in dict.fromkeys(ends.values()) if pair[0] != pair[1]]
        open_pairs = [pair for pair in pairs if silent.keys().isdisjoint(pair)]
        reasons = dict(zip(open_pairs, await side_by_side(self._why_not(*pair) for pair in open_pairs), strict=True))
        # A peer that does not answer is not asked a second time, for each of its connections.
        reasons |= {pair: next(silent[end] for end in pair if end in silent) for pair in pairs if pair not in reasons}
        return PlanReport(
            jobs=tuple(answer for answers, _ in asked for answer in answers),
            edges=tuple(
                EdgeAnswer(
                    connection_id=connection_id,
                    from_peer_id=pair[0],
                    to_peer_id=pair[1],
                    reachable=reasons.get(pair) is None,
                    reason=reasons.get(pair),
                )
                for connection_id, pair in ends.items()
            ),
        )

    async def _ask(self, definition: WorkflowDefinition, executor: PeerId) -> tuple[list[JobAnswer], str | None]:
        """Ask one executor about all its jobs; that it does not answer is a reason as well, and returned besides."""
        silence: str | None = None
        requests = [self._trial(job) for job in definition.jobs if job.executor_peer_id == executor]
        try:
            answers = await self._endpoint_of(executor).check_jobs(requests)
        except (PeerUnreachable, PeerRefused, TimedOut) as error:
            silence = error.message
            answers = [
                JobResponse(node_id=request.plan.node_id, job_execution_id=None, reasons=(error.message,))
                for request in requests
            ]
        return [
            JobAnswer(
                node_id=answer.node_id,
                executor_peer_id=executor,
                accepted=not answer.reasons,
                reasons=answer.reasons,
                service_revision=answer.service_revision,
            )
            for answer in answers
        ], silence

    async def execute(
        self,
        workflow_id: WorkflowId,
        *,
        passphrase: str | None = None,
        passphrases: Mapping[ServiceId, str] = NO_PASSPHRASES,
        inputs: Mapping[ConnectionId, str] = NO_INPUTS,
        deadlines: Mapping[str, float] = NO_WISHES,
    ) -> ExecutionId:
        """Accept an order to run a workflow; everything that can be refused is refused before this returns.

        Raises `NotFound`, `ValidationFailed`, `PermissionDenied` (wrong passphrase), `LimitExceeded` (no room).
        """
        self._check_room()
        bounds = shortened(self._config.deadlines, deadlines)
        drawing = with_inputs(await self._drawing(workflow_id), inputs)
        definition = await asyncio.to_thread(self._definition, drawing)
        keys = await self._unwrap(drawing, Passphrases(general=passphrase, by_service=passphrases))
        order = self._order(drawing, definition_text(definition), bounds, retry_of=None)
        execution = await self._accept(order, keys)
        self._watch.expect(execution, definition)
        with about_run(execution.execution_uid, self._peer_id):
            log.info(LogEvent.EXECUTING_WORKFLOW, workflow_id=workflow_id, execution_id=execution.id)
            log.info(LogEvent.BUILDING_WORKFLOW_DEFINITION, workflow_id=workflow_id)
            log.info(LogEvent.CREATED_WORKFLOW_EXECUTION, execution_id=execution.id)
        return execution.id

    async def retry(
        self,
        execution_id: ExecutionId,
        *,
        passphrase: str | None = None,
        passphrases: Mapping[ServiceId, str] = NO_PASSPHRASES,
    ) -> ExecutionId:
        """Run what did not complete of an ended execution anew, with the rest taken from it.

        Raises `NotFound`, `Conflict` (still going on, nothing to retry, or a service that it needs is not ready), `PermissionDenied`, `ValidationFailed`,
        `LimitExceeded` (no room).
        """
        self._check_room()
        earlier = await self._database.read(lambda conn: workflow_executions.get_execution(conn, execution_id))
        if not execution_is_terminal(earlier.status):
            raise Conflict(
                f"Execution {execution_id} is still {earlier.status}", hint="Wait for its end, or cancel it first."
            )
        if earlier.status is ExecutionStatus.COMPLETED:
            raise Conflict(
                f"Execution {execution_id} is COMPLETED; there is nothing to retry",
                hint="workflow.execute runs the whole workflow again.",
            )
        if earlier.workflow_id is None:
            raise Conflict(
                f"The workflow of execution {execution_id} was deleted",
                hint="Import the workflow again and use workflow.execute.",
            )
        definition = definition_from_json(json.loads(earlier.definition))
        before = await find_earlier(self._database, self._folders, execution_id, definition)
        programs = before.programs_here | before.programs_elsewhere  # if their peers say so, which phase 1 asks
        reused = programs | data_to_reuse(definition, before.jobs, programs)
        await self._refuse_hopeless(execution_id, [job for job in definition.jobs if job.node_id not in reused])
        drawing = await self._drawing(earlier.workflow_id)
        keys = await self._unwrap(drawing, Passphrases(general=passphrase, by_service=passphrases))
        bounds = await self._database.read(lambda conn: workflow_executions.get_bounds(conn, execution_id))
        order = self._order(
            drawing, earlier.definition, as_before(self._config.deadlines, earlier, bounds), retry_of=execution_id
        )
        execution = await self._accept(order, keys)
        here = sum(before.jobs[node_id].remote_job_execution_id is None for node_id in reused)
        with about_run(execution.execution_uid, self._peer_id):
            log.info(
                LogEvent.EXECUTION_RETRIED,
                execution_id=execution.id,
                retry_of=execution_id,
                reused=here,
                asked=len(reused) - here,
            )
        return execution.id

    async def cancel(self, execution_id: ExecutionId, *, reason: str) -> None:
        """Record the wish to cancel, then have every job of the execution stopped. Raises `NotFound`, `Conflict`."""
        now = self._clock.now()
        cancel_by = now + timedelta(seconds=self._config.deadlines.cancel_by_s)
        new = await self._database.write(
            lambda conn: workflow_executions.request_cancel(
                conn, execution_id, reason=reason, cancel_by=cancel_by, now=now
            )
        )
        if new:
            log.info(LogEvent.CANCELLING_EXECUTION, execution_id=execution_id, reason=reason)
        await self._watch.cancel_jobs(execution_id, reason)
        self._board.executions.ring(execution_id)

    async def wait(self, execution_id: ExecutionId, *, timeout_s: float) -> None:
        """Return when the execution has ended or the time is up. Raises `NotFound`."""
        ended = asyncio.Event()
        waiters = self._waiters.setdefault(execution_id, set())
        waiters.add(ended)
        try:
            execution = await self._database.read(lambda conn: workflow_executions.get_execution(conn, execution_id))
            if execution_is_terminal(execution.status):
                return
            async with asyncio.timeout(timeout_s):
                await ended.wait()
        except TimeoutError:
            return
        finally:
            waiters.discard(ended)
            if not waiters and self._waiters.get(execution_id) is waiters:
                del self._waiters[execution_id]

    # ---- the watch

    async def run(self) -> None:
        """Start what was accepted and see it to its end, until cancelled."""
        await self._watch.run()

    # ---- small steps

    def _check_room(self) -> None:
        refusal = self._disk.refusal()
        if refusal is not None:
            raise LimitExceeded(
                f"No workflow is started: {refusal}",
                hint="Free space on the disk of the data directory, or lower limits.disk_floor_bytes.",
            )

    async def _refuse_hopeless(self, execution_id: ExecutionId, plans: Sequence[JobPlan]) -> None:
        """Refuse a retry whose jobs on this peer would not be taken; others are asked in phase 1. Raises `Conflict`."""
        here = [plan for plan in plans if plan.executor_peer_id == self._peer_id]
        answers = await self._endpoint_of(self._peer_id).check_jobs([self._trial(plan) for plan in here])
        refused = {plan: answer.reasons for plan, answer in zip(here, answers, strict=True) if answer.reasons}
        if refused:
            words = "; ".join(f"{plan.name}: {reason}" for plan, reasons in refused.items() for reason in reasons)
            services = ", ".join(dict.fromkeys(plan.service_name for plan in refused))
            raise Conflict(
                f"Execution {execution_id} cannot be retried: {words}",
                hint=f"It has to run service {services} again: make it ready, or draw the workflow with another one and "
                "use workflow.execute.",
            )

    async def _drawing(self, workflow_id: WorkflowId) -> Drawing:
        return await self._database.read(
            lambda conn: read_drawing(conn, workflow_id, self_peer_id=self._peer_id, data_service=self._data_service)
        )

    def _definition(self, drawing: Drawing) -> WorkflowDefinition:
        report = validate(drawing, self_peer_id=self._peer_id, config=self._config)
        problems = [*report.problems, *source_problems(drawing.connections, self._config)]
        if problems or report.definition is None:
            raise ValidationFailed(problems)
        return report.definition

    async def _unwrap(self, drawing: Drawing, passphrases: Passphrases) -> dict[ServiceId, bytes]:
        """Open the data key of every encrypted DATA service that a passphrase was given for."""
        keys: dict[ServiceId, bytes] = {}
        for service in encrypted_services(drawing.services):
            passphrase = passphrases.of(service.id)
            if passphrase is not None:
                keys[service.id] = await self._data_service.unwrap(service.id, passphrase)
            elif not await self._data_service.is_unlocked(service.id):
                raise ValidationFailed([locked(service)])
        return keys

    def _order(
        self, drawing: Drawing, definition: str, bounds: Deadlines, *, retry_of: ExecutionId | None
    ) -> ExecutionOrder:
        return ExecutionOrder(
            workflow_id=drawing.workflow.id,
            workflow_name=drawing.workflow.name,
            definition=definition,
            execution_uid=self._entropy.new_execution_uid(),
            retry_of=retry_of,
            start_by_s=bounds.start_by_s,
            max_runtime_s=bounds.max_runtime_s,
            transfer_idle_s=bounds.transfer_idle_s,
            hold_s=bounds.hold_s,
            workflow_deadline_s=bounds.workflow_deadline_s,
        )

    async def _accept(self, order: ExecutionOrder, keys: Mapping[ServiceId, bytes]) -> WorkflowExecution:
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> WorkflowExecution:
            execution = workflow_executions.create_execution(conn, order, now=now)
            if order.retry_of is None:
                workflows.set_definition(conn, order.workflow_id, order.definition, now=now)
            for service_id, key in keys.items():
                self._data_service.seal_for_execution(conn, service_id, execution.id, key)
            return execution

        execution = await self._database.write(work)
        self._board.executions.ring(execution.id)
        return execution

    def _trial(self, plan: JobPlan) -> JobRequest:
        return JobRequest(
            orchestrator_peer_id=self._peer_id,
            execution_uid=self._entropy.new_execution_uid(),
            workflow_execution_id=None,
            workflow_job_id=WorkflowJobId(0),
            plan=plan,
            start_by_s=self._config.deadlines.start_by_s,
            max_runtime_s=self._config.deadlines.max_runtime_s,
        )

    def _tell_ended(self, execution_id: ExecutionId) -> None:
        for ended in self._waiters.get(execution_id, ()):
            ended.set()
