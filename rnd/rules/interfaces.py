"""The ways in and out that a service declares: their defaults, how they are read, and which of them are sound
(document: Node Types, Validation Rules phase 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from rnd.rules.containers import container_mount_problem
from rnd.rules.paths import OUTPUT_MOUNT, mount_target_problem, nested_mounts, normalise_mount_path
from rnd.rules.reading import JsonObject, Reading
from rnd.types.enums import InterfaceType, MountFunction, ServiceType
from rnd.types.errors import Problem, ValidationFailed
from rnd.types.ids import NodeId
from rnd.types.services import ServiceInterface

STREAMS: Final = (InterfaceType.STDIN, InterfaceType.STDOUT, InterfaceType.STDERR, InterfaceType.LOGS)
"""What every DOCKER and STANDALONE job has, declared or not."""

STREAM_PATHS: Final = {
    InterfaceType.STDIN: "/input",
    InterfaceType.STDOUT: "/output",
    InterfaceType.STDERR: "/logs/stderr.txt",
    InterfaceType.LOGS: "/logs/logs.txt",
}

INTERFACE_CHECKS: Final = frozenset(
    {"data_interfaces", "duplicate_interface", "data_stdout", "nested_mounts", "mount_target", "mount_function"}
)
"""The checks of `validate_interfaces`."""

_INTERFACE_KEYS: Final = ("interface_type", "type", "path", "mount_function", "required", "description")

Note = Callable[[str, str], None]


def default_interfaces(service_type: ServiceType) -> tuple[ServiceInterface, ...]:
    """Return the interfaces of a service that declares none."""
    streams = (InterfaceType.STDOUT,) if service_type is ServiceType.DATA else STREAMS
    return tuple(ServiceInterface(interface_type=stream) for stream in streams)


def with_streams(service_type: ServiceType, interfaces: Sequence[ServiceInterface]) -> tuple[ServiceInterface, ...]:
    """Return the interfaces with the streams added that every job of this type has, streams first."""
    declared = {interface.interface_type for interface in interfaces}
    missing = [stream for stream in default_interfaces(service_type) if stream.interface_type not in declared]
    return (*missing, *interfaces)


def parse_interface_type(word: str) -> InterfaceType:
    """Return the interface type of a word. Raises `ValidationFailed` with the document's message."""
    try:
        return InterfaceType(word)
    except ValueError:
        problem = Problem(check="interface_type", message=f"Invalid interface type: {word}")
        raise ValidationFailed((problem,)) from None


def interfaces_from_json(value: object) -> tuple[ServiceInterface, ...]:
    """Read `[{interface_type, path?, mount_function?, required?, description?}]`.

    A MOUNT that names no mount function is BOTH; paths and mount functions of streams are fixed and not kept. `type` is
    understood for `interface_type`, as the definition writes it. Raises `ValidationFailed` with every problem at once,
    the document's messages for unknown words.
    """
    reading = Reading()
    problems: list[Problem] = []
    interfaces = [
        _read_interface(reading.json_object(item, where, known=_INTERFACE_KEYS), problems)
        for where, item in reading.items(value, "interfaces")
    ]
    problems.extend(Problem(check="interface", message=misreading) for misreading in reading.misreadings)
    if problems:
        raise ValidationFailed(problems)
    return tuple(interfaces)


def interfaces_to_json(interfaces: Sequence[ServiceInterface]) -> list[dict[str, object]]:
    """Return the JSON that `interfaces_from_json` reads, every field written out."""
    return [
        {
            "interface_type": interface.interface_type.value,
            "path": interface.path,
            "mount_function": interface.mount_function.value if interface.mount_function is not None else None,
            "required": interface.required,
            "description": interface.description,
        }
        for interface in interfaces
    ]


def validate_interfaces(
    service_type: ServiceType, interfaces: Sequence[ServiceInterface], *, node_id: NodeId | None = None
) -> tuple[Problem, ...]:
    """Return everything that is wrong with the interfaces of one service or node (phase 2)."""
    problems: list[Problem] = []

    def note(check: str, message: str) -> None:
        problems.append(Problem(check=check, message=message, node_id=node_id))

    seen: set[InterfaceType] = set()
    mounts: list[str] = []
    for interface in interfaces:
        kind = interface.interface_type
        if service_type is ServiceType.DATA and kind is not InterfaceType.STDOUT:
            note("data_interfaces", f"A DATA service offers STDOUT only, not {kind.value}")
        elif kind is InterfaceType.MOUNT:
            mounts.append(normalise_mount_path(interface.path))
            _check_mount(service_type, interface, note)
        elif kind in seen:
            note("duplicate_interface", f"Interface {kind.value} is declared twice")
        seen.add(kind)
    if service_type is ServiceType.DATA and InterfaceType.STDOUT not in seen:
        note("data_stdout", "DATA service must have STDOUT interface")
    for outer, inner in nested_mounts(mounts):
        words = f"MOUNT {outer} is declared twice" if outer == inner else f"MOUNT {inner} lies inside MOUNT {outer}"
        note("nested_mounts", words)
    return tuple(problems)


def require_fit_interfaces(service_type: ServiceType, interfaces: Sequence[ServiceInterface], where: str) -> None:
    """Raise `ValidationFailed` for interfaces that no service of this type can have; `where` begins each message."""
    problems = validate_interfaces(service_type, interfaces)
    if problems:
        raise ValidationFailed([replace(problem, message=f"{where}: {problem.message}") for problem in problems])


def _check_mount(service_type: ServiceType, interface: ServiceInterface, note: Note) -> None:
    target = normalise_mount_path(interface.path)
    is_container = service_type is ServiceType.DOCKER
    problem = container_mount_problem(target) if is_container else mount_target_problem(target)
    if problem:
        note("mount_target", problem)
    if interface.mount_function is None:
        note("mount_function", "Invalid mount function: None")
    elif interface.mount_function is MountFunction.INPUT and target == OUTPUT_MOUNT:
        note("mount_target", f"MOUNT {OUTPUT_MOUNT} is where the job writes, so its mount function cannot be INPUT")


def _read_interface(item: JsonObject, problems: list[Problem]) -> ServiceInterface:
    key = "interface_type" if item.has("interface_type") or not item.has("type") else "type"
    word = item.text(key)
    path = item.text("path", "") if item.has("path") else ""
    function_word = item.text_or_none("mount_function")
    kind, function = InterfaceType.STDIN, MountFunction.BOTH
    if word and word not in InterfaceType.__members__:
        problems.append(Problem(check="interface_type", message=f"Invalid interface type: {word}"))
    elif word:
        kind = InterfaceType(word)
    if function_word and function_word not in MountFunction.__members__:
        problems.append(Problem(check="mount_function", message=f"Invalid mount function: {function_word}"))
    elif function_word:
        function = MountFunction(function_word)
    is_mount = kind is InterfaceType.MOUNT
    return ServiceInterface(
        interface_type=kind,
        path=normalise_mount_path(path) if is_mount else "",
        mount_function=function if is_mount else None,
        required=item.flag("required", default=False),
        description=item.text("description", ""),
    )
