"""kill -9 of rnd-exec, and of who asked it, at every question that a run puts to the engine: it runs once, and all of it is there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from rnd.services import container_record
from rnd.services.docker_service import DockerExecutor
from rnd.services.executor import Executor, JobRun, Observation, Phase
from rnd.types.enums import LogStream
from rnd.types.errors import ExecutorUnavailable
from rnd.types.services import ResourceLimits
from tests.docker.engine_proxy import EngineProxy
from tests.docker.test_docker_service import DockerRuns
from tests.services.conformance import eventually
from tests.services.native_processes import name_of, processes_of

QUESTIONS = 12
"""More than a run without input puts to the engine; the test below says how many there are."""
SCRIPT = "echo once >>runs; echo out; echo err >&2; sleep 0.2; echo more; exit 7"


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    """What stands between rnd-exec and the engine."""
    found = EngineProxy(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", found.url)
    yield found
    found.close()


def exec_of(data_dir: Path) -> int:
    """Return the pid of the rnd-exec of a data directory."""
    [pid] = [pid for pid in processes_of(data_dir) if name_of(pid) == "rnd-exec"]
    return pid


class TestKills(DockerRuns):
    """See the module."""

    async def whole(self, executor: DockerExecutor, run: JobRun) -> Observation:
        """Run as the JobRunner does after a restart: find, and submit what is not found."""
        handle = await executor.find(run.engine_name, run.directory) or await executor.submit(run)
        end = await executor.wait(handle)
        await executor.cleanup(handle)
        return end

    def assert_ran_once(self, run: JobRun, end: Observation) -> None:
        assert (end.phase, end.exit_code, end.streams_cut) == (Phase.EXITED, 7, ())
        assert (run.directory / "output/runs").read_text() == "once\n"
        assert (run.directory / "logs/stdout.txt").read_text() == "out\nmore\n"
        assert (run.directory / "logs/stderr.txt").read_text() == "err\n"
        journal = (run.directory / "logs/logs.txt").read_text().splitlines()
        assert sorted(line.split(" ", 1)[1] for line in journal) == ["stderr err", "stdout more", "stdout out"]

    def test_a_run_puts_these_questions_to_the_engine(self, data_dir: Path, proxy: EngineProxy) -> None:
        run = self.order(data_dir, SCRIPT)
        ends: list[Observation] = []

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            handle = await executor.submit(run)
            ends.append(await executor.wait(handle))
            await executor.cleanup(handle)

        self.go(data_dir, test)
        self.assert_ran_once(run, ends[0])
        steps = [each.rpartition("/")[2] for each in proxy.questions]
        assert [step for step in steps if step in {"create", "attach", "wait", "start"}] == [
            "create", "attach", "wait", "start",
        ]  # fmt: skip
        assert len(proxy.questions) <= QUESTIONS

    @pytest.mark.parametrize("before", [True, False], ids=["unheard", "answered"])
    @pytest.mark.parametrize("number", range(1, QUESTIONS + 1))
    def test_rnd_exec_is_killed_at_a_question(
        self, data_dir: Path, proxy: EngineProxy, number: int, before: bool
    ) -> None:
        run = self.order(data_dir, SCRIPT)
        proxy.kill_at, proxy.before = number, before

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            self.assert_ran_once(run, await self.whole(executor, run))

        self.go(data_dir, test)
        assert proxy.killed.is_set() or len(proxy.questions) < number

    @pytest.mark.parametrize("before", [True, False], ids=["unheard", "answered"])
    @pytest.mark.parametrize("number", range(1, QUESTIONS + 1))
    def test_who_asked_is_killed_at_a_question(
        self, data_dir: Path, proxy: EngineProxy, number: int, before: bool
    ) -> None:
        run = self.order(data_dir, SCRIPT)
        proxy.kill_at, proxy.before = number, before
        asker = subprocess.Popen([sys.executable, "-c", ASKER, str(data_dir), self.image_id], cwd=Path.cwd())
        proxy.victim = asker.pid
        asker.wait(60)

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            self.assert_ran_once(run, await self.whole(executor, run))

        self.go(data_dir, test)

    @pytest.mark.parametrize("number", range(1, QUESTIONS + 3))
    def test_what_a_program_read_is_whole_or_it_has_failed(
        self, data_dir: Path, proxy: EngineProxy, number: int
    ) -> None:
        data = os.urandom(3 << 20)
        self.jobs_folder(data_dir).mkdir(parents=True)
        (self.jobs_folder(data_dir) / "data").write_bytes(data)
        run = self.order(data_dir, "sleep 0.1; cat >all", stdin_files=(self.jobs_folder(data_dir) / "data",))
        proxy.kill_at = number

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            end = await self.whole(executor, run)
            if end.exit_code == 0:
                assert (run.directory / "output/all").read_bytes() == data
            else:
                assert "standard input" in end.reason

        self.go(data_dir, test)

    def test_input_that_was_handed_over_arrives_although_its_feeder_is_gone(self, data_dir: Path) -> None:
        data = os.urandom(100_000)
        self.jobs_folder(data_dir).mkdir(parents=True)
        (self.jobs_folder(data_dir) / "data").write_bytes(data)
        run = self.order(data_dir, "sleep 2; cat >all", stdin_files=(self.jobs_folder(data_dir) / "data",))

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually(lambda: fed(run))
            os.kill(exec_of(data_dir), signal.SIGKILL)
            assert (await executor.wait(handle)).exit_code == 0
            assert (run.directory / "output/all").read_bytes() == data
            await executor.cleanup(handle)

        self.go(data_dir, test)

    @pytest.mark.parametrize("times", [1, 3])
    def test_output_is_whole_and_once_however_often_rnd_exec_is_killed(self, data_dir: Path, times: int) -> None:
        script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i%500)) = 0 ] && sleep 0.4; done; printf end"
        run = self.order(data_dir, script)

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            for turn in range(times):
                await eventually(lambda n=turn: f"{500 * n + 400}\n" in stdout(run))  # type: ignore[misc]  # bound now
                os.kill(exec_of(data_dir), signal.SIGKILL)
                await executor.find(run.engine_name, run.directory)
            end = await executor.wait(handle)
            assert (end.exit_code, end.streams_cut) == (0, ())
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert stdout(run) == "".join(f"{n}\n" for n in range(1, 3001)) + "end"
        journal = (run.directory / "logs/logs.txt").read_text().splitlines()
        assert [line.rpartition(" ")[2] for line in journal] == [*(str(n) for n in range(1, 3001)), "end"]

    def test_output_that_was_lost_never_passes_for_whole(self, data_dir: Path) -> None:
        """More than the engine keeps: what was there stays, and the streams are marked as cut."""
        run = self.order(
            data_dir, "head -c 50000000 /dev/zero; touch up; until test -e go; do sleep 0.02; done; echo x"
        )

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            await eventually(lambda: (run.directory / "logs/stdout.txt").stat().st_size == 50_000_000)
            os.kill(exec_of(data_dir), signal.SIGKILL)
            await executor.find(run.engine_name, run.directory)
            (run.directory / "output/go").touch()
            end = await executor.wait(handle)
            assert end.exit_code == 0
            assert set(end.streams_cut) == {LogStream.STDOUT, LogStream.STDERR, LogStream.LOGS}
            assert end.streams_lost
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert (run.directory / "logs/stdout.txt").read_bytes() == b"\0" * 50_000_000
        assert "is lost" in (run.directory / "logs/logs.txt").read_text(errors="replace")

    def test_a_cancel_is_remembered_by_the_next_rnd_exec(self, data_dir: Path) -> None:
        run = self.order(data_dir, "trap '' TERM; touch up; while :; do sleep 0.02; done")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            await executor.cancel(handle, 1.0)
            os.kill(exec_of(data_dir), signal.SIGKILL)
            end = await executor.wait(handle)
            assert (end.signal, end.reason) == (signal.SIGKILL, "ended because it was cancelled")
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_the_disk_limit_holds_after_a_restart_too(self, data_dir: Path) -> None:
        script = "head -c 600000 /dev/zero >a; touch up; until test -e go; do sleep 0.02; done; cat a >b; sleep 100"
        run = self.order(data_dir, script, limits=ResourceLimits(disk_bytes=1_000_000))

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            os.kill(exec_of(data_dir), signal.SIGKILL)
            await executor.find(run.engine_name, run.directory)
            (run.directory / "output/go").touch()
            end = await executor.wait(handle)
            assert "disk limit of 1000000 bytes" in end.reason
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_container_that_somebody_removed_is_lost_and_never_run_again(
        self, data_dir: Path, proxy: EngineProxy
    ) -> None:
        run = self.order(data_dir, "echo once >>runs; sleep 100")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/runs").exists)
            subprocess.run(
                ["docker", "rm", "-f", json.loads(handle)["container_id"]],
                check=True, stdout=subprocess.DEVNULL, env={"PATH": os.defpath},
            )  # fmt: skip
            end = await executor.wait(handle)
            assert (end.phase, "removed" in end.reason) in {(Phase.LOST, True), (Phase.EXITED, False)}
            again = await executor.submit(run)
            assert await executor.wait(again) == end
            await executor.cleanup(again)

        self.go(data_dir, test)
        assert (run.directory / "output/runs").read_text() == "once\n"

    def test_what_another_engine_process_was_to_start_may_have_run(self, data_dir: Path, engine: APIClient) -> None:
        """An engine that dies in the middle of a start does not know it afterwards; it is not started again."""
        run = self.order(data_dir, "echo once >>runs")
        body = {"Image": self.image_id, "Cmd": ["true"], "Labels": {"rnd.directory": str(run.directory)}}
        container_id = engine.create_container_from_config(body)["Id"]
        begun = container_record.Begun(run.engine_name, "true", [], True, 1000, 1000, None, 0, "")
        container_record.begin(str(run.directory), begun)
        container_record.add(str(run.directory), run.engine_name, created=container_id)
        container_record.add(str(run.directory), run.engine_name, starting="another boot, another process")

        async def test(executor: Executor) -> None:
            handle = await executor.find(run.engine_name, run.directory)
            assert handle is not None
            end = await executor.wait(handle)
            assert (end.phase, "may have run" in end.reason) == (Phase.LOST, True)
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_lost_record_is_no_lost_run(self, data_dir: Path) -> None:
        """As after a power cut: what was not synced is gone, what the engine has is not."""
        run = self.order(data_dir, SCRIPT)

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            os.kill(exec_of(data_dir), signal.SIGKILL)
            (run.directory / f"{run.engine_name}.{container_record.RECORD}").unlink()
            assert await executor.find(run.engine_name, run.directory) == handle
            self.assert_ran_once(run, await executor.wait(handle))
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_foreign_container_of_the_name_is_left_alone(self, data_dir: Path) -> None:
        run = self.order(data_dir, "exit 5", container={"name": f"job-foreign-{os.getpid()}"})
        name = run.container.name if run.container else ""
        docker = ["docker", "create", "--name", name, self.image_id, "/bin/true"]
        subprocess.run(docker, check=True, stdout=subprocess.DEVNULL)
        try:

            async def test(executor: Executor) -> None:
                assert isinstance(executor, DockerExecutor)
                handle = await executor.submit(run)
                [own] = await executor.containers()
                assert own.name.startswith(f"{name}-")
                assert (own.engine_name, own.labels["rnd.peer"]) == (run.engine_name, "rnTEST")
                assert (await executor.wait(handle)).exit_code == 5
                await executor.cleanup(handle)
                assert await executor.containers() == ()

            self.go(data_dir, test)
        finally:
            subprocess.run(["docker", "rm", name], check=True, stdout=subprocess.DEVNULL)

    def test_what_nothing_knows_of_can_be_listed_and_discarded(self, data_dir: Path) -> None:
        run = self.order(data_dir, "sleep 1000")

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            await executor.submit(run)
            [own] = await executor.containers()
            await executor.discard(own)
            await executor.discard(own)
            assert await executor.containers() == ()

        self.go(data_dir, test)

    def test_an_engine_that_is_not_there_is_a_reason_and_no_run(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        run = self.order(data_dir, "exit 0")

        async def test(executor: Executor) -> None:
            health = await executor.check()
            assert not health.available
            assert "/nowhere/docker.sock" in (health.reason or "")
            with pytest.raises(ExecutorUnavailable, match="/nowhere/docker"):
                await executor.submit(run)

        self.go(data_dir, test)

    def test_a_run_goes_on_while_its_engine_cannot_be_asked(self, data_dir: Path, proxy: EngineProxy) -> None:
        run = self.order(data_dir, "touch up; until test -e go; do sleep 0.02; done; echo went; exit 6")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            proxy.refuses = True
            proxy.cut()
            async with asyncio.timeout(20):
                while "does not answer" not in (seen := (await executor.poll([handle]))[handle]).reason:
                    await asyncio.sleep(0.02)
            assert seen.phase is Phase.UNKNOWN
            (run.directory / "output/go").touch()
            proxy.refuses = False
            assert (await executor.wait(handle)).exit_code == 6
            assert stdout(run) == "went\n"
            await executor.cleanup(handle)

        self.go(data_dir, test)


def fed(run: JobRun) -> bool:
    """Say whether all input has been handed over."""
    record = container_record.read(str(run.directory), run.engine_name)
    return record is not None and record.fed


def stdout(run: JobRun) -> str:
    """Return what has been captured so far."""
    try:
        return (run.directory / "logs/stdout.txt").read_text(errors="replace")
    except FileNotFoundError:
        return ""


ASKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.docker.test_kills import SCRIPT, TestKills
from rnd.services.docker_service import DockerExecutor

async def ask():
    kills = TestKills()
    kills.image_id = sys.argv[2]
    data_dir = Path(sys.argv[1])
    executor = DockerExecutor(data_dir)
    run = kills.order(data_dir, SCRIPT)
    handle = await executor.submit(run)
    await executor.wait(handle)

asyncio.run(ask())
"""
