"""How jobs end: by themselves, by a cancel at every stage, by their time, by their engine, and by a second attempt."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rnd.core import job_runner
from rnd.services.executor import JobRun, Observation, Phase
from rnd.types.config import Deadlines, Limits
from rnd.types.enums import ExecutionStatus, LogStream
from rnd.types.errors import Conflict, ExecutorUnavailable
from rnd.types.ids import ExecutionId, JobExecutionId
from tests.core.core_peer import IN_AND_OUT, Daemon, Drawn, Edge, Machine, Script, edge, says_much

ONE = ExecutionId(1)


async def _run(daemon: Daemon, *scripts: Script, edges: tuple[Edge, ...] = (), **more: object) -> Drawn:
    """Order a workflow of programs named a, b, c ..."""
    names = "abcdefgh"
    services = [
        await daemon.program(name, script, **more)  # type: ignore[arg-type]  # passed through as they are
        for name, script in zip(names, scripts, strict=False)
    ]
    drawn = await daemon.draw(services, edges)
    await daemon.workflow_manager.execute(drawn.workflow_id)
    return drawn


def exits(code: int) -> Script:
    return Script(observation=Observation(phase=Phase.EXITED, exit_code=code))


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (Observation(phase=Phase.EXITED, exit_code=7), "Process exited with code 7"),
        (Observation(phase=Phase.EXITED, signal=9), "Process killed by signal 9 (SIGKILL)"),
        (Observation(phase=Phase.LOST, reason="gone"), "lost: gone"),
        (Observation(phase=Phase.REJECTED, reason="no such file"), "no such file"),
    ],
)
def test_a_failure_is_told_and_spreads(machine: Machine, observation: Observation, words: str) -> None:
    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(observation=observation), Script(), Script(), edges=(edge(0, 1), edge(1, 2)))
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.FAILED
        spread = f"upstream job a failed: {words}"
        assert await daemon.story() == [("a", "ERRORED", words), ("b", "CANCELLED", spread), ("c", "CANCELLED", spread)]
        assert execution.error == f"job a failed: {words} (2 more jobs did not complete)"
        await daemon.until(lambda: daemon.engine.cleaned == ["job-1-1"])

    machine.play(play)


def test_outputs_that_cannot_be_carried_are_an_error_and_leave_no_run_behind(machine: Machine) -> None:
    def link(run: JobRun) -> None:
        (run.directory / "output" / "link").symlink_to("/etc/passwd")

    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(leaves=link), edges=(edge(0, None),))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        ((_, status, error),) = await daemon.story()
        assert status == "ERRORED"
        assert "link" in error
        await daemon.until(lambda: daemon.engine.cleaned == ["job-1-1"])

    machine.play(play)


def test_half_a_stream_never_passes_for_a_whole(machine: Machine) -> None:
    cut = Script(observation=Observation(phase=Phase.EXITED, exit_code=0, streams_cut=(LogStream.STDOUT,)))

    async def play(daemon: Daemon) -> None:
        await _run(daemon, cut, edges=(edge(0, None),))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert "was cut" in (await daemon.story())[0][2]

    machine.play(play)


def test_a_stream_of_which_a_part_was_lost_is_not_said_to_be_too_long(machine: Machine) -> None:
    lost = Observation(phase=Phase.EXITED, exit_code=0, streams_cut=(LogStream.STDOUT,), streams_lost=True)

    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(observation=lost), edges=(edge(0, None),))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        error = (await daemon.story())[0][2]
        assert "stdout is not whole" in error
        assert "beyond the limit" not in error

    machine.play(play)


def test_a_cut_stream_that_nobody_carries_is_no_failure(machine: Machine) -> None:
    cut = Script(
        observation=Observation(phase=Phase.EXITED, exit_code=0, streams_cut=(LogStream.STDOUT,), leftovers_killed=2)
    )

    async def play(daemon: Daemon) -> None:
        await _run(daemon, cut)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED

    machine.play(play)


def test_an_engine_that_refuses_ends_the_job(machine: Machine) -> None:
    machine.engine.submit_error = ExecutorUnavailable("no engine today")

    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script())
        await daemon.ended(ONE)
        assert await daemon.story() == [("a", "ERRORED", "no engine today")]
        assert daemon.job_manager.slots() == (0, 4)

    machine.play(play)


def test_an_answer_that_got_lost_is_no_refusal(machine: Machine) -> None:
    """The engine has started the program and the answer was lost: it is found, not failed while it runs."""
    machine.engine.submit_error = ExecutorUnavailable("timed out")
    machine.engine.is_answer_lost = True

    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(), edges=(edge(0, None),))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED

    machine.play(play)
    assert machine.engine.submitted == ["job-1-1"]


def test_a_fault_of_rnd_ends_one_job_and_nothing_else(machine: Machine) -> None:
    def fault(_: JobRun) -> None:
        raise ZeroDivisionError

    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(leaves=fault), Script())
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert [row[:2] for row in await daemon.story()] == [("a", "ERRORED"), ("b", "COMPLETED")]
        assert (await daemon.story())[0][2] == "internal error: ZeroDivisionError"
        assert not daemon.is_dead()

    machine.play(play)


def test_a_program_outlives_no_failure_of_its_watch(machine: Machine) -> None:
    """The wait breaks while the program runs: it is killed before its job is called failed."""

    async def play(daemon: Daemon) -> None:
        waits = 0
        wait = daemon.engine.wait

        async def broken(handle: str) -> Observation:
            nonlocal waits
            waits += 1
            if waits == 1:
                raise OSError("no descriptors left")
            return await wait(handle)

        daemon.engine.wait = broken  # type: ignore[method-assign]  # the engine's own trouble, not rnd's
        await _run(daemon, Script(holds=True))
        await daemon.ended(ONE)
        assert await daemon.story() == [("a", "ERRORED", "no descriptors left")]
        assert daemon.engine.running() == []

    machine.play(play)


# ---------------------------------------------------------------- attempts


def test_a_second_attempt_finds_its_inputs_and_no_outputs_of_the_first(machine: Machine) -> None:
    seen: list[list[str]] = []

    def leave(run: JobRun) -> None:
        seen.append(sorted(os.listdir(run.directory / "output")))
        (run.directory / "output" / f"attempt{run.attempt}").touch()
        machine.engine.scripts["b"] = replace(Script(), leaves=leave)

    async def play(daemon: Daemon) -> None:
        await _run(
            daemon,
            Script(),
            Script(observation=Observation(phase=Phase.EXITED, exit_code=1), leaves=leave),
            edges=(edge(0, 1), edge(0, 1, "STDOUT->MOUNT"), edge(1, None)),
            attempts=2,
            interfaces=IN_AND_OUT,
        )
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert seen == [[], []]
        home = await daemon.home(ONE)
        assert home["b/stdout.txt"] == b"a\nb\n"
        assert "b/attempt2" in home
        assert "b/attempt1" not in home

    machine.play(play)
    assert machine.engine.submitted == ["job-1-1", "job-2-1", "job-2-2"]


def test_a_cancel_that_comes_just_before_a_second_attempt_is_not_forgotten(machine: Machine) -> None:
    """The job has failed and is about to be tried again when the wish is recorded: it ends instead of waiting for ever."""

    async def play(daemon: Daemon) -> None:
        bad = Script(holds=True, observation=Observation(phase=Phase.EXITED, exit_code=1))
        await _run(daemon, bad, attempts=5)
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.by_hand("UPDATE job_executions SET cancel_requested_at = created_at, cancel_reason = 'enough'")
        daemon.engine.let_go("a")
        await daemon.eventually("SELECT status, attempt FROM job_executions", ("ERRORED", 1))
        await daemon.ended(ONE)

    machine.play(play)


def test_a_waiting_attempt_can_be_cancelled(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _run(daemon, exits(1), attempts=2, backoff_s=3600)
        await daemon.eventually("SELECT status, attempt FROM job_executions", ("READY", 2))
        explanation = await daemon.job_manager.explain(JobExecutionId(1))
        assert explanation.status == "READY"
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED

    machine.play(play)


# ---------------------------------------------------------------- stops


def test_a_job_that_takes_too_long_is_killed(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(holds=True), timeout_s=0.05)
        await daemon.ended(ONE)
        ((_, status, error),) = await daemon.story()
        assert (status, error) == ("ERRORED", "timed out after 0.05 s (timeout_s of service a)")
        assert await daemon.sql("SELECT exit_signal FROM job_executions") == [(15,)]

    machine.play(play)


def test_a_kill_that_fails_is_repeated_until_the_program_has_ended(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "KILL_AGAIN_S", 0.01)
    machine.deadlines = Deadlines(cancel_grace_s=0.01)
    machine.engine.kill_errors = 1

    async def play(daemon: Daemon) -> None:
        await _run(daemon, Script(holds=True, deaf=True), Script(holds=True))
        await daemon.until(lambda: len(daemon.engine.submitted) == 2)
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        assert [row[1:] for row in await daemon.story()] == [("CANCELLED", "enough")] * 2
        assert daemon.engine.running() == []

    machine.play(play)


def test_a_cancel_is_an_end_also_for_what_has_not_begun(machine: Machine) -> None:
    """One runs, one waits for its input, three wait for a worker."""

    async def play(daemon: Daemon) -> None:
        scripts = [Script(holds=True) for _ in range(6)]
        await _run(daemon, *scripts, edges=(edge(0, 1),))
        await daemon.until(lambda: len(daemon.engine.submitted) == 4)
        assert daemon.job_manager.slots() == (4, 4)
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).error == "cancelled: enough"
        assert {row[1] for row in await daemon.story()} == {"CANCELLED"}
        assert len(daemon.engine.submitted) == 4
        with pytest.raises(Conflict, match="CANCELLED already"):
            await daemon.workflow_manager.cancel(ONE, reason="again")

    machine.play(play)


def test_a_cancel_while_outputs_are_collected_stops_the_collecting(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        def leave(run: JobRun) -> None:
            with (run.directory / "output" / "big").open("wb") as file:
                file.truncate(4 << 30)

        await _run(daemon, Script(leaves=leave), edges=(edge(0, None),))
        await daemon.until(lambda: bool(daemon.engine.runs) and daemon.job_manager.slots()[0] == 0)
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.CANCELLED
        assert await daemon.story() == [("a", "CANCELLED", "enough")]

    machine.play(play)


def test_a_cancel_whose_confirmation_does_not_come_ends_at_its_time(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.engine.kill_errors = 99
        await _run(daemon, Script(holds=True))
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        daemon.tick(61)
        execution = await daemon.ended(ONE)
        assert (execution.status, execution.error) == (
            ExecutionStatus.CANCELLED,
            "cancelled: enough (not confirmed by rnme)",
        )

    machine.play(play)


def test_the_workflow_deadline_stops_what_runs_and_what_is_on_its_way_home(machine: Machine, tmp_path: Path) -> None:
    machine.deadlines = Deadlines(workflow_deadline_s=100)

    async def play(daemon: Daemon) -> None:
        machine.clock.move(1)
        await _run(daemon, Script(), Script(holds=True), edges=(edge(0, None), edge(0, 1)))
        await daemon.until(lambda: len(daemon.engine.submitted) == 2)
        daemon.tick(101)
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.FAILED
        assert "the workflow deadline has passed" in str(execution.error)
        assert daemon.engine.running() == []

    machine.play(play)


def test_a_result_that_never_comes_home_ends_the_execution_at_its_deadline(machine: Machine) -> None:
    """All jobs are COMPLETED and nobody makes the delivery: the deadline is the end of that, too."""

    async def play(daemon: Daemon) -> None:
        parts = daemon.parts()
        parts.pop(0).close()  # no DataWorker
        daemon.tasks += [asyncio.create_task(part) for part in parts]
        await _run(daemon, Script(leaves=says_much), edges=(edge(0, None),))
        await daemon.eventually("SELECT status FROM job_executions", ("COMPLETED",))
        assert (await daemon.sql("SELECT status FROM workflow_executions")) == [("RUNNING",)]
        daemon.tick(8 * 24 * 3600)
        execution = await daemon.ended(ONE)
        assert "result of job a was not delivered" in str(execution.error)

    machine.play(play, is_idle=True)


def test_a_start_that_never_comes_ends_the_job(machine: Machine) -> None:
    """Phase 1 is done and the orchestrator is gone."""

    async def play() -> None:
        async with machine.serve(is_idle=True) as daemon:
            drawn = await daemon.draw([await daemon.program("a")], [])
            await daemon.workflow_manager.execute(drawn.workflow_id)
        for dies_at in range(1, 9):
            async with machine.serve(dies_at=dies_at) as daemon:
                await daemon.until(daemon.is_dead)
                if await daemon.sql("SELECT status FROM job_executions") == [("IDLE",)]:
                    break
        machine.clock.move(16 * 60)
        async with machine.serve(is_idle=True) as daemon:
            manager = asyncio.create_task(daemon.job_manager.run())
            await daemon.eventually("SELECT status FROM job_executions", ("ERRORED",))
            assert "no start command came" in (await daemon.story())[0][2]
            manager.cancel()
            await asyncio.gather(manager, return_exceptions=True)

    asyncio.run(play())


def test_two_data_jobs_of_one_receiver_that_time_out_together_harm_nobody(machine: Machine) -> None:
    """The failure of the first settles the second; the ticker must not stumble over that."""

    async def play(daemon: Daemon) -> None:
        parts = daemon.parts()
        parts.pop(0).close()  # no DataWorker: both wait for their deliveries
        daemon.tasks += [asyncio.create_task(part) for part in parts]
        services = [await daemon.files("x", {"x": b""}), await daemon.files("y", {"y": b""}), await daemon.program("a")]
        drawn = await daemon.draw(services, [edge(0, 2), edge(1, 2)])
        await daemon.workflow_manager.execute(drawn.workflow_id, deadlines={"max_runtime_s": 5.0})
        await daemon.eventually("SELECT COUNT(*) FROM transfers", (2,))
        daemon.tick(11)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert not daemon.is_dead()
        assert "timed out" in (await daemon.story())[0][2]

    machine.play(play, is_idle=True)


def test_a_disk_without_room_refuses_the_order(machine: Machine) -> None:
    machine.limits = Limits(disk_floor_bytes=1 << 62)

    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [])
        report = await daemon.workflow_manager.plan(drawn.workflow_id)
        assert not report.ok

    machine.play(play, is_idle=True)


def test_a_job_whose_service_is_gone_ends(machine: Machine) -> None:
    async def play() -> None:
        async with machine.serve() as daemon:
            await _run(daemon, Script(holds=True), Script(), edges=(edge(0, 1),))
            await daemon.until(lambda: bool(daemon.engine.submitted))
            await daemon.by_hand("DELETE FROM offered_services WHERE name = 'b'")
            daemon.engine.let_go("a")
            assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
            assert await daemon.story() == [("a", "COMPLETED", None), ("b", "ERRORED", "Service 2 not found")]

    asyncio.run(play())


def test_a_running_job_whose_service_is_gone_after_a_restart_ends(machine: Machine) -> None:
    async def play() -> None:
        async with machine.serve() as daemon:
            await _run(daemon, Script(holds=True))
            await daemon.until(lambda: bool(daemon.engine.submitted))
            await daemon.by_hand("DELETE FROM offered_services")
        async with machine.serve() as daemon:
            await daemon.ended(ONE)
            assert await daemon.story() == [("a", "ERRORED", "Service 1 not found")]

    asyncio.run(play())
