"""The listener of peers: who is who before any handler, and strangers who can use up nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from rnd.p2p.dialing import Dialer
from rnd.p2p.identity import Identity
from rnd.p2p.listener import ListenerLimits
from rnd.p2p.tls import ServerGate, client_context
from rnd.types.enums import TlsGate
from rnd.types.errors import PeerRefused, PeerUnreachable
from tests.p2p.peers import (
    ALICE,
    BOB,
    HOST,
    MALLORY,
    Handlers,
    ask,
    forged,
    free_client,
    handshake,
    here,
    listening,
    only,
    run,
    until,
)

UPGRADE = (
    b"GET /link HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@contextlib.asynccontextmanager
async def silent_connection(port: int, source: str = HOST) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection(HOST, port, local_addr=(source, 0))
    try:
        yield reader
    finally:
        writer.transport.abort()


def test_both_sides_know_who_the_other_is() -> None:
    async def test() -> None:
        handlers = Handlers()
        async with listening(handlers=handlers) as listener, Dialer(BOB) as dialer:
            assert await ask(dialer, ALICE, listener.port) == f"{BOB.peer_id} said hello"
            await until(lambda: listener.admitted == listener.strangers == 0)
        assert handlers.seen == [BOB.peer_id]

    run(test)


def test_peers_meet_over_ipv6_and_ipv4_at_one_listener() -> None:
    async def test() -> None:
        async with listening(host="::") as listener, Dialer(BOB) as dialer:
            for host in ("::1", "127.0.0.1"):
                websocket, _ = await dialer.dial(
                    ALICE.peer_id, [here(listener.port, host)], "/link", max_message_bytes=65536
                )
                await websocket.close()

    run(test)


def test_a_stranger_gets_403_before_the_upgrade() -> None:
    async def test() -> None:
        handlers = Handlers()
        async with listening(admit=only(BOB), handlers=handlers) as listener:
            answer = await handshake(listener.port, client_context(MALLORY, ALICE.peer_id), request=UPGRADE)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 403 ")
            assert json.loads(body)["error"] == "NOT_ADMITTED"
            admitted = await handshake_head(listener.port)
            assert admitted.startswith(b"HTTP/1.1 101 ")
        assert handlers.seen == [BOB.peer_id]

    async def handshake_head(port: int) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=client_context(BOB, ALICE.peer_id))
        writer.write(UPGRADE)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        return head

    run(test)


def test_one_peers_name_over_another_peers_key_reaches_no_handler() -> None:
    async def test() -> None:
        handlers = Handlers()
        async with listening(handlers=handlers) as listener:
            context = free_client(MALLORY, forged(BOB.peer_id, MALLORY))
            with contextlib.suppress(OSError):
                assert await handshake(listener.port, context, request=UPGRADE) == b""
            await until(lambda: listener.strangers == 0)
        assert handlers.seen == []

    run(test)


def test_a_man_in_the_middle_only_ever_appears_as_himself() -> None:
    async def test() -> None:
        handlers, his = Handlers(), Handlers()
        async with (
            listening(handlers=handlers) as alice,
            listening(MALLORY, handlers=his) as middle,
            Dialer(BOB) as bob,
            Dialer(MALLORY) as mallory,
        ):
            with pytest.raises(PeerUnreachable, match="another peer answers there"):
                await ask(bob, ALICE, middle.port)
            assert await ask(bob, MALLORY, middle.port) == f"{BOB.peer_id} said hello"
            assert await ask(mallory, ALICE, alice.port) == f"{MALLORY.peer_id} said hello"
        assert handlers.seen == [MALLORY.peer_id]
        assert his.seen == [BOB.peer_id]

    run(test)


def test_a_pinned_gate_changes_while_links_are_up() -> None:
    async def test() -> None:
        gate = ServerGate(ALICE, TlsGate.PINNED)
        async with listening(gate=gate) as listener, Dialer(BOB) as dialer:
            with pytest.raises(PeerUnreachable, match="perhaps it does not know this peer"):
                await ask(dialer, ALICE, listener.port)
            gate.set_admitted([BOB.peer_id])
            link, _ = await dialer.dial(ALICE.peer_id, [here(listener.port)], "/link", max_message_bytes=100)
            gate.set_admitted([])
            with pytest.raises(PeerUnreachable):
                await ask(dialer, ALICE, listener.port)
            await link.send_str("still here")
            assert await link.receive_str() == f"{BOB.peer_id} said still here"
            listener.disconnect(BOB.peer_id)
            assert (await link.receive()).type is aiohttp.WSMsgType.CLOSED

    run(test)


def test_an_invite_opens_only_the_way_to_join() -> None:
    async def test() -> None:
        gate = ServerGate(ALICE, TlsGate.PINNED)
        gate.set_invite_live(True)
        handlers = Handlers()
        admit = only(BOB, guests_at="/join")
        async with listening(gate=gate, admit=admit, handlers=handlers) as listener, Dialer(MALLORY) as mallory:
            answer = await mallory.post_json(ALICE.peer_id, [here(listener.port)], "/join", {"proof": "x"})
            assert answer == {"you": MALLORY.peer_id, "said": {"proof": "x"}}
            with pytest.raises(PeerRefused, match="does not admit"):
                await ask(mallory, ALICE, listener.port)
            gate.set_invite_live(False)
            with pytest.raises(PeerUnreachable):
                await mallory.post_json(ALICE.peer_id, [here(listener.port)], "/join", {})
        assert handlers.seen == [MALLORY.peer_id]

    run(test)


def test_a_guest_asks_once_a_connection() -> None:
    async def test() -> None:
        handlers = Handlers()
        request = b"POST /join HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
        async with listening(admit=only(guests_at="/join"), handlers=handlers) as listener:
            answer = await handshake(listener.port, client_context(MALLORY, ALICE.peer_id), request=request * 3)
            assert answer.count(b"HTTP/1.1 200") == 1
            assert listener.admitted == 0
        assert handlers.seen == [MALLORY.peer_id]

    run(test)


def test_a_guest_who_sends_slowly_is_dropped_in_time() -> None:
    async def test() -> None:
        limits = ListenerLimits(stranger_s=0.4)
        async with listening(admit=only(guests_at="/join"), limits=limits) as listener:
            request = b"POST /join HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"
            with contextlib.suppress(OSError):
                assert await handshake(listener.port, client_context(MALLORY, ALICE.peer_id), request=request) == b""
            await until(lambda: listener.strangers == 0)

    run(test)


def test_a_silent_connection_is_dropped_within_the_handshake_timeout() -> None:
    async def test() -> None:
        limits = ListenerLimits(handshake_s=0.3)
        async with listening(limits=limits) as listener, silent_connection(listener.port) as connection:
            await until(lambda: listener.strangers == 1)
            with contextlib.suppress(ConnectionResetError):
                assert await connection.read() == b""
            await until(lambda: listener.strangers == 0)

    run(test)


@pytest.mark.parametrize("words", [b"", b"GET /link HTTP/1.1\r\nHost: a\r\n"])
def test_slow_headers_are_dropped_even_of_known_peers(words: bytes) -> None:
    async def test() -> None:
        handlers = Handlers()
        async with listening(handlers=handlers, limits=ListenerLimits(idle_s=0.3, stranger_s=0.6)) as listener:
            answer = await handshake(listener.port, client_context(BOB, ALICE.peer_id), request=words)
            assert answer == b""
        assert handlers.seen == []

    run(test)


def test_an_admitted_connection_does_not_idle_between_requests() -> None:
    async def test() -> None:
        request = b"POST /join HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
        async with listening(limits=ListenerLimits(idle_s=0.3)) as listener:
            context = client_context(BOB, ALICE.peer_id)
            reader, writer = await asyncio.open_connection(HOST, listener.port, ssl=context)
            writer.write(request + b"GET /link HTTP/1.1\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            assert listener.admitted == 1
            await reader.read()
            writer.transport.abort()
            await until(lambda: listener.admitted == 0)

    run(test)


def test_headers_beyond_the_bounds_are_refused() -> None:
    async def test() -> None:
        handlers = Handlers()
        async with listening(handlers=handlers) as listener:
            for header in (b"X: " + b"a" * 5000, b"\r\n".join(b"X%d: a" % number for number in range(100))):
                request = UPGRADE.replace(b"Host: a", b"Host: a\r\n" + header)
                answer = await handshake(listener.port, client_context(BOB, ALICE.peer_id), request=request)
                assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert handlers.seen == []

    run(test)


@pytest.mark.parametrize("who", [BOB, MALLORY], ids=["of a peer", "of a stranger"])
@pytest.mark.parametrize(
    "line",
    [b"Sec-WebSocket-Key: AAAA\xff\xffAAAAAAAAAAAAAAAA==", b"Expect: 100-\xd1", b"Upgrade: \x8a", b"X: a\0b"],
    ids=["key", "expect", "upgrade", "NUL"],
)
def test_headers_at_which_the_library_fails_are_refused_and_make_no_log_grow(
    who: Identity, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        handlers = Handlers()
        async with listening(handlers=handlers) as listener:
            request = UPGRADE.replace(b"Upgrade: websocket", line)
            answer = await handshake(listener.port, client_context(who, ALICE.peer_id), request=request)
            assert answer.split()[1] == b"400"
        assert handlers.seen == []

    run(test)
    assert [record for record in caplog.records if record.name == "aiohttp.server"] == []


def test_many_silent_connections_do_not_stop_an_honest_peer() -> None:
    async def test() -> None:
        limits = ListenerLimits(strangers=20, strangers_per_origin=5)
        async with (
            listening(limits=limits) as listener,
            Dialer(BOB) as dialer,
            contextlib.AsyncExitStack() as crowd,
        ):
            for number in range(60):
                await crowd.enter_async_context(silent_connection(listener.port))
                await crowd.enter_async_context(silent_connection(listener.port, f"127.0.1.{number + 1}"))
            await until(lambda: listener.strangers == 20)
            assert await ask(dialer, ALICE, listener.port) == f"{BOB.peer_id} said hello"
            assert listener.strangers <= 20

    run(test)


def test_a_crowd_from_one_address_takes_only_its_own_share() -> None:
    async def test() -> None:
        limits = ListenerLimits(strangers=20, strangers_per_origin=3)
        async with (
            listening(limits=limits) as listener,
            silent_connection(listener.port, "127.0.0.2") as quiet,
            contextlib.AsyncExitStack() as crowd,
        ):
            readers = [await crowd.enter_async_context(silent_connection(listener.port)) for _ in range(10)]
            with contextlib.suppress(ConnectionResetError):
                assert await readers[6].read() == b""
            assert listener.strangers == 4
            assert not quiet.at_eof()

    run(test)


def test_known_peers_have_bounds_too() -> None:
    async def test() -> None:
        limits = ListenerLimits(connections_per_peer=2)
        async with listening(limits=limits) as listener, Dialer(BOB) as dialer, Dialer(MALLORY) as other:
            links = [
                (await dialer.dial(ALICE.peer_id, [here(listener.port)], "/link", max_message_bytes=100))[0]
                for _ in range(2)
            ]
            with pytest.raises(PeerRefused, match="429: you have too many connections"):
                await ask(dialer, ALICE, listener.port)
            assert await ask(other, ALICE, listener.port) == f"{MALLORY.peer_id} said hello"
            await links[0].close()
            await until(lambda: listener.admitted == 1)
            assert await ask(dialer, ALICE, listener.port) == f"{BOB.peer_id} said hello"
            await links[1].close()  # else it may still hold its connection when it is collected

    run(test)


def test_a_lack_of_descriptors_passes() -> None:
    async def test() -> None:
        async with listening() as listener, Dialer(BOB) as dialer, contextlib.AsyncExitStack() as crowd:
            await crowd.enter_async_context(silent_connection(listener.port))
            await until(lambda: listener.strangers == 1)
            # The kernel completes this connection by itself; the loop sees it only after the limit is lowered.
            waiting = crowd.enter_context(socket.create_connection((HOST, listener.port)))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                await until(lambda: listener.strangers == 0)  # the oldest gave way
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until(lambda: listener.strangers == 1)
            assert waiting.fileno() >= 0
            assert await ask(dialer, ALICE, listener.port) == f"{BOB.peer_id} said hello"

    run(test)


def test_the_end_of_the_listener_ends_links_and_handshakes() -> None:
    async def test() -> None:
        async with Dialer(BOB) as dialer:
            async with listening() as listener:
                link, _ = await dialer.dial(ALICE.peer_id, [here(listener.port)], "/link", max_message_bytes=100)
                reader, writer = await asyncio.open_connection(HOST, listener.port)
                await until(lambda: listener.strangers == 1)
                with contextlib.closing(socket.create_connection((HOST, listener.port))) as unseen:
                    ended = asyncio.ensure_future(link.receive())
                    port = listener.port
            assert (await ended).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            assert unseen.fileno() == -1
            with pytest.raises(PeerUnreachable, match="is refused"):
                await ask(dialer, ALICE, port)

    run(test)
