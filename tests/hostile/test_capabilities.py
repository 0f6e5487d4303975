"""What a peer says of itself is compared with what is drawn, before anything is ordered of it."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rnd.protocol.link_messages import CapabilitiesRequest, CapabilitiesResponse
from rnd.protocol.messages import Message
from tests.hostile.scripted_peer import ScriptedPeer
from tests.hostile.stage import Daemon, FarExecutor, daemon, play
from tests.running_peers import pair, running_peers, wait_until

UNABLE = {"available": False, "reason": "its engine is being mended"}


def far_peer() -> ScriptedPeer:
    return ScriptedPeer("capabilities far")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path, {far_peer(): "allowed"}) as peer:
        yield peer


class Saying(FarExecutor):
    """Says of itself what a test likes."""

    def __init__(self, peer: ScriptedPeer, standalone: Mapping[str, object]) -> None:
        super().__init__(peer)
        self.standalone = standalone
        self.asked = 0

    def reply(self, message: Message) -> Message | None:
        if isinstance(message, CapabilitiesRequest):
            self.asked += 1
            said = {"platform": "plan9", "architecture": "mips", "executors": {"standalone": self.standalone}}
            return CapabilitiesResponse(capabilities=said)
        return super().reply(message)


def _draw(peer: Daemon, who: ScriptedPeer) -> int:
    workflow = peer.workflow("able")
    node = peer.call(
        "workflow.add_node",
        workflow_id=workflow,
        peer_id=who.peer_id,
        service_id=7,
        service_name="far",
        service_type="STANDALONE",
        interfaces=[{"interface_type": "STDOUT", "path": "/output"}],
    )["node_id"]
    peer.connect(workflow, node, None, "STDOUT->MOUNT")
    return workflow


def test_a_peer_that_says_it_cannot_is_asked_for_nothing_until_it_can(peer: Daemon) -> None:
    async def test() -> None:
        async with far_peer() as who:
            far = Saying(who, UNABLE)
            await peer.control(who)
            workflow = await asyncio.to_thread(_draw, peer, who)
            plan = await asyncio.to_thread(peer.call, "workflow.plan", workflow_id=workflow)
            words = "that peer (plan9/mips) runs no STANDALONE jobs: its engine is being mended"
            assert (plan["jobs"][0]["accepted"], plan["jobs"][0]["reasons"]) == (False, [words])
            execution = await asyncio.to_thread(peer.run, workflow)
            assert (execution["status"], execution["error"]) == ("FAILED", f"phase 1 was refused: far: {words}")
            assert far.requests == []
            far.standalone = {"available": True}
            execution_id = await asyncio.to_thread(peer.execute, workflow)
            await asyncio.to_thread(wait_until, lambda: peer.has_started(execution_id), "it is started")
            assert len(far.requests) == 1

    play(test())


def test_a_peer_that_could_a_moment_ago_is_not_asked_each_time(peer: Daemon) -> None:
    async def test() -> None:
        async with far_peer() as who:
            far = Saying(who, {"available": True})
            await peer.control(who)
            workflow = await asyncio.to_thread(_draw, peer, who)
            for _ in range(3):
                execution_id = await asyncio.to_thread(peer.execute, workflow)
                await asyncio.to_thread(wait_until, lambda id_=execution_id: peer.has_started(id_), "it is started")
            assert far.asked == 1

    play(test())


def test_a_program_for_another_machine_is_refused_before_it_is_ordered(tmp_path: Path) -> None:
    """By its owner, who has the program and knows the machine."""
    other, name = (62, "x86_64") if platform.machine() != "x86_64" else (183, "aarch64")
    program = tmp_path / "elsewhere"
    program.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + other.to_bytes(2, "little") + bytes(40))
    program.chmod(0o755)
    with running_peers(tmp_path, "home", "away") as (home, away):
        pair(home, away)
        made = away.call(
            "service.create", name="far", service_type="STANDALONE", executable=str(program), confine="never"
        )
        workflow = home.workflow("w")
        home.connect(workflow, home.remote_node(workflow, away, made), None)
        (job,) = home.call("workflow.plan", workflow_id=workflow)["jobs"]
        assert not job["accepted"]
        assert f"it is built for {name}, and this machine is {platform.machine()}" in job["reasons"][0]
