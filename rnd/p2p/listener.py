"""Where other peers come in: one TCP port, TLS that names the caller, and a gatekeeper before every handler.

What peers may say to each other is the business of the handlers that are passed in.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from rnd.log import get_logger
from rnd.p2p.arrivals import Arrival, Arrivals
from rnd.p2p.certificates import peer_id_of_certificate
from rnd.p2p.http_faults import guard
from rnd.p2p.tls import ServerGate
from rnd.rules.addresses import origin_of
from rnd.types.errors import AddressInUse
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent

BACKLOG: Final = 128
ACCEPTED_AT_ONCE: Final = 16
ACCEPT_AGAIN_S: Final = 0.2
"""How long to wait where the system has no descriptor or memory for another connection."""
MAX_LINE_BYTES: Final = 1024
MAX_HEADER_BYTES: Final = 1024
MAX_HEADERS: Final = 32
MAX_BODY_BYTES: Final = 16 << 10
SHUTDOWN_S: Final = 3.0
TLS_SHUTDOWN_S: Final = 2.0
LINGER_S: Final = 1.0
REFUSALS_TOLD_EVERY_S: Final = 1.0
"""Strangers can knock as fast as they like; the log does not grow with it."""

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = get_logger()


class Admission(Enum):
    """What the gatekeeper does with a request."""

    ADMITTED = auto()
    """The connection is this peer's from now on."""
    GUEST = auto()
    """This one request is answered; the connection stays a stranger's, with a stranger's bounds, and ends with it."""
    REFUSED = auto()
    """403, before any handler and any upgrade."""


Admit = Callable[[PeerId, str], Admission]
"""Decides who may go on, from the peer and the path of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """The bounds within which strangers can use up nothing."""

    handshake_s: float = 5.0
    stranger_s: float = 15.0
    """From the first packet until a request is admitted; a guest's whole visit."""
    idle_s: float = 10.0
    """Between requests, and for the header of one."""
    strangers: int = 128
    strangers_per_origin: int = 32
    connections_per_peer: int = 16


class PeerListener:
    """Listens for peers. `start` binds, `run` serves until it is cancelled and then closes everything."""

    def __init__(
        self,
        gate: ServerGate,
        host: str,
        port: int,
        *,
        routes: Iterable[web.RouteDef],
        admit: Admit,
        limits: ListenerLimits = ListenerLimits(),
    ) -> None:
        self._gate = gate
        self._host = host
        self.port = port
        """The port in use once it listens; where 0 was asked for, it is a free one."""
        self._admit = admit
        self._limits = limits
        self._sock: socket.socket | None = None
        self._silent_until_s = 0.0
        self._arrivals = Arrivals(
            strangers=limits.strangers,
            strangers_per_origin=limits.strangers_per_origin,
            connections_per_peer=limits.connections_per_peer,
        )
        application = web.Application(middlewares=[self._gatekeeper], client_max_size=MAX_BODY_BYTES)
        application.add_routes(routes)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)

    @property
    def strangers(self) -> int:
        """Return how many connections are not admitted."""
        return self._arrivals.strangers

    @property
    def admitted(self) -> int:
        """Return how many connections are admitted."""
        return self._arrivals.admitted

    async def start(self) -> None:
        """Listen; `::` takes IPv4 as well. Raises `AddressInUse`, `OSError`."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            sock = socket.create_server(
                (self._host, self.port), family=family, backlog=BACKLOG, dualstack_ipv6=self._host == "::"
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(
                    f"{host}:{self.port} is in use by another process: stop what listens there, or choose another address with --peer"
                ) from error
            raise
        sock.setblocking(False)
        try:
            await self._runner.setup()
            guard(self._runner.server)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self.port = int(sock.getsockname()[1])
        log.info(LogEvent.PEER_LISTENING, address=f"{host}:{self.port}")

    async def run(self) -> None:
        """Serve until cancelled, then stop listening and end every connection."""
        assert self._sock is not None, "start() comes first"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as handshakes:
                loop.add_reader(self._sock, self._accept, self._sock, handshakes)
                try:
                    await loop.create_future()
                finally:
                    loop.remove_reader(self._sock)
                    self._sock.close()
        finally:
            await self._close()

    def disconnect(self, peer_id: PeerId) -> None:
        """End every connection of a peer, because it is admitted no more."""
        for arrival in self._arrivals.of_peer(peer_id):
            arrival.end()

    # ------------------------------------------------------------ connections

    def _accept(self, sock: socket.socket, handshakes: asyncio.TaskGroup) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, where = sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(sock, handshakes)
                    return
                continue  # that client has gone again
            accepted.setblocking(False)
            arrival = Arrival(accepted, origin_of(ip_address(where[0])))
            self._arrivals.enter(arrival)
            arrival.deadline = asyncio.get_running_loop().call_later(self._limits.stranger_s, arrival.end)
            handshakes.create_task(self._shake_hands(arrival))

    def _pause(self, sock: socket.socket, handshakes: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        self._arrivals.make_room()

        def go_on() -> None:
            if sock.fileno() >= 0:
                loop.add_reader(sock, self._accept, sock, handshakes)

        loop.call_later(ACCEPT_AGAIN_S, go_on)

    async def _shake_hands(self, arrival: Arrival) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: _Connection(self, arrival),
                arrival.sock,
                ssl=self._gate.context,
                ssl_handshake_timeout=self._limits.handshake_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
        except OSError as error:  # TLS errors and timeouts are among them
            log.debug(LogEvent.PEER_HANDSHAKE_FAILED, address=arrival.origin, reason=str(error) or type(error).__name__)
        finally:
            if arrival.transport is None:
                self._arrivals.leave(arrival)

    async def _close(self) -> None:
        """End every connection, and wait for the handlers to notice. Whoever holds links has said goodbye before."""
        for arrival in self._arrivals.all():
            arrival.end()
            if arrival.transport is None:  # a handshake that has not even begun is closed by nobody else
                self._arrivals.leave(arrival)
                arrival.sock.close()
        await self._runner.cleanup()

    # --------------------------------------------------------------- requests

    @web.middleware
    async def _gatekeeper(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        arrival = _arrival_of(request)
        peer_id = peer_of(request)
        match self._admit(peer_id, request.path):
            case Admission.REFUSED:
                self._tell_of_refusal(arrival)
                return refusal(403, "NOT_ADMITTED", "its owner can allow or invite you")
            case Admission.GUEST:
                request.protocol.close()  # once this request is answered
                return await _handled(request, handler)
            case Admission.ADMITTED:
                if self._arrivals.admit(arrival):
                    return await _handled(request, handler)
                return refusal(429, "TOO_MANY_CONNECTIONS", "you have too many connections to this peer")

    def _tell_of_refusal(self, arrival: Arrival) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._silent_until_s:
            self._silent_until_s = now_s + REFUSALS_TOLD_EVERY_S
            log.warning(LogEvent.PEER_REFUSED, address=arrival.origin, reason="not admitted", peer_id=arrival.peer_id)


def peer_of(request: web.Request) -> PeerId:
    """Return the peer whose key has been proven on this request's connection."""
    peer_id = _arrival_of(request).peer_id
    assert peer_id is not None
    return peer_id


def refusal(status: int, error: str, message: str) -> web.Response:
    """Return an answer `{"error", "message"}` after which the connection closes."""
    response = web.Response(
        status=status, text=json.dumps({"error": error, "message": message}), content_type="application/json"
    )
    response.force_close()
    return response


async def _handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return the answer of a handler. That the other side has gone is no fault of ours, as aiohttp would have it."""
    try:
        return await handler(request)
    except ConnectionError:
        return refusal(400, "GONE", "the connection was lost")  # nobody will read this


class _Connection(web.RequestHandler):
    """aiohttp's side of one connection, which reports its beginning and its end."""

    __slots__ = ("_listener", "arrival")

    def __init__(self, listener: PeerListener, arrival: Arrival) -> None:
        server = listener._runner.server
        assert server is not None
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=listener._limits.idle_s,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no log"; its annotation does not
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )
        self._listener = listener
        self.arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        certificate = transport.get_extra_info("ssl_object").getpeercert(True)
        self.arrival.meet(cast(asyncio.Transport, transport), peer_id_of_certificate(certificate))
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener._arrivals.leave(self.arrival)
        super().connection_lost(exc)


def _arrival_of(request: web.Request) -> Arrival:
    connection = request.protocol
    assert isinstance(connection, _Connection)
    return connection.arrival
