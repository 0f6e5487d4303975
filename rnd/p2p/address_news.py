"""Where the peers of an execution can be reached now, passed on among those who exchange bytes (docs/wire.md, section 4).

Two executors that know only their orchestrator may both come back at other addresses: each dials where the other was. The
orchestrator hears of both, and tells them whenever one of them links anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from rnd.core.side_by_side import side_by_side
from rnd.database import address_records, mirrors
from rnd.database.connection import Database
from rnd.log import get_logger
from rnd.p2p.peer_manager import AnswerTo, PeerManager
from rnd.protocol.fields import RECORDS_MAX
from rnd.protocol.link_messages import Ack, PeerAddresses
from rnd.protocol.messages import Message
from rnd.types.errors import ApplicationError
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.peers import AddressRecord

ANSWER_TIMEOUT_S: Final = 15.0

log = get_logger()


class AddressNews:
    """Tells executors of own executions of each other, and takes what orchestrators tell."""

    def __init__(self, *, database: Database, links: PeerManager, peer_id: PeerId) -> None:
        self._database = database
        self._links = links
        self._peer_id = peer_id

    def handlers(self) -> Mapping[type[Message], AnswerTo]:
        """Return what answers which request."""
        return {PeerAddresses: self._take}

    async def _take(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, PeerAddresses)
        await self._links.learn(message.addresses, told_by=peer)
        return Ack()

    async def pass_on(self, newcomer: PeerId) -> None:
        """Tell a peer that has just linked of those it exchanges bytes with, and these of it. Who is away is told later."""

        def work(conn: sqlite3.Connection) -> tuple[list[PeerId], list[AddressRecord], AddressRecord | None]:
            others = mirrors.list_neighbours(conn, newcomer, self_peer_id=self._peer_id, limit=RECORDS_MAX)
            records = [address_records.find_record(conn, peer_id) for peer_id in others]
            known = [record for record in records if record is not None]
            return others, known, address_records.find_record(conn, newcomer) if others else None

        others, records, own = await self._database.read(work)
        letters = [(newcomer, tuple(records))] if records else []
        if own is not None:
            letters += [(peer_id, (own,)) for peer_id in others if self._links.is_connected(peer_id)]
        await side_by_side(self._tell(peer_id, news) for peer_id, news in letters)

    async def _tell(self, peer_id: PeerId, records: tuple[AddressRecord, ...]) -> None:
        try:
            await self._links.ask(peer_id, PeerAddresses(addresses=records), timeout_s=ANSWER_TIMEOUT_S)
        except ApplicationError as error:
            log.debug(LogEvent.PEER_QUESTION_FAILED, peer_id=peer_id, reason=str(error))
