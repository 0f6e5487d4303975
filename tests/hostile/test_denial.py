"""A peer that its owner shuts out: its links and those of whom it has introduced end, and so does what it has ordered."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from rnd.protocol.messages import DataTransferAccept, JobResponseMessage, Refusal
from rnd.protocol.session import CloseCode
from rnd.types.enums import MountFunction
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    SOURCE_JOB,
    Daemon,
    daemon,
    end,
    fresh_uid,
    job_plan,
    manifest_of,
    offer,
    order,
    play,
    request,
    route,
    start,
)
from tests.running_peers import wait_until

ABNORMAL = 1006
"""Its connection was cut before the goodbye had been read."""

CAT = {"id": 1, "name": "cat", "service_type": "STANDALONE"}
SLEEPER = {"id": 2, "name": "sleeper", "service_type": "STANDALONE"}
WAYS = {
    "denied": ("peer.set_state", {"state": "denied"}),
    "pending": ("peer.set_state", {"state": "pending"}),
    "removed": ("peer.remove", {}),
}


def orderer(way: str) -> ScriptedPeer:
    return ScriptedPeer(f"denial orderer {way}")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("denial"), {orderer(way): "allowed" for way in WAYS}) as peer:
        peer.cat()
        peer.program("sleeper", "exec sleep 1000", confine="never")
        yield peer


@pytest.mark.parametrize("way", WAYS)
def test_whoever_is_shut_out_leaves_nothing_going_on_here(peer: Daemon, way: str) -> None:
    method, more = WAYS[way]

    async def test() -> None:
        async with cast(who := orderer(way), what := ScriptedPeer(f"denial sender {way}")):
            control, uids = await peer.control(who), (fresh_uid(), fresh_uid())
            plan = job_plan(peer.peer_id, CAT, inputs=[end(what.peer_id, INPUT, MountFunction.OUTPUT)])
            waiting = await order(control, uids[0], plan)
            await start(control, uids[0], waiting, route(INPUT, SOURCE_JOB))
            running = await order(control, uids[1], job_plan(peer.peer_id, SLEEPER))
            await start(control, uids[1], running)
            await asyncio.to_thread(wait_until, lambda: peer.job(running)["status"] == "RUNNING", "one job runs")
            data = await peer.data_link(what)
            manifest = manifest_of({"a": bytes(1000)})
            assert isinstance(await data.ask(offer(who, uids[0], waiting, manifest)), DataTransferAccept)
            await data.send_frame(1, 0, manifest.data)

            late = [await control.begin(request(fresh_uid(), job_plan(peer.peer_id, CAT))) for _ in range(30)]
            await asyncio.to_thread(peer.call, method, peer_id=who.peer_id, **more)
            for link in (control, data):
                assert await link.until_over() in {CloseCode.NOT_PERMITTED, ABNORMAL}
            for number in late:  # those that came before are taken, and end with the others
                answer = await asyncio.gather(control.answer_to(number), return_exceptions=True)
                assert isinstance(answer[0], JobResponseMessage | Refusal | ConnectionError)

            for each, kind in itertools.product((who, what), (CONTROL, DATA)):
                assert "does not admit" in str(await each.refusal(peer.peer_id, peer.address, kind))
            open_jobs = "SELECT COUNT(*) FROM job_executions WHERE ordering_peer_id = ? AND status <> 'CANCELLED'"
            await asyncio.to_thread(
                wait_until, lambda: peer.rows(open_jobs, who.peer_id) == [(0,)], "all of its jobs are cancelled"
            )
            assert "by the owner of this one" in peer.job(running)["error"]

    play(test())
    assert peer.tracebacks() == ""
