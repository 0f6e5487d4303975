"""Peers that hang up as soon as they have greeted, or never answer: this one neither runs in circles nor waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from rnd.p2p.listener import Admission, PeerListener
from rnd.p2p.tls import ServerGate
from rnd.protocol.codec import encode
from rnd.protocol.messages import JobStatusRequest, JobStatusResponse, Message
from rnd.types.enums import MountFunction, TlsGate
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    SOURCE_JOB,
    Daemon,
    FarExecutor,
    daemon,
    end,
    fresh_uid,
    job_plan,
    order,
    play,
    route,
    start,
)
from tests.running_peers import wait_until


def hasty_peer() -> ScriptedPeer:
    return ScriptedPeer("hasty")


def owner_peer() -> ScriptedPeer:
    return ScriptedPeer("hasty owner")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Daemon]:
    env = {"RND_STATUS_INTERVAL_S": "0.2"}
    with daemon(tmp_path, {owner_peer(): "allowed"}, env=env) as peer:
        yield peer


@dataclass
class Door:
    """Where the hasty peer takes links, greets, and hangs up."""

    port: int = 0
    visits: Counter[str] = field(default_factory=Counter)


@contextlib.asynccontextmanager
async def open_door() -> AsyncIterator[Door]:
    door, who = Door(), hasty_peer()

    async def greet(request: web.Request) -> web.WebSocketResponse:
        door.visits[request.path] += 1
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        await websocket.send_str(encode(who.hello(), id=1))
        await asyncio.sleep(0.01)
        await websocket.close(code=1000)
        return websocket

    listener = PeerListener(
        ServerGate(who.identity, TlsGate.OPEN),
        "127.0.0.1",
        0,
        routes=[web.get(CONTROL, greet), web.get(DATA, greet)],
        admit=lambda _peer, _path: Admission.ADMITTED,
    )
    await listener.start()
    door.port = listener.port
    task = asyncio.create_task(listener.run())
    try:
        yield door
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_peer_that_hangs_up_at_once_is_dialled_with_pauses(peer: Daemon) -> None:
    async def test() -> None:
        async with open_door() as door:
            address = f"127.0.0.1:{door.port}"
            await asyncio.to_thread(
                peer.call, "peer.add", peer_id=hasty_peer().peer_id, name="hasty", addresses=[address]
            )
            await asyncio.to_thread(wait_until, lambda: door.visits[CONTROL] >= 2, "it is dialled again")
            await asyncio.sleep(2)
            assert door.visits[CONTROL] <= 4
            shown = await asyncio.to_thread(peer.call, "peer.get", peer_id=hasty_peer().peer_id)
            assert "ended as soon as it was open" in str(shown)

    play(test())


def test_a_sender_that_hangs_up_at_once_is_dialled_with_pauses(peer: Daemon) -> None:
    async def test() -> None:
        async with open_door() as door, owner_peer() as owner:
            control = await peer.control(owner)
            service = await asyncio.to_thread(peer.cat)
            uid = fresh_uid()
            plan = job_plan(peer.peer_id, service, inputs=[end(hasty_peer().peer_id, INPUT, MountFunction.OUTPUT)])
            record = hasty_peer().record(f"127.0.0.1:{door.port}")
            job_id = await order(control, uid, plan, addresses=(record,))
            await start(control, uid, job_id, route(INPUT, SOURCE_JOB))
            await asyncio.to_thread(wait_until, lambda: door.visits[DATA] >= 2, "it is dialled again")
            await asyncio.sleep(2)
            assert door.visits[DATA] <= 4

    play(test())


class Asked(FarExecutor):
    """Counts how often it is asked after its jobs; answers that it does not say, or never."""

    def __init__(self, peer: ScriptedPeer, *, answers: bool) -> None:
        super().__init__(peer)
        self.answers = answers
        self.asked = 0

    def reply(self, message: Message) -> Message | None:
        if isinstance(message, JobStatusRequest):
            self.asked += 1
            return JobStatusResponse(jobs=(self.report(seq=self.asked),)) if self.answers else None
        return super().reply(message)


def test_an_executor_that_never_answers_keeps_no_other_from_being_asked(tmp_path: Path) -> None:
    silent, honest = ScriptedPeer("asked silent"), ScriptedPeer("asked honest")
    env = {"RND_STATUS_INTERVAL_S": "0.2"}
    with daemon(tmp_path, dict.fromkeys((silent, honest), "allowed"), env=env) as peer:

        async def test() -> None:
            async with cast(silent, honest):
                one, other = Asked(silent, answers=False), Asked(honest, answers=True)
                await one.be_given(peer, "silent")
                await other.be_given(peer, "honest")
                await asyncio.to_thread(wait_until, lambda: one.asked > 0, "the silent one is asked")
                before = other.asked
                await asyncio.to_thread(
                    wait_until, lambda: other.asked >= before + 5, "the other is asked all the same", within_s=5
                )
                assert one.asked == 1

        play(test())
