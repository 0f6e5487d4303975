"""The connections that a peer's listener holds, and which of them give way when there are too many.

A connection is a stranger's until a request on it was admitted. Strangers can hold only so many, in all and from one
address, and the oldest gives way to the newest: an honest peer needs a moment, an idle crowd wants to stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

from rnd.types.ids import PeerId


class Arrival:
    """One accepted connection. `peer_id` is known, and proven, once `transport` is."""

    def __init__(self, sock: socket.socket, origin: str) -> None:
        self.sock = sock
        self.origin = origin
        self.peer_id: PeerId | None = None
        self.transport: asyncio.Transport | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.ended = False

    def meet(self, transport: asyncio.Transport, peer_id: PeerId) -> None:
        """Note that TLS is up, and with whom."""
        self.transport = transport
        self.peer_id = peer_id

    def end(self) -> None:
        """End the connection now, unsaid things included. Idempotent."""
        self.ended = True
        if self.transport is not None:
            self.transport.abort()
        else:
            with contextlib.suppress(OSError):  # it is closed already
                self.sock.shutdown(socket.SHUT_RDWR)  # which the handshake notices, and then closes it


class Arrivals:
    """All connections of a listener: strangers by age, admitted ones by peer."""

    def __init__(self, *, strangers: int, strangers_per_origin: int, connections_per_peer: int) -> None:
        self._max_strangers = strangers
        self._max_per_origin = strangers_per_origin
        self._max_per_peer = connections_per_peer
        self._strangers: dict[Arrival, None] = {}  # a dictionary keeps the order of arrival
        self._per_origin: Counter[str] = Counter()
        self._admitted: dict[PeerId, set[Arrival]] = {}

    @property
    def strangers(self) -> int:
        """Return how many connections are not admitted (yet)."""
        return len(self._strangers)

    @property
    def admitted(self) -> int:
        """Return how many connections are admitted."""
        return sum(map(len, self._admitted.values()))

    def enter(self, arrival: Arrival) -> None:
        """Count a new connection as a stranger's, ending the oldest that it is one too many for."""
        if self._per_origin[arrival.origin] >= self._max_per_origin:
            self._end_oldest(arrival.origin)
        elif len(self._strangers) >= self._max_strangers:
            self._end_oldest(self._fullest_origin())
        self._strangers[arrival] = None
        self._per_origin[arrival.origin] += 1

    def admit(self, arrival: Arrival) -> bool:
        """Count a connection as its peer's from now on; `False`: this peer has too many, or it has ended meanwhile."""
        assert arrival.peer_id is not None
        if arrival.ended:
            return False
        own = self._admitted.setdefault(arrival.peer_id, set())
        if arrival in own:
            return True
        if len(own) >= self._max_per_peer:
            return False
        self._forget_stranger(arrival)
        own.add(arrival)
        return True

    def leave(self, arrival: Arrival) -> None:
        """Count a connection no more, because it has ended. Idempotent."""
        arrival.ended = True
        self._forget_stranger(arrival)
        if arrival.peer_id is not None:
            own = self._admitted.get(arrival.peer_id, set())
            own.discard(arrival)
            if not own:
                self._admitted.pop(arrival.peer_id, None)

    def of_peer(self, peer_id: PeerId) -> list[Arrival]:
        """Return all connections of a peer, admitted or not."""
        strangers = [arrival for arrival in self._strangers if arrival.peer_id == peer_id]
        return [*strangers, *self._admitted.get(peer_id, ())]

    def make_room(self) -> None:
        """End one stranger's connection if there is any, because the system has no room for more."""
        if self._strangers:
            self._end_oldest(self._fullest_origin())

    def all(self) -> list[Arrival]:
        """Return all connections."""
        return [*self._strangers, *(arrival for own in self._admitted.values() for arrival in own)]

    def _fullest_origin(self) -> str:
        return self._per_origin.most_common(1)[0][0]

    def _end_oldest(self, origin: str) -> None:
        oldest = next(arrival for arrival in self._strangers if arrival.origin == origin)
        self._forget_stranger(oldest)
        oldest.end()

    def _forget_stranger(self, arrival: Arrival) -> None:
        if arrival.deadline is not None:
            arrival.deadline.cancel()
        if arrival in self._strangers:
            del self._strangers[arrival]
            self._per_origin[arrival.origin] -= 1
            if not self._per_origin[arrival.origin]:
                del self._per_origin[arrival.origin]
