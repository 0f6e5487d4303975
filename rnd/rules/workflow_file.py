"""The file format `rnd.workflow/1`: a workflow that can be kept, sent and imported elsewhere, without this peer's ids.

The structure is JSON (or TOML, which the caller parses into the same):

    {"format": "rnd.workflow/1", "name": "Count words", "description": "",
     "services": {"split": {"service_type": "STANDALONE", "interfaces": [...]}},
     "nodes": [{"name": "split", "service_name": "split", "peer_id": "rn...", "cmd": ["-l"], "gui_x": 40, "gui_y": 0}],
     "connections": [{"from": "text", "from_interface_type": "STDOUT", "to": "split", "to_interface_type": "STDIN"},
                     {"from": "split", "from_interface_type": "STDOUT", "to": null}],
     "layout": {"zoom_level": 1.0}}

Fields are called as in the schema. `services` says once what several nodes may share; a node may say it for itself. An end
that is null or left out is the self-peer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rnd.rules.interfaces import interfaces_from_json, interfaces_to_json
from rnd.rules.reading import JsonObject, MalformedDocument, Reading, suggestion
from rnd.rules.topology import node_name_problem
from rnd.types.enums import InterfaceType, ServiceType
from rnd.types.errors import ValidationFailed
from rnd.types.services import ServiceInterface

FORMAT: Final = "rnd.workflow/1"
NAME_CHARACTERS_MAX: Final = 200
COORDINATE_MAX: Final = 1_000_000_000
REVISION_MAX: Final = 2**53
SUGGESTIONS_MAX: Final = 20
"""How many unknown names a document is told the nearest known one for: each costs a look at every name."""

Part = TypeVar("Part")

_TOP_KEYS: Final = ("format", "name", "description", "services", "nodes", "connections", "layout")
_SERVICE_KEYS: Final = ("service_type", "interfaces")
_NODE_KEYS: Final = (
    "name", "service_name", "service_type", "peer_id", "peer", "order", "gui_x", "gui_y", "interfaces", "entrypoint", "cmd",
    "pin",
)  # fmt: skip
_CONNECTION_KEYS: Final = (
    "from", "from_interface_type", "from_interface_path", "to", "to_interface_type", "to_interface_path",
    "destination_file_name", "include", "source_path",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNode:
    """One node: which service it uses, by name, and on which peer.

    That is `peer_id`, or `peer` (an id, or the name that the importing peer has for it); both `None`: the peer that
    imports, unless `service_name` is `peer/service` (`split_service`). `service_type` and `interfaces` are `None` where the file leaves them to the service that is found.
    `pin` is the one revision of its service that the node runs with; `None`: any.
    """

    name: str
    service_name: str
    service_type: ServiceType | None = None
    peer_id: str | None = None
    peer: str | None = None
    order: int = 0
    gui_x: int = 0
    gui_y: int = 0
    interfaces: tuple[ServiceInterface, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    pin: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileConnection:
    """One connection between nodes by their names; `None` is the self-peer."""

    from_node: str | None
    from_interface_type: InterfaceType
    to_node: str | None
    to_interface_type: InterfaceType
    from_interface_path: str = ""
    to_interface_path: str = ""
    destination_file_name: str | None = None
    include: tuple[str, ...] = ()
    source_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the canvas was left."""

    snap_to_grid: bool = True
    zoom_level: float = 1.0
    pan_x: float = 0.0
    pan_y: float = 0.0
    self_peer_x: float = 0.0
    self_peer_y: float = 0.0


_LAYOUT_KEYS: Final = ("snap_to_grid", "zoom_level", "pan_x", "pan_y", "self_peer_x", "self_peer_y")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFile:
    """A workflow as its file says it, checked in itself: names are unique and connections meet nodes."""

    name: str
    description: str = ""
    nodes: tuple[FileNode, ...] = ()
    connections: tuple[FileConnection, ...] = ()
    layout: Layout = Layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """What could be read of a document, and every misreading with its place (`nodes[2].cmd`).

    `file` keeps the document's positions. What `sound_nodes` and `sound_connections` (positions) leave out was misread and
    stands for nothing.
    """

    file: WorkflowFile
    misreadings: tuple[str, ...]
    sound_nodes: frozenset[int]
    sound_connections: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    service_type: ServiceType | None
    interfaces: tuple[ServiceInterface, ...] | None
    misread: bool = False


def parse_workflow_file(document: object) -> WorkflowFile:
    """Read a document of format `rnd.workflow/1`.

    Raises `MalformedDocument` (a `ValueError`) whose `misreadings` name every problem with its place (`nodes[2].cmd`).
    """
    read = read_workflow_file(document)
    if read.misreadings:
        raise MalformedDocument(read.misreadings)
    return read.file


def read_workflow_file(document: object) -> FileReading:
    """Read as much of a document of format `rnd.workflow/1` as there is to read."""
    reading = Reading()
    top = reading.json_object(document, "", known=_TOP_KEYS)
    if "format" not in top.fields and not top.malformed:
        reading.note("format", f"is missing; it is {FORMAT}")
    said = top.text("format", FORMAT)
    if "format" in top.fields and said != FORMAT and isinstance(top.fields["format"], str):
        reading.note("format", f"must be {FORMAT}, not {said!r}")
    services = _read_services(top)
    nodes, sound_nodes = _read_each(top, "nodes", _NODE_KEYS, lambda item: _read_node(item, services))
    _note_shared_names(reading, nodes)
    names = _Names({node.name for node in nodes})
    connections, sound_connections = _read_each(
        top, "connections", _CONNECTION_KEYS, lambda item: _read_connection(item, names), optional=True
    )
    file = WorkflowFile(
        name=_short_text(top, "name"),
        description=top.text("description", ""),
        nodes=nodes,
        connections=connections,
        layout=_read_layout(top),
    )
    unread = {
        at for at, node in enumerate(nodes) if node.service_name in services and services[node.service_name].misread
    }
    return FileReading(
        file=file,
        misreadings=tuple(reading.misreadings),
        sound_nodes=sound_nodes - unread,
        sound_connections=sound_connections,
    )


def split_service(service_name: str) -> tuple[str, str] | None:
    """Return peer and service of a name written `peer/service`, cut at the first slash; `None` where it is not."""
    peer, slash, service = service_name.partition("/")
    return (peer, service) if peer.strip() and slash and service.strip() else None


def emit_workflow_file(workflow: WorkflowFile) -> dict[str, object]:
    """Return the document that `parse_workflow_file` reads back into the same record; what is default is left out."""
    services = _shared_services(workflow.nodes)
    written: dict[str, object] = {"format": FORMAT, "name": workflow.name}
    if workflow.description:
        written["description"] = workflow.description
    named = {name: _emit_service(service) for name, service in services.items()}
    if any(named.values()):
        written["services"] = {name: service for name, service in named.items() if service}
    written["nodes"] = [_emit_node(node, services[node.service_name]) for node in workflow.nodes]
    if workflow.connections:
        written["connections"] = [_emit_connection(connection) for connection in workflow.connections]
    if workflow.layout != Layout():
        written["layout"] = {key: getattr(workflow.layout, key) for key in _LAYOUT_KEYS}
    return written


def _read_each(
    top: JsonObject, key: str, known: Sequence[str], read: Callable[[JsonObject], Part], *, optional: bool = False
) -> tuple[tuple[Part, ...], frozenset[int]]:
    """Read the objects of a list; return them with the positions of those that were read without a misreading."""
    notes = top.reading.misreadings
    objects: list[JsonObject] = []
    misread: set[int] = set()
    for at, (where, value) in enumerate(top.items(key, optional=optional)):
        noted = len(notes)
        objects.append(top.reading.json_object(value, where, known=known))
        if len(notes) > noted:
            misread.add(at)
    parts: list[Part] = []
    for at, item in enumerate(objects):
        noted = len(notes)
        parts.append(read(item))
        if len(notes) > noted:
            misread.add(at)
    return tuple(parts), frozenset(range(len(parts))) - misread


@dataclass(slots=True)
class _Names:
    """The names of all nodes. The nearest one is looked for a few times, and then no more."""

    known: Collection[str]
    suggested: int = 0

    def suggestion(self, name: str) -> str:
        self.suggested += 1
        return suggestion(name, self.known) if self.suggested <= SUGGESTIONS_MAX else ""


def _short_text(item: JsonObject, key: str) -> str:
    """Read a required name: not empty, and of a length that fits a line."""
    text = item.text(key)
    if item.has(key) and not text.strip():
        item.reading.note(item.place(key), "must not be empty")
    elif len(text) > NAME_CHARACTERS_MAX:
        item.reading.note(item.place(key), f"must have at most {NAME_CHARACTERS_MAX} characters")
    return text


def _read_services(top: JsonObject) -> Mapping[str, _Service]:
    if not top.has("services"):
        return {}
    section = top.reading.json_object(top.fields["services"], "services")
    services: dict[str, _Service] = {}
    for name, value in section.fields.items():
        noted = len(top.reading.misreadings)
        item = top.reading.json_object(value, section.place(name), known=_SERVICE_KEYS)
        service_type, interfaces = item.word_or_none("service_type", ServiceType), _read_interfaces(item)
        misread = len(top.reading.misreadings) > noted
        services[name] = _Service(service_type=service_type, interfaces=interfaces, misread=misread)
    return services


def _read_interfaces(item: JsonObject) -> tuple[ServiceInterface, ...] | None:
    if not item.has("interfaces"):
        return None
    try:
        return interfaces_from_json(item.fields["interfaces"])
    except ValidationFailed as error:
        for problem in error.problems:
            if problem.check == "interface":  # the message begins with its place: interfaces[0].path: ...
                item.reading.misreadings.append(item.place(problem.message))
            else:
                item.reading.note(item.place("interfaces"), problem.message)
        return ()


def _read_node(item: JsonObject, services: Mapping[str, _Service]) -> FileNode:
    service_name = _short_text(item, "service_name")
    shared = services.get(service_name, _Service(service_type=None, interfaces=None))
    own_interfaces = _read_interfaces(item)
    return FileNode(
        name=_node_name(item),
        service_name=service_name,
        service_type=item.word_or_none("service_type", ServiceType) or shared.service_type,
        peer_id=item.text_or_none("peer_id"),
        peer=_peer(item),
        order=_coordinate(item, "order"),
        gui_x=_position(item, "gui_x"),
        gui_y=_position(item, "gui_y"),
        interfaces=shared.interfaces if own_interfaces is None else own_interfaces,
        entrypoint=item.texts_or_none("entrypoint"),
        cmd=item.texts_or_none("cmd"),
        pin=_pin(item),
    )


def _pin(item: JsonObject) -> int | None:
    revision = item.integer_or_none("pin")
    if revision is not None and not 1 <= revision <= REVISION_MAX:
        item.reading.note(item.place("pin"), "must be a revision: 1 or more")
    return revision


def _peer(item: JsonObject) -> str | None:
    peer = item.text_or_none("peer")
    if peer is not None and item.has("peer_id"):
        item.reading.note(item.place("peer"), "says the same as peer_id; give one of them")
    elif peer == "":
        item.reading.note(item.place("peer"), "must not be empty")
    return peer


def _node_name(item: JsonObject) -> str:
    name = item.text("name")
    problem = node_name_problem(name) if item.has("name") and isinstance(item.fields["name"], str) else None
    if problem:
        item.reading.note(item.place("name"), problem)
    return name


def _coordinate(item: JsonObject, key: str) -> int:
    number = item.integer(key, 0)
    if abs(number) > COORDINATE_MAX:
        item.reading.note(item.place(key), "is too large a number")
    return number


def _position(item: JsonObject, key: str) -> int:
    """Read a place on the canvas: designers send fractions, the schema keeps whole pixels."""
    number = item.number(key, 0.0)
    if abs(number) > COORDINATE_MAX:
        item.reading.note(item.place(key), "is too large a number")
    return round(number)


def _note_shared_names(reading: Reading, nodes: Sequence[FileNode]) -> None:
    first: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if first.setdefault(node.name, index) != index and node.name:
            reading.note(f"nodes[{index}].name", f"{node.name!r} is the name of nodes[{first[node.name]}] already")


def _read_connection(item: JsonObject, names: _Names) -> FileConnection:
    from_node, to_node = _read_end(item, "from", names), _read_end(item, "to", names)
    if not item.has("from") and not item.has("to") and not item.malformed:
        item.reading.note(item.where, "needs a node in from or in to; left out, both are the self-peer")
    return FileConnection(
        from_node=from_node,
        from_interface_type=_read_interface_type(item, "from", InterfaceType.STDOUT),
        to_node=to_node,
        to_interface_type=_read_interface_type(item, "to", InterfaceType.MOUNT),
        from_interface_path=item.text("from_interface_path", ""),
        to_interface_path=item.text("to_interface_path", ""),
        destination_file_name=item.text_or_none("destination_file_name"),
        include=item.texts("include"),
        source_path=item.text_or_none("source_path"),
    )


def _read_end(item: JsonObject, key: str, names: _Names) -> str | None:
    name = item.text_or_none(key)
    if name is not None and name not in names.known:
        item.reading.note(item.place(key), f"no node is named {name!r}{names.suggestion(name)}")
    return name


def _read_interface_type(item: JsonObject, end: str, at_self_peer: InterfaceType) -> InterfaceType:
    """Read the interface of one end; the self-peer has none, so there the word may be left out."""
    default = None if item.has(end) else at_self_peer
    return item.word(f"{end}_interface_type", InterfaceType, default)


def _read_layout(top: JsonObject) -> Layout:
    if not top.has("layout"):
        return Layout()
    item = top.reading.json_object(top.fields["layout"], "layout", known=_LAYOUT_KEYS)
    return Layout(
        snap_to_grid=item.flag("snap_to_grid", default=True),
        zoom_level=item.number("zoom_level", 1.0),
        pan_x=item.number("pan_x", 0.0),
        pan_y=item.number("pan_y", 0.0),
        self_peer_x=item.number("self_peer_x", 0.0),
        self_peer_y=item.number("self_peer_y", 0.0),
    )


def _shared_services(nodes: Sequence[FileNode]) -> dict[str, _Service]:
    """Return for each service name what all its nodes agree on."""
    services: dict[str, _Service] = {}
    for node in nodes:
        own = _Service(service_type=node.service_type, interfaces=node.interfaces)
        seen = services.get(node.service_name, own)
        services[node.service_name] = _Service(
            service_type=own.service_type if own.service_type is seen.service_type else None,
            interfaces=own.interfaces if own.interfaces == seen.interfaces else None,
        )
    return services


def _emit_service(service: _Service) -> dict[str, object]:
    written: dict[str, object] = {}
    if service.service_type is not None:
        written["service_type"] = service.service_type.value
    if service.interfaces is not None:
        written["interfaces"] = interfaces_to_json(service.interfaces)
    return written


def _emit_node(node: FileNode, shared: _Service) -> dict[str, object]:
    own = _Service(
        service_type=None if node.service_type is shared.service_type else node.service_type,
        interfaces=None if node.interfaces == shared.interfaces else node.interfaces,
    )
    written: dict[str, object] = {"name": node.name, "service_name": node.service_name, **_emit_service(own)}
    if node.peer_id is not None:
        written["peer_id"] = node.peer_id
    if node.peer is not None:
        written["peer"] = node.peer
    for key in ("order", "gui_x", "gui_y"):
        if getattr(node, key):
            written[key] = getattr(node, key)
    if node.entrypoint is not None:
        written["entrypoint"] = list(node.entrypoint)
    if node.cmd is not None:
        written["cmd"] = list(node.cmd)
    if node.pin is not None:
        written["pin"] = node.pin
    return written


def _emit_connection(connection: FileConnection) -> dict[str, object]:
    """Write a connection. The self-peer is an end left out, since TOML has no null."""
    written: dict[str, object] = {}
    for end, name, kind, path in (
        ("from", connection.from_node, connection.from_interface_type, connection.from_interface_path),
        ("to", connection.to_node, connection.to_interface_type, connection.to_interface_path),
    ):
        if name is not None:
            written[end] = name
        written[f"{end}_interface_type"] = kind.value
        if path:
            written[f"{end}_interface_path"] = path
    if connection.destination_file_name is not None:
        written["destination_file_name"] = connection.destination_file_name
    if connection.include:
        written["include"] = list(connection.include)
    if connection.source_path is not None:
        written["source_path"] = connection.source_path
    return written
