"""Orders and reports that are repeated, turned round, made up or meant for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from rnd.protocol.messages import (
    Ack,
    JobCancel,
    JobCancelResponse,
    JobExplainRequest,
    JobExplainResponse,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobStatusUpdate,
    Message,
    Ping,
    Pong,
    Refusal,
)
from rnd.types.enums import JobStatus, MountFunction
from rnd.types.ids import ConnectionId, JobExecutionId, NodeId, WorkflowJobId
from rnd.types.peers import RefusalCode
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    NODE,
    OUTPUT,
    SOURCE_JOB,
    Daemon,
    FarExecutor,
    daemon,
    end,
    fresh_uid,
    job_plan,
    order,
    play,
    request,
    route,
    start,
)
from tests.running_peers import wait_until


def orderer() -> ScriptedPeer:
    return ScriptedPeer("orders orderer")


def other() -> ScriptedPeer:
    return ScriptedPeer("orders other")


def executor() -> ScriptedPeer:
    return ScriptedPeer("orders executor")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    standings = dict.fromkeys((orderer(), other(), executor()), "allowed")
    with daemon(tmp_path_factory.mktemp("orders"), standings) as peer:
        yield peer


@pytest.fixture(scope="module")
def service(peer: Daemon) -> dict[str, Any]:
    return peer.cat()


def waiting_plan(peer: Daemon, service: dict[str, Any], **more: Any) -> Any:
    """Return a job that waits for a delivery of somebody else, and so stays where it is."""
    inputs = [end(ScriptedPeer("orders sender").peer_id, INPUT, MountFunction.OUTPUT)]
    outputs = [end(other().peer_id, OUTPUT, MountFunction.INPUT, node=3)]
    return job_plan(peer.peer_id, service, **({"inputs": inputs, "outputs": outputs} | more))


def is_conflict(answer: Message) -> bool:
    return isinstance(answer, Refusal) and answer.code is RefusalCode.CONFLICT


# ---- requests


def test_the_same_request_again_is_the_same_job_and_another_content_is_a_conflict(
    peer: Daemon, service: dict[str, Any]
) -> None:
    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid, plan = fresh_uid(), waiting_plan(peer, service)
            job_id = await order(link, uid, plan)
            before = peer.snapshot()
            again = await asyncio.gather(*(link.ask(request(uid, plan)) for _ in range(20)))
            assert {each.job_execution_id for each in again if isinstance(each, JobResponseMessage)} == {job_id}
            for changed in (
                request(uid, replace(plan, cmd=("-u",))),
                request(uid, replace(plan, name="another")),
                request(uid, waiting_plan(peer, service, inputs=[end(who.peer_id, INPUT, MountFunction.OUTPUT)])),
                request(uid, plan, workflow_job_id=WorkflowJobId(32)),
            ):
                assert is_conflict(await link.ask(changed)), changed
            assert peer.snapshot() == before

    play(test())


def test_the_same_request_again_by_the_services_name_is_the_same_job(peer: Daemon, service: dict[str, Any]) -> None:
    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid, plan = fresh_uid(), waiting_plan(peer, {**service, "id": 123_456})
            assert await order(link, uid, plan) == await order(link, uid, plan)

    play(test())


def test_an_explanation_does_not_tell_an_orderer_where_things_lie_here(peer: Daemon, service: dict[str, Any]) -> None:
    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid, plan = fresh_uid(), waiting_plan(peer, service)
            await order(link, uid, plan)
            told = await link.ask(JobExplainRequest(execution_uid=uid, node_id=plan.node_id))
            assert isinstance(told, JobExplainResponse)
            words = " ".join([told.because, told.do, *(check.evidence for check in told.checks)])
            assert "comes with its files" in words  # the folder of its input
            assert str(peer.data_dir) not in words

    play(test())


def test_the_same_key_of_another_orderer_is_another_job(peer: Daemon, service: dict[str, Any]) -> None:
    async def test() -> None:
        async with cast(who := orderer(), thief := other()):
            link, theirs = await peer.control(who), await peer.control(thief)
            uid, plan = fresh_uid(), waiting_plan(peer, service)
            assert await order(link, uid, plan) != await order(theirs, uid, plan)

    play(test())


def test_a_cancel_that_comes_first_keeps_its_request_out(peer: Daemon, service: dict[str, Any]) -> None:
    async def test() -> None:
        async with cast(who := orderer(), thief := other()):
            link, theirs = await peer.control(who), await peer.control(thief)
            uid, plan = fresh_uid(), waiting_plan(peer, service)
            # Somebody else's tombstone is for its own orders.
            await theirs.ask(JobCancel(execution_uid=uid, node_id=NODE, reason="sabotage"))
            job_id = await order(link, uid, plan)
            assert peer.job(job_id)["status"] == "IDLE"
            late = fresh_uid()
            answer = await link.ask(JobCancel(execution_uid=late, node_id=NODE, reason="never mind"))
            assert answer == JobCancelResponse(status=None)
            refused = await link.ask(request(late, plan))
            assert isinstance(refused, JobResponseMessage)
            assert not refused.accepted
            assert "cancelled before it came: never mind" in refused.reasons[0]

    play(test())


@pytest.mark.parametrize(
    "more",
    [
        {"inputs": [end(other().peer_id, INPUT, MountFunction.OUTPUT, lane="../../../../x")]},
        {"inputs": [end(other().peer_id, INPUT, MountFunction.OUTPUT, lane="c9")]},
        {
            "inputs": [
                end(other().peer_id, INPUT, MountFunction.OUTPUT),
                end(orderer().peer_id, INPUT, MountFunction.OUTPUT),
            ]
        },
        {
            "outputs": [end(other().peer_id, OUTPUT, MountFunction.INPUT, node=3, include=("../*",))],
        },
    ],
    ids=["lane that climbs", "lane of another connection", "one connection twice", "pattern that climbs"],
)
def test_a_job_that_no_workflow_can_mean_is_refused_with_words(
    peer: Daemon, service: dict[str, Any], more: dict[str, Any]
) -> None:
    before = peer.snapshot()

    async def test() -> None:
        async with orderer() as who:
            answer = await (await peer.control(who)).ask(request(fresh_uid(), waiting_plan(peer, service, **more)))
            assert isinstance(answer, JobResponseMessage), answer
            assert not answer.accepted
            assert answer.reasons

    play(test())
    assert peer.snapshot() == before
    assert peer.tracebacks() == ""


def test_no_file_of_the_host_is_sent_on_another_peers_word(peer: Daemon, service: dict[str, Any]) -> None:
    """An order whose input is a file of the executor's own self-peer waits for it in vain."""
    secret = peer.data_dir / "identity.key"

    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            here = end(peer.peer_id, INPUT, MountFunction.OUTPUT, node=None, source_path=str(secret))
            job_id = await order(link, uid, waiting_plan(peer, service, inputs=[here]))
            await start(link, uid, job_id, route(INPUT, 0, None), route(OUTPUT, 901))
            assert isinstance(await link.ask(Ping()), Pong)
            assert peer.rows("SELECT COUNT(*) FROM transfers WHERE dest_job_execution_id = ?", job_id) == [(0,)]
            assert peer.rows("SELECT source_path FROM job_interface_peers WHERE source_path IS NOT NULL") == []
            assert peer.job(job_id)["status"] == "IDLE"

    play(test())


# ---- starts


def test_a_start_is_taken_once_and_no_other_routes_after_it(peer: Daemon, service: dict[str, Any]) -> None:
    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            job_id = await order(link, uid, waiting_plan(peer, service))
            routes = (route(INPUT, SOURCE_JOB), route(OUTPUT, 901))
            await start(link, uid, job_id, *routes)
            before = peer.snapshot()
            assert (await start(link, uid, job_id, *routes)).status is JobStatus.IDLE
            for changed in (route(INPUT, 12_345), route(OUTPUT, 1), route(OUTPUT, 0)):
                message = JobStartMessage(
                    execution_uid=uid, node_id=NODE, job_execution_id=job_id, routes=(*routes[:1], changed)
                )
                assert is_conflict(await link.ask(message)), changed
            assert peer.snapshot() == before

    play(test())


@pytest.mark.parametrize("lanes", [("", ""), ("", "c3")], ids=["one folder", "one in the other"])
def test_no_routes_bring_two_inputs_into_one_folder(
    peer: Daemon, service: dict[str, Any], lanes: tuple[str, str]
) -> None:
    """The second delivery would take the place of the first, or be found half done in it by the job."""
    sender = ScriptedPeer("orders sender").peer_id
    numbers = (ConnectionId(1), ConnectionId(3))
    inputs = [
        end(sender, number, MountFunction.OUTPUT, node=number, lane=lane)
        for number, lane in zip(numbers, lanes, strict=True)
    ]

    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            job_id = await order(link, uid, job_plan(peer.peer_id, service, inputs=inputs))
            shared = tuple(route(number, SOURCE_JOB) for number in numbers)
            message = JobStartMessage(execution_uid=uid, node_id=NODE, job_execution_id=job_id, routes=shared)
            assert is_conflict(await link.ask(message))
            assert is_conflict(await link.ask(replace(message, routes=())))
            assert peer.job(job_id)["started"] == 0
            await start(link, uid, job_id, route(numbers[0], SOURCE_JOB), route(numbers[1], SOURCE_JOB + 1))

    play(test())


@pytest.mark.parametrize("wrong", ["job", "node", "uid"])
def test_a_start_of_what_was_not_ordered_is_not_found(peer: Daemon, service: dict[str, Any], wrong: str) -> None:
    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            job_id = await order(link, uid, waiting_plan(peer, service))
            before = peer.snapshot()
            message = JobStartMessage(
                execution_uid=fresh_uid() if wrong == "uid" else uid,
                node_id=NodeId(3) if wrong == "node" else NODE,
                job_execution_id=JobExecutionId(job_id + 1) if wrong == "job" else job_id,
                routes=(),
            )
            answer = await link.ask(message)
            assert isinstance(answer, Refusal)
            assert answer.code is RefusalCode.NOT_FOUND
            assert peer.snapshot() == before

    play(test())


def test_a_start_after_a_cancel_starts_nothing(peer: Daemon, service: dict[str, Any]) -> None:
    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            job_id = await order(link, uid, waiting_plan(peer, service))
            for _ in range(2):
                answer = await link.ask(JobCancel(execution_uid=uid, node_id=NODE, reason="enough"))
                assert answer == JobCancelResponse(status=JobStatus.CANCELLED)
            response = await start(link, uid, job_id, route(INPUT, SOURCE_JOB), route(OUTPUT, 901))
            assert response == JobStartResponse(status=JobStatus.CANCELLED)
            assert peer.job(job_id)["started"] == 0

    play(test())


# ---- reports


async def told(link: ScriptedLink, *reports: Any) -> None:
    """Report; every report is acknowledged, whatever comes of it."""
    for report in reports:
        assert await link.ask(JobStatusUpdate(report=report)) == Ack()


def mirror_of(peer: Daemon, far: FarExecutor) -> tuple[Any, ...]:
    uid = far.requests[-1].execution_uid
    query = "SELECT status, attempt, status_seq, exit_code FROM job_executions WHERE execution_uid = ?"
    (row,) = peer.rows(query, uid)
    return row


def test_reports_move_a_job_only_forward(peer: Daemon) -> None:
    async def test() -> None:
        async with executor() as who:
            far = FarExecutor(who)
            await far.be_given(peer, "forward")
            assert far.link is not None
            await told(far.link, far.report(seq=5))
            assert mirror_of(peer, far)[:3] == ("RUNNING", 1, 5)
            stale = (
                far.report(seq=5, status=JobStatus.ERRORED, error_message="late"),
                far.report(seq=4, status=JobStatus.COMPLETED, exit_code=0),
                far.report(seq=0, status=JobStatus.CANCELLED),
            )
            await told(far.link, *stale)
            assert mirror_of(peer, far)[:3] == ("RUNNING", 1, 5)
            await told(far.link, far.report(seq=6, status=JobStatus.IDLE))
            await told(far.link, far.report(seq=9, status=JobStatus.ERRORED, error_message="it broke", exit_code=3))
            after = mirror_of(peer, far)
            assert after[0] == "ERRORED"
            await told(far.link, far.report(seq=10, status=JobStatus.COMPLETED, exit_code=0))
            await told(far.link, far.report(seq=2**63 - 1, status=JobStatus.RUNNING))
            assert mirror_of(peer, far) == after

    play(test())


def test_reports_of_jobs_that_are_not_the_reporters_change_nothing(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := executor(), thief := other()):
            far = FarExecutor(who)
            await far.be_given(peer, "theirs")
            assert far.link is not None
            theirs = await peer.control(thief)
            done = {"seq": 50, "status": JobStatus.COMPLETED, "exit_code": 0, "duties": (ConnectionId(1),)}
            before = peer.snapshot()
            await told(theirs, far.report(**done))  # another's job
            await told(far.link, far.report(**done, execution_uid=fresh_uid()))  # no execution
            await told(far.link, far.report(**done, node_id=NodeId(999)))  # no job of it
            await told(far.link, far.report(**done, job_execution_id=JobExecutionId(1)))  # not the id it was given
            assert peer.snapshot() == before

    play(test())


def test_an_executor_does_not_acknowledge_what_came_home(peer: Daemon) -> None:
    """Whether results are here is known here: an executor that calls its duty done leaves the execution waiting."""

    async def test() -> None:
        async with executor() as who:
            far = FarExecutor(who)
            execution = await far.be_given(peer, "liar")
            assert far.link is not None
            home = far.requests[-1].job.interfaces[0].interface_peers[0].connection_id
            await told(far.link, far.report(seq=7, status=JobStatus.COMPLETED, exit_code=0, duties=(home,)))
            assert isinstance(await far.link.ask(Ping()), Pong)
            query = "SELECT duty_acknowledged FROM results WHERE workflow_execution_id = ?"
            assert peer.rows(query, execution) == [(0,)]
            assert peer.call("execution.get", execution_id=execution)["status"] == "RUNNING"
            peer.call("execution.cancel", execution_id=execution)

    play(test())


def test_what_is_written_for_people_cannot_write_log_lines(peer: Daemon) -> None:
    async def test() -> None:
        async with executor() as who:
            far = FarExecutor(who)
            await far.be_given(peer, "log")
            assert far.link is not None
            words = "x\n2026-01-01T00:00:00.000Z [INFO] Daemon ready: forged=yes\x1b[2J"
            await told(far.link, far.report(seq=7, status=JobStatus.ERRORED, error_message=words))

    play(test())
    wait_until(lambda: "forged=yes" in peer.log(), "the words are in the log")
    assert not [line for line in peer.log_lines() if line.startswith("2026-01-01")]
    assert "\x1b" not in peer.log()
