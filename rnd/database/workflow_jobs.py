"""The orchestrator's view of an execution's jobs: table `workflow_jobs` (document: State Management)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rnd.types.definitions import WorkflowDefinition
from rnd.types.enums import ServiceType, WorkflowJobStatus
from rnd.types.executions import STILL_AFTER, WorkflowExecution, WorkflowJob
from rnd.types.ids import (
    ExecutionId,
    ExecutionUid,
    JobExecutionId,
    NodeId,
    PeerId,
    ServiceId,
    WorkflowId,
    WorkflowJobId,
)
from rnd.types.times import to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an execution is: jobs that ended of all, and bytes delivered of those known to travel.

    `rate_bytes_s` is that of the deliveries under way together, `left_s` how long what is known to travel takes at it.
    """

    jobs_total: int
    jobs_terminal: int
    bytes_total: int
    bytes_done: int
    transfers_active: int
    rate_bytes_s: float
    left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """How many jobs an execution has, and how many of them ended."""

    jobs_total: int = 0
    jobs_terminal: int = 0


def create_workflow_jobs(
    conn: sqlite3.Connection, execution: WorkflowExecution, definition: WorkflowDefinition
) -> list[WorkflowJob]:
    """Create a PENDING row for each job of the definition, in its order; rows that exist are left as they are."""
    conn.executemany(
        """
        INSERT INTO workflow_jobs (
            workflow_execution_id, workflow_id, node_id, job_name, service_id, service_type, executor_peer_id, status
        )
        VALUES (:execution_id, :workflow_id, :node_id, :job_name, :service_id, :service_type, :executor, 'PENDING')
        ON CONFLICT (workflow_execution_id, node_id) DO NOTHING
        """,
        [
            {
                "execution_id": execution.id,
                "workflow_id": execution.workflow_id,
                "node_id": job.node_id,
                "job_name": job.name,
                "service_id": job.service_id,
                "service_type": job.service_type,
                "executor": job.executor_peer_id,
            }
            for job in definition.jobs
        ],
    )
    return list_workflow_jobs(conn, execution.id)


def list_workflow_jobs(conn: sqlite3.Connection, execution_id: ExecutionId) -> list[WorkflowJob]:
    """Return an execution's jobs in the order of its definition."""
    rows = conn.execute(
        """
        SELECT wj.id, wj.workflow_execution_id, wj.workflow_id, wj.node_id, wj.job_name, wj.service_id,
               wj.executor_peer_id, wj.remote_job_execution_id, wj.status, wj.result, wj.error, wj.service_type,
               je.id AS job_execution_id
        FROM workflow_jobs AS wj
        LEFT JOIN job_executions AS je ON je.workflow_job_id = wj.id
        WHERE wj.workflow_execution_id = :id
        ORDER BY wj.id
        """,
        {"id": execution_id},
    ).fetchall()
    return [_workflow_job(row) for row in rows]


def find_uncreated_job(conn: sqlite3.Connection, execution_id: ExecutionId, node_id: NodeId) -> WorkflowJob | None:
    """Return the job of a node that has no row on any executor; `None` where it has one, or there is no such node."""
    jobs = (job for job in list_workflow_jobs(conn, execution_id) if job.node_id == node_id)
    return next((job for job in jobs if job.job_execution_id is None), None)


def is_awaited(conn: sqlite3.Connection, *, execution_uid: ExecutionUid, node_id: NodeId, executor: PeerId) -> bool:
    """Say whether an open execution has asked a peer for a job that it has no mirror of yet."""
    row = conn.execute(
        """
        SELECT 1
        FROM workflow_executions AS we
        JOIN workflow_jobs AS wj ON wj.workflow_execution_id = we.id
        WHERE we.execution_uid = :execution_uid
          AND wj.node_id = :node_id
          AND wj.executor_peer_id = :executor
          AND wj.status = 'PENDING'
        """,
        {"execution_uid": execution_uid, "node_id": node_id, "executor": executor},
    ).fetchone()
    return row is not None


def list_pending_elsewhere(
    conn: sqlite3.Connection, execution_id: ExecutionId, *, self_peer_id: PeerId
) -> list[tuple[PeerId, NodeId]]:
    """Return the jobs that other peers may have created without this peer having heard of it."""
    rows = conn.execute(
        """
        SELECT executor_peer_id, node_id
        FROM workflow_jobs
        WHERE workflow_execution_id = :id
          AND status = 'PENDING'
          AND executor_peer_id <> :self_peer_id
        """,
        {"id": execution_id, "self_peer_id": self_peer_id},
    ).fetchall()
    return [(PeerId(row["executor_peer_id"]), NodeId(row["node_id"])) for row in rows]


def note_wait(conn: sqlite3.Connection, workflow_job_id: WorkflowJobId, words: str | None) -> None:
    """Say why a job is not created or not started yet; `None` takes that back. What has moved on has other words."""
    conn.execute(
        """
        UPDATE workflow_jobs
        SET error = :words
        WHERE id = :id
          AND status IN ('PENDING', 'IDLE')
        """,
        {"id": workflow_job_id, "words": words},
    )


def find_wait(conn: sqlite3.Connection, workflow_job_id: WorkflowJobId) -> str:
    """Return why a job is not created or not started yet; "" where nobody knows of a reason."""
    row = conn.execute(
        """
        SELECT error
        FROM workflow_jobs
        WHERE id = :id
          AND status IN ('PENDING', 'IDLE')
        """,
        {"id": workflow_job_id},
    ).fetchone()
    return "" if row is None else row[0] or ""


def fail_pending_jobs(conn: sqlite3.Connection, execution_id: ExecutionId, error: str) -> None:
    """End the rows of jobs that never came to exist on their executor."""
    conn.execute(
        """
        UPDATE workflow_jobs
        SET status = 'CANCELLED', error = :error
        WHERE workflow_execution_id = :id
          AND status = 'PENDING'
        """,
        {"id": execution_id, "error": error},
    )


def execution_progress(conn: sqlite3.Connection, execution_id: ExecutionId, *, now: datetime) -> Progress:
    """Return how far an execution is."""
    jobs = conn.execute(
        """
        SELECT COUNT(*), COALESCE(SUM(status IN ('COMPLETED', 'ERRORED', 'CANCELLED')), 0)
        FROM workflow_jobs
        WHERE workflow_execution_id = :id
        """,
        {"id": execution_id},
    ).fetchone()
    moved = conn.execute(
        """
        SELECT COALESCE(SUM(size_bytes), 0), COALESCE(SUM(bytes_done), 0), COALESCE(SUM(status = 'ACTIVE'), 0),
               COALESCE(SUM(rate_bytes_s) FILTER (WHERE status = 'ACTIVE' AND progress_at > :heard_after), 0.0)
        FROM transfers
        WHERE workflow_execution_id = :id
        """,
        {"id": execution_id, "heard_after": to_text(now - STILL_AFTER)},
    ).fetchone()
    total, done, active, rate = moved
    return Progress(
        jobs_total=jobs[0],
        jobs_terminal=jobs[1],
        bytes_total=total,
        bytes_done=done,
        transfers_active=active,
        rate_bytes_s=round(rate, 1),
        left_s=round((total - done) / rate, 1) if rate else None,
    )


def count_jobs(conn: sqlite3.Connection, execution_ids: Sequence[ExecutionId]) -> dict[ExecutionId, JobCounts]:
    """Return for each of these executions how many jobs it has and how many ended; one without jobs is left out."""
    rows = conn.execute(
        """
        SELECT workflow_execution_id, COUNT(*), SUM(status IN ('COMPLETED', 'ERRORED', 'CANCELLED'))
        FROM workflow_jobs
        WHERE workflow_execution_id IN (
            SELECT value
            FROM json_each(:ids)
        )
        GROUP BY workflow_execution_id
        """,
        {"ids": json.dumps(execution_ids)},
    )
    return {ExecutionId(row[0]): JobCounts(jobs_total=row[1], jobs_terminal=row[2] or 0) for row in rows}


def _workflow_job(row: sqlite3.Row) -> WorkflowJob:
    remote, job = row["remote_job_execution_id"], row["job_execution_id"]
    return WorkflowJob(
        id=WorkflowJobId(row["id"]),
        job_execution_id=None if job is None else JobExecutionId(job),
        workflow_execution_id=ExecutionId(row["workflow_execution_id"]),
        workflow_id=None if row["workflow_id"] is None else WorkflowId(row["workflow_id"]),
        node_id=NodeId(row["node_id"]),
        job_name=row["job_name"],
        service_id=ServiceId(row["service_id"]),
        service_type=ServiceType(row["service_type"]),
        executor_peer_id=PeerId(row["executor_peer_id"]),
        remote_job_execution_id=None if remote is None else JobExecutionId(remote),
        status=WorkflowJobStatus(row["status"]),
        result=row["result"],
        error=row["error"],
    )
