"""Frames: the binary messages of a data link, 16 bytes of header and then payload (docs/wire.md, section 5).

Payloads are never copied: a sender reads its bytes behind the room for the header, a receiver gets a view of the message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from rnd.types.errors import RndError

HEADER_BYTES: Final = 16
PAYLOAD_BYTES_MAX: Final = 8 << 20
STREAM_MAX: Final = (1 << 32) - 1
OFFSET_MAX: Final = (1 << 64) - 1

_HEADER: Final = struct.Struct(">BBHIQ")
_KIND_STREAM: Final = 1


class FrameRefused(RndError):
    """A binary message is no frame; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Bytes of one stream; `offset` is where the payload begins in it."""

    stream: int
    offset: int
    payload: memoryview


def write_header(buffer: bytearray | memoryview, *, stream: int, offset: int) -> None:
    """Write the header into the first 16 bytes of a buffer whose payload follows them."""
    _HEADER.pack_into(buffer, 0, _KIND_STREAM, 0, 0, stream, offset)


def frame_of(*, stream: int, offset: int, payload: bytes) -> Frame:
    """Return the frame that came as text. Raises `FrameRefused`."""
    return _checked(stream, offset, memoryview(payload))


def read_frame(message: bytes | bytearray | memoryview) -> Frame:
    """Return the frame that a binary message is; its payload is a view of the message. Raises `FrameRefused`."""
    if len(message) < HEADER_BYTES:
        raise FrameRefused(f"a frame has {HEADER_BYTES} bytes of header, this one has {len(message)} in all")
    kind, flags, reserved, stream, offset = _HEADER.unpack_from(message)
    if kind != _KIND_STREAM:
        raise FrameRefused(f"frames of kind {kind} are unknown")
    if flags or reserved:
        raise FrameRefused(f"the bytes 1 to 3 of a frame are 0, here they are {flags} and {reserved}")
    return _checked(stream, offset, memoryview(message)[HEADER_BYTES:])


def _checked(stream: int, offset: int, payload: memoryview) -> Frame:
    size = len(payload)
    if not 1 <= size <= PAYLOAD_BYTES_MAX:
        raise FrameRefused(f"a frame carries 1 to {PAYLOAD_BYTES_MAX:,} bytes, this one {size:,}")
    if offset + size > OFFSET_MAX:
        raise FrameRefused(f"a frame reaches beyond what offsets can say: {offset} and {size} bytes more")
    return Frame(stream=stream, offset=offset, payload=payload)
