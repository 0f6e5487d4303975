"""Which service of which peer each node of a workflow file means (docs/workflow-file.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rnd.api.context import ApiContext
from rnd.api.handlers_search import search_peers
from rnd.database import offered_services, peers
from rnd.protocol.link_messages import ServiceOffer
from rnd.rules.interfaces import default_interfaces
from rnd.rules.reading import suggestion
from rnd.rules.workflow_file import FileNode, split_service
from rnd.types.enums import PeerState, ServiceType
from rnd.types.errors import Problem, ValidationFailed
from rnd.types.ids import PeerId, ServiceId
from rnd.types.peers import Peer
from rnd.types.services import Service, ServiceInterface

UNKNOWN_SERVICE = ServiceId(0)
"""Another peer's id of a service that it could not be asked for; that peer finds the service by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node's service is; `peer_id` `None`: here."""

    peer_id: PeerId | None
    service_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeantService:
    """What a node takes over from the service that it means."""

    service_id: ServiceId
    service_name: str
    service_type: ServiceType
    interfaces: tuple[ServiceInterface, ...]
    pricing_amount: float = 0.0
    pricing_type: str = "FREE"
    revision: int | None = None


@dataclass(slots=True)
class FileServices:
    """The places of a file's nodes, by name, and what other peers have said about those that the file leaves open."""

    api: ApiContext
    places: dict[str, Place] = field(default_factory=dict)
    misplaced: dict[str, Problem] = field(default_factory=dict)
    offers: Mapping[tuple[PeerId, str], ServiceOffer] = field(default_factory=dict)
    unreachable: Mapping[PeerId, str] = field(default_factory=dict)

    async def find(self, nodes: Sequence[FileNode]) -> None:
        """Find every node's place, and ask other peers for what the file does not say of their services."""
        await self.api.database.read(lambda conn: self._place(conn, nodes))
        wanted = {
            (place.peer_id, place.service_name)
            for node in nodes
            if (place := self.places.get(node.name)) is not None
            and place.peer_id is not None
            and (node.service_type is None or node.interfaces is None)
        }
        if not wanted:
            return
        names = {name for _, name in wanted}
        report = await search_peers(
            self.api,
            query=names.pop() if len(names) == 1 else "",
            peer_ids=sorted({peer_id for peer_id, _ in wanted}),
            active_only=False,
        )
        self.offers = {(peer_id, offer.name): offer for peer_id, offer in report.offers}
        self.unreachable = dict(report.unreachable)

    def meant_by(self, conn: sqlite3.Connection, node: FileNode) -> MeantService:
        """Return the service of a node whose place is known. Raises `ValidationFailed`."""
        if node.name in self.misplaced:
            raise ValidationFailed([self.misplaced[node.name]])
        place = self.places[node.name]
        if place.peer_id is not None:
            return self._elsewhere(node, place.peer_id, place.service_name)
        service = offered_services.find_service_by_name(conn, place.service_name)
        if service is None:
            raise _refused("service", f"Service {place.service_name} not found")
        return _meant(node, service)

    def _elsewhere(self, node: FileNode, peer_id: PeerId, service_name: str) -> MeantService:
        offer = self.offers.get((peer_id, service_name))
        if offer is not None:
            return _meant(node, offer)
        said = node.service_type is not None and node.interfaces is not None
        if not said and peer_id not in self.unreachable:
            raise _refused("service", f"Service {service_name} not found on peer {peer_id}")
        if node.service_type is None:
            raise _refused(
                "service_type",
                f"Node {node.name}: a service of another peer needs its service_type, "
                f"and peer {peer_id} cannot be asked: {self.unreachable[peer_id]}",
            )
        return MeantService(
            service_id=UNKNOWN_SERVICE,
            service_name=service_name,
            service_type=node.service_type,
            interfaces=default_interfaces(node.service_type) if node.interfaces is None else node.interfaces,
        )

    def _place(self, conn: sqlite3.Connection, nodes: Sequence[FileNode]) -> None:
        known = peers.list_peers(conn)
        for node in nodes:
            try:
                self.places[node.name] = self._place_of(conn, node, known)
            except ValidationFailed as error:
                self.misplaced[node.name] = error.problems[0]

    def _place_of(self, conn: sqlite3.Connection, node: FileNode, known: Sequence[Peer]) -> Place:
        if node.peer_id is not None:
            here = node.peer_id == self.api.peer_id
            return Place(peer_id=None if here else PeerId(node.peer_id), service_name=node.service_name)
        if node.peer is not None:
            return Place(peer_id=self._peer_called(node.peer, node, known), service_name=node.service_name)
        split = split_service(node.service_name)
        # A service of this peer may have a slash in its name, and is meant then.
        if split is None or offered_services.find_service_by_name(conn, node.service_name) is not None:
            return Place(peer_id=None, service_name=node.service_name)
        peer, service_name = split
        return Place(peer_id=self._peer_called(peer, node, known), service_name=service_name)

    def _peer_called(self, given: str, node: FileNode, known: Sequence[Peer]) -> PeerId | None:
        """Return the allowed peer of an id or a name; `None` for this peer. Raises `ValidationFailed`."""
        if given == self.api.peer_id:
            return None
        meant = [peer for peer in known if peer.peer_id == given] or [peer for peer in known if peer.name == given]
        allowed = [peer for peer in meant if peer.state is PeerState.ALLOWED]
        if len(allowed) == 1:
            return allowed[0].peer_id
        if not meant and given == self.api.name:
            return None
        if allowed:
            message = f"{len(allowed)} peers are called {given!r}; give the peer's id"
        elif meant:
            message = f"peer {given!r} is {meant[0].state} here, not allowed"
        else:
            names = [peer.name for peer in known if peer.state is PeerState.ALLOWED]
            message = f"no allowed peer is called {given!r}{suggestion(given, names)}"
        raise _refused("peer", f"Node {node.name}: {message}")


def _meant(node: FileNode, service: Service | ServiceOffer) -> MeantService:
    if node.service_type not in {None, service.service_type}:
        raise _refused("service_type", "Service type mismatch")
    return MeantService(
        service_id=service.id,
        service_name=service.name,
        service_type=service.service_type,
        interfaces=service.interfaces if node.interfaces is None else node.interfaces,
        pricing_amount=service.pricing_amount,
        pricing_type=service.pricing_type,
        revision=service.revision,
    )


def _refused(check: str, message: str) -> ValidationFailed:
    return ValidationFailed([Problem(check=check, message=message)])
