"""Methods that draw workflows and start them (document: handlers_workflows, Flow 1 and Flow 2)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rnd.api.context import ApiContext, Call
from rnd.api.handlers_search import find_offer
from rnd.api.host_paths import check_host_path
from rnd.api.operate_scope import PLACEMENT, refuse_change, refuse_execution, refuse_node, refuse_paths
from rnd.api.rendering import JsonMembers, render, render_page, render_workflow
from rnd.database import offered_services, workflow_connections, workflow_nodes, workflow_ui_state, workflows
from rnd.log import get_logger
from rnd.protocol.link_messages import ServiceOffer
from rnd.rules.interfaces import parse_interface_type, require_fit_interfaces
from rnd.rules.upload_names import uploaded_name
from rnd.rules.validation import validate_connection
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import LimitExceeded, NotFound, Problem, ValidationFailed
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.log_events import LogEvent
from rnd.types.services import Service
from rnd.types.workflows import WorkflowConnection, WorkflowNode

NO_ID: Final = 0
"""Stands where the database is about to give an id."""

log = get_logger()


async def workflow_create(call: Call, *, name: str, description: str) -> JsonMembers:
    """Answer `workflow.create`."""
    now = call.api.clock.now()
    workflow = await call.api.database.write(
        lambda conn: workflows.create_workflow(conn, name=name, description=description, now=now)
    )
    log.info(LogEvent.WORKFLOW_CREATED, workflow_id=workflow.id, name=workflow.name)
    return render_workflow(workflow)


async def workflow_get(call: Call, *, workflow_id: WorkflowId) -> JsonMembers:
    """Answer `workflow.get`."""
    return render_workflow(await call.api.database.read(lambda conn: workflows.get_workflow(conn, workflow_id)))


async def workflow_list(call: Call, *, limit: int, after_id: int) -> JsonMembers:
    """Answer `workflow.list`."""
    page = await call.api.database.read(lambda conn: workflows.list_workflows(conn, limit=limit, after_id=after_id))
    return render_page(page)


async def workflow_update(call: Call, *, workflow_id: WorkflowId, **changes: Any) -> JsonMembers:
    """Answer `workflow.update`: name and description, as far as they are given."""
    now = call.api.clock.now()
    workflow = await call.api.database.write(
        lambda conn: workflows.update_workflow(
            conn, replace(workflows.get_workflow(conn, workflow_id), **changes), now=now
        )
    )
    log.info(LogEvent.WORKFLOW_UPDATED, workflow_id=workflow_id)
    return render_workflow(workflow)


async def workflow_delete(call: Call, *, workflow_id: WorkflowId) -> JsonMembers:
    """Answer `workflow.delete`: refused while it runs; its executions stay."""
    now = call.api.clock.now()
    await call.api.database.write(lambda conn: workflows.delete_workflow(conn, workflow_id, now=now))
    log.info(LogEvent.WORKFLOW_DELETED, workflow_id=workflow_id)
    return {"deleted": True, "workflow_id": workflow_id}


# ---------------------------------------------------------------- nodes


async def workflow_add_node(
    call: Call, *, workflow_id: WorkflowId, service_id: ServiceId, peer_id: PeerId | None = None, **given: Any
) -> JsonMembers:
    """Answer `workflow.add_node`: what is not given is copied from the service."""
    api = call.api
    limit = api.config.limits.nodes_per_workflow
    now = api.clock.now()
    remote = await _copied_from_remote(api, service_id, peer_id or api.peer_id, given)

    def add(conn: sqlite3.Connection) -> WorkflowNode:
        workflows.get_workflow(conn, workflow_id)
        refuse_change(call, conn, workflow_id)
        count = workflow_nodes.count_nodes(conn, workflow_id)
        if count >= limit:
            raise LimitExceeded(f"A workflow has at most {limit} nodes", hint="Split it into several workflows.")
        copied = _copied_from_service(conn, service_id, given) if remote is None else remote
        fields = {"order": count + 1, "gui_x": 0, "gui_y": 0, "entrypoint": None, "cmd": None, **copied, **given}
        require_fit_interfaces(fields["service_type"], fields["interfaces"], "interfaces")
        node = WorkflowNode(
            id=NodeId(NO_ID),
            workflow_id=workflow_id,
            service_id=service_id,
            peer_id=peer_id or api.peer_id,
            **fields,
        )
        refuse_node(call, conn, node)
        return workflow_nodes.add_node(conn, node, now=now)

    return render_node(await api.database.write(add))


def _copied_from_service(conn: sqlite3.Connection, service_id: ServiceId, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a node takes over from a service of this peer. Raises `NotFound`, `ValidationFailed`."""
    return _copied(offered_services.get_service(conn, service_id), given)


async def _copied_from_remote(
    api: ApiContext, service_id: ServiceId, peer_id: PeerId, given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the fields that a node takes over from a service of another peer, which is asked unless all are given.

    `None`: the service is this peer's. Raises `PeerUnreachable`, `NotFound`, `ValidationFailed`.
    """
    if peer_id == api.peer_id:
        return None
    if {"service_name", "service_type", "interfaces"} <= given.keys():
        return {"pricing_amount": 0.0, "pricing_type": "FREE", "service_revision": None}
    return _copied(await find_offer(api, peer_id, service_id, service_name=given.get("service_name")), given)


def _copied(service: Service | ServiceOffer, given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("service_type", service.service_type) is not service.service_type:
        raise ValidationFailed([Problem(check="service_type", message="Service type mismatch")])
    if given.get("service_name", service.name) != service.name:
        message = f"Service {service.id} is called {service.name!r} here, not {given['service_name']!r}"
        raise ValidationFailed([Problem(check="service_name", message=message)])
    return {
        "service_name": service.name,
        "service_type": service.service_type,
        "interfaces": service.interfaces,
        "pricing_amount": service.pricing_amount,
        "pricing_type": service.pricing_type,
        "service_revision": service.revision,
    }


async def workflow_update_node(call: Call, *, workflow_id: WorkflowId, node_id: NodeId, **changes: Any) -> JsonMembers:
    """Answer `workflow.update_node`: what is given is changed; `null` for entrypoint or cmd gives back the service's.

    With another service the node takes over what it is, as a new node would.
    """
    api = call.api
    now = api.clock.now()
    other_service = bool({"service_id", "peer_id"} & changes.keys())
    remote: dict[str, Any] | None = None
    if other_service:
        drawn = await api.database.read(lambda conn: workflow_nodes.get_node(conn, workflow_id, node_id))
        # Both are said, so that the node becomes what was asked for even if another call changes it meanwhile.
        changes = {"service_id": drawn.service_id, "peer_id": drawn.peer_id, **changes}
        remote = await _copied_from_remote(api, changes["service_id"], changes["peer_id"], changes)

    def update(conn: sqlite3.Connection) -> WorkflowNode:
        before = workflow_nodes.get_node(conn, workflow_id, node_id)
        if not changes.keys() <= PLACEMENT:
            refuse_change(call, conn, workflow_id)
        copied = remote or {}
        if other_service and remote is None:
            copied = _copied_from_service(conn, changes["service_id"], changes)
        after = replace(before, **{**copied, **changes})
        if after.interfaces != before.interfaces:
            require_fit_interfaces(after.service_type, after.interfaces, "interfaces")
        if not changes.keys() <= PLACEMENT:
            refuse_node(call, conn, after)
        return workflow_nodes.update_node(conn, after, now=now)

    return render_node(await api.database.write(update))


async def workflow_delete_node(call: Call, *, workflow_id: WorkflowId, node_id: NodeId) -> JsonMembers:
    """Answer `workflow.delete_node`: its connections go with it."""
    now = call.api.clock.now()

    def delete(conn: sqlite3.Connection) -> None:
        refuse_change(call, conn, workflow_id)
        workflow_nodes.delete_node(conn, workflow_id, node_id, now=now)

    await call.api.database.write(delete)
    return {"deleted": True, "node_id": node_id}


async def workflow_list_nodes(call: Call, *, workflow_id: WorkflowId, limit: int, after_id: int) -> JsonMembers:
    """Answer `workflow.list_nodes`."""
    page = await call.api.database.read(
        lambda conn: workflow_nodes.page_nodes(conn, workflow_id, limit=limit, after_id=after_id)
    )
    return render_page(page, render_node)


def render_node(node: WorkflowNode) -> JsonMembers:
    """Return a node; the document calls its id `node_id` where it is made."""
    return {**render(node), "node_id": node.id}


# ---------------------------------------------------------------- connections


async def workflow_add_connection(
    call: Call,
    *,
    workflow_id: WorkflowId,
    from_node_id: NodeId | None,
    from_interface_type: str,
    to_node_id: NodeId | None,
    to_interface_type: str,
    destination_file_name: str | None = None,
    from_interface_path: str = "",
    to_interface_path: str = "",
    include: Sequence[str] = (),
    source_path: str | None = None,
) -> JsonMembers:
    """Answer `workflow.add_connection`: ends that do not fit are refused here already."""
    api = call.api
    limit = api.config.limits.connections_per_workflow
    now = api.clock.now()
    connection = WorkflowConnection(
        id=ConnectionId(NO_ID),
        workflow_id=workflow_id,
        from_node_id=from_node_id,
        from_interface_type=parse_interface_type(from_interface_type),
        to_node_id=to_node_id,
        to_interface_type=parse_interface_type(to_interface_type),
        destination_file_name=destination_file_name or None,
        from_interface_path=from_interface_path,
        to_interface_path=to_interface_path,
        include=tuple(include),
        source_path=source_path,
    )
    await _check_source(call, source_path)

    def add(conn: sqlite3.Connection) -> WorkflowConnection:
        workflows.get_workflow(conn, workflow_id)
        refuse_change(call, conn, workflow_id)
        if workflow_connections.count_connections(conn, workflow_id) >= limit:
            raise LimitExceeded(f"A workflow has at most {limit} connections", hint="Split it into several workflows.")
        _check_connection(conn, connection)
        return workflow_connections.add_connection(conn, connection, now=now)

    return render_connection(await api.database.write(add))


async def _check_source(call: Call, source_path: str | None) -> None:
    """Raise `PermissionDenied` for a path that nobody, or not this caller, may name."""
    await refuse_paths(call, [source_path])
    if source_path is not None and uploaded_name(source_path) is None:
        await check_host_path(call.api.config, source_path, must_exist=False)


def _check_connection(conn: sqlite3.Connection, connection: WorkflowConnection) -> None:
    """Raise `ValidationFailed` with the document's rule where a connection cannot carry anything."""
    validate_connection(
        connection,
        workflow_nodes.list_nodes(conn, connection.workflow_id),
        workflow_connections.list_connections(conn, connection.workflow_id),
    )


async def workflow_update_connection(
    call: Call, *, workflow_id: WorkflowId, connection_id: ConnectionId, **changes: Any
) -> JsonMembers:
    """Answer `workflow.update_connection`: what is given is changed, and the whole has to fit again."""
    api = call.api
    now = api.clock.now()
    for name in ("from_interface_type", "to_interface_type"):
        if name in changes:
            changes[name] = parse_interface_type(changes[name])
    await _check_source(call, changes.get("source_path"))

    def update(conn: sqlite3.Connection) -> WorkflowConnection:
        refuse_change(call, conn, workflow_id)
        before = workflow_connections.get_connection(conn, workflow_id, connection_id)
        connection = replace(before, **changes)
        _check_connection(conn, connection)
        return workflow_connections.update_connection(conn, connection, now=now)

    return render_connection(await api.database.write(update))


async def workflow_delete_connection(
    call: Call, *, workflow_id: WorkflowId, connection_id: ConnectionId
) -> JsonMembers:
    """Answer `workflow.delete_connection`."""
    now = call.api.clock.now()

    def delete(conn: sqlite3.Connection) -> None:
        refuse_change(call, conn, workflow_id)
        workflow_connections.delete_connection(conn, workflow_id, connection_id, now=now)

    await call.api.database.write(delete)
    return {"deleted": True, "connection_id": connection_id}


async def workflow_list_connections(call: Call, *, workflow_id: WorkflowId, limit: int, after_id: int) -> JsonMembers:
    """Answer `workflow.list_connections`."""
    page = await call.api.database.read(
        lambda conn: workflow_connections.page_connections(conn, workflow_id, limit=limit, after_id=after_id)
    )
    return render_page(page, render_connection)


def render_connection(connection: WorkflowConnection) -> JsonMembers:
    """Return a connection; the document calls its id `connection_id` where it is made."""
    return {**render(connection), "connection_id": connection.id}


# ---------------------------------------------------------------- canvas


async def workflow_get_ui_state(call: Call, *, workflow_id: WorkflowId) -> JsonMembers:
    """Answer `workflow.get_ui_state`."""
    state: JsonMembers = render(
        await call.api.database.read(lambda conn: workflow_ui_state.get_ui_state(conn, workflow_id))
    )
    return state


async def workflow_set_ui_state(call: Call, *, workflow_id: WorkflowId, **changes: Any) -> JsonMembers:
    """Answer `workflow.set_ui_state`: what is given is changed."""
    now = call.api.clock.now()
    state: JsonMembers = render(
        await call.api.database.write(
            lambda conn: workflow_ui_state.set_ui_state(
                conn, replace(workflow_ui_state.get_ui_state(conn, workflow_id), **changes), now=now
            )
        )
    )
    return state


# ---------------------------------------------------------------- running


async def workflow_plan(call: Call, *, workflow_id: WorkflowId) -> JsonMembers:
    """Answer `workflow.plan`: what every executor would say."""
    report = await call.api.workflow_manager.plan(workflow_id)
    return {
        "ok": all(job.accepted for job in report.jobs) and all(edge.reachable for edge in report.edges),
        "jobs": [render(job) for job in report.jobs],
        "edges": [render(edge) for edge in report.edges],
    }


async def workflow_execute(
    call: Call,
    *,
    workflow_id: WorkflowId,
    passphrase: str | None = None,
    passphrases: Mapping[ServiceId, str],
    inputs: Mapping[ConnectionId, str],
    deadlines: Mapping[str, float],
) -> JsonMembers:
    """Answer `workflow.execute`: validated before the answer, run after it."""
    connections = await call.api.database.read(lambda conn: workflow_connections.list_connections(conn, workflow_id))
    await refuse_execution(call, connections, inputs)
    for path in inputs.values():
        if uploaded_name(path) is None:
            await check_host_path(call.api.config, path)
    await _keep_uploads(call.api, connections, inputs)
    execution_id = await call.api.workflow_manager.execute(
        workflow_id, passphrase=passphrase, passphrases=passphrases, inputs=inputs, deadlines=deadlines
    )
    return {"execution_id": execution_id, "status": ExecutionStatus.PENDING}


async def _keep_uploads(
    api: ApiContext, connections: Sequence[WorkflowConnection], inputs: Mapping[ConnectionId, str]
) -> None:
    """Keep the uploads that are to be sent from expiring now; those that are not there are told by what validates."""
    paths = {connection.id: connection.source_path or "" for connection in connections} | dict(inputs)
    for name in {name for path in paths.values() if (name := uploaded_name(path)) is not None}:
        with contextlib.suppress(NotFound):
            await api.uploads.claim(name)
