"""The orchestrator's mirrors: rows of `job_executions` for jobs of own executions that other peers execute.

A mirror moves only by what its executor reports, in one transaction with `workflow_jobs`; where that peer stays silent
past the execution's deadline it is given up here. Whether a row is a mirror shows in `remote_job_execution_id`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rnd.database import job_executions, job_interfaces, job_moves, outbox
from rnd.database.job_moves import JobHead, NewJob
from rnd.protocol.codec import fields_of
from rnd.protocol.job_messages import JobCancel
from rnd.types.executions import JobExecution
from rnd.types.ids import ConnectionId, ExecutionId, ExecutionUid, InterfacePeerId, JobExecutionId, NodeId, PeerId
from rnd.types.orders import JobRequest, JobStatusReport


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """The jobs of one own execution that one other peer has not reported the end of."""

    executor_peer_id: PeerId
    execution_uid: ExecutionUid
    node_ids: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedOrder:
    """A job that another peer has created on request, with the revision of its service there."""

    request: JobRequest
    remote_job_execution_id: JobExecutionId
    service_revision: int


def create_mirrors(
    conn: sqlite3.Connection, accepted: Sequence[AcceptedOrder], *, now: datetime
) -> list[JobExecutionId]:
    """Write the mirrors (IDLE) of jobs that other peers have created, with interfaces; repeating it changes nothing."""
    created = job_moves.create_jobs(
        conn,
        [
            NewJob(
                request=order.request,
                digest="",
                service_revision=order.service_revision,
                remote_job_execution_id=order.remote_job_execution_id,
            )
            for order in accepted
        ],
        now=now,
    )
    job_interfaces.create_interfaces(
        conn,
        (
            (job_id, order.request.plan.interfaces)
            for order, (job_id, is_new) in zip(accepted, created, strict=True)
            if is_new
        ),
    )
    return [job_id for job_id, _ in created]


def find_mirror(
    conn: sqlite3.Connection, *, self_peer_id: PeerId, execution_uid: ExecutionUid, node_id: NodeId, executor: PeerId
) -> JobExecution | None:
    """Return the mirror of a job that `executor` runs for this peer; `None` if it runs no such job."""
    row = conn.execute(
        """
        SELECT id
        FROM job_executions
        WHERE ordering_peer_id = :orderer
          AND execution_uid = :execution_uid
          AND node_id = :node_id
          AND executor_peer_id = :executor
          AND remote_job_execution_id IS NOT NULL
        """,
        {"orderer": self_peer_id, "execution_uid": execution_uid, "node_id": node_id, "executor": executor},
    ).fetchone()
    return None if row is None else job_executions.get_job(conn, JobExecutionId(row[0]))


def find_by_workflow_job(conn: sqlite3.Connection, workflow_job_id: int) -> JobExecution | None:
    """Return this peer's row of a job of an own execution; `None` before it exists."""
    row = conn.execute("SELECT id FROM job_executions WHERE workflow_job_id = :id", {"id": workflow_job_id}).fetchone()
    return None if row is None else job_executions.get_job(conn, JobExecutionId(row[0]))


def list_open_orders(conn: sqlite3.Connection, *, self_peer_id: PeerId) -> list[OpenOrder]:
    """Return what other peers still have to report the end of, an execution and a peer at a time."""
    rows = conn.execute(
        """
        SELECT executor_peer_id, execution_uid, json_group_array(node_id) AS node_ids
        FROM job_executions
        WHERE workflow_execution_id IN (SELECT id FROM workflow_executions WHERE status IN ('PENDING', 'RUNNING'))
          AND status IN ('IDLE', 'READY', 'RUNNING')
          AND executor_peer_id <> :self_peer_id
        GROUP BY executor_peer_id, execution_uid
        """,
        {"self_peer_id": self_peer_id},
    ).fetchall()
    return [
        OpenOrder(
            executor_peer_id=PeerId(row["executor_peer_id"]),
            execution_uid=ExecutionUid(row["execution_uid"]),
            node_ids=tuple(NodeId(node_id) for node_id in sorted(json.loads(row["node_ids"]))),
        )
        for row in rows
    ]


def list_neighbours(conn: sqlite3.Connection, executor: PeerId, *, self_peer_id: PeerId, limit: int) -> list[PeerId]:
    """Return the other executors with which one exchanges bytes in own executions that have not ended."""
    rows = conn.execute(
        """
        SELECT DISTINCT jip.peer_id
        FROM job_executions AS je
        JOIN job_interfaces AS ji ON ji.job_execution_id = je.id
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE je.workflow_execution_id IN (SELECT id FROM workflow_executions WHERE status IN ('PENDING', 'RUNNING'))
          AND je.executor_peer_id = :executor
          AND jip.peer_id NOT IN (:executor, :self_peer_id)
        ORDER BY jip.peer_id
        LIMIT :limit
        """,
        {"executor": executor, "self_peer_id": self_peer_id, "limit": limit},
    ).fetchall()
    return [PeerId(row[0]) for row in rows]


def list_open_of_execution(
    conn: sqlite3.Connection, execution_id: ExecutionId, *, self_peer_id: PeerId
) -> list[JobExecution]:
    """Return the mirrors of an own execution whose end nobody has reported."""
    return [
        job
        for job in job_executions.list_open_jobs_of_execution(conn, execution_id)
        if job.executor_peer_id != self_peer_id
    ]


def take_report(
    conn: sqlite3.Connection, mirror: JobExecution, report: JobStatusReport, *, now: datetime
) -> JobHead | None:
    """Carry a report that is newer than what is known into the mirror; return its head if its status moved.

    A mirror that has ended stays as it is.
    """
    changed = conn.execute(
        """
        UPDATE job_executions
        SET status_seq = :seq
        WHERE id = :id
          AND status_seq < :seq
          AND status IN ('IDLE', 'READY', 'RUNNING')
        """,
        {"id": mirror.id, "seq": report.seq},
    ).rowcount
    if not changed or (report.status is mirror.status and report.attempt == mirror.attempt):
        return None
    return job_moves.mirror_status(
        conn,
        mirror.id,
        report.status,
        attempt=report.attempt,
        error=report.error_message,
        exit_code=report.exit_code,
        exit_signal=report.exit_signal,
        started_at=report.started_at,
        ended_at=report.ended_at,
        remark=report.remark,
        image_digest=report.image_digest,
        now=now,
    )


def acknowledge(
    conn: sqlite3.Connection, mirror: JobExecution, duties: Sequence[ConnectionId]
) -> list[InterfacePeerId]:
    """Set the flags of duties that the executor's end knows to be done; return the rows that were not set before."""
    rows = conn.execute(
        """
        UPDATE job_interface_peers
        SET duty_acknowledged = 1
        WHERE job_interface_id IN (SELECT id FROM job_interfaces WHERE job_execution_id = :id)
          AND connection_id IN (SELECT value FROM json_each(:duties))
          AND duty_acknowledged = 0
        RETURNING id
        """,
        {"id": mirror.id, "duties": json.dumps(duties)},
    ).fetchall()
    return [InterfacePeerId(row[0]) for row in rows]


def ask_to_cancel(conn: sqlite3.Connection, mirror: JobExecution, reason: str, *, now: datetime) -> bool:
    """Record the wish to cancel a job elsewhere and have its executor told; False if it has ended."""
    if job_moves.request_cancel(conn, mirror.id, reason=reason, now=now) is None:
        return False
    post_cancel(conn, mirror.executor_peer_id, mirror.execution_uid, mirror.node_id, reason, now=now)
    return True


def post_cancel(
    conn: sqlite3.Connection,
    executor: PeerId,
    execution_uid: ExecutionUid,
    node_id: NodeId,
    reason: str,
    *,
    now: datetime,
) -> None:
    """Have a peer told to cancel a job, whether it has heard of it or not."""
    message = JobCancel(execution_uid=execution_uid, node_id=node_id, reason=reason)
    outbox.post(conn, executor, message.type, f"{execution_uid}/{node_id}", fields_of(message), now=now)
