"""How jobs move: every change of a status in `job_executions` (document: Job State Transitions).

Each move is one guarded UPDATE; the same transaction carries the orchestrator's row in `workflow_jobs` and the event, so
that nobody ever sees the one without the others. Jobs of one order are created and started together, in few statements.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rnd.database.events import record_events
from rnd.database.job_reports import post_report
from rnd.database.rows import text_or_none
from rnd.rules.reuse import REUSED
from rnd.types.enums import EventType, ExecutionConstraint, JobStatus, ServiceType
from rnd.types.errors import StaleState
from rnd.types.executions import JobExecution
from rnd.types.ids import ExecutionId, ExecutionUid, JobExecutionId, NodeId, PeerId, WorkflowJobId
from rnd.types.orders import JobRequest
from rnd.types.times import to_text

_END = """
    UPDATE job_executions
    SET status = :new, settled_status = :new, ended_at = :now, error_message = :error, exit_code = :exit_code,
        exit_signal = :exit_signal, remark = :remark, run_by = NULL, pull_by = NULL, not_before = NULL
    WHERE id = :id
      AND status IN (:old_1, :old_2, :old_3)
    RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, execution_uid,
                  ordering_peer_id
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
    execution_uid: ExecutionUid
    ordering_peer_id: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a job ended, beside its status."""

    error: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    remark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to create. `digest` fingerprints the request; `service_revision` is that of the executor's own row.

    `remote_job_execution_id` is set for the orchestrator's mirror of a job that another peer executes: that peer's id.
    """

    request: JobRequest
    digest: str
    service_revision: int
    remote_job_execution_id: JobExecutionId | None = None


def create_jobs(
    conn: sqlite3.Connection, jobs: Sequence[NewJob], *, now: datetime
) -> list[tuple[JobExecutionId, bool]]:
    """Create the IDLE rows of requested jobs of one execution; return the id of each and whether it is new.

    A request that was made before with the same content gets the same id; with other content it raises `StaleState`.
    """
    known = _created(conn, jobs)
    for job in jobs:
        node_id = job.request.plan.node_id
        if node_id in known and known[node_id][1] != job.digest:
            raise StaleState(f"job of node {node_id} was requested before with other content")
    fresh = [job for job in jobs if job.request.plan.node_id not in known]
    conn.executemany(
        """
        INSERT INTO job_executions (
            workflow_job_id, service_id, executor_peer_id, ordering_peer_id, remote_job_execution_id, status,
            settled_status, entrypoint, commands, execution_constraint, constraint_detail, workflow_execution_id, order_workflow_job_id,
            execution_uid, node_id, request_digest, job_name, service_name, service_type, service_revision, created_at,
            start_by, max_runtime_s, deadline_at, transfer_idle_s, hold_s
        )
        VALUES (
            :workflow_job_id, :service_id, :executor, :orderer, :remote_id, 'IDLE', 'IDLE', :entrypoint,
            :commands, :constraint, :detail, :execution_id, :order_workflow_job_id,
            :execution_uid, :node_id, :digest, :job_name, :service_name, :service_type, :revision, :now,
            :start_by, :max_runtime_s, :deadline_at, :transfer_idle_s, :hold_s
        )
        """,
        [_new_row(job, now=now) for job in fresh],
    )
    created = _created(conn, jobs) if fresh else known
    conn.executemany(
        "UPDATE workflow_jobs SET remote_job_execution_id = ? WHERE id = ?",
        [
            (job.remote_job_execution_id, job.request.workflow_job_id)
            for job in fresh
            if job.remote_job_execution_id is not None
        ],
    )
    _announce(conn, [_new_head(job.request, created[job.request.plan.node_id][0]) for job in fresh], None, now=now)
    return [(created[job.request.plan.node_id][0], job.request.plan.node_id not in known) for job in jobs]


def _created(conn: sqlite3.Connection, jobs: Sequence[NewJob]) -> dict[NodeId, tuple[JobExecutionId, str]]:
    """Return id and digest of what exists of an execution's jobs, by node."""
    keys = {(job.request.orchestrator_peer_id, job.request.execution_uid) for job in jobs}
    if len(keys) > 1:
        raise ValueError("jobs of several executions cannot be created together")
    found: dict[NodeId, tuple[JobExecutionId, str]] = {}
    for orderer, execution_uid in keys:
        rows = conn.execute(
            """
            SELECT id, node_id, request_digest
            FROM job_executions
            WHERE ordering_peer_id = :orderer
              AND execution_uid = :execution_uid
            """,
            {"orderer": orderer, "execution_uid": execution_uid},
        )
        for job_id, node_id, digest in rows:
            found[NodeId(node_id)] = JobExecutionId(job_id), digest
    return found


def _new_row(job: NewJob, *, now: datetime) -> dict[str, object]:
    request, plan, bounds = job.request, job.request.plan, job.request.bounds
    waits = [
        {"connection_id": wait.connection_id, "from_node_id": wait.from_node_id} for wait in plan.constraint_detail
    ]
    return {
        "workflow_job_id": request.workflow_job_id if request.workflow_execution_id is not None else None,
        "service_id": plan.service_id,
        "executor": plan.executor_peer_id,
        "orderer": request.orchestrator_peer_id,
        "entrypoint": _words_text(plan.entrypoint),
        "commands": _words_text(plan.cmd),
        "constraint": plan.execution_constraint,
        "detail": json.dumps(waits),
        "execution_id": request.workflow_execution_id,
        "order_workflow_job_id": request.workflow_job_id,
        "execution_uid": request.execution_uid,
        "node_id": plan.node_id,
        "digest": job.digest,
        "job_name": plan.name,
        "service_name": plan.service_name,
        "service_type": plan.service_type,
        "revision": job.service_revision,
        "now": to_text(now),
        "start_by": to_text(now + timedelta(seconds=request.start_by_s)),
        "max_runtime_s": request.max_runtime_s,
        "remote_id": job.remote_job_execution_id,
        "deadline_at": None if bounds is None else to_text(now + timedelta(seconds=bounds.deadline_s)),
        "transfer_idle_s": None if bounds is None else bounds.transfer_idle_s,
        "hold_s": None if bounds is None or request.workflow_execution_id is not None else bounds.hold_s,
    }


def _new_head(request: JobRequest, job_id: JobExecutionId) -> JobHead:
    return JobHead(
        id=job_id,
        job_name=request.plan.name,
        node_id=request.plan.node_id,
        service_type=request.plan.service_type,
        status=JobStatus.IDLE,
        workflow_job_id=request.workflow_job_id if request.workflow_execution_id is not None else None,
        workflow_execution_id=request.workflow_execution_id,
        execution_uid=request.execution_uid,
        ordering_peer_id=request.orchestrator_peer_id,
    )


def mark_started(
    conn: sqlite3.Connection, job_execution_ids: Sequence[JobExecutionId]
) -> dict[JobExecutionId, ExecutionConstraint]:
    """Record start commands; return the jobs that had none before and have not ended, with what each waits for."""
    rows = conn.execute(
        """
        UPDATE job_executions
        SET start_received = 1
        WHERE id IN (SELECT value FROM json_each(:ids))
          AND start_received = 0
          AND status = 'IDLE'
        RETURNING id, execution_constraint
        """,
        {"ids": json.dumps(job_execution_ids)},
    )
    return {JobExecutionId(job_id): ExecutionConstraint(constraint) for job_id, constraint in rows}


def mark_started_elsewhere(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> None:
    """Record that the executor of a job has its start command; the job may have gone on, or ended, meanwhile."""
    conn.execute(
        "UPDATE job_executions SET start_received = 1 WHERE id = ? AND start_received = 0", (job_execution_id,)
    )


def mark_all_ready(
    conn: sqlite3.Connection, job_execution_ids: Sequence[JobExecutionId], *, now: datetime
) -> list[JobHead]:
    """IDLE -> READY for jobs that are started and wait for nothing; return those that moved, in the given order."""
    rows = conn.execute(
        """
        UPDATE job_executions
        SET status = 'READY', settled_status = 'READY'
        WHERE id IN (SELECT value FROM json_each(:ids))
          AND status = 'IDLE'
          AND start_received = 1
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, execution_uid,
                  ordering_peer_id
        """,
        {"ids": json.dumps(job_execution_ids)},
    ).fetchall()
    moved = {row["id"]: _head(row) for row in rows}
    heads = [moved[job_id] for job_id in job_execution_ids if job_id in moved]
    _announce(conn, heads, None, now=now)
    return heads


def mark_all_running(
    conn: sqlite3.Connection, claims: Sequence[tuple[JobExecution, datetime]], *, now: datetime
) -> None:
    """READY -> RUNNING, the claim of workers: jobs, each with its `run_by`. Raises `StaleState` if one is not READY."""
    moved = conn.executemany(
        """
        UPDATE job_executions
        SET status = 'RUNNING', settled_status = 'RUNNING', started_at = ?, run_by = ?, not_before = NULL
        WHERE id = ?
          AND status = 'READY'
        """,
        [(to_text(now), to_text(run_by), job.id) for job, run_by in claims],
    ).rowcount
    if claims and moved != len(claims):
        raise StaleState(f"{len(claims) - moved} of {len(claims)} jobs to run are not READY")
    _announce(conn, [replace(head_of(job), status=JobStatus.RUNNING) for job, _ in claims], None, now=now)


def record_images(conn: sqlite3.Connection, images: Sequence[tuple[JobExecutionId, str]]) -> None:
    """Write down the image that each of these jobs runs, by its digest or id."""
    conn.executemany(
        """
        UPDATE job_executions
        SET image_digest = ?
        WHERE id = ?
        """,
        [(image, job_id) for job_id, image in images],
    )


def mark_pulling(conn: sqlite3.Connection, job: JobExecution, *, pull_by: datetime) -> None:
    """Note that the image of a RUNNING attempt is being pulled; its own time does not pass meanwhile. Raises `StaleState`."""
    _set_bounds(conn, job, run_by=None, pull_by=pull_by)


def mark_pulled(conn: sqlite3.Connection, job: JobExecution, *, run_by: datetime) -> None:
    """Note that the image of a RUNNING attempt is here; its own time begins. Raises `StaleState`."""
    _set_bounds(conn, job, run_by=run_by, pull_by=None)


def _set_bounds(
    conn: sqlite3.Connection, job: JobExecution, *, run_by: datetime | None, pull_by: datetime | None
) -> None:
    moved = conn.execute(
        """
        UPDATE job_executions
        SET run_by = :run_by, pull_by = :pull_by
        WHERE id = :id
          AND status = 'RUNNING'
          AND attempt = :attempt
        """,
        {"id": job.id, "attempt": job.attempt, "run_by": text_or_none(run_by), "pull_by": text_or_none(pull_by)},
    ).rowcount
    if moved == 0:
        raise StaleState(f"attempt {job.attempt} of job {job.id} is not RUNNING")


def mark_ready_again(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, error: str, not_before: datetime, now: datetime
) -> JobHead:
    """RUNNING -> READY for another attempt, not before a time. Raises `StaleState`."""
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = 'READY', settled_status = 'READY', attempt = attempt + 1, not_before = :not_before,
            error_message = :error, run_by = NULL, pull_by = NULL
        WHERE id = :id
          AND status = 'RUNNING'
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, execution_uid,
                  ordering_peer_id
        """,
        {"id": job_execution_id, "error": error, "not_before": to_text(not_before)},
    ).fetchone()
    return _moved(conn, row, error, what=f"job {job_execution_id} is not RUNNING", now=now)


def mark_completed(
    conn: sqlite3.Connection,
    job_execution_id: JobExecutionId,
    *,
    exit_code: int | None,
    remark: str | None = None,
    now: datetime,
) -> JobHead:
    """RUNNING -> COMPLETED. Raises `StaleState`."""
    end = JobEnd(exit_code=exit_code, remark=remark)
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
    conn: sqlite3.Connection,
    job_execution_id: JobExecutionId,
    *,
    origin: ExecutionId | ExecutionUid,
    service_revision: int,
    image_digest: str | None,
    now: datetime,
) -> JobHead:
    """IDLE -> COMPLETED with the outputs of the same node in an earlier execution, made by that revision and that image.

    `origin` is that execution's id; its uid where another peer has ordered the job, which its start has yet to reach.
    Raises `StaleState`.
    """
    result = f"{REUSED}{origin}"
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = 'COMPLETED', settled_status = 'COMPLETED', start_received = workflow_job_id IS NOT NULL,
            started_at = :now, ended_at = :now, result = :result, service_revision = :revision,
            image_digest = :image_digest
        WHERE id = :id
          AND status = 'IDLE'
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, execution_uid,
                  ordering_peer_id
        """,
        {
            "id": job_execution_id,
            "now": to_text(now),
            "result": result,
            "revision": service_revision,
            "image_digest": image_digest,
        },
    ).fetchone()
    head = _moved(conn, row, None, what=f"job {job_execution_id} is not IDLE", now=now)
    conn.execute(
        "UPDATE workflow_jobs SET result = :result WHERE id = :id", {"id": head.workflow_job_id, "result": result}
    )
    return head


def mark_reused_started(conn: sqlite3.Connection, job_execution_ids: Sequence[JobExecutionId]) -> list[JobExecutionId]:
    """Record the start commands of jobs that an earlier execution's outputs have completed; return those that had none."""
    rows = conn.execute(
        """
        UPDATE job_executions
        SET start_received = 1
        WHERE id IN (SELECT value FROM json_each(:ids))
          AND start_received = 0
          AND status = 'COMPLETED'
          AND result IS NOT NULL
        RETURNING id
        """,
        {"ids": json.dumps(job_execution_ids)},
    )
    return sorted(JobExecutionId(row[0]) for row in rows)


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
        execution_uid=job.execution_uid,
        ordering_peer_id=job.ordering_peer_id,
    )


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


def mirror_status(
    conn: sqlite3.Connection,
    job_execution_id: JobExecutionId,
    status: JobStatus,
    *,
    attempt: int,
    error: str | None,
    exit_code: int | None,
    exit_signal: int | None,
    started_at: datetime | None,
    ended_at: datetime | None,
    remark: str | None = None,
    image_digest: str | None = None,
    now: datetime,
) -> JobHead:
    """Take over the status that a job's executor has reported. Raises `StaleState` where the mirror has ended.

    What is READY or RUNNING has been started: its report may come before the answer to the start command does.
    """
    is_open = status in (JobStatus.IDLE, JobStatus.READY, JobStatus.RUNNING)
    row = conn.execute(
        """
        UPDATE job_executions
        SET status = :status, settled_status = :status, attempt = :attempt, error_message = :error,
            exit_code = :exit_code, exit_signal = :exit_signal, started_at = COALESCE(:started_at, started_at),
            ended_at = :ended_at, remark = :remark, image_digest = COALESCE(:image_digest, image_digest),
            start_received = MAX(start_received, :status IN ('READY', 'RUNNING'))
        WHERE id = :id
          AND status IN ('IDLE', 'READY', 'RUNNING')
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, execution_uid,
                  ordering_peer_id
        """,
        {
            "id": job_execution_id,
            "status": status,
            "remark": remark,
            "image_digest": image_digest,
            "attempt": attempt,
            "error": error,
            "exit_code": exit_code,
            "exit_signal": exit_signal,
            "started_at": None if started_at is None else to_text(started_at),
            "ended_at": None if is_open else to_text(ended_at or now),
        },
    ).fetchone()
    return _moved(conn, row, error, what=f"job {job_execution_id} has ended", now=now)


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
        RETURNING id, job_name, node_id, service_type, status, workflow_job_id, workflow_execution_id, execution_uid,
                  ordering_peer_id, error_message
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
            "remark": end.remark,
        },
    ).fetchone()
    what = f"job {job_execution_id} is not {' or '.join(old)}"
    return _moved(conn, row, end.error, what=what, now=now)


def _moved(
    conn: sqlite3.Connection, row: sqlite3.Row | None, error: str | None, *, what: str, now: datetime
) -> JobHead:
    if row is None:
        raise StaleState(what)
    head = _head(row)
    _announce(conn, [head], error, now=now)
    return head


def _head(row: sqlite3.Row) -> JobHead:
    workflow_job_id, execution_id = row["workflow_job_id"], row["workflow_execution_id"]
    return JobHead(
        id=JobExecutionId(row["id"]),
        job_name=row["job_name"],
        node_id=NodeId(row["node_id"]),
        service_type=ServiceType(row["service_type"]),
        status=JobStatus(row["status"]),
        workflow_job_id=None if workflow_job_id is None else WorkflowJobId(workflow_job_id),
        workflow_execution_id=None if execution_id is None else ExecutionId(execution_id),
        execution_uid=ExecutionUid(row["execution_uid"]),
        ordering_peer_id=PeerId(row["ordering_peer_id"]),
    )


def _announce(conn: sqlite3.Connection, heads: Sequence[JobHead], error: str | None, *, now: datetime) -> None:
    """Carry a move to the orchestrator's rows, here or on another peer, and write its events."""
    for head in heads:
        is_told_by_the_answer = head.status is JobStatus.IDLE
        if head.workflow_job_id is None and not is_told_by_the_answer:
            post_report(conn, head.id, now=now)
    conn.executemany(
        """
        UPDATE workflow_jobs
        SET status = ?, error = ?
        WHERE id = ?
        """,
        [(head.status.value, error, head.workflow_job_id) for head in heads if head.workflow_job_id is not None],
    )
    record_events(
        conn,
        EventType.JOB_UPDATED,
        [
            (
                {
                    "job_execution_id": head.id,
                    "execution_id": head.workflow_execution_id,
                    "node_id": head.node_id,
                    "job_name": head.job_name,
                    "status": head.status.value,
                    "error": error,
                },
                head.workflow_execution_id,
            )
            for head in heads
        ],
        now=now,
    )


def _words_text(words: tuple[str, ...] | None) -> str | None:
    return None if words is None else json.dumps(words)
