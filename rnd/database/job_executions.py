"""Jobs on their executor, and the mirror of jobs elsewhere: what table `job_executions` says of them.

How they come to be and move is in `job_moves.py`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime
from typing import Final

from rnd.database.rows import Matching, moment_or_none, read_page
from rnd.rules.reuse import reused_execution, reused_order
from rnd.types.enums import ExecutionConstraint, JobStatus, ServiceType
from rnd.types.errors import NotFound
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
from rnd.types.pages import Page
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, workflow_job_id, service_id, executor_peer_id, ordering_peer_id, remote_job_execution_id, status,
           entrypoint, commands, execution_constraint, constraint_detail, start_received, started_at, ended_at,
           error_message, workflow_execution_id, order_workflow_job_id, execution_uid, node_id, attempt, job_name,
           service_name, service_type, service_revision, created_at, start_by, max_runtime_s, run_by, pull_by,
           image_digest, exit_code, exit_signal, cancel_requested_at, result, remark, status_seq, deadline_at, transfer_idle_s, hold_s
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


def get_job(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> JobExecution:
    """Return one job. Raises `NotFound`."""
    row = conn.execute(_SELECT + "WHERE id = :id", {"id": job_execution_id}).fetchone()
    if row is None:
        raise NotFound(f"Job {job_execution_id} not found")
    return _job(row)


def standing_of(
    conn: sqlite3.Connection, job_ids: Collection[JobExecutionId]
) -> dict[JobExecutionId, tuple[JobStatus, int]]:
    """Return status and current attempt of those of these jobs that there are."""
    rows = conn.execute(
        """
        SELECT id, status, attempt
        FROM job_executions
        WHERE id IN (SELECT value FROM json_each(:ids))
        """,
        {"ids": json.dumps(sorted(job_ids))},
    )
    return {JobExecutionId(row["id"]): (JobStatus(row["status"]), row["attempt"]) for row in rows}


def find_job(conn: sqlite3.Connection, *, execution_id: ExecutionId, node_id: NodeId) -> JobExecution:
    """Return the job of a node in an own execution. Raises `NotFound`."""
    row = conn.execute(
        _SELECT + "WHERE workflow_execution_id = :execution_id AND node_id = :node_id",
        {"execution_id": execution_id, "node_id": node_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"Execution {execution_id} has no job for node {node_id}")
    return _job(row)


def find_order(
    conn: sqlite3.Connection, *, orderer: PeerId, execution_uid: ExecutionUid, node_id: NodeId, executor: PeerId
) -> JobExecution | None:
    """Return the job that a peer has ordered of another by its key; `None` if there is none."""
    row = conn.execute(
        _SELECT
        + """
        WHERE ordering_peer_id = :orderer
          AND execution_uid = :execution_uid
          AND node_id = :node_id
          AND executor_peer_id = :executor
        """,
        {"orderer": orderer, "execution_uid": execution_uid, "node_id": node_id, "executor": executor},
    ).fetchone()
    return None if row is None else _job(row)


def request_digest_of(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> str:
    """Return the fingerprint of the request that created a job; "" for what was not requested."""
    row = conn.execute("SELECT request_digest FROM job_executions WHERE id = :id", {"id": job_execution_id}).fetchone()
    return "" if row is None else str(row[0])


def count_open_of_orderer(conn: sqlite3.Connection, orderer: PeerId) -> int:
    """Return how many jobs that another peer has ordered have not ended."""
    row = conn.execute(
        """
        SELECT COUNT(*)
        FROM job_executions
        WHERE deadline_at IS NOT NULL
          AND status IN ('IDLE', 'READY', 'RUNNING')
          AND ordering_peer_id = :orderer
        """,
        {"orderer": orderer},
    ).fetchone()
    return int(row[0])


def list_open_of_orderer(conn: sqlite3.Connection, orderer: PeerId) -> list[JobExecutionId]:
    """Return the jobs that another peer has ordered and that have not ended."""
    rows = conn.execute(
        """
        SELECT id
        FROM job_executions
        WHERE deadline_at IS NOT NULL
          AND status IN ('IDLE', 'READY', 'RUNNING')
          AND ordering_peer_id = :orderer
        ORDER BY id
        """,
        {"orderer": orderer},
    ).fetchall()
    return [JobExecutionId(row[0]) for row in rows]


def list_overdue_orders(conn: sqlite3.Connection, *, executor: PeerId, now: datetime) -> list[JobExecution]:
    """Return the jobs that other peers ordered, that have not begun, and whose workflow's time is up."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE deadline_at IS NOT NULL
          AND status IN ('IDLE', 'READY', 'RUNNING')
          AND status <> 'RUNNING'
          AND executor_peer_id = :executor
          AND deadline_at < :now
        ORDER BY id
        """,
        {"executor": executor, "now": to_text(now)},
    ).fetchall()
    return [_job(row) for row in rows]


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
    matching = Matching(
        select=_SELECT,
        count=_COUNT,
        where=_MATCHING[status is not None, execution_id is not None],
        values={"status": status, "execution_id": execution_id},
    )
    return read_page(conn, matching, _job, limit=limit, after_id=after_id, newest_first=newest_first)


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


def list_ready_programs(conn: sqlite3.Connection, *, executor: PeerId, limit: int, now: datetime) -> list[JobExecution]:
    """Return the oldest READY jobs of this peer that run something and may start now."""
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
        {"executor": executor, "now": to_text(now), "limit": limit},
    ).fetchall()
    return [_job(row) for row in rows]


def list_ready_data(conn: sqlite3.Connection, *, executor: PeerId, limit: int) -> list[JobExecution]:
    """Return the oldest READY jobs of DATA services of this peer."""
    rows = conn.execute(
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
        {"executor": executor, "limit": limit},
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


def list_unsettled(conn: sqlite3.Connection) -> list[JobExecution]:
    """Return jobs, here or elsewhere, whose status the daemon has not acted on: those that a person changed."""
    rows = conn.execute(_SELECT + "WHERE status IS NOT settled_status ORDER BY id").fetchall()
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


def get_outputs_job(conn: sqlite3.Connection, job: JobExecution) -> JobExecution:
    """Return the job whose folder holds the outputs: the job itself, or the earlier one that it reuses. Raises `NotFound`."""
    execution_id, execution_uid = reused_execution(job), reused_order(job)
    if execution_id is not None:
        return find_job(conn, execution_id=execution_id, node_id=job.node_id)
    if execution_uid is None:
        return job
    found = find_order(
        conn,
        orderer=job.ordering_peer_id,
        execution_uid=execution_uid,
        node_id=job.node_id,
        executor=job.executor_peer_id,
    )
    if found is None:
        raise NotFound(f"The job whose outputs job {job.id} reuses is not here any more")
    return found


def not_before(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> datetime | None:
    """Return the time before which another attempt must not begin; `None` if nothing holds it back."""
    row = conn.execute("SELECT not_before FROM job_executions WHERE id = :id", {"id": job_execution_id}).fetchone()
    return None if row is None else moment_or_none(row[0])


def cancel_reason(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> str | None:
    """Return why a job is to be cancelled; `None` if nobody has asked."""
    row = conn.execute("SELECT cancel_reason FROM job_executions WHERE id = :id", {"id": job_execution_id}).fetchone()
    return None if row is None else row[0]


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
        service_revision=row["service_revision"],
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
        pull_by=moment_or_none(row["pull_by"]),
        image_digest=row["image_digest"],
        error_message=row["error_message"],
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
        cancel_requested_at=moment_or_none(row["cancel_requested_at"]),
        result=row["result"],
        remark=row["remark"],
        status_seq=row["status_seq"],
        deadline_at=moment_or_none(row["deadline_at"]),
        transfer_idle_s=row["transfer_idle_s"],
        hold_s=row["hold_s"],
    )
