"""The wire of a simulated world: connections between machines that are slow, cut, parted, or half there.

Within one connection messages come in their order and whole, as TCP and TLS see to; between connections there is no
order. A connection knows the proven ids of both ends, in place of mutual TLS. What is done to connections by chance is
decided elsewhere (`faults.py`); here is what follows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Self

from aiohttp import WSMessage, WSMsgType

from rnd.p2p.dialing import Dialer
from rnd.p2p.link import LinkKind
from rnd.p2p.listener import Admission
from rnd.p2p.tls import ServerGate
from rnd.rules.addresses import PeerAddress
from rnd.types.errors import PeerRefused, PeerUnreachable
from rnd.types.ids import PeerId

HEARTBEAT_MISSED_S: Final = (7.5, 22.5)
"""When an end notices that nothing comes back: aiohttp asks after 15 s of silence and waits half as long."""
IN_FLIGHT_BYTES: Final = 1 << 20
"""How much the kernels on both sides take before a sender has to wait."""
ABNORMAL: Final = 1006


class End:
    """One end of a connection, as `Link` sees a websocket."""

    def __init__(self, net: Net, me: Any, other: Any, kind: str) -> None:
        self.net = net
        self.me = me
        self.other = other
        """The incarnations at both ends: whom it belongs to, and whom it leads to."""
        self.kind = kind
        self.peer: End
        self.closed = False
        self.close_code: int | None = None
        self.parted = False
        """Nothing that is sent here arrives any more, and nobody is told."""
        self._inbox: deque[WSMessage] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._last_at_s = 0.0
        self._held: deque[WSMessage] = deque()
        self._in_flight = 0
        self._room: asyncio.Future[None] | None = None

    # ---- what a link does with it

    async def send_str(self, text: str) -> None:
        self.net.on_say(self, text)
        await self._send(WSMessage(WSMsgType.TEXT, text, ""), len(text))

    async def send_bytes(self, content: Any) -> None:
        await self._send(WSMessage(WSMsgType.BINARY, bytes(content), ""), len(content))

    async def _send(self, message: WSMessage, size: int) -> None:
        if self.closed:
            raise ConnectionResetError("Cannot write to closing transport")
        self._in_flight += size
        self._post(message)
        while self._in_flight > IN_FLIGHT_BYTES and not self.closed:
            self._room = self.net.loop.create_future()
            await self._room
        if self.closed:
            raise ConnectionResetError("Cannot write to closing transport")

    def __aiter__(self) -> End:
        return self

    async def __anext__(self) -> WSMessage:
        while not self._inbox:
            if self.closed:
                raise StopAsyncIteration
            self._waiter = self.net.loop.create_future()
            await self._waiter
        if self.closed:
            raise StopAsyncIteration
        message = self._inbox.popleft()
        if message.type is WSMsgType.CLOSE:
            self.end(message.data)
            raise StopAsyncIteration
        return message

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        if self.closed:
            return False
        self._post(WSMessage(WSMsgType.CLOSE, code, ""))
        self.end(code)
        return True

    def get_extra_info(self, name: str) -> Any:
        """There is no socket that a link could look at: the wire itself gives up what is silent."""
        return None

    # ---- what the world does with it

    def _post(self, message: WSMessage) -> None:
        if self.net.is_parted(self.me, self.other):
            self._hold(message)
            return
        self._last_at_s = max(self._last_at_s + 1e-6, self.net.loop.time() + self.net.latency_s(self.me, self.other))
        self.net.loop.call_at(self._last_at_s, self._arrive, message, context=self.net.nobody)

    def _arrive(self, message: WSMessage) -> None:
        if self.parted:
            return
        if self.net.is_parted(self.me, self.other) or self._held:
            self._hold(message)
            return
        if self.peer.closed:
            self.net.reset(self)  # what comes for a socket that is closed is answered so
            return
        self._take_from_wire(message)
        self.peer._inbox.append(message)
        self.peer.wake()

    def _hold(self, message: WSMessage) -> None:
        """Keep what does not get across now: TCP sends it again and again, also once this end is closed."""
        self._held.append(message)
        self.net.holding[self] = None

    def _take_from_wire(self, message: WSMessage) -> None:
        if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            self._in_flight -= len(message.data)
        if self._room is not None and self._in_flight <= IN_FLIGHT_BYTES and not self._room.done():
            self._room.set_result(None)

    def release(self) -> None:
        """Send on what was held up while the two were parted."""
        held, self._held = self._held, deque()
        for message in held:
            self._post(message)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, code: int) -> None:
        """This end is over: whoever reads or writes here learns that."""
        if self.closed:
            return
        self.closed = True
        self.close_code = code
        self.net.forget(self)
        self.wake()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


class Net:
    """All connections between the machines, and what stands between these."""

    def __init__(self, loop: Any, rng: Any, nobody: Any, on_say: Callable[[End, str], None]) -> None:
        self.loop = loop
        self.rng = rng
        self.nobody = nobody
        """The context of what belongs to no daemon."""
        self.on_say = on_say
        self.listeners: dict[str, SimulatedListener] = {}
        self.hosts_up: set[str] = set()
        self.ends: dict[End, None] = {}
        self.holding: dict[End, None] = {}
        """The ends from which something does not get across."""
        self._parted: dict[frozenset[int], int] = {}
        self._slow: dict[frozenset[int], float] = {}
        self.opened = 0
        self.duplicates = 0

    def is_parted(self, one: Any, other: Any) -> bool:
        """Say whether nothing gets from one machine to the other."""
        return bool(self._parted.get(_pair(one, other)))

    def latency_s(self, one: Any, other: Any) -> float:
        """Return how long the next message takes."""
        slow = self._slow.get(_pair(one, other), 0.0)
        return self.rng.uniform(0.0005, 0.01) + (self.rng.uniform(0.0, slow) if slow else 0.0)

    # ---- dialling

    async def dial(self, me: Any, peer_id: PeerId, address: PeerAddress, path: str, timeout_s: float) -> End:
        """Return this side's end of a new connection."""
        where = str(address)
        listener = self.listeners.get(where)
        other = None if listener is None else listener.incarnation
        await asyncio.sleep(3 * self.rng.uniform(0.0005, 0.01))
        listener = self.listeners.get(where)
        if where not in self.hosts_up or (other is not None and self.is_parted(me, other)):
            await asyncio.sleep(timeout_s)
            raise PeerUnreachable(f"{peer_id} cannot be reached ({where}: no answer within {timeout_s:g} s)")
        if listener is None:
            raise PeerUnreachable(f"{peer_id} cannot be reached ({where}: the connection is refused)")
        if listener.peer_id != peer_id:
            raise PeerUnreachable(f"{peer_id} cannot be reached ({where}: another peer answers there)")
        if listener.admit(me.peer_id, path) is not Admission.ADMITTED:
            raise PeerRefused(f"{peer_id} does not admit this peer", reason="not admitted")
        mine, theirs = End(self, me, listener.incarnation, path), End(self, listener.incarnation, me, path)
        mine.peer, theirs.peer = theirs, mine
        pair = _pair(me, listener.incarnation)
        if path == LinkKind.CONTROL and any(_pair(end.me, end.other) == pair for end in self.ends if end.kind == path):
            self.duplicates += 1
        self.ends[mine] = self.ends[theirs] = None
        self.opened += 1
        self.loop.call_later(
            self.latency_s(me, listener.incarnation), listener.take, theirs, path, me.peer_id, context=self.nobody
        )
        return mine

    # ---- what befalls connections

    def forget(self, end: End) -> None:
        self.ends.pop(end, None)

    def between(self, one: int, other: int) -> list[End]:
        """Return the ends of all connections between two machines."""
        wanted = frozenset({one, other})
        return [end for end in self.ends if _pair(end.me, end.other) == wanted]

    def of_machine(self, machine: int) -> list[End]:
        """Return the ends that lead to a machine from others."""
        return [end for end in self.ends if end.other.machine.number == machine]

    def reset(self, end: End) -> None:
        """Tell an end that the other one is gone, as soon as that word can get there."""
        if self.is_parted(end.me, end.other):
            self.notice_later(end)
            return
        self.loop.call_later(self.latency_s(end.me, end.other), end.end, ABNORMAL, context=self.nobody)

    def notice_later(self, end: End) -> None:
        """Have an end find out by itself, by its heartbeat, that nothing comes back."""
        end.parted = True
        self.loop.call_later(self.rng.uniform(*HEARTBEAT_MISSED_S), end.end, ABNORMAL, context=self.nobody)

    def cut(self, end: End) -> None:
        """Cut a connection; both ends are told, each in its time."""
        for each in (end, end.peer):
            each.parted = True
            self.reset(each)

    def halve(self, end: End) -> None:
        """Let both ends of a connection believe in it, though nothing gets across any more."""
        for each in (end, end.peer):
            self.notice_later(each)

    def lose_one_side(self, end: End) -> None:
        """End a connection at one end alone; the other end finds out late, and may meanwhile get a second one."""
        end.parted = True
        self.notice_later(end.peer)
        self.loop.call_later(self.latency_s(end.me, end.other), end.end, ABNORMAL, context=self.nobody)

    def part(self, one: int, other: int) -> None:
        """Let nothing pass between two machines."""
        pair = frozenset({one, other})
        self._parted[pair] = self._parted.get(pair, 0) + 1
        token = self._parted[pair]
        for end in self.between(one, other):
            self.loop.call_later(
                self.rng.uniform(*HEARTBEAT_MISSED_S), self._miss_heartbeat, end, pair, token, context=self.nobody
            )

    def _miss_heartbeat(self, end: End, pair: frozenset[int], token: int) -> None:
        if self._parted.get(pair) == token:
            end.parted = True
            end.end(ABNORMAL)
            self.notice_later(end.peer)

    def join(self, one: int, other: int) -> None:
        """Let everything pass between two machines again."""
        pair = frozenset({one, other})
        if self._parted.pop(pair, None):
            for end in [end for end in self.holding if _pair(end.me, end.other) == pair]:
                del self.holding[end]
                end.release()

    def slow_down(self, one: int, other: int, by_s: float) -> None:
        """Let messages between two machines take up to so much longer; 0: no longer."""
        self._slow[frozenset({one, other})] = by_s

    def daemon_died(self, incarnation: Any) -> None:
        """The kernel closes what a killed process had open; nobody does where the whole machine is gone."""
        machine_is_up = incarnation.machine.address in self.hosts_up
        for end in list(self.ends):
            if end.me is incarnation:
                end.parted = True
                self.forget(end)
                if machine_is_up:
                    self.reset(end.peer)
                else:
                    self.notice_later(end.peer)


class NoGate(ServerGate):
    """There is no TLS that would have to know whom to let through: a connection knows who is at its ends."""

    def __init__(self) -> None:
        """Make nothing."""

    def set_admitted(self, peers: Iterable[PeerId]) -> None:
        """Whom the door admits is asked of the door."""

    def set_invite_live(self, live: bool) -> None:
        """Nobody is invited in a simulated world."""


class SimulatedDialer(Dialer):
    """Dials through the simulated wire."""

    def __init__(self, net: Net, incarnation: Any) -> None:
        self._net = net
        self._incarnation = incarnation

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def dial(  # type: ignore[override]  # the simulated dial takes what the simulated wire needs
        self,
        peer_id: PeerId,
        addresses: Sequence[PeerAddress],
        path: str,
        *,
        max_message_bytes: int,
        timeout_s: float = 10.0,
    ) -> tuple[Any, PeerAddress]:
        failure: PeerUnreachable | None = None
        for address in addresses:
            try:
                return await self._net.dial(self._incarnation, peer_id, address, path, timeout_s), address
            except PeerUnreachable as error:
                failure = error
        raise failure or PeerUnreachable(f"{peer_id} cannot be reached (no address is known)")


class SimulatedListener:
    """Where connections of the simulated wire come in; has the door of a `PeerListener`."""

    def __init__(self, net: Net, incarnation: Any, host: str, port: int, admit: Callable[[PeerId, str], Admission]):
        self.net = net
        self.incarnation = incarnation
        self.peer_id = incarnation.peer_id
        self.address = f"{host}:{port}"
        self.port = port
        self.admit = admit
        self.links: Any = None
        self._group: asyncio.TaskGroup | None = None

    async def start(self) -> None:
        return None

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.net.listeners[self.address] = self
                await self.net.loop.create_future()
        finally:
            self._group = None
            if self.net.listeners.get(self.address) is self:
                del self.net.listeners[self.address]

    def take(self, end: End, path: str, peer_id: PeerId) -> None:
        """Have somebody speak on a connection that has come in."""
        if self.incarnation.dead or self._group is None or end.closed:
            self.net.reset(end.peer)
            return
        self._group.create_task(self._live(end, LinkKind(path), peer_id), context=self.incarnation.context)

    async def _live(self, end: End, kind: LinkKind, peer_id: PeerId) -> None:
        await self.links.live_on(end, kind, peer_id)
        if not end.closed:
            await end.close()


def _pair(one: Any, other: Any) -> frozenset[int]:
    return frozenset({one.machine.number, other.machine.number})
