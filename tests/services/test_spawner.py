"""The spawner as a process: there is one, it comes when needed, stays while needed, and goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rnd.services import keeper, run_files, seat, spawner
from rnd.services.executor import JobRun
from rnd.services.keeper_pool import IDLE_KEEPER_S, IDLE_KEEPERS_MAX
from rnd.services.spawner_client import SpawnerClient
from rnd.services.standalone_service import StandaloneExecutor, _message
from rnd.types.errors import ExecutorUnavailable
from rnd.types.ids import JobExecutionId
from rnd.types.services import ResourceLimits
from tests.services.conformance import eventually
from tests.services.native_processes import assert_no_processes, name_of, processes_of, spawner_of


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose processes must all be gone at the end."""
    directory = tmp_path / "data"
    directory.mkdir()
    yield directory
    assert_no_processes(directory)


def _go(data_dir: Path, test: Callable[[StandaloneExecutor], Awaitable[None]], version: str = "1") -> None:
    async def whole() -> None:
        executor = StandaloneExecutor(data_dir, version=version)
        try:
            async with asyncio.timeout(60):
                await test(executor)
        finally:
            await executor.close()

    asyncio.run(whole())


def _order(data_dir: Path, number: int, script: str, **fields: Any) -> JobRun:
    directory = data_dir / f"job {number}"
    (directory / "output").mkdir(parents=True)
    known: dict[str, Any] = {
        "job_execution_id": JobExecutionId(number),
        "attempt": 1,
        "engine_name": f"job-{number}-1",
        "directory": directory,
        "argv": ("/bin/sh", "-c", script),
        "env": {"PATH": "/usr/bin:/bin"},
        "working_directory": directory / "output",
    }
    return JobRun(**(known | fields))


def test_nothing_is_started_before_it_is_needed(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        health = await executor.check()
        assert (health.available, health.sandbox) == (True, "landlock")
        assert await executor.find("job-1-1", data_dir) is None
        assert processes_of(data_dir) == {}

    _go(data_dir, test)


def test_many_first_orders_start_one_spawner(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        others = [StandaloneExecutor(data_dir, version="1") for _ in range(3)]
        handles = await asyncio.gather(
            *(each.submit(_order(data_dir, number, "exit 0")) for number, each in enumerate([executor, *others], 1))
        )
        assert spawner_of(data_dir)
        assert {(await executor.wait(handle)).exit_code for handle in handles} == {0}
        for other in others:
            await other.close()

    _go(data_dir, test)


def test_an_orderly_stop_ends_the_spawner_at_once_unless_it_has_work(data_dir: Path) -> None:
    run = _order(data_dir, 1, "until test -e ../go; do sleep 0.02; done")

    async def first(executor: StandaloneExecutor) -> None:
        await executor.submit(run)

    async def second(executor: StandaloneExecutor) -> None:
        handle = await executor.find(run.engine_name, run.directory)
        assert handle is not None
        (run.directory / "go").touch()
        assert (await executor.wait(handle)).exit_code == 0

    _go(data_dir, first)
    assert spawner_of(data_dir)
    _go(data_dir, second)
    assert_no_processes(data_dir)


def test_a_daemon_that_comes_back_keeps_the_spawner_that_was_told_to_go(data_dir: Path) -> None:
    run = _order(data_dir, 1, "until test -e ../go; do sleep 0.02; done")

    async def first(executor: StandaloneExecutor) -> None:
        await executor.submit(run)

    async def second(executor: StandaloneExecutor) -> None:
        pid = spawner_of(data_dir)
        handle = await executor.submit(run)
        (run.directory / "go").touch()
        await executor.wait(handle)
        assert (await executor.wait(await executor.submit(_order(data_dir, 2, "exit 4")))).exit_code == 4
        assert spawner_of(data_dir) == pid

    _go(data_dir, first)
    _go(data_dir, second)


def test_another_release_takes_over_and_the_old_one_keeps_what_it_has(data_dir: Path) -> None:
    run = _order(data_dir, 1, "until test -e ../go; do sleep 0.02; done; exit 6")

    async def old(executor: StandaloneExecutor) -> None:
        await executor.submit(run)

    async def new(executor: StandaloneExecutor) -> None:
        other = await executor.submit(_order(data_dir, 2, "exit 5"))
        assert (await executor.wait(other)).exit_code == 5
        handle = await executor.submit(run)
        waiting = asyncio.ensure_future(executor.wait(handle))
        await asyncio.sleep(0)
        (run.directory / "go").touch()
        assert (await waiting).exit_code == 6

    _go(data_dir, old, version="1")
    _go(data_dir, new, version="2")


def test_sigterm_makes_room_for_another_and_drops_no_run(data_dir: Path) -> None:
    run = _order(data_dir, 1, "until test -e ../go; do sleep 0.02; done; exit 6")

    async def test(executor: StandaloneExecutor) -> None:
        handle = await executor.submit(run)
        waiting = asyncio.ensure_future(executor.wait(handle))
        old = spawner_of(data_dir)
        os.kill(old, signal.SIGTERM)
        await eventually(lambda: not (data_dir / "run/spawner.sock").exists())
        other = await executor.submit(_order(data_dir, 2, "exit 5"))
        assert (await executor.wait(other)).exit_code == 5
        (run.directory / "go").touch()
        assert (await waiting).exit_code == 6

    _go(data_dir, test)


async def _keeper_of(executor: StandaloneExecutor, data_dir: Path, run: JobRun) -> int:
    """Run to the end and return the keeper's pid, once the spawner too has heard that it is free."""
    handle = await executor.submit(run)
    await executor.wait(handle)
    pid: int = json.loads(handle)["keeper_pid"]
    client = SpawnerClient(data_dir, version="1")
    await client.ended(run.engine_name, pid)
    await client.close(stop=False)
    return pid


def test_a_keeper_takes_the_next_run_after_an_ordinary_one_only(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        first = await _keeper_of(executor, data_dir, _order(data_dir, 1, "exit 1"))
        assert await _keeper_of(executor, data_dir, _order(data_dir, 2, "kill -9 $$")) == first
        assert await _keeper_of(executor, data_dir, _order(data_dir, 3, "sleep 1000 & exit 0", grace_s=0.0)) == first
        second = await _keeper_of(
            executor, data_dir, _order(data_dir, 4, "exit 0", limits=ResourceLimits(open_files=50))
        )
        assert second != first
        third = await _keeper_of(executor, data_dir, _order(data_dir, 5, "exit 0"))
        assert third not in {first, second}

    _go(data_dir, test)


def test_a_keeper_that_is_used_again_holds_nothing_of_earlier_runs(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        held = set()
        for number in range(1, 6):
            run = _order(data_dir, number, "echo x; cat", stdin_files=(Path(__file__),))
            pid = await _keeper_of(executor, data_dir, run)
            held.add((pid, len(os.listdir(f"/proc/{pid}/fd")), os.readlink(f"/proc/{pid}/cwd")))
        [(_, _, folder)] = held
        assert folder == "/"

    _go(data_dir, test)


def test_cancel_of_a_run_that_has_ended_does_not_reach_the_keepers_next(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        ended = _order(data_dir, 1, "exit 0")
        keeper = await _keeper_of(executor, data_dir, ended)
        first = await executor.submit(ended)
        run = _order(data_dir, 2, "touch ../up; until test -e ../go; do sleep 0.02; done; exit 6")
        second = await executor.submit(run)
        assert json.loads(first)["keeper_pid"] == json.loads(second)["keeper_pid"] == keeper
        await eventually((run.directory / "up").exists)
        await executor.cancel(first, 0.0)
        os.kill(json.loads(second)["keeper_pid"], signal.SIGTERM)  # a cancel that came too late for the first
        (run.directory / "go").touch()
        assert (await executor.wait(second)).exit_code == 6

    _go(data_dir, test)


def test_idle_keepers_end_with_the_spawner(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        await executor.wait(await executor.submit(_order(data_dir, 1, "exit 0")))
        assert {name_of(pid) for pid in processes_of(data_dir)} == {"rnd-spawner", "rnd-keeper"}
        os.kill(spawner_of(data_dir), signal.SIGKILL)
        await eventually(lambda: processes_of(data_dir) == {})

    _go(data_dir, test)


def _keepers(data_dir: Path) -> set[int]:
    return {pid for pid in processes_of(data_dir) if name_of(pid) == "rnd-keeper"}


@contextlib.asynccontextmanager
async def _held_open(executor: StandaloneExecutor) -> AsyncIterator[None]:
    part = asyncio.create_task(executor.run())
    yield
    part.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await part


def test_keepers_are_there_before_the_runs_that_are_expected(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        async with _held_open(executor):
            executor.expect_runs()
            await eventually(lambda: bool(processes_of(data_dir)))
            executor.expect_runs(2)
            executor.expect_runs(3)
            executor.expect_runs(1)
            await eventually(lambda: len(_keepers(data_dir)) == 3)
            ready = _keepers(data_dir)
            waits = "until test -e ../../go; do sleep 0.02; done"
            handles = [await executor.submit(_order(data_dir, number, waits)) for number in range(3)]
            assert {json.loads(handle)["keeper_pid"] for handle in handles} == ready
            (data_dir / "go").touch()

    _go(data_dir, test)


def test_no_more_keepers_are_made_ready_than_may_rest_and_they_go_by_themselves(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        async with _held_open(executor):
            executor.expect_runs(IDLE_KEEPERS_MAX + 10)
            await eventually(lambda: len(_keepers(data_dir)) == IDLE_KEEPERS_MAX)
            await executor.submit(_order(data_dir, 1, "exit 0"))
            assert len(_keepers(data_dir)) == IDLE_KEEPERS_MAX
            await asyncio.sleep(IDLE_KEEPER_S)
            await eventually(lambda: not _keepers(data_dir))

    _go(data_dir, test)


def test_socket_and_folder_are_the_owners_alone(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        await executor.wait(await executor.submit(_order(data_dir, 1, "exit 0")))
        assert (data_dir / "run").stat().st_mode & 0o777 == 0o700
        assert (data_dir / "run/spawner.sock").stat().st_mode & 0o777 == 0o600

    _go(data_dir, test)


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"17", b'{"id": 1}', b'{"id": 1, "op": "dance"}', b'{"id": 1, "op": "submit", "run": {}}',
     b'{"id": 1, "op": "expect"}', b'{"id": 1, "op": "expect", "at_once": "many"}', b'{"id": 1, "op": "submit", "run": 3}', b'{"id": 1, "op": "submit", "run": {"engine_name": "../x", "directory": "/"}}'],
)  # fmt: skip
def test_nonsense_is_answered_and_harms_nobody(data_dir: Path, line: bytes) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        await executor.submit(_order(data_dir, 1, "exit 0"))
        folder = seat.open_folder(os.fspath(data_dir))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(seat.socket_path(folder, spawner.SEAT))
            connection.sendall(line + b"\n")
            assert "error" in json.loads(connection.recv(1 << 16))
        os.close(folder)
        assert (await executor.wait(await executor.submit(_order(data_dir, 2, "exit 3")))).exit_code == 3

    _go(data_dir, test)


def test_a_spawner_that_cannot_start_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")

    async def test() -> None:
        executor = StandaloneExecutor(tmp_path)
        with pytest.raises(ExecutorUnavailable, match="Not a directory"):
            await executor.submit(_order(tmp_path, 1, "exit 0"))
        health = await executor.check()
        assert not health.available
        assert "Not a directory" in (health.reason or "")
        (tmp_path / "run").unlink()
        assert (await executor.check()).available
        await executor.close()

    asyncio.run(test())
    assert_no_processes(tmp_path)


def test_a_second_spawner_finds_the_first_and_ends(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        await executor.submit(_order(data_dir, 1, "exit 0"))
        pid = spawner_of(data_dir)
        entry = Path(spawner.__file__).with_name("spawner_main.py")
        subprocess.run([sys.executable, "-I", "-S", entry, data_dir, "1"], check=True)
        assert spawner_of(data_dir) == pid

    _go(data_dir, test)


def test_waiting_for_what_no_spawner_knows_returns_at_once(data_dir: Path) -> None:
    async def test() -> None:
        client = SpawnerClient(data_dir, version="1")
        assert await client.ended("job-1-1", 1) is None
        await client.request("hello")
        assert await client.ended("job-1-1", 1) is None
        await client.close(stop=True)

    asyncio.run(test())


def test_an_end_is_told_to_who_ordered_the_run_and_only_once(data_dir: Path) -> None:
    """Whoever asks later, or asks as another daemon, is told to read the record, which says the same."""

    async def test() -> None:
        client, other = SpawnerClient(data_dir, version="1"), SpawnerClient(data_dir, version="1")
        run = _order(data_dir, 1, "exit 7")
        handle = await client.submit(_message(run))
        assert client.tells(run.engine_name)
        assert not other.tells(run.engine_name)
        told = await client.ended(run.engine_name, handle["keeper_pid"])
        assert told is not None
        assert (told["phase"], told["exit_code"], told["tidy"]) == ("EXITED", 7, True)
        record = run_files.read(os.fspath(run.directory), run.engine_name)
        assert record is not None
        assert record.ended == told
        assert not client.tells(run.engine_name)
        for late in (client, other):
            assert await late.ended(run.engine_name, handle["keeper_pid"]) == {}
        await client.submit(_message(_order(data_dir, 2, "exit 0")))
        client.forget("job-2-1")
        assert not client.tells("job-2-1")
        await other.close(stop=False)
        await client.close(stop=True)

    asyncio.run(test())


def test_no_run_is_given_to_a_keeper_that_has_had_its_share(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        keepers = set()
        for number in range(keeper.RUNS_MAX + 5):
            run = _order(data_dir, number, "", argv=("/bin/true",))
            handle = await executor.submit(run)
            assert (await executor.wait(handle)).exit_code == 0
            await executor.cleanup(handle)
            keepers.add(json.loads(handle)["keeper_pid"])
        assert len(keepers) > 1

    _go(data_dir, test)


def test_a_run_that_leaves_something_in_its_temporary_folder_is_not_called_tidy(data_dir: Path) -> None:
    async def test(executor: StandaloneExecutor) -> None:
        run = _order(data_dir, 1, "echo x > ../tmp/left")
        handle = await executor.submit(run)
        await executor.wait(handle)
        record = run_files.read(os.fspath(run.directory), run.engine_name)
        assert record is not None
        assert record.ended is not None
        assert record.ended["tidy"] is False
        assert (run.directory / "tmp/left").exists()
        await executor.cleanup(handle)
        assert not (run.directory / "tmp").exists()

    _go(data_dir, test)
