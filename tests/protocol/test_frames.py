"""Frames: golden bytes, no copies, and nothing taken that is not a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.frames import HEADER_BYTES, PAYLOAD_BYTES_MAX, FrameRefused, read_frame, write_header
from rnd.protocol.transfer import ACK_BYTES, FRAME_BYTES, WINDOW_BYTES

GOLDEN = bytes.fromhex("01 00 0000 01020304 0000000500000006") + b"payload"


def test_a_frame_is_these_bytes() -> None:
    buffer = bytearray(HEADER_BYTES) + b"payload"
    write_header(buffer, stream=0x01020304, offset=0x0000000500000006)
    assert bytes(buffer) == GOLDEN


def test_a_frame_is_read_back() -> None:
    frame = read_frame(GOLDEN)
    assert (frame.stream, frame.offset, bytes(frame.payload)) == (0x01020304, 0x0000000500000006, b"payload")


def test_the_payload_is_a_view_of_the_message() -> None:
    message = bytearray(GOLDEN)
    frame = read_frame(message)
    message[HEADER_BYTES] = ord("P")
    assert bytes(frame.payload) == b"Payload"


@given(stream=st.integers(0, 2**32 - 1), offset=st.integers(0, 2**64 - 100), payload=st.binary(min_size=1, max_size=99))
def test_every_frame_survives(stream: int, offset: int, payload: bytes) -> None:
    buffer = bytearray(HEADER_BYTES) + payload
    write_header(memoryview(buffer), stream=stream, offset=offset)
    frame = read_frame(memoryview(buffer))
    assert (frame.stream, frame.offset, bytes(frame.payload)) == (stream, offset, payload)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "this one has 0 in all"),
        (GOLDEN[:15], "this one has 15 in all"),
        (GOLDEN[:16], "carries 1 to 8,388,608 bytes, this one 0"),
        (b"\x00" + GOLDEN[1:], "kind 0"),
        (b"\x02" + GOLDEN[1:], "kind 2"),
        (b"\x01\x01" + GOLDEN[2:], "here they are 1 and 0"),
        (b"\x01\x00\x00\x01" + GOLDEN[4:], "here they are 0 and 1"),
        (GOLDEN[:8] + b"\xff" * 8 + b"x", "beyond what offsets can say"),
        (GOLDEN[:16] + bytes(PAYLOAD_BYTES_MAX + 1), "this one 8,388,609"),
    ],
)
def test_what_is_no_frame_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(FrameRefused, match=words):
        read_frame(message)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_frame_or_refused(message: bytes) -> None:
    try:
        frame = read_frame(message)
    except FrameRefused:
        return
    assert bytes(frame.payload) == message[16:]


def test_a_receiver_acknowledges_before_a_window_and_its_longest_frame_are_full() -> None:
    assert ACK_BYTES + PAYLOAD_BYTES_MAX <= WINDOW_BYTES
    assert FRAME_BYTES <= PAYLOAD_BYTES_MAX
