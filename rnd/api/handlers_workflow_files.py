"""Workflows as documents of format `rnd.workflow/1`: services by name, nodes, connections and layout.

A document is read, drawn and checked as a whole, on a thread, before anything is written: an import is one short transaction
and one event, and whoever only wants to know what is wrong writes nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from datetime import datetime

from rnd.api.context import ApiContext, Call
from rnd.api.file_services import find_services
from rnd.api.host_paths import check_host_paths
from rnd.api.operate_scope import is_owner, node_refusal, refuse, refuse_paths
from rnd.api.parameters import BadParameter, Name
from rnd.api.rendering import JsonMembers, render_workflow
from rnd.database import offered_services, workflow_connections, workflow_nodes, workflow_ui_state, workflows
from rnd.log import get_logger
from rnd.rules.strict_json import JsonObject
from rnd.rules.upload_names import uploaded_name
from rnd.rules.workflow_export import workflow_to_file
from rnd.rules.workflow_file import FileReading, Layout, WorkflowFile, emit_workflow_file, read_workflow_file
from rnd.rules.workflow_import import DrawnDocument, KnownServices, draw, names_here, node_place
from rnd.types.config import Limits
from rnd.types.errors import LimitExceeded, Problem, ValidationFailed
from rnd.types.ids import NodeId, WorkflowId
from rnd.types.log_events import LogEvent
from rnd.types.services import Service
from rnd.types.workflows import Workflow, WorkflowUIState

log = get_logger()


async def workflow_export(call: Call, *, workflow_id: WorkflowId) -> dict[str, object]:
    """Answer `workflow.export`."""

    def read(conn: sqlite3.Connection) -> WorkflowFile:
        return workflow_to_file(
            workflows.get_workflow(conn, workflow_id),
            workflow_nodes.list_nodes(conn, workflow_id),
            workflow_connections.list_connections(conn, workflow_id),
            workflow_ui_state.get_ui_state(conn, workflow_id),
            self_peer_id=call.api.peer_id,
        )

    file = await call.api.database.read(read)
    return await asyncio.to_thread(emit_workflow_file, file)


async def workflow_import(call: Call, *, document: JsonObject, name: str | None = None) -> JsonMembers:
    """Answer `workflow.import`: the whole document or nothing, with every problem at once."""
    api = call.api
    read, services = await read_document(api, document)
    title, name_problems = document_title(read, name)
    drawn = await asyncio.to_thread(draw, read, services, self_peer_id=api.peer_id)
    if name_problems or drawn.problems:
        raise ValidationFailed([*name_problems, *drawn.problems])
    refuse(override_refusals(call, drawn, services))
    sources = [path for connection in drawn.connections if (path := connection.source_path) is not None]
    await refuse_paths(call, sources)
    await check_host_paths(api.config, [path for path in sources if uploaded_name(path) is None])
    now = api.clock.now()
    description, layout = read.file.description, read.file.layout
    workflow = await api.database.write(lambda conn: _store(conn, title, description, layout, drawn, now))
    log.info(
        LogEvent.WORKFLOW_IMPORTED,
        workflow_id=workflow.id,
        nodes=len(drawn.nodes),
        connections=len(drawn.connections),
        name=workflow.name,
    )
    return render_workflow(workflow)


async def read_document(api: ApiContext, document: JsonObject) -> tuple[FileReading, KnownServices]:
    """Return what a document says, with the id of every node's peer, and the services that it names.

    Other peers are asked for what it leaves open about theirs. Raises `LimitExceeded`.
    """
    _check_size(document, api.config.limits)
    read = await asyncio.to_thread(read_workflow_file, document)
    found = await find_services(api, read.file.nodes)
    read = replace(read, file=replace(read.file, nodes=found.nodes))
    names = names_here(read, api.peer_id)

    def find(conn: sqlite3.Connection) -> dict[str, Service]:
        here = ((name, offered_services.find_service_by_name(conn, name)) for name in names)
        return {name: service for name, service in here if service is not None}

    here = await api.database.read(find)
    return read, KnownServices(here=here, elsewhere=found.elsewhere, misplaced=found.problems)


def override_refusals(call: Call, drawn: DrawnDocument, services: KnownServices) -> list[str]:
    """Return what the caller may not have nodes of a document run, with the place of each; none for the owner."""
    if is_owner(call):
        return []
    refusals = ((node, node_refusal(call.api, node, services.here.get(node.service_name))) for node in drawn.nodes)
    return [f"{node_place(node.id)}.{reason}" for node, reason in refusals if reason is not None]


def document_title(read: FileReading, name: str | None = None) -> tuple[str, list[Problem]]:
    """Return what the workflow is to be called, and what is wrong with the document's own name for it."""
    if name is not None:
        return name, []
    try:
        return Name().parse(read.file.name, "name"), []
    except BadParameter as error:
        told = any(misreading.startswith("name:") for misreading in read.misreadings)
        told = told or not read.file.name  # a name that is missing or no text was read as none
        return "", [] if told else [Problem(check="document", message=str(error))]


def _check_size(document: JsonObject, limits: Limits) -> None:
    """Raise `LimitExceeded` before anything is read of a document that nobody wants to walk."""
    counts = [len(part) if isinstance(part := document.get(key), list) else 0 for key in ("nodes", "connections")]
    if counts[0] > limits.nodes_per_workflow or counts[1] > limits.connections_per_workflow:
        raise LimitExceeded(
            f"A workflow has at most {limits.nodes_per_workflow} nodes and {limits.connections_per_workflow} connections",
            hint="Split it into several workflows.",
        )


def _store(
    conn: sqlite3.Connection, title: str, description: str, layout: Layout, drawn: DrawnDocument, now: datetime
) -> Workflow:
    """Write a drawing down; the database gives its parts their ids."""
    workflow = workflows.create_workflow(conn, name=title, description=description, now=now)
    node_ids = workflow_nodes.add_nodes(conn, (replace(node, workflow_id=workflow.id) for node in drawn.nodes))
    stored: dict[NodeId | None, NodeId | None] = {None: None}
    stored.update(zip((node.id for node in drawn.nodes), node_ids, strict=True))
    workflow_connections.add_connections(
        conn,
        (
            replace(
                connection,
                workflow_id=workflow.id,
                from_node_id=stored[connection.from_node_id],
                to_node_id=stored[connection.to_node_id],
            )
            for connection in drawn.connections
        ),
    )
    workflow_ui_state.add_ui_state(
        conn,
        WorkflowUIState(
            workflow_id=workflow.id,
            snap_to_grid=layout.snap_to_grid,
            zoom_level=layout.zoom_level,
            pan_x=layout.pan_x,
            pan_y=layout.pan_y,
            self_peer_x=layout.self_peer_x,
            self_peer_y=layout.self_peer_y,
        ),
    )
    return workflow
