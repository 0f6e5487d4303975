"""Jobs on their executor, and the mirror of jobs elsewhere: table `job_executions` (document: Job State Transitions).

Every move of a status is one guarded UPDATE here; the same transaction carries the orchestrator's row in
`workflow_jobs` and the event, so that nobody ever sees the one without the others.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rnd.database.events import record_event
from rnd.database.rows import moment_or_none, page_part
from rnd.types.enums import EventType, ExecutionConstraint, JobStatus, ServiceType
from rnd.types.errors import NotFound, StaleState
from rnd.types.executions import JobExecution
from rnd.types.ids import (
    ExecutionId,
    ExecutionUid,
    JobExecutionId,
    NodeId,
    PeerId,
    ServiceId,
    WorkflowJobId,
)
from rnd.types.orders import JobRequest
from rnd.types.pages import Page
from rnd.types.services import Service
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, workflow_job_id, service_id, executor_peer_id, ordering_peer_id, remote_job_execution_id, status,
           entrypoint, commands, execution_constraint, constraint_detail, start_received, started_at, ended_at,
           error_message, workflow_execution_id, order_workflow_job_id, execution_uid, node_id, attempt, job_name,
           service_name, service_type, created_at, start_by, max_runtime_s, run_by, exit_code, exit_signal,
           cancel_requested_at, result
    FROM job_executions
"""
_COUNT = "SELECT COUNT(*) FROM job_executions "
# One condition for each set of filters, so that each finds its index: (status given, execution given).
_MATCHING: Final = {
    (False, False): "WHERE id > 0",
    (True, False): "WHERE status = :status",
    (False, True): "WHERE workflow_execution_id = :execution_id",
    (True, True): "WHERE workflow_execution_id = :execution_id AND status = :status",
}
_REUSED: Final = "reused:"
_END = """
    UPDATE job_executions
    SET status = :new, settled_status = :new, ended_at = :now, error_message = :error, exit_code = :exit_code,
        exit_signal = :exit_signal, run_by = NULL, not_before = NULL
    WHERE id = :id
      AND status IN (:old_1, :old_2, :old_3)
    RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHead:
    """The little of a job that its news need."""

    id: JobExecutionId
    job_name: str
    node_id: NodeId
    service_type: ServiceType
    status: JobStatus
    workflow_job_id: WorkflowJobId | None
    workflow_execution_id: ExecutionId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a job ended, beside its status."""

    error: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None


def create_job(
    conn: sqlite3.Connection, request: JobRequest, *, service: Service | None, digest: str, now: datetime
) -> tuple[JobExecutionId, bool]:
    """Create the IDLE row of a requested job; return its id and whether it is new.

    `service` is the executor's own row, `None` in a mirror of a job elsewhere. `digest` fingerprints the request: the
    same key with another digest raises `StaleState`.
    """
    plan = request.plan
    row = conn.execute(
        """
        INSERT INTO job_executions (
            workflow_job_id, service_id, executor_peer_id, ordering_peer_id, status, settled_status, entrypoint,
            commands, execution_constraint, constraint_detail, workflow_execution_id, order_workflow_job_id,
            execution_uid, node_id, request_digest, job_name, service_name, service_type, service_revision, created_at,
            start_by, max_runtime_s
        )
        VALUES (
            :workflow_job_id, :service_id, :executor, :orderer, 'IDLE', 'IDLE', :entrypoint,
            :commands, :constraint, :detail, :execution_id, :order_workflow_job_id,
            :execution_uid, :node_id, :digest, :job_name, :service_name, :service_type, :revision, :now,
            :start_by, :max_runtime_s
        )
        ON CONFLICT (ordering_peer_id, execution_uid, node_id) DO NOTHING
        RETURNING id
        """,
        {
            "workflow_job_id": request.workflow_job_id if request.workflow_execution_id is not None else None,
            "service_id": plan.service_id,
            "executor": plan.executor_peer_id,
            "orderer": request.orchestrator_peer_id,
            "entrypoint": _words_text(plan.entrypoint),
            "commands": _words_text(plan.cmd),
            "constraint": plan.execution_constraint,
            "detail": json.dumps(
                [
                    {"connection_id": wait.connection_id, "from_node_id": wait.from_node_id}
                    for wait in plan.constraint_detail
                ]
            ),
            "execution_id": request.workflow_execution_id,
            "order_workflow_job_id": request.workflow_job_id,
            "execution_uid": request.execution_uid,
            "node_id": plan.node_id,
            "digest": digest,
            "job_name": plan.name,
            "service_name": plan.service_name,
            "service_type": plan.service_type,
            "revision": service.revision if service is not None else 1,
            "now": to_text(now),
            "start_by": to_text(now + timedelta(seconds=request.start_by_s)),
            "max_runtime_s": request.max_runtime_s,
        },
    ).fetchone()
    if row is not None:
        job_id = JobExecutionId(row[0])
        head = JobHead(
            id=job_id,
            job_name=plan.name,
            node_id=plan.node_id,
            service_type=plan.service_type,
            status=JobStatus.IDLE,
            workflow_job_id=request.workflow_job_id if request.workflow_execution_id is not None else None,
            workflow_execution_id=request.workflow_execution_id,
        )
        _announce(conn, head, None, now=now)
        return job_id, True
    known = conn.execute(
        """
        SELECT id, request_digest
        FROM job_executions
        WHERE ordering_peer_id = :orderer
          AND execution_uid = :execution_uid
          AND node_id = :node_id
        """,
        {"orderer": request.orchestrator_peer_id, "execution_uid": request.execution_uid, "node_id": plan.node_id},
    ).fetchone()
    if known["request_digest"] != digest:
        raise StaleState(f"job of node {plan.node_id} was requested before with other content")
    return JobExecutionId(known["id"]), False


def get_job(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> JobExecution:
    """Return one job. Raises `NotFound`."""
    row = conn.execute(_SELECT + "WHERE id = :id", {"id": job_execution_id}).fetchone()
    if row is None:
        raise NotFound(f"Job {job_execution_id} not found")
    return _job(row)


def find_job(conn: sqlite3.Connection, *, execution_id: ExecutionId, node_id: NodeId) -> JobExecution:
    """Return the job of a node in an own execution. Raises `NotFound`."""
    row = conn.execute(
        _SELECT + "WHERE workflow_execution_id = :execution_id AND node_id = :node_id",
        {"execution_id": execution_id, "node_id": node_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"Execution {execution_id} has no job for node {node_id}")
    return _job(row)


def list_jobs(
    conn: sqlite3.Connection,
    *,
    status: JobStatus | None = None,
    execution_id: ExecutionId | None = None,
    limit: int,
    after_id: int = 0,
    newest_first: bool = False,
) -> Page[JobExecution]:
    """Return jobs in ascending id order, narrowed by status and own execution.

    With `newest_first` ids go down, and `after_id` is the one to go on below (0: from the newest).
    """
    values = {"status": status, "execution_id": execution_id, "limit": limit + 1}
    matching = _MATCHING[status is not None, execution_id is not None]
    total = conn.execute(_COUNT + matching, values).fetchone()[0]
    part = page_part(after_id, newest_first=newest_first)
    rows = conn.execute(_SELECT + matching + part.sql, {**values, **part.values}).fetchall()
    items = [_job(row) for row in rows[:limit]]
    return Page(items=items, total=total, next_after_id=items[-1].id if len(rows) > limit else None)


def list_jobs_of_execution(conn: sqlite3.Connection, execution_id: ExecutionId) -> list[JobExecution]:
    """Return every job of an own execution, in id order."""
    rows = conn.execute(_SELECT + "WHERE workflow_execution_id = :id ORDER BY id", {"id": execution_id}).fetchall()
    return [_job(row) for row in rows]


def list_open_jobs_of_execution(conn: sqlite3.Connection, execution_id: ExecutionId) -> list[JobExecution]:
    """Return every job of an own execution that has not ended, in id order."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE workflow_execution_id = :id
          AND status IN ('IDLE', 'READY', 'RUNNING')
        ORDER BY id
        """,
        {"id": execution_id},
    ).fetchall()
    return [_job(row) for row in rows]


def has_open_jobs(conn: sqlite3.Connection, execution_id: ExecutionId) -> bool:
    """Say whether any job of an own execution has not ended."""
    row = conn.execute(
        """
        SELECT EXISTS (
            SELECT 1
            FROM job_executions
            WHERE workflow_execution_id = :id
              AND status IN ('IDLE', 'READY', 'RUNNING')
        )
        """,
        {"id": execution_id},
    ).fetchone()
    return bool(row[0])


def list_running(conn: sqlite3.Connection, *, executor: PeerId) -> list[JobExecution]:
    """Return the jobs that this peer was running when it was last asked to remember."""
    rows = conn.execute(
        _SELECT + "WHERE status = 'RUNNING' AND executor_peer_id = :executor ORDER BY id", {"executor": executor}
    ).fetchall()
    return [_job(row) for row in rows]


def list_ready(
    conn: sqlite3.Connection, *, executor: PeerId, programs: int, data_jobs: int, now: datetime
) -> list[JobExecution]:
    """Return the oldest READY jobs of this peer: at most `programs` that run something and `data_jobs` of DATA."""
    rows = conn.execute(
        _SELECT
        + """
        INDEXED BY job_executions_ready_programs
        WHERE status = 'READY'
          AND start_received = 1
          AND executor_peer_id = :executor
          AND cancel_requested_at IS NULL
          AND (not_before IS NULL OR not_before <= :now)
          AND service_type <> 'DATA'
        ORDER BY id
        LIMIT :limit
        """,
        {"executor": executor, "now": to_text(now), "limit": programs},
    ).fetchall()
    rows += conn.execute(
        _SELECT
        + """
        INDEXED BY job_executions_ready_data
        WHERE status = 'READY'
          AND start_received = 1
          AND executor_peer_id = :executor
          AND cancel_requested_at IS NULL
          AND service_type = 'DATA'
        ORDER BY id
        LIMIT :limit
        """,
        {"executor": executor, "limit": data_jobs},
    ).fetchall()
    return [_job(row) for row in rows]


def next_attempt_at(conn: sqlite3.Connection, *, executor: PeerId) -> datetime | None:
    """Return when the next waiting attempt may start; `None` if none waits for a time."""
    row = conn.execute(
        """
        SELECT MIN(not_before)
        FROM job_executions INDEXED BY job_executions_delayed
        WHERE not_before IS NOT NULL
          AND status = 'READY'
          AND start_received = 1
          AND executor_peer_id = :executor
          AND cancel_requested_at IS NULL
        """,
        {"executor": executor},
    ).fetchone()
    return moment_or_none(row[0])


def list_expired(conn: sqlite3.Connection, *, executor: PeerId, now: datetime) -> list[JobExecution]:
    """Return IDLE jobs that never got their start command in time."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE status = 'IDLE'
          AND start_received = 0
          AND executor_peer_id = :executor
          AND start_by < :now
        ORDER BY id
        """,
        {"executor": executor, "now": to_text(now)},
    ).fetchall()
    return [_job(row) for row in rows]


def list_waiting(conn: sqlite3.Connection, *, executor: PeerId) -> list[JobExecution]:
    """Return started jobs that wait for their inputs."""
    rows = conn.execute(
        _SELECT + "WHERE status = 'IDLE' AND start_received = 1 AND executor_peer_id = :executor ORDER BY id",
        {"executor": executor},
    ).fetchall()
    return [_job(row) for row in rows]


def list_unsettled(conn: sqlite3.Connection, *, executor: PeerId) -> list[JobExecution]:
    """Return jobs whose status the daemon has not acted on: those that a person changed."""
    rows = conn.execute(
        _SELECT + "WHERE status IS NOT settled_status AND executor_peer_id = :executor ORDER BY id",
        {"executor": executor},
    ).fetchall()
    return [_job(row) for row in rows]


def list_taken_away(conn: sqlite3.Connection, *, executor: PeerId) -> list[JobExecution]:
    """Return jobs that the daemon last knew as RUNNING and whose status a person has changed since."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE status IS NOT settled_status
          AND settled_status = 'RUNNING'
          AND executor_peer_id = :executor
        ORDER BY id
        """,
        {"executor": executor},
    ).fetchall()
    return [_job(row) for row in rows]


def count_by_status(conn: sqlite3.Connection) -> dict[str, int]:
    """Return how many jobs stand in each status."""
    rows = conn.execute("SELECT status, COUNT(*) FROM job_executions GROUP BY status").fetchall()
    return {row[0]: row[1] for row in rows}


def count_completed(conn: sqlite3.Connection, execution_id: ExecutionId) -> int:
    """Return how many jobs of an own execution have completed."""
    row = conn.execute(
        "SELECT COUNT(*) FROM job_executions WHERE workflow_execution_id = :id AND status = 'COMPLETED'",
        {"id": execution_id},
    ).fetchone()
    return int(row[0])


def mark_started(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> bool:
    """Record the start command; False if it was recorded before or the job has ended."""
    changed = conn.execute(
        """
        UPDATE job_executions
        SET start_received = 1
        WHERE id = :id
          AND start_received = 0
          AND status = 'IDLE'
        """,
        {"id": job_execution_id},
    ).rowcount
    return bool(changed)


def mark_ready(conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, now: datetime) -> JobHead:
    """IDLE -> READY, once started and every input is there. Raises `StaleState`."""
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = 'READY', settled_status = 'READY'
        WHERE id = :id
          AND status = 'IDLE'
          AND start_received = 1
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id
        """,
        {"id": job_execution_id},
    ).fetchone()
    return _moved(conn, row, None, what=f"job {job_execution_id} is not IDLE and started", now=now)


def mark_running(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, run_by: datetime, now: datetime
) -> JobHead:
    """READY -> RUNNING, the claim of a worker. Raises `StaleState`."""
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = 'RUNNING', settled_status = 'RUNNING', started_at = :now, run_by = :run_by, not_before = NULL
        WHERE id = :id
          AND status = 'READY'
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id
        """,
        {"id": job_execution_id, "now": to_text(now), "run_by": to_text(run_by)},
    ).fetchone()
    return _moved(conn, row, None, what=f"job {job_execution_id} is not READY", now=now)


def mark_ready_again(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, error: str, not_before: datetime, now: datetime
) -> JobHead:
    """RUNNING -> READY for another attempt, not before a time. Raises `StaleState`."""
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = 'READY', settled_status = 'READY', attempt = attempt + 1, not_before = :not_before,
            error_message = :error, run_by = NULL
        WHERE id = :id
          AND status = 'RUNNING'
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id
        """,
        {"id": job_execution_id, "error": error, "not_before": to_text(not_before)},
    ).fetchone()
    return _moved(conn, row, error, what=f"job {job_execution_id} is not RUNNING", now=now)


def mark_completed(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, exit_code: int | None, now: datetime
) -> JobHead:
    """RUNNING -> COMPLETED. Raises `StaleState`."""
    end = JobEnd(exit_code=exit_code)
    return _end(conn, job_execution_id, JobStatus.COMPLETED, (JobStatus.RUNNING,), end, now=now)


def mark_errored(conn: sqlite3.Connection, job_execution_id: JobExecutionId, end: JobEnd, *, now: datetime) -> JobHead:
    """IDLE, READY or RUNNING -> ERRORED. Raises `StaleState`."""
    old = (JobStatus.RUNNING, JobStatus.READY, JobStatus.IDLE)
    return _end(conn, job_execution_id, JobStatus.ERRORED, old, end, now=now)


def mark_cancelled(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, end: JobEnd, *, now: datetime
) -> JobHead:
    """IDLE, READY or RUNNING -> CANCELLED. Raises `StaleState`."""
    old = (JobStatus.RUNNING, JobStatus.READY, JobStatus.IDLE)
    return _end(conn, job_execution_id, JobStatus.CANCELLED, old, end, now=now)


def mark_reused(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, execution_id: ExecutionId, now: datetime
) -> JobHead:
    """IDLE -> COMPLETED with the outputs of the same node in an earlier execution. Raises `StaleState`."""
    result = f"{_REUSED}{execution_id}"
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = 'COMPLETED', settled_status = 'COMPLETED', start_received = 1, started_at = :now, ended_at = :now,
            result = :result
        WHERE id = :id
          AND status = 'IDLE'
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id
        """,
        {"id": job_execution_id, "now": to_text(now), "result": result},
    ).fetchone()
    head = _moved(conn, row, None, what=f"job {job_execution_id} is not IDLE", now=now)
    conn.execute(
        "UPDATE workflow_jobs SET result = :result WHERE id = :id", {"id": head.workflow_job_id, "result": result}
    )
    return head


def head_of(job: JobExecution) -> JobHead:
    """Return the little of a job that its news need."""
    return JobHead(
        id=job.id,
        job_name=job.job_name,
        node_id=job.node_id,
        service_type=job.service_type,
        status=job.status,
        workflow_job_id=job.workflow_job_id,
        workflow_execution_id=job.workflow_execution_id,
    )


def reused_execution(job: JobExecution) -> ExecutionId | None:
    """Return the earlier execution whose outputs a job reuses; `None` if it ran on its own."""
    if job.result is None or not job.result.startswith(_REUSED):
        return None
    return ExecutionId(int(job.result.removeprefix(_REUSED)))


def request_cancel(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, reason: str, now: datetime
) -> JobStatus | None:
    """Record the wish to cancel a job; return the status it was found in, `None` if it had ended."""
    row = conn.execute(
        """
        UPDATE job_executions
        SET cancel_requested_at = COALESCE(cancel_requested_at, :now), cancel_reason = COALESCE(cancel_reason, :reason)
        WHERE id = :id
          AND status IN ('IDLE', 'READY', 'RUNNING')
        RETURNING status
        """,
        {"id": job_execution_id, "now": to_text(now), "reason": reason},
    ).fetchone()
    return None if row is None else JobStatus(row[0])


def not_before(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> datetime | None:
    """Return the time before which another attempt must not begin; `None` if nothing holds it back."""
    row = conn.execute("SELECT not_before FROM job_executions WHERE id = :id", {"id": job_execution_id}).fetchone()
    return None if row is None else moment_or_none(row[0])


def cancel_reason(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> str | None:
    """Return why a job is to be cancelled; `None` if nobody has asked."""
    row = conn.execute("SELECT cancel_reason FROM job_executions WHERE id = :id", {"id": job_execution_id}).fetchone()
    return None if row is None else row[0]


def settle_by_hand(conn: sqlite3.Connection, job: JobExecution, *, now: datetime) -> JobHead:
    """Take over a status that a person has typed: complete the row, the orchestrator's row and the event.

    What has run before and is to run again is another attempt, so that it is not taken for the one before.
    """
    row = conn.execute(
        """
        UPDATE job_executions
        SET settled_status = status,
            attempt = CASE WHEN status IN ('IDLE', 'READY') AND started_at IS NOT NULL
                                AND settled_status NOT IN ('IDLE', 'READY')
                           THEN attempt + 1
                           ELSE attempt END,
            ended_at = CASE WHEN status IN ('IDLE', 'READY', 'RUNNING') THEN NULL ELSE COALESCE(ended_at, :now) END,
            error_message = CASE WHEN status IN ('ERRORED', 'CANCELLED')
                                 THEN COALESCE(error_message, 'set to ' || status || ' by hand')
                                 ELSE error_message END
        WHERE id = :id
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, error_message
        """,
        {"id": job.id, "now": to_text(now)},
    ).fetchone()
    return _moved(conn, row, row["error_message"], what="", now=now)


def _end(
    conn: sqlite3.Connection,
    job_execution_id: JobExecutionId,
    new: JobStatus,
    old: Sequence[JobStatus],
    end: JobEnd,
    *,
    now: datetime,
) -> JobHead:
    row = conn.execute(
        _END,
        {
            "id": job_execution_id,
            "new": new,
            "old_1": old[0],
            "old_2": old[min(1, len(old) - 1)],
            "old_3": old[-1],
            "now": to_text(now),
            "error": end.error,
            "exit_code": end.exit_code,
            "exit_signal": end.exit_signal,
        },
    ).fetchone()
    what = f"job {job_execution_id} is not {' or '.join(old)}"
    return _moved(conn, row, end.error, what=what, now=now)


def _moved(
    conn: sqlite3.Connection, row: sqlite3.Row | None, error: str | None, *, what: str, now: datetime
) -> JobHead:
    if row is None:
        raise StaleState(what)
    workflow_job_id, execution_id = row["workflow_job_id"], row["workflow_execution_id"]
    head = JobHead(
        id=JobExecutionId(row["id"]),
        job_name=row["job_name"],
        node_id=NodeId(row["node_id"]),
        service_type=ServiceType(row["service_type"]),
        status=JobStatus(row["status"]),
        workflow_job_id=None if workflow_job_id is None else WorkflowJobId(workflow_job_id),
        workflow_execution_id=None if execution_id is None else ExecutionId(execution_id),
    )
    _announce(conn, head, error, now=now)
    return head


def _announce(conn: sqlite3.Connection, head: JobHead, error: str | None, *, now: datetime) -> None:
    if head.workflow_job_id is not None:
        conn.execute(
            """
            UPDATE workflow_jobs
            SET status = :status, error = :error
            WHERE id = :id
            """,
            {"id": head.workflow_job_id, "status": head.status, "error": error},
        )
    record_event(
        conn,
        EventType.JOB_UPDATED,
        {
            "job_execution_id": head.id,
            "execution_id": head.workflow_execution_id,
            "node_id": head.node_id,
            "job_name": head.job_name,
            "status": head.status,
            "error": error,
        },
        execution_id=head.workflow_execution_id,
        now=now,
    )


def _words_text(words: tuple[str, ...] | None) -> str | None:
    return None if words is None else json.dumps(words)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def _job(row: sqlite3.Row) -> JobExecution:
    workflow_job_id, execution_id, remote = (
        row["workflow_job_id"],
        row["workflow_execution_id"],
        row["remote_job_execution_id"],
    )
    return JobExecution(
        id=JobExecutionId(row["id"]),
        workflow_job_id=None if workflow_job_id is None else WorkflowJobId(workflow_job_id),
        order_workflow_job_id=row["order_workflow_job_id"],
        workflow_execution_id=None if execution_id is None else ExecutionId(execution_id),
        execution_uid=ExecutionUid(row["execution_uid"]),
        node_id=NodeId(row["node_id"]),
        attempt=row["attempt"],
        job_name=row["job_name"],
        service_id=ServiceId(row["service_id"]),
        service_name=row["service_name"],
        service_type=ServiceType(row["service_type"]),
        executor_peer_id=PeerId(row["executor_peer_id"]),
        ordering_peer_id=PeerId(row["ordering_peer_id"]),
        remote_job_execution_id=None if remote is None else JobExecutionId(remote),
        status=JobStatus(row["status"]),
        entrypoint=_words(row["entrypoint"]),
        commands=_words(row["commands"]),
        execution_constraint=ExecutionConstraint(row["execution_constraint"]),
        constraint_detail=row["constraint_detail"],
        start_received=bool(row["start_received"]),
        created_at=from_text(row["created_at"]),
        started_at=moment_or_none(row["started_at"]),
        ended_at=moment_or_none(row["ended_at"]),
        start_by=from_text(row["start_by"]),
        max_runtime_s=row["max_runtime_s"],
        run_by=moment_or_none(row["run_by"]),
        error_message=row["error_message"],
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
        cancel_requested_at=moment_or_none(row["cancel_requested_at"]),
        result=row["result"],
    )
