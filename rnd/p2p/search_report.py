"""What came of asking other peers for their services (JSON-RPC `service.search`)."""

from __future__ import annotations

from dataclasses import dataclass

from rnd.protocol.link_messages import ServiceOffer
from rnd.types.ids import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """What the asked peers offer, and those that did not answer, each with the reason in words."""

    offers: tuple[tuple[PeerId, ServiceOffer], ...] = ()
    unreachable: tuple[tuple[PeerId, str], ...] = ()
