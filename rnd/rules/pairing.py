"""Which interfaces a connection joins at its two ends, and which pairs may be joined at all
(document: Connections and Data Flow, Interface Type Mapping)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rnd.rules.interfaces import STREAM_PATHS
from rnd.rules.paths import normalise_mount_path
from rnd.types.enums import InterfaceType, MountFunction, ServiceType
from rnd.types.services import ServiceInterface
from rnd.types.workflows import WorkflowConnection, WorkflowNode

OUTPUT_STREAMS: Final = frozenset({InterfaceType.STDOUT, InterfaceType.STDERR, InterfaceType.LOGS})

RECEIVERS: Final = {
    InterfaceType.STDOUT: frozenset({InterfaceType.STDIN, InterfaceType.MOUNT}),
    InterfaceType.STDERR: frozenset({InterfaceType.STDIN, InterfaceType.MOUNT}),
    InterfaceType.LOGS: frozenset({InterfaceType.STDIN, InterfaceType.MOUNT}),
    InterfaceType.MOUNT: frozenset({InterfaceType.STDIN, InterfaceType.MOUNT}),
    InterfaceType.STDIN: frozenset[InterfaceType](),
}
"""What may receive from what between nodes; every sender may also send to the self-peer, which is a plain folder."""

_RULE: Final = "Allowed are STDOUT, STDERR, LOGS or MOUNT -> STDIN, MOUNT or self-peer, and self-peer -> STDIN or MOUNT"


class PairingError(ValueError):
    """The connection joins what does not fit together; `check` names the rule that it breaks."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a connection. `node` is `None` for the self-peer, which is a folder and therefore a MOUNT."""

    node: WorkflowNode | None
    interface_type: InterfaceType
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The two ends of a connection, resolved to interfaces."""

    source: End
    destination: End


def pair(connection: WorkflowConnection, from_node: WorkflowNode | None, to_node: WorkflowNode | None) -> Pairing:
    """Resolve both ends of a connection to interfaces of their nodes (`None`: the self-peer).

    Of several MOUNTs the connection's paths choose; without a path the only one whose mount function fits is taken.
    Raises `PairingError` where the pair is not allowed, the interface does not exist, or the choice is open.
    """
    _check_pair(connection, from_node, to_node)
    return Pairing(
        source=_resolve(from_node, connection.from_interface_type, connection.from_interface_path, sends=True),
        destination=_resolve(to_node, connection.to_interface_type, connection.to_interface_path, sends=False),
    )


def mounts_that_fit(node: WorkflowNode, *, sends: bool) -> tuple[ServiceInterface, ...]:
    """Return the MOUNTs of a node that can send (OUTPUT, BOTH) or receive (INPUT, BOTH)."""
    wanted = MountFunction.OUTPUT if sends else MountFunction.INPUT
    return tuple(
        interface
        for interface in node.interfaces
        if interface.interface_type is InterfaceType.MOUNT and interface.mount_function in (wanted, MountFunction.BOTH)
    )


def _check_pair(connection: WorkflowConnection, from_node: WorkflowNode | None, to_node: WorkflowNode | None) -> None:
    source, destination = connection.from_interface_type, connection.to_interface_type
    if from_node is None and to_node is None:
        raise PairingError("pair", f"A connection needs a node at one end at least. {_RULE}")
    if to_node is not None and to_node.service_type is ServiceType.DATA:
        if from_node is not None and from_node.service_type is ServiceType.DATA:
            raise PairingError("data_to_data", "Cannot download from DATA service on remote peer")
        raise PairingError("data_input", f"DATA service {to_node.service_name} takes no input: its files are fixed")
    if from_node is None:
        if destination not in (InterfaceType.STDIN, InterfaceType.MOUNT):
            raise PairingError("pair", f"self-peer -> {destination.value} is not allowed: type mismatch. {_RULE}")
        return
    if source is InterfaceType.STDIN:
        receiver = "self-peer" if to_node is None else destination.value
        raise PairingError("pair", f"STDIN -> {receiver} is not allowed: reversed direction. {_RULE}")
    if to_node is not None and destination not in RECEIVERS[source]:
        raise PairingError("pair", f"{source.value} -> {destination.value} is not allowed: type mismatch. {_RULE}")


def _resolve(node: WorkflowNode | None, interface_type: InterfaceType, path: str, *, sends: bool) -> End:
    if node is None:
        if path:
            raise PairingError("interface_path", f"The self-peer has no interfaces, so the path {path!r} names none")
        return End(node=None, interface_type=InterfaceType.MOUNT, path="")
    if interface_type is InterfaceType.MOUNT:
        return End(node=node, interface_type=interface_type, path=_choose_mount(node, path, sends=sends))
    if node.service_type is ServiceType.DATA and interface_type not in (
        interface.interface_type for interface in node.interfaces
    ):
        raise PairingError("interface", f"{node.service_name} has no {interface_type.value} interface")
    if path not in ("", STREAM_PATHS[interface_type]):
        raise PairingError("interface_path", f"{interface_type.value} has a fixed path; {path!r} chooses nothing")
    return End(node=node, interface_type=interface_type, path=STREAM_PATHS[interface_type])


def _choose_mount(node: WorkflowNode, path: str, *, sends: bool) -> str:
    fitting = [normalise_mount_path(interface.path) for interface in mounts_that_fit(node, sends=sends)]
    verb, function = ("send", "OUTPUT") if sends else ("receive", "INPUT")
    if path:
        wanted = normalise_mount_path(path)
        if wanted in fitting:
            return wanted
        reason = f"no MOUNT {wanted} that can {verb} (mount function {function} or BOTH)"
        raise PairingError("mount_choice", f"{node.service_name} has {reason}")
    match fitting:
        case []:
            reason = f"no MOUNT that can {verb} (mount function {function} or BOTH)"
            raise PairingError("mount_choice", f"{node.service_name} has {reason}")
        case [only]:
            return only
        case _:
            side = "from_interface_path" if sends else "to_interface_path"
            listed = ", ".join(fitting)
            raise PairingError(
                "ambiguous_mount",
                f"{node.service_name} has several MOUNTs that can {verb} ({listed}); choose one with {side}",
            )
