"""Workers: a program has one; programs that are always quick share one, unless the owner chose how many there are."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from rnd.core.worker_slots import QUICK_RUNS, QUICK_S, SHARING, WorkerSlots
from rnd.types.config import Config, Limits
from rnd.types.enums import ExecutionStatus
from rnd.types.ids import ExecutionId
from rnd.types.services import Service
from rnd.workers.news_board import NewsBoard
from tests.core.core_peer import Daemon, Machine, Script

WORKERS = 8


@pytest.fixture
def sharing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine of two processors whose owner has not chosen how many programs run at once."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    machine.job_slots = 0
    return machine


async def run(daemon: Daemon, services: Sequence[Service]) -> ExecutionId:
    drawn = await daemon.draw(services, [])
    return await daemon.workflow_manager.execute(drawn.workflow_id)


async def until_at_work(daemon: Daemon, count: int) -> None:
    """Wait until so many programs run, and see that it stays so while the queue takes further turns."""
    await daemon.until(lambda: len(daemon.engine.running()) == count)
    for _ in range(3):
        daemon.board.ring_for_ready()
        await daemon.eventually("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING'", (count,))
    assert len(daemon.engine.running()) == count


async def known_as_quick(daemon: Daemon, name: str = "quick") -> Service:
    """A service whose runs were all quick, and that holds from now on."""
    service = await daemon.program(name, Script())
    await daemon.ended(await run(daemon, [service] * QUICK_RUNS))
    daemon.engine.scripts[name].holds = True
    return service


def test_quick_programs_share_workers_until_one_is_not_quick(sharing: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        service = await known_as_quick(daemon)
        together = await run(daemon, [service] * (SHARING * WORKERS + 3))
        await until_at_work(daemon, SHARING * WORKERS)
        assert daemon.job_manager.slots() == (WORKERS, WORKERS)
        daemon.clock.move(2 * QUICK_S)  # each of them has a worker of its own by now, more than there are
        assert daemon.job_manager.slots() == (SHARING * WORKERS, WORKERS)
        daemon.engine.let_go("quick")
        assert (await daemon.ended(together)).status is ExecutionStatus.COMPLETED
        daemon.engine.scripts["quick"].holds = True
        one_by_one = await run(daemon, [service] * (WORKERS + 3))
        await until_at_work(daemon, WORKERS)
        daemon.engine.let_go("quick")
        assert (await daemon.ended(one_by_one)).status is ExecutionStatus.COMPLETED

    sharing.play(play)


def test_a_service_of_which_little_is_known_shares_nothing(sharing: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.program("new", Script())
        await daemon.ended(await run(daemon, [service] * (QUICK_RUNS - 1)))
        daemon.engine.scripts["new"].holds = True
        execution_id = await run(daemon, [service] * (WORKERS + 3))
        await until_at_work(daemon, WORKERS)
        daemon.engine.let_go("new")
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED

    sharing.play(play)


def test_a_program_that_needs_a_whole_worker_is_not_overtaken(sharing: Machine) -> None:
    """It waits for as many parts as it takes, and those behind it wait for it; nobody spins meanwhile."""

    async def play(daemon: Daemon) -> None:
        quick = await known_as_quick(daemon)
        other = await known_as_quick(daemon, "other")
        slow = await daemon.program("slow", Script(holds=True))
        execution_id = await run(daemon, [*[quick] * (SHARING * WORKERS - 2), *[other] * 2, slow, quick])
        await until_at_work(daemon, SHARING * WORKERS)
        daemon.engine.let_go("other")  # half a worker, and nothing for who comes after
        await until_at_work(daemon, SHARING * WORKERS - 2)
        assert daemon.engine.submitted[-1] == f"job-{QUICK_RUNS * 2 + SHARING * WORKERS}-1"
        turns = daemon.database.commits
        for _ in range(200):
            await daemon.sql("SELECT 1")
        assert daemon.database.commits - turns <= 3  # of the rings before
        daemon.engine.let_go("quick")
        await daemon.until(lambda: len(daemon.engine.running()) == 1)
        daemon.engine.let_go("slow")
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED

    sharing.tick_s = 3600.0
    sharing.play(play)


@pytest.mark.parametrize(
    ("chosen", "most", "at_work"), [(WORKERS, 200, WORKERS), (0, WORKERS, WORKERS), (0, 12, WORKERS)]
)
def test_what_the_owner_has_chosen_is_never_shared_nor_exceeded(
    sharing: Machine, chosen: int, most: int, at_work: int
) -> None:
    """The number of workers, and `limits.concurrent_jobs`, which bounds programs however quick they are."""

    async def play(daemon: Daemon) -> None:
        service = await known_as_quick(daemon)
        execution_id = await run(daemon, [service] * (SHARING * WORKERS))
        await until_at_work(daemon, at_work)
        daemon.engine.let_go("quick")
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED

    sharing.job_slots = chosen
    sharing.limits = Limits(disk_floor_bytes=0, concurrent_jobs=most)
    sharing.play(play)


def test_the_number_of_workers_can_change_and_none_is_given_out_at_the_end(machine: Machine) -> None:
    slots = WorkerSlots(Config(data_dir=machine.data_dir, job_slots=3), NewsBoard(), machine.clock)
    slots.resize(Config(data_dir=machine.data_dir, job_slots=5))
    reserved = slots.reserve()
    assert (slots.total, reserved.most()) == (5, 5)
    slots.give_up(reserved)
    slots.close()
    assert slots.reserve().most() == 0
