"""Executions: both phases from wherever a start stands, retries, waits, and what people type into sqlite3."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from typing import Any

import pytest

from rnd.core.job_orders import accept_jobs
from rnd.core.two_phases import TwoPhases
from rnd.database import offered_services, workflow_executions
from rnd.rules.definition import definition_from_json
from rnd.services.executor import Observation, Phase
from rnd.types.enums import ExecutionPhase, ExecutionStatus, ServiceStatus
from rnd.types.errors import CalledOff, Conflict, NotFound, StaleState
from rnd.types.ids import ExecutionId, ServiceId
from rnd.types.services import Service
from tests.core.core_peer import ME, PATIENCE_S, Daemon, Machine, Script, edge
from tests.seams import CountingEntropy

ONE, TWO, THREE = ExecutionId(1), ExecutionId(2), ExecutionId(3)


def _two_phases(daemon: Daemon) -> TwoPhases:
    return TwoPhases(
        database=daemon.database,
        clock=daemon.clock,
        entropy=CountingEntropy("phases"),
        folders=daemon.folders,
        endpoint_of=lambda _: daemon.job_manager,
        board=daemon.board,
        peer_id=ME,
    )


async def _start(daemon: Daemon, execution_id: ExecutionId = ONE) -> None:
    execution = await daemon.database.read(lambda conn: workflow_executions.get_execution(conn, execution_id))
    await _two_phases(daemon).start(execution, definition_from_json(json.loads(execution.definition)))


async def _chain(daemon: Daemon, *scripts: Script) -> ExecutionId:
    services = [await daemon.program(name, script) for name, script in zip("abc", scripts, strict=False)]
    edges = [edge(number, number + 1) for number in range(len(services) - 1)] + [edge(len(services) - 1, None)]
    return await daemon.workflow_manager.execute((await daemon.draw(services, edges)).workflow_id)


def bad(code: int = 1) -> Script:
    return Script(observation=Observation(phase=Phase.EXITED, exit_code=code))


# ---------------------------------------------------------------- the start


@pytest.mark.parametrize("phase", list(ExecutionPhase))
def test_a_start_from_any_phase_changes_nothing_that_was_done(machine: Machine, phase: ExecutionPhase) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), Script())
        await _start(daemon)
        tables = ["job_executions", "workflow_jobs", "job_interfaces", "job_interface_peers", "results", "transfers"]
        before = [await daemon.sql(f"SELECT * FROM {table}") for table in tables]
        await daemon.by_hand(f"UPDATE workflow_executions SET phase = '{phase}'")
        await _start(daemon)
        assert [await daemon.sql(f"SELECT * FROM {table}") for table in tables] == before
        assert await daemon.sql("SELECT phase FROM workflow_executions") == [("STARTED",)]

    machine.play(play, is_idle=True)


def test_a_refusal_in_phase_1_cancels_what_was_created_and_says_why(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), Script())
        await daemon.database.write(
            lambda conn: offered_services.set_status(conn, ServiceId(2), ServiceStatus.INACTIVE, now=daemon.clock.now())
        )
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.FAILED
        assert execution.error == "phase 1 was refused: b: service b is INACTIVE"
        assert await daemon.sql("SELECT status FROM workflow_jobs") == [("CANCELLED",)] * 2
        assert daemon.engine.submitted == []

    machine.play(play, is_idle=True)


def test_a_start_that_meets_another_job_of_its_key_fails_and_does_not_spin(machine: Machine) -> None:
    """The rows say that something else was asked for before: nothing repairs that by trying again."""

    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script())
        await _start(daemon)
        await daemon.by_hand("UPDATE job_executions SET request_digest = 'another'")
        await daemon.by_hand("UPDATE workflow_executions SET phase = 'CREATING'")
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        execution = await daemon.ended(ONE)
        assert "requested before with other content" in str(execution.error)

    machine.play(play, is_idle=True)


def test_an_unreadable_definition_fails_its_execution_and_no_other(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script())
        await daemon.by_hand("UPDATE workflow_executions SET definition = 'nonsense'")
        await daemon.workflow_manager.execute((await daemon.draw([await daemon.program("z")], [])).workflow_id)
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED
        assert not daemon.is_dead()

    machine.play(play, is_idle=True)


def test_a_status_that_is_no_word_leaves_the_others_alone(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True))
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.by_hand("UPDATE workflow_jobs SET status = 'DONE'")
        daemon.tick()
        await daemon.workflow_manager.execute((await daemon.draw([await daemon.program("z")], [])).workflow_id)
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED
        assert not daemon.is_dead()

    machine.play(play)


def test_a_cancel_before_phase_2_starts_nothing(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script())
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        with pytest.raises(CalledOff):
            await _start(daemon)
        assert await daemon.sql("SELECT start_received FROM job_executions") == [(0,)]
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        assert (await daemon.ended(ONE)).error == "cancelled: enough"
        assert daemon.engine.submitted == []

    machine.play(play, is_idle=True)


def test_a_cancel_before_anything_was_created_ends_at_once(machine: Machine) -> None:
    """The rows of its jobs are PENDING: nobody will ever create them."""

    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), Script())
        await _start(daemon)
        await daemon.by_hand("DELETE FROM job_interface_peers")
        await daemon.by_hand("DELETE FROM job_interfaces")
        await daemon.by_hand("DELETE FROM job_executions")
        await daemon.by_hand("UPDATE workflow_jobs SET status = 'PENDING'")
        await daemon.by_hand("UPDATE workflow_executions SET phase = 'CREATING'")
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        assert (await daemon.ended(ONE)).error == "cancelled: enough"

    machine.play(play, is_idle=True)


def test_calling_off_a_start_that_has_not_begun_or_is_over_harms_nothing(machine: Machine) -> None:
    """A cancel may come before the first step of a start, or while one that was refused is being tidied up."""

    async def play(daemon: Daemon) -> None:
        watch = daemon.workflow_manager._watch
        tidy_up = watch.cancel_jobs
        called_off: list[str] = []

        async def call_off_and_tidy_up(execution_id: ExecutionId, reason: str) -> None:
            watch._stop_starting(execution_id)
            called_off.append(reason)
            await tidy_up(execution_id, reason)

        watch.cancel_jobs = call_off_and_tidy_up  # type: ignore[method-assign]  # the cancel comes just then
        await _chain(daemon, Script())
        await daemon.by_hand("UPDATE offered_services SET status = 'INACTIVE'")
        async with asyncio.TaskGroup() as group:
            await watch._attend(ONE, group)
            watch._stop_starting(ONE)
        assert len(called_off) == 1
        assert "INACTIVE" in called_off[0]
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED

    machine.play(play, is_idle=True)


def test_an_execution_that_has_ended_is_not_started(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script())
        stale = await daemon.database.read(lambda conn: workflow_executions.get_execution(conn, ONE))
        await daemon.by_hand("UPDATE workflow_executions SET status = 'FAILED'")
        with pytest.raises(StaleState):
            await _two_phases(daemon).start(stale, definition_from_json(json.loads(stale.definition)))

    machine.play(play, is_idle=True)


def test_a_job_that_failed_before_it_knew_whom_it_feeds_takes_them_with_it(machine: Machine) -> None:
    """Between the phases a job is ended by hand; what would wait for it is cancelled when it is started."""

    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), Script(), Script())
        await _start(daemon)
        await daemon.by_hand("UPDATE job_executions SET start_received = 0, status = 'IDLE', settled_status = 'IDLE'")
        await daemon.by_hand(
            "UPDATE job_interface_peers SET peer_job_execution_id = NULL WHERE peer_job_execution_id > 0"
        )
        await daemon.by_hand(
            "UPDATE job_executions SET status = 'ERRORED', settled_status = 'ERRORED', error_message = 'broken' WHERE id = 1"
        )
        await daemon.by_hand("UPDATE workflow_jobs SET status = 'ERRORED' WHERE id = 1")
        await daemon.by_hand("UPDATE workflow_executions SET phase = 'STARTING'")
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        words = "upstream job a failed: broken"
        assert await daemon.story() == [
            ("a", "ERRORED", "broken"),
            ("b", "CANCELLED", words),
            ("c", "CANCELLED", words),
        ]

    machine.play(play, is_idle=True)


# ---------------------------------------------------------------- retries


def test_a_retry_runs_only_what_did_not_complete(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), bad())
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        daemon.engine.scripts["b"] = Script()
        assert await daemon.workflow_manager.retry(ONE) == TWO
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(TWO) == {"b/stdout.txt": b"a\nb\n"}
        assert daemon.engine.submitted == ["job-1-1", "job-2-1", "job-4-1"]
        assert await daemon.sql("SELECT result FROM workflow_jobs WHERE workflow_execution_id = 2") == [
            ("reused:1",),
            (None,),
        ]
        with pytest.raises(Conflict, match="nothing to retry"):
            await daemon.workflow_manager.retry(TWO)

    machine.play(play)


def test_a_retry_keeps_the_deadlines_that_its_order_shortened(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a", bad())], [])
        wishes = {"start_by_s": 60.0, "max_runtime_s": 7.0, "transfer_idle_s": 8.0, "hold_s": 9.0}
        wishes["workflow_deadline_s"] = 100.0
        await daemon.workflow_manager.execute(drawn.workflow_id, deadlines=wishes)
        await daemon.ended(ONE)
        await daemon.workflow_manager.retry(ONE)
        retried = await daemon.ended(TWO)
        bounds = "SELECT start_by_s, max_runtime_s, transfer_idle_s, hold_s FROM workflow_executions WHERE id = 2"
        assert await daemon.sql(bounds) == [(60.0, 7.0, 8.0, 9.0)]
        assert (retried.deadline_at - retried.created_at).total_seconds() == 100.0
        assert await daemon.sql("SELECT DISTINCT max_runtime_s FROM job_executions") == [(7.0,)]

    machine.play(play)


def test_a_retry_of_a_retry_reuses_what_truly_ran(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), bad())
        await daemon.ended(ONE)
        await daemon.workflow_manager.retry(ONE)
        assert (await daemon.ended(TWO)).status is ExecutionStatus.FAILED
        daemon.engine.scripts["b"] = Script()
        await daemon.workflow_manager.retry(TWO)
        assert (await daemon.ended(THREE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(THREE) == {"b/stdout.txt": b"a\nb\n"}
        assert await daemon.sql("SELECT result FROM job_executions WHERE id = 5") == [("reused:1",)]

    machine.play(play)


def test_a_retry_survives_deaths_between_its_commits(machine: Machine) -> None:
    async def play() -> None:
        async with machine.serve() as daemon:
            await _chain(daemon, Script(), bad())
            await daemon.ended(ONE)
            daemon.engine.scripts["b"] = Script()
        async with machine.serve(is_idle=True) as daemon:
            await daemon.workflow_manager.retry(ONE)
        for dies_at in range(1, 40):
            async with machine.serve(dies_at=dies_at) as daemon:
                while not daemon.is_dead():
                    if await daemon.sql("SELECT status FROM workflow_executions WHERE id = 2") == [("COMPLETED",)]:
                        assert await daemon.home(TWO) == {"b/stdout.txt": b"a\nb\n"}
                        return
                    await asyncio.sleep(0.005)
        raise AssertionError("it never ends")

    asyncio.run(play())
    assert machine.engine.submitted == ["job-1-1", "job-2-1", "job-4-1"]


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_job_whose_outputs_are_gone_runs_again_in_a_retry(machine: Machine, damage: str) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), bad())
        await daemon.ended(ONE)
        (left,) = machine.data_dir.glob("workflows/*/1/jobs/*/1/logs/stdout.txt")
        if damage == "gone":
            shutil.rmtree(left.parent)
        else:
            left.write_bytes(b"")
        daemon.engine.scripts["b"] = Script()
        await daemon.workflow_manager.retry(ONE)
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(TWO) == {"b/stdout.txt": b"a\nb\n"}
        assert daemon.engine.submitted == ["job-1-1", "job-2-1", "job-3-1", "job-4-1"]

    machine.play(play)


def test_outputs_that_go_while_a_retry_starts_end_it_with_words(machine: Machine) -> None:
    async def begin(daemon: Daemon) -> None:
        await _chain(daemon, Script(), bad())
        await daemon.ended(ONE)

    async def start(daemon: Daemon) -> None:
        await daemon.workflow_manager.retry(ONE)
        await _start(daemon, TWO)
        shutil.rmtree(machine.data_dir / "workflows")

    async def end(daemon: Daemon) -> None:
        execution = await daemon.ended(TWO)
        assert execution.status is ExecutionStatus.FAILED
        assert "the outputs of job 1 (a) cannot be read any more" in str(execution.error)

    machine.play(begin)
    machine.play(start, is_idle=True)
    machine.play(end)


async def _data_and_two_programs(daemon: Daemon) -> Service:
    """Run DATA that feeds a job that completes and one that does not; return the DATA."""
    data = await daemon.files("text", {"text": b"1"})
    good, fails = await daemon.program("good"), await daemon.program("fails", bad())
    drawn = await daemon.draw([data, good, fails], [edge(0, 1), edge(0, 2), edge(1, None)])
    await daemon.workflow_manager.execute(drawn.workflow_id)
    await daemon.ended(ONE)
    return data


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_retry_that_needs_a_service_that_is_not_ready_is_refused_at_once(machine: Machine, *, is_gone: bool) -> None:
    """Its DATA has completed, and is needed all the same; nothing is accepted that could only fail."""

    async def play(daemon: Daemon) -> None:
        data = await _data_and_two_programs(daemon)
        change = "DELETE FROM offered_services" if is_gone else "UPDATE offered_services SET status = 'INACTIVE'"
        await daemon.by_hand(f"{change} WHERE id = {data.id}")
        words = f"text: Service {data.id} not found" if is_gone else "text: service text is INACTIVE"
        with pytest.raises(Conflict, match=f"cannot be retried: {words}") as refusal:
            await daemon.workflow_manager.retry(ONE)
        assert "service text" in refusal.value.hint
        assert await daemon.sql("SELECT COUNT(*) FROM workflow_executions") == [(1,)]

    machine.play(play)


def test_a_job_that_is_reused_needs_its_service_no_more(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(), bad())
        await daemon.ended(ONE)
        await daemon.by_hand("UPDATE offered_services SET status = 'INACTIVE' WHERE name = 'a'")
        daemon.engine.scripts["b"] = Script()
        await daemon.workflow_manager.retry(ONE)
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED

    machine.play(play)


def test_a_job_that_was_set_to_completed_by_hand_runs_again(machine: Machine) -> None:
    """Nobody has looked at what it left, so it must not pass for an output."""

    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True), Script())
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.by_hand("UPDATE job_executions SET status = 'COMPLETED' WHERE id = 1")
        daemon.tick()
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert (await daemon.story())[1][2] == (
            "upstream job a failed: set to COMPLETED by hand; its outputs were not collected"
        )
        await daemon.until(lambda: daemon.engine.running() == [])
        daemon.engine.scripts["a"] = Script()
        await daemon.workflow_manager.retry(ONE)
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(TWO) == {"b/stdout.txt": b"a\nb\n"}

    machine.play(play)


def test_only_what_has_ended_is_retried(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True))
        with pytest.raises(Conflict, match="is still"):
            await daemon.workflow_manager.retry(ONE)
        await daemon.workflow_manager.cancel(ONE, reason="x")
        await daemon.ended(ONE)
        await daemon.by_hand("UPDATE workflow_executions SET workflow_id = NULL")
        with pytest.raises(Conflict, match="was deleted"):
            await daemon.workflow_manager.retry(ONE)
        with pytest.raises(NotFound):
            await daemon.workflow_manager.retry(ExecutionId(9))

    machine.play(play)


def test_a_cancel_while_the_jobs_are_being_committed_reaches_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish is on record before the jobs are, and the start is called off while they are on their way to the disk."""
    is_wished, is_committing = threading.Event(), threading.Event()

    def refuse_nothing(*_: object, **__: object) -> None:
        is_wished.wait(PATIENCE_S)

    def accept(*arguments: Any, **more: Any) -> Any:
        is_committing.set()
        time.sleep(0.2)
        return accept_jobs(*arguments, **more)

    monkeypatch.setattr("rnd.core.job_manager.accept_jobs", accept)

    async def play(daemon: Daemon) -> None:
        monkeypatch.setattr(daemon.engine, "refusal", refuse_nothing)
        watch = daemon.workflow_manager._watch
        cancel_jobs = watch.cancel_jobs

        async def late(execution_id: ExecutionId, reason: str) -> None:
            is_wished.set()
            await asyncio.to_thread(is_committing.wait, PATIENCE_S)
            await cancel_jobs(execution_id, reason)

        await _chain(daemon, Script(holds=True))
        monkeypatch.setattr(watch, "cancel_jobs", late)
        await daemon.workflow_manager.cancel(ONE, reason="x")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        assert await daemon.sql("SELECT status FROM job_executions") == [("CANCELLED",)]

    machine.play(play)


# ---------------------------------------------------------------- repairs by hand


def test_a_repair_of_a_stopped_peer_counts_and_its_program_is_killed(machine: Machine) -> None:
    """A job is set to ERRORED while no daemon runs; its process must not go on."""

    async def play() -> None:
        async with machine.serve() as daemon:
            await _chain(daemon, Script(holds=True), Script())
            await daemon.until(lambda: bool(daemon.engine.submitted))
        async with machine.serve(is_idle=True) as daemon:
            await daemon.by_hand("UPDATE job_executions SET status = 'ERRORED' WHERE id = 1")
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
            await daemon.until(lambda: daemon.engine.running() == [])
            assert (await daemon.story())[0][1:] == ("ERRORED", "set to ERRORED by hand")

    asyncio.run(play())


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_running_job_set_to_ready_by_hand_is_another_attempt(machine: Machine, is_restarted: bool) -> None:
    """What ran is killed first; the two are never in hand together, and the first one's end counts for nothing."""

    async def play() -> None:
        async with machine.serve() as daemon:
            await _chain(daemon, Script(holds=True))
            await daemon.until(lambda: bool(daemon.engine.submitted))
            if not is_restarted:
                daemon.engine.scripts["a"] = Script()
                await daemon.by_hand("UPDATE job_executions SET status = 'READY'")
                daemon.tick()
                assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        if is_restarted:
            machine.engine.scripts["a"] = Script()
            async with machine.serve(is_idle=True) as daemon:
                await daemon.by_hand("UPDATE job_executions SET status = 'READY'")
            async with machine.serve() as daemon:
                assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED

    asyncio.run(play())
    assert machine.engine.submitted == ["job-1-1", "job-1-2"]
    assert machine.engine.runs["job-1-1"].asked_to_end == 1


def test_a_ready_job_that_its_inputs_fail_is_not_claimed(machine: Machine) -> None:
    """READY typed on a job that waits: it is taken at its word, finds no input, and says so."""

    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True), Script())
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.by_hand("UPDATE job_executions SET status = 'READY' WHERE id = 2")
        daemon.tick()
        await daemon.eventually("SELECT status FROM job_executions WHERE id = 2", ("ERRORED",))
        assert "the input of connection 1 has not been delivered" in (await daemon.story())[1][2]
        daemon.engine.let_go("a")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED

    machine.play(play)


def test_a_job_made_ready_by_hand_sees_no_input_that_is_not_acknowledged(machine: Machine) -> None:
    """Even where something lies in its place."""

    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True), Script())
        await daemon.until(lambda: bool(daemon.engine.submitted))
        place = machine.data_dir / f"workflows/{ME}/2/jobs/{ME}/2/input/{ME}/1"
        place.mkdir(parents=True)
        (place / "stdout.txt").write_bytes(b"half")
        await daemon.by_hand("UPDATE job_executions SET status = 'READY' WHERE id = 2")
        daemon.tick()
        await daemon.eventually("SELECT status FROM job_executions WHERE id = 2", ("ERRORED",))
        assert "job-2-1" not in daemon.engine.submitted

    machine.play(play)


def test_an_execution_closed_by_hand_stops_its_jobs(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True), Script())
        await daemon.until(lambda: bool(daemon.engine.submitted))
        waiter = asyncio.create_task(daemon.workflow_manager.wait(ONE, timeout_s=20))
        await daemon.by_hand("UPDATE workflow_executions SET status = 'COMPLETED', completed_at = datetime('now')")
        daemon.tick()
        await waiter
        await daemon.until(lambda: daemon.engine.running() == [])
        await daemon.eventually("SELECT DISTINCT status FROM job_executions", ("CANCELLED",))
        assert (await daemon.story())[0][2] == "execution 1 was set to COMPLETED by hand"

    machine.play(play)


def test_an_execution_whose_row_was_deleted_by_hand_stops_its_jobs(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True), Script())
        await daemon.until(lambda: bool(daemon.engine.running()))
        await daemon.by_hand("DELETE FROM workflow_executions")
        daemon.tick()
        await daemon.until(lambda: daemon.engine.running() == [])
        await daemon.eventually(
            "SELECT DISTINCT status, error_message FROM job_executions WHERE id = 1",
            ("CANCELLED", "execution 1 was deleted by hand"),
        )
        await daemon.eventually("SELECT DISTINCT status FROM job_executions", ("CANCELLED",))
        assert not daemon.is_dead()

    machine.play(play)


def test_a_job_whose_row_was_deleted_by_hand_is_ended(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True))
        await daemon.until(lambda: bool(daemon.engine.running()))
        await daemon.by_hand("DELETE FROM job_executions")
        daemon.tick()
        await daemon.until(lambda: daemon.engine.running() == [])
        await daemon.until(lambda: daemon.job_manager.slots()[0] == 0)
        assert not daemon.is_dead()

    machine.play(play)


def test_a_row_that_was_deleted_by_hand_harms_nobody(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await daemon.draw([], [])
        await daemon.workflow_manager.execute(
            (await daemon.draw([await daemon.program("lone", Script(holds=True))], [])).workflow_id
        )
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.by_hand("PRAGMA foreign_keys = OFF")
        await daemon.by_hand("DELETE FROM job_interfaces")
        await daemon.by_hand("DELETE FROM executor_handles")
        await daemon.by_hand("DELETE FROM job_executions")
        daemon.engine.let_go("lone")
        await daemon.until(lambda: daemon.job_manager.slots()[0] == 0)
        daemon.tick()
        await asyncio.sleep(0.05)
        assert not daemon.is_dead()

    machine.play(play)


# ---------------------------------------------------------------- waits


def test_waiting_leaves_nothing_behind(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _chain(daemon, Script(holds=True))
        manager = daemon.workflow_manager
        await manager.wait(ONE, timeout_s=0.01)
        with pytest.raises(NotFound):
            await manager.wait(ExecutionId(77), timeout_s=1)
        waiters = [asyncio.create_task(manager.wait(ONE, timeout_s=20)) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiters[0].cancel()
        daemon.engine.let_go("a")
        await asyncio.gather(*waiters[1:])
        await manager.wait(ONE, timeout_s=1)
        assert manager._waiters == {}

    machine.play(play)


def test_an_execution_that_does_not_exist_is_not_cancelled(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        with pytest.raises(NotFound):
            await daemon.workflow_manager.cancel(ONE, reason="x")

    machine.play(play, is_idle=True)


# ---------------------------------------------------------------- what is got ready


def test_engines_are_told_how_many_programs_wait_for_nothing(machine: Machine) -> None:
    """Those that wait for another's output begin one after the other, and what the self-peer runs is no program."""

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program(name, Script()) for name in "abcd"]
        edges = [edge(0, 1), edge(1, 2), edge(2, None), edge(3, None)]
        await daemon.workflow_manager.execute((await daemon.draw(services, edges)).workflow_id)
        await _start(daemon)
        assert machine.engine.expected == [2]

    machine.play(play, is_idle=True)
