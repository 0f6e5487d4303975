"""A delivery that is taken ends in one of three ways: it arrives, it waits for another link, or nothing of it stays."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rnd.p2p import intake
from rnd.protocol.instructions import Acknowledge
from rnd.protocol.transfer_messages import ChunkAck, DataTransferAccept, DataTransferComplete, DataTransferStop
from rnd.types.peers import RejectionCode
from rnd.workers.checkpoints import Checkpoint
from rnd.workers.files import free_bytes
from rnd.workers.part_file import PartFile
from rnd.workers.staged_folder import StagedFolder
from tests.core.core_peer import Machine
from tests.p2p.one_receiver import Line, Parcel, Receiver, code_of, play

BIG = 9 << 20
"""Long enough that it is noted how far it is."""


@pytest.fixture
def failing_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first flush of one file fails, as it does where the disk could not write what the system had taken for written."""
    flushes = iter([OSError(errno.EIO, "Input/output error")])
    fdatasync = os.fdatasync

    def flush(fd: int) -> None:
        for error in flushes:
            raise error
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", flush)


@pytest.mark.usefixtures("failing_flush")
def test_what_could_not_be_flushed_comes_anew(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(BIG))
        assert isinstance(await receiver.offer(**parcel.fields), DataTransferAccept)
        receiver.send(parcel, end=8 << 20)
        await receiver.until_transfer_is("PENDING")
        (stop,) = (each for each in receiver.line.told if isinstance(each, DataTransferStop))
        assert "Input/output error" in stop.reason
        assert not stop.paused
        assert receiver.parts == []

        again = await receiver.offer_again(2, **parcel.fields)
        assert again.offset == 0
        receiver.send(parcel, 2)
        assert (await receiver.announce(2)).success
        (arrived,) = receiver.daemon.folders.data_dir.rglob("0.bin")
        assert arrived.read_bytes() == parcel.contents[0]

    play(machine, test)


@pytest.mark.usefixtures("failing_flush")
def test_nothing_is_kept_for_another_link_of_what_could_not_be_flushed(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(BIG))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=2 << 20)
        await receiver.until_written(parcel, 2 << 20)
        receiver.lose_link()
        await receiver.until_transfer_is("PENDING")
        assert receiver.parts == []
        again = await receiver.offer_again(2, **parcel.fields)
        assert again.offset == 0

    play(machine, test)


def test_bytes_that_were_altered_while_no_link_was_there_never_arrive(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(BIG), os.urandom(BIG))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=12 << 20)
        await receiver.until_written(parcel, 12 << 20)
        receiver.lose_link()
        await receiver.until_transfer_is("PENDING")
        (altered,) = receiver.daemon.folders.data_dir.rglob("0.bin")
        with altered.open("r+b") as file:
            file.write(bytes([parcel.contents[0][0] ^ 1]))

        again = await receiver.offer_again(2, **parcel.fields)
        receiver.send(parcel, 2, begin=again.offset)
        assert again.offset == 0
        assert (await receiver.announce(2)).success
        for number, content in enumerate(parcel.contents):
            (arrived,) = receiver.daemon.folders.data_dir.rglob(f"{number}.bin")
            assert arrived.read_bytes() == content

    play(machine, test)


class Disk:
    """A disk that is full, or is not."""

    is_full = False

    def measure(self, path: Path) -> int:
        return 0 if self.is_full else free_bytes(path)


def test_what_stands_still_with_its_end_announced_waits_for_another_link(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it has come, the announcement too, and waits in memory when the disk has no room for it."""
    disk = Disk()

    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(4 << 20))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=2 << 20)
        await receiver.until_written(parcel, 2 << 20)
        disk.is_full = True
        receiver.send(parcel, begin=2 << 20)
        announced = receiver.announce()
        await asyncio.sleep(0)  # it is heard
        monkeypatch.setattr(intake, "HELD_UP_BYTES_MAX", 0)
        answer = await announced
        assert isinstance(answer, DataTransferComplete)
        assert not answer.success
        (stop,) = (each for each in receiver.line.told if isinstance(each, DataTransferStop))
        assert stop.paused
        await receiver.until_transfer_is("PENDING")

        disk.is_full = False
        again = await receiver.offer_again(2, **parcel.fields)
        assert again.offset == 2 << 20
        receiver.send(parcel, 2, begin=again.offset)
        assert (await receiver.announce(2)).success
        await receiver.until_transfer_is("COMPLETED")

    play(machine, test, measure=disk.measure)


def test_what_its_sender_calls_off_leaves_nothing_but_a_row_that_waits(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(4 << 20))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=2 << 20)
        assert not (await receiver.announce(success=False)).success
        await receiver.until_transfer_is("PENDING")
        assert receiver.parts == []

    play(machine, test)


def test_of_what_was_announced_over_a_lost_link_what_was_written_is_kept(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(4 << 20))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=2 << 20)
        await receiver.until_written(parcel, 2 << 20)
        receiver.send(parcel, begin=2 << 20)
        announced = receiver.announce()
        await asyncio.sleep(0)  # it is heard
        receiver.lose_link()
        await announced
        await receiver.until_transfer_is("PENDING")
        again = await receiver.offer_again(2, **parcel.fields)
        assert again.offset >= 2 << 20

    play(machine, test)


def test_a_link_that_was_lost_while_an_offer_was_looked_at_keeps_no_place(machine: Machine) -> None:
    """It was told to be lost before anybody knew that something would come over it."""

    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(4 << 20))
        receiver.line.is_open = False
        await receiver.offer(**parcel.fields)
        receiver.line = Line()
        assert (await receiver.offer_again(2, **parcel.fields)).offset == 0

    play(machine, test)


def test_what_has_arrived_for_a_job_that_ended_in_the_same_moment_does_not_stay(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(BIG))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel)
        await receiver.until_written(parcel, len(parcel.stream))
        receiver.database.before_write = receiver.cancel
        assert not (await receiver.announce()).success
        assert receiver.parts == []
        assert list(receiver.daemon.folders.data_dir.rglob("0.bin")) == []

    play(machine, test)


def test_what_took_long_to_look_through_is_there_for_the_next_offer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender waits no longer for the answer; nobody would follow what was taken on for it."""

    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(BIG))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=8 << 20)
        await receiver.until_written(parcel, 8 << 20)
        receiver.lose_link()
        await receiver.until_transfer_is("PENDING")
        with monkeypatch.context() as impatient:
            impatient.setattr("rnd.p2p.admission.ANSWER_WITHIN_S", -1.0)
            answer = await receiver.offer(2, **parcel.fields)
            while "another transfer" in answer.reason:  # the attempt before has not given its place back yet
                answer = await receiver.offer(2, **parcel.fields)
        assert code_of(answer) is RejectionCode.BUSY
        assert "offer it again" in answer.reason
        again = await receiver.offer_again(3, **parcel.fields)
        assert again.offset >= 8 << 20

    play(machine, test)


def test_what_cannot_be_looked_at_now_is_asked_for_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(BIG))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=8 << 20)
        await receiver.until_written(parcel, 8 << 20)
        receiver.lose_link()
        await receiver.until_transfer_is("PENDING")
        with monkeypatch.context() as out_of_descriptors:
            out_of_descriptors.setattr(os, "lstat", refuse)
            out_of_descriptors.setattr(os, "readv", refuse)
            answer = await receiver.offer(2, **parcel.fields)
            while "another transfer" in answer.reason:  # the attempt before has not given its place back yet
                answer = await receiver.offer(2, **parcel.fields)
        assert code_of(answer) is RejectionCode.BUSY
        assert "Too many open files" in answer.reason
        assert (await receiver.offer_again(2, **parcel.fields)).offset == 8 << 20

    play(machine, test)


def test_what_comes_is_hashed_written_and_flushed_beside_the_event_loop(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {}

    def watch(act: Callable[..., object]) -> Callable[..., object]:
        def watched(*arguments: object) -> object:
            seen.setdefault(act.__name__, set()).add(threading.current_thread().name.rpartition("_")[0])
            return act(*arguments)

        return watched

    for kind, name in ((PartFile, "write"), (Checkpoint, "make_durable"), (StagedFolder, "put_in_place")):
        monkeypatch.setattr(kind, name, watch(getattr(kind, name)))

    async def test(receiver: Receiver) -> None:
        parcel = Parcel(os.urandom(2 * BIG))
        await receiver.offer(**parcel.fields)
        receiver.send(parcel, end=BIG)
        await receiver.until_written(parcel, BIG)
        receiver.send(parcel, begin=BIG)
        assert (await receiver.announce()).success

    play(machine, test)
    assert seen == {step: {"rnd-receiving"} for step in ("write", "make_durable", "put_in_place")}


def test_what_one_frame_brings_is_carried_out_without_keeping_the_loop_from_other_work(machine: Machine) -> None:
    """A frame may end 100,000 empty files."""

    async def test(receiver: Receiver) -> None:
        await receiver.offer(**Parcel(b"x").fields)
        (reception,) = receiver.incoming._receptions
        turns, is_over = 0, False

        async def take_turns() -> None:
            nonlocal turns
            while not is_over:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.create_task(take_turns())
        words = [Acknowledge(transfer_id=reception.offer.transfer_id, offset=number) for number in range(100_000)]
        await receiver.incoming._intake._follow(reception, [*words])
        is_over = True
        await others
        assert [each.offset for each in receiver.line.told if isinstance(each, ChunkAck)] == list(range(100_000))
        assert turns >= 100_000 // intake.INSTRUCTIONS_A_TURN

    play(machine, test)
