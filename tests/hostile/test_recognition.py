"""Senders and what is known of them: nobody learns from what came of others or for others, and what is there is not sent, nor
is what is not there left out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rnd.protocol.messages import (
    DataTransferAccept,
    DataTransferComplete,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
)
from rnd.types.enums import MountFunction
from rnd.types.peers import RejectionCode
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import (
    INPUT,
    SOURCE_JOB,
    Daemon,
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

SERVICE = {"id": 1, "name": "cat", "service_type": "STANDALONE"}
CONTENT = {"a": os.urandom(800_000), "b": os.urandom(700_000), "c": os.urandom(600_000)}
A, B, C = 1, 2, 4
"""The bits of the three files."""

Content = Mapping[str, bytes]


def orderer(number: int = 0) -> ScriptedPeer:
    return ScriptedPeer(f"recognising orderer {number}")


def sender(number: int = 0) -> ScriptedPeer:
    return ScriptedPeer(f"recognising sender {number}")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Daemon]:
    standings = dict.fromkeys([who(number) for who in (orderer, sender) for number in range(2)], "allowed")
    with daemon(tmp_path, standings) as peer:
        peer.cat()
        yield peer
        assert peer.tracebacks() == ""


@dataclass(slots=True)
class Between:
    """One sender with a data link, one orderer with a control link."""

    daemon: Daemon
    orderer: ScriptedPeer
    sender: ScriptedPeer
    control: ScriptedLink
    data: ScriptedLink

    async def offered(self, content: Content) -> tuple[DataTransferRequest, DataTransferAccept]:
        """Order and start a job, and have a delivery to it accepted."""
        uid = fresh_uid()
        plan = job_plan(self.daemon.peer_id, SERVICE, inputs=[end(self.sender.peer_id, INPUT, MountFunction.OUTPUT)])
        job_id = await order(self.control, uid, plan)
        await start(self.control, uid, job_id, route(INPUT, SOURCE_JOB))
        message = offer(self.orderer, uid, job_id, manifest_of(content))
        return message, await self.accepted(message)

    async def accepted(self, message: DataTransferRequest) -> DataTransferAccept:
        """Make an offer, as often as it takes."""
        while True:
            answer = await self.data.ask(message)
            if not (isinstance(answer, DataTransferReject) and answer.code is RejectionCode.BUSY):
                assert isinstance(answer, DataTransferAccept), answer
                return answer

    async def told(self, message: DataTransferRequest, content: Content) -> DataTransferPresent:
        """Send the manifest; return what is said to be there of it."""
        await self.data.send_frame(1, 0, manifest_of(content).data)

        def words() -> list[DataTransferPresent]:
            heard = self.data.heard_of(DataTransferPresent)
            mine = [each for each in heard if isinstance(each, DataTransferPresent)]
            return [each for each in mine if each.transfer_id == message.transfer_id and each.present is not None]

        await self.data.until(lambda: bool(words()), "it is said what is there")
        (word,) = words()
        return word

    async def finish(self, message: DataTransferRequest, rest: bytes) -> None:
        """Send the rest of the stream, and see it arrive."""
        if rest:
            await self.data.send_frame(1, message.manifest_bytes, rest)
        answer = await self.data.ask(complete(message))
        assert isinstance(answer, DataTransferComplete), answer
        assert (answer.success, answer.error) == (True, None)
        assert answer.bytes_received == message.manifest_bytes + len(rest)
        job_id = message.dest_job_execution_id
        is_over = lambda: self.daemon.job(job_id)["status"] == "COMPLETED"  # noqa: E731 - asked again and again
        await asyncio.to_thread(wait_until, is_over, "the job has run")

    async def deliver(self, content: Content) -> None:
        """Deliver what has not come before."""
        message, accept = await self.offered(content)
        if accept.present is None:
            assert (await self.told(message, content)).present == b""
        else:
            await self.data.send_frame(1, 0, manifest_of(content).data)
        await self.finish(message, joined(content))
        await self.remembered(content)

    async def remembered(self, content: Content) -> None:
        """Wait until it is written down where something has arrived."""
        query = (
            "SELECT COUNT(*) FROM arrived_folders WHERE sender_peer_id = ? AND ordering_peer_id = ? AND entry_count = ?"
        )
        whose = (self.sender.peer_id, self.orderer.peer_id, len(content))
        await asyncio.to_thread(wait_until, lambda: self.daemon.rows(query, *whose)[0][0] > 0, "it is remembered")


@asynccontextmanager
async def between(peer: Daemon, who: ScriptedPeer, what: ScriptedPeer) -> AsyncIterator[Between]:
    async with cast(who, what):
        yield Between(peer, who, what, await peer.control(who), await peer.data_link(what))


def joined(content: Content) -> bytes:
    return b"".join(content.values())


def complete(message: DataTransferRequest) -> DataTransferComplete:
    return DataTransferComplete(transfer_id=message.transfer_id, success=True, bytes_received=0, error=None)


# ---- what nobody learns


@pytest.mark.parametrize(
    ("who", "what"),
    [(orderer(), sender(1)), (orderer(1), sender()), (orderer(1), sender(1))],
    ids=["another sender", "another orderer", "both others"],
)
def test_what_came_of_others_or_for_others_is_not_said_to_be_there(
    peer: Daemon, who: ScriptedPeer, what: ScriptedPeer
) -> None:
    """Neither to whoever has never sent anything, nor to whoever names it among what he has sent himself."""

    async def test() -> None:
        async with between(peer, orderer(), sender()) as theirs:
            await theirs.deliver(CONTENT)
        async with between(peer, who, what) as mine:
            message, accept = await mine.offered(CONTENT)
            assert accept.present == b""
            await mine.data.ask(
                DataTransferComplete(
                    transfer_id=message.transfer_id,
                    success=False,
                    bytes_received=0,
                    error="that was all I wanted to know",
                )
            )
            own = {"own": os.urandom(1 << 20)}
            await mine.deliver(own)
            mixed = {**CONTENT, **own}
            message, accept = await mine.offered(mixed)
            assert accept.present is None
            word = await mine.told(message, mixed)
            assert word.present == bytes([8])
            assert word.bytes_read == len(own["own"])
            await mine.finish(message, joined(CONTENT))

    play(test())


def test_what_is_shorter_than_a_frame_is_not_looked_for(peer: Daemon) -> None:
    async def test() -> None:
        async with between(peer, orderer(), sender()) as mine:
            await mine.deliver(CONTENT)
            message, accept = await mine.offered({"a": CONTENT["a"]})
            assert accept.present == b""
            await mine.data.send_frame(1, 0, manifest_of({"a": CONTENT["a"]}).data)
            await mine.finish(message, CONTENT["a"])

    play(test())


# ---- what is not taken


CHANGED = {**CONTENT, "b": os.urandom(700_000)}
"""What is offered again: the middle one of the files is another."""


async def refused(on: Between, message: DataTransferRequest) -> str:
    """Announce the end; return why it was refused."""
    answer = await on.data.ask(complete(message))
    assert isinstance(answer, DataTransferComplete), answer
    assert not answer.success
    return answer.error or ""


async def stopped(on: Between, message: DataTransferRequest) -> str:
    """Return why the delivery was stopped."""

    def stops() -> list[str]:
        heard = [each for each in on.data.heard_of(DataTransferStop) if isinstance(each, DataTransferStop)]
        return [each.reason for each in heard if each.transfer_id == message.transfer_id]

    await on.data.until(lambda: bool(stops()), "it is stopped")
    return stops()[0]


async def content_before_it_is_told(on: Between, message: DataTransferRequest) -> str:
    await on.data.send_frame(1, 0, manifest_of(CHANGED).data + joined(CHANGED))
    return await stopped(on, message)


async def the_end_before_it_is_told(on: Between, message: DataTransferRequest) -> str:
    await on.data.send_frame(1, 0, manifest_of(CHANGED).data)
    return await refused(on, message)


async def what_is_there_as_well(on: Between, message: DataTransferRequest) -> str:
    await on.told(message, CHANGED)
    await on.data.send_frame(1, message.manifest_bytes, joined(CHANGED))
    return await stopped(on, message)


async def what_is_there_instead(on: Between, message: DataTransferRequest) -> str:
    await on.told(message, CHANGED)
    await on.data.send_frame(1, message.manifest_bytes, CHANGED["a"][: len(CHANGED["b"])])
    return await stopped(on, message)


async def nothing_more(on: Between, message: DataTransferRequest) -> str:
    await on.told(message, CHANGED)
    return await refused(on, message)


async def a_byte_less(on: Between, message: DataTransferRequest) -> str:
    await on.told(message, CHANGED)
    await on.data.send_frame(1, message.manifest_bytes, CHANGED["b"][:-1])
    return await refused(on, message)


BREAKS: list[tuple[Callable[[Between, DataTransferRequest], Awaitable[str]], str]] = [
    (content_before_it_is_told, "content before it was told which of it is here"),
    (the_end_before_it_is_told, "announced the end after"),
    (what_is_there_as_well, "bytes that are not here"),
    (what_is_there_instead, "the file b did not arrive as promised"),
    (nothing_more, "announced the end after"),
    (a_byte_less, "announced the end after"),
]


@pytest.mark.parametrize(("do", "words"), BREAKS, ids=[do.__name__ for do, _ in BREAKS])
def test_a_sender_that_sends_other_than_what_is_not_there_is_refused(
    peer: Daemon, do: Callable[[Between, DataTransferRequest], Awaitable[str]], words: str
) -> None:
    async def test() -> None:
        async with between(peer, orderer(), sender()) as on:
            await on.deliver(CONTENT)
            message, accept = await on.offered(CHANGED)
            assert accept.present is None
            assert words in await do(on, message)
            assert peer.job(message.dest_job_execution_id)["status"] == "IDLE"
            assert not [path for path in peer.files() if ".part" in path]
            again = replace(message, transfer_id=fresh_transfer_id())
            assert (await on.accepted(again)).present is None
            word = await on.told(again, CHANGED)
            assert word.present == bytes([A | C])
            await on.finish(again, CHANGED["b"])

    play(test())


def test_a_sender_that_leaves_once_it_is_told_goes_on_without_what_is_there(peer: Daemon) -> None:
    async def test() -> None:
        async with between(peer, orderer(), sender()) as on:
            await on.deliver(CONTENT)
            message, _ = await on.offered(CHANGED)
            await on.told(message, CHANGED)
            await on.data.send_frame(1, message.manifest_bytes, CHANGED["b"][:1_000])
            await on.data.close()
            on.data = await peer.data_link(on.sender)
            accept = await on.accepted(message)
            assert accept.present == bytes([A | C])
            assert message.manifest_bytes <= accept.offset <= message.manifest_bytes + 1_000
            rest = CHANGED["b"][accept.offset - message.manifest_bytes :]
            await on.data.send_frame(1, accept.offset, rest)
            answer = await on.data.ask(complete(message))
            assert isinstance(answer, DataTransferComplete)
            assert answer.success

    play(test())
