"""Crowds that send a byte at a time to the API and to the peers' port, and keys that are costly to derive: the honest stay served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from rnd.protocol.messages import Ping, Pong
from tests.hostile.scripted_peer import ScriptedPeer
from tests.hostile.stage import Daemon, daemon, play
from tests.hostile.test_floods import memory

CROWD = 300
"""More than there is room for: 256 of the API, 128 strangers of the peers' port."""
CROWD_AT = "127.0.0.2"
"""Of one address there is room for 32 strangers at the peers' port, the honest among them: those come from another one."""
SERVED_WITHIN_S = 5.0
GUESSES = 12
HEADER = b"POST /rpc HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nX-Slow: " + b"x" * 4_000
CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(240)
PASSPHRASE_MEMORY = 64 << 20
"""What one key takes to be derived, by design."""


def friend() -> ScriptedPeer:
    return ScriptedPeer("slow friend")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("slow"), {friend(): "allowed"}) as peer:
        yield peer


@contextlib.asynccontextmanager
async def dripping(where: str, words: bytes) -> AsyncIterator[None]:
    """Have a crowd of connections, each of which sends a byte a second; who is turned away comes again at once."""
    host, _, port = where.removeprefix("http://").rpartition(":")

    async def drip() -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port), local_addr=(CROWD_AT, 0))
                try:
                    for at in range(len(words)):
                        writer.write(words[at : at + 1])
                        await writer.drain()
                        await asyncio.sleep(1)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.2)

    crowd = [asyncio.ensure_future(drip()) for _ in range(CROWD)]
    await asyncio.sleep(3)
    try:
        yield
    finally:
        for each in crowd:
            each.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


async def status(session: aiohttp.ClientSession, url: str, **headers: str) -> float:
    """Ask for the status on a new connection; return how long that took."""
    begun = time.monotonic()
    body = b'{"jsonrpc":"2.0","id":1,"method":"node.status"}'
    headers |= {"Content-Type": "application/json", "Connection": "close"}
    async with session.post(f"{url}/rpc", data=body, headers=headers) as response:
        assert response.status == 200
        assert "result" in json.loads(await response.read())
    return time.monotonic() - begun


def test_a_crowd_that_drips_does_not_keep_others_from_the_api(peer: Daemon) -> None:
    url = peer.call("node.status")["api"]["url"]
    token = (peer.data_dir / "api_token").read_text().strip()

    async def test() -> None:
        words = HEADER % url.removeprefix("http://").encode()
        async with dripping(url, words), aiohttp.ClientSession() as owner:
            for _ in range(10):
                assert await status(owner, url, Authorization=f"Bearer {token}") < SERVED_WITHIN_S
            begun = time.monotonic()
            await asyncio.to_thread(peer.call, "node.status")  # by the socket
            assert time.monotonic() - begun < SERVED_WITHIN_S

    play(test())
    assert peer.tracebacks() == ""


def test_who_has_shown_a_token_keeps_the_connection_in_a_crowd(peer: Daemon) -> None:
    url = peer.call("node.status")["api"]["url"]
    token = (peer.data_dir / "api_token").read_text().strip()

    async def test() -> None:
        async with aiohttp.ClientSession() as owner, owner.ws_connect(f"{url}/ws") as websocket:
            await websocket.send_json({"jsonrpc": "2.0", "id": 1, "method": "auth.login", "params": {"token": token}})
            assert (await websocket.receive_json())["result"] == {"scope": "admin"}
            async with dripping(url, HEADER % url.removeprefix("http://").encode()):
                await websocket.send_json({"jsonrpc": "2.0", "id": 2, "method": "node.status"})
                async with asyncio.timeout(SERVED_WITHIN_S):
                    assert (await websocket.receive_json())["id"] == 2

    play(test())


@pytest.mark.parametrize("words", [CLIENT_HELLO, b"GET /control HTTP/1.1\r\n" * 10], ids=["TLS", "no TLS"])
def test_a_crowd_that_drips_does_not_keep_peers_out(peer: Daemon, words: bytes) -> None:
    async def test() -> None:
        async with dripping(peer.address, words), friend() as honest:
            for _ in range(3):
                begun = time.monotonic()
                link = await peer.control(honest)
                assert isinstance(await link.ask(Ping()), Pong)
                assert time.monotonic() - begun < 2 * SERVED_WITHIN_S
                await link.close()

    play(test())
    assert peer.tracebacks() == ""


def test_many_passphrases_at_once_take_one_keys_memory_and_hold_up_nobody_else(peer: Daemon, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    service_id = peer.data("locked", tmp_path, passphrase="a passphrase")

    def bodies() -> Sequence[bytes]:
        call = {"jsonrpc": "2.0", "id": 1, "method": "service.unlock"}
        return [
            json.dumps(call | {"params": {"service_id": service_id, "passphrase": f"wrong {number}"}}).encode()
            for number in range(GUESSES)
        ]

    async def test() -> None:
        connector = aiohttp.UnixConnector(path=str(peer.socket_path), limit=100)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def unlock(body: bytes) -> int:
                async with session.post("http://rnd/rpc", data=body) as response:
                    return int(json.loads(await response.read())["error"]["code"])

            before = memory(peer, "VmRSS")
            guesses = [asyncio.ensure_future(unlock(body)) for body in bodies()]
            for _ in range(10):
                assert await status(session, "http://rnd") < SERVED_WITHIN_S
                await asyncio.sleep(0.1)
            assert not all(guess.done() for guess in guesses)
            codes = set(await asyncio.gather(*guesses))
            assert 1600 in codes
            assert codes <= {1600, 1800}  # the passphrase is wrong; or its turn did not come within 30 s
            assert memory(peer, "VmHWM") - before < PASSPHRASE_MEMORY + (64 << 20)

    play(test())
