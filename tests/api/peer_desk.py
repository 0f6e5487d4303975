"""Other peers as tests script them: real rows, and links that are up because a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rnd.database import peers
from rnd.database.connection import Database
from rnd.p2p.search_report import SearchReport
from rnd.protocol.invites import new_invite, parse_invite
from rnd.protocol.link_messages import ServiceOffer
from rnd.rules.explain import Explanation
from rnd.types.enums import LogStream, PeerState, ServiceType
from rnd.types.errors import PeerUnreachable
from rnd.types.executions import JobExecution
from rnd.types.ids import PeerId
from rnd.types.peers import Peer
from rnd.types.seams import Clock


@dataclass
class Linked:
    """A peer whose link is up: what it offers and says."""

    name: str = ""
    offers: tuple[ServiceOffer, ...] = ()
    log: bytes = b""
    explanation: Explanation | None = None
    capabilities: Mapping[str, object] = field(default_factory=dict)


class DeskInMemory:
    """The `PeerDesk` of tests. `linked` says who answers; `reachable` who would, once connected."""

    def __init__(self, database: Database, clock: Clock, peer_id: PeerId) -> None:
        self._database = database
        self._clock = clock
        self._peer_id = peer_id
        self._secrets = itertools.count(1)
        self.linked: dict[PeerId, Linked] = {}
        self.reachable: dict[PeerId, Linked] = {}
        self.questions: list[tuple[str, tuple[PeerId, ...] | None]] = []

    def is_connected(self, peer_id: PeerId) -> bool:
        return peer_id in self.linked

    def rtt_ms(self, peer_id: PeerId) -> float | None:
        return 1.5 if peer_id in self.linked else None

    def last_failure(self, peer_id: PeerId) -> str:
        return "" if peer_id in self.linked else "connection refused"

    def own_name(self, peer_id: PeerId) -> str:
        return self.linked[peer_id].name if peer_id in self.linked else ""

    async def invite(self, valid_s: float) -> tuple[str, datetime]:
        secret = next(self._secrets).to_bytes(16, "big")
        return new_invite(self._peer_id, ["192.0.2.1:30906"], secret), self._clock.now() + timedelta(seconds=valid_s)

    async def join(self, invite: str) -> Peer:
        said = parse_invite(invite)
        now = self._clock.now()
        return await self._database.write(
            lambda conn: peers.pair_peer(
                conn,
                said.peer_id,
                self_peer_id=self._peer_id,
                name="inviter",
                addresses=said.addresses,
                now=now,
            )
        )

    async def add(self, peer_id: PeerId, *, addresses: Sequence[str], name: str, state: PeerState) -> Peer:
        now = self._clock.now()
        return await self._database.write(
            lambda conn: peers.add_peer(
                conn, peer_id, self_peer_id=self._peer_id, state=state, name=name, addresses=addresses, now=now
            )
        )

    async def set_addresses(self, peer_id: PeerId, addresses: Sequence[str]) -> Peer:
        now = self._clock.now()
        return await self._database.write(lambda conn: peers.set_addresses(conn, peer_id, addresses, now=now))

    async def connect(self, peer_id: PeerId) -> None:
        if peer_id not in self.reachable:
            raise PeerUnreachable(f"Peer {peer_id} is not connected")
        self.linked[peer_id] = self.reachable[peer_id]

    async def disconnect(self, peer_id: PeerId) -> None:
        self.linked.pop(peer_id, None)

    async def remove(self, peer_id: PeerId) -> None:
        now = self._clock.now()
        await self._database.write(lambda conn: peers.remove_peer(conn, peer_id, now=now))
        self.linked.pop(peer_id, None)

    async def set_state(self, peer_id: PeerId, state: PeerState) -> Peer:
        now = self._clock.now()
        peer = await self._database.write(lambda conn: peers.set_state(conn, peer_id, state, now=now))
        if state is not PeerState.ALLOWED:
            self.linked.pop(peer_id, None)
        return peer

    async def ping(self, peer_id: PeerId) -> float:
        self._link(peer_id)
        return 1.23456

    async def capabilities(self, peer_id: PeerId) -> Mapping[str, object]:
        return self._link(peer_id).capabilities

    async def search(
        self,
        *,
        query: str,
        service_type: ServiceType | None,
        peer_ids: Sequence[PeerId] | None,
        active_only: bool,
        timeout_s: float,
    ) -> SearchReport:
        """Answer like peers that take no notice of the type and of what is inactive."""
        self.questions.append((query, None if peer_ids is None else tuple(peer_ids)))
        assert service_type is None or isinstance(service_type, ServiceType)
        assert isinstance(active_only, bool)
        assert timeout_s > 0
        asked = list(self.linked) if peer_ids is None else [peer_id for peer_id in peer_ids if peer_id in self.linked]
        return SearchReport(
            offers=tuple(
                (peer_id, offer)
                for peer_id in asked
                for offer in self.linked[peer_id].offers
                if query.lower() in f"{offer.name} {offer.description}".lower()
            ),
            unreachable=tuple((each, "not connected") for each in peer_ids or () if each not in self.linked),
        )

    async def job_logs(
        self, job: JobExecution, *, stream: LogStream, offset: int, limit_bytes: int
    ) -> tuple[bytes, int, bool]:
        log = self._link(job.executor_peer_id).log if stream is LogStream.STDOUT else b""
        end = offset + limit_bytes
        return log[offset:end], min(end, len(log)), end >= len(log)

    async def explain(self, job: JobExecution) -> Explanation:
        explanation = self._link(job.executor_peer_id).explanation
        assert explanation is not None
        return explanation

    def _link(self, peer_id: PeerId) -> Linked:
        if peer_id not in self.linked:
            raise PeerUnreachable(f"Peer {peer_id} is not connected")
        return self.linked[peer_id]
