"""As an executor: what another peer's earlier job left serves again in its retry, and only while nothing speaks against it."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from rnd.core.retention import Retention
from rnd.database import duties, peers
from rnd.types.definitions import JobPlan
from rnd.types.enums import MountFunction, PeerState
from rnd.types.errors import StaleState
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, NodeId, PeerId, WorkflowJobId
from rnd.types.orders import ForeignBounds, JobRequest, JobResponse, JobStart, Route
from tests.core.core_peer import ME, Daemon, Machine, edge

ORDERER, OTHER, THIRD = PeerId("rnorderer"), PeerId("rnother"), PeerId("rnthird")
FIRST, SECOND, LATER = (ExecutionUid(pair * 16) for pair in ("1a", "2b", "3c"))
BOUNDS = ForeignBounds(deadline_s=100.0, transfer_idle_s=5.0, hold_s=50.0)
ROUTE = Route(
    connection_id=ConnectionId(1), peer_workflow_job_id=WorkflowJobId(8), peer_job_execution_id=JobExecutionId(77)
)
NEWEST = "SELECT status, result, start_received FROM job_executions ORDER BY id DESC LIMIT 1"


def _request(plan: JobPlan, uid: ExecutionUid, *, reuse_of: ExecutionUid | None = None) -> JobRequest:
    return JobRequest(
        orchestrator_peer_id=ORDERER,
        execution_uid=uid,
        workflow_execution_id=None,
        workflow_job_id=WorkflowJobId({FIRST: 5, SECOND: 6, LATER: 7}[uid]),
        plan=plan,
        start_by_s=60.0,
        max_runtime_s=60.0,
        reuse_of=reuse_of,
        bounds=BOUNDS,
    )


async def _plan(daemon: Daemon) -> JobPlan:
    """Return the plan of a program that writes a line and feeds a job of a third peer; two peers may order it."""
    now = daemon.clock.now()
    for peer in (ORDERER, OTHER):
        await daemon.database.write(
            lambda conn, peer=peer: peers.add_peer(conn, peer, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
        )
    services = [await daemon.program("a"), await daemon.program("b")]
    drawn = await daemon.draw(services, [edge(0, 1)])
    report = await daemon.workflow_manager.validate(drawn.workflow_id)
    assert report.definition is not None
    plan = report.definition.jobs[0]
    interfaces = tuple(
        replace(interface, interface_peers=tuple(replace(peer, peer_id=THIRD) for peer in interface.interface_peers))
        for interface in plan.interfaces
    )
    return replace(plan, interfaces=interfaces)


async def _order(daemon: Daemon, request: JobRequest) -> JobResponse:
    (answer,) = await daemon.job_manager.create_jobs([request])
    return answer


async def _start(daemon: Daemon, answer: JobResponse, route: Route = ROUTE) -> None:
    assert answer.job_execution_id is not None
    await daemon.job_manager.start_jobs([JobStart(job_execution_id=answer.job_execution_id, routes=(route,))])


async def _completed(daemon: Daemon) -> JobPlan:
    """Run a first order to its end, as if it had delivered what it made; return its plan."""
    plan = await _plan(daemon)
    await _start(daemon, await _order(daemon, _request(plan, FIRST)))
    await daemon.eventually("SELECT status FROM job_executions", ("COMPLETED",))
    await daemon.by_hand("UPDATE transfers SET status = 'COMPLETED'")
    return plan


def test_an_earlier_job_serves_in_place_of_a_run_and_delivers_by_the_new_routes(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _completed(daemon), SECOND, reuse_of=FIRST)
        (trial,) = await daemon.job_manager.check_jobs([request])
        assert (trial.reused, trial.job_execution_id) == (True, None)
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(1,)]
        answer = await _order(daemon, request)
        assert (answer.reused, answer.service_revision, answer.reasons) == (True, 1, ())
        assert await _order(daemon, request) == answer
        assert await daemon.sql(NEWEST) == [("COMPLETED", f"reused:{FIRST}", 0)]
        told = "SELECT json_extract(body, '$.status') FROM outbox WHERE json_extract(body, '$.execution_uid') = ?"
        assert await daemon.sql(told.replace("?", f"'{SECOND}'")) == [("COMPLETED",)]
        await _start(daemon, answer)
        await _start(daemon, answer)
        owed = "SELECT direction, dest_peer_id, dest_job_execution_id, execution_uid FROM transfers WHERE status = 'PENDING'"
        assert await daemon.sql(owed) == [("OUTGOING", THIRD, 77, SECOND)]
        with pytest.raises(StaleState, match="was started before with other routes"):
            await _start(daemon, answer, replace(ROUTE, peer_job_execution_id=JobExecutionId(78)))
        assert await daemon.sql("SELECT COUNT(*) FROM job_outputs GROUP BY job_execution_id") == [(1,), (1,)]

    machine.play(play)


def test_what_reuses_names_where_the_outputs_truly_lie(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        await _order(daemon, _request(plan, SECOND, reuse_of=FIRST))
        assert (await _order(daemon, _request(plan, LATER, reuse_of=SECOND))).reused
        assert await daemon.sql(NEWEST) == [("COMPLETED", f"reused:{FIRST}", 0)]

    machine.play(play)


def test_nobody_reuses_or_hears_of_what_another_has_ordered(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = replace(_request(await _completed(daemon), SECOND, reuse_of=FIRST), orchestrator_peer_id=OTHER)
        (trial,) = await daemon.job_manager.check_jobs([request])
        unknown = replace(request, reuse_of=ExecutionUid("ff" * 16))
        assert [trial] == await daemon.job_manager.check_jobs([unknown])
        answer = await _order(daemon, request)
        assert (answer.reused, answer.reasons) == (False, ())
        assert await daemon.sql(NEWEST) == [("IDLE", None, 0)]

    machine.play(play)


def test_a_job_of_an_own_execution_serves_nobody_who_orders(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        await daemon.by_hand(f"UPDATE job_executions SET ordering_peer_id = '{ME}'")
        assert not (await _order(daemon, _request(plan, SECOND, reuse_of=FIRST))).reused

    machine.play(play)


async def _lose_outputs(daemon: Daemon) -> None:
    shutil.rmtree(daemon.folders.workflow_job(ORDERER, WorkflowJobId(5)))


async def _outlive_hold(daemon: Daemon) -> None:
    daemon.clock.move(BOUNDS.hold_s)


async def _change_service(daemon: Daemon) -> None:
    await daemon.by_hand("UPDATE offered_services SET revision = 2 WHERE name = 'a'")


async def _complete_by_hand(daemon: Daemon) -> None:
    await daemon.by_hand("UPDATE job_executions SET exit_code = NULL")


async def _cut_outputs(daemon: Daemon) -> None:
    (found,) = daemon.folders.workflow_job(ORDERER, WorkflowJobId(5)).rglob("stdout.txt")
    found.write_bytes(b"a")


async def _fail(daemon: Daemon) -> None:
    await daemon.by_hand("UPDATE job_executions SET status = 'ERRORED', settled_status = 'ERRORED'")


@pytest.mark.parametrize(
    "lose", [_lose_outputs, _cut_outputs, _outlive_hold, _change_service, _complete_by_hand, _fail]
)
def test_what_is_not_as_it_was_left_runs_anew(machine: Machine, lose: Callable[[Daemon], Awaitable[None]]) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        await lose(daemon)
        request = _request(plan, SECOND, reuse_of=FIRST)
        assert not (await daemon.job_manager.check_jobs([request]))[0].reused
        answer = await _order(daemon, request)
        assert (answer.reused, answer.reasons) == (False, ())
        await _start(daemon, answer)
        await daemon.eventually(NEWEST, ("COMPLETED", None, 1))

    machine.play(play)


@pytest.mark.parametrize("changes", [{"cmd": ("--other",)}, {"name": "other"}, {"node_id": NodeId(99)}])
def test_another_plan_is_other_work(machine: Machine, changes: dict[str, object]) -> None:
    async def play(daemon: Daemon) -> None:
        plan = replace(await _completed(daemon), **changes)  # type: ignore[arg-type]  # one field each
        answer = await _order(daemon, _request(plan, SECOND, reuse_of=FIRST))
        assert not answer.reused

    machine.play(play)


def test_the_same_order_cannot_be_asked_for_with_and_without_an_earlier_job(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _completed(daemon), SECOND, reuse_of=FIRST)
        await _order(daemon, request)
        with pytest.raises(StaleState, match="was requested before with other content"):
            await _order(daemon, replace(request, reuse_of=None))

    machine.play(play)


def test_a_program_that_is_gone_is_not_asked_for_where_its_outputs_serve(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        monkeypatch.setattr(daemon.engine, "refusal", lambda *_, **__: "its program is gone")
        assert (await _order(daemon, _request(plan, SECOND))).reasons == ("its program is gone",)
        assert (await _order(daemon, _request(plan, LATER, reuse_of=FIRST))).reused

    machine.play(play)


def test_what_is_reused_is_kept_until_the_hold_of_all_that_reuses_it_is_over(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        retention = Retention(
            database=daemon.database, clock=daemon.clock, config=daemon.config, folders=daemon.folders, peer_id=ME
        )
        daemon.clock.move(BOUNDS.hold_s - 10)
        await _start(daemon, await _order(daemon, _request(plan, SECOND, reuse_of=FIRST)))
        await daemon.by_hand("UPDATE transfers SET status = 'COMPLETED'")
        daemon.clock.move(20)
        await retention.sweep()
        assert await daemon.sql("SELECT id FROM job_executions") == [(1,), (2,)]
        daemon.clock.move(BOUNDS.hold_s)
        await retention.sweep()
        await retention.sweep()
        assert await daemon.sql("SELECT id FROM job_executions") == []
        assert not daemon.folders.workflow_job(ORDERER, WorkflowJobId(5)).exists()

    machine.play(play)


def test_a_reused_job_waits_for_its_start_whatever_its_hold_is_and_no_longer(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        short = replace(_request(plan, SECOND, reuse_of=FIRST), bounds=replace(BOUNDS, hold_s=1.0))
        await _order(daemon, short)
        retention = Retention(
            database=daemon.database, clock=daemon.clock, config=daemon.config, folders=daemon.folders, peer_id=ME
        )
        daemon.clock.move(short.start_by_s - 1)
        await retention.sweep()
        assert await daemon.sql("SELECT id FROM job_executions") == [(1,), (2,)]
        daemon.clock.move(2)
        await retention.sweep()
        await retention.sweep()
        assert await daemon.sql("SELECT id FROM job_executions") == []

    machine.play(play)


def test_a_delivery_to_a_reused_job_has_arrived_before_it_is_sent(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _completed(daemon)
        await daemon.by_hand("UPDATE job_interface_peers SET peer_mount_function = 'OUTPUT', duty_acknowledged = 1")
        waits = tuple(
            replace(
                interface,
                interface_peers=tuple(
                    replace(peer, peer_mount_function=MountFunction.OUTPUT) for peer in interface.interface_peers
                ),
            )
            for interface in plan.interfaces
        )
        answer = await _order(daemon, _request(replace(plan, interfaces=waits), SECOND, reuse_of=FIRST))
        assert answer.reused
        duty = await daemon.database.read(
            lambda conn: duties.find_duty(
                conn,
                THIRD,
                self_peer_id=ME,
                orderer=ORDERER,
                execution_uid=SECOND,
                connection_id=ConnectionId(1),
            )
        )
        assert duty is not None
        assert duty.is_done

    machine.play(play)
