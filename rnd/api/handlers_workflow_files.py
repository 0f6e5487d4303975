"""Workflows as documents of format `rnd.workflow/1`: services by name, nodes, connections and layout."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rnd.api.context import ApiContext, Call
from rnd.api.file_services import FoundServices, find_services
from rnd.api.handlers_workflows import NO_ID
from rnd.api.host_paths import check_host_path
from rnd.api.parameters import Name
from rnd.api.rendering import JsonMembers, render_workflow
from rnd.database import offered_services, workflow_connections, workflow_nodes, workflow_ui_state, workflows
from rnd.log import get_logger
from rnd.rules.interfaces import default_interfaces, require_fit_interfaces
from rnd.rules.reading import MalformedDocument
from rnd.rules.strict_json import JsonObject
from rnd.rules.upload_names import uploaded_name
from rnd.rules.validation import validate_connection
from rnd.rules.workflow_file import (
    FileConnection,
    FileNode,
    WorkflowFile,
    emit_workflow_file,
    parse_workflow_file,
    workflow_to_file,
)
from rnd.types.config import Limits
from rnd.types.errors import LimitExceeded, Problem, ValidationFailed
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.log_events import LogEvent
from rnd.types.services import RemoteService, Service
from rnd.types.workflows import Workflow, WorkflowConnection, WorkflowNode, WorkflowUIState

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

    return emit_workflow_file(await call.api.database.read(read))


async def workflow_import(call: Call, *, document: JsonObject, name: str | None = None) -> JsonMembers:
    """Answer `workflow.import`: the whole document or nothing, with every problem at once."""
    api = call.api
    file = _parse(document)
    title = Name().parse(file.name if name is None else name, "name")
    _check_size(file, api.config.limits)
    for connection in file.connections:
        if connection.source_path is not None and uploaded_name(connection.source_path) is None:
            await check_host_path(api.config, connection.source_path, must_exist=False)
    found = await find_services(api, file.nodes)
    now = api.clock.now()
    workflow = await api.database.write(lambda conn: _Import(conn, api, file, found, now).run(title))
    log.info(
        LogEvent.WORKFLOW_IMPORTED,
        workflow_id=workflow.id,
        nodes=len(file.nodes),
        connections=len(file.connections),
        name=workflow.name,
    )
    return render_workflow(workflow)


def _parse(document: JsonObject) -> WorkflowFile:
    try:
        return parse_workflow_file(document)
    except MalformedDocument as error:
        raise ValidationFailed(
            [Problem(check="document", message=misreading) for misreading in error.misreadings]
        ) from None


def _check_size(file: WorkflowFile, limits: Limits) -> None:
    if len(file.nodes) > limits.nodes_per_workflow or len(file.connections) > limits.connections_per_workflow:
        raise LimitExceeded(
            f"A workflow has at most {limits.nodes_per_workflow} nodes and {limits.connections_per_workflow} connections",
            hint="Split it into several workflows.",
        )


@dataclass(slots=True)
class _Import:
    """One import within one transaction; an error takes all of it back."""

    conn: sqlite3.Connection
    api: ApiContext
    file: WorkflowFile
    found: FoundServices
    now: datetime

    def run(self, title: str) -> Workflow:
        """Write the workflow. Raises `ValidationFailed` with the problems of all nodes, or of all connections."""
        workflow = workflows.create_workflow(self.conn, name=title, description=self.file.description, now=self.now)
        nodes = self._add_nodes(workflow.id)
        self._add_connections(workflow.id, nodes)
        layout = self.file.layout
        workflow_ui_state.set_ui_state(
            self.conn,
            WorkflowUIState(
                workflow_id=workflow.id,
                snap_to_grid=layout.snap_to_grid,
                zoom_level=layout.zoom_level,
                pan_x=layout.pan_x,
                pan_y=layout.pan_y,
                self_peer_x=layout.self_peer_x,
                self_peer_y=layout.self_peer_y,
            ),
            now=self.now,
        )
        return workflows.get_workflow(self.conn, workflow.id)

    def _add_nodes(self, workflow_id: WorkflowId) -> dict[str, WorkflowNode]:
        added: dict[str, WorkflowNode] = {}
        problems: list[Problem] = []
        for at, drawn in enumerate(self.found.nodes):
            if at in self.found.problems:
                problems.append(self.found.problems[at])
                continue
            try:
                node = self._node(workflow_id, drawn)
            except ValidationFailed as error:
                problems.extend(error.problems)
            else:
                added[drawn.name] = workflow_nodes.add_node(self.conn, node, now=self.now)
        if problems:
            raise ValidationFailed(problems)
        return added

    def _node(self, workflow_id: WorkflowId, drawn: FileNode) -> WorkflowNode:
        service: Service | RemoteService | None
        if drawn.peer_id is None:
            service = offered_services.find_service_by_name(self.conn, drawn.service_name)
        else:
            service = self.found.elsewhere.get((PeerId(drawn.peer_id), drawn.service_name))
        if drawn.peer_id is None and service is None:
            raise _refused("service", f"Service {drawn.service_name} not found")
        service_type = drawn.service_type or (service.service_type if service is not None else None)
        if service_type is None:
            raise _refused("service_type", f"Node {drawn.name}: a service of another peer needs its service_type")
        if service is not None and service.service_type is not service_type:
            raise _refused("service_type", "Service type mismatch")
        interfaces = drawn.interfaces
        if interfaces is None:
            interfaces = default_interfaces(service_type) if service is None else service.interfaces
        require_fit_interfaces(service_type, interfaces, f"node {drawn.name}: interfaces")
        return WorkflowNode(
            id=NodeId(NO_ID),
            workflow_id=workflow_id,
            # Another peer that was not asked finds the service by its name: its own id is not in the file.
            service_id=ServiceId(NO_ID) if service is None else service.id,
            peer_id=self.api.peer_id if drawn.peer_id is None else PeerId(drawn.peer_id),
            service_name=drawn.service_name,
            service_type=service_type,
            order=drawn.order,
            gui_x=drawn.gui_x,
            gui_y=drawn.gui_y,
            interfaces=interfaces,
            entrypoint=drawn.entrypoint,
            cmd=drawn.cmd,
            pricing_amount=0.0 if service is None else service.pricing_amount,
            pricing_type="FREE" if service is None else service.pricing_type,
            name=drawn.name,
            service_revision=service.revision if isinstance(service, Service) else None,
        )

    def _add_connections(self, workflow_id: WorkflowId, nodes: Mapping[str, WorkflowNode]) -> None:
        added: list[WorkflowConnection] = []
        problems: list[Problem] = []
        for drawn in self.file.connections:
            connection = _connection(workflow_id, drawn, nodes)
            try:
                validate_connection(connection, list(nodes.values()), added)
            except ValidationFailed as error:
                problems.extend(error.problems)
            else:
                added.append(workflow_connections.add_connection(self.conn, connection, now=self.now))
        if problems:
            raise ValidationFailed(problems)


def _connection(
    workflow_id: WorkflowId, drawn: FileConnection, nodes: Mapping[str, WorkflowNode]
) -> WorkflowConnection:
    return WorkflowConnection(
        id=ConnectionId(NO_ID),
        workflow_id=workflow_id,
        from_node_id=None if drawn.from_node is None else nodes[drawn.from_node].id,
        from_interface_type=drawn.from_interface_type,
        to_node_id=None if drawn.to_node is None else nodes[drawn.to_node].id,
        to_interface_type=drawn.to_interface_type,
        destination_file_name=drawn.destination_file_name,
        from_interface_path=drawn.from_interface_path,
        to_interface_path=drawn.to_interface_path,
        include=drawn.include,
        source_path=drawn.source_path,
    )


def _refused(check: str, message: str) -> ValidationFailed:
    return ValidationFailed([Problem(check=check, message=message)])
