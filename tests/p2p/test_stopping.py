"""A receiver that is told to stop while it reads what is here already ends soon, and what had come stays."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, cast

from rnd.database import arrived_folders
from rnd.p2p.link import Link
from rnd.protocol.frames import HEADER_BYTES, write_header
from rnd.protocol.manifest import write_manifest
from rnd.protocol.transfer_messages import DataTransferAccept
from rnd.types.executions import FileEntry
from rnd.types.peers import RejectionCode
from rnd.workers.part_notes import manifest_beside
from tests.core.core_peer import Machine
from tests.live_files import found_below
from tests.p2p.one_receiver import ORDERER, SENDER, Receiver, code_of, play

HUGE = 40 << 30
"""So long, and sparse, that reading it takes a minute."""
ENDS_WITHIN_S = 5.0
LIST = write_manifest([FileEntry(relative_path="0.bin", size_bytes=HUGE, sha256="ab" * 32)])
OFFER: dict[str, Any] = {
    "size_bytes": HUGE,
    "manifest_bytes": len(LIST.data),
    "manifest_sha256": LIST.sha256,
}


def much_room(_folder: Path) -> int:
    return 1 << 50


def send(receiver: Receiver, number: int, *pieces: bytes) -> None:
    offset = 0
    for piece in pieces:
        frame = bytearray(HEADER_BYTES) + piece
        write_header(frame, stream=number, offset=offset)
        receiver.incoming.take_frame(cast(Link, receiver.line), bytes(frame))
        offset += len(piece)


async def until_is_read(receiver: Receiver, path: Path) -> None:
    """Wait until a file is open in this process and more of it was read than had come."""

    async def is_read() -> bool:
        for fd in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{fd}") == str(path):
                    position = Path(f"/proc/self/fdinfo/{fd}").read_text().split()[1]
                    return int(position) > 1 << 20
            except FileNotFoundError:
                continue
        return False

    await receiver.until(is_read)


async def stop(receiver: Receiver, running: asyncio.Task[None]) -> float:
    """Stop what takes deliveries, and return how long it took until its threads were done, in seconds."""
    began_s = time.monotonic()
    running.cancel()
    await asyncio.wait([running])
    await asyncio.to_thread(receiver.incoming._threads._copying.shutdown)
    return time.monotonic() - began_s


def test_one_that_hashes_what_had_come_before_ends_soon_and_keeps_it(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        running = asyncio.create_task(receiver.incoming.run())
        await asyncio.sleep(0)
        assert isinstance(await receiver.offer_again(1, **OFFER), DataTransferAccept)
        send(receiver, 1, LIST.data, b"x" * (1 << 20))
        (note,) = await noted(receiver)
        (part,) = found_below(receiver.daemon.folders.data_dir, ".*.part/0.bin")
        os.truncate(part, HUGE - 1)
        fields = json.loads(note.read_text()) | {"offset": len(LIST.data) + HUGE - 1}
        note.write_text(json.dumps(fields))

        offered = asyncio.create_task(receiver.offer(2, **OFFER))
        await until_is_read(receiver, part)
        assert await stop(receiver, running) < ENDS_WITHIN_S
        assert code_of(await offered) is RejectionCode.BUSY
        assert part.stat().st_size == HUGE - 1
        assert json.loads(note.read_text()) == fields

    play(machine, test, runs=False, measure=much_room)


def test_one_that_copies_what_it_recognised_ends_soon_and_keeps_what_is_there(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        folder = receiver.daemon.folders.data_dir / "workflows" / "earlier"
        folder.mkdir(parents=True)
        with (folder / "0.bin").open("wb") as file:
            file.truncate(HUGE)
        manifest_beside(folder).write_bytes(LIST.data)
        now = receiver.daemon.clock.now()
        await receiver.daemon.database.write(
            lambda conn: arrived_folders.remember(
                conn, "workflows/earlier", sender=SENDER, orderer=ORDERER, entry_count=1, now=now
            )
        )
        running = asyncio.create_task(receiver.incoming.run())
        await asyncio.sleep(0)
        assert (await receiver.offer_again(1, **OFFER)).present is None
        send(receiver, 1, LIST.data)
        await until_is_read(receiver, folder / "0.bin")
        assert await stop(receiver, running) < ENDS_WITHIN_S
        assert list(found_below(receiver.daemon.folders.data_dir, ".*.part/0.bin"))

    play(machine, test, runs=False, measure=much_room)


async def noted(receiver: Receiver) -> list[Path]:
    """Lose the link once some content has come, and return the note of how far it is."""

    async def has_come() -> bool:
        return any(path.stat().st_size for path in found_below(receiver.daemon.folders.data_dir, ".*.part/0.bin"))

    await receiver.until(has_come)
    receiver.lose_link()
    await receiver.until_transfer_is("PENDING")
    return list(found_below(receiver.daemon.folders.data_dir, ".*.part.json"))
