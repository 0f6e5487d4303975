"""The daemon's two doors: HTTP and websockets that are nearly right, by whoever knocks, and messages by a peer that is let in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from random import Random
from typing import Any, Final

import aiohttp
import pytest

from rnd.p2p.tls import client_context
from rnd.protocol.codec import encode
from rnd.protocol.messages import Ping, Pong, ReachRequest
from rnd.types.errors import PeerRefused, PeerUnreachable
from rnd.types.ids import PeerId
from tests.figures import note_figures
from tests.fuzz.fuzzing import MEMORY_MAX, SEED
from tests.fuzz.mutation import Mutator
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import Daemon, daemon, play
from tests.hostile.test_floods import memory
from tests.protocol.examples import EXAMPLES, EXECUTOR

pytestmark = pytest.mark.timeout(3_600)

KNOCKS: Final = int(os.environ.get("RND_TEST_FUZZ_KNOCKS", "3000"))
"""Requests to the API, messages to its websocket, and messages to the peer's links, each; the peers' port gets a tenth as many."""
WITHIN_S: Final = 3_000.0
ANSWER_WITHIN_S: Final = 20.0
SOON_S: Final = 1.0
"""What is not whole is waited for by the daemon, for half a minute; nobody waits for that here."""
KNOCKERS: Final = 16
HONEST_WITHIN_S: Final = 5.0


def stranger() -> ScriptedPeer:
    return ScriptedPeer("fuzz mad")


def friend() -> ScriptedPeer:
    return ScriptedPeer("fuzz friend")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("doors"), {stranger(): "allowed", friend(): "allowed"}) as peer:
        peer.cat()
        yield peer


@contextlib.asynccontextmanager
async def judged(peer: Daemon, what: str, runs: int) -> AsyncIterator[None]:
    """Have a peer ask meanwhile, and look afterwards at the daemon's memory and log."""
    waits_s: list[float] = []

    async def ask(link: ScriptedLink) -> None:
        while True:
            begun = time.monotonic()
            assert isinstance(await link.ask(Ping()), Pong)
            waits_s.append(time.monotonic() - begun)
            await asyncio.sleep(0.05)

    async with friend() as who:
        honest = asyncio.ensure_future(ask(await peer.control(who)))
        before, begun_s = memory(peer, "VmRSS"), time.monotonic()
        try:
            yield
        except BaseException as error:
            error.add_note(f"{what}, RND_TEST_FUZZ_SEED={SEED}")
            raise
        grown = memory(peer, "VmHWM") - before
        assert not honest.done(), honest
        honest.cancel()
    assert peer.tracebacks() == ""
    assert not re.findall(r"Request failed.*|Internal error.*", peer.log())
    assert grown <= MEMORY_MAX
    assert sorted(waits_s)[len(waits_s) // 2] < HONEST_WITHIN_S
    seconds = round(time.monotonic() - begun_s, 1)
    note_figures("fuzz", what=what, runs=runs, seed=SEED, seconds=seconds, grown=grown)


async def knock(address: str, words: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """Say something on a new connection and no more; return the beginning of the answer, or nothing where none comes soon."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        writer.write(words)
        async with asyncio.timeout(SOON_S):
            return await reader.read(1 << 16)
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.transport.abort()


async def by_many(count: int, once: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something so many times, several at a time."""
    left = iter(range(count))

    async def go_on() -> None:
        for _ in left:
            await once()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(KNOCKERS):
            tasks.create_task(go_on())


def requests_of(host: str, token: str) -> list[bytes]:
    body = b'{"jsonrpc":"2.0","id":1,"method":"node.status"}'
    head = f"Host: {host}\r\nAuthorization: Bearer {token}\r\nOrigin: http://{host}\r\n".encode()
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    return [
        b"POST /rpc HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body),
        b"POST /rpc HTTP/1.1\r\n%sContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (head, len(body), body),
        b"GET /ws HTTP/1.1\r\n%s%s\r\n" % (head, upgrade) + b"\x81\x85\0\0\0\0hello\x88\x80\0\0\0\0",
        b"GET /results/1/1/1/a%%20b HTTP/1.1\r\n%sRange: bytes=0-9\r\nIf-Range: \"a\"\r\nIf-None-Match: *\r\n\r\n" % head,
        b"GET /results/1/1/1/a?ticket=AAAA HTTP/1.1\r\n%sIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n" % head,
        b"PUT /upload/a.bin HTTP/1.1\r\n%sContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc" % head,
        b"PUT /upload/b.bin HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n" % head,
        b"GET /metrics HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\n\r\n" % (host.encode(), b"bWU6cm5k"),
    ]  # fmt: skip


def test_requests_that_are_nearly_http_are_refused_as_such(peer: Daemon) -> None:
    host = peer.call("node.status")["api"]["url"].removeprefix("http://")
    specimens = requests_of(host, (peer.data_dir / "api_token").read_text().strip())
    mutator = Mutator(Random(f"http {SEED}"))
    statuses: set[int] = set()

    async def once() -> None:
        words = mutator.of_bytes(mutator.random.choice(specimens), other=mutator.random.choice(specimens))
        answer = await knock(host, words)
        if answer:
            statuses.add(int(answer.split(b" ", 2)[1]))
        assert not answer.startswith(b"HTTP/1.1 5"), (words, answer)

    async def test() -> None:
        async with judged(peer, "HTTP requests", KNOCKS):
            for specimen in specimens:
                assert (await knock(host, specimen))[9:10] in (b"1", b"2", b"4")
            await by_many(KNOCKS, once)

    play(test(), within_s=WITHIN_S)
    assert {200, 400, 401, 403, 404} <= statuses


def test_messages_to_the_apis_websocket_are_answered_with_documented_errors(peer: Daemon) -> None:
    url = peer.call("node.status")["api"]["url"]
    token = (peer.data_dir / "api_token").read_text().strip()
    mutator = Mutator(Random(f"websocket {SEED}"))
    calls: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": {"types": ["job.updated"], "after_seq": 0}},
        {"jsonrpc": "2.0", "id": 1, "method": "events.unsubscribe", "params": {"subscription": 1}},
        {"jsonrpc": "2.0", "id": "a", "method": "service.list", "params": [None, None, 10]},
        {"jsonrpc": "2.0", "method": "node.status"},
    ]
    last = {"jsonrpc": "2.0", "id": "last", "method": "node.status"}
    codes: set[int] = set()

    async def converse(session: aiohttp.ClientSession, texts: list[str]) -> None:
        async with session.ws_connect(f"{url}/ws", headers={"Authorization": f"Bearer {token}"}) as websocket:
            for text in texts:
                await websocket.send_bytes(
                    text.encode("utf-8", "replace")
                ) if mutator.random.random() < 0.001 else await websocket.send_str(
                    text.encode("utf-8", "replace").decode()
                )
            await websocket.send_str(json.dumps(last))
            async with asyncio.timeout(ANSWER_WITHIN_S):
                async for message in websocket:
                    said = json.loads(message.data)
                    codes.update(
                        each["error"]["code"]
                        for each in (said if isinstance(said, list) else [said])
                        if "error" in each
                    )
                    if isinstance(said, dict) and said.get("id") == "last":
                        return

    async def test() -> None:
        async with judged(peer, "websocket messages", KNOCKS), aiohttp.ClientSession() as session:
            for _ in range(KNOCKS // 20):
                await converse(session, [mutator.of_json(mutator.random.choice(calls)) for _ in range(20)])

    play(test(), within_s=WITHIN_S)
    assert {-32700, -32600, -32601, -32602, 1000} <= codes <= {-32700, -32600, -32601, -32602, 1000, 1200, 1600, 1700}


def test_upgrades_that_are_nearly_right_open_no_link(peer: Daemon) -> None:
    mutator = Mutator(Random(f"upgrade {SEED}"))
    join = json.dumps(
        {"v": 1, "type": "join", "invite_id": "0" * 16, "name": "a", "proof": "0" * 64, "addresses": None}
    ).encode()
    specimens = [
        b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x82\0\0\0\0{}" % kind.encode()
        for kind in (CONTROL, DATA)
    ]
    specimens.append(
        b"POST /join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
        % (len(join), join)
    )

    async def once() -> None:
        who = mutator.random.choice((stranger(), ScriptedPeer("fuzz nobody"), ScriptedPeer("fuzz anybody")))
        words = mutator.of_bytes(mutator.random.choice(specimens), other=mutator.random.choice(specimens))
        answer = await knock(peer.address, words, client_context(who.identity, PeerId(peer.peer_id)))
        assert not answer.startswith(b"HTTP/1.1 5"), (words, answer)

    async def test() -> None:
        async with judged(peer, "upgrades", KNOCKS // 10):
            await by_many(KNOCKS // 10, once)

    play(test(), within_s=WITHIN_S)


@pytest.mark.parametrize("kind", [CONTROL, DATA])
def test_messages_of_a_peer_that_are_nearly_right_are_refused_or_end_its_link(peer: Daemon, kind: str) -> None:
    mutator = Mutator(Random(f"{kind} {SEED}"))
    specimens = [
        json.loads(encode(message, id=1, reply_to=reply_to).replace(EXECUTOR.peer_id, peer.peer_id)) | {"id": "@@id@@"}
        for message, reply_to in EXAMPLES
        if not isinstance(message, ReachRequest)  # which has the daemon dial where it says
    ]
    links = 0

    async def test() -> None:
        nonlocal links
        link: ScriptedLink | None = None
        async with judged(peer, f"messages on {kind}", KNOCKS), cast(who := stranger()):
            for _ in range(KNOCKS):
                while link is None or link.is_over:
                    with contextlib.suppress(PeerRefused, PeerUnreachable):
                        link = await who.link(peer.peer_id, peer.address, kind)
                        links += 1
                text = mutator.of_json(mutator.random.choice(specimens)).replace('"@@id@@"', "{id}")
                with contextlib.suppress(ConnectionError):
                    await link.say_text(text.encode("utf-8", "replace").decode())
                    if mutator.random.random() < 0.2:
                        await link.say_bytes(mutator.of_bytes(b"\x01" + bytes(20)))
                await asyncio.sleep(0)

    play(test(), within_s=WITHIN_S)
    assert links > 1
