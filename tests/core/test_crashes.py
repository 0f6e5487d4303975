"""Between any two commits the daemon may die: rows are the truth, nothing runs twice, and every execution ends."""

from __future__ import annotations

import asyncio

import pytest

from rnd.services.executor import Observation, Phase
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import ExecutorUnavailable
from rnd.types.ids import ExecutionId
from tests.core.core_peer import Daemon, Drawn, Machine, Script, edge

ONE = ExecutionId(1)


async def _diamond(daemon: Daemon) -> Drawn:
    """DATA feeds two programs, both feed a third; its output and one of theirs come home."""
    services = [
        await daemon.files("seed", {"seed.txt": b"seed\n"}),
        await daemon.program("left"),
        await daemon.program("right"),
        await daemon.program("last"),
    ]
    edges = [edge(0, 1), edge(0, 2), edge(1, 3), edge(2, 3), edge(3, None), edge(2, None, file_name="right.txt")]
    return await daemon.draw(services, edges)


async def _run_with_deaths(machine: Machine, dies_at: int) -> None:
    """Run the diamond; the first daemon dies at its commit number `dies_at`, each further one a commit later."""
    async with machine.serve(is_idle=True) as daemon:
        drawn = await _diamond(daemon)
        await daemon.workflow_manager.execute(drawn.workflow_id)
    for life in range(60):
        async with machine.serve(dies_at=dies_at + life) as daemon:
            while not daemon.is_dead():
                if (await daemon.sql("SELECT status FROM workflow_executions"))[0][0] not in ("PENDING", "RUNNING"):
                    return
                await asyncio.sleep(0.005)
    raise AssertionError("it never comes to its end")


@pytest.mark.parametrize("dies_at", range(1, 26, 3))
def test_a_workflow_ends_right_wherever_its_daemons_die(machine: Machine, dies_at: int) -> None:
    """Each life ends one commit later than the one before; the results are exact, and no program ran twice."""
    asyncio.run(_run_with_deaths(machine, dies_at))
    assert sorted(machine.engine.submitted) == ["job-2-1", "job-3-1", "job-4-1"]

    async def look(daemon: Daemon) -> None:
        assert await daemon.home(ONE) == {
            "last/stdout.txt": b"seed\nleft\nseed\nright\nlast\n",
            "right/right.txt": b"seed\nright\n",
        }
        assert await daemon.sql("SELECT status FROM workflow_executions") == [("COMPLETED",)]
        assert await daemon.sql("SELECT DISTINCT status FROM transfers") == [("COMPLETED",)]

    machine.play(look, is_idle=True)


def test_a_cancel_survives_the_daemon(machine: Machine) -> None:
    """Cancelled and killed before anything was done about it: the next daemon kills the program."""

    async def play() -> None:
        async with machine.serve() as daemon:
            drawn = await daemon.draw([await daemon.program("long", Script(holds=True))], [])
            await daemon.workflow_manager.execute(drawn.workflow_id)
            await daemon.eventually("SELECT status FROM job_executions", ("RUNNING",))
            await daemon.until(lambda: bool(daemon.engine.submitted))
        async with machine.serve(is_idle=True) as daemon:
            await daemon.workflow_manager.cancel(ONE, reason="enough")
        async with machine.serve() as daemon:
            execution = await daemon.ended(ONE)
            assert (execution.status, execution.error) == (ExecutionStatus.CANCELLED, "cancelled: enough")
            assert daemon.engine.running() == []

    asyncio.run(play())


def test_a_job_that_was_never_submitted_is_cancelled_without_a_run(machine: Machine) -> None:
    """Claimed, then killed, then cancelled: the next daemon finds nothing on the engine and starts nothing."""

    async def play() -> None:
        machine.engine.submit_error = ExecutorUnavailable("not yet")
        async with machine.serve() as daemon:
            service = await daemon.program("never")
            await daemon.workflow_manager.execute((await daemon.draw([service], [])).workflow_id)
            await daemon.ended(ONE)
            await daemon.by_hand("UPDATE workflow_executions SET status = 'RUNNING', settled_status = 'RUNNING'")
            await daemon.by_hand("UPDATE job_executions SET status = 'RUNNING', settled_status = 'RUNNING'")
        machine.engine.submit_error = None
        async with machine.serve(is_idle=True) as daemon:
            await daemon.workflow_manager.cancel(ONE, reason="enough")
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        assert machine.engine.submitted == []

    asyncio.run(play())


@pytest.mark.parametrize(("attempts", "status"), [(1, ExecutionStatus.FAILED), (2, ExecutionStatus.COMPLETED)])
def test_after_a_power_cut_an_unknown_run_is_lost(machine: Machine, attempts: int, status: ExecutionStatus) -> None:
    """The engine's files may be gone with the power, so that not finding a run does not prove that it never ran."""

    async def play() -> None:
        async with machine.serve() as daemon:
            service = await daemon.program("cut", Script(holds=True), attempts=attempts)
            drawn = await daemon.draw([service], [])
            await daemon.workflow_manager.execute(drawn.workflow_id)
            await daemon.until(lambda: bool(daemon.engine.submitted))
        machine.engine.runs.clear()
        machine.engine.scripts["cut"].holds = False
        machine.boot_id = "boot 2"
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is status
            if attempts == 1:
                assert "the machine was restarted" in (await daemon.story())[0][2]

    asyncio.run(play())
    assert machine.engine.submitted == ["job-1-1", "job-1-2"][:attempts]


def test_an_attempt_goes_on_counting_after_a_restart(machine: Machine) -> None:
    async def play() -> None:
        async with machine.serve() as daemon:
            bad = Script(observation=Observation(phase=Phase.EXITED, exit_code=3))
            service = await daemon.program("bad", bad, attempts=3, backoff_s=60)
            drawn = await daemon.draw([service], [])
            await daemon.workflow_manager.execute(drawn.workflow_id)
            await daemon.eventually("SELECT status, attempt FROM job_executions", ("READY", 2))
        async with machine.serve() as daemon:
            daemon.tick(61)
            await daemon.eventually("SELECT status, attempt FROM job_executions", ("READY", 3))
            daemon.tick(61)
            assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED

    asyncio.run(play())
    assert machine.engine.submitted == ["job-1-1", "job-1-2", "job-1-3"]
    assert sorted(machine.engine.cleaned) == machine.engine.submitted
