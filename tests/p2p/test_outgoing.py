"""Deliveries to other peers: when they are tried, what an attempt costs, what is told of it, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from rnd.log import close_logging, configure_logging
from rnd.p2p.link import Link
from rnd.protocol.messages import Message
from rnd.protocol.transfer_messages import DataTransferAccept, DataTransferPresent
from rnd.types.times import from_text
from rnd.workers.deliveries import DeliveryDesk
from rnd.workers.sending import Sending
from tests.core.core_peer import Machine
from tests.p2p.sender import HOLD_S, RECEIVER, TRANSFER, Line, Sender, Way, busy, play, takes_all

MANY = 32 << 20


def bytes_read() -> int:
    """Return how much this process has read from files so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def hashing(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of senders that were not there before."""
    return [each for each in threading.enumerate() if each.name.startswith("rnd-sending") and each not in before]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "data")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(b"some bytes")
    return path


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the log says from INFO on."""
    stream = io.StringIO()
    configure_logging("INFO", log_path=None, stream=stream)
    yield stream
    close_logging()


@pytest.fixture
def away() -> Way:
    way = Way()
    way.is_there = False
    return way


def test_a_delivery_arrives(machine: Machine, source: Path) -> None:
    async def test(sender: Sender) -> None:
        await sender.becomes("COMPLETED")

    play(machine, source, test)


def test_a_delivery_that_is_cancelled_while_it_rests_leaves_nothing_to_do(
    machine: Machine, source: Path, away: Way
) -> None:
    """The rows are read when there is news, and not over and over because its pause is over."""

    async def test(sender: Sender) -> None:
        await sender.tried(2)
        await sender.cancel()
        await asyncio.sleep(0.5)  # longer than any of its pauses so far
        before = sender.database.reads
        await asyncio.sleep(0.5)
        assert sender.database.reads - before <= 1

    play(machine, source, test, way=away)


def test_a_row_that_ends_by_itself_while_its_delivery_rests_is_looked_for_once(
    machine: Machine, source: Path, away: Way
) -> None:
    async def test(sender: Sender) -> None:
        await sender.tried(2)
        await sender.daemon.by_hand("UPDATE transfers SET status = 'CANCELLED', completed_at = created_at")
        await asyncio.sleep(0.5)
        before = sender.database.reads
        await asyncio.sleep(0.5)
        assert sender.database.reads - before <= 1

    play(machine, source, test, way=away)


def test_what_waits_says_in_its_row_how_often_it_was_tried_and_when_it_is_again(
    machine: Machine, source: Path, away: Way
) -> None:
    async def test(sender: Sender) -> None:
        await sender.tried(2)
        now = sender.daemon.clock.now()
        attempts, error, next_at = await sender.row("attempts, error, next_attempt_at")
        assert attempts >= 2
        assert error == "nobody is there"
        assert 0 < (from_text(next_at) - now).total_seconds() <= 30
        away.is_there = True
        sender.outgoing.peer_came(RECEIVER)
        await sender.becomes("COMPLETED")
        assert await sender.row("error, next_attempt_at") == (None, None)

    play(machine, source, test, way=away)


def test_nothing_is_read_for_a_receiver_that_is_not_there(machine: Machine, source: Path, away: Way) -> None:
    """A source that is gone is not even noticed."""
    source.unlink()

    async def test(sender: Sender) -> None:
        await sender.tried(2)
        assert await sender.row("status, error") == ("PENDING", "nobody is there")

    play(machine, source, test, way=away)


def test_a_source_is_hashed_once_however_often_it_is_offered(machine: Machine, source: Path) -> None:
    way = Way()
    way.line.answers = deque([busy, busy, busy, takes_all])

    source.write_bytes(bytes(MANY))
    read_before = bytes_read()

    async def test(sender: Sender) -> None:
        await sender.becomes("COMPLETED")
        assert way.line.offers() == 4
        assert bytes_read() - read_before < 3 * MANY  # hashed once and sent once

    play(machine, source, test, way=way)


def test_what_is_sent_is_read_beside_the_event_loop(
    machine: Machine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    read = Sending.read_into

    def watched(self: Sending, buffer: memoryview, offset: int) -> None:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        read(self, buffer, offset)

    monkeypatch.setattr(Sending, "read_into", watched)

    async def test(sender: Sender) -> None:
        await sender.becomes("COMPLETED")

    play(machine, source, test)
    assert threads == {"rnd-sending"}


def test_a_stop_does_not_wait_for_a_source_that_is_being_hashed(machine: Machine, source: Path) -> None:
    """The threads end with the sender, and so does the process, which waits for them."""
    with source.open("wb") as file:
        file.truncate(40 << 30)
    before = set(threading.enumerate())

    async def test(sender: Sender) -> None:
        await sender.daemon.until(lambda: hashing(before) != [] and sender.way.looks > 0)

    play(machine, source, test)
    for thread in hashing(before):
        thread.join(timeout=2.0)
        assert not thread.is_alive()


@pytest.mark.parametrize("step_s", [86_400.0, -86_400.0])
def test_no_step_of_the_clock_ends_the_hold_of_what_waits(
    machine: Machine, source: Path, away: Way, step_s: float
) -> None:
    async def test(sender: Sender) -> None:
        await sender.tried(1)
        sender.daemon.clock.step(step_s)
        sender.daemon.clock.move(HOLD_S - 1.0)
        await sender.tried(3)
        assert await sender.row("status") == ("PENDING",)

    play(machine, source, test, way=away, from_job=True)


def test_what_has_waited_for_as_long_as_it_is_held_fails(machine: Machine, source: Path, away: Way) -> None:
    async def test(sender: Sender) -> None:
        await sender.tried(1)
        sender.daemon.clock.move(HOLD_S + 1.0)
        await sender.becomes("FAILED")

    play(machine, source, test, way=away, from_job=True)


def test_a_receiver_that_says_busy_fills_no_log(machine: Machine, source: Path, lines: io.StringIO) -> None:
    """What is announced is said once, and each reason once."""
    way = Way()
    way.line.answers = deque([busy, busy, busy, busy, takes_all])

    async def test(sender: Sender) -> None:
        await sender.becomes("COMPLETED")

    play(machine, source, test, way=way)
    told = [line.partition("] ")[2].partition(":")[0] for line in lines.getvalue().splitlines()]
    wanted = {"Initiating transfer": 1, "Transfer request sent": 2, "Transfer retrying": 1}
    assert Counter(line for line in told if line in wanted) == wanted
    assert "reason=such a transfer is under way attempts=1" in lines.getvalue()


def test_no_path_of_this_host_stands_in_the_log(machine: Machine, source: Path, lines: io.StringIO) -> None:
    async def test(sender: Sender) -> None:
        await sender.becomes("COMPLETED")

    play(machine, source, test)
    assert "source=self-peer" in lines.getvalue()
    assert str(source) not in lines.getvalue()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_host_that_is_out_of_descriptors_for_a_moment_fails_no_delivery(
    machine: Machine, source: Path, away: Way
) -> None:
    async def test(sender: Sender) -> None:
        await sender.tried(1)
        with no_descriptors():
            away.is_there = True
            await sender.tried(3)
        await sender.becomes("COMPLETED")

    play(machine, source, test, way=away)


def test_a_source_that_is_gone_fails_its_delivery(machine: Machine, source: Path) -> None:
    source.unlink()

    async def test(sender: Sender) -> None:
        await sender.becomes("FAILED")

    play(machine, source, test)


@dataclass(eq=False)
class SlowLine(Line):
    """A link on which what is said does not leave for a while."""

    looks: int = 0

    def has_left(self, _mark: int) -> bool:
        self.looks += 1
        return False

    async def send_frame(self, frame: memoryview, give_back: Callable[[], None]) -> None:
        self.sent_bytes += len(frame) - 16
        give_back()


async def looks_first(line: Line, message: Message) -> Message:
    """Accept, and say later what is here already."""
    answer = await takes_all(line, message)
    return replace(answer, present=None) if isinstance(answer, DataTransferAccept) else answer


def test_a_receiver_that_has_not_been_reached_yet_is_not_idle(
    machine: Machine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeliveryDesk, "_idle_s", lambda *_: 0.05)
    line, way = SlowLine(answers=deque([looks_first])), Way()
    way.line = line

    async def test(sender: Sender) -> None:
        async with asyncio.timeout(10):
            while line.looks < 3:
                await asyncio.sleep(0.01)
        assert line.deliveries == 1
        word = DataTransferPresent(transfer_id=TRANSFER, bytes_read=0, present=b"")
        sender.outgoing.shipping.take_present(cast(Link, line), word)
        await sender.becomes("COMPLETED")
        assert line.offers() == 1
        assert not line.deliveries, "the link is idle from here on"

    play(machine, source, test, way=way)


def test_a_receiver_that_was_reached_and_says_nothing_is_idle(
    machine: Machine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeliveryDesk, "_idle_s", lambda *_: 0.05)
    way = Way()
    way.line.answers = deque([looks_first])

    async def test(sender: Sender) -> None:
        await sender.tried(1)
        assert "transfer_idle" in (await sender.row("error"))[0]

    play(machine, source, test, way=way)
