"""The sending end of a transfer: whole lists of what it does, and what the other side must not do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.instructions import Complete, LeaveOut, SendBytes, TransferState
from rnd.protocol.manifest import write_manifest
from rnd.protocol.offers import make_offer
from rnd.protocol.transfer import WORDS_MAX
from rnd.protocol.transfer_sending import SendTransfer
from rnd.types.executions import FileEntry
from rnd.types.peers import RejectionCode
from tests.protocol.parcels import ENDS, STREAM, TRANSFER, Parcel, drain

PARCEL = Parcel({"a": b"x" * 100})
TOTAL = len(PARCEL.stream)
ALL_SENT = Complete(transfer_id=TRANSFER, success=True)


def sender(*, window_bytes: int = 100, frame_bytes: int = 40) -> SendTransfer:
    return SendTransfer(PARCEL.offer, window_bytes=window_bytes, frame_bytes=frame_bytes)


def drain_all(machine: SendTransfer) -> None:
    """Send all and have all acknowledged."""
    while drain(machine):
        machine.acknowledge(machine.sent)


def sends(*pieces: tuple[int, int]) -> list[SendBytes]:
    return [SendBytes(stream=STREAM, offset=offset, length=length) for offset, length in pieces]


def test_a_whole_transfer() -> None:
    assert TOTAL == 183
    machine = sender()
    assert drain(machine) == []
    machine.accept(0)
    assert drain(machine) == sends((0, 40), (40, 40))
    machine.acknowledge(40)
    assert drain(machine) == sends((80, 40))
    machine.acknowledge(120)
    assert drain(machine) == [*sends((120, 40), (160, 23)), ALL_SENT]
    assert machine.state is TransferState.ANNOUNCED
    machine.acknowledge(TOTAL)
    machine.complete(success=True, bytes_received=TOTAL, error=None)
    assert machine.state is TransferState.DONE
    assert drain(machine) == []


def test_frames_become_shorter_and_longer_again_but_never_longer_than_was_said() -> None:
    machine = sender(window_bytes=1_000)
    machine.accept(0)
    taken: list[tuple[int, int]] = []
    for frame_bytes in (40, 7, 1_000, 0):
        machine.shorten_frames(frame_bytes)
        instruction = machine.take()
        assert isinstance(instruction, SendBytes)
        taken.append((instruction.offset, instruction.length))
    assert taken == [(0, 40), (40, 7), (47, 40), (87, 1)]


@pytest.mark.parametrize("offset", [0, 1, 83, 84, 182])
def test_it_begins_where_the_receiver_says(offset: int) -> None:
    machine = sender(window_bytes=1_000, frame_bytes=1_000)
    machine.accept(offset)
    assert drain(machine) == [*sends((offset, TOTAL - offset)), ALL_SENT]


def test_where_the_receiver_has_all_of_it_only_the_end_is_announced() -> None:
    machine = sender()
    machine.accept(TOTAL)
    assert drain(machine) == [ALL_SENT]


def test_a_rejection_is_an_end() -> None:
    machine = sender()
    machine.reject(RejectionCode.NO_ROOM, "the disk is full")
    assert (machine.state, machine.code, machine.reason) == (
        TransferState.REJECTED,
        RejectionCode.NO_ROOM,
        "the disk is full",
    )
    assert drain(machine) == []


def test_a_rejection_because_it_arrived_before_is_success() -> None:
    machine = sender()
    machine.reject(RejectionCode.DONE, "")
    assert machine.state is TransferState.DONE


def test_a_receiver_that_fails_stops_the_sending() -> None:
    machine = sender()
    machine.accept(0)
    machine.acknowledge(0)
    drain_all(machine)
    machine.complete(success=False, bytes_received=0, error="the disk is full")
    assert drain(machine) == []
    assert (machine.state, machine.reason) == (TransferState.FAILED, "the disk is full")


def test_a_receiver_that_says_stop_stops_the_sending() -> None:
    machine = sender()
    machine.accept(0)
    machine.stop("the disk is full")
    assert drain(machine) == []
    assert (machine.state, machine.reason) == (TransferState.FAILED, "the disk is full")


def test_a_receiver_that_stands_still_has_not_failed() -> None:
    machine = sender()
    machine.accept(0)
    machine.pause("the disk is nearly full")
    machine.complete(success=False, bytes_received=0, error="the disk is nearly full")
    assert drain(machine) == []
    assert (machine.state, machine.reason) == (TransferState.LINK_LOST, "the disk is nearly full")


def test_a_receiver_that_fails_without_a_word_gets_words() -> None:
    machine = sender()
    machine.accept(0)
    machine.complete(success=False, bytes_received=0, error=None)
    assert machine.reason == "the receiver gave up and did not say why"


def test_no_more_words_are_kept_than_a_person_reads() -> None:
    machine = sender()
    machine.reject(RejectionCode.BUSY, "x" * 1_000_000)
    assert len(machine.reason) == WORDS_MAX


@pytest.mark.parametrize("started", [False, True])
def test_a_transfer_that_is_called_off_is_told(started: bool) -> None:
    machine = sender()
    if started:
        machine.accept(0)
        machine.take()
    machine.call_off("the job was cancelled")
    assert drain(machine) == [Complete(transfer_id=TRANSFER, success=False, error="the job was cancelled")]
    assert machine.state is TransferState.CALLED_OFF
    machine.accept(0)
    machine.complete(success=False, bytes_received=0, error="the job was cancelled")
    assert (machine.state, drain(machine)) == (TransferState.CALLED_OFF, [])


def test_a_source_that_cannot_be_read_is_told() -> None:
    machine = sender()
    machine.accept(0)
    machine.fail("the source file a has changed")
    assert drain(machine) == [Complete(transfer_id=TRANSFER, success=False, error="the source file a has changed")]
    assert machine.state is TransferState.FAILED


def test_nothing_is_said_on_a_lost_link() -> None:
    machine = sender()
    machine.accept(0)
    machine.lose_link()
    assert (machine.state, drain(machine)) == (TransferState.LINK_LOST, [])
    machine = sender()
    machine.call_off("cancelled")
    machine.lose_link()
    assert (machine.state, drain(machine)) == (TransferState.CALLED_OFF, [])


def accept_twice(machine: SendTransfer) -> None:
    machine.accept(0)
    machine.accept(0)


def accept_and(then: Callable[[SendTransfer], None], *, taken: int = 0) -> Callable[[SendTransfer], None]:
    def do(machine: SendTransfer) -> None:
        machine.accept(0)
        for _ in range(taken):
            machine.take()
        then(machine)

    return do


def announce_and(then: Callable[[SendTransfer], None]) -> Callable[[SendTransfer], None]:
    def do(machine: SendTransfer) -> None:
        machine.accept(TOTAL)
        drain(machine)
        then(machine)

    return do


def go_back(machine: SendTransfer) -> None:
    machine.acknowledge(40)
    machine.acknowledge(39)


@pytest.mark.parametrize(
    ("violation", "words"),
    [
        (lambda machine: machine.accept(-1), "from -1 on"),
        (lambda machine: machine.accept(TOTAL + 1), "from 184 on, which has 183 bytes"),
        (accept_twice, "accepted the transfer twice"),
        (
            accept_and(lambda machine: machine.reject(RejectionCode.BUSY, "no")),
            "rejected a transfer that it had accepted",
        ),
        (lambda machine: machine.acknowledge(0), "before it accepted"),
        (accept_and(lambda machine: machine.acknowledge(41), taken=1), "acknowledged 41 when 0 to 40 were possible"),
        (accept_and(go_back, taken=2), "acknowledged 39 when 40 to 80 were possible"),
        (
            lambda machine: machine.complete(success=True, bytes_received=TOTAL, error=None),
            "complete before all was sent",
        ),
        (
            accept_and(lambda machine: machine.complete(success=True, bytes_received=TOTAL, error=None)),
            "complete before all was sent",
        ),
        (
            announce_and(lambda machine: machine.complete(success=True, bytes_received=180, error=None)),
            "180 of 183 bytes complete",
        ),
    ],
)
def test_a_receiver_that_breaks_the_rules_is_told_and_nothing_more_is_sent(
    violation: Callable[[SendTransfer], None], words: str
) -> None:
    machine = sender()
    violation(machine)
    assert machine.state is TransferState.FAILED
    assert words in machine.reason
    assert drain(machine) == [Complete(transfer_id=TRANSFER, success=False, error=machine.reason)]
    machine.accept(0)
    machine.acknowledge(0)
    machine.complete(success=True, bytes_received=TOTAL, error=None)
    machine.reject(RejectionCode.DONE, "")
    machine.lose_link()
    assert (machine.state, drain(machine)) == (TransferState.FAILED, [])


@given(
    window_bytes=st.integers(1, 300),
    frame_bytes=st.integers(1, 300),
    start=st.integers(0, TOTAL),
    choices=st.lists(st.integers(0, 400)),
)
def test_the_window_is_never_exceeded(window_bytes: int, frame_bytes: int, start: int, choices: list[int]) -> None:
    machine = sender(window_bytes=window_bytes, frame_bytes=min(frame_bytes, window_bytes))
    machine.accept(start)
    acknowledged = sent = start
    for choice in choices:
        instruction = machine.take()
        if isinstance(instruction, SendBytes):
            assert instruction.offset == sent
            assert 1 <= instruction.length <= frame_bytes
            sent += instruction.length
        assert sent - acknowledged <= window_bytes
        acknowledged = min(sent, max(acknowledged, choice))
        machine.acknowledge(acknowledged)
    assert machine.state in (TransferState.STREAMING, TransferState.ANNOUNCED)


@pytest.mark.parametrize(("window_bytes", "pieces"), [(119, 2), (120, 3), (121, 3)])
def test_a_frame_that_would_not_fit_in_the_window_waits(window_bytes: int, pieces: int) -> None:
    machine = sender(window_bytes=window_bytes)
    machine.accept(0)
    assert len(drain(machine)) == pieces


def test_offsets_of_a_big_file_are_beyond_32_bits() -> None:
    size_bytes = 5 << 30
    manifest = write_manifest([FileEntry(relative_path="big", size_bytes=size_bytes, sha256="0" * 64)])
    machine = SendTransfer(make_offer(manifest, ENDS, transfer_id=TRANSFER, stream=STREAM))
    machine.accept(0)
    total = len(manifest.data) + size_bytes
    sent = 0
    while isinstance(instruction := machine.take(), SendBytes):
        assert instruction.offset == sent
        sent += instruction.length
        machine.acknowledge(sent)
    assert sent == total
    assert instruction == ALL_SENT


def test_a_frame_that_no_window_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        sender(window_bytes=10, frame_bytes=11)


# ---- what the receiver has already


TWO = Parcel({"a": b"x" * 100, "void/": None, "b": b"y" * 50, "c": b""})
MANIFEST_BYTES = len(TWO.manifest.data)
A, B = 0, 2
SIZE_BYTES = 150


def sender_of_two(**more: int) -> SendTransfer:
    return SendTransfer(TWO.offer, entries=TWO.entries, **{"window_bytes": 10_000, "frame_bytes": 10_000, **more})


def bits(*indices: int) -> bytes:
    return bytes([sum(1 << index for index in indices)])


def waiting() -> SendTransfer:
    """Return a sender whose manifest is sent, and that waits to be told what the receiver has."""
    machine = sender_of_two()
    machine.accept(0, present=None)
    assert drain(machine) == sends((0, MANIFEST_BYTES))
    return machine


def test_it_waits_at_the_end_of_the_manifest_and_leaves_out_what_the_receiver_has() -> None:
    machine = waiting()
    machine.take_present(None, bytes_read=40)
    assert drain(machine) == []
    assert machine.content_bytes == 40
    machine.take_present(bits(A), bytes_read=100)
    assert drain(machine) == [LeaveOut(present=frozenset({A})), *sends((MANIFEST_BYTES, 50)), ALL_SENT]
    machine.acknowledge(MANIFEST_BYTES + 50)
    assert machine.content_bytes == SIZE_BYTES
    machine.complete(success=True, bytes_received=MANIFEST_BYTES + 50, error=None)
    assert machine.state is TransferState.DONE


def test_frames_that_are_taken_together_end_with_the_manifest_too() -> None:
    machine = sender_of_two(frame_bytes=MANIFEST_BYTES - 10)
    machine.accept(0, present=None)
    first = machine.take()
    assert isinstance(first, SendBytes)
    assert machine.take_bytes(first, at_most=5) == sends((0, MANIFEST_BYTES - 10), (MANIFEST_BYTES - 10, 10))
    assert machine.take() is None


def test_where_the_receiver_has_none_all_is_sent() -> None:
    machine = waiting()
    machine.take_present(b"", bytes_read=0)
    assert drain(machine) == [*sends((MANIFEST_BYTES, SIZE_BYTES)), ALL_SENT]


def test_where_the_receiver_has_all_only_the_end_is_announced() -> None:
    machine = waiting()
    machine.take_present(bits(A, B), bytes_read=SIZE_BYTES)
    assert drain(machine) == [LeaveOut(present=frozenset({A, B})), ALL_SENT]


def test_a_receiver_that_knew_it_before_says_so_when_it_accepts() -> None:
    machine = sender_of_two()
    machine.accept(MANIFEST_BYTES + 7, present=bits(A))
    assert machine.content_bytes == 107
    assert drain(machine) == [LeaveOut(present=frozenset({A})), *sends((MANIFEST_BYTES + 7, 43)), ALL_SENT]


def and_then(do: Callable[[SendTransfer], None]) -> Callable[[], SendTransfer]:
    def run() -> SendTransfer:
        machine = waiting()
        do(machine)
        return machine

    return run


def accepted(offset: int, present: bytes | None) -> Callable[[], SendTransfer]:
    def run() -> SendTransfer:
        machine = sender_of_two()
        machine.accept(offset, present=present)
        return machine

    return run


def told_too_early() -> SendTransfer:
    machine = sender_of_two(frame_bytes=10)
    machine.accept(0, present=None)
    machine.take()
    machine.take_present(bits(A), bytes_read=100)
    return machine


def told_twice(machine: SendTransfer) -> None:
    machine.take_present(bits(A), bytes_read=100)
    machine.take_present(bits(B), bytes_read=150)


def reads_backwards(machine: SendTransfer) -> None:
    machine.take_present(None, bytes_read=40)
    machine.take_present(None, bytes_read=39)


PRESENT_LIES: dict[str, tuple[Callable[[], SendTransfer], str]] = {
    "too many bits": (and_then(lambda it: it.take_present(bits(A) + b"\0", bytes_read=0)), "another number"),
    "a folder": (and_then(lambda it: it.take_present(bits(1), bytes_read=0)), "no file with content"),
    "an empty file": (and_then(lambda it: it.take_present(bits(3), bytes_read=0)), "no file with content"),
    "no entry at all": (and_then(lambda it: it.take_present(bits(4), bytes_read=0)), "no file with content"),
    "twice": (and_then(told_twice), "when nobody waited for that"),
    "before the manifest was sent": (told_too_early, "when nobody waited for that"),
    "backwards": (and_then(reads_backwards), "had read 39 bytes of its own after 40"),
    "more than there is": (and_then(lambda it: it.take_present(None, bytes_read=151)), "had read 151 bytes"),
    "content before it looks": (accepted(MANIFEST_BYTES + 1, None), "does not go with the files that it has"),
    "files before it knows them": (accepted(MANIFEST_BYTES - 1, bits(A)), "does not go with the files that it has"),
    "beyond what is left": (accepted(MANIFEST_BYTES + 51, bits(A)), f"which has {MANIFEST_BYTES + 50} bytes"),
    "a folder at once": (accepted(MANIFEST_BYTES, bits(1)), "no file with content"),
}


@pytest.mark.parametrize("name", PRESENT_LIES)
def test_a_receiver_that_cannot_have_what_it_says_ends_the_transfer(name: str) -> None:
    run, words = PRESENT_LIES[name]
    machine = run()
    assert machine.state is TransferState.FAILED
    assert words in machine.reason
    assert drain(machine) == [Complete(transfer_id=TRANSFER, success=False, error=machine.reason)]


def test_what_was_not_asked_ends_the_transfer() -> None:
    machine = sender_of_two()
    machine.accept(0)
    machine.take()
    machine.take_present(bits(A), bytes_read=0)
    assert "when nobody waited for that" in machine.reason


def test_nothing_is_left_out_without_knowing_what_there_is() -> None:
    machine = SendTransfer(TWO.offer)
    machine.accept(MANIFEST_BYTES, present=bits(A))
    assert machine.state is TransferState.FAILED
