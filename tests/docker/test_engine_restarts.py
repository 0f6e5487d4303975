"""An engine that is stopped or killed while containers run, and comes back: a dockerd of our own, beside the one that others use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnd.services.executor import Executor, JobRun, Observation, Phase
from tests.docker.engine import START_TIMEOUT_S, connect, import_image, is_up, unfit
from tests.docker.test_docker_service import DockerRuns
from tests.docker.test_kills import stdout
from tests.services.conformance import eventually
from tests.services.native_processes import assert_no_processes

SCRIPT = "touch up; echo before; until test -e go; do sleep 0.05; done; echo after; touch done; exit 6"


class Dockerd:
    """One engine with everything of its own; containerd runs on beside it, as it does under systemd."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = str(folder / "docker.sock")
        self._folder = folder
        self._options = (*options, "--containerd", str(folder / "containerd.sock"))
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "containerd.toml").write_text(
            f'version = 2\nroot = "{folder}/croot"\nstate = "{folder}/cstate"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{folder}/containerd.sock"\n'
        )
        with (folder / "containerd.log").open("ab") as log:
            self._containerd = subprocess.Popen(
                ["containerd", "--config", str(folder / "containerd.toml")], stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start, and return when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--net"),  # else it would take down the bridge of the other one
                    *("dockerd", "--host", f"unix://{self.socket}", "--data-root", str(self._folder / "data")),
                    *("--exec-root", str(self._folder / "exec"), "--pidfile", str(self._folder / "pid")),
                    *("--bridge", "none", "--iptables=false", "--ip-forward=false", "--shutdown-timeout", "3"),
                    *self._options,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + START_TIMEOUT_S
        while not is_up(self.socket):
            if self._process.poll() is not None or time.monotonic() > until:
                unfit(f"a second dockerd does not start: {(self._folder / 'log').read_text()[-500:]}")
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> None:
        """End it, and return when it has."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(START_TIMEOUT_S)
        if number == signal.SIGKILL:
            (self._folder / "pid").unlink(missing_ok=True)

    def has_running(self) -> bool:
        """Say whether it knows, also on disk, that a container runs."""
        client = connect(self.socket)
        try:
            return bool(client.containers())
        finally:
            client.close()

    def clear(self) -> None:
        """Remove what is left in it, and end it."""
        client = connect(self.socket)
        for each in client.containers(all=True):
            client.remove_container(each["Id"], force=True)
        client.close()
        self.end(signal.SIGTERM)
        self._containerd.terminate()
        self._containerd.wait(START_TIMEOUT_S)


@pytest.fixture(params=[(), ("--live-restore",)], ids=["plain", "live-restore"])
def dockerd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dockerd]:
    """An engine that may be killed."""
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        unfit("no container engine can be started here (needs root and Debian's docker.io)")
    folder = Path(tempfile.mkdtemp(prefix="rnd-dockerd-", dir="/tmp"))
    found = Dockerd(folder, *request.param)
    found.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{found.socket}")
    yield found
    found.clear()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lives(request: pytest.FixtureRequest) -> bool:
    """Whether containers outlive their engine."""
    return bool(request.node.callspec.params["dockerd"])


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose processes must all be gone at the end."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    yield directory
    assert_no_processes(directory)


@pytest.fixture
def image_id(dockerd: Dockerd) -> str:
    """The image in that engine."""
    client = connect(dockerd.socket)
    try:
        return import_image(client)
    finally:
        client.close()


class TestEngineRestarts(DockerRuns):
    """The run is found again, and what is said of it is true."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_the_engine_goes_and_comes_back_while_a_container_runs(
        self, data_dir: Path, dockerd: Dockerd, lives: bool, number: signal.Signals
    ) -> None:
        run = self.order(data_dir, SCRIPT)
        ends: list[Observation] = []

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually(lambda: dockerd.has_running())
            await eventually((run.directory / "output/up").exists)
            dockerd.end(number)
            dockerd.start()
            (run.directory / "output/go").touch()
            ends.append(await executor.wait(handle))
            await executor.cleanup(handle)
            assert await executor.find("job-2-1", run.directory) is None

        self.go(data_dir, test)
        self.assert_true(run, ends[0], lives)

    def assert_true(self, run: JobRun, end: Observation, lives: bool) -> None:
        if lives or end.exit_code == 6:
            assert (end.phase, end.exit_code) == (Phase.EXITED, 6)
            assert stdout(run) == "before\nafter\n"
        else:
            assert end.phase is Phase.LOST or end.signal is not None or end.exit_code not in (0, None)
            assert "before" in stdout(run)

    def test_a_container_that_ends_while_the_engine_is_away_is_accounted_for(
        self, data_dir: Path, dockerd: Dockerd, lives: bool
    ) -> None:
        run = self.order(data_dir, SCRIPT)
        ends: list[Observation] = []

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually(lambda: dockerd.has_running())
            await eventually((run.directory / "output/up").exists)
            dockerd.end(signal.SIGKILL)
            (run.directory / "output/go").touch()
            await eventually((run.directory / "output/done").exists)
            seen = (await executor.poll([handle]))[handle]
            assert seen.phase in {Phase.UNKNOWN, Phase.RUNNING}
            dockerd.start()
            ends.append(await executor.wait(handle))
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert ends[0].phase in {Phase.EXITED, Phase.LOST}
        assert ends[0].exit_code != 0
        assert "before" in stdout(run)
