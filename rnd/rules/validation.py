"""Whether a workflow is sound, in the document's three phases and words; all problems at once (document: Validation
Rules)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rnd.rules.connection_checks import Label, connection_label, connection_problems, name_problems, source_problems
from rnd.rules.definition import cycle_problem
from rnd.rules.interfaces import STREAM_PATHS, validate_interfaces
from rnd.rules.pairing import Pairing, PairingError, mounts_that_fit, pair
from rnd.rules.paths import normalise_mount_path
from rnd.rules.topology import find_cycle, node_name_problem, node_names
from rnd.types.config import Limits
from rnd.types.enums import InterfaceType, ServiceStatus
from rnd.types.errors import Problem, ValidationFailed
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId
from rnd.types.services import DataSettings, Service, ServiceInterface
from rnd.types.workflows import WorkflowConnection, WorkflowNode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sketch:
    """The workflow under examination, with what is known of its services on this peer."""

    nodes: Mapping[NodeId, WorkflowNode]
    names: Mapping[NodeId, str]
    connections: Sequence[WorkflowConnection]
    pairings: Mapping[ConnectionId, Pairing]
    services: Mapping[NodeId, Service]


def validate_workflow(
    nodes: Sequence[WorkflowNode],
    connections: Sequence[WorkflowConnection],
    *,
    self_peer_id: PeerId,
    services: Mapping[ServiceId, Service],
    limits: Limits,
    inputs: Collection[ConnectionId] = (),
    label: Label = connection_label,
) -> tuple[Problem, ...]:
    """Return everything that is wrong with a workflow, none where it can be executed.

    `services` are this peer's; nodes that other peers execute are checked by those peers in phase 1. `inputs` are the
    self-peer connections whose source is (or may still be) given at `workflow.execute`. `label` says what messages call a
    connection.
    """
    excess = _limit_problems(nodes, connections, limits)
    if excess:
        return excess  # nothing else is worth saying about a graph that nobody wants to walk
    sketch = _sketch(nodes, connections, self_peer_id, services)
    return (
        *_basic_problems(nodes, self_peer_id, services),
        *(problem for node in nodes for problem in _node_problems(node)),
        *_shared_name_problems(nodes),
        *(problem for connection in connections for problem in connection_problems(connection, sketch.nodes)),
        *_download_problems(sketch),
        *duplicate_problems(connections, label),
        *source_problems(connections, inputs, label),
        *name_problems(connections, sketch.pairings, sketch.names, sketch.services, label),
        *_unconnected_problems(sketch),
        *_cycle_problems(nodes, connections, sketch.names),
    )


def validate_connection(
    connection: WorkflowConnection, nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection] = ()
) -> None:
    """Refuse a connection that can never be right, already when it is drawn.

    `connections` are those that the workflow has; one of the same id is what this one replaces. A node that would wait for
    itself, alone or with its neighbour, is refused; a longer cycle, and a source that is given later, more drawing can mend:
    they are left to `validate_workflow`. Raises `ValidationFailed`.
    """
    problems = connection_problems(connection, {node.id: node for node in nodes})
    identity = _identity(connection)
    others = (other for other in connections if other.id != connection.id)
    twin = next((other for other in others if _identity(other) == identity), None)
    if twin is not None:
        problems = (*problems, _duplicate_problem(connection, twin, connection_label))
    circles = circle_problems([*(other for other in connections if other.id != connection.id), connection], nodes)
    problems = (*problems, *(problem for problem in circles if problem.connection_id == connection.id))
    if problems:
        raise ValidationFailed(problems)


def changed_since_drawn(node: WorkflowNode, service: Service | None) -> str | None:
    """Return how a service differs from what a node was drawn with, or `None`: a warning, or with `pin` a problem."""
    return None if service is None else revision_changed(node, service.revision)


def revision_changed(node: WorkflowNode, revision: int | None) -> str | None:
    """Return in words that a node's service is at another revision than when it was drawn; `None` if not, or not known."""
    if revision is None or node.service_revision in (None, revision):
        return None
    return (
        f"Service {node.service_name} has been changed since this node was drawn: "
        f"revision {node.service_revision} then, {revision} now"
    )


def _sketch(
    nodes: Sequence[WorkflowNode],
    connections: Sequence[WorkflowConnection],
    self_peer_id: PeerId,
    services: Mapping[ServiceId, Service],
) -> _Sketch:
    by_id = {node.id: node for node in nodes}
    pairings: dict[ConnectionId, Pairing] = {}
    for connection in connections:
        try:
            from_node, to_node = (
                None if node_id is None else by_id[node_id]
                for node_id in (connection.from_node_id, connection.to_node_id)
            )
            pairings[connection.id] = pair(connection, from_node, to_node)
        except (KeyError, PairingError):
            continue  # connection_problems tells it
    return _Sketch(
        nodes=by_id,
        names=node_names(nodes),
        connections=connections,
        pairings=pairings,
        services={
            node.id: services[node.service_id]
            for node in nodes
            if node.peer_id == self_peer_id and node.service_id in services
        },
    )


def _limit_problems(
    nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection], limits: Limits
) -> tuple[Problem, ...]:
    counts = (
        ("nodes", len(nodes), limits.nodes_per_workflow),
        ("connections", len(connections), limits.connections_per_workflow),
    )
    return tuple(
        Problem(check="limits", message=f"Workflow has {count} {what}; at most {limit} are allowed")
        for what, count, limit in counts
        if count > limit
    )


def _basic_problems(
    nodes: Sequence[WorkflowNode], self_peer_id: PeerId, services: Mapping[ServiceId, Service]
) -> list[Problem]:
    """Phase 1: there is something to do, and what this peer executes exists as it was drawn."""
    if not nodes:
        return [Problem(check="jobs", message="Workflow must have at least one job")]
    problems: list[Problem] = []
    for node in nodes:
        if node.peer_id != self_peer_id:
            continue
        service = services.get(node.service_id)
        if service is None:
            message = f"Service {node.service_id} not found"
            problems.append(Problem(check="service_found", message=message, node_id=node.id))
        elif service.service_type is not node.service_type:
            problems.append(Problem(check="service_type", message="Service type mismatch", node_id=node.id))
        elif service.status is not ServiceStatus.ACTIVE:
            message = f"Service {service.name} is inactive"
            problems.append(Problem(check="service_active", message=message, node_id=node.id))
        if node.pin and (changed := changed_since_drawn(node, service)) is not None:
            problems.append(Problem(check="pin", message=f"{changed}; the node is pinned", node_id=node.id))
    return problems


def _node_problems(node: WorkflowNode) -> tuple[Problem, ...]:
    """Phase 2: the interfaces that the node declares, what it is pinned to, and its name: somebody may have typed them."""
    problems = validate_interfaces(node.service_type, node.interfaces, node_id=node.id)
    if node.pin and node.service_revision is None:
        message = f"Which revision of {node.service_name} the node is pinned to is not known"
        problems = (*problems, Problem(check="pin", message=message, node_id=node.id))
    wrong = node_name_problem(node.name) if node.name else None
    if wrong:
        problems = (*problems, Problem(check="node_name", message=f"The name of the node {wrong}", node_id=node.id))
    return problems


def _shared_name_problems(nodes: Sequence[WorkflowNode]) -> list[Problem]:
    """Phase 2: names that are given are given once."""
    first: dict[str, WorkflowNode] = {}
    problems: list[Problem] = []
    for node in nodes:
        other = first.setdefault(node.name, node)
        if node.name and other is not node:
            message = f"Node {node.id} is called {node.name!r}, as node {other.id} is already"
            problems.append(Problem(check="node_name", message=message, node_id=node.id))
    return problems


def _download_problems(sketch: _Sketch) -> list[Problem]:
    """Phase 2: DATA of this peer goes to the self-peer only where its owner lets it."""
    problems: list[Problem] = []
    for connection in sketch.connections:
        if connection.to_node_id is not None or connection.from_node_id is None:
            continue
        service = sketch.services.get(connection.from_node_id)
        if service is None or not isinstance(service.settings, DataSettings) or service.settings.downloadable:
            continue
        message = f"DATA service {service.name} is not downloadable: its owner lets it go to jobs only"
        problems.append(
            Problem(
                check="downloadable",
                message=message,
                node_id=connection.from_node_id,
                connection_id=connection.id,
            )
        )
    return problems


def duplicate_problems(connections: Sequence[WorkflowConnection], label: Label) -> list[Problem]:
    """Phase 3: two connections that would carry the same to the same place."""
    first: dict[object, WorkflowConnection] = {}
    problems: list[Problem] = []
    for connection in connections:
        twin = first.setdefault(_identity(connection), connection)
        if twin is not connection:
            problems.append(_duplicate_problem(connection, twin, label))
    return problems


def circle_problems(connections: Sequence[WorkflowConnection], nodes: Sequence[WorkflowNode]) -> list[Problem]:
    """Return a problem for each connection that closes a circle of one node or of two."""
    names = node_names(nodes)
    drawn: set[tuple[NodeId, NodeId]] = set()
    problems: list[Problem] = []
    for connection in connections:
        start, end = connection.from_node_id, connection.to_node_id
        if start is None or end is None or start not in names or end not in names:
            continue
        drawn.add((start, end))
        if (end, start) in drawn:
            circle = (start, end) if start == end else (end, start, end)
            message = "Workflow has a cycle: " + " -> ".join(names[node_id] for node_id in circle)
            problems.append(Problem(check="cycle", message=message, connection_id=connection.id))
    return problems


def _identity(connection: WorkflowConnection) -> object:
    """Return all that makes a connection what it is."""
    return (
        connection.from_node_id,
        connection.from_interface_type,
        normalise_mount_path(connection.from_interface_path),
        connection.to_node_id,
        connection.to_interface_type,
        normalise_mount_path(connection.to_interface_path),
        connection.destination_file_name or None,
        frozenset(connection.include),
        connection.source_path,
    )


def _duplicate_problem(connection: WorkflowConnection, twin: WorkflowConnection, label: Label) -> Problem:
    return Problem(
        check="duplicate_connection",
        message=f"The connection repeats {label(twin.id)}",
        connection_id=connection.id,
    )


def _unconnected_problems(sketch: _Sketch) -> list[Problem]:
    """Phase 3: inputs that a service requires and nobody feeds."""
    fed = {
        (pairing.destination.node.id, pairing.destination.interface_type, pairing.destination.path)
        for pairing in sketch.pairings.values()
        if pairing.destination.node is not None
    }
    problems: list[Problem] = []
    for node in sketch.nodes.values():
        receiving = mounts_that_fit(node, sends=False)
        for interface in node.interfaces:
            is_input = interface.interface_type is InterfaceType.STDIN or interface in receiving
            kind, path = _slot(interface)
            if interface.required and is_input and (node.id, kind, path) not in fed:
                what = f"MOUNT {path}" if kind is InterfaceType.MOUNT else kind.value
                message = f"{sketch.names[node.id]} requires an input at {what}, and nothing is connected to it"
                problems.append(Problem(check="required_input", message=message, node_id=node.id))
    return problems


def _slot(interface: ServiceInterface) -> tuple[InterfaceType, str]:
    kind = interface.interface_type
    return kind, normalise_mount_path(interface.path) if kind is InterfaceType.MOUNT else STREAM_PATHS[kind]


def _cycle_problems(
    nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection], names: Mapping[NodeId, str]
) -> list[Problem]:
    """Phase 3: nobody waits for itself."""
    return [cycle_problem(nodes, connections, names)] if find_cycle(nodes, connections) else []
