"""What a token of scope `operate` may say in a workflow: services as their owner offers them, files that it has sent.

An operator is not the owner. Whoever could replace the executable of a service, or name any file of this host, could read
the peer's keys and would hold an admin token in all but name. So below `admin` a node replaces of a native service only
what its owner lets other peers replace, and a path of this host counts only below `operate_roots`.

It is checked where something is said, which is where a workflow is drawn, imported or executed. What an admin has said
stays the admin's word: a workflow that holds such things may be executed by an operator as it is, and changed by nobody
below `admin`. Otherwise a path that an admin has named could be led to a service that hands it out.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rnd.api.context import ApiContext, Call
from rnd.api.methods import may
from rnd.database import offered_services, workflow_connections, workflow_nodes
from rnd.rules.operating import override_refusal
from rnd.rules.paths import is_within
from rnd.rules.upload_names import uploaded_name
from rnd.types.config import Config
from rnd.types.enums import Scope
from rnd.types.errors import NotFound, PermissionDenied
from rnd.types.ids import ConnectionId, ServiceId, WorkflowId
from rnd.types.services import Service
from rnd.types.workflows import WorkflowConnection, WorkflowNode

PLACEMENT: Final = frozenset({"name", "order", "gui_x", "gui_y"})
"""Fields of a node that say nothing about what runs."""

_HINT: Final = (
    "Use the peer's socket or a token of scope admin, have the service's owner set allow_override, or send files with "
    "PUT /upload/NAME and name upload:NAME."
)


def is_owner(call: Call) -> bool:
    """Tell whether a caller acts for the peer's owner: the unix socket, and tokens of scope `admin`."""
    return may(call.scope, Scope.ADMIN)


def refuse(what: Sequence[str]) -> None:
    """Raise `PermissionDenied` where there is anything that only the owner may say."""
    if what:
        more = f", and {len(what) - 1} more" if len(what) > 1 else ""
        raise PermissionDenied(f"Only scope admin may say this: {what[0]}{more}", hint=_HINT)


def path_refusal(config: Config, path: str | None) -> str | None:
    """Return why an operator may not name what a connection from the self-peer sends, or `None`. Looks at the disk."""
    if path is None or uploaded_name(path) is not None:
        return None
    real = Path(os.path.realpath(path))
    inside = _is_below(config, Path(path)) and _is_below(config, real)
    if inside and not is_within(real, Path(os.path.realpath(config.data_dir))):
        return None
    return f"{path} is a path of the machine that rnd runs on, and not below operate_roots"


def node_refusal(api: ApiContext, node: WorkflowNode, service: Service | None) -> str | None:
    """Return why an operator may not have a node run what it says, or `None`; other peers look after their own."""
    if node.peer_id != api.peer_id or service is None:
        return None
    return override_refusal(service, node.entrypoint, node.cmd, node.interfaces)


def refuse_node(call: Call, conn: sqlite3.Connection, node: WorkflowNode) -> None:
    """Raise `PermissionDenied` where the caller may not have this node run what it says."""
    if not is_owner(call):
        reason = node_refusal(call.api, node, _service(conn, node.service_id))
        refuse([] if reason is None else [reason])


async def refuse_paths(call: Call, paths: Iterable[str | None]) -> None:
    """Raise `PermissionDenied` where the caller may not name one of these."""
    if not is_owner(call):
        wanted = list(dict.fromkeys(paths))
        refuse(await asyncio.to_thread(_path_refusals, call.api.config, wanted))


def refuse_change(call: Call, conn: sqlite3.Connection, workflow_id: WorkflowId) -> None:
    """Raise `PermissionDenied` where the caller is no owner and the workflow holds what only the owner may say."""
    if is_owner(call):
        return
    nodes = workflow_nodes.list_nodes(conn, workflow_id)
    services = {service_id: _service(conn, service_id) for service_id in {node.service_id for node in nodes}}
    said = [
        f"node {node.id}: {reason}"
        for node in nodes
        if (reason := node_refusal(call.api, node, services[node.service_id])) is not None
    ]
    said += _path_refusals(
        call.api.config, [c.source_path for c in workflow_connections.list_connections(conn, workflow_id)]
    )
    if said:
        raise PermissionDenied(
            f"Workflow {workflow_id} holds what only scope admin may say ({said[0]}), so others run it as it is",
            hint="Change it by the peer's socket or with a token of scope admin, or draw a workflow of your own.",
        )


async def refuse_execution(
    call: Call, connections: Sequence[WorkflowConnection], inputs: Mapping[ConnectionId, str]
) -> None:
    """Raise `PermissionDenied` for inputs that the caller may not name, and for links that lead out of `operate_roots`.

    A path that was fit when it was drawn may be a link to another place by now.
    """
    if is_owner(call):
        return
    drawn = [
        connection.source_path
        for connection in connections
        if connection.id not in inputs
        and connection.source_path is not None
        and _is_below(call.api.config, Path(connection.source_path))
    ]
    await refuse_paths(call, [*inputs.values(), *drawn])


def _is_below(config: Config, path: Path) -> bool:
    roots = {Path(root) for root in config.operate_roots}
    return any(is_within(path, root) for root in roots | {Path(os.path.realpath(root)) for root in roots})


def _path_refusals(config: Config, paths: Iterable[str | None]) -> list[str]:
    return [reason for path in dict.fromkeys(paths) if (reason := path_refusal(config, path)) is not None]


def _service(conn: sqlite3.Connection, service_id: ServiceId) -> Service | None:
    try:
        return offered_services.get_service(conn, service_id)
    except NotFound:
        return None
