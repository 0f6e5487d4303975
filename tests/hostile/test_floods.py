"""More of everything than anybody needs, from a peer that is allowed: the daemon's memory stays bounded and others stay served."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rnd.p2p.link import UNWANTED_BYTES_S
from rnd.protocol.messages import (
    JobCancel,
    JobLogsRequest,
    JobResponseMessage,
    Ping,
    Pong,
    ReachRequest,
    ReachResponse,
    Refusal,
)
from rnd.protocol.session import QUESTIONS_MAX, CloseCode
from rnd.types.enums import LogStream
from rnd.types.errors import PeerRefused, PeerUnreachable
from rnd.types.peers import RefusalCode
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import NODE, Daemon, daemon, fresh_uid, job_plan, order, play, request, start
from tests.running_peers import wait_until

MEMORY_MAX = 256 << 20
"""How much the daemon may grow under any of this; a few hundred honest links and transfers need less."""
HONEST_QUESTIONS = 40


def flooder() -> ScriptedPeer:
    return ScriptedPeer("floods flooder")


def honest() -> ScriptedPeer:
    return ScriptedPeer("floods honest")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("floods"), {flooder(): "allowed", honest(): "allowed"}) as peer:
        peer.cat()
        yield peer


def memory(peer: Daemon, which: str) -> int:
    """Return how many bytes of memory the daemon uses (VmRSS), or has used at most since it was last asked (VmHWM)."""
    assert peer.process is not None
    process = Path(f"/proc/{peer.process.pid}")
    (kib,) = re.findall(rf"{which}:\s+(\d+) kB", (process / "status").read_text())
    (process / "clear_refs").write_text("5")  # the peak is counted anew, proc(5)
    return int(kib) << 10


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """Have an address where a connection is taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


async def typical_s(peer: Daemon, link: ScriptedLink) -> float:
    """Ask as an honest peer does what takes the database; return the median time of an answer."""
    times: list[float] = []
    for _ in range(HONEST_QUESTIONS):
        begun = time.monotonic()
        plan = job_plan(peer.peer_id, {"id": 1, "name": "cat", "service_type": "STANDALONE"})
        answer = await link.ask(request(fresh_uid(), plan, check_only=True))
        assert isinstance(answer, JobResponseMessage)
        assert answer.accepted
        times.append(time.monotonic() - begun)
    return sorted(times)[len(times) // 2]


async def flooded(peer: Daemon, flood: Coroutine[Any, Any, None]) -> None:
    """Let a flood run; look at the daemon's memory, and at an honest peer, meanwhile and afterwards."""
    async with honest() as who:
        link = await peer.control(who)
        await typical_s(peer, link)
        alone_s = await typical_s(peer, link)
        before = memory(peer, "VmRSS")
        running = asyncio.ensure_future(flood)
        try:
            together_s = await typical_s(peer, link)
            await running
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert memory(peer, "VmHWM") - before < MEMORY_MAX
        # Both share one event loop here and two cores there; what is asked for is that nobody is shut out.
        assert together_s < max(2 * alone_s, 0.25), (alone_s, together_s)
        assert isinstance(await link.ask(Ping()), Pong)
    assert peer.tracebacks() == ""


@asynccontextmanager
async def unread(peer: Daemon, kind: str = CONTROL) -> AsyncIterator[ScriptedLink]:
    """Give the flooder a link of which it reads nothing."""
    async with flooder() as who:
        link = await who.dial(peer.peer_id, peer.address, kind)
        await link.say(who.hello())
        yield link


def test_one_peer_has_no_more_links_than_its_share(peer: Daemon) -> None:
    async def flood() -> None:
        async with flooder() as who:
            refused = 0
            for _ in range(40):
                try:
                    await who.link(peer.peer_id, peer.address, DATA)
                except (PeerRefused, PeerUnreachable):
                    refused += 1
            assert refused == 40 - 16

    play(flooded(peer, flood()))


def test_more_open_questions_than_256_are_told_to_wait(peer: Daemon) -> None:
    async def flood() -> None:
        async with cast(who := flooder(), nobody := ScriptedPeer("floods nobody")):
            link = await peer.control(who)
            with silence() as address:
                slow = ReachRequest(addresses=nobody.record(address))
                begun = [await link.begin(slow) for _ in range(4 * QUESTIONS_MAX)]
                assert isinstance(await link.ask(Ping()), Pong)
                answers = [await link.answer_to(number) for number in begun[64:]]
                assert all(isinstance(each, Refusal) and each.code is RefusalCode.BUSY for each in answers)

    play(flooded(peer, flood()))


def test_who_has_much_reached_does_not_keep_others_from_it(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := flooder(), good := honest(), nobody := ScriptedPeer("floods nobody")):
            link, theirs = await peer.control(who), await peer.control(good)
            with silence() as address:
                for _ in range(QUESTIONS_MAX):
                    await link.begin(ReachRequest(addresses=nobody.record(address)))
                # Written down after whatever those have to write, so they are all in their places by then.
                await link.ask(JobCancel(execution_uid=fresh_uid(), node_id=NODE, reason="none"))
                answer = await theirs.ask(ReachRequest(addresses=good.record("127.0.0.1:9")), within_s=4)
            assert isinstance(answer, ReachResponse)
            assert answer.reachable  # it is linked

    play(test())


def test_a_peer_that_asks_and_does_not_read_is_given_up(peer: Daemon) -> None:
    """What is answered without thought does not pile up here for who does not listen."""

    async def flood() -> None:
        async with unread(peer) as link:
            with contextlib.suppress(ConnectionError):
                while True:
                    await link.say_text('{"v":1,"type":"job_request","id":{id}}')
                    await asyncio.sleep(0)  # others have their turn in this loop too
        words = f"peer_id={flooder().peer_id}, reason=it asks and does not read the answers"
        await asyncio.to_thread(wait_until, lambda: words in peer.log(), "the daemon has given it up")

    play(flooded(peer, flood()))


def test_long_logs_asked_for_many_times_over_do_not_pile_up(peer: Daemon) -> None:
    job = peer.program("talker", "head -c 3000000 /dev/zero | tr '\\0' x", confine="never")

    async def flood() -> None:
        async with flooder() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            plan = job_plan(peer.peer_id, {"id": job, "name": "talker", "service_type": "STANDALONE"})
            job_id = await order(link, uid, plan)
            await start(link, uid, job_id)
            await asyncio.to_thread(wait_until, lambda: peer.job(job_id)["status"] == "COMPLETED", "it has talked")
            await link.close()
        async with unread(peer) as link:
            question = JobLogsRequest(
                execution_uid=uid, node_id=NODE, stream=LogStream.STDOUT, offset=0, limit_bytes=1 << 20
            )
            with contextlib.suppress(ConnectionError, TimeoutError):
                for _ in range(4 * QUESTIONS_MAX):
                    await asyncio.wait_for(link.say(question), 2)

    play(flooded(peer, flood()))


def test_huge_messages_cost_their_sender_and_nobody_else(peer: Daemon) -> None:
    filler = "x" * ((4 << 20) - 200)
    nested = "[" * 29 + "]" * 29

    async def flood() -> None:
        async with flooder() as who:
            link = await peer.control(who)
            for _ in range(4):
                await link.say_text('{"v":1,"type":"nothing","id":{id},"filler":"' + filler + '"}')
            many = ",".join([nested] * 3_500)
            for _ in range(8):
                await link.say_text('{"v":1,"type":"nothing","id":{id},"filler":[' + many + "]}")
            assert isinstance(await link.ask(Ping(), within_s=30), Pong)
            with contextlib.suppress(ConnectionError):
                await link.say_text('{"v":1,"type":"nothing","id":{id},"filler":"' + filler + "x" * 400 + '"}')
                await link.until_over()

    play(flooded(peer, flood()))


@pytest.mark.parametrize("kind", [CONTROL, DATA])
def test_texts_that_are_no_messages(peer: Daemon, kind: str) -> None:
    """Those with a number are answered, those without end the link; none does more."""
    numbered = [
        '{"v":1,"type":"job_request","id":{id}}',
        '{"v":1,"type":"teleport","id":{id}}',
        '{"v":2,"type":"ping","id":{id}}',
        '{"v":1,"type":7,"id":{id}}',
        '{"v":1,"type":"job_cancel","id":{id},"execution_uid":"../x","node_id":1,"reason":""}',
        '{"v":1,"type":"job_logs_request","id":{id},"execution_uid":"' + "0" * 32 + '","node_id":1,"stream":"STDOUT",'
        '"offset":0,"limit_bytes":99999999}',
    ]
    unnumbered = [
        "",
        "null",
        "[]",
        '"' + "x" * 100,
        "{" * 1_000,
        '{"id":1e999}',
        '{"v":1,"v":1,"type":"ping","id":9}',
        "\ud7ff",
    ]
    before = peer.snapshot()

    async def test() -> None:
        async with flooder() as who:
            link = await who.link(peer.peer_id, peer.address, kind)
            for text in numbered:
                await link.say_text(text)
            assert isinstance(await link.ask(Ping()), Pong)
            for text in unnumbered:
                link = await who.link(peer.peer_id, peer.address, kind)
                await link.say_text(text)
                assert await link.until_over() == CloseCode.MALFORMED, text

    play(test())
    assert peer.snapshot() == before


def test_binary_on_a_control_link_and_bytes_before_the_greeting_end_it(peer: Daemon) -> None:
    async def test() -> None:
        async with flooder() as who:
            link = await peer.control(who)
            await link.say_bytes(bytes(100))
            assert await link.until_over() == CloseCode.MALFORMED
            for kind in (CONTROL, DATA):
                link = await who.dial(peer.peer_id, peer.address, kind)
                link.start_reading()
                await link.say_bytes(bytes(100))
                assert await link.until_over() == CloseCode.MALFORMED
                link = await who.dial(peer.peer_id, peer.address, kind)
                link.start_reading()
                await link.say(Ping())
                assert await link.until_over() == CloseCode.MALFORMED

    play(test())


def test_what_nobody_wants_is_read_no_faster_than_others_can_bear(peer: Daemon) -> None:
    async def test() -> None:
        async with flooder() as who:
            link = await who.link(peer.peer_id, peer.address, DATA)
            garbage, count = b"\1\0\0\0" + bytes(12) + bytes(1 << 20), 32
            began_s = time.monotonic()
            for _ in range(count):
                await link.say_bytes(garbage)
            assert isinstance(await link.ask(Ping()), Pong)
            assert time.monotonic() - began_s >= (count << 20) / UNWANTED_BYTES_S

    play(test())


def test_garbage_on_data_links_is_dropped(peer: Daemon) -> None:
    async def flood() -> None:
        async with flooder() as who:
            links = [await who.link(peer.peer_id, peer.address, DATA) for _ in range(4)]
            garbage = b"\1\0\0\0" + bytes(12) + bytes(1 << 20)
            for _ in range(16):
                for link in links:
                    await link.say_bytes(garbage)
            for link in links:
                assert isinstance(await link.ask(Ping()), Pong)

    play(flooded(peer, flood()))
