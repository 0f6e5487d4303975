"""The DataHandler: deliveries between this peer and others, both ways (document: data_handler).

It also says which peers bytes are expected from, since their receiver keeps the data links.
"""

from __future__ import annotations

import asyncio
from typing import Final

from rnd.database import duties
from rnd.database.connection import Database
from rnd.p2p.incoming import Incoming
from rnd.p2p.link import Link
from rnd.p2p.outgoing import Outgoing
from rnd.p2p.peer_manager import PeerManager
from rnd.protocol.messages import Message
from rnd.protocol.transfer_messages import (
    ChunkAck,
    DataChunk,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferPresent,
    DataTransferRequest,
    DataTransferStop,
)
from rnd.types.ids import PeerId

LOOK_EVERY_S: Final = 5.0


class DataHandler:
    """Wires senders, receivers and links."""

    def __init__(
        self, *, database: Database, links: PeerManager, outgoing: Outgoing, incoming: Incoming, peer_id: PeerId
    ) -> None:
        self._database = database
        self._links = links
        self._outgoing = outgoing
        self._incoming = incoming
        self._peer_id = peer_id
        self._changed = asyncio.Event()
        links.answer_on_links({DataTransferRequest: self._request, DataTransferComplete: self._complete})
        links.answer_with({DataTransferFailed: incoming.notices()})
        links.take_with(
            {
                ChunkAck: outgoing.shipping.take_ack,
                DataTransferPresent: outgoing.shipping.take_present,
                DataTransferStop: outgoing.shipping.take_stop,
                DataChunk: incoming.take_chunk,
            },
            incoming.take_frame,
        )
        links.when_lost(outgoing.shipping.link_lost)
        links.when_lost(incoming.link_lost)
        links.when_reached(outgoing.peer_came)

    def duties_changed(self) -> None:
        """Have it looked up anew which peers bytes are expected from."""
        self._changed.set()

    async def run(self) -> None:
        """Send and receive until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outgoing.run())
            group.create_task(self._incoming.run())
            while True:
                senders = await self._database.read(
                    lambda conn: duties.list_expected_senders(conn, self_peer_id=self._peer_id)
                )
                self._links.expect_bytes_from(senders)
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                self._changed.clear()

    async def _request(self, link: Link, message: Message) -> Message:
        assert isinstance(message, DataTransferRequest)
        return await self._incoming.answer_request(link, message)

    async def _complete(self, link: Link, message: Message) -> Message:
        assert isinstance(message, DataTransferComplete)
        return await self._incoming.answer_complete(link, message)
