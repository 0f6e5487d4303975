"""Native programs through spawner and keeper: what every executor must do, and what only processes can do wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from rnd.services import run_files
from rnd.services.executor import Executor, Phase
from rnd.services.standalone_service import StandaloneExecutor
from rnd.types.errors import ExecutorUnavailable
from rnd.types.services import ResourceLimits
from tests.services.confined import ConfinedHarness, require_confinement
from tests.services.conformance import ExecutorConformance, ExecutorHarness, eventually
from tests.services.native_processes import (
    assert_no_processes,
    name_of,
    processes_of,
    spawner_of,
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory, and a look at what is held before and after."""
    descriptors = len(os.listdir("/proc/self/fd"))
    directory = tmp_path / "data"
    directory.mkdir()
    yield directory
    assert_no_processes(directory)
    assert len(os.listdir("/proc/self/fd")) == descriptors


@asynccontextmanager
async def _opened(data_dir: Path) -> AsyncIterator[Executor]:
    executor = StandaloneExecutor(data_dir)
    try:
        yield executor
    finally:
        await executor.close()


class _Standalone(ExecutorHarness):
    def open_executor(self, data_dir: Path) -> AbstractAsyncContextManager[Executor]:
        return _opened(data_dir)

    def assert_nothing_left(self, data_dir: Path) -> None:
        assert_no_processes(data_dir)
        for job in filter(Path.is_dir, (data_dir / "jobs").glob("*")):  # input files lie beside the folders
            # The record stays as the trace of a run, and its temporary folder, which is empty again.
            names = {path.name for path in job.iterdir() if not path.name.endswith(".run.jsonl")}
            assert names <= {"input", "output", "mounts", "logs", "tmp", "go", "up"}
            assert not (job / "tmp").exists() or not any((job / "tmp").iterdir())


class TestConformance(_Standalone, ExecutorConformance):
    """The suite of every executor."""


class TestConformanceConfined(ConfinedHarness, TestConformance):
    """The same suite over confined runs."""

    @pytest.fixture(autouse=True)
    def _confinement(self) -> None:
        require_confinement()


class TestPrograms(_Standalone):
    """What can be wrong with a program before and while it runs."""

    def test_a_file_that_is_not_executable_is_rejected_in_words(self, data_dir: Path) -> None:
        (data_dir / "plain").write_text("#!/bin/sh\n")
        end, _ = self.end_of(data_dir, "", argv=(f"{data_dir}/plain",))
        assert (end.phase, end.reason) == (Phase.REJECTED, f"{data_dir}/plain is not executable")

    def test_a_file_of_no_known_format_is_rejected_in_words(self, data_dir: Path) -> None:
        (data_dir / "odd").write_bytes(b"\x7fNOT an executable")
        (data_dir / "odd").chmod(0o700)
        end, _ = self.end_of(data_dir, "", argv=(f"{data_dir}/odd",))
        assert end.phase is Phase.REJECTED
        assert "exec format error" in end.reason

    def test_a_script_without_its_interpreter_is_rejected_in_words(self, data_dir: Path) -> None:
        (data_dir / "script").write_text("#!/nowhere/python\n")
        (data_dir / "script").chmod(0o700)
        end, _ = self.end_of(data_dir, "", argv=(f"{data_dir}/script",))
        assert end.phase is Phase.REJECTED
        assert "interpreter" in end.reason

    def test_a_missing_working_directory_is_rejected_in_words(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "exit 0", working_directory=data_dir / "gone")
        assert end.phase is Phase.REJECTED
        assert f"working directory {data_dir}/gone" in end.reason

    def test_arguments_beyond_the_kernels_bound_are_rejected_in_words(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "exit 0", *("x" * 100_000 for _ in range(100)))
        assert end.phase is Phase.REJECTED
        assert "too long" in end.reason

    def test_a_job_folder_that_is_not_there_is_made(self, data_dir: Path) -> None:
        away = data_dir / "far" / "away"
        run = self.order(data_dir, "pwd; echo x > left", directory=away, working_directory=away / "output")
        assert not run.directory.exists()

        async def test(executor: Executor) -> None:
            assert (await executor.wait(await executor.submit(run))).exit_code == 0

        self.go(data_dir, test)
        assert (run.directory / "output/left").read_text() == "x\n"
        assert (run.directory / "logs/stdout.txt").read_text() == f"{run.directory}/output\n"

    def test_a_job_folder_that_cannot_be_made_is_refused_at_once(self, data_dir: Path) -> None:
        (data_dir / "file").write_bytes(b"")
        run = self.order(data_dir, "exit 0", directory=data_dir / "file" / "nowhere")

        async def test(executor: Executor) -> None:
            with pytest.raises(ExecutorUnavailable, match="Not a directory"):
                await executor.submit(run)
            health = await executor.check()
            assert health.available

        self.go(data_dir, test)

    def test_everything_works_in_a_path_with_spaces_and_beyond_a_sockets_length(self, data_dir: Path) -> None:
        deep = data_dir / "ein Pfad mit Leerzeichen" / "ünïcödé ☃" / ("lang" * 50) / "x"
        deep.mkdir(parents=True)
        end, directory = self.end_of(deep, 'pwd; cat; echo "$RND_SECRETS" >&2', secrets={"a": b"b"})
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_text() == f"{directory}/output\n"

    def test_a_name_that_is_no_utf8_passes_through(self, data_dir: Path) -> None:
        odd = Path(os.fsdecode(os.fsencode(data_dir) + b"/\xff\xfe"))
        odd.mkdir()
        end, directory = self.end_of(odd, 'printf %s "$1"', os.fsdecode(b"\xfd"))
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_bytes() == b"\xfd"

    def test_signals_are_at_their_defaults_and_no_rights_can_be_gained(self, data_dir: Path) -> None:
        argv = ("/bin/grep", "-E", "Sig(Blk|Ign)|NoNewPrivs", "/proc/self/status")
        _, directory = self.end_of(data_dir, "", argv=argv)
        lines = (directory / "logs/stdout.txt").read_text().splitlines()
        facts = {name: int(value, 16) for name, value in (line.split(":\t") for line in lines)}
        glibcs_own = 0x180000000  # posix_spawn leaves 32 and 33 ignored
        assert facts["SigIgn"] & ~glibcs_own == 0
        assert (facts["SigBlk"], facts["NoNewPrivs"]) == (0, 1)

    def test_no_descriptor_is_inherited_but_the_three(self, data_dir: Path) -> None:
        _, directory = self.end_of(data_dir, "", argv=("/bin/ls", "/proc/self/fd"))
        own_listing = "3"
        assert (directory / "logs/stdout.txt").read_text().split() == ["0", "1", "2", own_listing]

    def test_a_program_dumps_no_core_writes_for_its_owner_and_leads_its_session(self, data_dir: Path) -> None:
        _, directory = self.end_of(data_dir, "ulimit -c; umask; cut -d' ' -f1,6 /proc/$$/stat")
        core, umask, *session = (directory / "logs/stdout.txt").read_text().split()
        assert (core, umask) == ("0", "0077")
        assert session[0] == session[1]

    def test_output_that_cannot_be_kept_is_no_success(self, data_dir: Path) -> None:
        run = self.order(data_dir, "echo x")
        (run.directory / "logs").rmdir()
        (run.directory / "logs").symlink_to(data_dir)

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            end = await executor.wait(handle)
            assert end.phase is Phase.REJECTED
            assert "logs cannot be written" in end.reason
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_links_left_in_place_of_logs_are_not_followed(self, data_dir: Path) -> None:
        run = self.order(data_dir, "echo new")
        precious = data_dir / "precious"
        precious.write_text("mine")
        (run.directory / "logs/stdout.txt").symlink_to(precious)
        _, directory = self.end_of(data_dir, "echo new")
        assert precious.read_text() == "mine"
        assert (directory / "logs/stdout.txt").read_text() == "new\n"


class TestLimits(_Standalone):
    """The owner's limits, and the words when one of them ends a program."""

    def test_a_file_beyond_its_limit_ends_the_program_in_words(self, data_dir: Path) -> None:
        end, directory = self.end_of(
            data_dir, "exec head -c 100000 /dev/zero >big", limits=ResourceLimits(disk_bytes=50_000)
        )
        assert end.signal == signal.SIGXFSZ
        assert "killed by the disk limit of 50000 bytes" in end.reason
        # The kernel stops it beyond the limit and the largest file that lay there, here the record of the run.
        assert 50_000 < (directory / "output/big").stat().st_size < 51_000

    def test_as_much_as_the_disk_limit_is_no_failure_and_one_byte_more_is(self, data_dir: Path) -> None:
        limits = ResourceLimits(disk_bytes=50_000)
        fits = "mkdir -p deep; head -c 20000 /dev/zero >a; head -c 30000 /dev/zero >deep/b; ln a c"
        end, _ = self.end_of(data_dir, fits, limits=limits)
        assert (end.exit_code, end.reason) == (0, "")
        end, _ = self.end_of(data_dir, f"{fits}; printf x >one-more", limits=limits, number=2)
        assert (end.exit_code, end.signal) == (None, signal.SIGKILL)
        assert end.reason == "killed by the disk limit of 50000 bytes: it had written 50001"

    def test_many_files_beyond_the_disk_limit_end_a_program_that_would_go_on(self, data_dir: Path) -> None:
        script = "for i in 1 2 3 4 5 6; do head -c 10000 /dev/zero >$i; done; exec sleep 1000"
        end, _ = self.end_of(data_dir, script, limits=ResourceLimits(disk_bytes=50_000))
        assert end.signal == signal.SIGKILL
        assert "killed by the disk limit of 50000 bytes" in end.reason

    def test_a_file_cut_at_the_disk_limit_never_passes_for_whole(self, data_dir: Path) -> None:
        """However little its program cares."""
        script = "trap '' XFSZ; head -c 100000 /dev/zero >big 2>/dev/null; exit 0"
        end, _ = self.end_of(data_dir, script, limits=ResourceLimits(disk_bytes=50_000))
        assert end.exit_code is None
        assert end.reason.startswith("killed by the disk limit of 50000 bytes: it had written 50")

    def test_what_lay_there_before_does_not_count_against_the_disk_limit(self, data_dir: Path) -> None:
        limits = ResourceLimits(disk_bytes=50_000)
        for number in (1, 2):
            (data_dir / f"jobs/{number}/mounts").mkdir(parents=True)
            (data_dir / f"jobs/{number}/mounts/in").write_bytes(bytes(100_000))
        end, _ = self.end_of(data_dir, "head -c 40000 /dev/zero >>../mounts/in", limits=limits)
        assert end.exit_code == 0
        script = "trap '' XFSZ; head -c 400000 /dev/zero >>../mounts/in 2>/dev/null; exit 0"
        end, _ = self.end_of(data_dir, script, limits=limits, number=2)
        assert end.reason == "killed by the disk limit of 50000 bytes: it had written 50001"

    def test_files_that_cannot_be_counted_do_not_get_around_the_disk_limit(self, data_dir: Path) -> None:
        script = "mkdir hidden; head -c 10 /dev/zero >hidden/x; chmod 0 hidden"
        end, directory = self.end_of(data_dir, script, limits=ResourceLimits(disk_bytes=50_000))
        (directory / "output/hidden").chmod(0o700)
        if os.geteuid() == 0:  # the superuser sees everything
            assert end.exit_code == 0
        else:
            assert "its files cannot be counted (Permission denied)" in end.reason

    def test_memory_open_files_and_processors_are_bounded(self, data_dir: Path) -> None:
        limits = ResourceLimits(memory_bytes=256 << 20, open_files=20, cpus=0.5)
        _, directory = self.end_of(
            data_dir, "ulimit -d; ulimit -n; nproc; head -c 90000 /dev/zero | wc -c", limits=limits
        )
        assert (directory / "logs/stdout.txt").read_text().split() == [str(256 << 10), "20", "1", "90000"]

    def test_too_many_processes_end_the_run_in_words(self, data_dir: Path) -> None:
        script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait"
        end, _ = self.end_of(data_dir, script, limits=ResourceLimits(pids=5))
        assert end.exit_code is None
        assert "limit of 5 processes" in end.reason


class TestNothingOutlives(_Standalone):
    """Processes that try to stay."""

    def test_a_daemon_that_forks_twice_is_ended(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "setsid sh -c 'setsid sleep 1000 & exit' & sleep 0.1; exit 0")
        assert (end.exit_code, end.leftovers_killed) == (0, 1)

    def test_a_daemon_that_holds_no_stream_is_ended(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "setsid sleep 1000 </dev/null >/dev/null 2>&1 & exit 0")
        assert (end.exit_code, end.leftovers_killed) == (0, 1)

    def test_a_fork_without_a_wait_leaves_no_zombie(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "for i in 1 2 3 4 5 6 7 8; do (exit 1) & done; exec sleep 0.2")
        assert (end.exit_code, end.leftovers_killed) == (0, 0)

    def test_stopped_processes_are_ended(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "sleep 1000 & kill -STOP $!; exit 0")
        assert (end.exit_code, end.leftovers_killed) == (0, 1)

    def test_a_tree_that_forks_as_fast_as_it_can_is_ended(self, data_dir: Path) -> None:
        # Each process starts its successor and ends, two at a time: a signal always comes too late for the one it hits.
        script = "f() { (f) & }; trap '' TERM; f; f; touch ../up; sleep 1000"
        bomb = "import os\nopen('../up', 'w')\nwhile True:\n    if os.fork(): os._exit(0)\n"
        run = self.order(data_dir, script, argv=(sys.executable, "-I", "-S", "-c", bomb))

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "up").exists)
            await executor.cancel(handle, 0.0)
            assert (await executor.wait(handle)).phase is Phase.EXITED
            await executor.cleanup(handle)

        self.go(data_dir, test)


class TestCrashes(_Standalone):
    """Anything may be killed at any time."""

    waiting = "until test -e ../go; do sleep 0.02; done; echo went; exit 6"

    def test_a_run_survives_the_spawner(self, data_dir: Path) -> None:
        run = self.order(data_dir, self.waiting)

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            os.kill(spawner_of(data_dir), signal.SIGKILL)
            await eventually(lambda: "rnd-spawner" not in map(name_of, processes_of(data_dir)))
            again = await executor.submit(run)
            assert again == handle
            (run.directory / "go").touch()
            assert (await executor.wait(handle)).exit_code == 6
            other = self.order(data_dir, "exit 5", number=2)
            second = await executor.submit(other)
            assert (await executor.wait(second)).exit_code == 5
            for done in (handle, second):
                await executor.cleanup(done)

        self.go(data_dir, test)

    def test_a_wait_that_has_begun_survives_the_spawner(self, data_dir: Path) -> None:
        run = self.order(data_dir, self.waiting)

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            waiting = asyncio.ensure_future(executor.wait(handle))
            await asyncio.sleep(0)
            os.kill(spawner_of(data_dir), signal.SIGKILL)
            await eventually(lambda: "rnd-spawner" not in map(name_of, processes_of(data_dir)))
            (run.directory / "go").touch()
            assert (await waiting).exit_code == 6
            await executor.cleanup(handle)

        self.go(data_dir, test)

    @pytest.mark.parametrize("also_spawner", [False, True])
    def test_a_run_whose_keeper_is_killed_is_lost_and_ended(self, data_dir: Path, also_spawner: bool) -> None:
        script = "setsid sleep 1000 & touch ../up; trap '' TERM; while :; do sleep 0.02; done"
        run = self.order(data_dir, script, secrets={"a": b"b"})

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "up").exists)
            if also_spawner:
                os.kill(spawner_of(data_dir), signal.SIGKILL)
            os.kill(json.loads(handle)["keeper_pid"], signal.SIGKILL)
            end = await executor.wait(handle)
            assert (end.phase, end.exit_code) == (Phase.LOST, None)
            assert "killed" in end.reason
            await eventually(lambda: not any("sleep" in line for line in processes_of(data_dir).values()))
            assert (await executor.poll([handle]))[handle].phase is Phase.LOST
            assert await executor.submit(run) == handle
            record = run_files.read(os.fspath(run.directory), run.engine_name)
            assert record is not None
            assert record.started.secrets_directory
            await executor.cleanup(handle)
            assert not Path(record.started.secrets_directory).exists()

        self.go(data_dir, test)

    def test_a_program_that_kills_its_keeper_is_lost_and_ended(self, data_dir: Path) -> None:
        run = self.order(data_dir, "kill -9 $PPID; sleep 1000")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            assert (await executor.wait(handle)).phase is Phase.LOST
            await eventually(lambda: not any("sleep" in line for line in processes_of(data_dir).values()))
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_run_of_another_boot_is_lost_unless_its_end_is_known(self, data_dir: Path) -> None:
        run = self.order(data_dir, "exit 3")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await executor.wait(handle)
            old = json.dumps(json.loads(handle) | {"boot_id": "another"})
            assert (await executor.wait(old)).exit_code == 3
            record = run.directory / f"{run.engine_name}.run.jsonl"
            started, _ = record.read_text().splitlines()
            record.write_text(started.replace(json.loads(handle)["boot_id"], "another") + "\n")
            end = await executor.wait(old)
            assert (end.phase, end.reason) == (Phase.LOST, "the machine was restarted while it ran")
            await executor.cleanup(old)

        self.go(data_dir, test)

    @pytest.mark.parametrize(
        "record",
        [
            *(
                "",
                "{\n",
                "[]\n",
                '{"phase": "EXITED"}\n',
                '{"phase": "NOVEL"}\n',
                '{"phase": "EXITED", "exit_code": 0}',
            ),
            *("[" * 60_000 + "\n", '{"phase": "EXITED", "exit_code": 1e999}\n', '{"phase": "RUNNING"}\n'),
            '{"phase": "EXITED", "exit_code": 0, "leftovers_killed": Infinity}\n',
            '{"phase": "EXITED", "exit_code": 99999999999999999999}\n',
        ],
    )
    def test_a_record_that_makes_no_sense_is_no_success(self, data_dir: Path, record: str) -> None:
        run = self.order(data_dir, "exit 0")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await executor.wait(handle)
            path = run.directory / f"{run.engine_name}.run.jsonl"
            path.write_text(path.read_text().splitlines()[0] + "\n" + record)
            assert (await executor.wait(handle)).phase is Phase.LOST
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_killed_daemon_leaves_its_runs_to_the_next(self, data_dir: Path) -> None:
        run = self.order(data_dir, self.waiting)
        daemon = subprocess.Popen(
            [sys.executable, "-c", _DAEMON, os.fspath(data_dir), os.fspath(run.directory)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert daemon.stdout is not None
        handle = daemon.stdout.readline().decode()
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()

        async def test(executor: Executor) -> None:
            assert await executor.find(run.engine_name, run.directory) == handle.strip()
            assert await executor.submit(run) == handle.strip()
            (run.directory / "go").touch()
            assert (await executor.wait(handle)).exit_code == 6
            assert (run.directory / "logs/stdout.txt").read_text() == "went\n"
            await executor.cleanup(handle)

        self.go(data_dir, test)


_DAEMON = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from tests.services.test_standalone_service import TestCrashes, StandaloneExecutor

    async def main():
        suite, data_dir = TestCrashes(), Path(sys.argv[1])
        executor = StandaloneExecutor(data_dir)
        print(await executor.submit(suite.order(data_dir, suite.waiting)), flush=True)
        await asyncio.sleep(1000)

    asyncio.run(main())
    """
)
