"""Peers of the channel's tests: identities from seeds, listeners and bare TLS ends on the loopback, and counts of what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from rnd.p2p.certificates import ANCHOR_SEED, canonical_certificate
from rnd.p2p.dialing import Dialer
from rnd.p2p.identity import Identity
from rnd.p2p.listener import Admission, Admit, ListenerLimits, PeerListener, peer_of
from rnd.p2p.tls import ServerGate
from rnd.rules.addresses import PeerAddress
from rnd.types.enums import TlsGate
from rnd.types.ids import PeerId

HOST = "127.0.0.1"
USUAL = ListenerLimits()
ANCHOR = Ed25519PrivateKey.from_private_bytes(ANCHOR_SEED)


def key(name: str) -> Ed25519PrivateKey:
    """Return the private key of a peer of tests."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def identity(name: str) -> Identity:
    """Return the identity of a peer of tests."""
    return Identity(key(name))


ALICE, BOB, MALLORY = map(identity, ("alice", "bob", "mallory"))


def here(port: int, host: str = HOST) -> PeerAddress:
    """Return an address on this machine."""
    return PeerAddress(host=host, port=port)


def everybody(_peer: PeerId, _path: str) -> Admission:
    """Admit everybody."""
    return Admission.ADMITTED


def only(*peers: Identity, guests_at: str = "") -> Admit:
    """Admit these peers, and anybody else as a guest at one path."""
    ids = {peer.peer_id for peer in peers}

    def admit(peer: PeerId, path: str) -> Admission:
        if peer in ids:
            return Admission.ADMITTED
        return Admission.GUEST if path == guests_at else Admission.REFUSED

    return admit


class Handlers:
    """What the listener of a test serves, and who came."""

    def __init__(self) -> None:
        self.seen: list[PeerId] = []

    def routes(self) -> list[web.RouteDef]:
        """Return an echo at /link, a word at /join."""
        return [web.get("/link", self._link), web.post("/join", self._join)]

    async def _link(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(peer_of(request))
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(f"{peer_of(request)} said {message.data}")
        return websocket

    async def _join(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(peer_of(request))
        return web.json_response({"you": peer_of(request), "said": await request.json()})


@contextlib.asynccontextmanager
async def listening(
    owner: Identity = ALICE,
    *,
    gate: ServerGate | None = None,
    admit: Admit = everybody,
    handlers: Handlers | None = None,
    limits: ListenerLimits = USUAL,
    host: str = HOST,
) -> AsyncIterator[PeerListener]:
    """Run a listener of a peer."""
    listener = PeerListener(
        gate or ServerGate(owner, TlsGate.OPEN),
        host,
        0,
        routes=(handlers or Handlers()).routes(),
        admit=admit,
        limits=limits,
    )
    await listener.start()
    async with running(listener.run()):
        yield listener


@contextlib.asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run something beside the test, and cancel it at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class BareServer:
    """A TLS server without HTTP, which greets who comes through and notes what is said."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.received = b""
        self.came_through = 0
        self.closes_after = 1 << 30
        """How many bytes it takes before it ends the connection."""
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve on the loopback."""
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came_through += 1
        with contextlib.suppress(OSError):
            writer.write(b"welcome")
            while len(self.received) < self.closes_after and (data := await reader.read(4096)):
                self.received += data
        writer.close()


async def handshake(port: int, context: ssl.SSLContext, *, request: bytes = b"", name: str = "rnd.invalid") -> bytes:
    """Connect with TLS, say something, and return what comes back: one piece, b"" for the end. Raises `OSError`."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=name)
        try:
            writer.write(request)
            return await reader.read(65536)
        finally:
            writer.transport.abort()


def free_client(who: Identity | None, certificate: bytes | None = None) -> ssl.SSLContext:
    """Return a client's context that checks nothing itself, with any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if who is not None:
        load(context, who, certificate)
    return context


def load(context: ssl.SSLContext, who: Identity, certificate: bytes | None = None) -> None:
    """Give a context a peer's key with its own or another certificate."""
    shown = ssl.DER_cert_to_PEM_cert(certificate or canonical_certificate(who.peer_id))
    fd = os.memfd_create("test")
    try:
        os.write(fd, who.private_key_pem() + shown.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def forged(subject: PeerId, holder: Identity) -> bytes:
    """Return a certificate that the published anchor key signs for anybody: one peer's name over another's key."""
    anchor = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rnd public anchor (not a secret)")])
    return (
        x509.CertificateBuilder()
        .issuer_name(anchor)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .public_key(holder._private_key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(holder._private_key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(bytes.fromhex("bd2300f4fe652488164c7a66b705854b4ddffbbf"), None, None),
            critical=False,
        )
        .sign(ANCHOR, None)
        .public_bytes(Encoding.DER)
    )


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Check that what runs inside leaves no descriptor open. Around `asyncio.run`, which ends all tasks or says so."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test, and check that at its end no task is left beside it and no descriptor open."""

    async def whole() -> None:
        async with asyncio.timeout(60):
            await test()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    with nothing_left():
        asyncio.run(whole(), debug=False)


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for something that the event loop will bring about."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def ask(dialer: Dialer, whom: Identity, port: int, words: str = "hello") -> str:
    """Dial a peer on this machine, say something and return its answer."""
    websocket, _ = await dialer.dial(whom.peer_id, [here(port)], "/link", max_message_bytes=65536)
    try:
        await websocket.send_str(words)
        return str(await websocket.receive_str(timeout=10))
    finally:
        await websocket.close()
