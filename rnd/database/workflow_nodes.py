"""Nodes of a workflow: table `workflow_nodes` (document: Node Types)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from rnd.database.rows import interfaces_from_text, interfaces_to_text, words_from_text, words_to_text
from rnd.database.workflow_parts import WorkflowParts
from rnd.database.workflows import get_workflow, touch_workflow
from rnd.types.enums import ServiceType
from rnd.types.errors import Conflict
from rnd.types.ids import NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.pages import Page
from rnd.types.workflows import WorkflowNode

_SELECT = """
    SELECT id, workflow_id, service_id, peer_id, service_name, service_type, "order", gui_x, gui_y, interfaces,
           entrypoint, cmd, pricing_amount, pricing_type, name, service_revision, pin
    FROM workflow_nodes
"""
_INSERT = """
    INSERT INTO workflow_nodes (
        workflow_id, service_id, peer_id, service_name, service_type, "order", gui_x, gui_y, interfaces,
        entrypoint, cmd, pricing_amount, pricing_type, name, service_revision, pin
    )
    VALUES (
        :workflow_id, :service_id, :peer_id, :service_name, :service_type, :order, :gui_x, :gui_y, :interfaces,
        :entrypoint, :cmd, :pricing_amount, :pricing_type, :name, :service_revision, :pin
    )
"""
_RETURNING = """
    RETURNING id, workflow_id, service_id, peer_id, service_name, service_type, "order", gui_x, gui_y, interfaces,
              entrypoint, cmd, pricing_amount, pricing_type, name, service_revision, pin
"""


def add_node(conn: sqlite3.Connection, node: WorkflowNode, *, now: datetime) -> WorkflowNode:
    """Add a node to its workflow and return it with the id it was given; `node.id` is not looked at.

    Raises `NotFound` without such a workflow, `Conflict` where another of its nodes has the name.
    """
    get_workflow(conn, node.workflow_id)
    _check_name(conn, node, apart_from=None)
    row = conn.execute(_INSERT + _RETURNING, _columns(node)).fetchone()
    added = _node(row)
    touch_workflow(conn, added.workflow_id, "node_added", node_id=added.id, now=now)
    return added


def add_nodes(conn: sqlite3.Connection, nodes: Iterable[WorkflowNode]) -> list[NodeId]:
    """Add the nodes of a workflow that is made in this transaction; return their ids in the same order.

    Nobody is told of each: the workflow is news as a whole. `node.id` is not looked at.
    """
    return [NodeId(conn.execute(_INSERT + "RETURNING id", _columns(node)).fetchone()[0]) for node in nodes]


def get_node(conn: sqlite3.Connection, workflow_id: WorkflowId, node_id: NodeId) -> WorkflowNode:
    """Return one node of a workflow. Raises `NotFound`, also for a node of another workflow."""
    return _NODES.get(conn, workflow_id, node_id)


def list_nodes(conn: sqlite3.Connection, workflow_id: WorkflowId) -> list[WorkflowNode]:
    """Return every node of a workflow in id order; none where there is no such workflow."""
    return _NODES.all_of(conn, workflow_id)


def page_nodes(
    conn: sqlite3.Connection, workflow_id: WorkflowId, *, limit: int, after_id: int = 0
) -> Page[WorkflowNode]:
    """Return one page of a workflow's nodes. Raises `NotFound` without such a workflow."""
    return _NODES.page(conn, workflow_id, limit=limit, after_id=after_id)


def list_workflows_of_service(
    conn: sqlite3.Connection, service_id: ServiceId, *, peer_id: PeerId
) -> list[tuple[WorkflowId, str]]:
    """Return id and name of the workflows that have a node of a peer's service, oldest first."""
    rows = conn.execute(
        """
        SELECT DISTINCT w.id, w.name
        FROM workflow_nodes AS wn
        JOIN workflows AS w ON w.id = wn.workflow_id
        WHERE wn.service_id = :service_id
          AND wn.peer_id = :peer_id
        ORDER BY w.id
        """,
        {"service_id": service_id, "peer_id": peer_id},
    )
    return [(WorkflowId(row[0]), row[1] or "") for row in rows]


def count_nodes(conn: sqlite3.Connection, workflow_id: WorkflowId) -> int:
    """Return how many nodes a workflow has."""
    return _NODES.count_of(conn, workflow_id)


def update_node(conn: sqlite3.Connection, node: WorkflowNode, *, now: datetime) -> WorkflowNode:
    """Write every field of a node and return what is stored then. Raises `NotFound`, `Conflict` (name taken)."""
    _check_name(conn, node, apart_from=node.id)
    row = conn.execute(
        """
        UPDATE workflow_nodes
        SET service_id = :service_id,
            peer_id = :peer_id,
            service_name = :service_name,
            service_type = :service_type,
            "order" = :order,
            gui_x = :gui_x,
            gui_y = :gui_y,
            interfaces = :interfaces,
            entrypoint = :entrypoint,
            cmd = :cmd,
            pricing_amount = :pricing_amount,
            pricing_type = :pricing_type,
            name = :name,
            service_revision = :service_revision,
            pin = :pin
        WHERE id = :id
          AND workflow_id = :workflow_id
        RETURNING id, workflow_id, service_id, peer_id, service_name, service_type, "order", gui_x, gui_y, interfaces,
                  entrypoint, cmd, pricing_amount, pricing_type, name, service_revision, pin
        """,
        _columns(node),
    ).fetchone()
    if row is None:
        raise _NODES.not_found(node.workflow_id, node.id)
    touch_workflow(conn, node.workflow_id, "node_updated", node_id=node.id, now=now)
    return _node(row)


def delete_node(conn: sqlite3.Connection, workflow_id: WorkflowId, node_id: NodeId, *, now: datetime) -> None:
    """Delete a node and every connection that starts or ends at it. Raises `NotFound`."""
    get_node(conn, workflow_id, node_id)
    conn.execute(
        """
        DELETE FROM workflow_connections
        WHERE from_node_id = :id
           OR to_node_id = :id
        """,
        {"id": node_id},
    )
    conn.execute(
        """
        DELETE FROM workflow_nodes
        WHERE id = :id
        """,
        {"id": node_id},
    )
    touch_workflow(conn, workflow_id, "node_deleted", node_id=node_id, now=now)


def _check_name(conn: sqlite3.Connection, node: WorkflowNode, *, apart_from: NodeId | None) -> None:
    """Raise `Conflict` where another node of the workflow has this name; nodes without one do not count."""
    row = conn.execute(
        """
        SELECT id
        FROM workflow_nodes
        WHERE workflow_id = :workflow_id
          AND name = :name
          AND id IS NOT :apart_from
        """,
        {"workflow_id": node.workflow_id, "name": node.name or None, "apart_from": apart_from},
    ).fetchone()
    if row is not None:
        raise Conflict(
            f"Node {row['id']} of workflow {node.workflow_id} is called {node.name!r} already",
            hint="Choose another name, or rename that node first.",
        )


def _columns(node: WorkflowNode) -> dict[str, object]:
    return {
        "id": node.id,
        "workflow_id": node.workflow_id,
        "service_id": node.service_id,
        "peer_id": node.peer_id,
        "service_name": node.service_name,
        "service_type": node.service_type,
        "order": node.order,
        "gui_x": node.gui_x,
        "gui_y": node.gui_y,
        "interfaces": interfaces_to_text(node.interfaces),
        "entrypoint": words_to_text(node.entrypoint),
        "cmd": words_to_text(node.cmd),
        "pricing_amount": node.pricing_amount,
        "pricing_type": node.pricing_type,
        "name": node.name or None,
        "service_revision": node.service_revision,
        "pin": node.pin,
    }


def _node(row: sqlite3.Row) -> WorkflowNode:
    return WorkflowNode(
        id=row["id"],
        workflow_id=row["workflow_id"],
        service_id=row["service_id"],
        peer_id=PeerId(row["peer_id"] or ""),
        service_name=row["service_name"] or "",
        service_type=ServiceType(row["service_type"]),
        order=row["order"] or 0,
        gui_x=row["gui_x"] or 0,
        gui_y=row["gui_y"] or 0,
        interfaces=interfaces_from_text(row["interfaces"]),
        entrypoint=words_from_text(row["entrypoint"]),
        cmd=words_from_text(row["cmd"]),
        pricing_amount=row["pricing_amount"] or 0.0,
        pricing_type=row["pricing_type"] or "",
        name=row["name"] or "",
        service_revision=row["service_revision"],
        pin=bool(row["pin"]),
    )


_NODES: Final = WorkflowParts(word="Node", select=_SELECT, count="SELECT COUNT(*) FROM workflow_nodes ", read=_node)
