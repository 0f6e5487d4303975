"""The peers of a daemon that has no links: they are written down, and none of them is ever reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NoReturn

from rnd.database import peers
from rnd.database.connection import Database
from rnd.p2p.search_report import SearchReport
from rnd.rules.explain import Explanation
from rnd.types.enums import LogStream, PeerState, ServiceType
from rnd.types.errors import PeerUnreachable
from rnd.types.executions import JobExecution
from rnd.types.ids import PeerId
from rnd.types.peers import Peer
from rnd.types.seams import Clock

NOT_CONNECTED: Final = "not connected"


class UnlinkedPeers:
    """Keeps the rows of `peers`; whatever needs a link is refused with `PeerUnreachable`."""

    def __init__(self, database: Database, clock: Clock, peer_id: PeerId) -> None:
        self._database = database
        self._clock = clock
        self._peer_id = peer_id

    def is_connected(self, _peer_id: PeerId) -> bool:
        """Say that it is not."""
        return False

    def rtt_ms(self, _peer_id: PeerId) -> float | None:
        """Return `None`."""
        return None

    def last_failure(self, _peer_id: PeerId) -> str:
        """Return why no peer is linked."""
        return NOT_CONNECTED

    async def invite(self, _valid_s: float) -> tuple[str, datetime]:
        """Raise `PeerUnreachable`: nobody could come."""
        raise PeerUnreachable(
            "This peer listens for no others, so nobody could use an invite", hint="Use peer.add on both sides."
        )

    async def join(self, _invite: str) -> Peer:
        """Raise `PeerUnreachable`."""
        raise PeerUnreachable("This peer has no links to others", hint="Use peer.add on both sides.")

    async def add(self, peer_id: PeerId, *, addresses: Sequence[str], name: str, state: PeerState) -> Peer:
        """Write a peer down. Raises `Conflict`."""
        now = self._clock.now()
        return await self._database.write(
            lambda conn: peers.add_peer(
                conn, peer_id, self_peer_id=self._peer_id, state=state, name=name, addresses=addresses, now=now
            )
        )

    async def connect(self, peer_id: PeerId) -> None:
        """Raise `PeerUnreachable`."""
        _refuse(peer_id)

    async def disconnect(self, peer_id: PeerId) -> None:
        """Do nothing: there is no link to close."""

    async def remove(self, peer_id: PeerId) -> None:
        """Forget a peer. Raises `NotFound`."""
        now = self._clock.now()
        await self._database.write(lambda conn: peers.remove_peer(conn, peer_id, now=now))

    async def set_state(self, peer_id: PeerId, state: PeerState) -> Peer:
        """Let a peer in or keep it out. Raises `NotFound`."""
        now = self._clock.now()
        return await self._database.write(lambda conn: peers.set_state(conn, peer_id, state, now=now))

    async def ping(self, peer_id: PeerId) -> float:
        """Raise `PeerUnreachable`."""
        _refuse(peer_id)

    async def capabilities(self, peer_id: PeerId) -> Mapping[str, object]:
        """Raise `PeerUnreachable`."""
        _refuse(peer_id)

    async def search(
        self,
        *,
        query: str,  # noqa: ARG002 - nobody can be asked
        service_type: ServiceType | None,  # noqa: ARG002 - nobody can be asked
        peer_ids: Sequence[PeerId] | None,
        active_only: bool,  # noqa: ARG002 - nobody can be asked
        timeout_s: float,  # noqa: ARG002 - nobody can be asked
    ) -> SearchReport:
        """Return that none of the named peers could be asked."""
        return SearchReport(unreachable=tuple((peer_id, NOT_CONNECTED) for peer_id in peer_ids or ()))

    async def job_logs(
        self,
        job: JobExecution,
        *,
        stream: LogStream,  # noqa: ARG002 - nobody can be asked
        offset: int,  # noqa: ARG002 - nobody can be asked
        limit_bytes: int,  # noqa: ARG002 - nobody can be asked
    ) -> tuple[bytes, int, bool]:
        """Raise `PeerUnreachable`."""
        _refuse(job.executor_peer_id)

    async def explain(self, job: JobExecution) -> Explanation:
        """Raise `PeerUnreachable`."""
        _refuse(job.executor_peer_id)


def _refuse(peer_id: PeerId) -> NoReturn:
    raise PeerUnreachable(f"Peer {peer_id} is not connected")
