"""Deliveries of very many files do not keep the event loop from its other work, whatever one frame of them brings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from rnd.p2p.seals import ENTRIES_AT_ONCE, Unsealing
from rnd.protocol.frames import PAYLOAD_BYTES_MAX, Frame
from rnd.protocol.instructions import Accept, Acknowledge, EndFile, LayOut, ReceiveInstruction, TransferState, Unseal
from rnd.protocol.manifest import Manifest, write_manifest
from rnd.protocol.offers import make_offer
from rnd.protocol.transfer_receiving import ReceiveTransfer
from tests.protocol.parcels import DUTY, ENDS, SENDER, STREAM, TRANSFER, Parcel, Shelf, file_entry
from tests.protocol.test_sealed_streams import receiver_seal, seal_all, sender_seal

T = TypeVar("T")

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


def test_what_is_sealed_is_opened_also_where_the_link_is_lost_while_it_is_taken() -> None:
    """What was taken counts as here: whoever goes on over the next link sends none of it again."""
    content = b"what was promised" * 1_000
    parcel = Parcel({**{f"a/{number:06}": b"" for number in range(ENTRIES_AT_ONCE)}, "b": content, "c": b"more"})
    offer = replace(parcel.offer, encrypted=True)
    sender = sender_seal(offer)
    machine = ReceiveTransfer(offer, DUTY, sender_peer_id=SENDER, seal=receiver_seal(sender.share, offer))
    (accept,) = machine.begin()
    assert isinstance(accept, Accept)
    list_bytes = len(parcel.manifest.data)
    chunks = seal_all(sender.agree(0, accept.seal), parcel.stream[: list_bytes + len(content)], piece=list_bytes)

    async def in_thread(work: Callable[[], T]) -> T:
        result = await asyncio.to_thread(work)
        if machine.received > list_bytes:
            machine.lose_link()
        return result

    unsealing, shelf = Unsealing(machine, in_thread), Shelf()
    for offset, sealed in chunks:
        frame = Frame(stream=STREAM, offset=offset, payload=memoryview(sealed))
        instructions = asyncio.run(unsealing.take_frame(frame))
        for instruction in instructions:
            if isinstance(instruction, Unseal):
                instruction.open()
        shelf.carry_out(instructions)
    assert machine.state is TransferState.LINK_LOST
    assert machine.kept is not None
    assert machine.kept.offset == list_bytes + len(content)
    assert shelf.files["b"] == content
