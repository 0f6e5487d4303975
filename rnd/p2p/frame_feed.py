"""The frames of one delivery: read in a thread, several at a time, into buffers that are used again and again.

A fresh buffer a frame would cost more than reading it: the system takes a freed one back and has to clear the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from rnd.protocol.frames import HEADER_BYTES, write_header
from rnd.protocol.instructions import SendBytes
from rnd.protocol.sealed_streams import ChunkSealer
from rnd.protocol.sealing import TAG_BYTES
from rnd.workers.sending import Sending

BUFFERS: Final = 4
"""How many frames of a delivery are in memory: some are read while the others are encrypted and written."""

InThread = Callable[..., Awaitable[None]]


class ReadFrame(NamedTuple):
    """A frame that is ready to be sent; `length` counts its plain bytes. Its buffer has to be given back."""

    content: memoryview
    length: int
    give_back: Callable[[], None]


class FrameFeed:
    """Turns instructions to send into frames, sealed ones where there is a sealer."""

    def __init__(
        self, sending: Sending, *, in_thread: InThread, frame_bytes: int, sealer: ChunkSealer | None = None
    ) -> None:
        self._sending = sending
        self._in_thread = in_thread
        self._frame_bytes = frame_bytes
        self._sealer = sealer
        self._tag_bytes = 0 if sealer is None else TAG_BYTES
        self._plain = memoryview(bytearray(0 if sealer is None else frame_bytes))
        self._made = 0
        self._spare: asyncio.Queue[bytearray] = asyncio.Queue()

    def spare(self) -> int:
        """Return how many frames can be read now, but at least one: `read` waits for the buffer of the first."""
        return max(1, self._spare.qsize() + BUFFERS - self._made)

    async def read(self, instructions: Sequence[SendBytes]) -> list[ReadFrame]:
        """Return the frames of instructions, of which there must not be more than are spare.

        Raises what `Sending.read_into` raises; all buffers are back then.
        """
        buffers = [await self._take() for _ in instructions]
        try:
            await self._in_thread(self._fill, instructions, buffers)
        except BaseException:
            for buffer in buffers:
                self._spare.put_nowait(buffer)
            raise
        return [
            ReadFrame(
                memoryview(buffer)[: HEADER_BYTES + each.length + self._tag_bytes],
                each.length,
                partial(self._spare.put_nowait, buffer),
            )
            for each, buffer in zip(instructions, buffers, strict=True)
        ]

    async def _take(self) -> bytearray:
        if self._spare.empty() and self._made < BUFFERS:
            self._made += 1
            return bytearray(HEADER_BYTES + self._frame_bytes + self._tag_bytes)
        return await self._spare.get()

    def _fill(self, instructions: Sequence[SendBytes], buffers: Sequence[bytearray]) -> None:
        for each, buffer in zip(instructions, buffers, strict=True):
            write_header(buffer, stream=each.stream, offset=each.offset)
            payload = memoryview(buffer)[HEADER_BYTES : HEADER_BYTES + each.length + self._tag_bytes]
            if self._sealer is None:
                self._sending.read_into(payload, each.offset)
            else:
                plain = self._plain[: each.length]
                self._sending.read_into(plain, each.offset)
                self._sealer.seal(plain, offset=each.offset, into=payload)
