"""Confined runs from outside: how they begin and end, what the owner opens, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path

import pytest

from rnd.services.executor import Confinement, Executor, Observation, Phase, Place
from rnd.services.standalone_service import StandaloneExecutor
from rnd.types.services import ResourceLimits
from tests.services.confined import NativeConfinedHarness, own_places
from tests.services.conformance import eventually
from tests.services.native_processes import processes_of

pytestmark = pytest.mark.usefixtures("confinement")


class TestRuns(NativeConfinedHarness):
    """How confined runs begin and end."""

    @pytest.mark.parametrize(
        ("script", "code", "number"), [("exit 7", 7, None), ("kill -SEGV $$", None, 11), ("kill -TERM $$", None, 15)]
    )
    def test_ends_are_what_they_are(self, data_dir: Path, script: str, code: int | None, number: int | None) -> None:
        end, _ = self.end_of(data_dir, script)
        assert (end.exit_code, end.signal) == (code, number)

    def test_an_executable_anywhere_is_seen_and_nothing_beside_it(self, data_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "tool").mkdir()
        script = tmp_path / "tool/run.sh"
        script.write_text('#!/bin/sh\ncat "$0" >/dev/null && echo seen; ls "${0%/*}/beside" || echo alone\n')
        script.chmod(0o755)
        (tmp_path / "tool/beside").write_text("x")
        end, directory = self.end_of(data_dir, "", argv=(str(script),))
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_text() == "seen\nalone\n"

    def test_a_script_whose_interpreter_is_out_of_sight_says_so(self, data_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "sh").write_bytes(Path("/bin/sh").read_bytes())
        (tmp_path / "sh").chmod(0o755)
        script = tmp_path / "run.sh"
        script.write_text(f"#!{tmp_path}/sh\n")
        script.chmod(0o755)
        end, _ = self.end_of(data_dir, "", argv=(str(script),))
        assert end.phase is Phase.REJECTED
        assert "interpreter" in end.reason
        assert "it runs confined" in end.reason
        end, _ = self.end_of(data_dir, "", argv=(str(script),), places=(Place(path=tmp_path / "sh"),), number=2)
        assert end.exit_code == 0

    def test_a_working_directory_out_of_sight_is_rejected_in_words(self, data_dir: Path, tmp_path: Path) -> None:
        end, _ = self.end_of(data_dir, "exit 0", working_directory=tmp_path)
        assert end.phase is Phase.REJECTED or end.exit_code == 0  # the way to the job's folder leads through it
        end, _ = self.end_of(data_dir, "exit 0", working_directory=Path("/var/lib"), number=2)
        assert end.phase is Phase.REJECTED
        assert "working directory /var/lib cannot be entered" in end.reason

    def test_a_path_of_the_owner_that_is_gone_rejects_the_run(self, data_dir: Path, tmp_path: Path) -> None:
        end, _ = self.end_of(data_dir, "exit 0", places=(Place(path=tmp_path / "gone"),))
        assert end.phase is Phase.REJECTED
        assert end.reason == f"/bin/sh cannot be confined: No such file or directory: {tmp_path}/gone"

    def test_an_argument_that_cannot_be_one_rejects_the_run_in_words(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "exit 0", "a\0b")
        assert end.phase is Phase.REJECTED
        assert "NUL byte" in end.reason

    @pytest.mark.parametrize("path", ["/dev", "/dev/shm", "/bin", "/usr/bin", "/sys", "/etc"])
    def test_the_owner_may_open_what_the_system_has_too(self, data_dir: Path, path: str) -> None:
        end, directory = self.end_of(data_dir, f"ls {path}/ > /dev/null && echo seen", places=(Place(path=Path(path)),))
        assert end.exit_code == 0, (end, (directory / "logs/stderr.txt").read_text())
        assert (directory / "logs/stdout.txt").read_text() == "seen\n"

    def test_a_link_in_the_place_of_an_own_folder_rejects_the_run(self, data_dir: Path, tmp_path: Path) -> None:
        run = self.order(data_dir, "exit 0")
        (run.directory / "tmp").symlink_to(tmp_path)
        end, _ = self.end_of(data_dir, "exit 0")
        assert end.phase is Phase.REJECTED
        assert "link" in end.reason

    def test_standard_input_cannot_be_opened_anew_to_write(self, data_dir: Path) -> None:
        given = data_dir / "jobs/1/input/given"
        given.parent.mkdir(parents=True)
        given.write_text("given")
        script = "cat < /proc/self/fd/0; echo more >> /proc/self/fd/0 || echo refused"
        _, directory = self.end_of(data_dir, script, stdin_files=(given,))
        assert (directory / "logs/stdout.txt").read_text() == "givenrefused\n"
        assert given.read_text() == "given"

    def test_signals_are_at_their_defaults(self, data_dir: Path) -> None:
        script = "grep -E 'Sig(Blk|Ign)' /proc/self/status"
        _, directory = self.end_of(data_dir, script, places=(Place(path=Path("/proc")),))
        assert (directory / "logs/stdout.txt").read_text().split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]

    def test_limits_act(self, data_dir: Path) -> None:
        limits = ResourceLimits(disk_bytes=1000, open_files=20, memory_bytes=1 << 28)
        script = "ulimit -n; ulimit -d; head -c 5000 /dev/zero > big"
        end, directory = self.end_of(data_dir, script, limits=limits)
        assert (directory / "logs/stdout.txt").read_text().split() == ["20", str((1 << 28) // 1024)]
        assert "killed by the disk limit of 1000 bytes" in end.reason
        # The kernel stops it beyond the limit and the largest file that lay there, here the record of the run.
        assert 1000 < (directory / "output/big").stat().st_size < 2000

    def test_a_limit_on_processes_acts(self, data_dir: Path) -> None:
        end, _ = self.end_of(
            data_dir, "for i in 1 2 3 4 5 6; do sleep 1000 & done; wait", limits=ResourceLimits(pids=4)
        )
        assert end.signal == signal.SIGKILL
        assert "limit of 4 processes" in end.reason

    def test_cancel_ends_a_family_with_sessions_of_its_own(self, data_dir: Path) -> None:
        script = "trap '' TERM; setsid sleep 1000 & (setsid sh -c 'trap \"\" TERM; sleep 1000; :' &) ; touch up; wait; sleep 1000"
        run = self.order(data_dir, script)
        ends: list[Observation] = []

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            await executor.cancel(handle, 0.1)
            ends.append(await executor.wait(handle))
            assert not any("sleep 1000" in line for line in processes_of(data_dir).values())
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert ends[0].signal == signal.SIGKILL

    def test_a_confined_run_whose_keeper_is_killed_is_lost_and_ended(self, data_dir: Path) -> None:
        run = self.order(data_dir, "setsid sleep 1000 & touch up; wait")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            os.kill(json.loads(handle)["keeper_pid"], signal.SIGKILL)
            assert (await executor.wait(handle)).phase is Phase.LOST

        self.go(data_dir, test)

    def test_temporary_files_of_the_machine_are_the_jobs_own(self) -> None:
        """Where nothing else has to be seen below /tmp, as in these tests it has."""
        if str(Path.home()).startswith("/tmp"):
            pytest.skip("the home of this user lies below /tmp")
        with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
            end, directory = self.end_of(
                Path(folder), "echo x > /tmp/a && echo y > /var/tmp/b && cat ../tmp/b ../tmp/a"
            )
            assert end.exit_code == 0
            assert (directory / "logs/stdout.txt").read_text() == "y\nx\n"

    def test_a_job_leaves_no_mount_behind(self, data_dir: Path) -> None:
        before = Path("/proc/self/mountinfo").read_text()
        self.end_of(data_dir, "exit 0")
        assert Path("/proc/self/mountinfo").read_text() == before

    def test_ordinary_and_confined_runs_take_turns_with_one_keeper(self, data_dir: Path) -> None:
        async def test(executor: Executor) -> None:
            for number in range(1, 9):
                confinement = Confinement(places=own_places(data_dir / f"jobs/{number}")) if number % 2 else None
                run = self.order(data_dir, "cat /etc/shadow >&2", number=number, confinement=confinement)
                handle = await executor.submit(run)
                end = await executor.wait(handle)
                await executor.cleanup(handle)
                refused = "denied" in (run.directory / "logs/stderr.txt").read_text()
                assert end.exit_code is not None
                assert refused or not number % 2

        self.go(data_dir, test)


def test_a_machine_without_confinement_is_told_from_one_with_it(tmp_path: Path) -> None:
    async def test() -> None:
        executor = StandaloneExecutor(tmp_path)
        health = await executor.check()
        assert (health.sandbox, health.sandbox_reason) == ("landlock", None)
        closed = StandaloneExecutor(Path("/usr/share/rnd"))
        health = await closed.check()
        assert health.sandbox == "none"
        assert "lies in /usr" in (health.sandbox_reason or "")

    asyncio.run(test())
