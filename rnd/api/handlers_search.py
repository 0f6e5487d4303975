"""Finding services, here and on other peers: `service.search`, and the questions that drawing a workflow asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from rnd.api.context import ApiContext, Call
from rnd.api.rendering import JsonMembers, render, render_service
from rnd.database import offered_services, peers
from rnd.p2p.search_report import SearchReport
from rnd.protocol.link_messages import ServiceOffer
from rnd.types.enums import PeerState, ServiceStatus, ServiceType
from rnd.types.errors import NotFound, PeerUnreachable
from rnd.types.ids import PeerId, ServiceId
from rnd.types.services import Service

OWN_LIMIT: Final = 1_000
ASK_TIMEOUT_S: Final = 15.0


async def service_search(
    call: Call,
    *,
    query: str,
    service_type: ServiceType | None = None,
    peer_ids: Sequence[PeerId] | None = None,
    active_only: bool,
    timeout_s: float,
    limit: int,
    offset: int,
) -> JsonMembers:
    """Answer `service.search`: this peer's own services first, then those of others, and who could not be asked."""
    api = call.api
    own: list[Service] = []
    if peer_ids is None or api.peer_id in peer_ids:
        own = await api.database.read(
            lambda conn: offered_services.search_services(
                conn, query=query, service_type=service_type, active_only=active_only, limit=OWN_LIMIT
            )
        )
    report = await search_peers(
        api,
        query=query,
        service_type=service_type,
        peer_ids=None if peer_ids is None else [peer_id for peer_id in peer_ids if peer_id != api.peer_id],
        active_only=active_only,
        timeout_s=timeout_s,
    )
    found = [
        *({**render_service(service), "service_id": service.id, "peer_id": api.peer_id} for service in own),
        *(
            {**render(offer), "service_id": offer.id, "peer_id": peer_id}
            for peer_id, offer in sorted(report.offers, key=lambda found: (found[0], found[1].id))
        ),
    ]
    end = offset + limit
    return {
        "items": found[offset:end],
        "unreachable": [{"peer_id": peer_id, "reason": reason} for peer_id, reason in report.unreachable],
        "total": len(found),
        "next_offset": end if end < len(found) else None,
    }


async def search_peers(
    api: ApiContext,
    *,
    query: str,
    service_type: ServiceType | None = None,
    peer_ids: Sequence[PeerId] | None,
    active_only: bool,
    timeout_s: float = ASK_TIMEOUT_S,
) -> SearchReport:
    """Ask others what they offer: those named, or (`None`) every allowed one that is connected.

    Who is not asked, because the owner keeps it out or because it is not connected, is among the unreachable with the reason.
    """
    kept_out = await _away(api) if peer_ids is None else await _kept_out(api, peer_ids)
    asked = None if peer_ids is None else [peer_id for peer_id in dict.fromkeys(peer_ids) if peer_id not in kept_out]
    told = SearchReport()
    if asked is None or asked:
        told = await api.peers.search(
            query=query, service_type=service_type, peer_ids=asked, active_only=active_only, timeout_s=timeout_s
        )
    return SearchReport(
        # What another peer answers may be wider than what it was asked.
        offers=tuple(
            (peer_id, offer)
            for peer_id, offer in told.offers
            if service_type in {None, offer.service_type}
            and not (active_only and offer.status is not ServiceStatus.ACTIVE)
        ),
        unreachable=(*told.unreachable, *kept_out.items()),
    )


async def find_offer(
    api: ApiContext, peer_id: PeerId, service_id: ServiceId, *, service_name: str | None
) -> ServiceOffer:
    """Return a service of another peer as that peer describes it now; a name that is known makes the answer shorter.

    Raises `PeerUnreachable`, and `NotFound` where that peer does not offer it to this one.
    """
    report = await search_peers(api, query=service_name or "", peer_ids=[peer_id], active_only=False)
    for found_at, offer in report.offers:
        if (found_at, offer.id) == (peer_id, service_id):
            return offer
    if report.unreachable:
        raise PeerUnreachable(
            f"Peer {peer_id} cannot be asked about its service: {report.unreachable[0][1]}",
            hint="Give service_name, service_type and interfaces, or connect to the peer first (peer.connect).",
        )
    named = f" called {service_name!r}" if service_name else ""
    raise NotFound(
        f"Service {service_id}{named} not found on peer {peer_id}",
        hint="service.search lists what that peer offers to this one.",
    )


async def _away(api: ApiContext) -> dict[PeerId, str]:
    """Return which allowed peers there is no link to, and why not."""
    allowed = await api.database.read(lambda conn: peers.list_peers(conn, state=PeerState.ALLOWED))
    away = [peer.peer_id for peer in allowed if not api.peers.is_connected(peer.peer_id)]
    return {peer_id: api.peers.last_failure(peer_id) or "not connected" for peer_id in away}


async def _kept_out(api: ApiContext, peer_ids: Sequence[PeerId]) -> dict[PeerId, str]:
    """Return which of these peers the owner does not let in, and what they are instead."""

    def find(conn: sqlite3.Connection) -> dict[PeerId, str]:
        known = (peers.find_peer(conn, peer_id) for peer_id in peer_ids)
        return {
            peer.peer_id: f"{peer.state} here"
            for peer in known
            if peer is not None and peer.state is not PeerState.ALLOWED
        }

    return await api.database.read(find)
