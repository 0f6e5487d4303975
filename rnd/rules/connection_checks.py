"""What can be wrong with a connection: its ends, its names, its patterns, its source (document: Validation Rules,
phase 3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from rnd.rules.definition import missing_node_problem
from rnd.rules.globs import PATTERNS_MAX, compile_globs, glob_problem
from rnd.rules.pairing import End, Pairing, PairingError, pair
from rnd.rules.paths import relative_path_problem
from rnd.rules.reading import is_storable
from rnd.rules.selection import STREAM_ORIGINS, stream_file_name
from rnd.rules.upload_names import uploaded_name
from rnd.types.enums import InterfaceType, ServiceType
from rnd.types.errors import Problem
from rnd.types.ids import ConnectionId, NodeId
from rnd.types.services import DataSettings, Service
from rnd.types.workflows import WorkflowConnection, WorkflowNode

SOURCE_PATH_BYTES_MAX: Final = 4096

Label = Callable[[ConnectionId], str]
"""What a message calls a connection."""


def connection_label(connection_id: ConnectionId) -> str:
    """Return what a connection is called where it has an id: `connection 5`."""
    return f"connection {connection_id}"


def connection_problems(connection: WorkflowConnection, nodes: Mapping[NodeId, WorkflowNode]) -> tuple[Problem, ...]:
    """Return what is wrong with one connection on its own, whatever else the workflow holds."""
    problems: list[Problem] = []
    ends = (connection.from_node_id, connection.to_node_id)
    if any(node_id is not None and node_id not in nodes for node_id in ends):
        problems.append(missing_node_problem(connection))
    else:
        from_node, to_node = (None if node_id is None else nodes[node_id] for node_id in ends)
        try:
            pairing = pair(connection, from_node, to_node)
        except PairingError as error:
            problems.append(Problem(check=error.check, message=error.message, connection_id=connection.id))
        else:
            problems += _destination_problems(connection, pairing)
    problems += [
        Problem(check="include", message=message, connection_id=connection.id)
        for message in _include_messages(connection)
    ]
    message = _source_message(connection)
    if message:
        problems.append(Problem(check="source_path", message=message, connection_id=connection.id))
    return tuple(problems)


def source_problems(
    connections: Sequence[WorkflowConnection], inputs: Collection[ConnectionId], label: Label
) -> tuple[Problem, ...]:
    """Return a problem for each connection from the self-peer that nobody names a file or folder for."""
    return tuple(
        Problem(
            check="source_path",
            message=f"{_capitalised(label(connection.id))} from the self-peer names no file or folder: set its source_path, "
            "or give it in inputs at workflow.execute",
            connection_id=connection.id,
        )
        for connection in connections
        if connection.from_node_id is None and not connection.source_path and connection.id not in inputs
    )


def name_problems(
    connections: Sequence[WorkflowConnection],
    pairings: Mapping[ConnectionId, Pairing],
    names: Mapping[NodeId, str],
    services: Mapping[NodeId, Service],
    label: Label,
) -> list[Problem]:
    """Return what is known of names before anything has run.

    Two connections that are bound to bring one name into one MOUNT, and a single name for DATA that holds several files.
    """
    problems: list[Problem] = []
    first: dict[tuple[NodeId, str, str], WorkflowConnection] = {}
    for connection in connections:
        pairing = pairings.get(connection.id)
        if pairing is None:
            continue
        problems += _one_name_problems(connection, services)
        target = pairing.destination.node
        name = _certain_name(connection, pairing.source)
        if target is None or pairing.destination.interface_type is not InterfaceType.MOUNT or name is None:
            continue
        other = first.setdefault((target.id, pairing.destination.path, name), connection)
        if other is not connection:
            message = (
                f"{_sender(other, names)} ({label(other.id)}) and {_sender(connection, names)} "
                f"({label(connection.id)}) would both bring {name!r} to MOUNT {pairing.destination.path} of "
                f"{names[target.id]}; give one of them another destination_file_name"
            )
            problems.append(
                Problem(check="name_collision", message=message, node_id=target.id, connection_id=connection.id)
            )
    return problems


def _capitalised(words: str) -> str:
    """Return the words as a sentence begins; a place in a document (`connections[0]`) stays as it is written there."""
    return words if words.endswith("]") else words[:1].upper() + words[1:]


def _sender(connection: WorkflowConnection, names: Mapping[NodeId, str]) -> str:
    return "self-peer" if connection.from_node_id is None else names[connection.from_node_id]


def _certain_name(connection: WorkflowConnection, source: End) -> str | None:
    """Return a name that the connection brings whatever its job leaves: its single name, or that of a stream."""
    chosen = connection.destination_file_name or ""
    if chosen and not chosen.endswith("/"):
        return chosen
    stream = STREAM_ORIGINS.get(source.interface_type)
    if stream is None or source.node is None or source.node.service_type is ServiceType.DATA:
        return None
    name = stream_file_name(stream)
    sound = all(glob_problem(pattern) is None for pattern in connection.include)
    if connection.include and not (sound and compile_globs(connection.include)(name)):
        return None
    return chosen + name


def _one_name_problems(connection: WorkflowConnection, services: Mapping[NodeId, Service]) -> list[Problem]:
    """Check a single name against DATA of this peer, whose number of files is known."""
    name = connection.destination_file_name
    if connection.from_node_id is None or not name or name.endswith("/") or connection.include:
        return []
    service = services.get(connection.from_node_id)
    if service is None or not isinstance(service.settings, DataSettings) or service.settings.file_count == 1:
        return []
    message = (
        f"destination_file_name {name!r} needs exactly one file, but DATA service {service.name} holds "
        f"{service.settings.file_count}; narrow it with include, or name a folder: {name + '/'!r}"
    )
    return [Problem(check="destination_file_name", message=message, connection_id=connection.id)]


def _destination_problems(connection: WorkflowConnection, pairing: Pairing) -> list[Problem]:
    """Check the name that files are to arrive under."""
    name = connection.destination_file_name
    if not name:
        return []
    message = None
    unsafe = relative_path_problem(name.removesuffix("/"))
    if unsafe:
        message = f"destination_file_name {name!r} {unsafe}"
    elif name.endswith("/") and pairing.destination.interface_type is InterfaceType.STDIN:
        message = f"destination_file_name {name!r} names a folder, but STDIN takes one stream"
    if message is None:
        return []
    return [Problem(check="destination_file_name", message=message, connection_id=connection.id)]


def _include_messages(connection: WorkflowConnection) -> list[str]:
    if len(connection.include) > PATTERNS_MAX:
        return [f"include has {len(connection.include)} patterns; at most {PATTERNS_MAX} are allowed"]
    return [
        f"include pattern {pattern!r} {problem}"
        for pattern in connection.include
        if (problem := glob_problem(pattern)) is not None
    ]


def _source_message(connection: WorkflowConnection) -> str | None:
    path = connection.source_path
    if path is None:
        return None
    if connection.from_node_id is not None:
        return "source_path is for connections from the self-peer only"
    return source_path_problem(path)


def source_path_problem(path: str) -> str | None:
    """Return why a path cannot name a file or folder of this host, or an upload, or `None`. It is not looked for here."""
    if uploaded_name(path) is not None:
        return None
    if not path.startswith("/"):
        return f"source_path {path!r} must be absolute, or upload:NAME"
    if not is_storable(path) or len(path.encode()) > SOURCE_PATH_BYTES_MAX:
        return f"source_path {path[:80]!r} is no path of this system"
    return None
