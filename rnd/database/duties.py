"""What this peer waits to receive from another: open duties, found by the name that both ends know a delivery by."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionId,
    ExecutionUid,
    InterfacePeerId,
    JobExecutionId,
    PeerId,
    ResultId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDuty:
    """The receiving end of a connection that has not got what it waits for: a job of this peer, or its self-peer.

    `job_execution_id` is 0 for the self-peer; then `result_id` is set, and `source_job_execution_id` is the job that sends,
    as its executor calls it. `interface_peer_id` is the job's own row.
    """

    job_execution_id: JobExecutionId
    interface_peer_id: InterfacePeerId | None
    result_id: ResultId | None
    workflow_execution_id: ExecutionId | None
    is_done: bool
    source_job_execution_id: JobExecutionId | None = None


def find_duty(
    conn: sqlite3.Connection,
    sender: PeerId,
    *,
    self_peer_id: PeerId,
    orderer: PeerId,
    execution_uid: ExecutionUid,
    connection_id: ConnectionId,
) -> OpenDuty | None:
    """Return what waits here for a delivery of `sender`, done or not; `None` if nothing does or did.

    A job has to be started or reused, to be of this order, and to name the sender; the self-peer takes only what its own
    executions wait for.
    """
    row = conn.execute(
        """
        SELECT je.id AS job_id, jip.id AS row_id, jip.duty_acknowledged, je.workflow_execution_id, je.status
        FROM job_executions AS je
        JOIN job_interfaces AS ji ON ji.job_execution_id = je.id
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE je.ordering_peer_id = :orderer
          AND je.execution_uid = :execution_uid
          AND je.executor_peer_id = :self_peer_id
          AND (je.start_received = 1 OR jip.duty_acknowledged = 1)
          AND jip.connection_id = :connection_id
          AND jip.peer_mount_function = 'OUTPUT'
          AND jip.peer_id = :sender
        """,
        {
            "orderer": orderer,
            "execution_uid": execution_uid,
            "self_peer_id": self_peer_id,
            "connection_id": connection_id,
            "sender": sender,
        },
    ).fetchone()
    if row is not None:
        is_done = bool(row["duty_acknowledged"])
        if not is_done and row["status"] != "IDLE":
            return None
        execution_id = row["workflow_execution_id"]
        return OpenDuty(
            job_execution_id=JobExecutionId(row["job_id"]),
            interface_peer_id=InterfacePeerId(row["row_id"]),
            result_id=None,
            workflow_execution_id=None if execution_id is None else ExecutionId(execution_id),
            is_done=is_done,
        )
    return _find_result(conn, sender, execution_uid, connection_id) if orderer == self_peer_id else None


def _find_result(
    conn: sqlite3.Connection, sender: PeerId, execution_uid: ExecutionUid, connection_id: ConnectionId
) -> OpenDuty | None:
    row = conn.execute(
        """
        SELECT r.id, r.workflow_execution_id, r.duty_acknowledged, r.error, je.remote_job_execution_id
        FROM workflow_executions AS we
        JOIN results AS r ON r.workflow_execution_id = we.id
        JOIN job_executions AS je ON je.id = r.source_job_execution_id
        WHERE we.execution_uid = :execution_uid
          AND r.connection_id = :connection_id
          AND r.source_peer_id = :sender
        """,
        {"execution_uid": execution_uid, "connection_id": connection_id, "sender": sender},
    ).fetchone()
    if row is None or (row["error"] is not None and not row["duty_acknowledged"]):
        return None
    return OpenDuty(
        job_execution_id=SELF_PEER_JOB,
        interface_peer_id=None,
        result_id=ResultId(row["id"]),
        workflow_execution_id=ExecutionId(row["workflow_execution_id"]),
        is_done=bool(row["duty_acknowledged"]),
        source_job_execution_id=row["remote_job_execution_id"],
    )


def is_unstarted(
    conn: sqlite3.Connection,
    sender: PeerId,
    *,
    self_peer_id: PeerId,
    orderer: PeerId,
    execution_uid: ExecutionUid,
    connection_id: ConnectionId,
) -> bool:
    """Say whether a job of this peer will wait for a delivery of `sender` once it is started."""
    row = conn.execute(
        """
        SELECT 1
        FROM job_executions AS je
        JOIN job_interfaces AS ji ON ji.job_execution_id = je.id
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE je.ordering_peer_id = :orderer
          AND je.execution_uid = :execution_uid
          AND je.executor_peer_id = :self_peer_id
          AND je.status = 'IDLE'
          AND je.start_received = 0
          AND jip.connection_id = :connection_id
          AND jip.peer_mount_function = 'OUTPUT'
          AND jip.peer_id = :sender
        """,
        {
            "orderer": orderer,
            "execution_uid": execution_uid,
            "self_peer_id": self_peer_id,
            "connection_id": connection_id,
            "sender": sender,
        },
    ).fetchone()
    return row is not None


def result_directory(conn: sqlite3.Connection, duty: OpenDuty) -> str:
    """Return where what the self-peer waits for goes, relative to the data directory."""
    row = conn.execute("SELECT directory FROM results WHERE id = :id", {"id": duty.result_id}).fetchone()
    return str(row[0])


def list_expected_senders(conn: sqlite3.Connection, *, self_peer_id: PeerId) -> list[PeerId]:
    """Return the peers that are to send something to a started job of this peer, or home."""
    rows = conn.execute(
        """
        SELECT DISTINCT jip.peer_id
        FROM job_executions AS je
        JOIN job_interfaces AS ji ON ji.job_execution_id = je.id
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE je.status = 'IDLE'
          AND je.start_received = 1
          AND je.executor_peer_id = :self_peer_id
          AND jip.peer_mount_function = 'OUTPUT'
          AND jip.duty_acknowledged = 0
          AND jip.peer_id <> :self_peer_id
        UNION
        SELECT DISTINCT r.source_peer_id
        FROM workflow_executions AS we
        JOIN results AS r ON r.workflow_execution_id = we.id
        WHERE we.status IN ('PENDING', 'RUNNING')
          AND r.duty_acknowledged = 0
          AND r.error IS NULL
          AND r.source_peer_id <> :self_peer_id
        """,
        {"self_peer_id": self_peer_id},
    ).fetchall()
    return [PeerId(row[0]) for row in rows]
