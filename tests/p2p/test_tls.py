"""TLS between peers, over real sockets: only who holds the right key gets through, and nothing is said before."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable

import pytest

from rnd.p2p.certificates import anchor_certificate, canonical_certificate
from rnd.p2p.tls import ServerGate, client_context, server_context
from rnd.types.enums import TlsGate
from rnd.types.ids import PeerId
from tests.p2p.peers import ALICE, BOB, MALLORY, BareServer, forged, free_client, handshake, load, run


def trusted_by(context: ssl.SSLContext) -> tuple[int, int]:
    """Return how many certificates a context trusts, and how many of them may sign others."""
    counts = context.cert_store_stats()
    return counts["x509"], counts["x509_ca"]


async def gets_through(gate: ServerGate, client: ssl.SSLContext, *, name: str = "rnd.invalid") -> bool:
    server = BareServer(gate.context)
    async with server.serving():
        try:
            await handshake(server.port, client, request=b"x", name=name)
        except OSError:
            assert server.came_through == 0
    return server.came_through == 1


def gate_of(kind: TlsGate, admitted: Iterable[PeerId] = ()) -> ServerGate:
    gate = ServerGate(ALICE, kind)
    gate.set_admitted(admitted)
    return gate


def test_every_peer_gets_through_an_open_gate() -> None:
    async def test() -> None:
        assert await gets_through(gate_of(TlsGate.OPEN), client_context(BOB, ALICE.peer_id))
        assert await gets_through(gate_of(TlsGate.OPEN), client_context(MALLORY, ALICE.peer_id))

    run(test)


def test_only_admitted_peers_get_through_a_pinned_gate() -> None:
    async def test() -> None:
        gate = gate_of(TlsGate.PINNED, [BOB.peer_id])
        assert await gets_through(gate, client_context(BOB, ALICE.peer_id))
        assert not await gets_through(gate, client_context(MALLORY, ALICE.peer_id))

    run(test)


@pytest.mark.parametrize("name", ["rnd.invalid", "127.0.0.1", "other.example"])  # of an IP address no name is sent
def test_trust_changes_both_ways_while_the_server_listens(name: str) -> None:
    async def test() -> None:
        gate = gate_of(TlsGate.PINNED)
        server = BareServer(gate.context)
        came = []
        async with server.serving():
            for admitted in ([], [BOB.peer_id], [MALLORY.peer_id], [BOB.peer_id, MALLORY.peer_id], []):
                gate.set_admitted(admitted)
                before = server.came_through
                with contextlib.suppress(OSError):
                    await handshake(server.port, client_context(BOB, ALICE.peer_id), name=name)
                came.append(server.came_through - before)
        assert came == [0, 1, 0, 1, 0]

    run(test)


def test_a_live_invite_lets_unknown_peers_through_a_pinned_gate_and_no_longer() -> None:
    async def test() -> None:
        gate = gate_of(TlsGate.PINNED, [BOB.peer_id])
        for live in (True, False):
            gate.set_invite_live(live)
            assert gate.anyone_passes == live
            assert await gets_through(gate, client_context(MALLORY, ALICE.peer_id)) == live
            assert await gets_through(gate, client_context(BOB, ALICE.peer_id))

    run(test)


@pytest.mark.parametrize("gate", [gate_of(TlsGate.OPEN), gate_of(TlsGate.PINNED, [BOB.peer_id, MALLORY.peer_id])])
def test_a_certificate_that_does_not_follow_from_its_key_is_refused(gate: ServerGate) -> None:
    async def test() -> None:
        assert await gets_through(gate, free_client(MALLORY))
        assert not await gets_through(gate, free_client(MALLORY, forged(BOB.peer_id, MALLORY)))
        assert not await gets_through(gate, free_client(MALLORY, forged(MALLORY.peer_id, MALLORY)))

    run(test)


@pytest.mark.parametrize("kind", list(TlsGate))
def test_a_client_without_a_certificate_is_refused(kind: TlsGate) -> None:
    async def test() -> None:
        assert not await gets_through(gate_of(kind, [BOB.peer_id]), free_client(None))

    run(test)


def test_older_tls_is_refused() -> None:
    async def test() -> None:
        client = free_client(BOB)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not await gets_through(gate_of(TlsGate.OPEN), client)

    run(test)


def test_a_copied_certificate_is_of_no_use_without_its_key() -> None:
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        free_client(MALLORY, canonical_certificate(BOB.peer_id))


@pytest.mark.parametrize("certificate", [None, forged(ALICE.peer_id, MALLORY), anchor_certificate()])
def test_a_client_says_nothing_to_another_peer_than_it_expects(certificate: bytes | None) -> None:
    async def test() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate == anchor_certificate():
            with pytest.raises(ssl.SSLError):
                load(context, MALLORY, certificate)
            return
        load(context, MALLORY, certificate)
        server = BareServer(context)
        async with server.serving():
            with pytest.raises(ssl.SSLCertVerificationError):
                await handshake(server.port, client_context(BOB, ALICE.peer_id), request=b"a secret")
        assert server.received == b""

    run(test)


def test_a_client_and_a_server_with_older_tls_do_not_come_together() -> None:
    async def test() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        load(context, ALICE)
        server = BareServer(context)
        async with server.serving():
            with pytest.raises(OSError):
                await handshake(server.port, client_context(BOB, ALICE.peer_id))

    run(test)


def test_a_session_is_never_resumed() -> None:
    async def test() -> None:
        gate = gate_of(TlsGate.OPEN)
        assert gate.context.num_tickets == 0
        server = BareServer(gate.context)
        async with server.serving():
            for _ in range(2):
                await handshake(server.port, client_context(BOB, ALICE.peer_id))
        assert gate.context.session_stats()["hits"] == 0

    run(test)


def test_only_a_gate_that_lets_everybody_through_trusts_the_anchor() -> None:
    gate = gate_of(TlsGate.PINNED, [BOB.peer_id, MALLORY.peer_id])
    assert trusted_by(gate.context) == (0, 0)
    assert trusted_by(gate._current) == (2, 0)
    gate.set_invite_live(True)
    assert trusted_by(gate._current) == (1, 1)
    gate.set_invite_live(False)
    assert trusted_by(gate._current) == (2, 0)
    assert trusted_by(gate_of(TlsGate.OPEN)._current) == (1, 1)
    assert trusted_by(client_context(BOB, ALICE.peer_id)) == (1, 0)


@pytest.mark.parametrize("context", [server_context(ALICE, trusted=()), client_context(ALICE, BOB.peer_id)])
def test_every_context_speaks_tls_1_3_alone_and_checks_strictly(context: ssl.SSLContext) -> None:
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN


def test_an_id_that_is_none_changes_nothing_at_the_gate() -> None:
    gate = gate_of(TlsGate.PINNED, [BOB.peer_id])
    before = gate._current
    with pytest.raises(ValueError, match="a peer id"):
        gate.set_admitted([PeerId("rn")])
    assert gate._current is before
    gate.set_admitted([BOB.peer_id])
    assert gate._current is before
