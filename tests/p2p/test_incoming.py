"""Deliveries that come in: what is taken on, and what happens to their receiver between two looks at the rows."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import cast

import pytest

from rnd.database import arrived_folders
from rnd.p2p import intake
from rnd.p2p.copying_places import COPYING_MAX
from rnd.p2p.link import Link
from rnd.protocol.frames import HEADER_BYTES, write_header
from rnd.protocol.manifest import write_manifest
from rnd.protocol.transfer_messages import DataTransferAccept, DataTransferPresent
from rnd.types.executions import FileEntry
from rnd.types.ids import PeerId
from rnd.types.peers import RejectionCode
from rnd.workers.part_notes import PartNotes, manifest_beside
from tests.core.core_peer import Machine
from tests.p2p.one_receiver import ORDERER, SENDER, Receiver, code_of, play


def test_what_a_started_job_waits_for_is_taken_on(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        assert isinstance(await receiver.offer(), DataTransferAccept)
        assert await receiver.transfers() == [("ACTIVE",)]

    play(machine, test)


def test_a_receiver_that_ends_while_its_delivery_is_taken_on_leaves_no_row_and_no_place(machine: Machine) -> None:
    """It was open when it was looked up and is not when the row is written: nobody would ever end that row."""

    async def test(receiver: Receiver) -> None:
        receiver.database.before_write = receiver.cancel
        assert code_of(await receiver.offer()) is RejectionCode.NO_DUTY
        assert await receiver.daemon.sql("SELECT status FROM job_executions") == [("CANCELLED",)]
        assert await receiver.transfers() == []
        assert code_of(await receiver.offer(2)) is RejectionCode.NO_DUTY  # and not busy: its place is free again

    play(machine, test)


def test_a_write_that_cannot_be_made_now_leaves_no_place_taken(machine: Machine) -> None:
    async def locked() -> None:
        raise TimeoutError("the database is locked")

    async def test(receiver: Receiver) -> None:
        receiver.database.before_write = locked
        with pytest.raises(TimeoutError):
            await receiver.offer()
        assert isinstance(await receiver.offer(2), DataTransferAccept)

    play(machine, test)


def test_of_two_offers_at_once_one_is_taken_on(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        answers = await asyncio.gather(receiver.offer(1), receiver.offer(2))
        assert sorted(str(code_of(answer)) for answer in answers) == ["None", "busy"]
        assert await receiver.transfers() == [("ACTIVE",)]

    play(machine, test)


def test_a_peer_that_is_stopping_asks_the_sender_to_come_again(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        assert code_of(await receiver.offer()) is RejectionCode.BUSY

    play(machine, test, runs=False)


def test_a_receiver_that_is_cancelled_later_gets_no_more(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        assert isinstance(await receiver.offer(), DataTransferAccept)
        await receiver.cancel()
        await receiver.daemon.eventually("SELECT status FROM transfers", ("CANCELLED",))
        async with asyncio.timeout(5):
            while code_of(await receiver.offer(2)) is not RejectionCode.NO_DUTY:
                await asyncio.sleep(0.01)
        assert not list(receiver.daemon.folders.data_dir.rglob("*.part"))

    play(machine, test)


# ---- what came before


CONTENT = {"a.txt": b"x" * 700_000, "b.txt": b"y" * 700_000}
LIST = write_manifest(
    [
        FileEntry(relative_path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in CONTENT.items()
    ]
)


async def arrived_before(receiver: Receiver, *paths: str) -> None:
    """Have some files arrive as they would from the sender for the orderer."""
    folder = receiver.daemon.folders.data_dir / "workflows" / "earlier"
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path).write_bytes(CONTENT[path])
    manifest_beside(folder).write_bytes(LIST.data)
    now = receiver.daemon.clock.now()
    await receiver.daemon.database.write(
        lambda conn: arrived_folders.remember(
            conn, "workflows/earlier", sender=SENDER, orderer=ORDERER, entry_count=2, now=now
        )
    )


async def said_to_be_present(receiver: Receiver) -> DataTransferPresent:
    """Offer the content, send its manifest, and return what is said to be there of it."""
    answer = await receiver.offer(
        file_count=2,
        entry_count=2,
        size_bytes=LIST.size_bytes,
        manifest_bytes=len(LIST.data),
        manifest_sha256=LIST.sha256,
    )
    assert isinstance(answer, DataTransferAccept), answer
    assert answer.present is None
    frame = bytearray(HEADER_BYTES) + LIST.data
    write_header(frame, stream=1, offset=0)
    receiver.incoming.take_frame(cast(Link, receiver.line), bytes(frame))
    async with asyncio.timeout(5):
        while not receiver.line.told:
            await asyncio.sleep(0.01)
    (word,) = receiver.line.told
    assert isinstance(word, DataTransferPresent)
    return word


def test_what_came_before_and_is_there_is_said_to_be_present(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver, "b.txt")
        word = await said_to_be_present(receiver)
        assert (word.present, word.bytes_read) == (b"\2", 700_000)

    play(machine, test)


def test_a_folder_that_is_gone_is_forgotten(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver)
        manifest_beside(receiver.daemon.folders.data_dir / "workflows" / "earlier").unlink()
        assert (await said_to_be_present(receiver)).present == b""
        assert await receiver.daemon.sql("SELECT COUNT(*) FROM arrived_folders") == [(0,)]

    play(machine, test)


def test_a_daemon_that_was_killed_between_commit_and_tidying_up_leaves_that_to_the_next(machine: Machine) -> None:
    """The next one has nothing to do with deliveries that have not arrived: their notes stay."""

    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver, "b.txt")
        folder = receiver.daemon.folders.data_dir / "workflows" / "earlier"
        arrived, coming = PartNotes(folder), PartNotes(folder.with_name("coming"))
        for notes in (arrived, coming):
            notes.begin(LIST.entries)
            notes.note(1, stamps="")
        manifest_beside(folder).unlink()
        recognition = receiver.incoming._recognition
        await recognition.tidy_up()
        await recognition.tidy_up()
        left = {path.name for path in folder.parent.iterdir()}
        assert left == {"earlier", ".earlier.manifest", ".coming.part.manifest", ".coming.part.json"}
        assert (await said_to_be_present(receiver)).present == b"\2"

    play(machine, test)


def test_who_waits_too_long_for_others_that_copy_is_sent_all(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "COPYING_WAIT_S", 0.05)

    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver, "a.txt", "b.txt")
        async with contextlib.AsyncExitStack() as stack:
            for number in range(COPYING_MAX):  # others that have much here
                place = receiver.incoming._intake._places.place(PeerId(f"rnother{number}"), within_s=0)
                assert await stack.enter_async_context(place)
            word = await said_to_be_present(receiver)
        assert (word.present, word.bytes_read) == (b"", 0)

    play(machine, test)
