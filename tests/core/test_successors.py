"""What the end of a job makes ready is claimed with it, in one transaction, and takes nothing from who waited before."""

from __future__ import annotations

import asyncio

import pytest

from rnd.core.claims import SUCCESSORS_MAX
from rnd.types.enums import ExecutionStatus
from rnd.types.ids import ExecutionId
from tests.core.core_peer import Daemon, Machine, Script, edge

ONE = ExecutionId(1)


@pytest.mark.parametrize("dies_at", range(8, 18))
def test_nobody_sees_a_job_that_has_ended_before_the_next_is_claimed(machine: Machine, dies_at: int) -> None:
    """Wherever the daemon dies; and the next one goes on with what was claimed, and runs nothing twice."""
    machine.tick_s = 3600.0

    async def play() -> None:
        async with machine.serve(is_idle=True) as daemon:
            services = [await daemon.program(name) for name in ("a", "b", "c")]
            drawn = await daemon.draw(services, [edge(0, 1), edge(1, 2), edge(2, None)])
            await daemon.workflow_manager.execute(drawn.workflow_id)
        async with machine.serve(dies_at=dies_at) as daemon:
            over = "SELECT COUNT(*) FROM workflow_executions WHERE status = 'COMPLETED'"
            while not daemon.is_dead() and await daemon.sql(over) == [(0,)]:
                await asyncio.sleep(0.01)
            statuses = [status for (status,) in await daemon.sql("SELECT status FROM job_executions ORDER BY id")]
            assert statuses in (
                [],
                ["IDLE"] * 3,
                ["READY", "IDLE", "IDLE"],
                ["RUNNING", "IDLE", "IDLE"],
                ["COMPLETED", "RUNNING", "IDLE"],
                ["COMPLETED", "COMPLETED", "RUNNING"],
                ["COMPLETED"] * 3,
            )
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
            assert await daemon.home(ONE) == {"c/stdout.txt": b"a\nb\nc\n"}
        assert sorted(machine.engine.submitted) == ["job-1-1", "job-2-1", "job-3-1"]

    asyncio.run(play())


def test_who_waits_for_a_worker_already_comes_first(machine: Machine) -> None:
    """Four workers, five programs, and one that the first of them makes ready."""
    machine.tick_s = 3600.0

    async def play(daemon: Daemon) -> None:
        names = [f"p{number}" for number in range(5)]
        services = [await daemon.program(name, Script(holds=True)) for name in [*names, "next"]]
        drawn = await daemon.draw(services, [edge(0, 5)])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: len(daemon.engine.running()) == 4)
        daemon.engine.let_go("p0")
        await daemon.eventually("SELECT status FROM job_executions WHERE job_name = 'p4'", ("RUNNING",))
        await daemon.eventually("SELECT status FROM job_executions WHERE job_name = 'next'", ("READY",))
        for name in [*names[1:], "next"]:
            daemon.engine.let_go(name)
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED

    machine.play(play)


def test_more_than_are_claimed_with_it_need_no_ticker(machine: Machine) -> None:
    machine.tick_s = 3600.0

    async def play(daemon: Daemon) -> None:
        count = SUCCESSORS_MAX + 3
        services = [await daemon.program("first"), *[await daemon.program(f"p{number}") for number in range(count)]]
        drawn = await daemon.draw(services, [edge(0, number + 1) for number in range(count)])
        execution = await daemon.ended(await daemon.workflow_manager.execute(drawn.workflow_id))
        assert execution.status is ExecutionStatus.COMPLETED

    machine.play(play)


def test_a_tick_takes_nothing_up_that_is_being_claimed(machine: Machine) -> None:
    """Ticks without end beside chains, of which every job but the first is claimed with the end of the one before."""
    machine.tick_s = 0.0

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program(f"p{number}") for number in range(12)]
        drawn = await daemon.draw(services, [edge(number, number + 1) for number in range(11)])
        ids = [await daemon.workflow_manager.execute(drawn.workflow_id) for _ in range(3)]
        ended = [await daemon.ended(execution_id) for execution_id in ids]
        assert {execution.status for execution in ended} == {ExecutionStatus.COMPLETED}
        assert daemon.engine.finds == 0

    machine.play(play)


def test_a_stop_that_comes_with_the_claim_reaches_the_next(machine: Machine) -> None:
    """The execution is cancelled in the same turn of the loop in which the first job ends."""
    machine.tick_s = 3600.0

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a", Script(holds=True)), await daemon.program("b", Script(holds=True))]
        drawn = await daemon.draw(services, [edge(0, 1)])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: len(daemon.engine.running()) == 1)
        daemon.engine.let_go("a")
        while "b" not in {
            name for (name,) in await daemon.sql("SELECT job_name FROM job_executions WHERE status = 'RUNNING'")
        }:
            await asyncio.sleep(0)
        await daemon.workflow_manager.cancel(execution_id, reason="enough")
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.CANCELLED
        assert await daemon.sql("SELECT status FROM job_executions ORDER BY id") == [("COMPLETED",), ("CANCELLED",)]

    machine.play(play)
