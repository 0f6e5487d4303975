"""A hostile receiver: it accepts what was not offered, acknowledges what was not sent, or nothing at all, and takes its time.

The sender ends each attempt with words, and whoever else it owes something gets it meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from rnd.p2p.outgoing import RECEIVER_FAILURES_MAX
from rnd.protocol.frames import HEADER_BYTES, read_frame
from rnd.protocol.messages import (
    ChunkAck,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
    JobCancel,
    Message,
    Refusal,
)
from rnd.protocol.transfer import WINDOW_BYTES
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.ids import ExecutionUid, JobExecutionId, TransferId
from rnd.types.peers import RefusalCode, RejectionCode
from tests.figures import note_figures
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, answer_politely, cast
from tests.hostile.stage import NODE, OUTPUT, Daemon, daemon, end, fresh_uid, job_plan, order, play, route, start
from tests.running_peers import wait_until

CONTENT = bytes(range(256)) * 4_096  # 1 MiB
BIG_BYTES = 40 << 20
"""More than a window."""
SLOTS = 4
IDLE_S = 0.5


def orderer() -> ScriptedPeer:
    return ScriptedPeer("outgoing orderer")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("outgoing")
    (folder / "data.bin").write_bytes(CONTENT)
    names = ("orderer", "receiver", "honest")
    standings = {ScriptedPeer(f"outgoing {name}"): "allowed" for name in names}
    with daemon(folder, standings, config=f"transfer_slots = {SLOTS}\n") as peer:
        peer.data("data", folder / "data.bin")
        with (folder / "big.bin").open("wb") as file:
            file.truncate(BIG_BYTES)
        peer.data("big", folder / "big.bin")
        yield peer


@dataclass(slots=True)
class Order:
    """A job that owes its content to somebody."""

    daemon: Daemon
    uid: ExecutionUid
    job_id: JobExecutionId

    def transfer(self) -> tuple[str, str | None]:
        """Return how its delivery stands, and why."""
        query = "SELECT status, error FROM transfers WHERE source_job_execution_id = ?"
        rows = self.daemon.rows(query, self.job_id)
        return rows[0] if rows else ("", None)


async def order_for(
    daemon: Daemon, control: ScriptedLink, receiver: ScriptedPeer, *, idle_s: float = 300.0, is_big: bool = False
) -> Order:
    """Order and start DATA that goes to a receiver; big DATA does not go out without acknowledgements."""
    uid = fresh_uid()
    outputs = [end(receiver.peer_id, OUTPUT, MountFunction.INPUT, node=3)]
    service = {"id": 2 if is_big else 1, "name": "big" if is_big else "data", "service_type": "DATA"}
    plan = job_plan(daemon.peer_id, service, outputs=outputs, output_type=InterfaceType.MOUNT)
    job_id = await order(control, uid, plan, transfer_idle_s=idle_s)
    await start(control, uid, job_id, route(OUTPUT, 901))
    return Order(daemon, uid, job_id)


class Taking:
    """A receiver that does as the wire says, unless a test puts something in place of one of its steps."""

    def __init__(self) -> None:
        self.link: ScriptedLink | None = None
        self.offers: list[DataTransferRequest] = []
        self.ended: list[DataTransferComplete] = []
        self.on_offer: Callable[[DataTransferRequest], Message | None] = self.accept
        self.on_end: Callable[[DataTransferComplete], Message | None] = self.confirm

    def reply(self, message: Message) -> Message | None:
        match message:
            case DataTransferRequest():
                self.offers.append(message)
                return self.on_offer(message)
            case DataTransferComplete():
                self.ended.append(message)
                return self.on_end(message)
        return answer_politely(message)

    def accept(self, message: DataTransferRequest) -> Message:
        return DataTransferAccept(transfer_id=message.transfer_id, offset=0)

    def confirm(self, message: DataTransferComplete) -> Message:
        offer = next(each for each in self.offers if each.transfer_id == message.transfer_id)
        size = offer.manifest_bytes + offer.size_bytes
        return DataTransferComplete(transfer_id=message.transfer_id, success=True, bytes_received=size, error=None)

    def content(self, offer: DataTransferRequest) -> bytes:
        """Return what has come of an offer, without its manifest."""
        assert self.link is not None
        frames = [read_frame(frame) for frame in self.link.frames]
        return b"".join(bytes(each.payload) for each in frames if each.stream == offer.stream)[offer.manifest_bytes :]


@asynccontextmanager
async def receiving(daemon: Daemon, name: str = "outgoing receiver") -> AsyncIterator[tuple[ScriptedPeer, Taking]]:
    """Have a receiver with a data link."""
    taking = Taking()
    async with ScriptedPeer(name, reply=taking.reply) as who:
        taking.link = await daemon.data_link(who)
        yield who, taking


async def until(found: Callable[[], bool], what: str) -> None:
    """Wait for something that the daemon writes down."""
    await asyncio.to_thread(wait_until, found, what)


async def several(deliver: Callable[[], Awaitable[float]]) -> float:
    """Return how long deliveries take one after the other: so many that what a look at the rows takes says little."""
    return sum([await deliver() for _ in range(8)])


async def cancelled(control: ScriptedLink, order: Order) -> None:
    """Cancel what will never arrive."""
    await control.ask(JobCancel(execution_uid=order.uid, node_id=NODE, reason="enough"))
    await until(lambda: order.transfer()[0] == "CANCELLED", "it is called off")


def other_id() -> TransferId:
    return TransferId("ffffffff-ffff-4fff-8fff-ffffffffffff")


ANSWERS: dict[str, tuple[Callable[[DataTransferRequest], Message], str]] = {
    "from beyond the end": (
        lambda it: DataTransferAccept(transfer_id=it.transfer_id, offset=2**40),
        "asked for the stream",
    ),
    "with another message": (
        lambda it: DataTransferComplete(transfer_id=it.transfer_id, success=True, bytes_received=0, error=None),
        "was answered by",
    ),
    "with a refusal": (lambda it: Refusal(code=RefusalCode.INTERNAL, reason="no idea"), "no idea"),
    "with busy": (
        lambda it: DataTransferReject(transfer_id=it.transfer_id, code=RejectionCode.BUSY, reason="come again"),
        "come again",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_offer_that_is_answered_wrongly_waits_with_words(peer: Daemon, name: str) -> None:
    answer, words = ANSWERS[name]

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            control = await peer.control(who)
            taking.on_offer = answer
            order = await order_for(peer, control, receiver)
            await until(lambda: words in (order.transfer()[1] or ""), "the reason is written down")
            assert peer.job(order.job_id)["status"] == "RUNNING"
            taking.on_offer = taking.accept
            await until(lambda: order.transfer()[0] == "COMPLETED", "it arrives after all")
            assert taking.content(taking.offers[-1]) == CONTENT

    play(test())


def test_a_receiver_that_lies_about_how_much_it_has_completes_nothing(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            control = await peer.control(who)
            taking.on_end = lambda message: DataTransferComplete(
                transfer_id=message.transfer_id, success=True, bytes_received=5, error=None
            )
            order = await order_for(peer, control, receiver)
            await until(lambda: "bytes complete" in (order.transfer()[1] or ""), "the lie is written down")
            taking.on_end = taking.confirm
            await until(lambda: order.transfer()[0] == "COMPLETED", "it arrives after all")

    play(test())


def test_a_receiver_that_fails_again_and_again_fails_for_good(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            control = await peer.control(who)
            taking.on_end = lambda message: DataTransferComplete(
                transfer_id=message.transfer_id, success=False, bytes_received=0, error="my disk is full"
            )
            order = await order_for(peer, control, receiver)
            await until(lambda: order.transfer()[0] == "FAILED", "it is given up")
            assert "my disk is full" in (order.transfer()[1] or "")
            await until(lambda: peer.job(order.job_id)["status"] == "ERRORED", "the job says so")

    play(test())


def test_a_receiver_that_stands_still_again_and_again_has_not_failed(peer: Daemon) -> None:
    """A disk that is full for a while takes what has come with it into the next attempt."""

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            link = taking.link
            assert link is not None
            control = await peer.control(who)
            order = await order_for(peer, control, receiver, is_big=True)
            for times in range(1, RECEIVER_FAILURES_MAX + 2):
                await link.until(lambda times=times: len(taking.offers) >= times, "it is offered")
                frames = len(link.frames)
                await link.until(lambda frames=frames: len(link.frames) > frames, "it comes")
                stop = DataTransferStop(transfer_id=taking.offers[-1].transfer_id, reason="no room", paused=True)
                await link.say(stop)
            await link.until(lambda: len(taking.offers) > RECEIVER_FAILURES_MAX + 1, "it is offered once more")
            await cancelled(control, order)

    play(test())


def came_bytes(link: ScriptedLink) -> int:
    """Return how many bytes of streams have come over a link."""
    return sum(len(frame) - HEADER_BYTES for frame in link.frames)


def is_full(link: ScriptedLink | None) -> bool:
    """Say whether as much has come as the window allows, but for less than a frame."""
    assert link is not None
    return came_bytes(link) > WINDOW_BYTES - (1 << 20)


SAYINGS: dict[str, tuple[Callable[[TransferId], Message], str, bool]] = {
    "acknowledges what was not sent": (lambda it: ChunkAck(transfer_id=it, offset=2**50), "acknowledged", True),
    "stops it": (lambda it: DataTransferStop(transfer_id=it, reason="I am full"), "I am full", False),
}
"""What it says, words of why the attempt has ended, and whether it is told so: who has said that itself is not."""


@pytest.mark.parametrize("name", SAYINGS)
def test_a_receiver_that_speaks_out_of_turn_ends_its_own_attempt(peer: Daemon, name: str) -> None:
    saying, words, is_told = SAYINGS[name]

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            order = await order_for(peer, control, receiver, is_big=True)
            await taking.link.until(lambda: is_full(taking.link), "the window is full")
            await taking.link.say(saying(taking.offers[0].transfer_id))
            await until(lambda: words in (order.transfer()[1] or ""), "the reason is written down")
            told = [each.error for each in taking.ended if not each.success and words in (each.error or "")]
            assert bool(told) == is_told
            await cancelled(control, order)

    play(test())


def test_nobody_ends_the_transfer_of_somebody_else(peer: Daemon) -> None:
    async def test() -> None:
        async with (
            cast(who := orderer()),
            receiving(peer) as (receiver, taking),
            receiving(peer, "outgoing honest") as (_, thief),
        ):
            assert taking.link is not None
            assert thief.link is not None
            control = await peer.control(who)
            order = await order_for(peer, control, receiver, is_big=True)
            link = taking.link
            await link.until(lambda: is_full(link), "the window is full")
            transfer_id = taking.offers[0].transfer_id
            await thief.link.say(ChunkAck(transfer_id=transfer_id, offset=2**50))
            await thief.link.say(DataTransferStop(transfer_id=transfer_id, reason="sabotage"))
            lie = DataTransferComplete(transfer_id=transfer_id, success=False, bytes_received=0, error="sabotage")
            assert isinstance(await thief.link.ask(lie), Refusal)
            assert came_bytes(link) <= WINDOW_BYTES
            await link.say(ChunkAck(transfer_id=transfer_id, offset=4 << 20))
            await link.until(lambda: came_bytes(link) > WINDOW_BYTES + (3 << 20), "it goes on for its receiver")
            assert order.transfer()[1] is None
            assert not thief.offers
            await cancelled(control, order)

    play(test())


def test_receivers_that_never_acknowledge_hold_up_nobody_else(peer: Daemon) -> None:
    """One peer lets more deliveries lie than there are slots; it gets half of these, and another one's arrive as quickly as before."""

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            control = await peer.control(who)
            async with receiving(peer, "outgoing honest") as (honest, theirs):

                async def deliver() -> float:
                    begun = time.monotonic()
                    order = await order_for(peer, control, honest)
                    await until(lambda: order.transfer()[0] == "COMPLETED", "the honest one has it")
                    assert theirs.content(theirs.offers[-1]) == CONTENT
                    return time.monotonic() - begun

                alone_s = min([await several(deliver) for _ in range(3)])
                taking.on_end = lambda _: None
                lying = [await order_for(peer, control, receiver) for _ in range(3 * SLOTS)]
                assert taking.link is not None
                await taking.link.until(lambda: len(taking.ended) >= 2, "some are lying")
                together_s = min([await several(deliver) for _ in range(3)])
                note_figures("hostile", what="receivers that never acknowledge", alone_s=alone_s, beside_s=together_s)
                assert together_s < 2 * alone_s + 0.2
                assert len(taking.ended) == SLOTS // 2
                for each in lying:
                    await cancelled(control, each)

    play(test())


def test_acknowledging_the_same_again_is_no_progress(peer: Daemon) -> None:
    """transfer_idle counts from the last byte that was acknowledged, not from the last word."""

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            given_up = await order_for(peer, control, receiver, idle_s=IDLE_S, is_big=True)
            await taking.link.until(lambda: is_full(taking.link), "the window is full")
            same = ChunkAck(transfer_id=taking.offers[0].transfer_id, offset=0)
            async with asyncio.timeout(20 * IDLE_S):
                while "transfer_idle" not in (given_up.transfer()[1] or ""):
                    await taking.link.say(same)
            await cancelled(control, given_up)

    play(test())


def test_no_more_is_sent_than_the_window_allows_and_all_of_it_is_true(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            control = await peer.control(who)
            assert taking.link is not None
            link = taking.link
            order = await order_for(peer, control, receiver, is_big=True)
            await link.until(lambda: is_full(link), "the window is full")
            unknown = DataTransferComplete(transfer_id=other_id(), success=False, bytes_received=0, error=None)
            assert isinstance(await link.ask(unknown), Refusal)  # and whatever was sent before that has come
            came = came_bytes(link)
            assert came <= WINDOW_BYTES
            await link.say(ChunkAck(transfer_id=taking.offers[0].transfer_id, offset=came))
            await until(lambda: order.transfer()[0] == "COMPLETED", "it has arrived")
            assert (
                hashlib.sha256(taking.content(taking.offers[0])).digest() == hashlib.sha256(bytes(BIG_BYTES)).digest()
            )

    play(test())


@pytest.mark.parametrize("offset", [1, 100, 1 << 20, 40 << 20])
def test_a_receiver_that_wants_the_stream_from_anywhere_gets_the_true_bytes_from_there(
    peer: Daemon, offset: int
) -> None:
    """Into the manifest, into the content, beyond a window: what it says it has is its own affair."""

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            link = taking.link
            control = await peer.control(who)
            taking.on_offer = lambda it: DataTransferAccept(transfer_id=it.transfer_id, offset=offset)
            order = await order_for(peer, control, receiver, is_big=True)
            await link.until(lambda: bool(link.frames), "bytes come")
            first = read_frame(link.frames[0])
            assert first.offset == offset
            manifest_bytes = taking.offers[0].manifest_bytes
            assert bytes(first.payload[max(0, manifest_bytes - offset) :]).strip(b"\0") == b""
            assert (offset >= manifest_bytes) or bytes(first.payload[: manifest_bytes - offset]).endswith(b"]\n")
            if offset > 8 << 20:
                await until(lambda: order.transfer()[0] == "COMPLETED", "the rest of it arrives")
            else:
                await cancelled(control, order)

    play(test())


def test_a_receiver_that_reads_nothing_holds_up_nobody_else(peer: Daemon) -> None:
    """It takes what is offered and lets its socket fill; another one's deliveries arrive as quickly as before."""

    async def test() -> None:
        async with (
            cast(who := orderer()),
            receiving(peer) as (receiver, taking),
            receiving(peer, "outgoing honest") as (other, theirs),
        ):
            assert taking.link is not None
            control = await peer.control(who)

            async def deliver() -> float:
                begun = time.monotonic()
                order = await order_for(peer, control, other)
                await until(lambda: order.transfer()[0] == "COMPLETED", "the honest one has it")
                assert theirs.content(theirs.offers[-1]) == CONTENT
                return time.monotonic() - begun

            alone_s = min([await several(deliver) for _ in range(3)])
            link = taking.link
            taking.on_offer = lambda it: link.stop_reading() or taking.accept(it)
            stuck = [await order_for(peer, control, receiver, is_big=True) for _ in range(SLOTS)]
            await until(lambda: bool(taking.offers), "it has taken one")
            beside_s = min([await several(deliver) for _ in range(3)])
            note_figures("hostile", what="a receiver that reads nothing", alone_s=alone_s, beside_s=beside_s)
            assert beside_s < 2 * alone_s + 0.2
            await link.close()
            for each in stuck:
                await cancelled(control, each)

    play(test())


# ---- receivers that have some of it


def looking(message: DataTransferRequest) -> Message:
    return DataTransferAccept(transfer_id=message.transfer_id, offset=0, present=None)


def present(message: DataTransferRequest, bits: bytes | None, *, bytes_read: int = 0) -> Message:
    return DataTransferPresent(transfer_id=message.transfer_id, bytes_read=bytes_read, present=bits)


async def manifest_sent(taking: Taking, number: int = 0) -> DataTransferRequest:
    """Wait until the manifest of an offer has come, and nothing else of it; return the offer."""
    assert taking.link is not None
    link = taking.link
    await link.until(lambda: len(link.frames) > number, "a manifest comes")
    offer, frame = taking.offers[-1], read_frame(link.frames[-1])
    assert (frame.offset, len(frame.payload)) == (0, offer.manifest_bytes)
    return offer


def test_what_a_receiver_has_is_not_sent(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            taking.on_offer = looking
            taking.on_end = lambda message: DataTransferComplete(
                transfer_id=message.transfer_id,
                success=True,
                bytes_received=taking.offers[-1].manifest_bytes,
                error=None,
            )
            order = await order_for(peer, control, receiver)
            offer = await manifest_sent(taking)
            await taking.link.say(present(offer, None, bytes_read=100))
            await taking.link.say(present(offer, b"\1", bytes_read=len(CONTENT)))
            await until(lambda: order.transfer()[0] == "COMPLETED", "the receiver has it")
            assert taking.content(offer) == b""

    play(test())


def test_a_receiver_that_looks_and_has_nothing_gets_all(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            taking.on_offer = looking
            order = await order_for(peer, control, receiver)
            offer = await manifest_sent(taking)
            await taking.link.say(present(offer, b""))
            await until(lambda: order.transfer()[0] == "COMPLETED", "it arrives")
            assert taking.content(offer) == CONTENT

    play(test())


PRESENT_LIES: dict[str, tuple[bytes | None, int, str]] = {
    "a file that is not offered": (b"\2", 0, "no file with content"),
    "too many files": (b"\1\0", 0, "another number"),
    "more than there is to read": (None, len(CONTENT) + 1, "bytes of its own"),
}


@pytest.mark.parametrize("name", PRESENT_LIES)
def test_a_receiver_that_says_it_has_what_it_cannot_have_ends_its_own_attempt(peer: Daemon, name: str) -> None:
    bits, bytes_read, words = PRESENT_LIES[name]

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            taking.on_offer = looking
            order = await order_for(peer, control, receiver)
            offer = await manifest_sent(taking)
            taking.on_offer = taking.accept
            await taking.link.say(present(offer, bits, bytes_read=bytes_read))
            await until(lambda: words in (order.transfer()[1] or ""), "the reason is written down")
            await until(lambda: order.transfer()[0] == "COMPLETED", "it arrives after all")
            assert taking.content(taking.offers[-1]) == CONTENT

    play(test())


def test_a_receiver_that_was_not_asked_what_it_has_ends_its_own_attempt(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            order = await order_for(peer, control, receiver, is_big=True)
            await taking.link.until(lambda: is_full(taking.link), "the window is full")
            await taking.link.say(present(taking.offers[0], b"\1"))
            await until(lambda: "nobody waited for that" in (order.transfer()[1] or ""), "the reason is written down")
            await cancelled(control, order)

    play(test())


def test_a_receiver_that_looks_for_ever_is_given_up(peer: Daemon) -> None:
    """It may say that it still looks as often as it likes: transfer_idle counts from the last byte that it has read."""

    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            assert taking.link is not None
            control = await peer.control(who)
            taking.on_offer = looking
            given_up = await order_for(peer, control, receiver, idle_s=IDLE_S)
            offer = await manifest_sent(taking)
            async with asyncio.timeout(20 * IDLE_S):
                while "transfer_idle" not in (given_up.transfer()[1] or ""):
                    await taking.link.say(present(offer, None, bytes_read=100))
            await cancelled(control, given_up)

    play(test())


# ---- receivers that come back


def no_room(message: DataTransferRequest) -> Message:
    return DataTransferReject(transfer_id=message.transfer_id, code=RejectionCode.NO_ROOM, reason="a full disk")


def test_a_new_data_link_of_an_introduced_receiver_ends_the_pause_of_what_waits_for_it(peer: Daemon) -> None:
    """It has no control link here, so nothing else says that it is there again."""

    async def test() -> None:
        taking = Taking()
        taking.on_offer = no_room
        who = ScriptedPeer("outgoing introduced", reply=taking.reply)
        async with orderer() as owner, who:
            control = await peer.control(owner)
            waiting = await order_for(peer, control, who)
            taking.link = await peer.data_link(who)
            await until(lambda: len(taking.offers) == 7, "its pause has grown to six seconds")
            taking.on_offer = taking.accept
            begun = time.monotonic()
            taking.link = await peer.data_link(who)
            await until(lambda: waiting.transfer()[0] == "COMPLETED", "it is sent at once")
            assert time.monotonic() - begun < 2

    play(test())
