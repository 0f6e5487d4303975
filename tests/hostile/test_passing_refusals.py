"""An executor that is busy, or stumbles, is asked again while the order's time lasts; one that says no is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rnd.protocol.messages import JobRequestMessage, JobResponseMessage, JobStartMessage, Message, Refusal
from rnd.types.ids import JobExecutionId
from rnd.types.peers import RefusalCode
from tests.hostile.scripted_peer import ScriptedPeer, cast
from tests.hostile.stage import Daemon, FarExecutor, daemon, play
from tests.running_peers import wait_until

PASSING = [RefusalCode.BUSY, RefusalCode.INTERNAL]


def far_peer() -> ScriptedPeer:
    return ScriptedPeer("passing far")


def near_peer() -> ScriptedPeer:
    return ScriptedPeer("passing near")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    standings = dict.fromkeys((far_peer(), near_peer()), "allowed")
    with daemon(tmp_path_factory.mktemp("passing"), standings) as peer:
        yield peer


class Stumbling(FarExecutor):
    """Answers requests of one kind so many times with a refusal before it does as it is asked."""

    def __init__(self, peer: ScriptedPeer, kind: type[Message], code: RefusalCode, times: int) -> None:
        super().__init__(peer)
        self.kind = kind
        self.code = code
        self.times = times

    def reply(self, message: Message) -> Message | None:
        if isinstance(message, self.kind) and self.times > 0:
            self.times -= 1
            return Refusal(code=self.code, reason="one moment, please")
        return super().reply(message)


def _order(peer: Daemon, *executors: ScriptedPeer, **more: Any) -> int:
    """Have the daemon order a job of each executor; return the execution's id."""
    workflow = peer.workflow("passing")
    for who in executors:
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
    return peer.execute(workflow, **more)


def _words(peer: Daemon, execution_id: int) -> list[tuple[Any, ...]]:
    return peer.rows("SELECT status, error FROM workflow_jobs WHERE workflow_execution_id = ?", execution_id)


def _explained(peer: Daemon, execution_id: int) -> str:
    (node,) = peer.rows("SELECT node_id FROM workflow_jobs WHERE workflow_execution_id = ?", execution_id)
    return str(peer.call("job.explain", execution_id=execution_id, node_id=node[0])["because"])


@pytest.mark.parametrize("code", PASSING)
def test_a_request_that_is_not_taken_now_is_made_again_and_the_wait_has_a_reason(
    peer: Daemon, code: RefusalCode
) -> None:
    async def test() -> None:
        async with far_peer() as who:
            far = Stumbling(who, JobRequestMessage, code, 2)
            await peer.control(who)
            execution_id = await asyncio.to_thread(_order, peer, who)
            await asyncio.to_thread(
                wait_until, lambda: "one moment" in str(_words(peer, execution_id)), "the row says why it waits"
            )
            assert "one moment" in await asyncio.to_thread(_explained, peer, execution_id)
            await asyncio.to_thread(wait_until, lambda: peer.has_started(execution_id), "it is started after all")
            assert len(far.requests) == 1
            assert _words(peer, execution_id) == [("IDLE", None)]
            assert "Peer takes an order later" in peer.log()

    play(test())


@pytest.mark.parametrize("code", PASSING)
def test_a_start_that_is_not_taken_now_is_said_again_and_the_wait_has_a_reason(peer: Daemon, code: RefusalCode) -> None:
    async def test() -> None:
        async with far_peer() as who:
            Stumbling(who, JobStartMessage, code, 2)
            await peer.control(who)
            execution_id = await asyncio.to_thread(_order, peer, who)
            await asyncio.to_thread(
                wait_until, lambda: "one moment" in str(_words(peer, execution_id)), "the row says why it waits"
            )
            assert "one moment" in await asyncio.to_thread(_explained, peer, execution_id)
            await asyncio.to_thread(wait_until, lambda: peer.has_started(execution_id), "it is started after all")
            assert _words(peer, execution_id) == [("IDLE", None)]

    play(test())


@pytest.mark.parametrize("kind", [JobRequestMessage, JobStartMessage])
def test_who_is_busy_for_ever_ends_the_execution_when_the_time_to_start_is_up(
    peer: Daemon, kind: type[Message]
) -> None:
    async def test() -> None:
        async with far_peer() as who:
            Stumbling(who, kind, RefusalCode.BUSY, 10_000)
            await peer.control(who)
            execution_id = await asyncio.to_thread(_order, peer, who, deadlines={"start_by_s": 1.0})
            execution = await asyncio.to_thread(peer.wait, execution_id, 15.0)
            assert execution["status"] == "FAILED"
            assert "one moment" in execution["error"]

    play(test())


def test_a_refusal_by_one_peer_ends_the_wait_for_another(peer: Daemon) -> None:
    async def test() -> None:
        far, near = far_peer(), near_peer()
        async with cast(far, near):
            Stumbling(far, JobRequestMessage, RefusalCode.BUSY, 10_000)
            Stumbling(near, JobRequestMessage, RefusalCode.NOT_PERMITTED, 10_000)
            await peer.control(far)
            await peer.control(near)
            execution_id = await asyncio.to_thread(_order, peer, far, near)
            execution = await asyncio.to_thread(peer.wait, execution_id, 15.0)
            assert execution["status"] == "FAILED"
            assert "phase 1 was refused" in execution["error"]

    play(test())


class Contradicting(FarExecutor):
    """Answers every request in a way that makes no sense."""

    def __init__(self, peer: ScriptedPeer, *, accepted: bool, job_id: int | None) -> None:
        super().__init__(peer)
        self.answer = JobResponseMessage(
            accepted=accepted, job_execution_id=None if job_id is None else JobExecutionId(job_id), reasons=()
        )

    def reply(self, message: Message) -> Message | None:
        return self.answer if isinstance(message, JobRequestMessage) else super().reply(message)


@pytest.mark.parametrize(("accepted", "job_id"), [(True, None), (False, None), (False, 4711)])
def test_an_answer_that_makes_no_sense_is_a_refusal(peer: Daemon, accepted: bool, job_id: int | None) -> None:
    """Accepted without a job, or refused with one: nothing of it can be started, and nothing waits for it."""

    async def test() -> None:
        async with far_peer() as who:
            Contradicting(who, accepted=accepted, job_id=job_id)
            await peer.control(who)
            execution_id = await asyncio.to_thread(_order, peer, who)
            execution = await asyncio.to_thread(peer.wait, execution_id, 15.0)
            assert execution["status"] == "FAILED"
            assert "phase 1 was refused" in execution["error"]
            assert peer.rows("SELECT * FROM job_executions WHERE workflow_execution_id = ?", execution_id) == []

    play(test())
