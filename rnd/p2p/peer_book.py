"""Who other peers are to this one, in memory: for the decisions at the door and on links, which cannot wait for a query.

The rows decide; the book is read anew after each change and at every tick, since time changes standings too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from rnd.database import introductions, peer_invites, peers
from rnd.database.connection import Database
from rnd.p2p.listener import Admission
from rnd.p2p.tls import ServerGate
from rnd.rules.admission import Door, admit
from rnd.rules.policy import Standing, standing
from rnd.types.enums import PeerState
from rnd.types.ids import PeerId
from rnd.types.peers import Peer
from rnd.types.seams import Clock


class PeerBook:
    """Knows each peer's standing. `on_change` is called after every reading that found one changed."""

    def __init__(self, *, database: Database, clock: Clock, gate: ServerGate, peer_id: PeerId) -> None:
        self._database = database
        self._clock = clock
        self._gate = gate
        self._peer_id = peer_id
        self._peers: Mapping[PeerId, Peer] = {}
        self._introduced: frozenset[PeerId] = frozenset()
        self._invite_is_live = False
        self.on_change: Callable[[], None] = lambda: None

    async def refresh(self) -> None:
        """Read the rows anew, and let the listener's TLS know whom it may let through."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> tuple[list[Peer], list[PeerId], bool]:
            return (
                peers.list_peers(conn),
                introductions.list_introduced_peers(conn, now=now),
                peer_invites.has_live(conn, peer_id=None, now=now),
            )

        rows, introduced, invite_is_live = await self._database.read(work)
        before = self._peers, self._introduced
        self._peers = {peer.peer_id: peer for peer in rows}
        self._introduced = frozenset(introduced)
        self._invite_is_live = invite_is_live
        self._gate.set_invite_live(invite_is_live)
        self._gate.set_admitted(peer_id for peer_id in {*self._peers, *self._introduced} if self.is_welcome(peer_id))
        if before != (self._peers, self._introduced):
            self.on_change()

    def standing(self, peer_id: PeerId) -> Standing:
        """Return what a peer is to this one."""
        if peer_id == self._peer_id:
            return Standing.SELF
        return standing(self._peers.get(peer_id), introduced=peer_id in self._introduced)

    def is_allowed(self, peer_id: PeerId) -> bool:
        """Say whether a peer is allowed."""
        return self.standing(peer_id) is Standing.ALLOWED

    def is_welcome(self, peer_id: PeerId) -> bool:
        """Say whether a peer may have any link at all."""
        return self.standing(peer_id) in {Standing.ALLOWED, Standing.INTRODUCED}

    def allowed(self) -> list[Peer]:
        """Return the allowed peers, oldest first."""
        return [peer for peer in self._peers.values() if peer.state is PeerState.ALLOWED]

    def has_introduced(self) -> bool:
        """Say whether any job introduces a peer now."""
        return bool(self._introduced)

    def name_of(self, peer_id: PeerId) -> str:
        """Return what a peer is called here; "" where it has no name."""
        peer = self._peers.get(peer_id)
        return "" if peer is None else peer.name

    def admit(self, peer_id: PeerId, path: str) -> Admission:
        """Decide at the door, before any handler."""
        try:
            door = Door(path)
        except ValueError:
            return Admission.REFUSED
        is_live = self._invite_is_live or self.is_allowed(peer_id)  # who has joined may ask again; pairing knows more
        if admit(self.standing(peer_id), door, invite_is_live=is_live) is not None:
            return Admission.REFUSED
        return Admission.GUEST if door is Door.JOIN else Admission.ADMITTED
