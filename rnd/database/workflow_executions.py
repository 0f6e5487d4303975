"""Executions: table `workflow_executions` (document: State Management)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rnd.database.events import record_event
from rnd.database.rows import Matching, moment_or_none, read_page
from rnd.types.enums import EventType, ExecutionPhase, ExecutionStatus
from rnd.types.errors import Conflict, NotFound, StaleState
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import (
    ExecutionId,
    ExecutionUid,
    WorkflowId,
)
from rnd.types.orders import ExecutionOrder
from rnd.types.pages import Page
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, workflow_id, status, error, started_at, completed_at, workflow_name, execution_uid, phase,
           definition, retry_of, created_at, deadline_at, start_by_s, max_runtime_s, transfer_idle_s, cancel_requested_at,
           cancel_reason, cancel_by, cleared_at
    FROM workflow_executions
"""
_COUNT = "SELECT COUNT(*) FROM workflow_executions "
# One condition for each set of filters, so that each finds its index: (status given, workflow given).
_MATCHING: Final = {
    (False, False): "WHERE id > 0",
    (True, False): "WHERE status = :status",
    (False, True): "WHERE workflow_id = :workflow_id",
    (True, True): "WHERE workflow_id = :workflow_id AND status = :status",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionState:
    """The little of an execution that decides what happens to it next."""

    execution_uid: ExecutionUid
    status: ExecutionStatus
    phase: ExecutionPhase
    cancel_requested: bool
    cancel_by: datetime | None
    has_open_jobs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionBounds:
    """The deadlines of one execution, in seconds."""

    start_by_s: float
    max_runtime_s: float
    transfer_idle_s: float
    hold_s: float


def create_execution(conn: sqlite3.Connection, order: ExecutionOrder, *, now: datetime) -> WorkflowExecution:
    """Write down an accepted order as a PENDING execution, and its event."""
    created = conn.execute(
        """
        INSERT INTO workflow_executions (
            workflow_id, status, settled_status, workflow_name, execution_uid, phase, definition, retry_of,
            created_at, deadline_at, start_by_s, max_runtime_s, transfer_idle_s, hold_s
        )
        VALUES (
            :workflow_id, 'PENDING', 'PENDING', :workflow_name, :execution_uid, 'CREATING', :definition, :retry_of,
            :now, :deadline_at, :start_by_s, :max_runtime_s, :transfer_idle_s, :hold_s
        )
        RETURNING id
        """,
        {
            "workflow_id": order.workflow_id,
            "workflow_name": order.workflow_name,
            "execution_uid": order.execution_uid,
            "definition": order.definition,
            "retry_of": order.retry_of,
            "now": to_text(now),
            "deadline_at": to_text(now + timedelta(seconds=order.workflow_deadline_s)),
            "start_by_s": order.start_by_s,
            "max_runtime_s": order.max_runtime_s,
            "transfer_idle_s": order.transfer_idle_s,
            "hold_s": order.hold_s,
        },
    ).fetchone()
    execution = get_execution(conn, ExecutionId(created["id"]))
    _announce(conn, execution.id, execution.workflow_id, ExecutionStatus.PENDING, None, now=now)
    return execution


def get_execution(conn: sqlite3.Connection, execution_id: ExecutionId) -> WorkflowExecution:
    """Return one execution. Raises `NotFound`."""
    row = conn.execute(_SELECT + "WHERE id = :id", {"id": execution_id}).fetchone()
    if row is None:
        raise NotFound(f"Execution {execution_id} not found")
    return _execution(row)


def get_bounds(conn: sqlite3.Connection, execution_id: ExecutionId) -> ExecutionBounds:
    """Return the deadlines an execution was accepted with. Raises `NotFound`."""
    row = conn.execute(
        "SELECT start_by_s, max_runtime_s, transfer_idle_s, hold_s FROM workflow_executions WHERE id = :id",
        {"id": execution_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"Execution {execution_id} not found")
    return ExecutionBounds(start_by_s=row[0], max_runtime_s=row[1], transfer_idle_s=row[2], hold_s=row[3])


def list_executions(
    conn: sqlite3.Connection,
    *,
    workflow_id: WorkflowId | None = None,
    status: ExecutionStatus | None = None,
    limit: int,
    after_id: int = 0,
    newest_first: bool = False,
) -> Page[WorkflowExecution]:
    """Return executions in ascending id order, narrowed by workflow and status.

    With `newest_first` ids go down, and `after_id` is the one to go on below (0: from the newest).
    """
    matching = Matching(
        select=_SELECT,
        count=_COUNT,
        where=_MATCHING[status is not None, workflow_id is not None],
        values={"workflow_id": workflow_id, "status": status},
    )
    return read_page(conn, matching, _execution, limit=limit, after_id=after_id, newest_first=newest_first)


def list_open_executions(conn: sqlite3.Connection) -> list[WorkflowExecution]:
    """Return every execution that has not ended."""
    rows = conn.execute(_SELECT + "WHERE status IN ('PENDING', 'RUNNING') ORDER BY id").fetchall()
    return [_execution(row) for row in rows]


def list_overdue_executions(conn: sqlite3.Connection, *, now: datetime) -> list[WorkflowExecution]:
    """Return open executions whose workflow deadline, or whose time to confirm a cancel, has passed."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE status IN ('PENDING', 'RUNNING')
          AND (deadline_at < :now OR cancel_by < :now)
        ORDER BY id
        """,
        {"now": to_text(now)},
    ).fetchall()
    return [_execution(row) for row in rows]


def list_unfinished_cancels(conn: sqlite3.Connection) -> list[tuple[ExecutionId, str]]:
    """Return own executions that still have open jobs though they are to be cancelled or have ended, with the reason."""
    rows = conn.execute(
        """
        SELECT DISTINCT we.id, we.status, we.cancel_reason
        FROM job_executions AS je
        JOIN workflow_executions AS we ON we.id = je.workflow_execution_id
        WHERE je.status IN ('IDLE', 'READY', 'RUNNING')
          AND je.cancel_requested_at IS NULL
          AND (we.cancel_requested_at IS NOT NULL OR we.status NOT IN ('PENDING', 'RUNNING'))
        ORDER BY we.id
        """
    ).fetchall()
    return [(ExecutionId(row["id"]), row["cancel_reason"] or f"its execution is {row['status']}") for row in rows]


def list_deleted_with_open_jobs(conn: sqlite3.Connection) -> list[ExecutionId]:
    """Return the own executions whose row a person has deleted though jobs of them have not ended."""
    rows = conn.execute(
        """
        SELECT DISTINCT je.workflow_execution_id
        FROM job_executions AS je
        WHERE je.status IN ('IDLE', 'READY', 'RUNNING')
          AND je.cancel_requested_at IS NULL
          AND je.workflow_execution_id IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM workflow_executions WHERE id = je.workflow_execution_id)
        ORDER BY je.workflow_execution_id
        """
    ).fetchall()
    return [ExecutionId(row[0]) for row in rows]


def count_open(conn: sqlite3.Connection) -> int:
    """Return how many executions have not ended."""
    row = conn.execute("SELECT COUNT(*) FROM workflow_executions WHERE status IN ('PENDING', 'RUNNING')").fetchone()
    return int(row[0])


def list_unsettled_executions(conn: sqlite3.Connection) -> list[WorkflowExecution]:
    """Return executions whose status the daemon has not acted on: those that a person changed."""
    rows = conn.execute(_SELECT + "WHERE status IS NOT settled_status ORDER BY id").fetchall()
    return [_execution(row) for row in rows]


def count_by_status(conn: sqlite3.Connection) -> dict[str, int]:
    """Return how many executions stand in each status."""
    rows = conn.execute("SELECT status, COUNT(*) FROM workflow_executions GROUP BY status").fetchall()
    return {row[0]: row[1] for row in rows}


def mark_running(conn: sqlite3.Connection, execution_id: ExecutionId, *, now: datetime) -> None:
    """PENDING -> RUNNING. Raises `StaleState`."""
    changed = conn.execute(
        """
        UPDATE workflow_executions
        SET status = 'RUNNING', settled_status = 'RUNNING', started_at = :now
        WHERE id = :id
          AND status = 'PENDING'
        RETURNING workflow_id
        """,
        {"id": execution_id, "now": to_text(now)},
    ).fetchone()
    if changed is None:
        raise StaleState(f"execution {execution_id} is not PENDING")
    _announce(conn, execution_id, changed["workflow_id"], ExecutionStatus.RUNNING, None, now=now)


def set_phase(conn: sqlite3.Connection, execution_id: ExecutionId, phase: ExecutionPhase) -> None:
    """Record how far the two-phase start got. Raises `StaleState` where the execution has ended meanwhile."""
    changed = conn.execute(
        "UPDATE workflow_executions SET phase = :phase WHERE id = :id AND status = 'RUNNING'",
        {"id": execution_id, "phase": phase},
    ).rowcount
    if not changed:
        raise StaleState(f"execution {execution_id} is not RUNNING")


def mark_ended(
    conn: sqlite3.Connection, execution_id: ExecutionId, status: ExecutionStatus, error: str | None, *, now: datetime
) -> None:
    """PENDING or RUNNING -> `status`, a terminal one; forgets the execution's secrets. Raises `StaleState`."""
    changed = conn.execute(
        """
        UPDATE workflow_executions
        SET status = :status, settled_status = :status, error = :error, completed_at = :now
        WHERE id = :id
          AND status IN ('PENDING', 'RUNNING')
        RETURNING workflow_id
        """,
        {"id": execution_id, "status": status, "error": error, "now": to_text(now)},
    ).fetchone()
    if changed is None:
        raise StaleState(f"execution {execution_id} has ended already")
    forget_secrets(conn, execution_id)
    _announce(conn, execution_id, changed["workflow_id"], status, error, now=now)


def settle_by_hand(conn: sqlite3.Connection, execution: WorkflowExecution, *, now: datetime) -> None:
    """Take over a status that a person has typed: complete the row and record the event."""
    conn.execute(
        """
        UPDATE workflow_executions
        SET settled_status = status,
            completed_at = CASE WHEN status IN ('PENDING', 'RUNNING') THEN completed_at
                                ELSE COALESCE(completed_at, :now) END
        WHERE id = :id
        """,
        {"id": execution.id, "now": to_text(now)},
    )
    if execution.status not in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING):
        forget_secrets(conn, execution.id)
    _announce(conn, execution.id, execution.workflow_id, execution.status, execution.error, now=now, by_hand=True)


def forget_secrets(conn: sqlite3.Connection, execution_id: ExecutionId) -> None:
    """Delete the data keys that were unwrapped for an execution."""
    conn.execute("DELETE FROM sealed_secrets WHERE workflow_execution_id = :id", {"id": execution_id})


def request_cancel(
    conn: sqlite3.Connection, execution_id: ExecutionId, *, reason: str, cancel_by: datetime, now: datetime
) -> bool:
    """Record the wish to cancel; False if it was recorded before. Raises `Conflict` if the execution has ended."""
    execution = get_execution(conn, execution_id)
    if execution.status not in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING):
        raise Conflict(
            f"Execution {execution_id} is {execution.status} already",
            hint="An execution that has ended cannot be cancelled; workflow.execute or execution.retry start another.",
        )
    changed = conn.execute(
        """
        UPDATE workflow_executions
        SET cancel_requested_at = :now, cancel_reason = :reason, cancel_by = :cancel_by
        WHERE id = :id
          AND cancel_requested_at IS NULL
        """,
        {"id": execution_id, "now": to_text(now), "reason": reason, "cancel_by": to_text(cancel_by)},
    ).rowcount
    if changed:
        data = {
            "execution_id": execution_id,
            "workflow_id": execution.workflow_id,
            "status": execution.status,
            "cancel_requested": True,
            "reason": reason,
        }
        record_event(conn, EventType.EXECUTION_UPDATED, data, execution_id=execution_id, now=now)
    return bool(changed)


def get_state(conn: sqlite3.Connection, execution_id: ExecutionId) -> ExecutionState | None:
    """Return where an execution stands; `None` if there is none."""
    row = conn.execute(
        """
        SELECT execution_uid, status, phase, cancel_requested_at, cancel_by, EXISTS (
            SELECT 1
            FROM workflow_jobs
            WHERE workflow_execution_id = :id
              AND status NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED')
        ) AS has_open_jobs
        FROM workflow_executions
        WHERE id = :id
        """,
        {"id": execution_id},
    ).fetchone()
    if row is None:
        return None
    return ExecutionState(
        execution_uid=ExecutionUid(row["execution_uid"]),
        status=ExecutionStatus(row["status"]),
        phase=ExecutionPhase(row["phase"]),
        cancel_requested=row["cancel_requested_at"] is not None,
        cancel_by=moment_or_none(row["cancel_by"]),
        has_open_jobs=bool(row["has_open_jobs"]),
    )


def is_cleared(conn: sqlite3.Connection, execution_id: ExecutionId) -> bool:
    """Say whether an execution's intermediate data on this peer has been let go of; so it has been of one that is gone."""
    row = conn.execute(
        "SELECT cleared_at IS NOT NULL FROM workflow_executions WHERE id = :id", {"id": execution_id}
    ).fetchone()
    return row is None or bool(row[0])


def cancel_reason(conn: sqlite3.Connection, execution_id: ExecutionId) -> str | None:
    """Return why an open execution is to be cancelled; `None` if nobody has asked or it has ended."""
    row = conn.execute(
        """
        SELECT cancel_reason
        FROM workflow_executions
        WHERE id = :id
          AND cancel_requested_at IS NOT NULL
          AND status IN ('PENDING', 'RUNNING')
        """,
        {"id": execution_id},
    ).fetchone()
    return None if row is None else row["cancel_reason"] or "no reason was given"


def _announce(
    conn: sqlite3.Connection,
    execution_id: ExecutionId,
    workflow_id: WorkflowId | None,
    status: ExecutionStatus,
    error: str | None,
    *,
    now: datetime,
    by_hand: bool = False,
) -> None:
    """Tell what became of an execution; `workflow_id` is None where its workflow has been deleted."""
    data: dict[str, object] = {
        "execution_id": execution_id,
        "workflow_id": workflow_id,
        "status": status,
        "error": error,
    }
    if by_hand:
        data["by_hand"] = True
    record_event(conn, EventType.EXECUTION_UPDATED, data, execution_id=execution_id, now=now)


def _execution(row: sqlite3.Row) -> WorkflowExecution:
    return WorkflowExecution(
        id=ExecutionId(row["id"]),
        workflow_id=None if row["workflow_id"] is None else WorkflowId(row["workflow_id"]),
        workflow_name=row["workflow_name"],
        execution_uid=ExecutionUid(row["execution_uid"]),
        status=ExecutionStatus(row["status"]),
        phase=ExecutionPhase(row["phase"]),
        error=row["error"],
        definition=row["definition"],
        retry_of=None if row["retry_of"] is None else ExecutionId(row["retry_of"]),
        created_at=from_text(row["created_at"]),
        started_at=moment_or_none(row["started_at"]),
        completed_at=moment_or_none(row["completed_at"]),
        deadline_at=from_text(row["deadline_at"]),
        cancel_requested_at=moment_or_none(row["cancel_requested_at"]),
        cancel_reason=row["cancel_reason"],
        cancel_by=moment_or_none(row["cancel_by"]),
        cleared_at=moment_or_none(row["cleared_at"]),
    )
