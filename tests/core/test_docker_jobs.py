"""DOCKER jobs from their order to their end, with an engine and a registry that do as a test says."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from rnd.core import job_runner
from rnd.services.executor import Health, JobRun, Observation, Phase
from rnd.services.images import RegistryAuth
from rnd.services.service_secrets import keep_registry_auth, keep_secrets
from rnd.types.config import Deadlines, Limits
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import ExecutorUnavailable
from rnd.types.ids import ExecutionId, JobExecutionId
from rnd.types.services import Service
from rnd.types.times import to_text
from tests.core.core_peer import IN_AND_OUT, Daemon, Drawn, Edge, Machine, Script, edge
from tests.scripted_images import image_facts

ONE = ExecutionId(1)
JOB = JobExecutionId(1)
PULLING = "SELECT status, run_by IS NULL, pull_by IS NOT NULL FROM job_executions WHERE id = 1"


async def _order(daemon: Daemon, *services: Service, edges: tuple[Edge, ...] = ()) -> Drawn:
    drawn = await daemon.draw(services, edges)
    await daemon.workflow_manager.execute(drawn.workflow_id)
    return drawn


async def _because(daemon: Daemon) -> str:
    return (await daemon.job_manager.explain(JOB)).because


async def _is_pulling(daemon: Daemon) -> None:
    await daemon.eventually(PULLING, ("RUNNING", 1, 1))
    await daemon.until(lambda: bool(daemon.images.pulled))


# ---------------------------------------------------------------- all is well


def test_a_chain_through_containers_carries_streams_and_mounts(machine: Machine) -> None:
    def model(run: JobRun) -> None:
        assert run.container is not None
        targets = {mount.target: mount for mount in run.container.mounts}
        assert sorted(targets) == ["/in", "/out", "/output"]
        assert all(mount.source.is_dir() for mount in targets.values())
        assert not targets["/in"].writable
        (targets["/out"].source / "model").write_bytes(b"learnt " + (targets["/in"].source / "table.csv").read_bytes())

    async def play(daemon: Daemon) -> None:
        data = await daemon.files("data", {"table.csv": b"1,2"})
        train = await daemon.container("train", Script(leaves=model), interfaces=IN_AND_OUT)
        use = await daemon.container("use")
        await _order(
            daemon,
            data,
            train,
            use,
            edges=(edge(0, 1, "STDOUT->MOUNT"), edge(1, 2, "MOUNT->STDIN"), edge(2, None, "STDOUT->MOUNT")),
        )
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(ONE) == {"use/stdout.txt": b"learnt 1,2use\n"}
        await daemon.until(lambda: daemon.containers.cleaned == ["job-2-1", "job-3-1"])
        stdin = {mount.target for mount in daemon.containers.runs["job-3-1"].run.container.mounts}  # type: ignore[union-attr]  # it has one
        assert stdin == {"/input", "/output"}

    machine.play(play)


def test_each_job_tells_the_digest_of_what_it_ran(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        local = image_facts(2, digest="")
        daemon.images.put("own", facts=local)
        first = await daemon.container("a")
        second = await daemon.container("b", facts=local)
        program = await daemon.program("c")
        await _order(daemon, first, second, program)
        await daemon.ended(ONE)
        rows = await daemon.sql("SELECT job_name, image_digest FROM job_executions ORDER BY id")
        assert rows == [("a", image_facts(1).digest), ("b", local.image_id), ("c", None)]

    machine.play(play)


def test_secrets_reach_the_container_as_files_alone(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.container("a", secret_names=("token",))
        await daemon.database.write(
            lambda conn: keep_secrets(conn, daemon.vault, service.id, {"token": "hush"}),
        )
        await _order(daemon, service)
        await daemon.ended(ONE)
        run = daemon.containers.runs["job-1-1"].run
        assert run.secrets == {"token": b"hush"}
        assert "hush" not in json.dumps(dict(run.env))

    machine.play(play)


# ---------------------------------------------------------------- the image


def test_an_image_that_is_here_is_not_pulled(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.images.put("python:3", facts=image_facts(1))
        await _order(daemon, await daemon.container("a"))
        await daemon.ended(ONE)
        assert daemon.images.pulled == []

    machine.play(play)


def test_a_pull_is_a_step_of_its_own_that_everybody_can_see(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.images.holds = True
        await _order(daemon, await daemon.container("a", timeout_s=60.0))
        await _is_pulling(daemon)
        digest = image_facts(1).digest
        until = to_text(daemon.clock.now() + timedelta(seconds=daemon.config.deadlines.image_pull_s))
        words = f"Its image is being pulled {digest}: Downloading, 400 of 1000 bytes; it may take until {until}"
        told = await daemon.job_manager.explain(JOB)
        assert told.because == words + "."
        assert [(check.check, check.ok) for check in told.checks] == [("image", False), ("image on its way", True)]
        assert await daemon.sql("SELECT because FROM v_stuck") == [
            (f"its image is being pulled, or here and waiting for a free worker (pull_by {until})",)
        ]
        daemon.images.let_go()
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        events = await daemon.sql(
            "SELECT workflow_execution_id, data FROM events WHERE type = 'image.progress' ORDER BY seq"
        )
        assert {execution for execution, _ in events} == {1}
        assert json.loads(events[-1][1]) == {
            "job_execution_id": 1,
            "execution_id": 1,
            "node_id": 1,
            "image": digest,
            "status": "Extracting",
            "bytes_done": 1000,
            "bytes_total": 1000,
        }

    machine.play(play)


def test_the_time_of_a_pull_is_not_the_jobs(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.images.holds = True
        await _order(daemon, await daemon.container("a", Script(holds=True), timeout_s=60.0))
        await _is_pulling(daemon)
        daemon.tick(1000.0)
        daemon.images.let_go()
        await daemon.until(lambda: daemon.containers.running() == ["job-1-1"])
        run_by = to_text(daemon.clock.now() + timedelta(seconds=60))
        await daemon.eventually("SELECT run_by, pull_by FROM job_executions", (run_by, None))
        daemon.containers.let_go("a")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED

    machine.play(play)


def test_a_pull_is_given_up_at_a_time_of_its_own(machine: Machine) -> None:
    machine.deadlines = Deadlines(image_pull_s=0.2)

    async def play(daemon: Daemon) -> None:
        daemon.images.holds = True
        await _order(daemon, await daemon.container("a"))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        words = "Image pull failed: python:3: it was not here within 0.2 s (deadlines.image_pull_s)"
        assert await daemon.story() == [("a", "ERRORED", words)]
        assert daemon.images.cancelled == 1
        assert daemon.containers.submitted == []
        assert await daemon.sql("SELECT pull_by FROM job_executions") == [(None,)]

    machine.play(play)


def test_what_a_registry_refuses_is_told_in_its_words_and_tried_again_where_that_is_allowed(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.container("a", attempts=2)
        daemon.images.registry.clear()
        await _order(daemon, service)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        ((_, status, error),) = await daemon.story()
        assert status == "ERRORED"
        assert error.startswith("Image pull failed: python:3: pull access denied for docker.io/library/python@sha256:")
        assert len(daemon.images.pulled) == 2

    machine.play(play)


def test_an_image_that_no_registry_has_cannot_be_had_again(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _order(daemon, await daemon.container("a", facts=image_facts(2, digest="")))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        ((_, _, error),) = await daemon.story()
        assert "is gone from this machine" in error
        assert daemon.images.pulled == []

    machine.play(play)


def test_another_image_than_the_pinned_one_is_never_run(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.container("a")
        pinned = image_facts(1)
        daemon.images.registry[pinned.digest] = replace(pinned, image_id=image_facts(9).image_id)
        await _order(daemon, service)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        ((_, _, error),) = await daemon.story()
        assert "is not the image" in error
        assert daemon.containers.submitted == []

    machine.play(play)


@pytest.mark.parametrize(("registry", "shown"), [("docker.io", True), ("registry.example:5000", False)])
def test_credentials_are_shown_to_the_registry_they_are_for_and_to_no_other(
    machine: Machine, registry: str, shown: bool
) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.container("a")
        auth = RegistryAuth(username="robot", password="hush")
        await daemon.database.write(
            lambda conn: keep_registry_auth(conn, daemon.vault, service.id, registry, auth),
        )
        await _order(daemon, service)
        await daemon.ended(ONE)
        assert daemon.images.pulled == [(image_facts(1).digest, auth if shown else None)]
        ((sealed,),) = await daemon.sql("SELECT sealed FROM sealed_secrets")
        assert b"hush" not in sealed
        assert b"robot" not in sealed

    machine.play(play)


# ---------------------------------------------------------------- workers


def test_a_job_that_waits_for_its_image_leaves_its_worker_to_others(machine: Machine) -> None:
    machine.limits = Limits(concurrent_jobs=1)

    async def play(daemon: Daemon) -> None:
        daemon.images.holds = True
        await _order(daemon, await daemon.container("a"))
        await _is_pulling(daemon)
        assert daemon.job_manager.slots() == (0, 1)
        await _order(daemon, await daemon.program("b"))
        assert (await daemon.ended(ExecutionId(2))).status is ExecutionStatus.COMPLETED
        daemon.images.let_go()
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        await daemon.until(lambda: daemon.job_manager.slots() == (0, 1))

    machine.play(play)


async def _waits_for_worker(daemon: Daemon) -> None:
    """Bring the one container to where its image is here and the one worker has other work."""
    daemon.images.holds = True
    await _order(daemon, await daemon.container("a", timeout_s=60.0))
    await _is_pulling(daemon)
    await _order(daemon, await daemon.program("b", Script(holds=True)))
    await daemon.until(lambda: daemon.engine.running() == ["job-2-1"])
    daemon.images.let_go()
    await daemon.until(lambda: daemon.runner.waits_for_worker(JOB))
    assert daemon.containers.submitted == []


def test_a_job_whose_image_has_come_waits_for_a_worker_and_comes_before_what_is_ready(machine: Machine) -> None:
    machine.limits = Limits(concurrent_jobs=1)

    async def play(daemon: Daemon) -> None:
        await _waits_for_worker(daemon)
        words = "Its image is here; it waits for one of the 1 job slots of this peer, all in use."
        assert await _because(daemon) == words
        assert await daemon.sql(PULLING) == [("RUNNING", 1, 1)]  # its own time has not begun
        await _order(daemon, await daemon.program("c", Script(holds=True)))
        daemon.engine.let_go("b")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        await daemon.until(lambda: daemon.engine.running() == ["job-3-1"])
        assert daemon.job_manager.slots() == (1, 1)
        daemon.engine.let_go("c")
        await daemon.ended(ExecutionId(3))

    machine.play(play)


def test_a_cancel_ends_the_wait_for_a_worker(machine: Machine) -> None:
    machine.limits = Limits(concurrent_jobs=1)

    async def play(daemon: Daemon) -> None:
        await _waits_for_worker(daemon)
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        assert daemon.job_manager.slots() == (1, 1)
        daemon.engine.let_go("b")
        assert (await daemon.ended(ExecutionId(2))).status is ExecutionStatus.COMPLETED
        await daemon.until(lambda: daemon.job_manager.slots() == (0, 1))
        assert daemon.containers.submitted == []

    machine.play(play)


@pytest.mark.parametrize("is_here", [False, True])
def test_no_more_containers_run_at_once_than_there_are_workers_after_a_restart(machine: Machine, is_here: bool) -> None:
    machine.limits = Limits(concurrent_jobs=1)

    async def play() -> None:
        async with machine.serve() as daemon:
            daemon.images.holds = True
            for name in ("a", "b", "c"):
                await _order(daemon, await daemon.container(name, Script(holds=True)))
            await daemon.until(lambda: len(daemon.images.pulled) == 3)
        machine.images.holds = False
        if is_here:
            machine.images.put(facts=image_facts(1))
        async with machine.serve() as daemon:
            for ended in range(3):
                await daemon.until(lambda: len(daemon.containers.running()) == 1)
                assert len(daemon.containers.submitted) == ended + 1
                assert daemon.job_manager.slots() == (1, 1)
                [running] = daemon.containers.running()
                daemon.containers.let_go({"job-1-1": "a", "job-2-1": "b", "job-3-1": "c"}[running])
            for number in (1, 2, 3):
                assert (await daemon.ended(ExecutionId(number))).status is ExecutionStatus.COMPLETED

    asyncio.run(play())


# ---------------------------------------------------------------- cancel


def test_a_cancel_ends_a_pull_at_once(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.images.holds = True
        await _order(daemon, await daemon.container("a"))
        await _is_pulling(daemon)
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        assert await daemon.story() == [("a", "CANCELLED", "enough")]
        assert daemon.images.cancelled == 1
        assert daemon.containers.submitted == []
        await daemon.until(lambda: daemon.job_manager.slots()[0] == 0)

    machine.play(play)


def test_a_cancel_ends_a_container_that_runs(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _order(daemon, await daemon.container("a", Script(holds=True)))
        await daemon.until(lambda: daemon.containers.running() == ["job-1-1"])
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        await daemon.until(lambda: daemon.containers.cleaned == ["job-1-1"])
        assert await daemon.sql("SELECT status, exit_signal FROM job_executions") == [("CANCELLED", 15)]

    machine.play(play)


def test_a_pull_that_a_person_takes_away_by_hand_ends(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.images.holds = True
        await _order(daemon, await daemon.container("a"))
        await _is_pulling(daemon)
        await daemon.by_hand("UPDATE job_executions SET status = 'ERRORED' WHERE id = 1")
        daemon.tick()
        await daemon.until(lambda: daemon.images.cancelled == 1)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert daemon.containers.submitted == []

    machine.play(play)


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(
    ("observation", "stderr", "words"),
    [
        (Observation(phase=Phase.EXITED, exit_code=3), b"", "Container exited with code 3"),
        (
            Observation(phase=Phase.EXITED, signal=9, reason="killed by the memory limit of 512 MiB"),
            b"",
            "Container killed by signal 9 (SIGKILL): killed by the memory limit of 512 MiB",
        ),
        (Observation(phase=Phase.REJECTED, reason="no such program: pyton"), b"", "no such program: pyton"),
        (
            Observation(phase=Phase.EXITED, exit_code=1, reason="its root is read-only"),
            b"touch: /x: Read-only file system\n",
            (
                "Container exited with code 1: its root is read-only; "
                "last words on stderr: touch: /x: Read-only file system"
            ),
        ),
    ],
)
def test_a_failure_is_told_in_the_engines_words(
    machine: Machine, observation: Observation, stderr: bytes, words: str
) -> None:
    def complain(run: JobRun) -> None:
        (run.directory / "logs/stderr.txt").write_bytes(stderr)

    async def play(daemon: Daemon) -> None:
        await _order(daemon, await daemon.container("a", Script(observation=observation, leaves=complain)))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert await daemon.story() == [("a", "ERRORED", words)]
        await daemon.until(lambda: daemon.containers.cleaned == ["job-1-1"])

    machine.play(play)


def test_a_container_that_the_engine_does_not_create_fails_its_job(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        daemon.containers.submit_error = ExecutorUnavailable("no space left on device")
        await _order(daemon, await daemon.container("a"))
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert await daemon.story() == [("a", "ERRORED", "no space left on device")]

    machine.play(play)


def test_a_failed_run_is_tried_again_in_a_container_of_its_own(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        failing = Script(observation=Observation(phase=Phase.EXITED, exit_code=1))
        await _order(daemon, await daemon.container("a", failing, attempts=2))
        await daemon.ended(ONE)
        await daemon.until(lambda: daemon.containers.cleaned == ["job-1-1", "job-1-2"])
        names = [run.run.container.name for run in daemon.containers.runs.values() if run.run.container is not None]
        assert names == ["job-1", "job-1"]
        # The first was gone before the second was made: they have one name.
        assert daemon.containers.submitted == ["job-1-1", "job-1-2"]

    machine.play(play)


# ---------------------------------------------------------------- phase 1


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (None, "this peer runs no containers"),
        (
            Health(available=False, reason="no engine answers at /var/run/docker.sock"),
            "this peer runs no containers now: no engine answers at /var/run/docker.sock",
        ),
    ],
)
def test_a_peer_without_an_engine_refuses_with_the_reason_before_anything_is_made(
    machine: Machine, health: Health | None, words: str
) -> None:
    machine.has_containers = health is not None
    if health is not None:
        machine.containers.health = health

    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("p"), await daemon.container("a")], [edge(0, 1)])
        report = await daemon.workflow_manager.plan(drawn.workflow_id)
        assert [list(job.reasons) for job in report.jobs] == [[], [words]]
        await daemon.workflow_manager.execute(drawn.workflow_id)
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.FAILED
        assert words in (execution.error or "")
        assert await daemon.story() == []

    machine.play(play)


# ---------------------------------------------------------------- restarts


def test_a_container_that_ran_meanwhile_is_found_and_collected(machine: Machine) -> None:
    async def first() -> None:
        async with machine.serve() as daemon:
            await _order(daemon, await daemon.container("a", Script(holds=True)))
            await daemon.until(lambda: daemon.containers.running() == ["job-1-1"])
        async with machine.serve() as daemon:
            await daemon.until(lambda: daemon.runner.has_handle(JOB))
            daemon.containers.let_go("a")
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert machine.containers.submitted == ["job-1-1"]

    asyncio.run(first())


AWAY = ExecutorUnavailable("no engine answers")


def test_after_a_restart_an_engine_that_is_away_is_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "FIND_AGAIN_S", 0.01)

    async def play() -> None:
        async with machine.serve() as daemon:
            await _order(daemon, await daemon.container("a", Script(holds=True)))
            await daemon.until(lambda: daemon.containers.running() == ["job-1-1"])
        machine.containers.find_error = AWAY
        machine.containers.scripts["a"].holds = False
        async with machine.serve() as daemon:
            await daemon.until(lambda: daemon.runner.trouble_of(JOB) == "no engine answers")
            because = "The DOCKER engine does not say what became of it: no engine answers. It is asked again."
            assert await _because(daemon) == because
            machine.containers.find_error = None
            await daemon.until(lambda: daemon.runner.has_handle(JOB))
            machine.containers.let_go("a")
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert machine.containers.submitted == ["job-1-1"]

    asyncio.run(play())


def test_an_engine_that_goes_away_while_it_is_asked_to_start_a_container_decides_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "FIND_AGAIN_S", 0.01)

    async def play(daemon: Daemon) -> None:
        daemon.containers.submit_error = AWAY
        daemon.containers.is_answer_lost = True
        daemon.containers.find_error = AWAY
        await _order(daemon, await daemon.container("a"))
        await daemon.until(lambda: daemon.runner.trouble_of(JOB) != "")
        daemon.containers.find_error = None
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert daemon.containers.submitted == ["job-1-1"]

    machine.play(play)


def test_a_container_whose_engine_stays_away_is_lost_in_the_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "FIND_AGAIN_S", 0.01)

    async def play() -> None:
        async with machine.serve() as daemon:
            await _order(daemon, await daemon.container("a", Script(holds=True), timeout_s=60.0))
            await daemon.until(lambda: daemon.containers.running() == ["job-1-1"])
        machine.containers.find_error = AWAY
        async with machine.serve() as daemon:
            await daemon.until(lambda: daemon.runner.trouble_of(JOB) != "")
            daemon.clock.move(299)
            asked = daemon.containers.finds
            await daemon.until(lambda: daemon.containers.finds > asked + 2)
            assert (await daemon.story())[0][1] == "RUNNING"
            daemon.clock.move(2)
            assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
            words = "lost: its engine does not say what became of it: no engine answers"
            assert await daemon.story() == [("a", "ERRORED", words)]

    asyncio.run(play())


@pytest.mark.parametrize("by", ["its time", "a cancel"])
def test_what_is_to_end_while_its_engine_stays_away_is_lost_in_the_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(job_runner, "KILL_AGAIN_S", 0.01)
    machine.deadlines = Deadlines(cancel_grace_s=0.01)

    async def play(daemon: Daemon) -> None:
        timeout_s = 0.05 if by == "its time" else 60.0
        await _order(daemon, await daemon.container("a", Script(holds=True), timeout_s=timeout_s))
        await daemon.until(lambda: daemon.containers.running() == ["job-1-1"])
        daemon.containers.is_silent = True
        if by == "a cancel":
            await daemon.workflow_manager.cancel(ONE, reason="enough")
        await daemon.until(lambda: daemon.runner.trouble_of(JOB) == "no engine answers")
        assert (await daemon.story())[0][1] == "RUNNING"
        daemon.clock.move(301)
        ended = await daemon.ended(ONE)
        assert ended.status is (ExecutionStatus.CANCELLED if by == "a cancel" else ExecutionStatus.FAILED)
        daemon.containers.is_silent = False

    machine.play(play)


@pytest.mark.parametrize("boot", ["boot 1", "boot 2"])
@pytest.mark.parametrize("is_here", [False, True])
def test_a_pull_begins_anew_after_a_restart_of_daemon_or_machine(machine: Machine, boot: str, is_here: bool) -> None:
    async def play() -> None:
        async with machine.serve() as daemon:
            daemon.images.holds = True
            await _order(daemon, await daemon.container("a", timeout_s=60.0))
            await _is_pulling(daemon)
        machine.boot_id = boot
        machine.images.holds = False
        if is_here:
            machine.images.put(facts=image_facts(1))
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
            assert len(daemon.images.pulled) == (1 if is_here else 2)
            assert await daemon.sql("SELECT pull_by FROM job_executions") == [(None,)]
        assert machine.containers.submitted == ["job-1-1"]

    asyncio.run(play())


def test_a_cancel_that_came_while_no_daemon_was_there_ends_the_pull(machine: Machine) -> None:
    async def play() -> None:
        async with machine.serve() as daemon:
            daemon.images.holds = True
            await _order(daemon, await daemon.container("a"))
            await _is_pulling(daemon)
        async with machine.serve(is_idle=True) as daemon:
            await daemon.workflow_manager.cancel(ONE, reason="enough")
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
            assert len(daemon.images.pulled) == 1
        assert machine.containers.submitted == []

    asyncio.run(play())


@pytest.mark.parametrize("dies_at", range(1, 24, 2))
def test_a_daemon_may_die_at_any_commit_and_no_container_runs_twice(machine: Machine, dies_at: int) -> None:
    """Each life ends one commit later than the one before; pulls and containers are among what they do."""

    async def play() -> None:
        async with machine.serve(is_idle=True) as daemon:
            await _order(daemon, await daemon.container("a"), await daemon.container("b"), edges=(edge(0, 1),))
        for life in range(60):
            async with machine.serve(dies_at=dies_at + life) as daemon:
                while not daemon.is_dead():
                    if (await daemon.sql("SELECT status FROM workflow_executions"))[0][0] not in ("PENDING", "RUNNING"):
                        return
                    await asyncio.sleep(0.005)
        raise AssertionError("it never comes to its end")

    asyncio.run(play())
    assert machine.containers.submitted == ["job-1-1", "job-2-1"]

    async def look(daemon: Daemon) -> None:
        assert await daemon.story() == [("a", "COMPLETED", None), ("b", "COMPLETED", None)]

    machine.play(look, is_idle=True)
