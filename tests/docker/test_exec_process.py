"""rnd-exec as a process: another release takes over from it, a service manager runs it, it ends when it is told to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from rnd.services import exec_client
from rnd.services.docker_service import DockerExecutor
from rnd.services.executor import Executor, Phase
from rnd.types.errors import ExecutorUnavailable
from tests.docker.exec_unit import ExecUnit
from tests.docker.test_docker_service import DockerRuns
from tests.docker.test_kills import exec_of, stdout
from tests.running_peer import PROJECT
from tests.services.conformance import eventually

SCRIPT = "echo once >>runs; echo before; until test -e go; do sleep 0.02; done; echo after; exit 6"


class TestAnotherRelease(DockerRuns):
    """A daemon finds an rnd-exec that a daemon of another release has started."""

    def test_its_runs_go_on_under_the_new_one(self, data_dir: Path) -> None:
        run = self.order(data_dir, SCRIPT)

        async def test(executor: Executor) -> None:
            old = DockerExecutor(data_dir, version="0.0.1")
            handle = await old.submit(run)
            await eventually(lambda: stdout(run) == "before\n")
            pid = exec_of(data_dir)
            assert await executor.find(run.engine_name, run.directory) == handle
            assert exec_of(data_dir) != pid
            (run.directory / "output/go").touch()
            end = await executor.wait(handle)
            assert (end.phase, end.exit_code, end.streams_cut) == (Phase.EXITED, 6, ())
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert stdout(run) == "before\nafter\n"
        assert (run.directory / "output/runs").read_text() == "once\n"

    def test_it_hands_over_only_when_the_input_of_a_program_is_whole(self, data_dir: Path) -> None:
        data = os.urandom(3 << 20)
        self.jobs_folder(data_dir).mkdir(parents=True)
        (self.jobs_folder(data_dir) / "data").write_bytes(data)
        script = "touch up; sleep 1; cat >all"
        run = self.order(data_dir, script, stdin_files=(self.jobs_folder(data_dir) / "data",))

        async def test(executor: Executor) -> None:
            handle = await DockerExecutor(data_dir, version="0.0.1").submit(run)
            await eventually((run.directory / "output/up").exists)
            assert await executor.find(run.engine_name, run.directory) == handle
            assert (await executor.wait(handle)).exit_code == 0
            assert (run.directory / "output/all").read_bytes() == data
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_two_daemons_of_two_releases_do_not_take_turns_for_ever(self, data_dir: Path) -> None:
        async def test(executor: Executor) -> None:
            old = DockerExecutor(data_dir, version="0.0.1")
            assert (await old.check()).available
            assert (await executor.check()).available  # has sent the old one's rnd-exec away
            assert (await old.check()).available  # and the other way round
            health = await executor.check()
            assert not health.available
            assert "is of release 0.0.1 and this daemon of" in (health.reason or "")
            await old.close()

        self.go(data_dir, test)


class TestUnit(DockerRuns):
    """A service manager runs rnd-exec."""

    def test_it_says_when_it_is_there_and_stays_when_the_daemon_goes(self, data_dir: Path, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(str(tmp_path / "notify"))
            channel.settimeout(30)
            with ExecUnit(data_dir, NOTIFY_SOCKET=str(tmp_path / "notify")) as unit:
                assert channel.recv(100) == b"READY=1"

                async def test(executor: Executor) -> None:
                    assert (await executor.check()).available
                    assert exec_of(data_dir) == unit.pid

                self.go(data_dir, test)
                self.go(data_dir, test)

    def test_a_restart_loses_nothing_and_nobody_takes_its_seat_meanwhile(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exec_client, "UNIT_TIMEOUT_S", 0.3)
        run = self.order(data_dir, SCRIPT)

        async def test(executor: Executor) -> None:
            with ExecUnit(data_dir):
                handle = await executor.submit(run)
                await eventually(lambda: stdout(run) == "before\n")
            with pytest.raises(ExecutorUnavailable, match="systemctl start rnd-exec"):
                await executor.find(run.engine_name, run.directory)
            with ExecUnit(data_dir):
                assert await executor.find(run.engine_name, run.directory) == handle
                (run.directory / "output/go").touch()
                end = await executor.wait(handle)
                assert (end.exit_code, end.streams_cut) == (6, ())
                await executor.cleanup(handle)

        self.go(data_dir, test)
        assert stdout(run) == "before\nafter\n"
        assert (run.directory / "output/runs").read_text() == "once\n"

    def test_where_a_daemon_has_started_one_the_unit_says_so_and_fails(self, data_dir: Path) -> None:
        async def test(executor: Executor) -> None:
            await executor.check()
            pid = exec_of(data_dir)
            unit = ExecUnit(data_dir)
            assert unit.wait() == 1
            assert "another rnd-exec has this data directory" in unit.words()
            assert exec_of(data_dir) == pid

        self.go(data_dir, test)

    @pytest.mark.parametrize("arguments", [[], ["--foreground"], ["a", "b", "c"]])
    def test_its_entry_says_how_it_is_called(self, arguments: list[str]) -> None:
        done = subprocess.run(ExecUnit.COMMAND + arguments, capture_output=True, cwd=PROJECT, check=False)
        assert done.returncode == 1 if arguments != ["--foreground"] else done.returncode != 0
        assert b"Entry of rnd-exec" in done.stderr

    def test_the_unit_file_is_one(self) -> None:
        if shutil.which("systemd-analyze") is None:
            pytest.skip("there is no systemd-analyze")
        unit = PROJECT / "systemd/rnd-exec.service"
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        [line] = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
        assert line.split()[1:] == [*ExecUnit.COMMAND[1:], "/var/lib/rnd", "--foreground"]


def test_a_signal_is_no_loss(data_dir: Path, engine: object) -> None:
    """SIGTERM ends it in order, as a service manager asks."""
    unit = ExecUnit(data_dir)
    unit.await_listener()
    os.kill(unit.pid, signal.SIGTERM)
    assert unit.wait() == 0
    assert not (data_dir / "run/exec.sock").exists()


def test_who_does_not_read_what_it_was_told_keeps_it_from_nobody(data_dir: Path, engine: object) -> None:
    """A daemon that is stopped, say; the one that wants the seat is answered, and gets it."""
    unit = ExecUnit(data_dir)
    unit.await_listener()
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as next_one:
        for each in (deaf, next_one):
            each.connect(str(data_dir / "run/exec.sock"))
        deaf.sendall(json.dumps({"id": "x" * (8 << 20), "op": "hello"}).encode() + b"\n")
        assert deaf.recv(1, socket.MSG_PEEK) == b"{"
        next_one.sendall(b'{"id": 1, "op": "retire"}\n')
        assert next_one.recv(100) == b'{"id": 1}\n'
        assert unit.wait() == 0
