"""What every executor must do, whatever it runs things on: inherit `ExecutorConformance` and say how to open yours.

The programs are POSIX shell, so that they run in a process, a container or a batch job alike. Nothing here knows of
pids, files or images; what one executor does beyond this is tested beside it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rnd.services.executor import Executor, JobRun, Observation, Phase
from rnd.types.enums import LogStream
from rnd.types.ids import JobExecutionId

PATIENCE_S = 60.0
"""How long a test waits for what must happen before it calls that a failure."""


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once `holds` does; for what has no event to wait for, such as another process having written a file."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


class ExecutorHarness:
    """What the tests stand on. A subclass gives two methods and, where a shell is not at /bin/sh, `shell`.

    `counts_leftovers` says whether processes that a program leaves behind may finish and are counted; a container ends with
    its program, and takes them along. `many` is how many runs are tried at once.
    """

    shell: tuple[str, ...] = ("/bin/sh",)
    counts_leftovers = True
    many = 200

    def jobs_folder(self, data_dir: Path) -> Path:
        """Return where the folders of jobs are."""
        return data_dir / "jobs"

    def open_executor(self, data_dir: Path) -> AbstractAsyncContextManager[Executor]:
        """Return an executor of `data_dir`, as a daemon that starts there would have it; many times if asked."""
        raise NotImplementedError

    def assert_nothing_left(self, data_dir: Path) -> None:
        """Fail if the engine still holds anything of the runs of `data_dir`. Called after every test."""
        raise NotImplementedError

    def order(self, data_dir: Path, script: str, *arguments: str, number: int = 1, **fields: Any) -> JobRun:
        """Return a run of a shell script in a job folder of its own."""
        directory = self.jobs_folder(data_dir) / str(number)
        for name in ("input", "output", "mounts", "logs"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        defaults: dict[str, Any] = {
            "job_execution_id": JobExecutionId(number),
            "attempt": 1,
            "engine_name": f"job-{number}-1",
            "directory": directory,
            "argv": (*self.shell, "-c", script, "sh", *arguments),
            "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
            "working_directory": directory / "output",
        }
        return JobRun(**(defaults | fields))

    def go(self, data_dir: Path, test: Callable[[Executor], Awaitable[None]]) -> None:
        """Run `test` with an executor, and see that nothing is left of what it did."""

        async def whole() -> None:
            async with asyncio.timeout(PATIENCE_S), self.open_executor(data_dir) as executor:
                await test(executor)

        asyncio.run(whole())
        self.assert_nothing_left(data_dir)

    def end_of(self, data_dir: Path, script: str, *arguments: str, **fields: Any) -> tuple[Observation, Path]:
        """Run one script to its end and return how it ended and its job folder, records cleaned up."""
        run = self.order(data_dir, script, *arguments, **fields)
        ends: list[Observation] = []

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            ends.append(await executor.wait(handle))
            await executor.cleanup(handle)

        self.go(data_dir, test)
        return ends[0], run.directory


class ExecutorConformance(ExecutorHarness):
    """The tests."""

    # ---------------------------------------------------------------- ends

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    def test_an_exit_code_is_reported_as_it_is(self, data_dir: Path, code: int) -> None:
        end, _ = self.end_of(data_dir, f"exit {code}")
        assert (end.phase, end.exit_code, end.signal) == (Phase.EXITED, code, None)
        assert end.leftovers_killed == 0
        assert end.streams_cut == ()
        assert end.started_at is not None
        assert end.ended_at is not None
        assert timedelta(0) <= end.ended_at - end.started_at < timedelta(seconds=PATIENCE_S)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL])
    def test_a_death_by_signal_is_reported_with_its_number(self, data_dir: Path, number: signal.Signals) -> None:
        end, _ = self.end_of(data_dir, f"kill -{int(number)} $$")
        assert (end.phase, end.exit_code, end.signal) == (Phase.EXITED, None, number)
        assert number.name in end.reason

    def test_a_missing_program_is_rejected_with_its_name(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "", argv=("/nowhere/prog",))
        assert end.phase is Phase.REJECTED
        assert "/nowhere/prog" in end.reason

    # ---------------------------------------------------------------- streams

    def test_both_streams_are_captured_apart_and_byte_for_byte(self, data_dir: Path) -> None:
        end, directory = self.end_of(data_dir, r"printf 'a\0\377b'; printf 'err\r\n' >&2")
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_bytes() == b"a\0\xffb"
        assert (directory / "logs/stderr.txt").read_bytes() == b"err\r\n"

    def test_the_journal_has_every_line_with_a_time_and_its_stream(self, data_dir: Path) -> None:
        _, directory = self.end_of(data_dir, "echo one; echo two; echo three >&2; printf four")
        lines = [line.split(" ", 2) for line in (directory / "logs/logs.txt").read_text().splitlines()]
        assert sorted(line[1:] for line in lines) == [
            ["stderr", "three"], ["stdout", "four"], ["stdout", "one"], ["stdout", "two"],
        ]  # fmt: skip
        assert all(len(line[0]) == len("2026-01-31T12:00:00.000Z") and line[0].endswith("Z") for line in lines)

    def test_a_stream_beyond_its_cap_is_cut_there_and_the_program_goes_on(self, data_dir: Path) -> None:
        script = "head -c 300000 /dev/zero; echo end >&2; exit 5"
        end, directory = self.end_of(data_dir, script, stream_bytes=100_000)
        assert end.exit_code == 5
        assert LogStream.STDOUT in end.streams_cut
        assert LogStream.STDERR not in end.streams_cut
        assert (directory / "logs/stdout.txt").read_bytes() == b"\0" * 100_000
        assert (directory / "logs/stderr.txt").read_bytes() == b"end\n"
        assert b"cut here" in (directory / "logs/logs.txt").read_bytes()

    def test_exactly_the_cap_is_not_cut(self, data_dir: Path) -> None:
        end, directory = self.end_of(data_dir, "head -c 100000 /dev/zero", stream_bytes=100_000)
        assert LogStream.STDOUT not in end.streams_cut
        assert (directory / "logs/stdout.txt").stat().st_size == 100_000

    def test_closed_streams_are_empty_files(self, data_dir: Path) -> None:
        end, directory = self.end_of(data_dir, "exec <&- >&- 2>&-; exit 4")
        assert end.exit_code == 4
        assert [(directory / "logs" / name).read_bytes() for name in ("stdout.txt", "stderr.txt")] == [b"", b""]

    # ---------------------------------------------------------------- input

    def test_without_input_the_program_reads_end_of_file(self, data_dir: Path) -> None:
        end, directory = self.end_of(data_dir, "cat; echo done")
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_bytes() == b"done\n"

    @pytest.mark.parametrize("sizes", [(5,), (0,), (70_000, 0, 300_000), (3,) * 100])
    def test_input_files_are_one_stream_in_their_order(self, data_dir: Path, sizes: tuple[int, ...]) -> None:
        files = self._input_files(data_dir, sizes)
        end, directory = self.end_of(data_dir, "cat", stdin_files=files)
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_bytes() == b"".join(file.read_bytes() for file in files)

    def test_a_program_need_not_read_its_input(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "exit 0", stdin_files=self._input_files(data_dir, (1 << 20, 1 << 20)))
        assert (end.phase, end.exit_code) == (Phase.EXITED, 0)

    def test_a_missing_input_never_passes_for_a_short_one(self, data_dir: Path) -> None:
        files = (*self._input_files(data_dir, (10,)), self.jobs_folder(data_dir) / "missing")
        end, _ = self.end_of(data_dir, "cat", stdin_files=files)
        assert end.exit_code != 0
        assert "missing" in end.reason

    def _input_files(self, data_dir: Path, sizes: tuple[int, ...]) -> tuple[Path, ...]:
        self.jobs_folder(data_dir).mkdir(parents=True, exist_ok=True)
        files = []
        for number, size in enumerate(sizes):
            file = self.jobs_folder(data_dir) / f"input {number}"
            file.write_bytes(bytes([97 + number % 26]) * size)
            files.append(file)
        return tuple(files)

    # ---------------------------------------------------------------- surroundings

    def test_the_environment_is_what_was_given_and_no_more_of_ours(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DAEMON_SECRET", "xyzzy")
        env = {"PATH": "/usr/bin:/bin", "GREETING": "grüß dich ☃\nzeile 2"}
        end, directory = self.end_of(data_dir, 'printf %s "$GREETING"; env >&2', env=env)
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_text() == env["GREETING"]
        assert b"xyzzy" not in (directory / "logs/stderr.txt").read_bytes()

    def test_arguments_arrive_untouched(self, data_dir: Path) -> None:
        arguments = ("", " two  spaces ", "a'b\"c", "$HOME `id` *", "ünï", "new\nline", "-n")
        _, directory = self.end_of(data_dir, r'for a; do printf "%s\0" "$a"; done', *arguments)
        assert (directory / "logs/stdout.txt").read_text() == "".join(argument + "\0" for argument in arguments)

    def test_long_arguments_and_environments_arrive_whole(self, data_dir: Path) -> None:
        arguments = tuple("x" * 100_000 for _ in range(8))
        env = {"PATH": "/usr/bin:/bin", "LONG": "y" * 100_000}
        _, directory = self.end_of(data_dir, 'echo "$#"; printf %s "$LONG$*" | wc -c', *arguments, env=env)
        assert (directory / "logs/stdout.txt").read_text().split() == ["8", str(8 * 100_000 + 7 + 100_000)]

    def test_files_left_in_the_working_directory_are_in_output(self, data_dir: Path) -> None:
        _, directory = self.end_of(data_dir, "echo hello >'a file'; mkdir d; echo x >d/y; chmod +x d/y")
        assert (directory / "output/a file").read_text() == "hello\n"
        assert (directory / "output/d/y").stat().st_mode & 0o100

    def test_secrets_are_files_for_the_run_only(self, data_dir: Path) -> None:
        script = 'cat "$RND_SECRETS/key"; ls -ld "$RND_SECRETS" "$RND_SECRETS/key" | cut -c1-10; env >&2'
        end, directory = self.end_of(data_dir, script, secrets={"key": b"s3cr\0t\n"})
        assert end.exit_code == 0
        output = (directory / "logs/stdout.txt").read_bytes()
        assert output == b"s3cr\0t\ndrwx------\n-rw-------\n"
        [line] = [line for line in (directory / "logs/stderr.txt").read_text().splitlines() if "RND_SECRETS" in line]
        assert not Path(line.partition("=")[2]).exists()

    # ---------------------------------------------------------------- nothing outlives a run

    def test_a_background_process_is_ended_with_the_program(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "sleep 1000 & exit 3")
        assert (end.exit_code, end.leftovers_killed) == (3, 1 if self.counts_leftovers else 0)

    def test_a_short_background_process_may_finish_its_work(self, data_dir: Path) -> None:
        end, directory = self.end_of(data_dir, "(sleep 0.2; echo late) & exit 0")
        assert (end.exit_code, end.leftovers_killed) == (0, 0)
        late = b"late\n" if self.counts_leftovers else b""
        assert (directory / "logs/stdout.txt").read_bytes() == late

    def test_a_background_process_that_ignores_sigterm_is_killed(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "trap '' TERM; (while :; do sleep 0.05; done) & exit 0", grace_s=0.2)
        assert end.exit_code == 0
        assert end.leftovers_killed >= int(self.counts_leftovers)

    # ---------------------------------------------------------------- names, restarts

    def test_a_second_submit_finds_the_first(self, data_dir: Path) -> None:
        run = self.order(data_dir, "echo once >>runs; sleep 0.2")

        async def test(executor: Executor) -> None:
            first, second = await asyncio.gather(executor.submit(run), executor.submit(run))
            third = await executor.submit(run)
            ends = [await executor.wait(handle) for handle in (first, second, third)]
            after = await executor.submit(run)
            assert {end.exit_code for end in (*ends, await executor.wait(after))} == {0}
            assert (run.directory / "output/runs").read_text() == "once\n"
            await executor.cleanup(first)

        self.go(data_dir, test)

    def test_find_knows_what_was_submitted_and_nothing_else(self, data_dir: Path) -> None:
        run = self.order(data_dir, "read line; exit 9", stdin_files=())

        async def test(executor: Executor) -> None:
            assert await executor.find(run.engine_name, run.directory) is None
            handle = await executor.submit(run)
            found = await executor.find(run.engine_name, run.directory)
            assert found is not None
            assert await executor.find("job-1-2", run.directory) is None
            assert await executor.wait(found) == await executor.wait(handle)
            assert await executor.find(run.engine_name, run.directory) is not None
            await executor.cleanup(handle)
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_a_name_is_never_run_again_while_the_engine_knows_it(self, data_dir: Path) -> None:
        """After cleanup an engine may forget a run or not; as long as it does not, the same name finds the old one."""
        run = self.order(data_dir, "echo once >> runs; exit 4")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            end = await executor.wait(handle)
            await executor.cleanup(handle)
            if await executor.find(run.engine_name, run.directory) is not None:
                again = await executor.submit(run)
                assert await executor.wait(again) == end
                await executor.cleanup(again)
            assert (run.directory / "output/runs").read_text() == "once\n"

        self.go(data_dir, test)

    def test_the_next_attempt_is_another_run_in_the_same_folder(self, data_dir: Path) -> None:
        async def test(executor: Executor) -> None:
            runs = [
                self.order(data_dir, f"echo attempt {attempt}", engine_name=f"job-1-{attempt}", attempt=attempt)
                for attempt in (1, 2)
            ]
            for run in runs:
                await executor.wait(await executor.submit(run))
                assert (run.directory / "logs/stdout.txt").read_text() == f"attempt {run.attempt}\n"
            for run in runs:
                found = await executor.find(run.engine_name, run.directory)
                assert found is not None
                await executor.cleanup(found)

        self.go(data_dir, test)

    def test_another_daemon_finds_the_run_and_waits_for_it(self, data_dir: Path) -> None:
        run = self.order(data_dir, "until test -e go; do sleep 0.02; done; echo went; exit 6")

        async def test(first: Executor) -> None:
            handle = await first.submit(run)
            async with self.open_executor(data_dir) as second:
                found = await second.find(run.engine_name, run.directory)
                assert found is not None
                assert (await second.poll([found]))[found].phase is Phase.RUNNING
                (run.directory / "output/go").touch()
                assert (await second.wait(found)).exit_code == 6
                assert (await second.poll([found]))[found].exit_code == 6
                await second.cleanup(handle)

        self.go(data_dir, test)

    def test_a_cancelled_wait_leaves_the_run_alone(self, data_dir: Path) -> None:
        run = self.order(data_dir, "until test -e go; do sleep 0.02; done; exit 6")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await executor.wait(handle)
            (run.directory / "output/go").touch()
            assert (await executor.wait(handle)).exit_code == 6
            await executor.cleanup(handle)

        self.go(data_dir, test)

    # ---------------------------------------------------------------- cancel

    def test_cancel_ends_a_run_by_sigterm(self, data_dir: Path) -> None:
        run = self.order(data_dir, "trap 'echo bye; exit 8' TERM; touch up; while :; do sleep 0.02; done")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            await executor.cancel(handle, 30.0)
            assert (await executor.wait(handle)).exit_code == 8
            assert (run.directory / "logs/stdout.txt").read_text() == "bye\n"
            await executor.cancel(handle, 30.0)
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_cancel_kills_what_ignores_sigterm_after_the_grace(self, data_dir: Path) -> None:
        run = self.order(data_dir, "trap '' TERM; touch up; while :; do sleep 0.02; done")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            await executor.cancel(handle, 1000.0)
            await executor.cancel(handle, 0.1)
            assert (await executor.wait(handle)).signal == signal.SIGKILL
            await executor.cleanup(handle)

        self.go(data_dir, test)

    @pytest.mark.parametrize("turns", [0, 1, 2, 4, 8, 16, 32, 64])
    def test_cancel_right_after_submit_ends_the_run_too(self, data_dir: Path, turns: int) -> None:
        run = self.order(data_dir, "while :; do sleep 0.02; done")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            for _ in range(turns):
                await asyncio.sleep(0)
            await executor.cancel(handle, 5.0)
            end = await executor.wait(handle)
            assert end.phase is Phase.REJECTED or end.signal in {signal.SIGTERM, signal.SIGKILL}
            assert "cancelled" in end.reason
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_cancel_after_the_end_changes_nothing(self, data_dir: Path) -> None:
        run = self.order(data_dir, "exit 2")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            assert (await executor.wait(handle)).exit_code == 2
            await executor.cancel(handle, 0.0)
            assert (await executor.wait(handle)).exit_code == 2
            await executor.cleanup(handle)
            await executor.cancel(handle, 0.0)

        self.go(data_dir, test)

    # ---------------------------------------------------------------- many

    def test_many_runs_at_once_each_get_their_own_end(self, data_dir: Path) -> None:
        runs = [self.order(data_dir, f"sleep 0.3; echo {n}; exit {n % 50}", number=n) for n in range(1, self.many + 1)]

        async def one(executor: Executor, run: JobRun) -> None:
            handle = await executor.submit(run)
            number = run.job_execution_id
            assert (await executor.wait(handle)).exit_code == number % 50
            assert (run.directory / "logs/stdout.txt").read_text() == f"{number}\n"
            await executor.cleanup(handle)

        async def test(executor: Executor) -> None:
            await asyncio.gather(*(one(executor, run) for run in runs))

        self.go(data_dir, test)

    def test_an_executor_that_works_says_so(self, data_dir: Path) -> None:
        async def test(executor: Executor) -> None:
            assert (await executor.check()).available

        self.go(data_dir, test)
