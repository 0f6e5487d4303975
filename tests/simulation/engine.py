"""The engine of a simulated machine: it runs programs that are scripts, and outlives daemons, though not its machine.

A program reads what its job really has on disk when it ends its work, and leaves real files; what it leaves follows from its
name, its attempt and all that it has read (`programs.py`). Each start and each end is shown to the oracle.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnd.services.executor import Health, JobRun, Observation, Phase
from rnd.services.standalone_orders import order_refusal
from rnd.types.errors import ExecutorUnavailable
from tests.simulation.programs import Inputs, Program, leave, read_inputs

if TYPE_CHECKING:
    from rnd.types.definitions import JobPlan
    from rnd.types.services import Service
    from tests.simulation.machine import Machine


@dataclass(slots=True, eq=False)
class Run:
    """One program that was started."""

    run: JobRun
    program: Program
    number: int
    inputs: Inputs
    observation: Observation | None = None
    is_asked_to_end: bool = False
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class ScriptedPrograms:
    """Implements `rnd.services.executor.Executor`."""

    name = "standalone"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.runs: dict[str, Run] = {}
        self.started: dict[str, int] = {}
        """How often each program has been started, by its name."""
        self.away_until_s = 0.0

    @property
    def _world(self) -> Any:
        return self._machine.world

    async def check(self) -> Health:
        return Health(available=True, sandbox="landlock")

    def refusal(self, service: Service, plan: JobPlan, *, foreign: bool) -> str | None:
        return order_refusal(service, plan, foreign=foreign)

    def expect_runs(self, at_once: int = 0) -> None:
        """Nothing takes long to start here."""

    async def submit(self, run: JobRun) -> str:
        await self._answer_takes_time()
        if run.engine_name not in self.runs:
            self._begin(run)
        await self._answer_takes_time()  # it is running by now, whether or not anybody hears of it
        return run.engine_name

    async def find(self, engine_name: str, directory: Path) -> str | None:
        await self._answer_takes_time()
        return engine_name if engine_name in self.runs else None

    async def wait(self, handle: str) -> Observation:
        run = self.runs[handle]
        while run.observation is None:
            news = self._world.loop.create_future()
            run.waiters.append(news)
            await news
        return run.observation

    async def poll(self, handles: Sequence[str]) -> dict[str, Observation]:
        return {handle: self.runs[handle].observation or Observation(phase=Phase.RUNNING) for handle in handles}

    async def cancel(self, handle: str, grace_s: float) -> None:
        run = self.runs[handle]
        if run.observation is None and not run.is_asked_to_end:
            run.is_asked_to_end = True
            delay_s = self._world.rng.choice((0.001, 0.05, grace_s))
            self._world.later(delay_s, self._end, run, Observation(phase=Phase.EXITED, signal=15))

    async def cleanup(self, handle: str) -> None:
        assert self.runs[handle].observation is not None, "it is still running"

    def running(self) -> list[Run]:
        """Return what has not ended."""
        return [run for run in self.runs.values() if run.observation is None]

    def lose_power(self) -> None:
        """End everything with the machine; nobody has written down how."""
        for run in self.running():
            leave(run.run, run.program, run.inputs, is_whole=False)
            self._end(run, Observation(phase=Phase.LOST, reason="the machine went down"))

    async def _answer_takes_time(self) -> None:
        await asyncio.sleep(self._world.rng.uniform(0.0005, 0.01))
        if self._world.loop.time() < self.away_until_s:
            raise ExecutorUnavailable("the engine is away for a moment")

    def _begin(self, run: JobRun) -> None:
        service = run.argv[1]
        program = self._world.plan.programs[service]
        number = self.started[service] = self.started.get(service, 0) + 1
        started = Run(run=run, program=program, number=number, inputs=read_inputs(run))
        self._world.oracle.program_begins(self._machine, started)
        self.runs[run.engine_name] = started
        duration_s = program.durations_s[min(number, len(program.durations_s)) - 1]
        self._world.later(duration_s, self._come_to_end, started)

    def _come_to_end(self, run: Run) -> None:
        if run.observation is not None:
            return
        self._world.oracle.program_ends(self._machine, run, read_inputs(run.run))
        codes = run.program.exit_codes
        code = codes[min(run.number, len(codes)) - 1]
        leave(run.run, run.program, run.inputs, is_whole=code == 0)
        self._end(run, Observation(phase=Phase.EXITED, exit_code=code))

    def _end(self, run: Run, observation: Observation) -> None:
        if run.observation is not None:
            return
        run.observation = observation
        how = json.dumps([observation.phase, observation.exit_code, observation.signal])
        self._world.note(self._machine, f"program {run.program.name} attempt {run.run.attempt} ended {how}")
        for waiter in run.waiters:
            if not waiter.done():
                waiter.set_result(None)
