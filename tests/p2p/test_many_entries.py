"""Deliveries of very many files do not keep the event loop from its other work, whatever one frame of them brings."""

from __future__ import annotations

import asyncio
import time

import pytest

from rnd.p2p.seals import Unsealing
from rnd.protocol.frames import PAYLOAD_BYTES_MAX, Frame
from rnd.protocol.instructions import Acknowledge, EndFile, LayOut, ReceiveInstruction
from rnd.protocol.manifest import Manifest, write_manifest
from rnd.protocol.offers import make_offer
from rnd.protocol.transfer_receiving import ReceiveTransfer
from tests.protocol.parcels import DUTY, ENDS, SENDER, STREAM, TRANSFER, file_entry

LOOP_CPU_S_MAX = 0.1
"""How long the loop may be busy at a stretch, by its own processor time: other threads and processes do not count."""


def empty_files(count: int) -> Manifest:
    return write_manifest([file_entry(f"folder/{number:06}", b"") for number in range(count)])


async def take(manifest: Manifest) -> tuple[list[ReceiveInstruction], float]:
    """Take a delivery in as few frames as may be; return what follows, and the longest turn of the loop in seconds."""
    offer = make_offer(manifest, ENDS, transfer_id=TRANSFER, stream=STREAM)
    machine = ReceiveTransfer(offer, DUTY, sender_peer_id=SENDER)
    machine.begin()
    unsealing = Unsealing(machine, asyncio.to_thread)
    longest_s, is_over = 0.0, False

    async def watch() -> None:
        nonlocal longest_s
        while not is_over:
            before_s = time.thread_time()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.thread_time() - before_s)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    instructions: list[ReceiveInstruction] = []
    for offset in range(0, len(manifest.data), PAYLOAD_BYTES_MAX):
        payload = memoryview(manifest.data)[offset : offset + PAYLOAD_BYTES_MAX]
        instructions += await unsealing.take_frame(Frame(stream=STREAM, offset=offset, payload=payload))
    is_over = True
    await watching
    return instructions, longest_s


@pytest.mark.parametrize("count", [10, 50_000])
def test_a_frame_that_brings_a_whole_manifest_does_not_stop_the_loop(count: int) -> None:
    manifest = empty_files(count)
    instructions, longest_s = asyncio.run(take(manifest))
    assert longest_s < LOOP_CPU_S_MAX
    assert instructions == [
        LayOut(entries=manifest.entries),
        *(EndFile(index=index) for index in range(count)),
        Acknowledge(transfer_id=TRANSFER, offset=len(manifest.data)),
    ]
