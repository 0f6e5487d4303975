"""Containers that nobody sees to go, those of running jobs stay, and what belongs to no job is told first."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from rnd.core.container_sweep import ORPHAN_GRACE, ContainerSweep, Fate, OwnContainer, fate_of
from rnd.types.enums import JobStatus
from rnd.types.ids import ExecutionId, JobExecutionId
from tests.core.core_peer import Daemon, Machine, Script

ONE = ExecutionId(1)
JOB = JobExecutionId(1)


@dataclass(frozen=True, slots=True)
class Found:
    """A container that the engine has."""

    name: str
    labels: dict[str, str]
    created_at: datetime


@dataclass(slots=True)
class Store:
    """An engine with containers."""

    found: list[Found] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    async def containers(self) -> list[Found]:
        return [each for each in self.found if each.name not in self.discarded]

    async def discard(self, container: OwnContainer) -> None:
        self.discarded.append(container.name)


def of(job: str, attempt: str = "1") -> dict[str, str]:
    return {"rnd.job": job, "rnd.attempt": attempt}


@pytest.mark.parametrize(
    ("labels", "status", "attempt", "in_hand", "fate"),
    [
        (of("1"), JobStatus.RUNNING, 1, False, Fate.KEEP),
        (of("1"), JobStatus.RUNNING, 2, False, Fate.REMOVE),
        (of("1"), JobStatus.READY, 2, False, Fate.REMOVE),
        (of("1"), JobStatus.COMPLETED, 1, False, Fate.REMOVE),
        (of("1"), JobStatus.CANCELLED, 1, False, Fate.REMOVE),
        (of("1"), JobStatus.COMPLETED, 1, True, Fate.KEEP),
        (of("2"), JobStatus.RUNNING, 1, False, Fate.ORPHAN),
        (of("one"), JobStatus.RUNNING, 1, False, Fate.ORPHAN),
        (of("1", ""), JobStatus.RUNNING, 1, False, Fate.ORPHAN),
        ({}, JobStatus.RUNNING, 1, False, Fate.ORPHAN),
    ],
)
def test_a_container_stays_as_long_as_somebody_sees_to_it(
    labels: dict[str, str], status: JobStatus, attempt: int, in_hand: bool, fate: Fate
) -> None:
    assert fate_of(labels, {JOB: (status, attempt)}, {JOB} if in_hand else set()) is fate


def test_what_is_left_of_ended_jobs_goes_and_what_belongs_to_none_after_a_grace(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        long, short = await daemon.container("long", Script(holds=True)), await daemon.container("short")
        drawn = await daemon.draw([long, short], [])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.eventually("SELECT status FROM job_executions ORDER BY id", ("RUNNING",), ("COMPLETED",))
        await daemon.until(lambda: daemon.runner.in_hand() == {JOB})
        now = daemon.clock.now()
        store = Store([Found("job-1", of("1"), now), Found("job-2", of("2"), now), Found("job-9", of("9"), now)])
        sweep = ContainerSweep(database=daemon.database, clock=daemon.clock, store=store, runner=daemon.runner)
        await sweep.look()
        assert store.discarded == ["job-2"]
        daemon.clock.move((ORPHAN_GRACE - timedelta(seconds=1)).total_seconds())
        await sweep.look()
        assert store.discarded == ["job-2"]
        daemon.clock.move(1)
        await sweep.look()
        assert store.discarded == ["job-2", "job-9"]
        daemon.containers.let_go("long")
        await daemon.ended(ONE)

    machine.play(play)
