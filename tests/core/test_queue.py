"""The queue: whoever can run is run at once, by wake-ups alone; the ticker is a net that nothing here falls into."""

from __future__ import annotations

import asyncio

import pytest

from rnd.core.claims import DATA_JOBS_A_TURN
from rnd.services.executor import Observation, Phase
from rnd.types.enums import ExecutionStatus
from tests.core.core_peer import Daemon, Machine, Script, edge


@pytest.fixture
def tickless(machine: Machine) -> Machine:
    machine.tick_s = 3600.0
    return machine


@pytest.mark.parametrize("tick_s", [3600.0, 0.0])
def test_many_workflows_at_once_lose_no_wake_up(machine: Machine, tick_s: float) -> None:
    """More jobs than workers, in graphs that fan out and in, so that turns of the queue overlap in every way.

    Without a ticker, and with one that strikes at every turn: what a turn has just claimed is nobody's twice.
    """
    machine.tick_s = tick_s

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program(name) for name in ("first", "left", "right", "last")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(0, 2), edge(1, 3), edge(2, 3), edge(3, None)])
        execute = daemon.workflow_manager.execute
        ids = await asyncio.gather(*(execute(drawn.workflow_id) for _ in range(12)))
        ended = await asyncio.gather(*(daemon.ended(execution_id) for execution_id in ids))
        assert {execution.status for execution in ended} == {ExecutionStatus.COMPLETED}
        assert len(daemon.engine.submitted) == len(set(daemon.engine.submitted)) == 48
        assert await daemon.sql("SELECT DISTINCT status, attempt FROM job_executions") == [("COMPLETED", 1)]

    machine.play(play)


def test_more_data_jobs_than_a_turn_takes_need_no_ticker(tickless: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        count = DATA_JOBS_A_TURN + 6
        service = await daemon.files("seed", {"seed.txt": b"seed\n"})
        drawn = await daemon.draw([service] * count, [edge(node, None) for node in range(count)])
        execution = await daemon.ended(await daemon.workflow_manager.execute(drawn.workflow_id))
        assert execution.status is ExecutionStatus.COMPLETED

    tickless.play(play)


def test_no_more_programs_run_at_once_than_there_are_workers(tickless: Machine) -> None:
    """Turns that overlap share the workers; none is given away twice."""

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program(f"p{number}", Script(holds=True)) for number in range(9)]
        drawn = await daemon.draw(services, [])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        done = 0
        while done < 9:
            at_work = min(4, 9 - done)
            await daemon.until(lambda at_work=at_work: len(daemon.engine.running()) == at_work)  # type: ignore[misc]  # its value now
            await daemon.eventually("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING'", (at_work,))
            daemon.engine.let_go(f"p{done}")
            done += 1
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED

    tickless.play(play)


def test_a_retry_that_has_to_wait_starts_at_its_time(tickless: Machine) -> None:
    """Its time is what the queue waits for, also where a turn without a free worker came between."""

    async def play(daemon: Daemon) -> None:
        failing = Script(observation=Observation(phase=Phase.EXITED, exit_code=1))
        service = await daemon.program("flaky", failing, attempts=2, backoff_s=0.3)
        drawn = await daemon.draw([service], [])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.eventually("SELECT attempt, status FROM job_executions", (2, "READY"))
        failing.observation = Observation(phase=Phase.EXITED, exit_code=0)
        await asyncio.sleep(0.1)
        daemon.clock.move(1.0)
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED

    tickless.play(play)
