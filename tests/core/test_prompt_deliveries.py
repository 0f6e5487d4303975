"""Deliveries that are committed with the end of their job: what is small and stays on this peer, and nothing else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from rnd.services.executor import JobRun
from rnd.types.enums import ExecutionStatus
from rnd.types.ids import ExecutionId
from rnd.workers.prompt_delivery import PROMPT_FILES
from tests.core.core_peer import MUCH, Daemon, Machine, Script, edge, says_much

ONE = ExecutionId(1)
OWED = "SELECT COUNT(*) FROM transfers WHERE status = 'PENDING'"


def _leave_files(count: int, run: JobRun) -> None:
    for number in range(count):
        Path(run.directory, "output", f"{number:03}").write_text(f"{number}\n")


@pytest.mark.parametrize("dies_at", range(1, 14))
def test_an_end_and_its_small_deliveries_are_one_commit(machine: Machine, dies_at: int) -> None:
    """Wherever the daemon dies, nothing that a small output feeds is left owed: it is delivered, or the job runs on."""

    async def play() -> None:
        async with machine.serve(is_idle=True) as daemon:
            services = [await daemon.program("a"), await daemon.program("b")]
            drawn = await daemon.draw(services, [edge(0, 1), edge(0, None), edge(1, None)])
            await daemon.workflow_manager.execute(drawn.workflow_id)
        async with machine.serve(dies_at=dies_at) as daemon:
            await daemon.until(daemon.is_dead)
            assert await daemon.sql(OWED) == [(0,)]
            ready = "SELECT COUNT(*) FROM job_interface_peers WHERE duty_acknowledged = 1 AND peer_mount_function = 'OUTPUT'"
            delivered = await daemon.sql("SELECT COUNT(*) FROM transfers WHERE dest_job_execution_id > 0")
            assert await daemon.sql(ready) == delivered
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
            assert await daemon.home(ONE) == {"a/stdout.txt": b"a\n", "b/stdout.txt": b"a\nb\n"}
        assert sorted(machine.engine.submitted) == ["job-1-1", "job-2-1"]

    asyncio.run(play())


def test_what_a_job_made_and_its_copies_wait_for_the_disk_together(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the first of it is flushed, all of it is in its place; when the end is committed, all of it is flushed."""
    folders = machine.data_dir / "workflows"
    flush, flushed, there_at_first = os.fsync, set[str](), set[str]()

    def watch(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if not there_at_first and path.is_relative_to(folders):
            there_at_first.update(str(path) for path in folders.rglob("stdout.txt") if ".part" not in str(path))
        flush(fd)
        flushed.add(str(path))

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a"), await daemon.program("b", Script(holds=True))]
        drawn = await daemon.draw(services, [edge(0, 1), edge(0, None)])
        monkeypatch.setattr(os, "fsync", watch)
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.eventually("SELECT COUNT(*) FROM job_executions WHERE status = 'COMPLETED'", (1,))
        assert len(there_at_first) == 3
        assert {path for path in flushed if path.endswith("stdout.txt")} == there_at_first
        assert {str(Path(path).parent) for path in there_at_first} <= flushed
        daemon.engine.let_go("b")
        await daemon.ended(ONE)

    machine.play(play)


def test_a_disk_that_does_not_take_what_is_copied_ends_the_job_in_words(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what one flush was to make durable nobody knows what is: nothing of it may be called delivered."""
    flush = os.fsync

    def refuse(fd: int) -> None:
        if "/input/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(5, "Input/output error")
        flush(fd)

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a"), await daemon.program("b")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, None)])
        monkeypatch.setattr(os, "fsync", refuse)
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert await daemon.sql("SELECT status, error_message FROM job_executions ORDER BY id") == [
            ("ERRORED", "what it left could not be kept: Input/output error"),
            ("CANCELLED", "upstream job a failed: what it left could not be kept: Input/output error"),
        ]
        assert await daemon.sql("SELECT COUNT(*) FROM transfers WHERE status = 'COMPLETED'") == [(0,)]
        assert not list((machine.data_dir / "workflows").rglob("input/**/stdout.txt"))

    machine.play(play)


@pytest.mark.parametrize("is_big", [True, False])
def test_what_is_not_small_is_left_to_the_data_worker(machine: Machine, is_big: bool) -> None:
    """Nobody makes the deliveries, and so they stay owed; with a DataWorker they arrive."""
    count = PROMPT_FILES + 1
    leaves = says_much if is_big else lambda run: _leave_files(count, run)

    async def play() -> None:
        async with machine.serve(is_idle=True) as daemon:
            services = [await daemon.program("a", Script(leaves=leaves))]
            drawn = await daemon.draw(services, [edge(0, None)])
            parts = daemon.parts()
            parts.pop(0).close()  # no DataWorker
            daemon.tasks += [asyncio.create_task(part) for part in parts]
            await daemon.workflow_manager.execute(drawn.workflow_id)
            await daemon.eventually("SELECT status FROM job_executions", ("COMPLETED",))
            assert await daemon.sql(OWED) == [(1,)]
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
            home = await daemon.home(ONE)
        assert len(home) == (1 if is_big else 1 + count)
        assert home["a/stdout.txt"] == (MUCH if is_big else b"a\n")

    asyncio.run(play())


def test_a_connection_that_carries_nothing_fails_with_its_words_and_leaves_the_others_alone(machine: Machine) -> None:
    """Of two connections one asks for files that are not there; the other is served as if it were alone."""

    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a"), await daemon.program("b"), await daemon.program("c")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(0, 2, include=("*.csv",)), edge(1, None), edge(2, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        failed = await daemon.sql("SELECT error FROM transfers WHERE status = 'FAILED'")
        assert len(failed) == 1
        assert failed[0][0].startswith("no file matches '*.csv'")
        assert await daemon.home(ONE) == {"b/stdout.txt": b"a\nb\n"}

    machine.play(play)


def test_a_receiver_that_was_cancelled_meanwhile_is_owed_nothing(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a", Script(holds=True)), await daemon.program("b")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(0, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.submitted))
        await daemon.by_hand("UPDATE job_executions SET status = 'CANCELLED' WHERE job_name = 'b'")
        daemon.tick()
        await daemon.eventually("SELECT COUNT(*) FROM job_executions WHERE settled_status = 'CANCELLED'", (1,))
        daemon.engine.let_go("a")
        await daemon.ended(ONE)
        assert await daemon.sql("SELECT dest_job_execution_id, status FROM transfers") == [(0, "COMPLETED")]
        assert await daemon.home(ONE) == {"a/stdout.txt": b"a\n"}

    machine.play(play)
