"""Places and disk are shared: no sender and no orderer of deliveries takes them from others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rnd.p2p.incoming import INCOMING_FOR_ONE_ORDERER, INCOMING_MAX, INCOMING_OF_ONE_SENDER
from rnd.protocol.frames import PAYLOAD_BYTES_MAX
from rnd.protocol.messages import ChunkAck, DataTransferAccept, DataTransferReject
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
    return [ScriptedPeer(f"room orderer {number}") for number in range(3)]


def senders() -> list[ScriptedPeer]:
    return [ScriptedPeer(f"room sender {number}") for number in range(6)]


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

    async def offer(self, sender: int, orderer: int, **more: object) -> DataTransferAccept | RejectionCode:
        """Have one sender offer a delivery to a new job of one orderer; return what the daemon makes of it."""
        uid = fresh_uid()
        plan = job_plan(
            self.peer.peer_id, SERVICE, inputs=[end(self.what[sender].peer_id, INPUT, MountFunction.OUTPUT)]
        )
        job_id = await order(self.control[orderer], uid, plan)
        await start(self.control[orderer], uid, job_id, route(INPUT, SOURCE_JOB))
        self.stream += 1
        message = offer(self.who[orderer], uid, job_id, SMALL, stream=self.stream, **more)
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

            assert INCOMING_MAX == 2 * INCOMING_FOR_ONE_ORDERER == 4 * INCOMING_OF_ONE_SENDER
            for sender, orderer in ((0, 0), (1, 0), (2, 1), (3, 1)):
                for _ in range(INCOMING_OF_ONE_SENDER):
                    assert await takes(sender, orderer)
                assert not await takes(sender, 2)  # it has its share, whoever orders
            assert not await takes(4, 0)  # so has that orderer, whoever sends
            assert await takes(4, 2)  # all places are taken, and yet who has none gets one
            assert not await takes(4, 2)

    play(test())


def test_an_offer_that_the_disk_has_no_room_for_is_asked_to_come_again(peer: Daemon) -> None:
    async def test() -> None:
        on = Stage(peer, orderers()[:1], senders()[5:])
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(cast(*on.who, *on.what))
            await on.link()
            assert await on.offer(0, 0, size_bytes=32 << 30) is RejectionCode.NO_ROOM
            assert isinstance(await on.offer(0, 0), DataTransferAccept)

    play(test())


def hold_up(disk: Path) -> None:
    """On a disk of its own, which is filled while a delivery comes in and has room again later."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", disk], check=True)
    filler, content = disk / "filler", bytes(3 * PAYLOAD_BYTES_MAX)
    manifest = manifest_of({"a": content})
    who, what = orderers()[:1], senders()[:1]

    async def test(peer: Daemon) -> None:
        on = Stage(peer, who, what)
        async with cast(*who, *what):
            await on.link()
            (data,) = on.data
            facts = {"size_bytes": len(content), "manifest_bytes": len(manifest.data)}
            await on.offer(0, 0, manifest_sha256=manifest.sha256, **facts)

            def written() -> int:
                return max((each.offset for each in data.heard_of(ChunkAck) if isinstance(each, ChunkAck)), default=0)

            await data.send_frame(1, 0, manifest.data)
            offset = len(manifest.data)

            async def send() -> None:
                nonlocal offset
                await data.send_frame(1, offset, content[:PAYLOAD_BYTES_MAX])
                offset += PAYLOAD_BYTES_MAX

            await send()
            await data.until(lambda: written() == offset, "the first bytes are written")
            filler.write_bytes(bytes(110 << 20))
            await send()
            with pytest.raises(AssertionError):
                await data.until(lambda: written() == offset, "nothing is written on a full disk", within_s=2)
            filler.unlink()
            await data.until(lambda: written() == offset, "it goes on")
            await send()
            await data.until(lambda: written() == offset, "all of it is written")

    with daemon(
        disk, dict.fromkeys([*who, *what], "allowed"), config=f"[limits]\ndisk_floor_bytes = {100 << 20}\n"
    ) as peer:
        peer.cat()
        play(test(peer))


def test_bytes_that_come_while_the_disk_is_nearly_full_wait_for_room(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    script = (
        "import sys; from pathlib import Path; from tests.hostile.test_room import hold_up; hold_up(Path(sys.argv[1]))"
    )
    subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, "-c", script, str(tmp_path)],
        check=True,
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
    )
