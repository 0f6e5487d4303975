"""Data flow between nodes: table `workflow_connections` (document: Connections and Data Flow)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from rnd.database.rows import words_from_text, words_to_text
from rnd.database.workflow_nodes import get_node
from rnd.database.workflow_parts import WorkflowParts
from rnd.database.workflows import get_workflow, touch_workflow
from rnd.types.enums import InterfaceType
from rnd.types.ids import ConnectionId, WorkflowId
from rnd.types.pages import Page
from rnd.types.workflows import WorkflowConnection

_SELECT = """
    SELECT id, workflow_id, from_node_id, from_interface_type, to_node_id, to_interface_type, destination_file_name,
           from_interface_path, to_interface_path, include, source_path
    FROM workflow_connections
"""
_INSERT = """
    INSERT INTO workflow_connections (
        workflow_id, from_node_id, from_interface_type, to_node_id, to_interface_type, destination_file_name,
        from_interface_path, to_interface_path, include, source_path
    )
    VALUES (
        :workflow_id, :from_node_id, :from_interface_type, :to_node_id, :to_interface_type, :destination_file_name,
        :from_interface_path, :to_interface_path, :include, :source_path
    )
"""
_RETURNING = """
    RETURNING id, workflow_id, from_node_id, from_interface_type, to_node_id, to_interface_type,
              destination_file_name, from_interface_path, to_interface_path, include, source_path
"""


def add_connection(conn: sqlite3.Connection, connection: WorkflowConnection, *, now: datetime) -> WorkflowConnection:
    """Add a connection to its workflow and return it with the id it was given; `connection.id` is not looked at.

    Raises `NotFound` without such a workflow, or where an end is not a node of it.
    """
    _check_ends(conn, connection)
    row = conn.execute(_INSERT + _RETURNING, _columns(connection)).fetchone()
    added = _connection(row)
    touch_workflow(conn, added.workflow_id, "connection_added", connection_id=added.id, now=now)
    return added


def add_connections(conn: sqlite3.Connection, connections: Iterable[WorkflowConnection]) -> None:
    """Add the connections of a workflow that is made in this transaction, between nodes of it.

    Nobody is told of each: the workflow is news as a whole. `connection.id` is not looked at.
    """
    conn.executemany(_INSERT, map(_columns, connections))


def get_connection(
    conn: sqlite3.Connection, workflow_id: WorkflowId, connection_id: ConnectionId
) -> WorkflowConnection:
    """Return one connection of a workflow. Raises `NotFound`, also for a connection of another workflow."""
    return _CONNECTIONS.get(conn, workflow_id, connection_id)


def list_connections(conn: sqlite3.Connection, workflow_id: WorkflowId) -> list[WorkflowConnection]:
    """Return every connection of a workflow in id order; none where there is no such workflow."""
    return _CONNECTIONS.all_of(conn, workflow_id)


def page_connections(
    conn: sqlite3.Connection, workflow_id: WorkflowId, *, limit: int, after_id: int = 0
) -> Page[WorkflowConnection]:
    """Return one page of a workflow's connections. Raises `NotFound` without such a workflow."""
    return _CONNECTIONS.page(conn, workflow_id, limit=limit, after_id=after_id)


def count_connections(conn: sqlite3.Connection, workflow_id: WorkflowId) -> int:
    """Return how many connections a workflow has."""
    return _CONNECTIONS.count_of(conn, workflow_id)


def update_connection(conn: sqlite3.Connection, connection: WorkflowConnection, *, now: datetime) -> WorkflowConnection:
    """Write every field of a connection and return what is stored then.

    Raises `NotFound` for the connection, its workflow, or an end that is not a node of it.
    """
    _check_ends(conn, connection)
    row = conn.execute(
        """
        UPDATE workflow_connections
        SET from_node_id = :from_node_id,
            from_interface_type = :from_interface_type,
            to_node_id = :to_node_id,
            to_interface_type = :to_interface_type,
            destination_file_name = :destination_file_name,
            from_interface_path = :from_interface_path,
            to_interface_path = :to_interface_path,
            include = :include,
            source_path = :source_path
        WHERE id = :id
          AND workflow_id = :workflow_id
        RETURNING id, workflow_id, from_node_id, from_interface_type, to_node_id, to_interface_type,
                  destination_file_name, from_interface_path, to_interface_path, include, source_path
        """,
        _columns(connection),
    ).fetchone()
    if row is None:
        raise _CONNECTIONS.not_found(connection.workflow_id, connection.id)
    touch_workflow(conn, connection.workflow_id, "connection_updated", connection_id=connection.id, now=now)
    return _connection(row)


def delete_connection(
    conn: sqlite3.Connection, workflow_id: WorkflowId, connection_id: ConnectionId, *, now: datetime
) -> None:
    """Delete a connection. Raises `NotFound`."""
    row = conn.execute(
        """
        DELETE FROM workflow_connections
        WHERE id = :id
          AND workflow_id = :workflow_id
        RETURNING id
        """,
        {"id": connection_id, "workflow_id": workflow_id},
    ).fetchone()
    if row is None:
        raise _CONNECTIONS.not_found(workflow_id, connection_id)
    touch_workflow(conn, workflow_id, "connection_deleted", connection_id=connection_id, now=now)


def _check_ends(conn: sqlite3.Connection, connection: WorkflowConnection) -> None:
    get_workflow(conn, connection.workflow_id)
    for node_id in (connection.from_node_id, connection.to_node_id):
        if node_id is not None:
            get_node(conn, connection.workflow_id, node_id)


def _columns(connection: WorkflowConnection) -> dict[str, object]:
    return {
        "id": connection.id,
        "workflow_id": connection.workflow_id,
        "from_node_id": connection.from_node_id,
        "from_interface_type": connection.from_interface_type,
        "to_node_id": connection.to_node_id,
        "to_interface_type": connection.to_interface_type,
        "destination_file_name": connection.destination_file_name,
        "from_interface_path": connection.from_interface_path,
        "to_interface_path": connection.to_interface_path,
        "include": words_to_text(connection.include),
        "source_path": connection.source_path,
    }


def _connection(row: sqlite3.Row) -> WorkflowConnection:
    return WorkflowConnection(
        id=row["id"],
        workflow_id=row["workflow_id"],
        from_node_id=row["from_node_id"],
        from_interface_type=InterfaceType(row["from_interface_type"]),
        to_node_id=row["to_node_id"],
        to_interface_type=InterfaceType(row["to_interface_type"]),
        destination_file_name=row["destination_file_name"],
        from_interface_path=row["from_interface_path"],
        to_interface_path=row["to_interface_path"],
        include=words_from_text(row["include"]) or (),
        source_path=row["source_path"],
    )


_CONNECTIONS: Final = WorkflowParts(
    word="Connection", select=_SELECT, count="SELECT COUNT(*) FROM workflow_connections ", read=_connection
)
