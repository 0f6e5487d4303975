"""Which service of which peer each node of a workflow file means (docs/workflow-file.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rnd.api.context import ApiContext
from rnd.api.handlers_search import search_peers
from rnd.database import offered_services, peers
from rnd.rules.reading import suggestion
from rnd.rules.workflow_file import FileNode, split_service
from rnd.types.enums import PeerState
from rnd.types.errors import Problem, ValidationFailed
from rnd.types.ids import PeerId
from rnd.types.peers import Peer
from rnd.types.services import RemoteService


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundServices:
    """The nodes with their peers found, and what is known of services elsewhere.

    Each of `nodes` says its peer by `peer_id` alone (`None`: this one) and its service by that peer's own name for it.
    `elsewhere` is by peer and name and holds what other peers were asked for; `problems` are by the position of the node.
    """

    nodes: tuple[FileNode, ...]
    elsewhere: Mapping[tuple[PeerId, str], RemoteService]
    problems: Mapping[int, Problem]


async def find_services(api: ApiContext, nodes: Sequence[FileNode]) -> FoundServices:
    """Find the peer of every node, and ask other peers for what the file does not say of their services."""
    placed, problems = await api.database.read(lambda conn: _place_all(conn, api, nodes))
    open_nodes = {
        at: (PeerId(node.peer_id), node.service_name)
        for at, node in enumerate(placed)
        if at not in problems
        and node.peer_id is not None
        and (node.service_type is None or node.interfaces is None or node.pin is not None)
    }
    if not open_nodes:
        return FoundServices(nodes=placed, elsewhere={}, problems=problems)
    names = {name for _, name in open_nodes.values()}
    report = await search_peers(
        api,
        query=names.pop() if len(names) == 1 else "",
        peer_ids=sorted({peer_id for peer_id, _ in open_nodes.values()}),
        active_only=False,
    )
    elsewhere = {
        (peer_id, offer.name): RemoteService(
            id=offer.id,
            name=offer.name,
            service_type=offer.service_type,
            interfaces=offer.interfaces,
            pricing_amount=offer.pricing_amount,
            pricing_type=offer.pricing_type,
            revision=offer.revision,
        )
        for peer_id, offer in report.offers
    }
    unreachable = dict(report.unreachable)
    for at, (peer_id, name) in open_nodes.items():
        if (peer_id, name) in elsewhere:
            continue
        node = placed[at]
        if peer_id not in unreachable:
            problems[at] = Problem(
                check="service", message=f"Service {name} not found on peer {peer_id}, or not offered to this one"
            )
        elif node.service_type is None:
            message = (
                f"Node {node.name}: a service of another peer needs its service_type, "
                f"and peer {peer_id} cannot be asked: {unreachable[peer_id]}"
            )
            problems[at] = Problem(check="service_type", message=message)
        elif node.pin is not None:
            message = f"Node {node.name} is pinned, and peer {peer_id} cannot be asked: {unreachable[peer_id]}"
            problems[at] = Problem(check="pin", message=message)
    return FoundServices(nodes=placed, elsewhere=elsewhere, problems=problems)


def _place_all(
    conn: sqlite3.Connection, api: ApiContext, nodes: Sequence[FileNode]
) -> tuple[tuple[FileNode, ...], dict[int, Problem]]:
    known = peers.list_peers(conn)
    placed: list[FileNode] = []
    problems: dict[int, Problem] = {}
    for at, node in enumerate(nodes):
        try:
            placed.append(_placed(conn, api, node, known))
        except ValidationFailed as error:
            placed.append(node)
            problems[at] = error.problems[0]
    return tuple(placed), problems


def _placed(conn: sqlite3.Connection, api: ApiContext, node: FileNode, known: Sequence[Peer]) -> FileNode:
    """Return a node with the id of its peer. Raises `ValidationFailed`."""
    if node.peer_id is not None:
        return replace(node, peer_id=None) if node.peer_id == api.peer_id else node
    if node.peer is not None:
        return replace(node, peer=None, peer_id=_peer_called(node.peer, api, node, known))
    split = split_service(node.service_name)
    # A service of this peer may have a slash in its name, and is meant then.
    if split is None or offered_services.find_service_by_name(conn, node.service_name) is not None:
        return node
    peer, service_name = split
    return replace(node, peer_id=_peer_called(peer, api, node, known), service_name=service_name)


def _peer_called(given: str, api: ApiContext, node: FileNode, known: Sequence[Peer]) -> PeerId | None:
    """Return the allowed peer of an id or a name; `None` for this peer. Raises `ValidationFailed`."""
    if given == api.peer_id:
        return None
    meant = [peer for peer in known if peer.peer_id == given] or [peer for peer in known if peer.name == given]
    allowed = [peer for peer in meant if peer.state is PeerState.ALLOWED]
    if len(allowed) == 1:
        return allowed[0].peer_id
    if not meant and given == api.name:
        return None
    if allowed:
        message = f"{len(allowed)} peers are called {given!r}; give the peer's id"
    elif meant:
        message = f"peer {given!r} is {meant[0].state} here, not allowed"
    else:
        names = [peer.name for peer in known if peer.state is PeerState.ALLOWED]
        message = f"no allowed peer is called {given!r}{suggestion(given, names)}"
    raise ValidationFailed([Problem(check="peer", message=f"Node {node.name}: {message}")])
