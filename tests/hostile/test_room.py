"""Places and disk are shared: no sender and no orderer of deliveries takes them from others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from rnd.p2p.intake import HELD_UP_BYTES_MAX
from rnd.p2p.reception import INCOMING_FOR_ONE_ORDERER, INCOMING_MAX, INCOMING_OF_ONE_SENDER
from rnd.protocol.frames import PAYLOAD_BYTES_MAX
from rnd.protocol.manifest import Manifest
from rnd.protocol.messages import ChunkAck, DataTransferAccept, DataTransferReject, DataTransferStop
from rnd.protocol.transfer import WINDOW_BYTES
from rnd.types.enums import MountFunction
from rnd.types.peers import RejectionCode
from rnd.workers.files import free_bytes
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    SOURCE_JOB,
    Daemon,
    daemon,
    end,
    fresh_uid,
    job_plan,
    manifest_of,
    offer,
    order,
    play,
    route,
    start,
)

SERVICE = {"id": 1, "name": "cat", "service_type": "STANDALONE"}
SMALL = manifest_of({"a": bytes(100)})


def orderers() -> list[ScriptedPeer]:
    return [ScriptedPeer(f"room orderer {number}") for number in range(5)]


def senders() -> list[ScriptedPeer]:
    return [ScriptedPeer(f"room sender {number}") for number in range(10)]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("room")
    floor = free_bytes(folder) - (8 << 30)
    config = f"[limits]\ndisk_floor_bytes = {max(floor, 0)}\n"
    with daemon(folder, dict.fromkeys([*orderers(), *senders()], "allowed"), config=config) as peer:
        peer.cat()
        yield peer


class Stage:
    """Senders with a data link each, and orderers with a control link each."""

    def __init__(self, peer: Daemon, who: list[ScriptedPeer], what: list[ScriptedPeer]) -> None:
        self.peer, self.who, self.what = peer, who, what
        self.control: list[ScriptedLink] = []
        self.data: list[ScriptedLink] = []
        self.stream = 0

    async def link(self) -> None:
        """Dial."""
        self.control = [await self.peer.control(each) for each in self.who]
        self.data = [await self.peer.data_link(each) for each in self.what]

    async def offer(
        self, sender: int, orderer: int, manifest: Manifest = SMALL, **more: object
    ) -> DataTransferAccept | RejectionCode:
        """Have one sender offer a delivery to a new job of one orderer; return what the daemon makes of it."""
        uid = fresh_uid()
        plan = job_plan(
            self.peer.peer_id, SERVICE, inputs=[end(self.what[sender].peer_id, INPUT, MountFunction.OUTPUT)]
        )
        job_id = await order(self.control[orderer], uid, plan)
        await start(self.control[orderer], uid, job_id, route(INPUT, SOURCE_JOB))
        self.stream += 1
        message = offer(self.who[orderer], uid, job_id, manifest, stream=self.stream, **more)
        answer = await self.data[sender].ask(message)
        if isinstance(answer, DataTransferReject):
            return answer.code
        assert isinstance(answer, DataTransferAccept)
        return answer


def test_neither_a_sender_nor_an_orderer_takes_the_places_of_others(peer: Daemon) -> None:
    async def test() -> None:
        on = Stage(peer, orderers(), senders())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(cast(*on.who, *on.what))
            await on.link()

            async def takes(sender: int, orderer: int) -> bool:
                answer = await on.offer(sender, orderer)
                assert isinstance(answer, DataTransferAccept) or answer is RejectionCode.BUSY
                return isinstance(answer, DataTransferAccept)

            assert INCOMING_MAX == 4 * INCOMING_FOR_ONE_ORDERER == 8 * INCOMING_OF_ONE_SENDER
            for sender in range(8):
                for _ in range(INCOMING_OF_ONE_SENDER):
                    assert await takes(sender, sender // 2)
                assert not await takes(sender, 4)  # it has its share, whoever orders
            assert not await takes(8, 0)  # so has that orderer, whoever sends
            assert await takes(8, 4)  # all places are taken, and yet who has none gets one
            assert not await takes(8, 4)

    play(test())


def test_an_offer_that_the_disk_has_no_room_for_is_asked_to_come_again(peer: Daemon) -> None:
    async def test() -> None:
        on = Stage(peer, orderers()[:1], senders()[9:])
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(cast(*on.who, *on.what))
            await on.link()
            assert await on.offer(0, 0, size_bytes=32 << 30) is RejectionCode.NO_ROOM
            assert isinstance(await on.offer(0, 0), DataTransferAccept)

    play(test())


FLOOR = 100 << 20


def on_a_small_disk(disk: Path, act: Callable[[Stage, Path], Coroutine[Any, Any, None]]) -> None:
    """Act with a daemon on a disk of its own, which a test fills while deliveries come in."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", disk], check=True)
    who, what = orderers()[:1], senders()[:1]

    async def test(peer: Daemon) -> None:
        async with cast(*who, *what):
            on = Stage(peer, who, what)
            await on.link()
            await act(on, disk / "filler")

    config = f"[limits]\ndisk_floor_bytes = {FLOOR}\n"
    with daemon(disk, dict.fromkeys([*who, *what], "allowed"), config=config) as peer:
        peer.cat()
        play(test(peer))


async def hold_up(on: Stage, filler: Path) -> None:
    (data,) = on.data
    content = bytes(3 * PAYLOAD_BYTES_MAX)
    manifest = manifest_of({"a": content})
    await on.offer(0, 0, manifest)
    await data.send_frame(1, 0, manifest.data)
    offset = len(manifest.data)

    def is_written() -> bool:
        return any(isinstance(each, ChunkAck) and each.offset == offset for each in data.heard_of(ChunkAck))

    async def send() -> None:
        nonlocal offset
        await data.send_frame(1, offset, content[:PAYLOAD_BYTES_MAX])
        offset += PAYLOAD_BYTES_MAX

    await send()
    await data.until(is_written, "the first bytes are written")
    filler.write_bytes(bytes(FLOOR))
    await send()
    with pytest.raises(AssertionError):
        await data.until(is_written, "nothing is written on a full disk", within_s=2)
    filler.unlink()
    await data.until(is_written, "it goes on")
    await send()
    await data.until(is_written, "all of it is written")


async def hold_up_much(on: Stage, filler: Path) -> None:
    (data,) = on.data
    content = bytes(HELD_UP_BYTES_MAX // 5 - (1 << 20))  # five of them stay below it, six do not
    manifest = manifest_of({"a": content})
    for _ in range(6):
        await on.offer(0, 0, manifest)
    filler.write_bytes(bytes(FLOOR))
    for stream in range(1, 7):
        stop = len(manifest.data)
        await data.send_frame(stream, 0, manifest.data)
        for begin in range(0, len(content), PAYLOAD_BYTES_MAX):
            piece = content[begin : begin + PAYLOAD_BYTES_MAX]
            await data.send_frame(stream, stop, piece)
            stop += len(piece)
    await data.until(lambda: bool(data.heard_of(DataTransferStop)), "one is too much")
    with pytest.raises(AssertionError):
        await data.until(lambda: len(data.heard_of(DataTransferStop)) > 1, "so are the others", within_s=2)
    (stop_message,) = data.heard_of(DataTransferStop)
    assert isinstance(stop_message, DataTransferStop)
    assert "nearly full" in stop_message.reason


async def send_beyond_the_window(on: Stage, filler: Path) -> None:
    (data,) = on.data
    content = bytes(WINDOW_BYTES + 2 * PAYLOAD_BYTES_MAX)
    manifest = manifest_of({"a": content})
    await on.offer(0, 0, manifest)
    filler.write_bytes(bytes(FLOOR))
    await data.send_frame(1, 0, manifest.data)
    for begin in range(0, len(content), PAYLOAD_BYTES_MAX):
        await data.send_frame(1, len(manifest.data) + begin, content[begin : begin + PAYLOAD_BYTES_MAX])
    await data.until(lambda: bool(data.heard_of(DataTransferStop)), "it is given up")
    (stop_message,) = data.heard_of(DataTransferStop)
    assert isinstance(stop_message, DataTransferStop)
    assert "more than its window allows" in stop_message.reason


@pytest.mark.parametrize("act", [hold_up, hold_up_much, send_beyond_the_window], ids=lambda act: act.__name__)
def test_bytes_that_come_while_the_disk_is_nearly_full_wait_as_far_as_memory_goes(
    tmp_path: Path, act: Callable[[Stage, Path], Coroutine[Any, Any, None]]
) -> None:
    project = Path(__file__).parents[2]
    script = (
        "import sys; from pathlib import Path; from tests.hostile import test_room;"
        f"test_room.on_a_small_disk(Path(sys.argv[1]), test_room.{act.__name__})"
    )
    subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, "-c", script, str(tmp_path)],
        check=True,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
    )
