"""Reaching another peer at one of its addresses, and saying in words why it could not be reached."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Final, Self

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientWebSocketResponse
from yarl import URL

from rnd.p2p.identity import Identity
from rnd.p2p.racing import first_of
from rnd.p2p.tls import client_context
from rnd.rules.addresses import PeerAddress, never_dialled
from rnd.types.errors import NotAdmitted, PeerRefused, PeerUnreachable
from rnd.types.ids import PeerId
from rnd.types.peers import RefusalCode

_LATER: Final = frozenset({429, 500, 503})
"""What a peer answers that has too many connections now, or is on its way down."""
MAX_ADDRESSES: Final = 8
STAGGER_S: Final = 0.25
DIAL_TIMEOUT_S: Final = 10.0
CONNECT_S: Final = 5.0
"""How long one address has for connection and TLS where addresses are tried one after the other."""
CLOSE_S: Final = 2.0
"""How long a websocket that is closed waits for the other side's word."""
MAX_ANSWER_BYTES: Final = 64 << 10
MAX_REFUSAL_BYTES: Final = 4096
MAX_REASON_CHARACTERS: Final = 300

WebSocket = ClientWebSocketResponse
JsonObject = dict[str, object]
Reached = tuple[WebSocket, PeerAddress]
Outcome = Reached | PeerRefused
"""What ends a dial: a websocket, or the word of the peer itself, which would be the same at every address."""


class _AnsweredOtherwise(Exception):
    """The peer, which has proven its key, answered with another HTTP status than was hoped for."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class _ConnectionLost(Exception):
    """The connection ended after TLS was up and before there was an answer; the message says how."""


class Dialer:
    """Opens connections to peers; `async with` ends all of them."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,  # a link holds its connection for as long as it lives; whoever dials bounds the links
            force_close=True,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=_checked_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "rnd"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            middlewares=[_take_no_detours],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def dial(
        self,
        peer_id: PeerId,
        addresses: Sequence[PeerAddress],
        path: str,
        *,
        max_message_bytes: int,
        timeout_s: float = DIAL_TIMEOUT_S,
    ) -> Reached:
        """Return a websocket to a peer and the address that it was reached at: the first that answers.

        Raises `PeerRefused` where the peer itself turns us away, `PeerUnreachable` with one reason an address, `ValueError` for what is no peer id.
        """
        context = client_context(self._identity, peer_id)
        failures: dict[PeerAddress, str] = {}

        async def attempt(address: PeerAddress) -> Outcome | None:
            try:
                websocket = await self._open_session.ws_connect(
                    _url(address, path),
                    ssl=context,
                    compress=0,
                    max_msg_size=max_message_bytes,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
            except _AnsweredOtherwise as answer:
                return _refusal(peer_id, answer)
            except (aiohttp.ClientError, OSError, _ConnectionLost) as error:
                failures[address] = _words(error)
                return None
            return websocket, address

        chosen = list(dict.fromkeys(addresses))[:MAX_ADDRESSES]
        reached: Outcome | None = None
        try:
            async with asyncio.timeout(timeout_s):
                reached = await first_of(
                    [partial(attempt, address) for address in chosen], stagger_s=STAGGER_S, discard=_discard
                )
        except TimeoutError:
            pass  # the addresses without a reason did not answer in time
        match reached:
            case None:
                raise _unreachable(peer_id, chosen, failures, timeout_s)
            case PeerRefused():
                raise reached
        return reached

    async def post_json(
        self,
        peer_id: PeerId,
        addresses: Sequence[PeerAddress],
        path: str,
        body: Mapping[str, object],
        *,
        timeout_s: float = DIAL_TIMEOUT_S,
    ) -> JsonObject:
        """Send a JSON object to a peer, once, and return the object that it answers with.

        The addresses are tried one after the other until one connects; from then on nothing is sent a second time.
        Raises like `dial`.
        """
        context = client_context(self._identity, peer_id)
        failures: dict[PeerAddress, str] = {}
        tried: list[PeerAddress] = []
        try:
            async with asyncio.timeout(timeout_s):
                for address in list(dict.fromkeys(addresses))[:MAX_ADDRESSES]:
                    tried.append(address)
                    try:
                        return await self._post(_url(address, path), context, body)
                    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                        failures[address] = _words(error)
                    except (aiohttp.ClientError, OSError, _ConnectionLost) as error:
                        failures[address] = f"{_words(error)}; whether it took what was sent is not known"
                        break
        except _AnsweredOtherwise as answer:
            raise _refusal(peer_id, answer) from answer
        except TimeoutError:
            pass  # the address without a reason did not answer in time
        raise _unreachable(peer_id, tried, failures, timeout_s)

    async def _post(self, url: URL, context: ssl.SSLContext, body: Mapping[str, object]) -> JsonObject:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
        async with self._open_session.post(url, json=body, ssl=context, timeout=timeout) as response:
            answer = _json_object(await _read_at_most(response, MAX_ANSWER_BYTES + 1))
        if answer is None:
            raise _ConnectionLost("it answers with something else than a JSON object of a bounded size")
        return answer

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the dialer is used inside `async with`"
        return self._session


async def _take_no_detours(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Take only the answer that was asked for: no redirect leads elsewhere, and nothing is tried a second time."""
    try:
        response = await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        # A pinned gate that does not know us looks like this: asyncio closes before the alert is sent.
        raise _ConnectionLost(
            "it closed the connection without an answer; perhaps it does not know this peer"
        ) from error
    if response.status in {101, 200}:
        return response
    try:
        answer = _json_object(await _read_at_most(response, MAX_REFUSAL_BYTES)) or {}
    finally:
        response.close()
    raise _AnsweredOtherwise(response.status, _shown(answer.get("message", "")))


def _checked_socket(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """Make the socket for an address that may be dialled, whatever name or notation has led to it."""
    family, kind, protocol, _, where = info
    reason = never_dialled(ip_address(str(where[0])))
    if reason:
        raise OSError(errno.EACCES, f"{reason} is never dialled")
    return socket.socket(family, kind, protocol)


def _url(address: PeerAddress, path: str) -> URL:
    return URL.build(scheme="https", host=address.host, port=address.port, path=path)


async def _discard(reached: Outcome | None) -> None:
    if isinstance(reached, tuple):
        await reached[0].close()


async def _read_at_most(response: ClientResponse, limit_bytes: int) -> bytes:
    content = b""
    while len(content) < limit_bytes and (chunk := await response.content.read(limit_bytes - len(content))):
        content += chunk
    return content


def _json_object(content: bytes) -> JsonObject | None:
    if len(content) > MAX_ANSWER_BYTES:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _shown(text: object) -> str:
    """Return another peer's words, short and printable."""
    cut = str(text)[:MAX_REASON_CHARACTERS]
    return "".join(character if character.isprintable() else " " for character in cut)


def _words(error: Exception) -> str:
    """Return what failed at one address, so that a person can act on it."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "another peer answers there, or something in between cuts into the connection"
        case aiohttp.ClientConnectorSSLError():
            return "what answers there does not speak TLS 1.3 as a peer does"
        case aiohttp.ClientConnectorDNSError():
            return "the name leads to no address"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "the connection is refused: is rnd running there, and is the port right?"
        case aiohttp.ClientConnectorError(os_error=os_error):
            return os_error.strerror or str(os_error) or "the connection was closed before TLS was up"
        case aiohttp.ConnectionTimeoutError():
            return "no connection within the time for one address"
        case aiohttp.WSServerHandshakeError():
            return "what answers there opens no websocket"
        case _ConnectionLost():
            return str(error)
    return f"the connection broke: {error}"


def _refusal(peer_id: PeerId, answer: _AnsweredOtherwise) -> PeerRefused:
    reason = answer.reason or "no reason given"
    if answer.status == 403:
        return PeerRefused(
            f"{peer_id} does not admit this peer: {reason}", hint=NotAdmitted.default_hint, reason=answer.reason
        )
    word = RefusalCode.BUSY if answer.status in _LATER else ""
    return PeerRefused(
        f"{peer_id} answered with HTTP status {answer.status}: {reason}", reason=answer.reason, word=word
    )


def _unreachable(
    peer_id: PeerId, addresses: Sequence[PeerAddress], failures: Mapping[PeerAddress, str], timeout_s: float
) -> PeerUnreachable:
    slow = f"no answer within {timeout_s:g} s"
    reasons = [f"{address}: {failures.get(address, slow)}" for address in addresses]
    return PeerUnreachable(f"{peer_id} cannot be reached ({'; '.join(reasons) or 'no address is known'})")
