#!/usr/bin/env python3
"""Make tools/ui/test/wires.json from rnd/rules/pairing.py: every wire between a few nodes, and why it is refused.

The designer mirrors these rules to say beforehand which wires are allowed; its tests hold the mirror against this table.
Run it from anywhere after the rules have changed. A test fails while the two differ.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
TABLE = PROJECT / "tools" / "ui" / "test" / "wires.json"

sys.path.insert(0, str(PROJECT))

from rnd.rules.pairing import PairingError, pair  # noqa: E402 - the project has to be found first
from rnd.types.enums import InterfaceType, MountFunction, ServiceType  # noqa: E402 - the same
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId  # noqa: E402 - the same
from rnd.types.services import ServiceInterface  # noqa: E402 - the same
from rnd.types.workflows import WorkflowConnection, WorkflowNode  # noqa: E402 - the same

End = tuple[int | None, InterfaceType, str]

STDOUT_ONLY = (ServiceInterface(interface_type=InterfaceType.STDOUT),)


def mounts(**functions: str) -> tuple[ServiceInterface, ...]:
    """Return a MOUNT `/name` for each function."""
    return tuple(
        ServiceInterface(interface_type=InterfaceType.MOUNT, path=f"/{name}", mount_function=MountFunction(function))
        for name, function in functions.items()
    )


KINDS: dict[int, tuple[ServiceType, tuple[ServiceInterface, ...]]] = {
    1: (ServiceType.DATA, STDOUT_ONLY),
    2: (ServiceType.DATA, STDOUT_ONLY),
    3: (ServiceType.STANDALONE, ()),
    4: (ServiceType.DOCKER, mounts(into="INPUT", out="OUTPUT")),
    5: (ServiceType.STANDALONE, mounts(one="BOTH", other="BOTH")),
}


def node(number: int) -> WorkflowNode:
    """Return one of the nodes as a row."""
    service_type, interfaces = KINDS[number]
    return WorkflowNode(
        id=NodeId(number), workflow_id=WorkflowId(1), service_id=ServiceId(number), peer_id=PeerId("here"),
        service_name=f"s{number}", service_type=service_type, order=number, gui_x=0, gui_y=0, interfaces=interfaces,
        entrypoint=None, cmd=None, pricing_amount=0.0, pricing_type="FREE",
    )  # fmt: skip


def ends() -> list[End]:
    """Return every end that a wire could have: each type at each node, MOUNTs by each path and by none."""
    return [
        (None, InterfaceType.MOUNT, ""),
        *(
            (number, interface_type, path)
            for number, (_, interfaces) in KINDS.items()
            for interface_type in InterfaceType
            for path in paths_of(interface_type, interfaces)
        ),
    ]


def paths_of(interface_type: InterfaceType, interfaces: tuple[ServiceInterface, ...]) -> tuple[str, ...]:
    """Return the paths by which a wire may name an interface, one that is not there included."""
    if interface_type is not InterfaceType.MOUNT:
        return ("",)
    return ("", *(each.path for each in interfaces if each.path), "/nowhere")


def refusal(start: End, end: End) -> dict[str, str] | None:
    """Return why the daemon refuses a wire; `None`: it does not."""
    (from_node, from_type, from_path), (to_node, to_type, to_path) = start, end
    connection = WorkflowConnection(
        id=ConnectionId(1), workflow_id=WorkflowId(1), destination_file_name=None, include=(), source_path=None,
        from_node_id=None if from_node is None else NodeId(from_node), from_interface_type=from_type,
        to_node_id=None if to_node is None else NodeId(to_node), to_interface_type=to_type,
        from_interface_path=from_path, to_interface_path=to_path,
    )  # fmt: skip
    sender, receiver = (None if number is None else node(number) for number in (from_node, to_node))
    try:
        pair(connection, sender, receiver)
    except PairingError as error:
        return {"check": error.check, "message": error.message}
    return None


def table() -> dict[str, Any]:
    """Return the nodes and every wire between two ends, as the designer's tests read them."""
    nodes = [
        {
            "key": number,
            "service_name": f"s{number}",
            "service_type": service_type.value,
            "interfaces": [
                {
                    "interface_type": each.interface_type.value,
                    "path": each.path,
                    "mount_function": each.mount_function and each.mount_function.value,
                    "required": False,
                    "description": "",
                }
                for each in interfaces
            ],
        }
        for number, (service_type, interfaces) in KINDS.items()
    ]
    reasons: list[dict[str, str] | None] = [None]
    refused = []
    for start, end in itertools.product(ends(), ends()):
        reason = refusal(start, end)
        if reason not in reasons:
            reasons.append(reason)
        refused.append(reasons.index(reason))
    listed = [[number, interface_type.value, path] for number, interface_type, path in ends()]
    rows = [refused[at : at + len(listed)] for at in range(0, len(refused), len(listed))]
    return {"nodes": nodes, "ends": listed, "reasons": reasons, "refused": rows}


def text() -> str:
    """Return the table as the file holds it: a row of reasons for each end to start from, a column for each to end at."""
    parts = []
    for name, value in table().items():
        rows = ",\n    ".join(json.dumps(each) for each in value)
        parts.append(f'  "{name}": [\n    {rows}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="utf-8")
