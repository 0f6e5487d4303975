"""What is told of an execution, from its order to its end."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from rnd.database import events, workflow_executions, workflows
from rnd.types.enums import EventType, ExecutionStatus
from rnd.types.ids import ExecutionUid
from rnd.types.orders import ExecutionOrder


def test_every_event_of_an_execution_names_its_workflow(conn: sqlite3.Connection, now: datetime) -> None:
    workflow = workflows.create_workflow(conn, name="told", description="", now=now)
    order = ExecutionOrder(
        workflow_id=workflow.id,
        workflow_name="told",
        definition="{}",
        execution_uid=ExecutionUid("0" * 32),
        retry_of=None,
        start_by_s=60.0,
        max_runtime_s=60.0,
        transfer_idle_s=5.0,
        hold_s=30.0,
        workflow_deadline_s=60.0,
    )
    execution = workflow_executions.create_execution(conn, order, now=now)
    workflow_executions.mark_running(conn, execution.id, now=now)
    cancel_by = now + timedelta(seconds=60)
    workflow_executions.request_cancel(conn, execution.id, reason="enough", cancel_by=cancel_by, now=now)
    workflow_executions.mark_ended(conn, execution.id, ExecutionStatus.CANCELLED, "enough", now=now)
    conn.execute("UPDATE workflow_executions SET status = 'COMPLETED' WHERE id = :id", {"id": execution.id})
    (by_hand,) = workflow_executions.list_unsettled_executions(conn)
    workflow_executions.settle_by_hand(conn, by_hand, now=now)
    told = events.list_events(conn, after_seq=0, types=frozenset({EventType.EXECUTION_UPDATED}), limit=10)
    assert [(event.data["workflow_id"], event.data["status"]) for event in told] == [
        (workflow.id, "PENDING"),
        (workflow.id, "RUNNING"),
        (workflow.id, "RUNNING"),
        (workflow.id, "CANCELLED"),
        (workflow.id, "COMPLETED"),
    ]
