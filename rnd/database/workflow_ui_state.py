"""How the canvas of a workflow was left: table `workflow_ui_state` (document: UI State Management)."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from rnd.database.events import record_event
from rnd.database.workflows import get_workflow
from rnd.types.enums import EventType
from rnd.types.ids import WorkflowId
from rnd.types.workflows import WorkflowUIState


def get_ui_state(conn: sqlite3.Connection, workflow_id: WorkflowId) -> WorkflowUIState:
    """Return the canvas of a workflow; the defaults if it was never set. Raises `NotFound` without such a workflow."""
    row = conn.execute(
        """
        SELECT workflow_id, snap_to_grid, zoom_level, pan_x, pan_y, self_peer_x, self_peer_y
        FROM workflow_ui_state
        WHERE workflow_id = :workflow_id
        """,
        {"workflow_id": workflow_id},
    ).fetchone()
    if row is None:
        return WorkflowUIState(workflow_id=get_workflow(conn, workflow_id).id)
    return WorkflowUIState(
        workflow_id=row["workflow_id"],
        snap_to_grid=bool(row["snap_to_grid"]),
        zoom_level=row["zoom_level"],
        pan_x=row["pan_x"],
        pan_y=row["pan_y"],
        self_peer_x=row["self_peer_x"],
        self_peer_y=row["self_peer_y"],
    )


def set_ui_state(conn: sqlite3.Connection, state: WorkflowUIState, *, now: datetime) -> WorkflowUIState:
    """Keep the canvas of a workflow. What people drew is as it was, so `updated_at` stays. Raises `NotFound`."""
    get_workflow(conn, state.workflow_id)
    add_ui_state(conn, state)
    data = {"workflow_id": state.workflow_id, "change": "ui_state"}
    record_event(conn, EventType.WORKFLOW_UPDATED, data, execution_id=None, now=now)
    return get_ui_state(conn, state.workflow_id)


def add_ui_state(conn: sqlite3.Connection, state: WorkflowUIState) -> None:
    """Write the canvas of a workflow down and tell nobody: for a workflow that is news as a whole."""
    conn.execute(
        """
        INSERT INTO workflow_ui_state (workflow_id, snap_to_grid, zoom_level, pan_x, pan_y, self_peer_x, self_peer_y)
        VALUES (:workflow_id, :snap_to_grid, :zoom_level, :pan_x, :pan_y, :self_peer_x, :self_peer_y)
        ON CONFLICT (workflow_id) DO UPDATE
        SET snap_to_grid = excluded.snap_to_grid,
            zoom_level = excluded.zoom_level,
            pan_x = excluded.pan_x,
            pan_y = excluded.pan_y,
            self_peer_x = excluded.self_peer_x,
            self_peer_y = excluded.self_peer_y
        """,
        {
            "workflow_id": state.workflow_id,
            "snap_to_grid": state.snap_to_grid,
            "zoom_level": state.zoom_level,
            "pan_x": state.pan_x,
            "pan_y": state.pan_y,
            "self_peer_x": state.self_peer_x,
            "self_peer_y": state.self_peer_y,
        },
    )
