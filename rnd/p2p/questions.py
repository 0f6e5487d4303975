"""What other peers ask about this one: its services, its machine, and whom it can reach (docs/wire.md, section 4)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from rnd.database import grants, offered_services
from rnd.database.connection import Database
from rnd.p2p.peer_book import PeerBook
from rnd.p2p.peer_manager import AnswerTo, PeerManager
from rnd.protocol.link_messages import (
    CapabilitiesRequest,
    CapabilitiesResponse,
    ReachRequest,
    ReachResponse,
    ServiceOffer,
    ServiceSearchRequest,
    ServiceSearchResponse,
)
from rnd.protocol.messages import Message
from rnd.rules.policy import holds
from rnd.types.enums import ServiceStatus, Verb
from rnd.types.errors import LimitExceeded
from rnd.types.ids import PeerId
from rnd.types.services import Service

OFFERS_MAX: Final = 500
LOOKED_AT_MAX: Final = 10_000
REACHES_AT_ONCE: Final = 2
"""Another peer can have this one dial only where the dialled peer itself has said that it is, and not often at once."""
REACHES_WAITING: Final = 32
"""As many as an execution may well need side by side; of more it is told to come again."""


class Questions:
    """Answers them."""

    def __init__(
        self,
        *,
        database: Database,
        links: PeerManager,
        book: PeerBook,
        capabilities: Callable[[], Awaitable[Mapping[str, object]]],
    ) -> None:
        self._database = database
        self._links = links
        self._book = book
        self._capabilities = capabilities
        self._reaches: dict[PeerId, asyncio.Semaphore] = {}
        self._reaching: Counter[PeerId] = Counter()

    def handlers(self) -> Mapping[type[Message], AnswerTo]:
        """Return what answers which request."""
        return {
            ServiceSearchRequest: self._search,
            CapabilitiesRequest: self._tell_capabilities,
            ReachRequest: self._reach,
        }

    async def _search(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, ServiceSearchRequest)
        caller = self._book.standing(peer)

        def work(conn: sqlite3.Connection) -> list[Service]:
            granted = grants.list_grants_for(conn, peer)
            status = ServiceStatus.ACTIVE if message.active_only else None
            return [
                service
                for service in offered_services.list_services(
                    conn, service_type=message.service_type, status=status, limit=LOOKED_AT_MAX
                ).items
                if holds(Verb.DISCOVER, service, caller, granted) is None and matches(service, message.query)
            ]

        found = await self._database.read(work)
        return ServiceSearchResponse(services=tuple(offer_of(service) for service in found[:OFFERS_MAX]))

    async def _tell_capabilities(self, _peer: PeerId, message: Message) -> Message:
        assert isinstance(message, CapabilitiesRequest)
        return CapabilitiesResponse(capabilities=await self._capabilities())

    async def _reach(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, ReachRequest)
        if self._reaching[peer] >= REACHES_WAITING:
            raise LimitExceeded(f"{REACHES_WAITING} of your questions of this kind wait here")
        self._reaching[peer] += 1
        try:
            async with self._reaches.setdefault(peer, asyncio.Semaphore(REACHES_AT_ONCE)):
                await self._links.learn([message.addresses], told_by=peer)
                reason = await self._links.why_unreachable(message.addresses.peer_id)
        finally:
            self._reaching[peer] -= 1
        return ReachResponse(reachable=reason is None, reason=reason or "")


def matches(service: Service, query: str) -> bool:
    """Say whether a service's name or description has all words of a query."""
    text = f"{service.name} {service.description}".casefold()
    return all(word in text for word in query.casefold().split())


def offer_of(service: Service) -> ServiceOffer:
    """Return a service as other peers see it."""
    return ServiceOffer(
        id=service.id,
        name=service.name,
        description=service.description,
        service_type=service.service_type,
        status=service.status,
        interfaces=service.interfaces,
        pricing_amount=service.pricing_amount,
        pricing_type=service.pricing_type,
        revision=service.revision,
    )
