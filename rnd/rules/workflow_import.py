"""From a document to a drawing: services are looked up by name, ends by the names of nodes, and everything is checked.

A drawing that is not stored yet has no ids. Its nodes and connections carry their position in the document, counted from 1,
until the database gives them their own; problems are told by place (`connections[0]`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rnd.rules.connection_checks import connection_problems
from rnd.rules.interfaces import INTERFACE_CHECKS, default_interfaces, validate_interfaces
from rnd.rules.validation import circle_problems, duplicate_problems, validate_workflow
from rnd.rules.workflow_file import FileConnection, FileNode, FileReading
from rnd.types.config import Limits
from rnd.types.enums import ServiceType
from rnd.types.errors import Problem
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.services import RemoteService, Service, ServiceInterface
from rnd.types.workflows import WorkflowConnection, WorkflowNode

UNSTORED = WorkflowId(0)
"""The workflow of a drawing that is not stored."""

UNKNOWN_SERVICE = ServiceId(0)
"""The id of a service whose peer was not asked: it is not in a document, and that peer finds the service by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnDocument:
    """The parts of a document that can be drawn, and every problem that keeps the whole from being imported."""

    nodes: tuple[WorkflowNode, ...]
    connections: tuple[WorkflowConnection, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServices:
    """What is known of the services that a document names: this peer's by name, others by peer and name.

    `misplaced` are the nodes, by their position, whose service cannot be known, each with the reason.
    """

    here: Mapping[str, Service]
    elsewhere: Mapping[tuple[PeerId, str], RemoteService]
    misplaced: Mapping[int, Problem]


def draw(read: FileReading, services: KnownServices, *, self_peer_id: PeerId) -> DrawnDocument:
    """Draw what was read, every node of which names its peer by id. Parts that were misread are told and left out."""
    problems = [Problem(check="document", message=misreading) for misreading in read.misreadings]
    nodes: dict[str, WorkflowNode] = {}
    for at, drawn in enumerate(read.file.nodes):
        if at not in read.sound_nodes:
            continue
        if at in services.misplaced:
            problems.append(replace(services.misplaced[at], place=node_place(NodeId(at + 1))))
            continue
        service: Service | RemoteService | None
        if _is_here(drawn, self_peer_id):
            service = services.here.get(drawn.service_name)
        else:
            service = services.elsewhere.get((PeerId(drawn.peer_id or ""), drawn.service_name))
        node, wrong = _node(at, drawn, service, self_peer_id)
        problems += wrong
        if node is not None:
            nodes.setdefault(drawn.name, node)
    by_id = {node.id: node for node in nodes.values()}
    connections: list[WorkflowConnection] = []
    for at, drawn_connection in enumerate(read.file.connections):
        if at not in read.sound_connections:
            continue
        connection = _connection(at, drawn_connection, nodes)
        ends_drawn = all(end is None or end in nodes for end in (drawn_connection.from_node, drawn_connection.to_node))
        problems += (
            placed(problem)
            for problem in connection_problems(connection, by_id)
            # What is wrong with a node that could not be drawn has been said there.
            if ends_drawn or problem.check != "connection_nodes"
        )
        if ends_drawn:
            connections.append(connection)
    problems += map(placed, duplicate_problems(connections, connection_place))
    problems += map(placed, circle_problems(connections, list(by_id.values())))
    return DrawnDocument(nodes=tuple(nodes.values()), connections=tuple(connections), problems=tuple(problems))


def drawing_problems(
    drawn: DrawnDocument, services: Mapping[ServiceId, Service], *, self_peer_id: PeerId, limits: Limits
) -> tuple[Problem, ...]:
    """Return what keeps a document from being executed, those problems first that keep it from being imported."""
    found = validate_workflow(
        drawn.nodes,
        drawn.connections,
        self_peer_id=self_peer_id,
        services=services,
        limits=limits,
        label=connection_place,
    )
    # What depends on parts that could not be drawn would only repeat in other words what is said of them.
    hidden = {"jobs", "required_input"} if drawn.problems else set()
    if any(problem.check == "cycle" for problem in drawn.problems):
        hidden.add("cycle")
    later = (placed(problem) for problem in found if problem.check not in hidden)
    return tuple(dict.fromkeys((*drawn.problems, *later)))


def placed(problem: Problem) -> Problem:
    """Return the problem of an unstored part with its place in the document instead of ids."""
    place = None
    if problem.connection_id is not None:
        place = connection_place(problem.connection_id)
    elif problem.node_id is not None:
        place = node_place(problem.node_id) + (".interfaces" if problem.check in INTERFACE_CHECKS else "")
    return replace(problem, node_id=None, connection_id=None, place=place)


def node_place(node_id: NodeId) -> str:
    """Return where an unstored node stands in its document."""
    return f"nodes[{node_id - 1}]"


def connection_place(connection_id: ConnectionId) -> str:
    """Return where an unstored connection stands in its document."""
    return f"connections[{connection_id - 1}]"


def names_here(read: FileReading, self_peer_id: PeerId) -> frozenset[str]:
    """Return the names of the services of this peer that a document asks for."""
    return frozenset(node.service_name for node in read.file.nodes if _is_here(node, self_peer_id))


def _is_here(node: FileNode, self_peer_id: PeerId) -> bool:
    return node.peer_id is None or node.peer_id == self_peer_id


def _node(
    at: int, drawn: FileNode, service: Service | RemoteService | None, self_peer_id: PeerId
) -> tuple[WorkflowNode | None, list[Problem]]:
    """Return the node, as far as there can be one, and what is wrong with it."""
    node_id = NodeId(at + 1)

    def problem(check: str, message: str) -> Problem:
        return Problem(check=check, message=message, place=node_place(node_id))

    if service is None and _is_here(drawn, self_peer_id):
        return None, [problem("service", f"Service {drawn.service_name} not found")]
    service_type = drawn.service_type or (service.service_type if service is not None else None)
    if service_type is None:
        message = f"Node {drawn.name}: a service of another peer needs its service_type"
        return None, [problem("service_type", message)]
    problems: list[Problem] = []
    if service is not None and service.service_type is not service_type:
        problems.append(problem("service_type", "Service type mismatch"))
        service_type = service.service_type
    interfaces = _interfaces(drawn, service, service_type)
    problems += map(placed, validate_interfaces(service_type, interfaces, node_id=node_id))
    node = WorkflowNode(
        id=node_id,
        workflow_id=UNSTORED,
        service_id=UNKNOWN_SERVICE if service is None else service.id,
        peer_id=self_peer_id if drawn.peer_id is None else PeerId(drawn.peer_id),
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
        service_revision=drawn.pin or (None if service is None else service.revision),
        pin=drawn.pin is not None,
    )
    return node, problems


def _interfaces(
    drawn: FileNode, service: Service | RemoteService | None, service_type: ServiceType
) -> tuple[ServiceInterface, ...]:
    if drawn.interfaces is not None:
        return drawn.interfaces
    return default_interfaces(service_type) if service is None else service.interfaces


def _connection(at: int, drawn: FileConnection, nodes: Mapping[str, WorkflowNode]) -> WorkflowConnection:
    return WorkflowConnection(
        id=ConnectionId(at + 1),
        workflow_id=UNSTORED,
        from_node_id=_end(drawn.from_node, nodes),
        from_interface_type=drawn.from_interface_type,
        to_node_id=_end(drawn.to_node, nodes),
        to_interface_type=drawn.to_interface_type,
        destination_file_name=drawn.destination_file_name,
        from_interface_path=drawn.from_interface_path,
        to_interface_path=drawn.to_interface_path,
        include=drawn.include,
        source_path=drawn.source_path,
    )


def _end(name: str | None, nodes: Mapping[str, WorkflowNode]) -> NodeId | None:
    """Return the node of that name; one that could not be drawn has an id that no node has."""
    if name is None:
        return None
    return nodes[name].id if name in nodes else NodeId(0)
