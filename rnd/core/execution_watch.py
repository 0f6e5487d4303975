"""The watch over open executions: each is started, and ended when nothing of it can still run (document: State Management).

The start in two phases is a task of its own (`core/two_phases.py`); afterwards the jobs move by themselves and the end is
watched for: by wake-ups, with the ticker (10 s) as the net for deadlines, lost wake-ups and repairs by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from rnd.core.repairs import honour_execution_repairs
from rnd.core.retention import Retention
from rnd.core.two_phases import EndpointOf, PhaseOneRefused, TwoPhases
from rnd.database import events, job_executions, mirrors, results, transfers, workflow_executions, workflow_jobs
from rnd.database.connection import Database
from rnd.database.consequences import call_off_transfer, fail_transfer, give_up_mirror
from rnd.database.news import News
from rnd.database.workflow_executions import ExecutionState
from rnd.log import about_run, get_logger
from rnd.rules.definition import definition_from_json
from rnd.rules.lifecycle import Outcome, execution_is_terminal, execution_outcome
from rnd.types.config import Config
from rnd.types.definitions import WorkflowDefinition
from rnd.types.enums import ExecutionPhase, ExecutionStatus
from rnd.types.errors import CalledOff, DatabaseGone, DatabaseNotNow, RndError, StaleState
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import ExecutionId, JobExecutionId, PeerId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.workers.insistence import PAUSE_S, insist
from rnd.workers.news_board import NewsBoard

PRUNE_EVERY_TICKS: Final = 30
"""How seldom, in ticks, old events are dropped."""

LAST_WORD: Final = timedelta(seconds=5)
"""How long other peers have, after an execution's deadline, to say how their jobs ended."""

log = get_logger()


class ExecutionWatch:
    """Sees every execution that has a row to its end, and tells of it by `tell_ended`."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        two_phases: TwoPhases,
        retention: Retention,
        endpoint_of: EndpointOf,
        board: NewsBoard,
        tell_ended: Callable[[ExecutionId], None],
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._two_phases = two_phases
        self._retention = retention
        self._endpoint_of = endpoint_of
        self._board = board
        self._tell_ended = tell_ended
        self._peer_id = peer_id
        self._accepted: dict[ExecutionId, tuple[str, WorkflowDefinition]] = {}  # just built: not to be parsed anew
        self._starting: dict[ExecutionId, asyncio.Timeout | None] = {}  # None where there is nothing to call off
        self._overdue: set[ExecutionId] = set()

    def expect(self, execution: WorkflowExecution, definition: WorkflowDefinition) -> None:
        """Keep the definition of an execution that was just accepted until it is started."""
        self._accepted[execution.id] = execution.definition, definition

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

    async def cancel_jobs(self, execution_id: ExecutionId, reason: str) -> None:
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
        now = self._clock.now()
        state = await self._database.read(lambda conn: workflow_executions.get_state(conn, execution_id))
        if execution_id in self._starting:
            if state is None or state.cancel_requested:
                self._stop_starting(execution_id)
            return
        if state is None or execution_is_terminal(state.status):
            self._close(execution_id)
            return
        with about_run(state.execution_uid, self._peer_id):
            await self._go_on(execution_id, state, group, now=now)

    async def _go_on(
        self, execution_id: ExecutionId, state: ExecutionState, group: asyncio.TaskGroup, *, now: datetime
    ) -> None:
        if state.phase is not ExecutionPhase.STARTED and not state.cancel_requested:
            self._starting[execution_id] = None
            group.create_task(self._start(execution_id))
            return
        is_being_cancelled = state.phase is not ExecutionPhase.STARTED  # then jobs that are PENDING never will be more
        if (
            state.has_open_jobs
            and not is_being_cancelled
            and not (state.cancel_by is not None and state.cancel_by < now)
        ):
            return
        outcome, news = await insist(self._database, lambda conn, news: self._end(conn, execution_id, news))
        self._board.publish(news)
        if outcome is not None:
            self._log_outcome(execution_id, outcome)
            self._close(execution_id)

    def _end(self, conn: sqlite3.Connection, execution_id: ExecutionId, news: News) -> Outcome | None:
        """Move an execution to its end if the rules say so, in one transaction with what they decide by.

        One that was cancelled takes what is on its way with it: nobody may be left who would end that.
        """
        now = self._clock.now()
        execution = workflow_executions.get_execution(conn, execution_id)
        if execution_is_terminal(execution.status):
            return None
        if execution.phase is not ExecutionPhase.STARTED:
            self._call_off_pending(conn, execution, execution.cancel_reason or "never created", now=now)
        outcome = execution_outcome(
            workflow_jobs.list_workflow_jobs(conn, execution_id),
            results.list_result_rows(conn, execution_id),
            cancel_requested=execution.cancel_requested_at is not None,
            cancel_reason=execution.cancel_reason,
            cancel_expired=execution.cancel_by is not None and execution.cancel_by < now,
        )
        if outcome is None:
            return None
        if outcome.status is ExecutionStatus.CANCELLED:
            reason = outcome.error or "cancelled"
            for transfer_id in transfers.list_open_of_execution(conn, execution_id):
                with contextlib.suppress(StaleState):  # it has ended with one before it
                    call_off_transfer(conn, transfer_id, reason, now=now, news=news)
            results.mark_failed_of_execution(conn, execution_id, reason)
        workflow_executions.mark_ended(conn, execution_id, outcome.status, outcome.error, now=now)
        return outcome

    async def _start(self, execution_id: ExecutionId) -> None:
        """Run both phases for as long as there is patience: the boundary at which whatever goes wrong ends the execution."""
        error = None
        try:
            with contextlib.suppress(TimeoutError):  # called off; whoever did so goes on from here
                async with asyncio.timeout(None) as patience:
                    self._starting[execution_id] = patience
                    error = await self._try_start(execution_id)
            self._starting[execution_id] = None
            if error is not None:
                await self._abort(execution_id, error)
        finally:
            del self._starting[execution_id]
        # Asked of the writer: what it was handed before patience ended, such as new jobs, is committed then.
        reason, _ = await insist(self._database, lambda conn, _: workflow_executions.cancel_reason(conn, execution_id))
        if reason is not None:
            await self.cancel_jobs(execution_id, reason)
        self._board.executions.ring(execution_id)

    def _stop_starting(self, execution_id: ExecutionId) -> None:
        """Wait no longer for other peers to answer; each step is committed, as if the daemon had been stopped here."""
        patience = self._starting.get(execution_id)
        if patience is not None and not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time())

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
        await self.cancel_jobs(execution_id, error)
        now = self._clock.now()

        def work(conn: sqlite3.Connection, _: News) -> None:
            execution = workflow_executions.get_execution(conn, execution_id)
            self._call_off_pending(conn, execution, error, now=now)
            workflow_executions.mark_ended(conn, execution_id, ExecutionStatus.FAILED, error, now=now)

        try:
            await insist(self._database, work)
        except StaleState:
            return
        self._log_outcome(execution_id, Outcome(status=ExecutionStatus.FAILED, error=error))
        self._close(execution_id)

    def _call_off_pending(
        self, conn: sqlite3.Connection, execution: WorkflowExecution, reason: str, *, now: datetime
    ) -> None:
        """End the jobs that were never created; another peer that has created one all the same is told to cancel it."""
        for executor, node_id in workflow_jobs.list_pending_elsewhere(conn, execution.id, self_peer_id=self._peer_id):
            mirrors.post_cancel(conn, executor, execution.execution_uid, node_id, reason, now=now)
        workflow_jobs.fail_pending_jobs(conn, execution.id, reason)

    async def _tick(self, *, prune: bool) -> set[ExecutionId]:
        """The safety net: repairs by hand, deadlines, and every open execution once more."""
        now = self._clock.now()
        if await self._database.read(workflow_executions.list_unsettled_executions):
            for closed in await self._database.write(lambda conn: honour_execution_repairs(conn, now=now)):
                await self.cancel_jobs(closed.id, f"execution {closed.id} was set to {closed.status} by hand")
                self._close(closed.id)
        for execution_id in await self._database.read(workflow_executions.list_deleted_with_open_jobs):
            log.warning(LogEvent.REPAIR_NOTICED, table="workflow_executions", id=execution_id, status="deleted")
            await self.cancel_jobs(execution_id, f"execution {execution_id} was deleted by hand")
            self._close(execution_id)
        for execution in await self._database.read(
            lambda conn: workflow_executions.list_overdue_executions(conn, now=now)
        ):
            if execution.deadline_at < now:
                with about_run(execution.execution_uid, self._peer_id):
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
        if execution.phase is not ExecutionPhase.STARTED:
            self._stop_starting(execution.id)
            silent = await self._database.read(lambda conn: self._unanswered(conn, execution))
            await self._abort(execution.id, f"{reason} before all jobs were started{silent}")
            return
        await self.cancel_jobs(execution.id, reason)
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            for transfer_id in transfers.list_open_of_execution(conn, execution.id):
                with contextlib.suppress(StaleState):  # it has ended with one before it
                    fail_transfer(conn, transfer_id, reason, now=now, news=news)
            if now < execution.deadline_at + LAST_WORD:
                return  # what others report of the cancel is worth waiting for a moment
            for mirror in mirrors.list_open_of_execution(conn, execution.id, self_peer_id=self._peer_id):
                words = f"{reason}, and peer {mirror.executor_peer_id} has not said how the job ended"
                give_up_mirror(conn, mirror, words, now=now, news=news)
            results.mark_failed_of_execution(conn, execution.id, reason)
            news.touch(conn, execution.id)

        _, news = await insist(self._database, work)
        self._board.publish(news)

    def _unanswered(self, conn: sqlite3.Connection, execution: WorkflowExecution) -> str:
        """Return the words for the peers without whose answer an execution could not be started."""
        pending = workflow_jobs.list_pending_elsewhere(conn, execution.id, self_peer_id=self._peer_id)
        peers = {executor for executor, _ in pending} or {
            mirror.executor_peer_id
            for mirror in mirrors.list_open_of_execution(conn, execution.id, self_peer_id=self._peer_id)
            if not mirror.start_received
        }
        return f" (no answer from {', '.join(sorted(peers))})" if peers else ""

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
            await self.cancel_jobs(execution_id, reason)
        opened = await self._database.read(workflow_executions.list_open_executions)
        return {execution.id for execution in opened}

    def _log_outcome(self, execution_id: ExecutionId, outcome: Outcome) -> None:
        match outcome.status:
            case ExecutionStatus.FAILED:
                log.error(LogEvent.WORKFLOW_FAILED, execution_id=execution_id, error=outcome.error)
            case ExecutionStatus.CANCELLED:
                log.info(LogEvent.EXECUTION_CANCELLED, execution_id=execution_id, reason=outcome.error)
            case _:
                log.info(LogEvent.WORKFLOW_COMPLETED, execution_id=execution_id, status=outcome.status)

    def _close(self, execution_id: ExecutionId) -> None:
        self._overdue.discard(execution_id)
        self._tell_ended(execution_id)
