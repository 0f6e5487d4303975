"""How jobs stand, told from the executor to the orchestrator (document: Periodic Status Updates).

On the executor every change of a job that another peer ordered posts its report in the same transaction; on the
orchestrator a report is carried into the mirror of that job. `status_seq` keeps late and repeated reports from counting.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Final

from rnd.database import outbox
from rnd.database.rows import moment_or_none
from rnd.protocol.codec import fields_of
from rnd.protocol.job_messages import JobStatusUpdate
from rnd.types.enums import JobStatus
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, NodeId, PeerId
from rnd.types.orders import JobStatusReport

_SELECT = """
    SELECT je.id, je.execution_uid, je.node_id, je.attempt, je.status_seq, je.status, je.error_message, je.exit_code,
           je.exit_signal, je.remark, je.image_digest, je.started_at, je.ended_at, (
               SELECT json_group_array(jip.connection_id)
               FROM job_interfaces AS ji
               JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
               WHERE ji.job_execution_id = je.id
                 AND jip.duty_acknowledged = 1
           ) AS duties
    FROM job_executions AS je
"""

_OF_ORDER: Final = """
    WHERE je.ordering_peer_id = :orderer
      AND je.execution_uid = :execution_uid
      AND je.node_id IN (SELECT value FROM json_each(:node_ids))
    ORDER BY je.node_id
"""


def post_report(conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, now: datetime) -> None:
    """Have the peer that ordered a job told how it stands now; nothing for a job of an own execution."""
    row = conn.execute(
        """
        UPDATE job_executions
        SET status_seq = status_seq + 1
        WHERE id = :id
          AND workflow_job_id IS NULL
        RETURNING ordering_peer_id
        """,
        {"id": job_execution_id},
    ).fetchone()
    if row is None:
        return
    report = _report(conn.execute(_SELECT + "WHERE je.id = :id", {"id": job_execution_id}).fetchone())
    key = f"{report.execution_uid}/{report.node_id}"
    outbox.post(conn, PeerId(row[0]), JobStatusUpdate.type, key, fields_of(JobStatusUpdate(report=report)), now=now)


def list_reports(
    conn: sqlite3.Connection, *, orderer: PeerId, execution_uid: ExecutionUid, node_ids: list[NodeId]
) -> list[JobStatusReport]:
    """Return how the named jobs of another peer's execution stand here; those that are not here are left out."""
    rows = conn.execute(
        _SELECT + _OF_ORDER,
        {"orderer": orderer, "execution_uid": execution_uid, "node_ids": json.dumps(node_ids)},
    ).fetchall()
    return [_report(row) for row in rows]


def _report(row: sqlite3.Row) -> JobStatusReport:
    return JobStatusReport(
        execution_uid=ExecutionUid(row["execution_uid"]),
        node_id=NodeId(row["node_id"]),
        job_execution_id=JobExecutionId(row["id"]),
        attempt=row["attempt"],
        seq=row["status_seq"],
        status=JobStatus(row["status"]),
        error_message=row["error_message"],
        exit_code=row["exit_code"],
        exit_signal=row["exit_signal"],
        started_at=moment_or_none(row["started_at"]),
        ended_at=moment_or_none(row["ended_at"]),
        duties=tuple(ConnectionId(number) for number in sorted(json.loads(row["duties"]))),
        remark=row["remark"],
        image_digest=row["image_digest"],
    )
