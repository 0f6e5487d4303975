"""Other peers as the API asks for them: pairing, states, questions to one peer or to all (rpc: Node and peers)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from rnd.core.side_by_side import side_by_side
from rnd.database import address_records, peers
from rnd.database.connection import Database
from rnd.p2p.pairing import Pairing
from rnd.p2p.peer_book import PeerBook
from rnd.p2p.peer_manager import CONNECT_TIMEOUT_S, PeerManager
from rnd.p2p.search_report import SearchReport
from rnd.protocol.job_messages import JobExplainRequest, JobExplainResponse, JobLogsRequest, JobLogsResponse
from rnd.protocol.link_messages import (
    CapabilitiesRequest,
    CapabilitiesResponse,
    ReachRequest,
    ReachResponse,
    ServiceOffer,
    ServiceSearchRequest,
    ServiceSearchResponse,
)
from rnd.protocol.session import CloseCode
from rnd.rules.explain import Explanation
from rnd.types.enums import LogStream, PeerState, ServiceType
from rnd.types.errors import ApplicationError, PeerUnreachable
from rnd.types.executions import JobExecution
from rnd.types.ids import PeerId
from rnd.types.peers import Peer
from rnd.types.seams import Clock

QUESTION_TIMEOUT_S: Final = 15.0
PERSON_WAITS_S: Final = 3.0
"""How long a ping, a search or a look at a job elsewhere waits for a link: somebody sits there."""


class PeerDesk:
    """Does what the owner wants done about other peers."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        links: PeerManager,
        book: PeerBook,
        pairing: Pairing,
        stop_orders: Callable[[PeerId, str], Awaitable[None]],
        peer_id: PeerId,
    ) -> None:
        """`stop_orders` cancels the jobs that a peer has ordered here, once it is not allowed any more."""
        self._database = database
        self._clock = clock
        self._links = links
        self._book = book
        self._pairing = pairing
        self._stop_orders = stop_orders
        self._peer_id = peer_id

    def is_connected(self, peer_id: PeerId) -> bool:
        """Say whether the control link to a peer is up."""
        return self._links.is_connected(peer_id)

    def rtt_ms(self, peer_id: PeerId) -> float | None:
        """Return how long the last ping took."""
        rtt_s = self._links.rtt_s(peer_id)
        return None if rtt_s is None else round(rtt_s * 1000, 3)

    def last_failure(self, peer_id: PeerId) -> str:
        """Return why the last dial failed; "" if it did not."""
        return self._links.last_failure(peer_id)

    def own_name(self, peer_id: PeerId) -> str:
        """Return what a linked peer calls itself; "" without a link."""
        return self._links.own_name(peer_id)

    async def invite(self, valid_s: float) -> tuple[str, datetime]:
        """Return a new invite and when it ends."""
        return await self._pairing.invite(valid_s)

    async def join(self, invite: str) -> Peer:
        """Accept an invite and link to its peer."""
        peer = await self._pairing.join(invite)
        self._links.connect(peer.peer_id)
        return peer

    async def add(self, peer_id: PeerId, *, addresses: Sequence[str], name: str, state: PeerState) -> Peer:
        """Take a peer in on the owner's word. Raises `Conflict`."""
        now = self._clock.now()
        peer = await self._database.write(
            lambda conn: peers.add_peer(
                conn, peer_id, self_peer_id=self._peer_id, state=state, name=name, addresses=addresses, now=now
            )
        )
        await self._book.refresh()
        return peer

    async def set_addresses(self, peer_id: PeerId, addresses: Sequence[str]) -> Peer:
        """Dial a peer elsewhere from now on. Raises `NotFound`."""
        now = self._clock.now()
        peer = await self._database.write(lambda conn: peers.set_addresses(conn, peer_id, addresses, now=now))
        if peer.state is PeerState.ALLOWED:
            self._links.connect(peer_id)
        return peer

    async def connect(self, peer_id: PeerId) -> None:
        """Dial a peer now. Raises `PeerUnreachable`."""
        self._links.connect(peer_id)
        await self._links.ping(peer_id, connect_s=CONNECT_TIMEOUT_S)

    async def disconnect(self, peer_id: PeerId) -> None:
        """End the links to a peer; it or this side may link again."""
        self._links.disconnect(peer_id)

    async def remove(self, peer_id: PeerId) -> None:
        """Forget a peer; what it has ordered stops, and nothing comes after that. Raises `NotFound`."""
        now = self._clock.now()
        await self._database.write(lambda conn: peers.remove_peer(conn, peer_id, now=now))
        await self._book.refresh()
        self._links.disconnect(peer_id, CloseCode.NOT_PERMITTED)
        await self._stop_orders(peer_id, "its peer was removed by the owner of this one")

    async def set_state(self, peer_id: PeerId, state: PeerState) -> Peer:
        """Let a peer in or keep it out; what it has ordered stops with the second. Raises `NotFound`."""
        now = self._clock.now()
        peer = await self._database.write(lambda conn: peers.set_state(conn, peer_id, state, now=now))
        await self._book.refresh()
        if state is PeerState.ALLOWED:
            self._links.connect(peer_id)
        else:
            self._links.disconnect(peer_id, CloseCode.NOT_PERMITTED)
            await self._stop_orders(peer_id, f"its peer was set to {state} by the owner of this one")
        return peer

    async def ping(self, peer_id: PeerId) -> float:
        """Return how long a peer takes to answer, in milliseconds. Raises `PeerUnreachable`, `TimedOut`."""
        return round(await self._links.ping(peer_id, connect_s=PERSON_WAITS_S) * 1000, 3)

    async def capabilities(self, peer_id: PeerId) -> Mapping[str, object]:
        """Return what a job could count on there."""
        reply = await self._links.ask(peer_id, CapabilitiesRequest(), timeout_s=QUESTION_TIMEOUT_S)
        assert isinstance(reply, CapabilitiesResponse)
        return reply.capabilities

    async def search(
        self,
        *,
        query: str,
        service_type: ServiceType | None,
        peer_ids: Sequence[PeerId] | None,
        active_only: bool,
        timeout_s: float,
    ) -> SearchReport:
        """Ask peers side by side what they offer: the named ones, else every allowed one that is linked."""
        asked = self._links.connected() if peer_ids is None else list(dict.fromkeys(peer_ids))
        question = ServiceSearchRequest(query=query, service_type=service_type, active_only=active_only)

        async def ask(peer_id: PeerId) -> tuple[ServiceOffer, ...] | str:
            try:
                reply = await self._links.ask(
                    peer_id, question, timeout_s=timeout_s, connect_s=min(timeout_s, PERSON_WAITS_S)
                )
            except ApplicationError as error:
                return error.message
            assert isinstance(reply, ServiceSearchResponse)
            return reply.services

        answers = await side_by_side(ask(peer_id) for peer_id in asked if peer_id != self._peer_id)
        pairs = list(zip((peer_id for peer_id in asked if peer_id != self._peer_id), answers, strict=True))
        return SearchReport(
            offers=tuple((peer_id, offer) for peer_id, found in pairs if not isinstance(found, str) for offer in found),
            unreachable=tuple((peer_id, found) for peer_id, found in pairs if isinstance(found, str)),
        )

    async def job_logs(
        self, job: JobExecution, *, stream: LogStream, offset: int, limit_bytes: int
    ) -> tuple[bytes, int, bool]:
        """Return a piece of the log of a job that another peer runs, where the next begins, and whether it was the last."""
        reply = await self._links.ask(
            job.executor_peer_id,
            JobLogsRequest(
                execution_uid=job.execution_uid,
                node_id=job.node_id,
                stream=stream,
                offset=offset,
                limit_bytes=limit_bytes,
            ),
            timeout_s=QUESTION_TIMEOUT_S,
            connect_s=PERSON_WAITS_S,
        )
        assert isinstance(reply, JobLogsResponse)
        return reply.data, reply.next_offset, reply.eof

    async def explain(self, job: JobExecution) -> Explanation:
        """Ask the executor of a job why it is where it is."""
        reply = await self._links.ask(
            job.executor_peer_id,
            JobExplainRequest(execution_uid=job.execution_uid, node_id=job.node_id),
            timeout_s=QUESTION_TIMEOUT_S,
            connect_s=PERSON_WAITS_S,
        )
        assert isinstance(reply, JobExplainResponse)
        return Explanation(status=reply.status, because=reply.because, checks=reply.checks, do=reply.do)

    async def why_not_between(self, sender: PeerId, receiver: PeerId) -> str | None:
        """Return why no byte could go from one peer to another; `None` if either can reach the other."""
        first = await self._why_unreachable(receiver, sender)
        if first is None:
            return None
        second = await self._why_unreachable(sender, receiver)
        return None if second is None else f"{first}; and {second}"

    async def _why_unreachable(self, dialler: PeerId, target: PeerId) -> str | None:
        """Return why one peer cannot dial another; a link that is there is answer enough."""
        if self._peer_id in {dialler, target} and self.is_connected(target if dialler == self._peer_id else dialler):
            return None
        if dialler == self._peer_id:
            return await self._links.why_unreachable(target)

        if target == self._peer_id:
            record = self._links.own_record()
        else:
            record = await self._database.read(lambda conn: address_records.find_record(conn, target))
        if record is None:
            return f"no address of peer {target} is known here"
        try:
            reply = await self._links.ask(
                dialler,
                ReachRequest(addresses=record),
                timeout_s=QUESTION_TIMEOUT_S,
                connect_s=PERSON_WAITS_S,
            )
        except PeerUnreachable as error:
            return error.message
        except ApplicationError as error:
            return f"peer {dialler} could not be asked: {error.message}"
        assert isinstance(reply, ReachResponse)
        return None if reply.reachable else f"peer {dialler} cannot reach {target}: {reply.reason}"
