"""The receiving end of a transfer: whole lists of what it does, any chunking, and everything else refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.frames import Frame
from rnd.protocol.instructions import (
    Accept,
    Acknowledge,
    Complete,
    Discard,
    Duty,
    EndFile,
    Finish,
    Kept,
    LayOut,
    Offer,
    Recognise,
    Reject,
    Stop,
    TellPresent,
    TransferState,
    Write,
)
from rnd.protocol.manifest import MANIFEST_BYTES_MAX, write_manifest
from rnd.protocol.offers import make_offer, read_request, write_request
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.types.executions import FileEntry
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId
from rnd.types.peers import RejectionCode
from tests.protocol.parcels import DUTY, ENDS, SENDER, STREAM, TRANSFER, Parcel, Shelf, frame_at, frames_of, parcels

PARCEL = Parcel({"empty": b"", "void/": None, "a": b"123456", "b/c": b"78", "last": b""})
ENTRIES = tuple(PARCEL.entries)
STREAM_BYTES = PARCEL.stream
MANIFEST_BYTES = len(PARCEL.manifest.data)
TOTAL = len(STREAM_BYTES)
FINISHED = Complete(transfer_id=TRANSFER, success=True, bytes_received=TOTAL)


def receiver(
    offer: Offer = PARCEL.offer,
    duty: Duty = DUTY,
    *,
    ack_bytes: int = 1_000_000,
    kept: Kept | None = None,
    recognises: bool = False,
) -> ReceiveTransfer:
    return ReceiveTransfer(offer, duty, sender_peer_id=SENDER, ack_bytes=ack_bytes, kept=kept, recognises=recognises)


def acknowledged(offset: int) -> Acknowledge:
    return Acknowledge(transfer_id=TRANSFER, offset=offset)


def test_a_whole_transfer() -> None:
    machine = receiver()
    assert machine.begin() == [Accept(transfer_id=TRANSFER, offset=0)]
    assert machine.take_frame(frame_at(STREAM_BYTES, 0, 9)) == []
    assert machine.take_frame(frame_at(STREAM_BYTES, 9, MANIFEST_BYTES + 4)) == [
        LayOut(entries=ENTRIES),
        EndFile(index=0),
        Write(index=2, offset=0, data=memoryview(b"1234")),
    ]
    assert machine.take_frame(frame_at(STREAM_BYTES, MANIFEST_BYTES + 4, TOTAL)) == [
        Write(index=2, offset=4, data=memoryview(b"56")),
        EndFile(index=2),
        Write(index=3, offset=0, data=memoryview(b"78")),
        EndFile(index=3),
        EndFile(index=4),
        acknowledged(TOTAL),
    ]
    assert machine.take_complete(success=True, error=None) == [Finish()]
    assert machine.mark_finished() == [FINISHED]
    assert machine.state is TransferState.DONE


def test_an_empty_transfer_lays_out_an_empty_folder() -> None:
    machine = receiver(Parcel({}).offer)
    assert machine.begin() == [LayOut(entries=()), Accept(transfer_id=TRANSFER, offset=0)]
    assert machine.take_complete(success=True, error=None) == [Finish()]
    assert machine.mark_finished() == [Complete(transfer_id=TRANSFER, success=True, bytes_received=0)]


def test_files_without_bytes_end_with_the_manifest() -> None:
    parcel = Parcel({"x/": None, "a": b"", "b": b""})
    machine = receiver(parcel.offer)
    machine.begin()
    assert machine.take_frame(frame_at(parcel.stream, 0, len(parcel.stream))) == [
        LayOut(entries=tuple(parcel.entries)),
        EndFile(index=1),
        EndFile(index=2),
        acknowledged(len(parcel.stream)),
    ]


def test_it_acknowledges_every_so_many_bytes_and_at_the_end() -> None:
    machine = receiver(ack_bytes=100)
    machine.begin()
    told = [
        instruction.offset
        for frame in frames_of(STREAM_BYTES, range(0, TOTAL, 30))
        for instruction in machine.take_frame(frame)
        if isinstance(instruction, Acknowledge)
    ]
    assert told == [*range(120, TOTAL, 120), TOTAL]


def test_it_acknowledges_less_when_time_has_passed_and_nothing_twice() -> None:
    machine = receiver()
    assert machine.acknowledge() == []
    machine.begin()
    assert machine.acknowledge() == []
    machine.take_frame(frame_at(STREAM_BYTES, 0, 30))
    assert machine.acknowledge() == [acknowledged(30)]
    assert machine.acknowledge() == []
    machine.take_frame(frame_at(STREAM_BYTES, 30, 31))
    machine.lose_link()
    assert machine.acknowledge() == []


def test_the_bytes_are_not_copied() -> None:
    parcel = Parcel({"a": b"123456"})
    message = bytearray(parcel.stream)
    machine = receiver(parcel.offer)
    machine.begin()
    instructions = machine.take_frame(Frame(stream=STREAM, offset=0, payload=memoryview(message)))
    message[-1] = ord("9")
    assert [bytes(step.data) for step in instructions if isinstance(step, Write)] == [b"123459"]


def change_ends(**changes: Any) -> Offer:
    return replace(PARCEL.offer, ends=replace(ENDS, **changes))


def change(**changes: Any) -> Offer:
    return replace(PARCEL.offer, **changes)


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (change_ends(ordering_peer_id=PeerId("rnother")), RejectionCode.NO_DUTY),
        (change_ends(execution_uid=ExecutionUid("1" * 32)), RejectionCode.NO_DUTY),
        (change_ends(connection_id=ConnectionId(5)), RejectionCode.NO_DUTY),
        (change_ends(source_job_execution_id=JobExecutionId(10)), RejectionCode.NO_DUTY),
        (change_ends(dest_job_execution_id=JobExecutionId(0)), RejectionCode.NO_DUTY),
        (change(stream=-1), RejectionCode.MALFORMED),
        (change(stream=1 << 32), RejectionCode.MALFORMED),
        (change(file_count=-1), RejectionCode.MALFORMED),
        (change(size_bytes=-1), RejectionCode.MALFORMED),
        (change(size_bytes=1 << 64), RejectionCode.MALFORMED),
        (change(manifest_bytes=0), RejectionCode.MALFORMED),
        (change(manifest_bytes=1 << 20), RejectionCode.MALFORMED),
        (change(manifest_sha256="0" * 63), RejectionCode.MALFORMED),
        (change(manifest_sha256="F" * 64), RejectionCode.MALFORMED),
        (change(file_count=6), RejectionCode.MALFORMED),
        (change(file_count=0), RejectionCode.MALFORMED),
        (change(entry_count=0, file_count=0, size_bytes=0, manifest_bytes=0), RejectionCode.MALFORMED),
        (change(entry_count=100_001), RejectionCode.TOO_LARGE),
        (change(size_bytes=(64 << 30) + 1), RejectionCode.TOO_LARGE),
        (change(entry_count=100_000, manifest_bytes=MANIFEST_BYTES_MAX + 1), RejectionCode.TOO_LARGE),
    ],
)
def test_what_no_duty_covers_is_rejected_before_anything_is_laid_out(offer: Offer, code: RejectionCode) -> None:
    machine = receiver(offer)
    instructions = machine.begin()
    assert instructions == [Reject(transfer_id=TRANSFER, code=code, reason=machine.reason)]
    assert machine.reason
    assert machine.state is TransferState.REJECTED
    assert machine.take_frame(frame_at(STREAM_BYTES, 0, 10)) == []
    assert machine.take_complete(success=True, error=None) == [
        Complete(transfer_id=TRANSFER, success=False, error=machine.reason)
    ]


def test_an_offer_survives_its_message() -> None:
    assert read_request(write_request(PARCEL.offer, source_path="/output", dest_path="/input")) == PARCEL.offer


def test_another_peer_than_the_dutys_is_rejected() -> None:
    machine = ReceiveTransfer(PARCEL.offer, DUTY, sender_peer_id=PeerId("rnsomebodyelse"))
    (rejection,) = machine.begin()
    assert isinstance(rejection, Reject)
    assert rejection.code is RejectionCode.NO_DUTY


def test_a_transfer_exactly_as_big_as_allowed_is_taken() -> None:
    duty = replace(DUTY, max_bytes=8, max_entries=5)
    assert receiver(duty=duty).begin() == [Accept(transfer_id=TRANSFER, offset=0)]
    for tight in (replace(duty, max_bytes=7), replace(duty, max_entries=4)):
        assert isinstance(receiver(duty=tight).begin()[0], Reject)


# ---- content


@given(parcels(), st.lists(st.integers(0, 800)), st.integers(1, 100))
def test_any_chunking_gives_exactly_the_content(parcel: Parcel, cuts: list[int], ack_bytes: int) -> None:
    shelf = Shelf()
    machine = receiver(parcel.offer, ack_bytes=ack_bytes)
    shelf.carry_out(machine.begin())
    stream, unacknowledged = parcel.stream, 0
    for frame in frames_of(stream, cuts):
        instructions = machine.take_frame(frame)
        shelf.carry_out(instructions)
        unacknowledged += len(frame.payload)
        if any(isinstance(step, Acknowledge) for step in instructions):
            unacknowledged = 0
        assert unacknowledged < ack_bytes
    assert unacknowledged == 0
    assert machine.take_complete(success=True, error=None) == [Finish()]
    assert shelf.holds(parcel)


@given(parcels(), st.lists(st.integers(0, 800)), st.integers(0, 800), st.lists(st.integers(0, 800)))
def test_a_fresh_machine_goes_on_where_the_link_was_lost(
    parcel: Parcel, cuts: list[int], lost_after: int, later_cuts: list[int]
) -> None:
    shelf = Shelf()
    stream = parcel.stream
    machine = receiver(parcel.offer)
    shelf.carry_out(machine.begin())
    for frame in frames_of(stream, cuts):
        if frame.offset > lost_after:
            break
        shelf.carry_out(machine.take_frame(frame))
    machine.lose_link()
    kept = machine.kept
    again = receiver(replace(parcel.offer, transfer_id=TransferId("another"), stream=8), kept=kept)
    instructions = again.begin()
    start = 0 if kept is None else kept.offset
    assert start == (machine.received if machine.received >= len(parcel.manifest.data) else 0)
    assert instructions[-1] == Accept(transfer_id=TransferId("another"), offset=start)
    shelf.carry_out(instructions)
    for frame in frames_of(stream, later_cuts, start=start):
        shelf.carry_out(again.take_frame(replace(frame, stream=8)))
    assert again.take_complete(success=True, error=None) == [Finish()]
    assert shelf.holds(parcel)


def test_a_link_that_is_lost_while_a_thread_takes_a_frame_takes_nothing_with_it() -> None:
    machine = begun()
    machine.take_frame(frame_at(STREAM_BYTES, 0, MANIFEST_BYTES))

    def lose_link_inside(frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code is not ReceiveTransfer.take_frame.__code__:
            machine.lose_link()

    content, before = frame_at(STREAM_BYTES, MANIFEST_BYTES, TOTAL), sys.gettrace()
    sys.settrace(lose_link_inside)
    try:
        machine.take_frame(content)
    finally:
        sys.settrace(before)
    assert machine.state is TransferState.LINK_LOST
    assert machine.kept is not None
    assert machine.kept.offset == TOTAL


def test_a_fresh_machine_goes_on_from_every_offset() -> None:
    for lost_at in range(MANIFEST_BYTES, TOTAL + 1):
        shelf = Shelf()
        machine = begun()
        shelf.carry_out(machine.take_frame(frame_at(STREAM_BYTES, 0, lost_at)))
        machine.lose_link()
        again = receiver(kept=machine.kept)
        assert again.begin() == [Accept(transfer_id=TRANSFER, offset=lost_at)]
        for frame in frames_of(STREAM_BYTES, [], start=lost_at):
            shelf.carry_out(again.take_frame(frame))
        assert again.take_complete(success=True, error=None) == [Finish()]
        assert shelf.holds(PARCEL), lost_at


@pytest.mark.parametrize("change", [{"manifest_sha256": "0" * 64}, {"size_bytes": 9}, {"manifest_bytes": 400}])
def test_what_was_kept_of_other_content_is_thrown_away(change: dict[str, Any]) -> None:
    kept = Kept(offer=replace(PARCEL.offer, **change), entries=ENTRIES, offset=MANIFEST_BYTES + 1)
    assert receiver(kept=kept).begin() == [
        Discard(reason="the sender offers other content than before"),
        Accept(transfer_id=TRANSFER, offset=0),
    ]


def test_a_file_of_five_gibibytes_goes_on_near_its_end() -> None:
    size_bytes = 5 << 30
    manifest = write_manifest([FileEntry(relative_path="big", size_bytes=size_bytes, sha256="0" * 64)])
    offer = make_offer(manifest, ENDS, transfer_id=TRANSFER, stream=STREAM)
    total = len(manifest.data) + size_bytes
    machine = receiver(offer, kept=Kept(offer=offer, entries=manifest.entries, offset=total - 3))
    assert machine.begin() == [Accept(transfer_id=TRANSFER, offset=total - 3)]
    data = memoryview(b"end")
    assert machine.take_frame(Frame(stream=STREAM, offset=total - 3, payload=data)) == [
        Write(index=0, offset=size_bytes - 3, data=data),
        EndFile(index=0),
        acknowledged(total),
    ]


# ---- what the sender must not do


def begun(stream_to: int = 0) -> ReceiveTransfer:
    machine = receiver()
    machine.begin()
    if stream_to:
        machine.take_frame(frame_at(STREAM_BYTES, 0, stream_to))
    return machine


LONGER = STREAM_BYTES + b"!"
VIOLATIONS: list[tuple[str, Callable[[], tuple[ReceiveTransfer, list[Any]]]]] = []


def violation(words: str) -> Callable[[Callable[[ReceiveTransfer], list[Any]]], Callable[[ReceiveTransfer], list[Any]]]:
    """Note what a sender does to a transfer of which 100 bytes have come, and how it is called."""

    def note(do: Callable[[ReceiveTransfer], list[Any]]) -> Callable[[ReceiveTransfer], list[Any]]:
        def run() -> tuple[ReceiveTransfer, list[Any]]:
            machine = begun(100)
            return machine, do(machine)

        VIOLATIONS.append((words, run))
        return do

    return note


violation("bytes from 101 on where 100 was due")(lambda machine: machine.take_frame(frame_at(STREAM_BYTES, 101, 110)))
violation("bytes from 0 on where 100 was due")(lambda machine: machine.take_frame(frame_at(STREAM_BYTES, 0, 100)))
violation("bytes from 99 on where 100 was due")(lambda machine: machine.take_frame(frame_at(STREAM_BYTES, 99, 110)))
violation("stream 8 as if they were of 7")(
    lambda machine: machine.take_frame(frame_at(STREAM_BYTES, 100, 110, number=8))
)
violation("without bytes")(lambda machine: machine.take_frame(frame_at(STREAM_BYTES, 100, 100)))
violation("more than the announced")(lambda machine: machine.take_frame(frame_at(LONGER, 100, len(LONGER))))
violation("announced the end after 100 of")(lambda machine: machine.take_complete(success=True, error=None))
violation("line 2 is not")(
    lambda machine: machine.take_frame(frame_at(STREAM_BYTES[:100] + b"\n" * MANIFEST_BYTES, 100, MANIFEST_BYTES))
)


@pytest.mark.parametrize(("words", "run"), VIOLATIONS, ids=[words for words, _ in VIOLATIONS])
def test_a_sender_that_breaks_the_rules_is_told_and_nothing_more_is_taken(
    words: str, run: Callable[[], tuple[ReceiveTransfer, list[Any]]]
) -> None:
    machine, instructions = run()
    answer = Complete(transfer_id=TRANSFER, success=False, bytes_received=100, error=machine.reason)
    assert words in machine.reason
    told = answer if "announced the end" in words else Stop(transfer_id=TRANSFER, reason=machine.reason)
    assert instructions == [Discard(reason=machine.reason), told]
    assert machine.state is TransferState.FAILED
    assert machine.take_frame(frame_at(STREAM_BYTES, 100, TOTAL)) == []
    assert machine.take_complete(success=True, error=None) == [answer]
    machine.lose_link()
    assert machine.kept is None


def test_bytes_after_the_announced_end_are_refused() -> None:
    machine = begun(TOTAL)
    machine.take_complete(success=True, error=None)
    assert machine.take_frame(frame_at(LONGER, TOTAL, TOTAL + 1))[0] == Discard(reason=machine.reason)


def test_bytes_before_the_transfer_is_accepted_are_refused() -> None:
    machine = receiver()
    machine.take_frame(frame_at(STREAM_BYTES, 0, 1))
    assert machine.state is TransferState.FAILED


def test_a_manifest_that_is_not_the_announced_one_lays_nothing_out() -> None:
    machine = receiver(replace(PARCEL.offer, manifest_sha256="0" * 64))
    machine.begin()
    instructions = machine.take_frame(frame_at(STREAM_BYTES, 0, TOTAL))
    assert instructions == [
        Discard(reason=machine.reason),
        Stop(transfer_id=TRANSFER, reason=machine.reason),
    ]
    assert "SHA-256 of the manifest" in machine.reason


@given(parcels(), st.data())
def test_any_tampering_with_the_frames_is_refused(parcel: Parcel, data: st.DataObject) -> None:
    stream = parcel.stream
    frames = frames_of(stream, data.draw(st.lists(st.integers(0, len(stream)), min_size=1)))
    if len(frames) < 2:
        return
    at = data.draw(st.integers(0, len(frames) - 1))
    frame = frames[at]
    match data.draw(st.sampled_from(["drop", "repeat", "swap", "cut", "overlap", "foreign", "overlong"])):
        case "drop":
            del frames[at]
        case "repeat":
            frames.insert(at, frame)
        case "swap":
            frames[at], frames[at - 1] = frames[at - 1], frame
        case "cut":
            frames[at] = replace(frame, payload=frame.payload[:-1])
        case "overlap":
            if frame.offset == 0:
                return
            frames[at] = Frame(stream=STREAM, offset=frame.offset - 1, payload=memoryview(b"x" + bytes(frame.payload)))
        case "foreign":
            frames[at] = replace(frame, stream=STREAM + 1)
        case "overlong":
            frames[-1] = replace(frames[-1], payload=memoryview(bytes(frames[-1].payload) + b"x"))
    machine = receiver(parcel.offer)
    instructions: list[Any] = machine.begin()
    for each in frames:
        instructions += machine.take_frame(each)
    instructions += machine.take_complete(success=True, error=None)
    assert machine.state is TransferState.FAILED
    assert Finish() not in instructions
    assert sum(isinstance(step, Discard) for step in instructions) == 1


# ---- other ends


def test_what_fails_here_is_told_at_once() -> None:
    machine = begun(MANIFEST_BYTES + 1)
    assert machine.fail("the disk is full") == [
        Discard(reason="the disk is full"),
        Stop(transfer_id=TRANSFER, reason="the disk is full"),
    ]
    assert machine.fail("again") == []


def test_what_fails_after_the_end_was_announced_is_the_answer() -> None:
    machine = begun(TOTAL)
    machine.take_complete(success=True, error=None)
    assert machine.fail("the disk is full") == [
        Discard(reason="the disk is full"),
        Complete(transfer_id=TRANSFER, success=False, bytes_received=TOTAL, error="the disk is full"),
    ]


def test_a_sender_that_calls_it_off_is_answered() -> None:
    machine = begun(100)
    assert machine.take_complete(success=False, error="cancelled there") == [
        Discard(reason="cancelled there"),
        Complete(transfer_id=TRANSFER, success=False, bytes_received=100, error="cancelled there"),
    ]
    assert machine.state is TransferState.CALLED_OFF


def test_a_receiver_that_calls_it_off_says_so() -> None:
    machine = begun(100)
    assert machine.call_off("the job was cancelled") == [
        Discard(reason="the job was cancelled"),
        Stop(transfer_id=TRANSFER, reason="the job was cancelled"),
    ]
    assert machine.state is TransferState.CALLED_OFF


def test_a_failure_after_the_link_was_lost_throws_away_and_tells_nobody() -> None:
    machine = begun(MANIFEST_BYTES)
    machine.lose_link()
    assert machine.fail("nobody came back") == [Discard(reason="nobody came back")]
    assert machine.kept is None


def test_an_end_that_was_announced_is_reached_without_the_link() -> None:
    machine = begun(TOTAL)
    machine.take_complete(success=True, error=None)
    machine.lose_link()
    assert machine.mark_finished() == []
    assert machine.state is TransferState.DONE


def test_whoever_announces_the_end_twice_gets_one_answer_and_later_the_same_again() -> None:
    machine = begun(TOTAL)
    machine.take_complete(success=True, error=None)
    assert machine.take_complete(success=False, error="changed my mind") == []
    assert machine.mark_finished() == [FINISHED]
    assert machine.take_complete(success=True, error=None) == [FINISHED]


@pytest.mark.parametrize("stream_to", [0, 100, TOTAL])
def test_nothing_is_finished_before_it_was_announced(stream_to: int) -> None:
    with pytest.raises(ValueError, match="cannot be finished"):
        begun(stream_to).mark_finished()


# ---- what is here already


A, B_C = 2, 3
"""The two files of the parcel that have content."""


def recognising(stream_to: int = MANIFEST_BYTES) -> ReceiveTransfer:
    machine = receiver(recognises=True)
    machine.begin()
    machine.take_frame(frame_at(STREAM_BYTES, 0, stream_to))
    return machine


def present(*indices: int) -> TellPresent:
    bits = bytes([sum(1 << index for index in indices)]) if indices else b""
    return TellPresent(transfer_id=TRANSFER, bytes_read=0, present=bits)


def without(*indices: int) -> bytes:
    return PARCEL.stream_without(indices)


def test_what_is_here_is_asked_when_the_manifest_has_come_and_the_rest_is_taken() -> None:
    machine = receiver(recognises=True)
    assert machine.begin() == [Accept(transfer_id=TRANSFER, offset=0, present=None)]
    assert machine.take_frame(frame_at(STREAM_BYTES, 0, MANIFEST_BYTES)) == [
        LayOut(entries=ENTRIES),
        Recognise(entries=ENTRIES),
    ]
    assert machine.recognise(frozenset({A}), bytes_read=0) == [EndFile(index=0), present(A)]
    assert machine.content_bytes == 6
    stream = without(A)
    assert machine.take_frame(frame_at(stream, MANIFEST_BYTES, len(stream))) == [
        Write(index=B_C, offset=0, data=memoryview(b"78")),
        EndFile(index=B_C),
        EndFile(index=4),
        acknowledged(len(stream)),
    ]
    assert machine.take_complete(success=True, error=None) == [Finish()]
    assert machine.mark_finished() == [Complete(transfer_id=TRANSFER, success=True, bytes_received=MANIFEST_BYTES + 2)]


def test_where_all_is_here_nothing_more_comes() -> None:
    machine = recognising()
    assert machine.recognise(frozenset({A, B_C}), bytes_read=8) == [
        EndFile(index=0),
        EndFile(index=4),
        replace(present(A, B_C), bytes_read=8),
        acknowledged(MANIFEST_BYTES),
    ]
    assert machine.take_complete(success=True, error=None) == [Finish()]


def test_where_nothing_is_here_all_of_it_comes() -> None:
    machine = recognising()
    assert machine.recognise(frozenset(), bytes_read=0) == [EndFile(index=0), present()]
    assert machine.take_frame(frame_at(STREAM_BYTES, MANIFEST_BYTES, TOTAL))[-1] == acknowledged(TOTAL)


def test_nobody_looks_for_what_has_no_bytes() -> None:
    machine = receiver(Parcel({"a": b"", "b/": None}).offer, recognises=True)
    (accept,) = machine.begin()
    assert isinstance(accept, Accept)
    assert accept.present == b""


def test_what_is_here_is_said_again_over_the_next_link() -> None:
    machine = recognising()
    machine.recognise(frozenset({A}), bytes_read=0)
    stream = without(A)
    machine.take_frame(frame_at(stream, MANIFEST_BYTES, MANIFEST_BYTES + 1))
    machine.lose_link()
    again = receiver(kept=machine.kept, recognises=True)
    assert again.begin() == [Accept(transfer_id=TRANSFER, offset=MANIFEST_BYTES + 1, present=bytes([1 << A]))]
    assert again.content_bytes == 7
    assert again.take_frame(frame_at(stream, MANIFEST_BYTES + 1, len(stream)))[0] == Write(
        index=B_C, offset=1, data=memoryview(b"8")
    )
    assert again.take_complete(success=True, error=None) == [Finish()]


def test_a_link_that_is_lost_while_it_is_looked_what_is_here_takes_nothing_of_it_away() -> None:
    machine = recognising()
    machine.lose_link()
    assert machine.kept is None
    assert machine.recognise(frozenset({B_C}), bytes_read=0) == [EndFile(index=0)]
    kept = machine.kept
    assert kept is not None
    assert (kept.offset, kept.present) == (MANIFEST_BYTES, {B_C})


def test_a_transfer_that_ended_while_it_was_looked_what_is_here_says_nothing() -> None:
    machine = recognising()
    machine.call_off("nobody waits for it")
    assert machine.recognise(frozenset({A}), bytes_read=0) == []


def test_what_is_here_is_said_once_and_not_before_the_manifest() -> None:
    told = recognising()
    told.recognise(frozenset(), bytes_read=0)
    for machine in (told, recognising(100), begun(MANIFEST_BYTES)):
        with pytest.raises(ValueError, match="asked once"):
            machine.recognise(frozenset({A}), bytes_read=0)


def test_content_that_comes_before_it_was_told_what_is_here_is_refused() -> None:
    for begin, end in ((MANIFEST_BYTES, TOTAL), (100, MANIFEST_BYTES + 1)):
        machine = recognising(begin)
        instructions = machine.take_frame(frame_at(STREAM_BYTES, begin, end))
        assert "content before it was told which of it is here" in machine.reason
        assert instructions[-1] == Stop(transfer_id=TRANSFER, reason=machine.reason)


def test_the_end_before_it_was_told_what_is_here_is_refused() -> None:
    machine = recognising()
    machine.take_complete(success=True, error=None)
    assert f"announced the end after {MANIFEST_BYTES} of {TOTAL} bytes" in machine.reason


def test_a_sender_that_sends_what_is_here_as_well_is_refused() -> None:
    machine = recognising()
    machine.recognise(frozenset({A}), bytes_read=0)
    machine.take_frame(frame_at(STREAM_BYTES, MANIFEST_BYTES, TOTAL))
    assert f"more than the announced {MANIFEST_BYTES + 2} bytes that are not here" in machine.reason


def test_a_sender_that_skips_what_is_not_here_is_refused() -> None:
    machine = recognising()
    machine.recognise(frozenset({B_C}), bytes_read=0)
    machine.take_complete(success=True, error=None)
    assert f"announced the end after {MANIFEST_BYTES} of {MANIFEST_BYTES + 6} bytes" in machine.reason
