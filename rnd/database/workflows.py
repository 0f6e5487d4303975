"""Workflows as containers: table `workflows` (document: Workflow Structure, Flow 1: Workflow Creation)."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

from rnd.database.events import record_event
from rnd.database.rows import moment_or_epoch, page_of
from rnd.types.enums import EventType
from rnd.types.errors import Conflict, NotFound
from rnd.types.ids import ConnectionId, NodeId, WorkflowId
from rnd.types.pages import Page
from rnd.types.times import to_text
from rnd.types.workflows import Workflow, WorkflowSummary

EMPTY_DEFINITION: Final = '{"jobs": []}'
"""The definition of a workflow that has not been built yet."""


def create_workflow(conn: sqlite3.Connection, *, name: str, description: str = "", now: datetime) -> Workflow:
    """Create an empty workflow. Names are for people; two workflows may share one."""
    row = conn.execute(
        """
        INSERT INTO workflows (name, description, definition, created_at, updated_at)
        VALUES (:name, :description, :definition, :now, :now)
        RETURNING id, name, description, definition, created_at, updated_at
        """,
        {"name": name, "description": description, "definition": EMPTY_DEFINITION, "now": to_text(now)},
    ).fetchone()
    workflow = _workflow(row)
    _tell(conn, workflow.id, "created", now=now)
    return workflow


def get_workflow(conn: sqlite3.Connection, workflow_id: WorkflowId) -> Workflow:
    """Return one workflow. Raises `NotFound`."""
    row = conn.execute(
        """
        SELECT id, name, description, definition, created_at, updated_at
        FROM workflows
        WHERE id = :id
        """,
        {"id": workflow_id},
    ).fetchone()
    if row is None:
        raise _not_found(workflow_id)
    return _workflow(row)


def list_workflows(conn: sqlite3.Connection, *, limit: int, after_id: int = 0) -> Page[WorkflowSummary]:
    """Return one page of all workflows, oldest first, without their definitions."""
    rows = conn.execute(
        """
        SELECT w.id, w.name, w.description, w.created_at, w.updated_at,
               (SELECT COUNT(*) FROM workflow_nodes AS wn WHERE wn.workflow_id = w.id) AS nodes,
               (SELECT COUNT(*) FROM workflow_connections AS wc WHERE wc.workflow_id = w.id) AS connections
        FROM workflows AS w
        WHERE w.id > :after_id
        ORDER BY w.id
        LIMIT :limit
        """,
        {"after_id": after_id, "limit": limit + 1},
    )
    items = [
        WorkflowSummary(
            id=WorkflowId(row["id"]),
            name=row["name"] or "",
            description=row["description"] or "",
            node_count=row["nodes"],
            connection_count=row["connections"],
            created_at=moment_or_epoch(row["created_at"]),
            updated_at=moment_or_epoch(row["updated_at"]),
        )
        for row in rows
    ]
    return page_of(items, limit=limit, total=count_workflows(conn), id_of=lambda workflow: workflow.id)


def count_workflows(conn: sqlite3.Connection) -> int:
    """Return how many workflows there are."""
    row = conn.execute(
        """
        SELECT COUNT(*)
        FROM workflows
        """
    ).fetchone()
    return int(row[0])


def update_workflow(conn: sqlite3.Connection, workflow: Workflow, *, now: datetime) -> Workflow:
    """Write the name and the description of `workflow` and return what is stored then. Raises `NotFound`."""
    row = conn.execute(
        """
        UPDATE workflows
        SET name = :name, description = :description, updated_at = :now
        WHERE id = :id
        RETURNING id, name, description, definition, created_at, updated_at
        """,
        {"id": workflow.id, "name": workflow.name, "description": workflow.description, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(workflow.id)
    _tell(conn, workflow.id, "updated", now=now)
    return _workflow(row)


def set_definition(conn: sqlite3.Connection, workflow_id: WorkflowId, definition: str, *, now: datetime) -> None:
    """Keep the JSON that was built last. What people drew is as it was, so `updated_at` stays. Raises `NotFound`."""
    row = conn.execute(
        """
        UPDATE workflows
        SET definition = :definition
        WHERE id = :id
        RETURNING id
        """,
        {"id": workflow_id, "definition": definition},
    ).fetchone()
    if row is None:
        raise _not_found(workflow_id)
    _tell(conn, workflow_id, "definition_built", now=now)


def delete_workflow(conn: sqlite3.Connection, workflow_id: WorkflowId, *, now: datetime) -> None:
    """Delete a workflow with its nodes, connections and canvas; its executions stay, without a workflow_id.

    Raises `NotFound`, and `Conflict` while an execution of it is PENDING or RUNNING.
    """
    get_workflow(conn, workflow_id)
    _refuse_while_it_runs(conn, workflow_id)
    by_id = {"id": workflow_id}
    conn.execute(
        """
        DELETE FROM workflow_connections
        WHERE workflow_id = :id
        """,
        by_id,
    )
    conn.execute(
        """
        DELETE FROM workflow_nodes
        WHERE workflow_id = :id
        """,
        by_id,
    )
    conn.execute(
        """
        DELETE FROM workflow_ui_state
        WHERE workflow_id = :id
        """,
        by_id,
    )
    # workflow_executions.workflow_id becomes NULL by its foreign key.
    conn.execute(
        """
        DELETE FROM workflows
        WHERE id = :id
        """,
        by_id,
    )
    _tell(conn, workflow_id, "deleted", now=now)


def touch_workflow(
    conn: sqlite3.Connection,
    workflow_id: WorkflowId,
    change: str,
    *,
    node_id: NodeId | None = None,
    connection_id: ConnectionId | None = None,
    now: datetime,
) -> None:
    """Note that a part of the workflow has changed: its `updated_at` and an event. Raises `NotFound`.

    `change` is a word for clients, such as `node_added`; the id of the part that changed travels with it.
    """
    row = conn.execute(
        """
        UPDATE workflows
        SET updated_at = :now
        WHERE id = :id
        RETURNING id
        """,
        {"id": workflow_id, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(workflow_id)
    _tell(conn, workflow_id, change, node_id=node_id, connection_id=connection_id, now=now)


def _refuse_while_it_runs(conn: sqlite3.Connection, workflow_id: WorkflowId) -> None:
    row = conn.execute(
        """
        SELECT id, status
        FROM workflow_executions
        WHERE workflow_id = :id
          AND status IN ('PENDING', 'RUNNING')
        LIMIT 1
        """,
        {"id": workflow_id},
    ).fetchone()
    if row is not None:
        raise Conflict(
            f"Workflow {workflow_id} has execution {row['id']}, which is {row['status']}",
            hint="Wait for the execution to end, or cancel it, and delete the workflow then.",
        )


def _tell(
    conn: sqlite3.Connection,
    workflow_id: WorkflowId,
    change: str,
    *,
    node_id: NodeId | None = None,
    connection_id: ConnectionId | None = None,
    now: datetime,
) -> None:
    data: dict[str, object] = {"workflow_id": workflow_id, "change": change}
    if node_id is not None:
        data["node_id"] = node_id
    if connection_id is not None:
        data["connection_id"] = connection_id
    record_event(conn, EventType.WORKFLOW_UPDATED, data, execution_id=None, now=now)


def _not_found(workflow_id: WorkflowId) -> NotFound:
    return NotFound(f"Workflow {workflow_id} not found")


def _workflow(row: sqlite3.Row) -> Workflow:
    return Workflow(
        id=row["id"],
        name=row["name"],
        description=row["description"] or "",
        definition=row["definition"],
        created_at=moment_or_epoch(row["created_at"]),
        updated_at=moment_or_epoch(row["updated_at"]),
    )
