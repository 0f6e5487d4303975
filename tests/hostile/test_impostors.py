"""Who shows another's certificate, or sits between two peers, gets nowhere: shown against a whole daemon."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from rnd.p2p.certificates import canonical_certificate
from rnd.p2p.identity import Identity
from rnd.p2p.tls import client_context, server_context
from rnd.protocol.messages import Hello, Ping, Pong
from rnd.types.errors import PeerUnreachable
from rnd.types.ids import PeerId
from tests.hostile.scripted_peer import CONTROL, ScriptedPeer
from tests.hostile.stage import Daemon, daemon, play
from tests.p2p.peers import forged, free_client, handshake
from tests.running_peers import wait_until

REQUEST = b"GET /control HTTP/1.1\r\nHost: rnd.invalid\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def victim() -> ScriptedPeer:
    return ScriptedPeer("impostors victim")


def mallory() -> ScriptedPeer:
    return ScriptedPeer("impostors mallory")


@pytest.fixture(scope="module", params=["open", "pinned"])
def peer(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    config = f'tls_gate = "{request.param}"\nlog_level = "DEBUG"\n'
    with daemon(tmp_path_factory.mktemp("impostors"), {victim(): "allowed"}, config=config) as peer:
        yield peer


def port_of(peer: Daemon) -> int:
    return int(peer.address.rpartition(":")[2])


def untouched(peer: Daemon) -> bool:
    """Say whether nobody was ever connected."""
    return "Peer connected" not in peer.log() and peer.rows("SELECT last_seen_at FROM peers") == [(None,)]


def test_a_copied_certificate_is_nothing_without_its_key(peer: Daemon) -> None:
    shown = canonical_certificate(victim().peer_id)
    with pytest.raises(ssl.SSLError):  # OpenSSL itself does not take a certificate with the key of another
        free_client(mallory().identity, shown)
    assert untouched(peer)


@pytest.mark.parametrize("holder", ["mallory", "stranger"])
def test_a_certificate_that_names_another_is_not_believed(peer: Daemon, holder: str) -> None:
    """The anchor's key is public: anybody can sign the victim's name over a key of his own."""
    who = ScriptedPeer(f"impostors {holder}").identity
    context = free_client(who, forged(victim().peer_id, who))

    async def test() -> None:
        answer = b""
        with contextlib.suppress(OSError):
            answer = await handshake(port_of(peer), context, request=REQUEST)
        assert answer == b""

    play(test())
    assert untouched(peer)


def test_nobody_without_a_certificate_is_answered(peer: Daemon) -> None:
    async def test() -> None:
        answer = b""
        with contextlib.suppress(OSError):
            answer = await handshake(port_of(peer), free_client(None), request=REQUEST)
        assert answer == b""

    play(test())
    assert untouched(peer)


class Middle:
    """Somebody who takes connections with a key of his own, and has one of his own to the true peer."""

    def __init__(self, identity: Identity, to: Daemon) -> None:
        self._identity = identity
        self._to = to
        self.port = 0
        self.heard = b""
        self.came = 0

    @asynccontextmanager
    async def sitting(self) -> AsyncIterator[None]:
        """Sit there."""
        from rnd.p2p.certificates import anchor_certificate

        context = server_context(self._identity, trusted=[anchor_certificate()])
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        with contextlib.suppress(OSError):
            upstream = await asyncio.open_connection(
                "127.0.0.1",
                port_of(self._to),
                ssl=client_context(self._identity, PeerId(self._to.peer_id)),
                server_hostname="rnd.invalid",
            )
            while data := await reader.read(65_536):
                self.heard += data
                upstream[1].write(data)
            upstream[1].close()
        writer.close()


def test_a_man_in_the_middle_is_found_out_before_a_word_is_said(peer: Daemon) -> None:
    async def test() -> None:
        middle = Middle(mallory().identity, peer)
        async with middle.sitting(), victim() as who:
            with pytest.raises(PeerUnreachable, match="another peer answers there"):
                await who.link(peer.peer_id, f"127.0.0.1:{middle.port}", CONTROL)
        assert middle.heard == b""

    play(test())
    assert untouched(peer)


def test_the_daemon_says_nothing_to_another_than_whom_it_dials(peer: Daemon) -> None:
    """The victim's address leads to somebody else."""

    async def test() -> None:
        middle = Middle(mallory().identity, peer)
        async with middle.sitting():
            peer.sql(
                "UPDATE peers SET addresses = :addresses WHERE peer_id = :peer_id",
                addresses=f'["127.0.0.1:{middle.port}"]',
                peer_id=victim().peer_id,
            )
            async with victim() as who:  # it comes and goes, and is dialled
                await peer.control(who)
            await asyncio.to_thread(
                wait_until, lambda: "another peer answers there" in _failure(peer), "the dial has failed for that"
            )
        assert middle.heard == b""

    play(test())


def _failure(peer: Daemon) -> str:
    return "\n".join(line for line in peer.log_lines() if "Peer not reached" in line)


def test_the_true_peer_comes_through_the_same_door(peer: Daemon) -> None:
    async def test() -> None:
        async with victim() as who:
            link = await peer.control(who)
            assert link.heard_of(Hello)
            assert isinstance(await link.ask(Ping()), Pong)

    play(test())
