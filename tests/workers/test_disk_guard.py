"""Below the floor nothing new is taken and what moves is held up, each change said once; then it goes on."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rnd.log import close_logging, configure_logging
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.underway import Underway

FLOOR = 1_000_000


class Disk:
    """A disk whose free bytes a test sets."""

    def __init__(self, free: int) -> None:
        self.free = free

    def guard(self) -> DiskGuard:
        return DiskGuard(Path("/"), floor_bytes=FLOOR, measure=lambda _: self.free)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("INFO", log_path=None, stream=stream)
    yield stream
    close_logging()


def test_at_the_floor_there_is_room_and_one_byte_below_there_is_none() -> None:
    assert Disk(FLOOR).guard().refusal() is None
    refusal = Disk(FLOOR - 1).guard().refusal()
    assert refusal == "the disk of this peer is nearly full (limits.disk_floor_bytes is 1,000,000)"


def test_what_is_to_come_has_to_fit_above_the_floor_and_does_not_make_the_disk_low(lines: io.StringIO) -> None:
    guard = Disk(FLOOR + 1000).guard()
    assert guard.refusal(more_bytes=1000) is None
    assert guard.refusal(more_bytes=1001) == "1,001 bytes are more than the disk of this peer has room for"
    assert guard.refusal() is None
    assert lines.getvalue() == ""


def test_each_change_is_told_once_and_the_answer_does_not_flutter(lines: io.StringIO) -> None:
    disk = Disk(FLOOR - 1)
    guard = disk.guard()
    for free in (FLOOR - 1, FLOOR - 2, FLOOR, FLOOR + FLOOR // 20 - 1):
        disk.free = free
        assert guard.refusal() is not None
    disk.free = FLOOR + FLOOR // 20
    assert guard.refusal() is None
    assert guard.refusal() is None
    told = [line.split("Z ", 1)[1] for line in lines.getvalue().splitlines()]
    assert told == [
        "[ERROR] Disk nearly full: free_bytes=999999, floor_bytes=1000000",
        "[INFO] Disk has room again: free_bytes=1050000",
    ]


def test_without_a_floor_there_is_always_room() -> None:
    guard = DiskGuard(Path("/"), floor_bytes=0, measure=lambda _: 0)
    assert guard.refusal() is None


def test_the_real_disk_is_asked(tmp_path: Path) -> None:
    assert DiskGuard(tmp_path, floor_bytes=0).refusal() is None
    assert DiskGuard(tmp_path, floor_bytes=1 << 60).refusal() is not None


def underway(disk: Disk) -> Underway:
    return Underway(started_at=datetime(2026, 1, 31, tzinfo=UTC), disk=disk.guard())


def test_each_question_whether_to_stop_is_a_sign_of_life() -> None:
    delivery = underway(Disk(FLOOR))
    assert [delivery.must_stop(), delivery.must_stop()] == [False, False]
    assert delivery.signs_of_life == 2
    delivery.call_off()
    assert delivery.must_stop()


def test_a_delivery_is_held_up_while_the_disk_is_low_and_then_goes_on() -> None:
    disk = Disk(FLOOR - 1)
    delivery = underway(disk)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(delivery.must_stop()))
    thread.start()
    while delivery.held_up is None:
        pass
    assert "nearly full" in delivery.held_up
    disk.free = 2 * FLOOR
    thread.join(10)
    assert (answers, delivery.held_up) == ([False], None)


def test_a_delivery_that_is_held_up_can_be_called_off() -> None:
    delivery = underway(Disk(0))
    delivery.call_off()
    assert delivery.must_stop()
