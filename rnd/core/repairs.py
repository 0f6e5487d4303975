"""Repairs by hand (document: Debugging Guide, Issue 5): a status that a person typed into sqlite3 is taken over.

`settled_status` remembers what the daemon has acted on, so a typed status differs from it. Taking it over completes the
row, writes the event, and lets everything follow that would have followed had the daemon set it.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from rnd.database import job_executions, job_moves, mirrors, workflow_executions
from rnd.database.consequences import spread_failure
from rnd.database.news import News
from rnd.log import get_logger
from rnd.rules.lifecycle import execution_is_terminal, job_is_terminal
from rnd.types.enums import JobStatus
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent

log = get_logger()


def honour_job_repairs(conn: sqlite3.Connection, *, self_peer_id: PeerId, now: datetime, news: News) -> None:
    """Take over every job status that a person has changed; what ran is disowned, what needed it is cancelled.

    A job set to COMPLETED by hand has no output manifest, so what it owes is never sent, and its receivers are told. What
    another peer runs of an own execution is ended there as well.
    """
    for job in job_executions.list_unsettled(conn):
        log.warning(LogEvent.REPAIR_NOTICED, table="job_executions", id=job.id, status=job.status)
        head = job_moves.settle_by_hand(conn, job, now=now)
        is_mirror = job.executor_peer_id != self_peer_id
        if not is_mirror:
            news.inputs_changed.append(job.id)  # what still runs of it is disowned, or its inputs are looked at
        if not job_is_terminal(job.status):
            continue
        if is_mirror:
            words = f"set to {job.status} by hand"
            mirrors.post_cancel(conn, job.executor_peer_id, job.execution_uid, job.node_id, words, now=now)
        error = job.error_message or f"set to {job.status} by hand"
        if job.status is JobStatus.COMPLETED:
            error = "set to COMPLETED by hand; its outputs were not collected"
        news.ended.append((head, error))
        spread_failure(conn, head, error, now=now, news=news)


def honour_execution_repairs(conn: sqlite3.Connection, *, now: datetime) -> list[WorkflowExecution]:
    """Take over every execution status that a person has changed; return those that are closed now."""
    closed: list[WorkflowExecution] = []
    for execution in workflow_executions.list_unsettled_executions(conn):
        log.warning(LogEvent.REPAIR_NOTICED, table="workflow_executions", id=execution.id, status=execution.status)
        workflow_executions.settle_by_hand(conn, execution, now=now)
        if execution_is_terminal(execution.status):
            closed.append(execution)
    return closed
