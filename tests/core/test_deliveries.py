"""What travels along connections: choice, names, collisions, DATA, the self-peer at both ends, and what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from rnd.services.executor import JobRun
from rnd.types.config import Deadlines
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import ValidationFailed
from rnd.types.executions import FileEntry
from rnd.types.ids import ExecutionId
from rnd.workers import data_worker
from rnd.workers.copying import Reader
from tests.core.core_peer import IN_AND_OUT, MUCH, PATIENCE_S, Daemon, Drawn, Edge, Machine, Script, edge, says_much

ONE, TWO = ExecutionId(1), ExecutionId(2)


def leave(**files: str) -> Script:
    """Return a script that leaves files in output/, named with `_` for `.` and `__` for `/`."""

    def write(run: JobRun) -> None:
        for name, content in files.items():
            path = run.directory / "output" / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return Script(leaves=write)


async def _one_home(daemon: Daemon, script: Script, *edges: Edge) -> Drawn:
    drawn = await daemon.draw([await daemon.program("a", script)], edges)
    await daemon.workflow_manager.execute(drawn.workflow_id)
    return drawn


# ---------------------------------------------------------------- choice and names


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"stdout.txt": b"a\n", "x.csv": b"x", "sub/y.csv": b"y", "z.log": b"z"}),
        ({"include": ("*.csv",)}, {"x.csv": b"x", "sub/y.csv": b"y"}),
        ({"include": ("z.*",), "file_name": "one.txt"}, {"one.txt": b"z"}),
        ({"file_name": "said.txt"}, {"said.txt": b"a\n"}),
        ({"include": ("*.csv",), "file_name": "all/"}, {"all/x.csv": b"x", "all/sub/y.csv": b"y"}),
    ],
)
def test_what_comes_home_and_how_it_is_called(
    machine: Machine, options: dict[str, object], expected: dict[str, bytes]
) -> None:
    async def play(daemon: Daemon) -> None:
        await _one_home(daemon, leave(x_csv="x", sub__y_csv="y", z_log="z"), replace(edge(0, None), **options))  # type: ignore[arg-type]  # the table's
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(ONE) == {f"a/{name}": content for name, content in expected.items()}

    machine.play(play)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": ("*.nothing",)}, "nothing"),
        ({"include": ("*.csv",), "file_name": "one.txt"}, "one.txt"),
    ],
)
def test_a_choice_that_fits_nothing_fails_the_execution_with_words(
    machine: Machine, options: dict[str, object], words: str
) -> None:
    async def play(daemon: Daemon) -> None:
        await _one_home(daemon, leave(x_csv="x", y_csv="y"), replace(edge(0, None), **options))  # type: ignore[arg-type]  # the table's
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.FAILED
        assert "was not delivered" in str(execution.error)
        assert words in str(execution.error)
        assert await daemon.story() == [("a", "COMPLETED", None)]

    machine.play(play)


def test_a_stream_and_a_file_of_one_name_are_not_mixed(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        await _one_home(daemon, leave(stdout_txt="mine"), edge(0, None))
        execution = await daemon.ended(ONE)
        assert execution.status is ExecutionStatus.FAILED
        assert "stdout.txt" in str(execution.error)

    machine.play(play)


def test_two_providers_of_a_mount_that_share_a_name_are_both_named(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [
            await daemon.files("x", {"same.txt": b"1"}),
            await daemon.files("y", {"same.txt": b"2"}),
            await daemon.program("a", interfaces=IN_AND_OUT),
        ]
        drawn = await daemon.draw(services, [edge(0, 2, "STDOUT->MOUNT"), edge(1, 2, "STDOUT->MOUNT")])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        error = (await daemon.story())[2][2]
        assert "same.txt" in error
        assert "connection 1" in error
        assert "connection 2" in error
        assert daemon.engine.submitted == []

    machine.play(play)


def test_a_mount_shows_the_files_of_its_providers_and_gives_its_own_away(machine: Machine) -> None:
    seen: dict[str, bytes] = {}

    def work(run: JobRun) -> None:
        for path in (run.directory / "mounts" / "in").rglob("*.txt"):
            seen[path.name] = path.read_bytes()
        (run.directory / "mounts" / "out" / "made").mkdir()
        (run.directory / "mounts" / "out" / "made" / "it").write_bytes(b"made")

    async def play(daemon: Daemon) -> None:
        services = [
            await daemon.files("x", {"x.txt": b"1"}),
            await daemon.files("y", {"y.txt": b"2"}),
            await daemon.program("a", Script(leaves=work), interfaces=IN_AND_OUT),
        ]
        edges = [edge(0, 2, "STDOUT->MOUNT"), edge(1, 2, "STDOUT->MOUNT"), edge(2, None, "MOUNT->STDIN")]
        drawn = await daemon.draw(services, edges)
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert seen == {"x.txt": b"1", "y.txt": b"2"}
        assert await daemon.home(ONE) == {"a/made/it": b"made"}

    machine.play(play)


# ---------------------------------------------------------------- DATA


def test_a_data_job_ends_exactly_when_its_last_delivery_has(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.files("x", {"x.txt": b"1"}), await daemon.program("a"), await daemon.program("b")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(0, 2), edge(0, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        told = await daemon.sql(
            """
            SELECT type
            FROM events
            WHERE (type = 'transfer.progress' AND json_extract(data, '$.connection_id') <= 3)
               OR (type = 'job.updated' AND json_extract(data, '$.job_name') = 'x'
                   AND json_extract(data, '$.status') = 'COMPLETED')
            ORDER BY seq
            """
        )
        assert told == [("transfer.progress",)] * 3 + [("job.updated",)]
        assert await daemon.home(ONE) == {"x/x.txt": b"1"}

    machine.play(play)


def test_nothing_of_a_manifest_stays_in_memory_when_its_delivery_has_ended(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.files("x", {"forgotten.txt": b"1"}), await daemon.program("a")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(0, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        async with asyncio.timeout(PATIENCE_S):
            while any(type(each) is FileEntry and each.relative_path == "forgotten.txt" for each in gc.get_objects()):
                await daemon.sql("SELECT 1")  # what has just ended is still on its way out

    machine.play(play)


def test_encrypted_data_is_opened_by_its_passphrase_and_the_key_is_forgotten(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.files("x", {"x.txt": b"secret"}, passphrase="open sesame"), await daemon.program("a")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, None)])
        with pytest.raises(ValidationFailed, match="is encrypted"):
            await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.workflow_manager.execute(drawn.workflow_id, passphrase="open sesame")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(ONE) == {"a/stdout.txt": b"secreta\n"}
        assert await daemon.sql("SELECT COUNT(*) FROM sealed_secrets") == [(0,)]

    machine.play(play)


def test_a_snapshot_that_was_damaged_is_never_delivered(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.files("x", {"x.txt": b"right"}), await daemon.program("a"), await daemon.program("b")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, 2)])
        (stored,) = [path for path in (machine.data_dir / "services").rglob("*") if path.is_file()]
        stored.chmod(0o644)
        stored.write_bytes(b"wrong")
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        story = await daemon.story()
        assert [row[1] for row in story] == ["ERRORED", "CANCELLED", "CANCELLED"]
        assert "has changed" in story[0][2]
        assert story[1][2].startswith("an input could not be delivered")

    machine.play(play)


# ---------------------------------------------------------------- the self-peer


def test_the_self_peer_sends_a_file_and_a_folder(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.txt").write_text("1")
    (folder / "two.txt").write_text("2")
    (tmp_path / "lone.txt").write_text("3")

    async def play(daemon: Daemon) -> None:
        edges = [
            edge(None, 0, source_path=str(folder), include=("one.*",)),
            edge(None, 0),
            edge(0, None),
        ]
        drawn = await daemon.draw([await daemon.program("a")], edges)
        inputs = {drawn.connections[1]: str(tmp_path / "lone.txt")}
        await daemon.workflow_manager.execute(drawn.workflow_id, inputs=inputs)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert await daemon.home(ONE) == {"a/stdout.txt": b"13a\n"}

    machine.play(play)


def test_a_source_that_goes_away_cancels_its_receiver(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("here")

    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [edge(None, 0, source_path=str(source))])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        source.unlink()
        daemon.tasks += [asyncio.create_task(part) for part in daemon.parts()]
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        ((_, status, error),) = await daemon.story()
        assert status == "CANCELLED"
        assert error.startswith("an input could not be delivered")

    machine.play(play, is_idle=True)


def test_a_self_peer_connection_without_a_source_says_so(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [edge(None, 0)])
        try:
            await daemon.workflow_manager.execute(drawn.workflow_id)
        except ValidationFailed:
            return
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert "names no file or folder" in (await daemon.story())[0][2]

    machine.play(play)


# ---------------------------------------------------------------- ends of deliveries


class StuckReader:
    """A source that gives no byte, such as a network disk that is away, until it is let go."""

    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    def readinto(self, buffer: memoryview, /) -> int:
        for _ in range(2_000):
            if self._gate.is_set():
                return 0

            time.sleep(0.005)
        return 0

    def close(self) -> None:
        """Nothing is held."""


def _get_stuck(daemon: Daemon, gate: asyncio.Event) -> None:
    def open_entry(*_: object) -> Reader:
        return StuckReader(gate)

    daemon.data.open_entry = open_entry  # type: ignore[method-assign,assignment]  # a disk that does not answer


def test_a_delivery_that_stands_still_fails_in_time(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_worker, "PROGRESS_INTERVAL_S", 0.01)
    machine.deadlines = Deadlines(transfer_idle_s=300)

    async def play(daemon: Daemon) -> None:
        gate = asyncio.Event()
        _get_stuck(daemon, gate)
        services = [await daemon.files("x", {"x": b"1"}), await daemon.program("a")]
        drawn = await daemon.draw(services, [edge(0, 1)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.eventually("SELECT status FROM transfers", ("ACTIVE",))
        daemon.tick(301)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.FAILED
        assert "no byte has moved for 300 s" in (await daemon.story())[0][2]
        gate.set()

    machine.play(play)


def test_a_delivery_that_is_called_off_midway_leaves_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_worker, "PROGRESS_INTERVAL_S", 0.01)

    async def play(daemon: Daemon) -> None:
        gate = asyncio.Event()
        _get_stuck(daemon, gate)
        services = [await daemon.files("x", {"x": b"1"}), await daemon.program("a")]
        drawn = await daemon.draw(services, [edge(0, 1)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.eventually("SELECT status FROM transfers", ("ACTIVE",))
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        gate.set()
        assert await daemon.sql("SELECT status FROM transfers") == [("CANCELLED",)]
        received = machine.data_dir / "workflows"
        await daemon.until(lambda: not [path for path in received.rglob("*") if path.is_file()])

    machine.play(play)


def test_what_a_delivery_has_opened_is_closed_where_nobody_waits_for_it_any_more() -> None:
    async def play() -> None:
        closed: list[str] = []
        opened = ExitStack()
        opened.callback(closed.append, "the source")
        work = asyncio.get_running_loop().create_future()
        work.set_result(data_worker._Load(open_entry=lambda _: StuckReader(asyncio.Event()), items=(), opened=opened))
        data_worker._let_go(work)
        assert closed == ["the source"]

    asyncio.run(play())


def test_long_deliveries_keep_neither_short_ones_nor_jobs_waiting(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven of eight deliveries stand still; the eighth, and the staging and collecting of jobs, go on."""
    monkeypatch.setattr(data_worker, "PROGRESS_INTERVAL_S", 0.01)

    async def play(daemon: Daemon) -> None:
        gate = asyncio.Event()
        _get_stuck(daemon, gate)
        services = [await daemon.files("x", {"x": b"1"})] + [await daemon.program(name) for name in "abcdefg"]
        stuck = await daemon.draw(services, [edge(0, number) for number in range(1, 8)])
        await daemon.workflow_manager.execute(stuck.workflow_id)
        await daemon.eventually("SELECT COUNT(*) FROM transfers WHERE status = 'ACTIVE'", (7,))
        quick = await daemon.draw([await daemon.program("y"), await daemon.program("z")], [edge(0, 1), edge(1, None)])
        await daemon.workflow_manager.execute(quick.workflow_id)
        assert (await daemon.ended(TWO)).status is ExecutionStatus.COMPLETED
        await daemon.workflow_manager.cancel(ONE, reason="enough")
        gate.set()
        await daemon.ended(ONE)

    machine.play(play)


class Turnstile:
    """Counts who reads at a time; nobody gets on while it is shut."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def guard(self, open_entry: Callable[..., Reader]) -> Callable[..., Reader]:
        """Return what opens files, each of which is one inside until it is closed."""

        def opened(*arguments: object) -> Reader:
            return TurnstileReader(self, open_entry(*arguments))

        return opened

    def count(self, more: int) -> None:
        with self._lock:
            self.inside += more
            self.most = max(self.most, self.inside)


class TurnstileReader:
    """A file inside."""

    def __init__(self, turnstile: Turnstile, reader: Reader) -> None:
        self._turnstile, self._reader = turnstile, reader
        turnstile.count(1)

    def readinto(self, buffer: memoryview, /) -> int | None:
        assert self._turnstile.open.wait(PATIENCE_S)
        return self._reader.readinto(buffer)

    def close(self) -> None:
        self._turnstile.count(-1)
        self._reader.close()


def test_no_more_deliveries_are_made_at_once_than_there_are_places(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_worker, "PROGRESS_INTERVAL_S", 0.01)

    async def play(daemon: Daemon) -> None:
        places, turnstile = daemon.config.transfer_slots, Turnstile()
        daemon.data.open_entry = turnstile.guard(daemon.data.open_entry)  # type: ignore[method-assign]  # to count
        receivers = [await daemon.program(f"p{number}") for number in range(places + 3)]
        services = [await daemon.files("x", {"x": b"1"}), *receivers]
        drawn = await daemon.draw(services, [edge(0, number) for number in range(1, len(services))])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.eventually("SELECT COUNT(*) FROM transfers WHERE status = 'ACTIVE'", (places,))
        await daemon.until(lambda: turnstile.inside == places)  # a row is ACTIVE a moment before its file is opened
        turnstile.open.set()
        assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
        assert turnstile.most == places

    machine.play(play)


def test_deliveries_that_a_dead_daemon_was_making_begin_again(machine: Machine) -> None:
    """ACTIVE rows, and a folder that was renamed into place without its commit."""

    async def play() -> None:
        async with machine.serve() as daemon:
            services = [await daemon.program("a", Script(holds=True, leaves=says_much)), await daemon.program("b")]
            drawn = await daemon.draw(services, [edge(0, 1), edge(1, None)])
            await daemon.workflow_manager.execute(drawn.workflow_id)
            await daemon.until(lambda: bool(daemon.engine.submitted))
        async with machine.serve(is_idle=True) as daemon:
            parts = daemon.parts()
            parts.pop(0).close()
            daemon.engine.let_go("a")
            daemon.tasks += [asyncio.create_task(part) for part in parts]
            await daemon.eventually("SELECT COUNT(*) FROM transfers", (1,))
            await daemon.by_hand("UPDATE transfers SET status = 'ACTIVE', bytes_done = 1")
            for task in daemon.tasks:
                task.cancel()
        left = machine.data_dir / "workflows/rnme/2/jobs/rnme/2/input/rnme/1"
        left.mkdir(parents=True)
        (left / "old").write_text("of the delivery before")
        async with machine.serve() as daemon:
            assert (await daemon.ended(ONE)).status is ExecutionStatus.COMPLETED
            assert await daemon.home(ONE) == {"b/stdout.txt": MUCH + b"b\n"}
        assert [path.name for path in left.iterdir()] == ["stdout.txt"]

    asyncio.run(play())


def test_a_data_job_that_was_cancelled_before_it_began_owes_nothing(machine: Machine) -> None:
    """Claimed and cancelled in one breath: no delivery is written down for it afterwards."""

    async def play(daemon: Daemon) -> None:
        services = [await daemon.files("x", {"x": b"1"})]
        drawn = await daemon.draw(services, [edge(0, None)])
        begun = daemon.data_worker.execute_data_service

        async def late(*arguments: object) -> None:
            await daemon.workflow_manager.cancel(ONE, reason="enough")
            await begun(*arguments)  # type: ignore[arg-type]  # handed on as they are

        daemon.data_worker.execute_data_service = late  # type: ignore[method-assign,assignment]  # makes the race certain
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(ONE)).status is ExecutionStatus.CANCELLED
        assert await daemon.sql("SELECT COUNT(*) FROM transfers") == [(0,)]

    machine.play(play)
