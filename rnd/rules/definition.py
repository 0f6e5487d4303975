"""Builds the workflow definition from nodes and connections (document: Workflow Execution, Key Data Structures)."""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rnd.rules.interfaces import STREAM_PATHS, STREAMS
from rnd.rules.pairing import End, PairingError, pair
from rnd.rules.paths import normalise_mount_path
from rnd.rules.reading import JsonObject, Reading
from rnd.rules.topology import find_cycle, job_order, node_names
from rnd.rules.upload_names import uploaded_name
from rnd.types.definitions import InputWait, InterfacePeerPlan, InterfacePlan, JobPlan, WorkflowDefinition
from rnd.types.enums import ExecutionConstraint, InterfaceType, MountFunction, ServiceType
from rnd.types.errors import Problem, ValidationFailed
from rnd.types.ids import SELF_PEER_JOB, ConnectionId, JobExecutionId, NodeId, PeerId, ServiceId
from rnd.types.workflows import WorkflowConnection, WorkflowNode

# Where the self-peer's ends lie, as a label for people: results that come home, files that are sent from here.
_RESULTS = "/results"
_SOURCES = "/source"

_Slot = tuple[InterfaceType, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    """One connection with both ends resolved and the name its file is known by at each end, where it is one file."""

    connection: WorkflowConnection
    source: End
    destination: End
    source_name: str | None
    destination_name: str | None
    lane: str


@dataclass(frozen=True, slots=True)
class _Wiring:
    """What is connected to one node: peers by interface, and what it waits for."""

    peers: dict[_Slot, list[InterfacePeerPlan]] = field(default_factory=dict)
    waits: list[InputWait] = field(default_factory=list)


def build_definition(
    nodes: Sequence[WorkflowNode],
    connections: Sequence[WorkflowConnection],
    *,
    self_peer_id: PeerId,
    single_files: Mapping[NodeId, str] | None = None,
) -> WorkflowDefinition:
    """Return the definition of a workflow: every job with its complete routing, feeders before those they feed.

    `single_files` gives the single file of DATA nodes that have just one, where that is known; it only makes the paths
    that people read more precise. Raises `ValidationFailed` where connections cannot be resolved or form a cycle;
    `validation.validate_workflow` finds that, and more, beforehand.
    """
    by_id = {node.id: node for node in nodes}
    names = node_names(nodes)
    edges = _edges(connections, by_id, single_files or {})
    try:
        ordered = job_order(nodes, connections)
    except graphlib.CycleError:
        raise ValidationFailed((cycle_problem(nodes, connections, names),)) from None
    wirings = {node.id: _Wiring() for node in nodes}
    for edge in edges:
        _wire(edge, wirings, self_peer_id)
    return WorkflowDefinition(
        jobs=tuple(_job(node, names[node.id], wirings[node.id], (single_files or {}).get(node.id)) for node in ordered)
    )


def cycle_problem(
    nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection], names: Mapping[NodeId, str]
) -> Problem:
    """Return the problem that names a cycle: "Workflow has a cycle: a -> b -> a"."""
    circle = find_cycle(nodes, connections) or ()
    path = " -> ".join(names[node_id] for node_id in circle)
    return Problem(check="cycle", message=f"Workflow has a cycle: {path}", node_id=circle[0] if circle else None)


def _edges(
    connections: Sequence[WorkflowConnection], by_id: Mapping[NodeId, WorkflowNode], single_files: Mapping[NodeId, str]
) -> list[_Edge]:
    """Resolve every connection, in the order of their ids."""
    shared = Counter((connection.from_node_id, connection.to_node_id) for connection in connections)
    edges: list[_Edge] = []
    problems: list[Problem] = []
    for connection in sorted(connections, key=lambda connection: connection.id):
        ends = (connection.from_node_id, connection.to_node_id)
        try:
            from_node, to_node = (None if node_id is None else by_id[node_id] for node_id in ends)
            pairing = pair(connection, from_node, to_node)
        except KeyError:
            problems.append(missing_node_problem(connection))
        except PairingError as error:
            problems.append(Problem(check=error.check, message=error.message, connection_id=connection.id))
        else:
            source_name = _source_name(connection, pairing.source, single_files)
            edges.append(
                _Edge(
                    connection=connection,
                    source=pairing.source,
                    destination=pairing.destination,
                    source_name=source_name,
                    destination_name=_destination_name(connection.destination_file_name, source_name),
                    lane=f"c{connection.id}" if shared[ends] > 1 else "",
                )
            )
    if problems:
        raise ValidationFailed(problems)
    return edges


def missing_node_problem(connection: WorkflowConnection) -> Problem:
    """Return the document's problem for a connection to a node that is not there."""
    return Problem(
        check="connection_nodes", message="Connection references non-existent node", connection_id=connection.id
    )


def _source_name(connection: WorkflowConnection, source: End, single_files: Mapping[NodeId, str]) -> str | None:
    """Return the name of the one file that a connection carries, where it is known before anything has run."""
    if source.node is None:
        path = connection.source_path or ""
        return uploaded_name(path) or PurePosixPath(path).name or None
    return single_files.get(source.node.id) if source.node.service_type is ServiceType.DATA else None


def _destination_name(chosen: str | None, source_name: str | None) -> str | None:
    """Return the name a connection's file arrives under; a chosen `name/` is a folder for it."""
    if chosen and chosen.endswith("/"):
        return chosen + source_name if source_name else chosen.rstrip("/")
    return chosen or source_name


def _wire(edge: _Edge, wirings: Mapping[NodeId, _Wiring], self_peer_id: PeerId) -> None:
    """Note an edge at both of its ends: each sees the other, and what the other does."""
    source, destination = edge.source, edge.destination
    if source.node is not None:
        to_destination = _peer(edge, destination, MountFunction.INPUT, self_peer_id)
        wirings[source.node.id].peers.setdefault((source.interface_type, source.path), []).append(to_destination)
    if destination.node is not None:
        from_source = _peer(edge, source, MountFunction.OUTPUT, self_peer_id)
        wiring = wirings[destination.node.id]
        wiring.peers.setdefault((destination.interface_type, destination.path), []).append(from_source)
        wiring.waits.append(InputWait(connection_id=edge.connection.id, from_node_id=edge.connection.from_node_id))


def _peer(edge: _Edge, end: End, does: MountFunction, self_peer_id: PeerId) -> InterfacePeerPlan:
    """Return one end of an edge as the job at the other end sees it."""
    connection = edge.connection
    sends = does is MountFunction.OUTPUT
    return InterfacePeerPlan(
        connection_id=connection.id,
        peer_id=self_peer_id if end.node is None else end.node.peer_id,
        peer_workflow_node_id=None if end.node is None else end.node.id,
        peer_job_execution_id=SELF_PEER_JOB if end.node is None else None,
        peer_interface_type=end.interface_type,
        peer_path=_peer_path(end, edge.source_name if sends else edge.destination_name, sends=sends),
        peer_file_name=connection.destination_file_name,
        peer_mount_function=does,
        include=connection.include,
        source_path=connection.source_path,
        lane=edge.lane,
    )


def _peer_path(end: End, name: str | None, *, sends: bool) -> str:
    """Return where the other end is, down to the file where it is known: `/output/dataset.csv`, `/input`."""
    self_peer = _SOURCES if sends else _RESULTS
    folder = self_peer if end.node is None else end.path
    return f"{folder}/{name}" if name else folder


def _job(node: WorkflowNode, name: str, wiring: _Wiring, file_name: str | None) -> JobPlan:
    waits = tuple(wiring.waits)
    return JobPlan(
        node_id=node.id,
        name=name,
        service_id=node.service_id,
        service_name=node.service_name,
        service_type=node.service_type,
        executor_peer_id=node.peer_id,
        execution_constraint=ExecutionConstraint.INPUTS_READY if waits else ExecutionConstraint.NONE,
        constraint_detail=waits,
        entrypoint=node.entrypoint,
        cmd=node.cmd,
        interfaces=_interfaces(node, wiring, file_name),
        pinned_revision=node.service_revision if node.pin else None,
    )


def _interfaces(node: WorkflowNode, wiring: _Wiring, file_name: str | None) -> tuple[InterfacePlan, ...]:
    """Return what the node declares, in its order, and then the streams that are connected without being declared.

    The STDOUT of a DATA node with one file is that file's path.
    """
    names_file = node.service_type is ServiceType.DATA and file_name is not None
    functions: dict[_Slot, MountFunction | None] = {}
    for interface in node.interfaces:
        kind = interface.interface_type
        if kind is InterfaceType.MOUNT:
            functions.setdefault((kind, normalise_mount_path(interface.path)), interface.mount_function)
        else:
            functions.setdefault((kind, STREAM_PATHS[kind]), None)
    for stream in STREAMS:
        slot = (stream, STREAM_PATHS[stream])
        if slot in wiring.peers:
            functions.setdefault(slot, None)
    return tuple(
        InterfacePlan(
            interface_type=kind,
            path=f"{path}/{file_name}" if names_file else path,
            mount_function=function,
            interface_peers=tuple(wiring.peers.get((kind, path), ())),
        )
        for (kind, path), function in functions.items()
    )


def definition_to_json(definition: WorkflowDefinition) -> dict[str, object]:
    """Return the definition as the document's JSON, with rnd's own fields beside the documented ones."""
    return {"jobs": [job_to_json(job) for job in definition.jobs]}


def definition_from_json(value: object) -> WorkflowDefinition:
    """Read what `definition_to_json` wrote. Raises `MalformedDocument` (a `ValueError`) that says what is wrong where."""
    reading = Reading()
    jobs = [
        job_from_json(reading.json_object(item, where)) for where, item in reading.json_object(value, "").items("jobs")
    ]
    reading.finish()
    return WorkflowDefinition(jobs=tuple(jobs))


def job_to_json(job: JobPlan, *, with_source_paths: bool = True) -> dict[str, object]:
    """Return one job as the document's JSON; entrypoint and cmd are absent where the service's own hold, pinned_revision
    where any will do.

    What is told to another peer is written without the paths of this peer's own files.
    """
    written: dict[str, object] = {
        "node_id": job.node_id,
        "name": job.name,
        "service_id": job.service_id,
        "service_name": job.service_name,
        "service_type": job.service_type.value,
        "executor_peer_id": job.executor_peer_id,
        "execution_constraint": job.execution_constraint.value,
        "constraint_detail": [
            {"connection_id": wait.connection_id, "from_node_id": wait.from_node_id} for wait in job.constraint_detail
        ],
    }
    if job.entrypoint is not None:
        written["entrypoint"] = list(job.entrypoint)
    if job.cmd is not None:
        written["cmd"] = list(job.cmd)
    if job.pinned_revision is not None:
        written["pinned_revision"] = job.pinned_revision
    written["interfaces"] = [
        {
            "type": interface.interface_type.value,
            "path": interface.path,
            "mount_function": interface.mount_function.value if interface.mount_function is not None else None,
            "interface_peers": [
                _peer_to_json(peer, with_source_path=with_source_paths) for peer in interface.interface_peers
            ],
        }
        for interface in job.interfaces
    ]
    return written


def _peer_to_json(peer: InterfacePeerPlan, *, with_source_path: bool) -> dict[str, object]:
    """Write one end. `peer_workflow_job_id` holds the node id at planning time; the self-peer has no job to name."""
    is_self_peer = peer.peer_workflow_node_id is None
    written: dict[str, object] = {
        "peer_id": peer.peer_id,
        "peer_workflow_job_id": peer.peer_workflow_node_id,
        "peer_workflow_node_id": peer.peer_workflow_node_id,
        "peer_job_execution_id": None if is_self_peer else peer.peer_job_execution_id,
        "peer_path": peer.peer_path,
        "peer_file_name": peer.peer_file_name,
        "peer_mount_function": peer.peer_mount_function.value,
        "peer_interface_type": peer.peer_interface_type.value,
        "connection_id": peer.connection_id,
        "include": list(peer.include),
    }
    if with_source_path:
        written["source_path"] = peer.source_path
    written["lane"] = peer.lane
    return written


def job_from_json(item: JsonObject, *, with_source_paths: bool = True) -> JobPlan:
    """Read one job of a definition; what is wrong is noted in the item's reading.

    What another peer says is read without `source_path`: it names files of nobody but the peer that wrote it.
    """
    return JobPlan(
        node_id=NodeId(item.integer("node_id")),
        name=item.text("name"),
        service_id=ServiceId(item.integer("service_id")),
        service_name=item.text("service_name"),
        service_type=item.word("service_type", ServiceType),
        executor_peer_id=PeerId(item.text("executor_peer_id")),
        execution_constraint=item.word("execution_constraint", ExecutionConstraint),
        constraint_detail=tuple(
            _wait_from_json(item.reading.json_object(wait, where)) for where, wait in item.items("constraint_detail")
        ),
        entrypoint=item.texts_or_none("entrypoint"),
        cmd=item.texts_or_none("cmd"),
        interfaces=tuple(
            _interface_from_json(item.reading.json_object(interface, where), with_source_paths=with_source_paths)
            for where, interface in item.items("interfaces")
        ),
        pinned_revision=item.integer_or_none("pinned_revision"),
    )


def _wait_from_json(item: JsonObject) -> InputWait:
    return InputWait(
        connection_id=ConnectionId(item.integer("connection_id")), from_node_id=_node_id(item, "from_node_id")
    )


def _interface_from_json(item: JsonObject, *, with_source_paths: bool) -> InterfacePlan:
    return InterfacePlan(
        interface_type=item.word("type", InterfaceType),
        path=item.text("path"),
        mount_function=item.word_or_none("mount_function", MountFunction),
        interface_peers=tuple(
            _peer_from_json(item.reading.json_object(peer, where), with_source_path=with_source_paths)
            for where, peer in item.items("interface_peers")
        ),
    )


def _peer_from_json(item: JsonObject, *, with_source_path: bool) -> InterfacePeerPlan:
    node_id = _node_id(item, "peer_workflow_node_id")
    job_id = item.integer_or_none("peer_job_execution_id")
    return InterfacePeerPlan(
        connection_id=ConnectionId(item.integer("connection_id")),
        peer_id=PeerId(item.text("peer_id")),
        peer_workflow_node_id=node_id,
        peer_job_execution_id=SELF_PEER_JOB if node_id is None else _job_id(job_id),
        peer_interface_type=item.word("peer_interface_type", InterfaceType),
        peer_path=item.text("peer_path"),
        peer_file_name=item.text_or_none("peer_file_name"),
        peer_mount_function=item.word("peer_mount_function", MountFunction),
        include=item.texts("include"),
        source_path=item.text_or_none("source_path") if with_source_path else None,
        lane=item.text("lane", ""),
    )


def _node_id(item: JsonObject, key: str) -> NodeId | None:
    number = item.integer_or_none(key)
    return None if number is None else NodeId(number)


def _job_id(number: int | None) -> JobExecutionId | None:
    return None if number is None else JobExecutionId(number)
