"""A hostile sender: offers that nobody waits for, streams that break every rule, and bytes that never come.

After each of them nothing is left outside the job's folder, sender and receiver end with words, and the true delivery still
gets through.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rnd.p2p.incoming import FRAMES_WAITING_MAX
from rnd.protocol.frames import HEADER_BYTES, PAYLOAD_BYTES_MAX
from rnd.protocol.manifest import Manifest
from rnd.protocol.messages import (
    Ack,
    ChunkAck,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
    JobCancel,
    Message,
    Refusal,
)
from rnd.types.enums import MountFunction
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, TransferId
from rnd.types.peers import RejectionCode
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    NODE,
    SOURCE_JOB,
    Daemon,
    FarExecutor,
    daemon,
    end,
    fresh_transfer_id,
    fresh_uid,
    job_plan,
    manifest_of,
    offer,
    order,
    play,
    route,
    start,
)
from tests.running_peers import wait_until

CONTENT = {"in.txt": b"what was promised\n" * 1_000}
IDLE_S = 0.5


def orderer() -> ScriptedPeer:
    return ScriptedPeer("incoming orderer")


def sender() -> ScriptedPeer:
    return ScriptedPeer("incoming sender")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    standings = dict.fromkeys((orderer(), sender(), ScriptedPeer("incoming executor")), "allowed")
    config = "[limits]\nfiles_per_transfer = 1000\n"
    with daemon(tmp_path_factory.mktemp("incoming"), standings, config=config) as peer:
        peer.cat()
        yield peer


@dataclass(slots=True)
class Scene:
    """A job that waits for one delivery of `sender`, and the links of both."""

    daemon: Daemon
    orderer: ScriptedPeer
    control: ScriptedLink
    data: ScriptedLink
    uid: ExecutionUid
    job_id: JobExecutionId

    def offer(self, manifest: Manifest, **more: Any) -> DataTransferRequest:
        """Return an offer for the job."""
        return offer(self.orderer, self.uid, self.job_id, manifest, **more)

    async def accepted(self, manifest: Manifest, **more: Any) -> DataTransferRequest:
        """Make an offer that is taken."""
        message = self.offer(manifest, **more)
        answer = await self.data.ask(message)
        assert isinstance(answer, DataTransferAccept), answer
        assert answer.offset == 0
        return message

    async def stream(self, manifest: Manifest, content: Mapping[str, bytes], **more: Any) -> Message:
        """Send an offer, all of its bytes and the end; return the last answer."""
        message = await self.accepted(manifest, **more)
        await self.data.send_frame(message.stream, 0, manifest.data + b"".join(content.values()))
        return await self.data.ask(complete(message.transfer_id))

    async def stopped(self, message: DataTransferRequest, words: str) -> None:
        """Wait until the daemon has said that a transfer failed on its side, and has written down why, with these words."""
        stops = lambda: [  # noqa: E731 - asked again and again
            each
            for each in self.data.heard_of(DataTransferStop)
            if isinstance(each, DataTransferStop) and each.transfer_id == message.transfer_id
        ]
        await self.data.until(lambda: bool(stops()), f"a stop with {words!r}")
        (stop,) = stops()
        assert words in stop.reason
        query = "SELECT error FROM transfers WHERE transfer_id = ?"
        is_noted = lambda: words in str(self.daemon.rows(query, message.transfer_id))  # noqa: E731 - asked again and again
        await asyncio.to_thread(wait_until, is_noted, f"a row with {words!r}")

    async def delivers_after_all(self) -> None:
        """Make the true delivery, and see the job run."""
        manifest = manifest_of(CONTENT)
        # As an honest sender does: what is only not over yet is asked for again.
        while rejected(answer := await self.data.ask(self.offer(manifest, stream=99)), RejectionCode.BUSY):
            pass
        assert isinstance(answer, DataTransferAccept), answer
        await self.data.send_frame(99, 0, manifest.data + b"".join(CONTENT.values()))
        answer = await self.data.ask(complete(answer.transfer_id))
        assert isinstance(answer, DataTransferComplete), answer
        assert (answer.success, answer.error) == (True, None)
        await asyncio.to_thread(
            wait_until, lambda: self.daemon.job(self.job_id)["status"] == "COMPLETED", "the job has run"
        )


def complete(transfer_id: TransferId, *, success: bool = True) -> DataTransferComplete:
    return DataTransferComplete(transfer_id=transfer_id, success=success, bytes_received=0, error=None)


@asynccontextmanager
async def scene(daemon: Daemon, *, idle_s: float = 300.0, is_started: bool = True) -> AsyncIterator[Scene]:
    """Set the scene, and check afterwards that nothing was written but in the folders of jobs."""
    service = {"id": 1, "name": "cat", "service_type": "STANDALONE"}
    before = daemon.files()
    async with cast(who := orderer(), what := sender()):
        control, data = await daemon.control(who), await daemon.data_link(what)
        uid = fresh_uid()
        plan = job_plan(daemon.peer_id, service, inputs=[end(what.peer_id, INPUT, MountFunction.OUTPUT)])
        job_id = await order(control, uid, plan, transfer_idle_s=idle_s)
        if is_started:
            await start(control, uid, job_id, route(INPUT, SOURCE_JOB))
        yield Scene(daemon, who, control, data, uid, job_id)
    own = re.compile(rf"run|workflows(/{who.peer_id}(/\d+(/jobs(/{daemon.peer_id}(/\d+(/.*)?)?)?)?)?)?")
    strange = [path for path in daemon.files() - before if not own.fullmatch(path)]
    assert strange == []


def rejected(answer: Message, code: RejectionCode) -> bool:
    return isinstance(answer, DataTransferReject) and answer.code is code


def lines(*entries: tuple[str, int, str, bool]) -> bytes:
    """Return a manifest that its writer would refuse to write."""
    return "".join(json.dumps(list(entry), ensure_ascii=False) + "\n" for entry in entries).encode()


def forged(data: bytes, *, files: int, size_bytes: int) -> Manifest:
    """Return what announces these bytes as a manifest."""
    empty = manifest_of({})
    return replace(
        empty, data=data, sha256=hashlib.sha256(data).hexdigest(), file_count=files, size_bytes=size_bytes, entries=()
    )


# ---- offers


@pytest.mark.parametrize(
    "wrong",
    [
        {"connection_id": ConnectionId(2)},
        {"source_job_execution_id": JobExecutionId(901)},
        {"dest_job_execution_id": JobExecutionId(0)},
        {"dest_job_execution_id": JobExecutionId(10**9)},
        {"execution_uid": ExecutionUid("f" * 32)},
        {"ordering_peer_id": sender().peer_id},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_offer_that_no_duty_waits_for_is_rejected_before_anything_is_allocated(
    peer: Daemon, wrong: dict[str, Any]
) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            before, files = peer.snapshot(), peer.files()
            assert rejected(await on.data.ask(on.offer(manifest_of(CONTENT), **wrong)), RejectionCode.NO_DUTY)
            assert peer.snapshot() == before
            assert peer.files() == files
            await on.delivers_after_all()

    play(test())


def test_offers_that_nobody_waits_for_leave_no_lines_in_the_log(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            before = len(peer.log())
            for _ in range(50):
                vain = on.offer(manifest_of(CONTENT), execution_uid=fresh_uid())
                assert rejected(await on.data.ask(vain), RejectionCode.NO_DUTY)
                assert vain.transfer_id not in peer.log()[before:]
            await on.delivers_after_all()
            assert "Received transfer request" in peer.log()[before:]

    play(test())


def test_an_offer_to_a_job_that_is_not_started_may_come_again(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer, is_started=False) as on:
            assert rejected(await on.data.ask(on.offer(manifest_of(CONTENT))), RejectionCode.BUSY)
            await start(on.control, on.uid, on.job_id, route(INPUT, SOURCE_JOB))
            await on.delivers_after_all()

    play(test())


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"entry_count": 10**6, "file_count": 10**6, "manifest_bytes": 60 << 20}, RejectionCode.TOO_LARGE),
        ({"entry_count": 1_001, "file_count": 1_001}, RejectionCode.TOO_LARGE),
        ({"size_bytes": (64 << 30) + 1}, RejectionCode.TOO_LARGE),
        ({"size_bytes": 2**63 - 1}, RejectionCode.TOO_LARGE),
        (
            {"entry_count": 1_000, "file_count": 1_000, "manifest_bytes": 8_000_000 + (64 << 20)},
            RejectionCode.MALFORMED,
        ),
        ({"manifest_bytes": 1 << 20}, RejectionCode.MALFORMED),
        ({"file_count": 2}, RejectionCode.MALFORMED),
        ({"file_count": 0}, RejectionCode.MALFORMED),
        ({"encrypted": True}, RejectionCode.MALFORMED),
    ],
)
def test_an_offer_beyond_bounds_is_rejected(peer: Daemon, wrong: dict[str, Any], code: RejectionCode) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            before, files = peer.snapshot(), peer.files()
            assert rejected(await on.data.ask(on.offer(manifest_of(CONTENT), **wrong)), code)
            assert (peer.snapshot(), peer.files()) == (before, files)
            await on.delivers_after_all()

    play(test())


def test_the_same_duty_is_not_filled_twice_at_a_time_nor_again(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            manifest = manifest_of(CONTENT)
            first = await on.accepted(manifest)
            assert rejected(await on.data.ask(on.offer(manifest, stream=2)), RejectionCode.BUSY)
            again = await on.data.ask(replace(first, stream=3))
            assert rejected(again, RejectionCode.BUSY)
            await on.data.send_frame(1, 0, manifest.data + CONTENT["in.txt"])
            answers = [await on.data.begin(complete(first.transfer_id)) for _ in range(3)]
            assert {
                (each.success, each.error)
                for each in [await on.data.answer_to(number) for number in answers]
                if isinstance(each, DataTransferComplete)
            } == {(True, None)}
            await asyncio.to_thread(wait_until, lambda: peer.job(on.job_id)["status"] == "COMPLETED", "it ran")
            before = peer.snapshot()
            other = manifest_of({"in.txt": b"something else"})
            assert rejected(await on.data.ask(on.offer(other)), RejectionCode.DONE)
            assert rejected(await on.data.ask(first), RejectionCode.DONE)
            assert isinstance(await on.data.ask(complete(first.transfer_id)), Refusal)
            assert peer.snapshot() == before

    play(test())


def test_a_notice_after_the_delivery_takes_nothing_back(peer: Daemon) -> None:
    """`data_transfer_failed` for what has arrived, while its receiver runs and after it has ended."""
    sleeper = peer.program("sleeper", "read line; exec sleep 30", confine="never")

    async def test() -> None:
        async with cast(who := orderer(), what := sender()):
            control, data = await peer.control(who), await peer.data_link(what)
            uid = fresh_uid()
            inputs = [end(what.peer_id, INPUT, MountFunction.OUTPUT)]
            service = {"id": sleeper, "name": "sleeper", "service_type": "STANDALONE"}
            job_id = await order(control, uid, job_plan(peer.peer_id, service, inputs=inputs))
            await start(control, uid, job_id, route(INPUT, SOURCE_JOB))
            on = Scene(peer, who, control, data, uid, job_id)
            answer = await on.stream(manifest_of(CONTENT), CONTENT)
            assert isinstance(answer, DataTransferComplete)
            assert answer.success
            await asyncio.to_thread(wait_until, lambda: peer.job(job_id)["status"] == "RUNNING", "it runs")
            notice = DataTransferFailed(
                ordering_peer_id=who.peer_id, execution_uid=uid, connection_id=INPUT, reason="never"
            )
            assert await data.ask(notice) == Ack()
            assert peer.job(job_id)["status"] == "RUNNING"
            await control.ask(JobCancel(execution_uid=uid, node_id=NODE, reason="enough"))
            await asyncio.to_thread(wait_until, lambda: peer.job(job_id)["status"] == "CANCELLED", "it ends")

    play(test())


def test_a_foreign_transfer_id_does_not_touch_its_transfer(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as victim:
            theirs = await victim.accepted(manifest_of(CONTENT))
            async with scene(peer) as on:
                answer = await on.data.ask(on.offer(manifest_of(CONTENT), transfer_id=theirs.transfer_id))
                assert rejected(answer, RejectionCode.MALFORMED)
                # On another link the same id is nobody's.
                assert isinstance(await on.data.ask(complete(theirs.transfer_id)), Refusal)
                await on.data.send_frame(theirs.stream, 0, b"x" * 100)
                await on.delivers_after_all()
            await victim.data.send_frame(theirs.stream, 0, manifest_of(CONTENT).data + CONTENT["in.txt"])
            done = await victim.data.ask(complete(theirs.transfer_id))
            assert isinstance(done, DataTransferComplete)
            assert done.success

    play(test())


# ---- streams


Break = Callable[[ScriptedLink, DataTransferRequest, bytes], Any]
STREAM = manifest_of(CONTENT).data + CONTENT["in.txt"]


async def send_twice(link: ScriptedLink, _: DataTransferRequest, data: bytes) -> None:
    for _ in range(2):
        await link.send_frame(1, 0, data[:200])


async def send_overlapping(link: ScriptedLink, _: DataTransferRequest, data: bytes) -> None:
    await link.send_frame(1, 0, data[:200])
    await link.send_frame(1, 199, data[199:400])


async def send_backwards(link: ScriptedLink, _: DataTransferRequest, data: bytes) -> None:
    await link.send_frame(1, 0, data[:200])
    await link.send_frame(1, 300, data[300:])
    await link.send_frame(1, 200, data[200:300])


BREAKS: dict[str, tuple[Break, str]] = {
    "twice": (send_twice, "from 0 on where 200 was due"),
    "overlapping": (send_overlapping, "from 199 on where 200 was due"),
    "two frames in the wrong order": (send_backwards, "from 300 on where 200 was due"),
    "a gap": (lambda link, _, data: link.send_frame(1, 5, data[5:]), "from 5 on where 0 was due"),
    "out of order": (lambda link, _, data: link.send_frame(1, 100, data[100:200]), "where 0 was due"),
    "an offset beyond all": (lambda link, _, data: link.send_frame(1, 2**62, data[:10]), "where 0 was due"),
    "overlong": (lambda link, _, data: link.send_frame(1, 0, data + b"more"), "more than the announced"),
    "another content": (lambda link, _, data: link.send_frame(1, 0, data[:-1] + b"?"), "SHA-256 is another"),
    "another manifest": (
        lambda link, _, data: link.send_frame(1, 0, data.replace(b"in.txt", b"on.txt", 1)),
        "manifest",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_stream_that_breaks_the_rules_ends_with_words(peer: Daemon, name: str) -> None:
    breaks, words = BREAKS[name]

    async def test() -> None:
        async with scene(peer) as on:
            message = await on.accepted(manifest_of(CONTENT))
            await breaks(on.data, message, STREAM)
            await on.stopped(message, words)
            # What comes after the end is dropped.
            await on.data.send_frame(1, 0, STREAM)
            assert peer.job(on.job_id)["status"] == "IDLE"
            await on.delivers_after_all()

    play(test())


@pytest.mark.parametrize(
    "path",
    [
        *("../../../../escaped", f"{'../' * 20}escaped", "/etc/escaped", "a/../../escaped", "a/../escaped"),
        *("a//x", "./x", "x\0y", "a" * 300, "a\u2028b", "/".join("a" * 65)),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_with_the_manifest(peer: Daemon, path: str) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            data = lines((path, 1, hashlib.sha256(b"x").hexdigest(), False))
            message = await on.accepted(forged(data, files=1, size_bytes=1), entry_count=1)
            files = {each for each in peer.files() if "input" in each}
            await on.data.send_frame(1, 0, data + b"x")
            await on.stopped(message, "the sender broke the rules of a transfer")
            assert {each for each in peer.files() if "input" in each} == files
            above = (Path("/etc"), peer.data_dir, *peer.data_dir.parents)
            assert [each for each in above if (each / "escaped").exists()] == []
            await on.delivers_after_all()

    play(test())


LINK_LINES = {
    "a fifth field": ["a", 11, hashlib.sha256(b"/etc/passwd").hexdigest(), False, "/etc/passwd"],
    "a word for executable": ["a", 11, hashlib.sha256(b"/etc/passwd").hexdigest(), "symlink"],
    "a mode for executable": ["a", 11, hashlib.sha256(b"/etc/passwd").hexdigest(), 0o120777],
    "a target beside the path": [["a", "/etc/passwd"], 0, "", False],
}


@pytest.mark.parametrize("kind", LINK_LINES)
def test_a_manifest_has_no_way_to_say_symbolic_link(peer: Daemon, kind: str) -> None:
    """And a sender that makes one up is refused before anything of it is on the disk."""

    async def test() -> None:
        async with scene(peer) as on:
            data = json.dumps(LINK_LINES[kind]).encode() + b"\n"
            message = await on.accepted(forged(data, files=1, size_bytes=11), entry_count=1)
            files = {each for each in peer.files() if "input" in each}
            await on.data.send_frame(1, 0, data + b"/etc/passwd")
            await on.stopped(message, "line 1 is not an array of path, size, SHA-256 and executable")
            assert {each for each in peer.files() if "input" in each} == files
            await on.delivers_after_all()

    play(test())


@pytest.mark.parametrize(
    "entries",
    [
        (("a", 1, hashlib.sha256(b"x").hexdigest(), False),) * 2,
        (("a", 1, hashlib.sha256(b"x").hexdigest(), False), ("a/b", 1, hashlib.sha256(b"x").hexdigest(), False)),
        (("a/", 0, "", False), ("a/", 0, "", False)),
    ],
    ids=["twice", "through a file", "folder twice"],
)
def test_names_that_are_in_each_others_way_are_refused(
    peer: Daemon, entries: tuple[tuple[str, int, str, bool], ...]
) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            files = sum(1 for entry in entries if entry[2])
            data = lines(*entries)
            message = await on.accepted(forged(data, files=files, size_bytes=files), entry_count=2)
            await on.data.send_frame(1, 0, data + b"x" * files)
            await on.stopped(message, "the path 'a")
            await on.delivers_after_all()

    play(test())


def test_an_end_before_the_end_and_an_end_that_is_called_off_deliver_nothing(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            for stream, success in ((1, True), (2, False)):
                message = await on.accepted(manifest_of(CONTENT), stream=stream)
                await on.data.send_frame(stream, 0, STREAM[:50])
                answer = await on.data.ask(complete(message.transfer_id, success=success))
                assert isinstance(answer, DataTransferComplete), answer
                assert not answer.success
                assert answer.error
                assert peer.job(on.job_id)["status"] == "IDLE"
            await on.delivers_after_all()

    play(test())


def test_frames_without_an_offer_and_of_other_streams_are_dropped(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            for stream in (0, 1, 2**32 - 1):
                await on.data.send_frame(stream, 0, STREAM)
            for garbage in (b"", b"\1", b"\2" + bytes(30), b"\1\1" + bytes(30), b"\1" + bytes(15), b"\xff" * 100):
                await on.data.say_bytes(garbage)
            message = await on.accepted(manifest_of(CONTENT))
            await on.data.send_frame(2, 0, STREAM)
            await on.data.send_frame(1, 0, STREAM)
            answer = await on.data.ask(complete(message.transfer_id))
            assert isinstance(answer, DataTransferComplete)
            assert answer.success

    play(test())


@pytest.mark.parametrize("sent", [0, 50])
def test_a_sender_that_stands_still_is_given_up(peer: Daemon, sent: int) -> None:
    async def test() -> None:
        async with scene(peer, idle_s=IDLE_S) as on:
            message = await on.accepted(manifest_of(CONTENT))
            if sent:
                await on.data.send_frame(1, 0, STREAM[:sent])
            await on.stopped(message, "transfer_idle")
            await on.delivers_after_all()

    play(test())


def test_a_delivery_ends_with_its_job(peer: Daemon) -> None:
    """A job that is cancelled while something comes in: the sender is told, and what had come is gone."""

    async def test() -> None:
        async with scene(peer) as on:
            message = await on.accepted(manifest_of(CONTENT))
            await on.data.send_frame(1, 0, STREAM[:200])
            await on.control.ask(JobCancel(execution_uid=on.uid, node_id=NODE, reason="enough"))
            await on.stopped(message, "enough")
            assert rejected(await on.data.ask(on.offer(manifest_of(CONTENT))), RejectionCode.NO_DUTY)
            query = "SELECT status FROM transfers WHERE transfer_id = ?"
            assert peer.rows(query, message.transfer_id) == [("CANCELLED",)]

    play(test())


def test_a_lost_link_leaves_the_duty_open(peer: Daemon) -> None:
    async def test() -> None:
        async with scene(peer) as on:
            await on.accepted(manifest_of(CONTENT))
            await on.data.send_frame(1, 0, STREAM[:100])
            await on.data.close()
            async with sender() as again:
                on.data = await peer.data_link(again)

                async def free() -> bool:
                    answer = await on.data.ask(on.offer(manifest_of(CONTENT), stream=7))
                    if not rejected(answer, RejectionCode.BUSY):
                        assert isinstance(answer, DataTransferAccept)
                        await on.data.ask(complete(answer.transfer_id, success=False))
                    return isinstance(answer, DataTransferAccept)

                while not await free():
                    pass
                await on.delivers_after_all()

    play(test())


def test_the_longest_frame_is_taken_and_a_longer_one_ends_the_link(peer: Daemon) -> None:
    async def test() -> None:
        content = {"a": bytes(PAYLOAD_BYTES_MAX)}
        async with scene(peer) as on:
            manifest = manifest_of(content)
            message = await on.accepted(manifest)
            await on.data.send_frame(1, 0, manifest.data)
            await on.data.send_frame(1, len(manifest.data), content["a"])
            answer = await on.data.ask(complete(message.transfer_id))
            assert isinstance(answer, DataTransferComplete), answer
            assert answer.success
            acks = [each.offset for each in on.data.heard_of(ChunkAck) if isinstance(each, ChunkAck)]
            assert acks == sorted(acks)
            await on.data.say_bytes(bytes(PAYLOAD_BYTES_MAX + HEADER_BYTES + 1))
            await on.data.until_over()

    play(test())


def test_a_sender_of_tiny_frames_is_given_up_before_they_fill_the_memory(peer: Daemon) -> None:
    """Far less than a window, in frames of one byte, faster than anybody can write them."""

    async def test() -> None:
        async with scene(peer) as on:
            manifest = manifest_of({"a": bytes(1 << 19)})  # so short that nobody looks whether it is there
            message = await on.accepted(manifest)
            await on.data.send_frame(1, 0, manifest.data)
            for offset in range(len(manifest.data), len(manifest.data) + 6 * FRAMES_WAITING_MAX):
                await on.data.send_frame(1, offset, b"\0")
            await on.stopped(message, "longer ones are taken")
            await on.delivers_after_all()

    play(test())


# ---- home


def test_results_are_taken_only_from_the_executor_and_only_once(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := ScriptedPeer("incoming executor"), thief := sender()):
            far = FarExecutor(who)
            execution = await far.be_given(peer, "home")
            job = far.requests[-1]
            home = job.job.interfaces[0].interface_peers[0].connection_id
            data, theirs = await peer.data_link(who), await peer.data_link(thief)
            manifest = manifest_of({"out.txt": b"result"})
            message = DataTransferRequest(
                transfer_id=fresh_transfer_id(),
                stream=1,
                ordering_peer_id=peer.peer_id,
                execution_uid=job.execution_uid,
                connection_id=home,
                source_job_execution_id=far.job_id,
                dest_job_execution_id=JobExecutionId(0),
                source_path="",
                dest_path="",
                file_count=1,
                entry_count=1,
                size_bytes=manifest.size_bytes,
                manifest_bytes=len(manifest.data),
                manifest_sha256=manifest.sha256,
                encrypted=False,
            )
            before = peer.snapshot()
            assert rejected(await theirs.ask(message), RejectionCode.NO_DUTY)
            wrong_job = replace(message, source_job_execution_id=JobExecutionId(1))
            assert rejected(await data.ask(wrong_job), RejectionCode.NO_DUTY)
            assert peer.snapshot() == before
            notice = DataTransferFailed(
                ordering_peer_id=peer.peer_id, execution_uid=job.execution_uid, connection_id=home, reason="never"
            )
            assert await theirs.ask(notice) == Ack()
            assert peer.snapshot() == before
            assert isinstance(await data.ask(message), DataTransferAccept)
            await data.send_frame(1, 0, manifest.data + b"result")
            answer = await data.ask(complete(message.transfer_id))
            assert isinstance(answer, DataTransferComplete)
            assert answer.success
            assert rejected(await data.ask(replace(message, stream=2)), RejectionCode.DONE)
            assert await data.ask(notice) == Ack()
            query = "SELECT duty_acknowledged, error FROM results WHERE workflow_execution_id = ?"
            assert peer.rows(query, execution) == [(1, None)]
            peer.call("execution.cancel", execution_id=execution)

    play(test())
