"""Senders that leave and come back, or do not: with other content, with a byte of a huge promise, with very little at a time.

What they leave takes no more than its bytes, is never taken for anything else, and goes when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rnd.p2p.paused_receptions import PAUSED_MAX
from rnd.protocol.manifest import Manifest, write_manifest
from rnd.protocol.messages import (
    ChunkAck,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
    JobCancel,
    Message,
)
from rnd.types.enums import MountFunction
from rnd.types.executions import FileEntry
from rnd.types.ids import ExecutionUid, JobExecutionId, TransferId
from rnd.types.peers import RejectionCode
from tests.figures import note_figures
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    NODE,
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
from tests.live_files import bytes_of, found_below
from tests.running_peers import wait_until

SERVICE = {"id": 1, "name": "cat", "service_type": "STANDALONE"}
PIECE = 1 << 20
BIG = {"a": os.urandom(4 << 20), "b": os.urandom(20 << 20)}
HUGE = write_manifest([FileEntry(relative_path="huge", size_bytes=6 << 30, sha256="ab" * 32)])


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Daemon]:
    standings = dict.fromkeys((who(), what(), honest()), "allowed")
    with daemon(tmp_path, standings, config="[limits]\ndisk_floor_bytes = 0\n") as peer:
        peer.cat()
        yield peer
        assert peer.tracebacks() == ""


def who() -> ScriptedPeer:
    return ScriptedPeer("coming orderer")


def what() -> ScriptedPeer:
    return ScriptedPeer("coming sender")


def honest() -> ScriptedPeer:
    return ScriptedPeer("coming honest")


@dataclass(slots=True)
class Scene:
    """An orderer, and a sender that may have several links in the course of a test."""

    daemon: Daemon
    orderer: ScriptedPeer
    sender: ScriptedPeer
    control: ScriptedLink
    looked_for: set[TransferId] = field(default_factory=set)
    """The deliveries of which it is said what is there already, once their manifests have come."""

    async def job(self, sender: ScriptedPeer | None = None, **more: Any) -> tuple[ExecutionUid, JobExecutionId]:
        """Order and start a job that waits for a delivery."""
        uid = fresh_uid()
        source = (sender or self.sender).peer_id
        plan = job_plan(self.daemon.peer_id, SERVICE, inputs=[end(source, INPUT, MountFunction.OUTPUT)])
        job_id = await order(self.control, uid, plan, **more)
        await start(self.control, uid, job_id, route(INPUT, SOURCE_JOB))
        return uid, job_id

    async def taken(
        self, link: ScriptedLink, job: tuple[ExecutionUid, JobExecutionId], manifest: Manifest, **more: Any
    ) -> tuple[DataTransferRequest, int]:
        """Offer a delivery, as often as it takes; return the offer, and from where on it is wanted."""
        message = offer(self.orderer, *job, manifest, **more)
        while is_busy(answer := await link.ask(message)):
            pass
        assert isinstance(answer, DataTransferAccept), answer
        if answer.present is None:
            self.looked_for.add(message.transfer_id)
        return message, answer.offset

    async def leave(self, link: ScriptedLink) -> ScriptedLink:
        """End a link, and come back with another."""
        await link.close()
        return await self.daemon.data_link(self.sender)

    async def cancel(self, job: tuple[ExecutionUid, JobExecutionId]) -> None:
        """Cancel a job."""
        await self.control.ask(JobCancel(execution_uid=job[0], node_id=NODE, reason="enough"))

    def parts(self) -> list[str]:
        """Return what is there of deliveries that have come in part, and of their notes."""
        return [path.rpartition("/")[2] for path in self.daemon.files() if "/.conn" in path or ".part" in path]

    async def nothing_stays(self) -> None:
        """Wait until all of it is gone."""
        await asyncio.to_thread(wait_until, lambda: self.parts() == [], lambda: f"these stay: {self.parts()}")


@asynccontextmanager
async def scene(peer: Daemon) -> AsyncIterator[Scene]:
    """Set the scene, and check afterwards that nothing was written but where it may be."""
    before = peer.files()
    async with cast(orderer := who(), sender := what()):
        yield Scene(peer, orderer, sender, await peer.control(orderer))
    own = f"workflows/{orderer.peer_id}"
    strange = {path for path in peer.files() - before if not path.startswith(own)} - {"workflows", "run"}
    assert strange == set()


def is_busy(answer: Message) -> bool:
    return isinstance(answer, DataTransferReject) and answer.code is RejectionCode.BUSY


def stream_of(content: dict[str, bytes]) -> bytes:
    return manifest_of(content).data + b"".join(content.values())


async def send(link: ScriptedLink, data: bytes, *, begin: int = 0, stop: int | None = None) -> None:
    """Send a part of a stream."""
    last = len(data) if stop is None else stop
    for at in range(begin, last, PIECE):
        await link.send_frame(1, at, data[at : min(at + PIECE, last)])


async def send_all(scene: Scene, link: ScriptedLink, message: DataTransferRequest, content: dict[str, bytes]) -> None:
    """Send a whole stream that nothing is there of, as an honest sender does."""
    begin = 0
    if message.transfer_id in scene.looked_for:
        begin = message.manifest_bytes
        await send(link, stream_of(content), stop=begin)
        told = DataTransferPresent(transfer_id=message.transfer_id, bytes_read=0, present=b"")
        await link.until(lambda: told in link.heard, "it is said that nothing is there")
    await send(link, stream_of(content), begin=begin)


async def until_acknowledged(link: ScriptedLink) -> None:
    await link.until(lambda: bool(link.heard_of(ChunkAck)), "some of it is written")


async def ends_well(scene: Scene, link: ScriptedLink, message: DataTransferRequest, job_id: int) -> None:
    """Announce the end, and see the job run."""
    words = DataTransferComplete(transfer_id=message.transfer_id, success=True, bytes_received=0, error=None)
    answer = await link.ask(words)
    assert isinstance(answer, DataTransferComplete), answer
    assert (answer.success, answer.error) == (True, None)
    is_over = lambda: scene.daemon.job(job_id)["status"] == "COMPLETED"  # noqa: E731 - asked again and again
    await asyncio.to_thread(wait_until, is_over, "the job has run")


def contents(peer: Daemon, job_id: int) -> dict[str, bytes]:
    """Return what lies in the inputs of a job."""
    return {
        path.name: path.read_bytes()
        for path in (peer.data_dir / "workflows").glob(f"*/*/jobs/*/{job_id}/input/**/*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "after a restart"])
@pytest.mark.parametrize("size_bytes", [20 << 20, 1 << 20], ids=["long", "short"])
def test_other_content_under_the_same_transfer_id_begins_anew(
    peer: Daemon, is_restarted: bool, size_bytes: int
) -> None:
    """The first file has the same name and size as before, and is another: nothing of the earlier one is used."""
    other = {"a": os.urandom(len(BIG["a"])), "b": os.urandom(size_bytes)}

    async def test() -> None:
        async with scene(peer) as on:
            job = await on.job()
            link = await peer.data_link(on.sender)
            message, _ = await on.taken(link, job, manifest_of(BIG))
            await send(link, stream_of(BIG), stop=18 << 20)
            await until_acknowledged(link)
            if is_restarted:
                await asyncio.to_thread(wait_until, lambda: any(".json" in each for each in on.parts()), "it is noted")
                peer.kill()
                await asyncio.to_thread(peer.start)
            link = await on.leave(link)
            message, offset = await on.taken(link, job, manifest_of(other), transfer_id=message.transfer_id)
            assert offset == 0
            await send(link, stream_of(other), stop=6 << 20 if size_bytes > PIECE else None)
            link = await on.leave(link)
            # Whoever comes with what was noted first gets no credit for what lies there now.
            message, offset = await on.taken(link, job, manifest_of(BIG), transfer_id=message.transfer_id)
            assert offset == 0
            await send(link, stream_of(BIG))
            await ends_well(on, link, message, job[1])
            assert contents(peer, job[1]) == BIG
            assert on.parts() == []

    play(test())


def test_a_byte_of_a_huge_promise_again_and_again_takes_a_byte(peer: Daemon) -> None:
    """Six gibibytes are offered, a byte is sent, the link ends; disk, descriptors and memory stay as they were."""
    assert peer.process is not None
    process = f"/proc/{peer.process.pid}"

    def memory_mib() -> float:
        (line,) = (each for each in Path(f"{process}/status").read_text().splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def disk_bytes() -> int:
        return sum(map(bytes_of, found_below(peer.data_dir / "workflows", "*")))

    async def test() -> None:
        async with scene(peer) as on:
            job = await on.job()
            link = await peer.data_link(on.sender)
            after: list[tuple[int, float]] = []
            for number in range(30):
                _, offset = await on.taken(link, job, HUGE)
                assert offset <= len(HUGE.data) + number
                await link.send_frame(1, offset, HUGE.data[offset:] + b"x")
                link = await on.leave(link)
                after.append((len(os.listdir(f"{process}/fd")), memory_mib()))
            await asyncio.to_thread(wait_until, lambda: disk_bytes() < PIECE, lambda: f"{disk_bytes():,} bytes stay")
            (_, memory_before), (descriptors, memory) = after[4], after[-1]
            assert descriptors <= after[4][0] + 2
            assert memory - memory_before < 16
            await on.cancel(job)
            await on.nothing_stays()

    play(test())


def test_what_many_deliveries_have_left_is_bounded_and_goes_with_their_jobs(peer: Daemon) -> None:
    """More begin than are kept in memory; of what makes way nothing stays but what can be gone on with."""

    async def test() -> None:
        async with scene(peer) as on:
            small = {"a": os.urandom(PIECE)}
            jobs = [await on.job() for _ in range(PAUSED_MAX + 6)]
            link = await peer.data_link(on.sender)
            for job in jobs:
                await on.taken(link, job, manifest_of(small))
                await send(link, stream_of(small), stop=PIECE // 2)
                link = await on.leave(link)
            folders = lambda: sum(each.endswith(".part") for each in on.parts())  # noqa: E731 - asked again and again
            await asyncio.to_thread(wait_until, lambda: folders() == PAUSED_MAX, lambda: f"{folders()} stay")
            for job in jobs:
                await on.cancel(job)
            await on.nothing_stays()

    play(test())


def test_what_nobody_comes_back_for_ends_with_the_time_of_its_job(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            job = await on.job(deadline_s=4.0)
            link = await peer.data_link(on.sender)
            await on.taken(link, job, manifest_of(BIG))
            await send(link, stream_of(BIG), stop=18 << 20)
            await until_acknowledged(link)
            await link.close()
            assert any(each.endswith(".part") for each in on.parts())
            has_ended = lambda: peer.job(job[1])["status"] in {"CANCELLED", "ERRORED"}  # noqa: E731 - asked again and again
            await asyncio.to_thread(wait_until, has_ended, "the job has ended")
            await on.nothing_stays()

    play(test())


@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "after a restart"])
def test_what_nobody_comes_back_for_goes_when_the_job_is_cancelled(peer: Daemon, is_restarted: bool) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            job = await on.job()
            link = await peer.data_link(on.sender)
            await on.taken(link, job, manifest_of(BIG))
            await send(link, stream_of(BIG), stop=18 << 20)
            await until_acknowledged(link)
            await link.close()
            if is_restarted:
                await asyncio.to_thread(wait_until, lambda: any(".json" in each for each in on.parts()), "it is noted")
                peer.kill()
                await asyncio.to_thread(peer.start)
                on.control = await peer.control(on.orderer)
            assert any(each.endswith(".part") for each in on.parts())
            await on.cancel(job)
            await on.nothing_stays()

    play(test())


def test_a_sender_that_drips_holds_up_nobody_and_no_longer_than_its_job_may_wait(peer: Daemon) -> None:
    """Each of its bytes comes in time; another sender's delivery takes as long as without it."""

    async def test() -> None:
        async with scene(peer) as on, cast(other := honest()):
            theirs = await peer.data_link(other)

            async def deliver() -> float:
                content = {"a": os.urandom(4 << 20)}
                job = await on.job(other)
                begun = time.monotonic()
                message, _ = await on.taken(theirs, job, manifest_of(content))
                await send_all(on, theirs, message, content)
                await ends_well(on, theirs, message, job[1])
                return time.monotonic() - begun

            alone_s = min([sum([await deliver() for _ in range(5)]) for _ in range(2)])
            link = await peer.data_link(on.sender)
            jobs = [await on.job(deadline_s=8.0, transfer_idle_s=2.0) for _ in range(8)]
            for stream, job in enumerate(jobs, start=1):
                await on.taken(link, job, HUGE, stream=stream)
            data = HUGE.data + bytes(10_000)

            async def drip() -> None:
                for at in range(10_000):
                    for stream in range(1, 9):
                        await link.send_frame(stream, at, data[at : at + 1])
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            try:
                beside_s = min([sum([await deliver() for _ in range(5)]) for _ in range(2)])
                note_figures("hostile", what="senders that drip", alone_s=alone_s, beside_s=beside_s)
                assert beside_s < 2 * alone_s + 0.2
                for _, job_id in jobs:
                    has_ended = lambda id=job_id: peer.job(id)["status"] in {"CANCELLED", "ERRORED"}  # noqa: E731, A006 - asked again and again
                    await asyncio.to_thread(wait_until, has_ended, "its job waits no longer")
                await on.nothing_stays()
            finally:
                dripping.cancel()

    play(test())


def test_a_stream_without_end_slows_nobody_down(peer: Daemon) -> None:
    """It goes on after it was given up, and on a stream that nobody knows; what comes of it is dropped."""

    async def test() -> None:
        async with scene(peer) as on, cast(other := honest()):
            theirs = await peer.data_link(other)

            async def deliver() -> float:
                content = {"a": os.urandom(8 << 20)}
                job = await on.job(other)
                begun = time.monotonic()
                message, _ = await on.taken(theirs, job, manifest_of(content))
                await send_all(on, theirs, message, content)
                await ends_well(on, theirs, message, job[1])
                return time.monotonic() - begun

            job = await on.job()
            link = await peer.data_link(on.sender)
            message, _ = await on.taken(link, job, manifest_of({"a": bytes(100)}))
            stopped = asyncio.Event()

            async def pour() -> None:
                data = bytes(PIECE)
                for at in range(1_000_000):
                    await link.send_frame(1 + at % 2, at * PIECE, data)
                    if stopped.is_set():
                        return

            alone_s = min([sum([await deliver() for _ in range(4)]) for _ in range(2)])
            pouring = asyncio.create_task(pour())
            try:
                beside_s = min([sum([await deliver() for _ in range(4)]) for _ in range(2)])
            finally:
                stopped.set()
                await pouring
            note_figures("hostile", what="a stream without end", alone_s=alone_s, beside_s=beside_s)
            assert beside_s < 2 * alone_s + 0.1, f"{beside_s:.3f} s instead of {alone_s:.3f} s"
            assert peer.job(job[1])["status"] == "IDLE"
            query = "SELECT status FROM transfers WHERE transfer_id = ?"
            assert peer.rows(query, message.transfer_id) == [("PENDING",)]

    play(test())
