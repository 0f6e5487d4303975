"""The WorkflowManager: executions from the order to the end (document: Execution Triggers, State Management).

An order is checked as a whole before it is answered; what was accepted is a row. The start in two phases is a task of
its own (`core/two_phases.py`); afterwards the jobs move by themselves and the WorkflowManager watches for the end: by
wake-ups, with the ticker (10 s) as the net for deadlines, lost wake-ups and repairs by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

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
)
from rnd.core.repairs import honour_execution_repairs
from rnd.core.retention import Retention
from rnd.core.two_phases import EndpointOf, PhaseOneRefused, TwoPhases
from rnd.database import events, job_executions, results, transfers, workflow_executions, workflows
from rnd.database.connection import Database
from rnd.database.consequences import fail_transfer
from rnd.database.news import News
from rnd.log import get_logger
from rnd.rules.definition import definition_from_json
from rnd.rules.lifecycle import Outcome, execution_is_terminal, execution_outcome
from rnd.services.data_service import DataService
from rnd.types.config import Config, Deadlines
from rnd.types.definitions import JobPlan, WorkflowDefinition
from rnd.types.enums import ExecutionPhase, ExecutionStatus
from rnd.types.errors import (
    CalledOff,
    Conflict,
    DatabaseGone,
    DatabaseNotNow,
    LimitExceeded,
    RndError,
    StaleState,
    ValidationFailed,
)
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import ConnectionId, ExecutionId, JobExecutionId, PeerId, ServiceId, WorkflowId, WorkflowJobId
from rnd.types.log_events import LogEvent
from rnd.types.orders import ExecutionOrder, JobRequest
from rnd.types.seams import Clock, Entropy
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import PAUSE_S, insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard

PRUNE_EVERY_TICKS: Final = 30
"""How seldom, in ticks, old events are dropped."""

NO_INPUTS: Final[Mapping[ConnectionId, str]] = {}
NO_PASSPHRASES: Final[Mapping[ServiceId, str]] = {}
NO_WISHES: Final[Mapping[str, float]] = {}

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
        board: NewsBoard,
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._data_service = data_service
        self._disk = disk
        self._endpoint_of = endpoint_of
        self._board = board
        self._peer_id = peer_id
        self._two_phases = TwoPhases(
            database=database,
            clock=clock,
            entropy=entropy,
            folders=folders,
            endpoint_of=endpoint_of,
            board=board,
            peer_id=peer_id,
            hold_s=config.deadlines.hold_s,
        )
        self._retention = Retention(database=database, clock=clock, config=config, folders=folders, peer_id=peer_id)
        self._accepted: dict[ExecutionId, tuple[str, WorkflowDefinition]] = {}  # just built: not to be parsed anew
        self._starting: set[ExecutionId] = set()
        self._overdue: set[ExecutionId] = set()
        self._waiters: dict[ExecutionId, set[asyncio.Event]] = {}

    # ---- orders

    async def validate(self, workflow_id: WorkflowId) -> ValidationReport:
        """Check a workflow and build its definition; change nothing. Raises `NotFound`."""
        return validate(await self._drawing(workflow_id), self_peer_id=self._peer_id, config=self._config)

    async def plan(self, workflow_id: WorkflowId) -> PlanReport:
        """Ask every executor what it would answer to the job request. Raises `NotFound`, `ValidationFailed`."""
        drawing = await self._drawing(workflow_id)
        definition = self._definition(drawing)
        jobs: list[JobAnswer] = []
        edges: list[EdgeAnswer] = []
        executor_of = {job.node_id: job.executor_peer_id for job in definition.jobs}
        for executor in dict.fromkeys(executor_of.values()):
            requests = [self._trial(job) for job in definition.jobs if job.executor_peer_id == executor]
            answers = await self._endpoint_of(executor).check_jobs(requests)
            jobs.extend(
                JobAnswer(
                    node_id=answer.node_id,
                    executor_peer_id=executor,
                    accepted=not answer.reasons,
                    reasons=answer.reasons,
                )
                for answer in answers
            )
        for connection in drawing.connections:
            start, end = (
                self._peer_id if node_id is None else executor_of[node_id]
                for node_id in (connection.from_node_id, connection.to_node_id)
            )
            edges.append(
                EdgeAnswer(
                    connection_id=connection.id, from_peer_id=start, to_peer_id=end, reachable=start == end, reason=None
                )
            )
        return PlanReport(jobs=tuple(jobs), edges=tuple(edges))

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
        definition = self._definition(drawing)
        keys = await self._unwrap(drawing, Passphrases(general=passphrase, by_service=passphrases))
        order = self._order(drawing, definition_text(definition), bounds, retry_of=None)
        execution = await self._accept(order, keys)
        self._accepted[execution.id] = order.definition, definition
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

        Raises `NotFound`, `Conflict` (still going on, or nothing to retry), `PermissionDenied`, `ValidationFailed`,
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
        drawing = await self._drawing(earlier.workflow_id)
        keys = await self._unwrap(drawing, Passphrases(general=passphrase, by_service=passphrases))
        bounds = await self._database.read(lambda conn: workflow_executions.get_bounds(conn, execution_id))
        order = self._order(
            drawing, earlier.definition, as_before(self._config.deadlines, earlier, bounds), retry_of=execution_id
        )
        execution = await self._accept(order, keys)
        reused = await self._database.read(lambda conn: job_executions.count_completed(conn, execution_id))
        log.info(LogEvent.EXECUTION_RETRIED, execution_id=execution.id, retry_of=execution_id, reused=reused)
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
        await self._cancel_jobs(execution_id, reason)
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
        """Start what was accepted and watch for ends until cancelled; first go on with what was left open."""
        async with asyncio.TaskGroup() as group:
            changed = await self._repeat_cancels()
            next_tick = self._clock.monotonic() + self._config.status_interval_s
            ticks = 0
            while True:
                for execution_id in sorted(changed):
                    await self._look_after(execution_id, group)
                pause_s = max(0.0, next_tick - self._clock.monotonic())
                changed = await self._board.executions.wait(pause_s)
                if self._clock.monotonic() >= next_tick:
                    next_tick = self._clock.monotonic() + self._config.status_interval_s
                    ticks += 1
                    try:
                        changed |= await self._tick(prune=ticks % PRUNE_EVERY_TICKS == 0)
                    except DatabaseNotNow as trouble:
                        log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))  # the next tick does it all again
                    group.create_task(self._sweep())

    async def _look_after(self, execution_id: ExecutionId, group: asyncio.TaskGroup) -> None:
        """Attend to one execution: the boundary at which what goes wrong with it leaves the others alone."""
        try:
            await self._attend(execution_id, group)
        except DatabaseGone:
            raise
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="execution", execution_id=execution_id)

    async def _attend(self, execution_id: ExecutionId, group: asyncio.TaskGroup) -> None:
        """Look at one execution: start it, end it, or leave it to its jobs."""
        if execution_id in self._starting:
            return
        now = self._clock.now()
        state = await self._database.read(lambda conn: workflow_executions.get_state(conn, execution_id))
        if state is None or execution_is_terminal(state.status):
            self._tell_ended(execution_id)
            return
        if state.phase is not ExecutionPhase.STARTED and not state.cancel_requested:
            self._starting.add(execution_id)
            group.create_task(self._start(execution_id))
            return
        is_being_cancelled = state.phase is not ExecutionPhase.STARTED  # then jobs that are PENDING never will be more
        if (
            state.has_open_jobs
            and not is_being_cancelled
            and not (state.cancel_by is not None and state.cancel_by < now)
        ):
            return
        outcome, _ = await insist(self._database, lambda conn, _: self._end(conn, execution_id))
        if outcome is not None:
            self._log_outcome(execution_id, outcome)
            self._tell_ended(execution_id)

    def _end(self, conn: sqlite3.Connection, execution_id: ExecutionId) -> Outcome | None:
        """Move an execution to its end if the rules say so, in one transaction with what they decide by."""
        now = self._clock.now()
        execution = workflow_executions.get_execution(conn, execution_id)
        if execution_is_terminal(execution.status):
            return None
        if execution.phase is not ExecutionPhase.STARTED:
            workflow_executions.fail_pending_jobs(conn, execution_id, execution.cancel_reason or "never created")
        outcome = execution_outcome(
            workflow_executions.list_workflow_jobs(conn, execution_id),
            results.list_result_rows(conn, execution_id),
            cancel_requested=execution.cancel_requested_at is not None,
            cancel_reason=execution.cancel_reason,
            cancel_expired=execution.cancel_by is not None and execution.cancel_by < now,
        )
        if outcome is not None:
            workflow_executions.mark_ended(conn, execution_id, outcome.status, outcome.error, now=now)
        return outcome

    async def _start(self, execution_id: ExecutionId) -> None:
        """Run both phases: the boundary at which whatever goes wrong ends the execution."""
        try:
            error = await self._try_start(execution_id)
            if error is not None:
                await self._abort(execution_id, error)
        finally:
            self._starting.discard(execution_id)
        reason = await self._database.read(lambda conn: workflow_executions.cancel_reason(conn, execution_id))
        if reason is not None:
            await self._cancel_jobs(execution_id, reason)
        self._board.executions.ring(execution_id)

    async def _try_start(self, execution_id: ExecutionId) -> str | None:
        """Run both phases; return why that can never succeed, `None` if it did or is to be tried again."""
        try:
            execution = await self._database.read(lambda conn: workflow_executions.get_execution(conn, execution_id))
            text, definition = self._accepted.pop(execution_id, (None, None))
            if definition is None or text != execution.definition:  # the row is the truth
                definition = definition_from_json(json.loads(execution.definition))
            await self._two_phases.start(execution, definition)
        except CalledOff:
            return None  # somebody has asked for its cancel, which goes on from here
        except DatabaseGone:
            raise
        except DatabaseNotNow as trouble:
            log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
            await asyncio.sleep(PAUSE_S)
            return None
        except PhaseOneRefused as refusal:
            return "phase 1 was refused: " + "; ".join(refusal.reasons)
        except RndError as error:
            return str(error)
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="start", execution_id=execution_id)
            return f"internal error: {type(error).__name__}"
        return None

    async def _abort(self, execution_id: ExecutionId, error: str) -> None:
        """End an execution that could not be started: what was created is cancelled, nothing has run.

        Nothing is left to do where it has ended meanwhile, by hand or by a cancel; its row says why.
        """
        await self._cancel_jobs(execution_id, error)
        now = self._clock.now()

        def work(conn: sqlite3.Connection, _: News) -> None:
            workflow_executions.fail_pending_jobs(conn, execution_id, error)
            workflow_executions.mark_ended(conn, execution_id, ExecutionStatus.FAILED, error, now=now)

        try:
            await insist(self._database, work)
        except StaleState:
            return
        self._log_outcome(execution_id, Outcome(status=ExecutionStatus.FAILED, error=error))
        self._tell_ended(execution_id)

    async def _tick(self, *, prune: bool) -> set[ExecutionId]:
        """The safety net: repairs by hand, deadlines, and every open execution once more."""
        now = self._clock.now()
        if await self._database.read(workflow_executions.list_unsettled_executions):
            for closed in await self._database.write(lambda conn: honour_execution_repairs(conn, now=now)):
                await self._cancel_jobs(closed.id, f"execution {closed.id} was set to {closed.status} by hand")
                self._tell_ended(closed.id)
        for execution in await self._database.read(
            lambda conn: workflow_executions.list_overdue_executions(conn, now=now)
        ):
            if execution.deadline_at < now:
                await self._call_time(execution)
        if prune:
            while await self._database.write(self._prune_events):
                pass  # each call drops a bounded number, so that nobody waits long for the writer
        opened = await self._repeat_cancels()
        if opened:
            log.info(LogEvent.UPDATING_WORKFLOW_STATUSES, active_count=len(opened))
        return opened

    async def _call_time(self, execution: WorkflowExecution) -> None:
        """Stop everything of an execution whose deadline has passed: its jobs, and what is still to come home."""
        if execution.id not in self._overdue:
            self._overdue.add(execution.id)
            log.warning(LogEvent.EXECUTION_DEADLINE_PASSED, execution_id=execution.id, deadline=execution.deadline_at)
        reason = "the workflow deadline has passed"
        await self._cancel_jobs(execution.id, reason)
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            for transfer_id in transfers.list_open_of_execution(conn, execution.id):
                with contextlib.suppress(StaleState):  # it has ended with one before it
                    fail_transfer(conn, transfer_id, reason, now=now, news=news)

        _, news = await insist(self._database, work)
        self._board.publish(news)

    async def _sweep(self) -> None:
        """Forget old executions; what cannot be forgotten now is tried again at the next tick."""
        try:
            await self._retention.sweep()
        except DatabaseGone:
            raise
        except DatabaseNotNow as trouble:
            log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="retention")

    def _prune_events(self, conn: sqlite3.Connection) -> int:
        return events.prune_events(conn, self._config.limits.events_kept)

    async def _repeat_cancels(self) -> set[ExecutionId]:
        """Act again on every wish to cancel that is on record; return all open executions.

        A stop of the daemon between the record and the act would otherwise leave jobs running.
        """
        for execution_id, reason in await self._database.read(workflow_executions.list_unfinished_cancels):
            await self._cancel_jobs(execution_id, reason)
        opened = await self._database.read(workflow_executions.list_open_executions)
        return {execution.id for execution in opened}

    # ---- small steps

    def _check_room(self) -> None:
        refusal = self._disk.refusal()
        if refusal is not None:
            raise LimitExceeded(
                f"No workflow is started: {refusal}",
                hint="Free space on the disk of the data directory, or lower limits.disk_floor_bytes.",
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

    async def _cancel_jobs(self, execution_id: ExecutionId, reason: str) -> None:
        """Have every open job of an execution cancelled, once; what cannot be recorded now the ticker repeats."""
        jobs = await self._database.read(lambda conn: job_executions.list_open_jobs_of_execution(conn, execution_id))
        by_executor: dict[PeerId, list[JobExecutionId]] = {}
        for job in jobs:
            if job.cancel_requested_at is None:
                by_executor.setdefault(job.executor_peer_id, []).append(job.id)
        for executor, job_ids in by_executor.items():
            try:
                await self._endpoint_of(executor).cancel_jobs(job_ids, reason=reason)
            except DatabaseNotNow as trouble:
                log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))

    def _log_outcome(self, execution_id: ExecutionId, outcome: Outcome) -> None:
        match outcome.status:
            case ExecutionStatus.FAILED:
                log.error(LogEvent.WORKFLOW_FAILED, execution_id=execution_id, error=outcome.error)
            case ExecutionStatus.CANCELLED:
                log.info(LogEvent.EXECUTION_CANCELLED, execution_id=execution_id, reason=outcome.error)
            case _:
                log.info(LogEvent.WORKFLOW_COMPLETED, execution_id=execution_id, status=outcome.status)

    def _tell_ended(self, execution_id: ExecutionId) -> None:
        for ended in self._waiters.get(execution_id, ()):
            ended.set()
        self._overdue.discard(execution_id)
