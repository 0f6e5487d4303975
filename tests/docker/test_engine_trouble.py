"""An engine that is slow, has no room, or holds a container still: right ends, right words, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from docker import APIClient

from rnd.services import engine_streams, seat
from rnd.services.docker_service import DockerExecutor
from rnd.services.engine import Engine
from rnd.services.exec_client import SEAT
from rnd.services.exec_server import ExecServer
from rnd.services.executor import Executor, Phase
from rnd.types.errors import ExecutorUnavailable
from tests.docker.engine import connect, import_image, unfit
from tests.docker.engine_proxy import EngineProxy
from tests.docker.test_docker_service import DockerRuns
from tests.docker.test_engine_restarts import Dockerd
from tests.docker.test_kills import stdout
from tests.services.conformance import eventually

CREATE, START, PULL = "POST /containers/create", "POST /containers/ID/start", "POST /images/create"
ATTACH = "POST /containers/ID/attach"
FULL = "mkdir /var/lib/docker/overlay2/0: no space left on device"
WHAT_TO_DO = "docker system prune frees it"
IMPATIENT_S = 1


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    """What stands between rnd-exec and the engine."""
    found = EngineProxy(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", found.url)
    yield found
    found.let_go(drop=True)
    found.close()


class TestSlow(DockerRuns):
    """An engine that takes its time."""

    def test_all_is_well_with_seconds_at_every_question(self, data_dir: Path, proxy: EngineProxy) -> None:
        proxy.slow_s = 1.5
        end, directory = self.end_of(data_dir, "echo once >>runs; echo out; exit 7")
        assert (end.phase, end.exit_code, end.streams_cut) == (Phase.EXITED, 7, ())
        assert (directory / "output/runs").read_text() == "once\n"
        assert (directory / "logs/stdout.txt").read_text() == "out\n"

    def test_a_cancel_is_heard_by_a_slow_engine_too(self, data_dir: Path, proxy: EngineProxy) -> None:
        run = self.order(data_dir, "trap 'exit 5' TERM; touch up; while :; do sleep 0.05; done")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            proxy.slow_s = 2.0
            await executor.cancel(handle, 10.0)
            end = await executor.wait(handle)
            assert (end.exit_code, end.reason) == (5, "ended because it was cancelled")
            await executor.cleanup(handle)

        self.go(data_dir, test)


class TestImpatient(DockerRuns):
    """The engine is given up sooner than it answers."""

    @asynccontextmanager
    async def open_executor(self, data_dir: Path) -> AsyncIterator[DockerExecutor]:
        """Have rnd-exec in this process, so that its patience can be short."""
        folder = seat.open_folder(os.fspath(data_dir))
        lock = seat.take(folder, SEAT)
        assert lock is not None
        engine = Engine(os.environ["DOCKER_HOST"], call_timeout_s=IMPATIENT_S)
        server = ExecServer(os.fspath(data_dir), seat.listen(folder, SEAT), engine, stays=False)
        executor = DockerExecutor(data_dir)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            yield executor
            await executor.close()
        os.close(lock)
        os.close(folder)

    @pytest.mark.parametrize("heard", [False, True], ids=["asked twice", "made meanwhile"])
    def test_a_create_that_takes_too_long_makes_one_container(
        self, data_dir: Path, proxy: EngineProxy, engine: APIClient, heard: bool
    ) -> None:
        run = self.order(data_dir, "echo once >>runs; until test -e go; do sleep 0.05; done; exit 7")
        proxy.hold_at, proxy.hold_answer = CREATE, heard

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            proxy.let_go()
            assert isinstance(executor, DockerExecutor)
            await asyncio.sleep(0.5)  # for what was held up to be refused
            [own] = await executor.containers()
            assert run.container is not None
            assert own.name == run.container.name
            (run.directory / "output/go").touch()
            assert (await executor.wait(handle)).exit_code == 7
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert (run.directory / "output/runs").read_text() == "once\n"

    def test_a_create_that_is_under_way_is_waited_for(self, data_dir: Path, proxy: EngineProxy) -> None:
        """The second question finds the name taken, and the container not there yet."""
        run = self.order(data_dir, "echo once >>runs; exit 7")
        proxy.hold_at = CREATE

        async def test(executor: Executor) -> None:
            submitted = asyncio.ensure_future(executor.submit(run))
            await asyncio.to_thread(proxy.held.wait)
            proxy.refusals[CREATE] = (409, 'Conflict. The container name "/job-1" is already in use')
            await eventually(lambda: proxy.questions.count(CREATE) == 2)
            proxy.refusals.clear()
            proxy.let_go()
            handle = await submitted
            assert (await executor.wait(handle)).exit_code == 7
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert (run.directory / "output/runs").read_text() == "once\n"

    def test_a_start_that_is_heard_late_is_the_only_one(self, data_dir: Path, proxy: EngineProxy) -> None:
        """It is asked again, and meanwhile the first question is heard, and the program has ended."""
        run = self.order(data_dir, "echo once >>runs; exit 7")
        proxy.hold_at = START

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            assert await asyncio.to_thread(proxy.held.wait, 20)
            proxy.held.clear()
            proxy.hold_at = ATTACH
            assert await asyncio.to_thread(proxy.held.wait, 20)
            proxy.slow_s = 0.6
            proxy.let_go()
            assert (await executor.wait(handle)).exit_code == 7
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert (run.directory / "output/runs").read_text() == "once\n"


class TestInput(DockerRuns):
    """What a program is to read cannot be handed over."""

    def test_a_program_that_would_wait_for_it_for_ever_is_ended(self, data_dir: Path, proxy: EngineProxy) -> None:
        self.jobs_folder(data_dir).mkdir(parents=True)
        (self.jobs_folder(data_dir) / "data").write_bytes(b"data")
        run = self.order(data_dir, "cat >all", stdin_files=(self.jobs_folder(data_dir) / "data",))
        proxy.hold_at = START

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            assert await asyncio.to_thread(proxy.held.wait, 20)
            proxy.refusals[ATTACH] = (500, "too many open files")
            proxy.let_go()
            async with asyncio.timeout(20):
                end = await executor.wait(handle)
            assert (end.signal, end.reason) == (
                signal.SIGKILL, "its standard input cannot be handed over: too many open files",
            )  # fmt: skip
            await executor.cleanup(handle)

        self.go(data_dir, test)


class TestPulls(DockerRuns):
    """A pull is for those who wait for it."""

    def test_it_is_called_off_when_the_last_who_wants_it_has_gone(self, data_dir: Path, proxy: EngineProxy) -> None:
        proxy.hold_at, proxy.hold_answer = PULL, True

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            name = "127.0.0.1:1/nobody/has:this"
            pulls = [asyncio.ensure_future(executor.pull(name, None, lambda _: None)) for _ in range(2)]
            assert await asyncio.to_thread(proxy.held.wait, 20)
            before = proxy.hung_up
            pulls[0].cancel()
            assert (await executor.check()).available  # is answered after the first has gone
            assert proxy.hung_up == before
            pulls[1].cancel()
            await eventually(lambda: proxy.hung_up > before)
            proxy.let_go()
            with pytest.raises(ExecutorUnavailable, match="refused"):
                await executor.pull(name, None, lambda _: None)
            assert proxy.questions.count(PULL) == 2

        self.go(data_dir, test)

    def test_who_comes_in_the_moment_it_is_called_off_begins_anew(self, data_dir: Path, proxy: EngineProxy) -> None:
        """And whoever comes after that waits for the same new pull."""
        proxy.hold_at, proxy.hold_answer = PULL, True
        image = {"op": "pull", "image": "127.0.0.1:1/nobody/has:this", "auth": None}

        async def test(executor: Executor) -> None:
            assert (await executor.check()).available
            reader, writer = await asyncio.open_unix_connection(data_dir / "run/exec.sock")
            writer.write(json.dumps({"id": 1, **image}).encode() + b"\n")
            assert await asyncio.to_thread(proxy.held.wait, 20)
            proxy.held.clear()
            proxy.hold_at = PULL
            both = ({"id": 1, "op": "abandon"}, {"id": 2, **image})
            writer.write(b"".join(json.dumps(each).encode() + b"\n" for each in both))
            assert await asyncio.to_thread(proxy.held.wait, 20)
            writer.write(b"".join(json.dumps(each).encode() + b"\n" for each in ({"id": 3, **image}, {"id": 4})))
            assert json.loads(await reader.readline())["id"] == 4  # by which the one before has been heard
            proxy.let_go()
            refused = set()
            async with asyncio.timeout(20):
                while refused != {2, 3}:
                    answer = json.loads(await reader.readline())
                    if "error" in answer:
                        refused.add(answer["id"])
                        assert "refused" in answer["error"]
            assert proxy.questions.count(PULL) == 2
            writer.close()
            await writer.wait_closed()

        self.go(data_dir, test)


class TestNoRoom(DockerRuns):
    """An engine whose disk is full says so, and rnd what to do."""

    def test_a_container_that_cannot_be_created(self, data_dir: Path, proxy: EngineProxy) -> None:
        proxy.refusals[CREATE] = (500, FULL)
        run = self.order(data_dir, "exit 0", secrets={"key": b"hush"})

        async def test(executor: Executor) -> None:
            with pytest.raises(ExecutorUnavailable, match=WHAT_TO_DO):
                await executor.submit(run)
            assert await executor.find(run.engine_name, run.directory) is None
            proxy.refusals.clear()  # somebody has made room: the same run can be had
            handle = await executor.submit(run)
            assert (await executor.wait(handle)).exit_code == 0
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_container_that_cannot_be_started(self, data_dir: Path, proxy: EngineProxy) -> None:
        proxy.refusals[START] = (500, FULL)
        end, _ = self.end_of(data_dir, "exit 0")
        assert end.phase is Phase.REJECTED
        assert WHAT_TO_DO in end.reason

    def test_an_image_that_cannot_be_pulled(self, data_dir: Path, proxy: EngineProxy) -> None:
        proxy.refusals[PULL] = (500, "write /var/lib/docker/tmp/GetImageBlob0: no space left on device")

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            with pytest.raises(ExecutorUnavailable, match=WHAT_TO_DO):
                await executor.pull("registry.example/team/tool:1", None, lambda _: None)

        self.go(data_dir, test)

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
    def test_a_disk_that_is_full_in_truth(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if shutil.which("dockerd") is None:
            unfit("no container engine can be started here (needs Debian's docker.io)")
        folder = Path(tempfile.mkdtemp(prefix="rnd-dockerd-", dir="/tmp"))
        (folder / "data").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", folder / "data"], check=True)
        dockerd = Dockerd(folder)
        try:
            dockerd.start()
            monkeypatch.setenv("DOCKER_HOST", f"unix://{dockerd.socket}")
            client = connect(dockerd.socket)
            self.image_id = import_image(client)
            fill(folder / "data" / "filler")
            run = self.order(data_dir, "exit 0")

            async def test(executor: Executor) -> None:
                with pytest.raises(ExecutorUnavailable, match=WHAT_TO_DO):
                    await executor.submit(run)
                assert client.containers(all=True) == []
                (folder / "data" / "filler").unlink()
                handle = await executor.submit(run)
                assert (await executor.wait(handle)).exit_code == 0
                await executor.cleanup(handle)

            self.go(data_dir, test)
            client.close()
        finally:
            dockerd.clear()
            subprocess.run(["umount", folder / "data"], check=True)
            shutil.rmtree(folder, ignore_errors=True)


def fill(path: Path) -> None:
    """Write until the disk takes no more."""
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 12))


class TestCancels(DockerRuns):
    """A cancel in each state."""

    @pytest.mark.parametrize(("grace_s", "code", "number"), [(20.0, 5, None), (0.0, None, signal.SIGKILL)])
    def test_of_a_container_that_somebody_has_paused(
        self, data_dir: Path, engine: APIClient, grace_s: float, code: int | None, number: int | None
    ) -> None:
        run = self.order(data_dir, "trap 'exit 5' TERM; touch up; while :; do sleep 0.05; done")

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            [own] = await executor.containers()
            engine.pause(own.container_id)
            assert (await executor.poll([handle]))[handle].phase is Phase.RUNNING
            await executor.cancel(handle, grace_s)
            async with asyncio.timeout(15):
                end = await executor.wait(handle)
            assert (end.exit_code, end.signal, end.reason) == (code, number, "ended because it was cancelled")
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_of_a_container_that_is_being_started(self, data_dir: Path, proxy: EngineProxy) -> None:
        run = self.order(data_dir, "echo up; sleep 1000")
        proxy.hold_at = START

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await asyncio.to_thread(proxy.held.wait)
            await executor.cancel(handle, 0.0)
            proxy.let_go()
            end = await executor.wait(handle)
            assert (end.signal, end.reason) == (signal.SIGKILL, "ended because it was cancelled")
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_of_a_container_that_nobody_has_started_yet(self, data_dir: Path, proxy: EngineProxy) -> None:
        run = self.order(data_dir, "echo once >>runs")
        proxy.hold_at = ATTACH

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await asyncio.to_thread(proxy.held.wait)
            await executor.cancel(handle, 5.0)
            proxy.let_go()
            end = await executor.wait(handle)
            assert (end.phase, end.reason) == (Phase.REJECTED, "it was cancelled before it started")
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert not (run.directory / "output/runs").exists()
        assert stdout(run) == ""


def test_an_engine_elsewhere_is_refused_in_words(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not have the folders of jobs; and the usual socket is not what was asked for."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")

    async def test() -> None:
        executor = DockerExecutor(data_dir)
        health = await executor.check()
        assert not health.available
        assert "DOCKER_HOST must be unix:///..., not tcp://elsewhere:2375" in (health.reason or "")
        await executor.close()

    asyncio.run(test())


def test_words_of_no_room_are_said_once() -> None:
    words = engine_streams.EngineRefused(500, FULL).words
    assert engine_streams.EngineRefused(500, words).words == words
