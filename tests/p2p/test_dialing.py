"""Dialling a peer: the address that answers wins, forbidden ones are never touched, and failures come in words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from rnd.p2p.dialing import Dialer
from rnd.p2p.listener import PeerListener
from rnd.p2p.racing import first_of
from rnd.p2p.tls import ServerGate
from rnd.rules.addresses import PeerAddress
from rnd.types.enums import TlsGate
from rnd.types.errors import PeerRefused, PeerUnreachable
from rnd.types.ids import PeerId
from tests.p2p.peers import ALICE, BOB, HOST, BareServer, Handlers, ask, everybody, here, listening, only, run, running


@contextlib.contextmanager
def black_hole() -> Any:
    """Yield a port where connections are made and nothing is ever said."""
    with socket.create_server((HOST, 0)) as sock:
        yield sock.getsockname()[1]


@contextlib.asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """Yield the port of a peer Alice that answers everything with one handler."""
    listener = PeerListener(
        ServerGate(ALICE, TlsGate.OPEN), HOST, 0, routes=[web.route("*", "/{path:.*}", handler)], admit=everybody
    )
    await listener.start()
    async with running(listener.run()):
        yield listener.port


async def failure(dialer: Dialer, *addresses: PeerAddress, timeout_s: float = 10) -> str:
    with pytest.raises(PeerUnreachable) as caught:
        await dialer.dial(ALICE.peer_id, addresses, "/link", max_message_bytes=100, timeout_s=timeout_s)
    return str(caught.value)


def test_the_address_that_answers_wins_over_those_that_do_not() -> None:
    async def test() -> None:
        handlers = Handlers()
        with black_hole() as hole:
            async with listening(handlers=handlers) as listener, Dialer(BOB) as dialer:
                addresses = [here(hole), here(1), here(listener.port), here(hole, "127.0.0.2")]
                loop = asyncio.get_running_loop()
                began_s = loop.time()
                websocket, address = await dialer.dial(ALICE.peer_id, addresses, "/link", max_message_bytes=100)
                assert loop.time() - began_s < 5
                assert address == here(listener.port)
                await websocket.close()
        assert handlers.seen == [BOB.peer_id]

    run(test)


def test_an_address_that_refuses_costs_no_wait() -> None:
    async def test() -> None:
        async with listening() as listener, Dialer(BOB) as dialer:
            addresses = [*(here(port) for port in range(1, 7)), here(listener.port)]
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            websocket, _ = await dialer.dial(ALICE.peer_id, addresses, "/link", max_message_bytes=100)
            assert loop.time() - began_s < 1
            await websocket.close()

    run(test)


def test_an_impostor_does_not_keep_the_right_peer_from_being_reached() -> None:
    async def test() -> None:
        async with listening(BOB) as impostor, listening() as listener, Dialer(BOB) as dialer:
            websocket, address = await dialer.dial(
                ALICE.peer_id, [here(impostor.port), here(listener.port)], "/link", max_message_bytes=100
            )
            assert address == here(listener.port)
            await websocket.close()

    run(test)


def test_each_address_that_failed_is_told_with_its_reason() -> None:
    async def test() -> None:
        async with listening(BOB) as impostor, Dialer(BOB) as dialer:
            with black_hole() as hole:
                words = await failure(dialer, here(1), here(impostor.port), here(hole), timeout_s=1)
        assert f"{ALICE.peer_id} cannot be reached" in words
        assert "127.0.0.1:1: the connection is refused: is rnd running there" in words
        assert f"127.0.0.1:{impostor.port}: another peer answers there" in words
        assert f"127.0.0.1:{hole}: no answer within 1 s" in words

    run(test)


def test_without_an_address_the_words_say_so() -> None:
    async def test() -> None:
        async with Dialer(BOB) as dialer:
            assert "no address is known" in await failure(dialer)

    run(test)


def test_what_does_not_speak_tls_is_told() -> None:
    async def test() -> None:
        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)
            writer.close()

        server = await asyncio.start_server(talk, HOST, 0)
        async with server, Dialer(BOB) as dialer:
            port = server.sockets[0].getsockname()[1]
            assert "does not speak TLS 1.3 as a peer does" in await failure(dialer, here(port))

    run(test)


def test_a_connection_that_is_closed_at_once_is_told() -> None:
    async def test() -> None:
        async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(close, HOST, 0)
        async with server, Dialer(BOB) as dialer:
            port = server.sockets[0].getsockname()[1]
            words = await failure(dialer, here(port))
        assert "the connection was closed before TLS was up" in words or "reset" in words

    run(test)


def test_a_refusal_comes_with_the_peers_own_words() -> None:
    async def test() -> None:
        async with listening(admit=only()) as listener, Dialer(BOB) as dialer:
            with pytest.raises(
                PeerRefused, match="does not admit this peer: its owner can allow or invite you"
            ) as caught:
                await ask(dialer, ALICE, listener.port)
            assert caught.value.reason == "its owner can allow or invite you"

    run(test)


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b'{"message": 7}', b"<html>", b'{"message": "\\u001b[31m\\n"}'])
def test_a_refusal_in_any_form_is_short_and_printable(body: bytes) -> None:
    async def test() -> None:
        async def refuse(_request: web.Request) -> web.Response:
            return web.Response(status=403, body=body)

        async with serving(refuse) as port, Dialer(BOB) as dialer:
            with pytest.raises(PeerRefused) as caught:
                await ask(dialer, ALICE, port)
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 500

    run(test)


def test_no_redirect_is_followed() -> None:
    async def test() -> None:
        reached = asyncio.Event()

        async def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.set()
            writer.close()

        inside = await asyncio.start_server(note, HOST, 0)
        target = f"http://{HOST}:{inside.sockets[0].getsockname()[1]}/latest/meta-data"

        async def redirect(_request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": target})

        async with inside, serving(redirect) as port, Dialer(BOB) as dialer:
            with pytest.raises(PeerRefused, match="HTTP status 307"):
                await ask(dialer, ALICE, port)
            with pytest.raises(PeerRefused, match="HTTP status 307"):
                await dialer.post_json(ALICE.peer_id, [here(port)], "/join", {})
        assert not reached.is_set()

    run(test)


def test_a_peer_that_opens_no_websocket_is_told() -> None:
    async def test() -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(text="hello")

        async with serving(answer) as port, Dialer(BOB) as dialer:
            assert "opens no websocket" in await failure(dialer, here(port))

    run(test)


def test_forbidden_addresses_are_never_dialled() -> None:
    async def test() -> None:
        async with Dialer(BOB) as dialer:
            for host, kind in {
                "169.254.169.254": "a link-local address",
                "::ffff:169.254.169.254": "a link-local address",
                "fe80::1": "a link-local address",
                "224.0.0.1": "a multicast address",
                "0.0.0.0": "an unspecified address",
                "fd00:ec2::254": "a cloud's metadata service",
            }.items():
                assert f"{kind} is never dialled" in await failure(dialer, here(80, host))

    run(test)


def test_a_name_does_not_lead_to_a_forbidden_address(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolved(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        return real("169.254.169.254" if host == "metadata.example" else host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)

    async def test() -> None:
        async with Dialer(BOB) as dialer:
            words = await failure(dialer, PeerAddress(host="metadata.example", port=80, is_name=True))
            assert "a link-local address is never dialled" in words

    run(test)


def test_a_name_of_the_operator_is_resolved() -> None:
    async def test() -> None:
        async with listening() as listener, Dialer(BOB) as dialer:
            address = PeerAddress(host="localhost", port=listener.port, is_name=True)
            websocket, reached_at = await dialer.dial(ALICE.peer_id, [address], "/link", max_message_bytes=100)
            assert reached_at == address
            await websocket.close()

    run(test)


def test_too_big_a_message_ends_the_link() -> None:
    async def test() -> None:
        async with listening() as listener, Dialer(BOB) as dialer:
            websocket, _ = await dialer.dial(ALICE.peer_id, [here(listener.port)], "/link", max_message_bytes=100)
            await websocket.send_str("x" * 200)
            await websocket.receive()
            assert websocket.close_code == 1009
            await websocket.close()

    run(test)


def test_a_dial_that_is_called_off_leaves_nothing() -> None:
    async def test() -> None:
        with black_hole() as hole:
            async with Dialer(BOB) as dialer:
                addresses = [here(hole), here(hole, "127.0.0.2"), here(hole, "127.0.0.3")]
                for wait_s in (0, 0.05, 0.4):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await dialer.dial(ALICE.peer_id, addresses, "/link", max_message_bytes=100)
                assert len(asyncio.all_tasks()) == 1

    run(test)


def test_a_dial_called_off_at_any_moment_leaves_no_link_behind() -> None:
    async def test() -> None:
        async with listening() as listener, Dialer(BOB) as dialer:
            for turns in range(0, 60, 2):
                task = asyncio.ensure_future(ask(dialer, ALICE, listener.port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            assert await ask(dialer, ALICE, listener.port) == f"{BOB.peer_id} said hello"

    run(test)


def test_json_goes_to_the_first_address_that_connects() -> None:
    async def test() -> None:
        async with listening(BOB) as impostor, listening() as listener, Dialer(BOB) as dialer:
            addresses = [here(1), here(impostor.port), here(listener.port)]
            answer = await dialer.post_json(ALICE.peer_id, addresses, "/join", {"a": 1})
            assert answer == {"you": BOB.peer_id, "said": {"a": 1}}

    run(test)


def test_json_is_never_sent_twice() -> None:
    async def test() -> None:
        server = BareServer(ServerGate(ALICE, TlsGate.OPEN).context)
        server.closes_after = 1
        handlers = Handlers()
        async with server.serving(), listening(handlers=handlers) as listener, Dialer(BOB) as dialer:
            with pytest.raises(PeerUnreachable, match="whether it took what was sent is not known"):
                await dialer.post_json(ALICE.peer_id, [here(server.port), here(listener.port)], "/join", {"a": 1})
        assert server.received.count(b"POST /join") == 1
        assert handlers.seen == []

    run(test)


@pytest.mark.parametrize("body", [b"[]", b"no", b'{"a": "' + b"x" * 70_000 + b'"}'])
def test_an_answer_that_is_no_small_json_object_is_refused(body: bytes) -> None:
    async def test() -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=body)

        async with serving(answer) as port, Dialer(BOB) as dialer:
            with pytest.raises(PeerUnreachable, match="something else than a JSON object"):
                await dialer.post_json(ALICE.peer_id, [here(port)], "/join", {})

    run(test)


def test_json_waits_no_longer_than_asked_to() -> None:
    async def test() -> None:
        with black_hole() as hole:
            async with Dialer(BOB) as dialer:
                with pytest.raises(PeerUnreachable, match=r"no answer within 0\.3 s"):
                    await dialer.post_json(ALICE.peer_id, [here(hole)], "/join", {}, timeout_s=0.3)

    run(test)


def test_what_is_no_peer_id_is_not_dialled() -> None:
    async def test() -> None:
        async with Dialer(BOB) as dialer:
            with pytest.raises(ValueError, match="a peer id"):
                await dialer.dial(PeerId("bob"), [here(1)], "/link", max_message_bytes=100)

    run(test)


class Attempts:
    """Attempts of a race that end when the test says so."""

    def __init__(self, count: int) -> None:
        self.begun: list[int] = []
        self.discarded: list[str] = []
        self.cancelled: list[int] = []
        self.ends: list[asyncio.Future[str | None]] = [asyncio.get_running_loop().create_future() for _ in range(count)]

    def all(self) -> list[Callable[[], Awaitable[str | None]]]:
        return [lambda number=number: self._attempt(number) for number in range(len(self.ends))]  # type: ignore[misc]  # mypy cannot infer a lambda with a default

    async def _attempt(self, number: int) -> str | None:
        self.begun.append(number)
        try:
            return await asyncio.shield(self.ends[number])
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise

    async def discard(self, result: str | None) -> None:
        assert result is not None
        self.discarded.append(result)

    def race(self, stagger_s: float = 0) -> asyncio.Task[str | None]:
        return asyncio.ensure_future(first_of(self.all(), stagger_s=stagger_s, discard=self.discard))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_next_attempt_begins_only_when_the_one_before_has_failed_or_is_slow() -> None:
    async def test() -> None:
        attempts = Attempts(3)
        race = attempts.race(stagger_s=3600)
        await turns()
        assert attempts.begun == [0]
        attempts.ends[0].set_result(None)
        await turns()
        assert attempts.begun == [0, 1]
        attempts.ends[1].set_result("b")
        assert await race == "b"
        assert attempts.begun == [0, 1]

    run(test)


def test_the_first_result_ends_the_other_attempts() -> None:
    async def test() -> None:
        attempts = Attempts(3)
        race = attempts.race()
        while len(attempts.begun) < 3:
            await asyncio.sleep(0)
        attempts.ends[1].set_result("b")
        assert await race == "b"
        assert sorted(attempts.cancelled) == [0, 2]
        assert attempts.discarded == []

    run(test)


def test_of_two_results_at_once_one_is_discarded() -> None:
    async def test() -> None:
        attempts = Attempts(2)
        race = attempts.race()
        while len(attempts.begun) < 2:
            await asyncio.sleep(0)
        for number, end in enumerate(attempts.ends):
            end.set_result(str(number))
        winner = await race
        assert sorted([str(winner), *attempts.discarded]) == ["0", "1"]

    run(test)


def test_a_race_that_all_lose_has_no_result() -> None:
    async def test() -> None:
        attempts = Attempts(2)
        for end in attempts.ends:
            end.set_result(None)
        assert await attempts.race(stagger_s=3600) is None
        assert await first_of([], stagger_s=1, discard=attempts.discard) is None

    run(test)


def test_a_result_that_nobody_can_take_is_discarded() -> None:
    async def test() -> None:
        attempts = Attempts(1)
        race = attempts.race()
        await turns()
        attempts.ends[0].set_result("late")
        await asyncio.sleep(0)
        race.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            taken = await race
            assert taken == "late"
            return
        assert attempts.discarded == ["late"] or attempts.cancelled == [0]

    run(test)
