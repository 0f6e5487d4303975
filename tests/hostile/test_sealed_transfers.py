"""Sealed transfers under attack, at both ends of a real daemon: somebody in the middle who changes what is said and what is sent.

Each attempt ends with words on both sides and leaves nothing on disk, no plain byte goes out, and the true delivery still
gets through.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from rnd.protocol.frames import read_frame
from rnd.protocol.instructions import Offer
from rnd.protocol.messages import (
    DataTransferAccept,
    DataTransferComplete,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
    JobCancel,
    Message,
)
from rnd.protocol.offers import read_request
from rnd.protocol.sealed_streams import (
    ChunkOpener,
    ChunkSealer,
    ReceiverSeal,
    SenderSeal,
    Ways,
    accept_text,
    offer_text,
)
from rnd.protocol.sealing import TAG_BYTES
from rnd.protocol.transfer_messages import SealShare
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.ids import ExecutionUid, JobExecutionId, PeerId, TransferId
from rnd.types.peers import RejectionCode
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, answer_politely, cast
from tests.hostile.stage import (
    INPUT,
    NODE,
    OUTPUT,
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
from tests.running_peers import wait_until

CONTENT = {"in.txt": b"a secret that only two know\n" * 1_000}
MANIFEST = manifest_of(CONTENT)
STREAM = MANIFEST.data + CONTENT["in.txt"]
PIECE = 10_000
PASSPHRASE = "correct horse"
_numbers = itertools.count()


def named(name: str) -> ScriptedPeer:
    return ScriptedPeer(f"sealed {name}")


def fresh_secret() -> bytes:
    return hashlib.sha256(str(next(_numbers)).encode()).digest()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "in.txt").write_bytes(CONTENT["in.txt"])
    standings = dict.fromkeys(map(named, ("orderer", "sender", "receiver")), "allowed")
    with daemon(folder, standings, config="chunk_bytes = 8192\n") as peer:
        peer.cat()
        peer.data("sealed", folder / "in.txt", seal=True)
        peer.data("open", folder / "in.txt")
        peer.data("encrypted", folder / "in.txt", passphrase=PASSPHRASE)
        peer.call("service.unlock", service_id=4, passphrase=PASSPHRASE)
        yield peer


# ---- the daemon receives


@dataclass(slots=True)
class Sender:
    """A job of the daemon that waits for one delivery, and the links of its orderer and its sender."""

    daemon: Daemon
    orderer: ScriptedPeer
    peer: ScriptedPeer
    control: ScriptedLink
    data: ScriptedLink
    uid: ExecutionUid
    job_id: JobExecutionId
    stream: int = 0

    def seal(self, request: DataTransferRequest, *, by: str = "sender") -> SenderSeal:
        ways = Ways(sender=self.peer.peer_id, receiver=PeerId(self.daemon.peer_id))
        return SenderSeal(read_request(request), ways, secret=fresh_secret(), sign=named(by).key.sign)

    def request(self) -> DataTransferRequest:
        """Return a request that wants a seal."""
        self.stream += 1
        return offer(self.orderer, self.uid, self.job_id, MANIFEST, stream=self.stream, encrypted=True)

    async def accepted(self) -> tuple[DataTransferRequest, ChunkSealer]:
        """Make a sealed offer that is taken."""
        request = self.request()
        seal = self.seal(request)
        answer = await self.data.ask(replace(request, seal=seal.share))
        while isinstance(answer, DataTransferReject) and answer.code is RejectionCode.BUSY:  # the last one ends
            answer = await self.data.ask(replace(request, seal=seal.share))
        assert isinstance(answer, DataTransferAccept), answer
        return request, seal.agree(answer.offset, answer.seal)

    async def stopped(self, request: DataTransferRequest, words: str) -> None:
        """See an attempt end, here and there, with nothing of it left."""

        def stops() -> list[str]:
            heard = self.data.heard_of(DataTransferStop)
            return [
                each.reason
                for each in heard
                if isinstance(each, DataTransferStop) and each.transfer_id == request.transfer_id
            ]

        def is_written() -> bool:
            ((error,),) = self.daemon.rows("SELECT error FROM transfers WHERE transfer_id = ?", request.transfer_id)
            return words in (error or "")

        await self.data.until(lambda: bool(stops()), f"a stop with {words!r}")
        assert words in stops()[0]
        await asyncio.to_thread(wait_until, is_written, "the words are in the row")
        self.left_nothing()

    def left_nothing(self) -> None:
        assert self.daemon.job(self.job_id)["status"] == "IDLE"
        job = f"/{self.job_id}/input"
        assert [each for each in self.daemon.files() if job in each and (".part" in each or "in.txt" in each)] == []

    async def delivers_after_all(self, *, piece: int = PIECE) -> None:
        """Make the true delivery, in chunks of this size, and see the job run."""
        request, sealer = await self.accepted()
        for offset, sealed in chunks(sealer, piece=piece):
            await self.data.send_frame(request.stream, offset, sealed)
        done = DataTransferComplete(transfer_id=request.transfer_id, success=True, bytes_received=0, error=None)
        answer = await self.data.ask(done)
        assert isinstance(answer, DataTransferComplete)
        assert (answer.success, answer.error) == (True, None)
        assert answer.bytes_received == len(STREAM)
        await asyncio.to_thread(wait_until, lambda: self.daemon.job(self.job_id)["status"] == "COMPLETED", "it ran")


def chunks(sealer: ChunkSealer, stream: bytes = STREAM, *, piece: int = PIECE) -> list[tuple[int, bytes]]:
    """Return every chunk of a stream with its offset."""
    sealed = []
    for offset in range(0, len(stream), piece):
        plain = stream[offset : offset + piece]
        into = bytearray(len(plain) + TAG_BYTES)
        sealer.seal(memoryview(plain), offset=offset, into=memoryview(into))
        sealed.append((offset, bytes(into)))
    return sealed


@asynccontextmanager
async def sending(daemon: Daemon) -> AsyncIterator[Sender]:
    """Set the scene of a daemon that receives."""
    async with cast(who := named("orderer"), what := named("sender")):
        control, data = await daemon.control(who), await daemon.data_link(what)
        uid = fresh_uid()
        service = {"id": 1, "name": "cat", "service_type": "STANDALONE"}
        plan = job_plan(daemon.peer_id, service, inputs=[end(what.peer_id, INPUT, MountFunction.OUTPUT)])
        job_id = await order(control, uid, plan)
        await start(control, uid, job_id, route(INPUT, SOURCE_JOB))
        yield Sender(daemon, who, what, control, data, uid, job_id)


@pytest.mark.parametrize("piece", [17, 1_000, len(MANIFEST.data), len(MANIFEST.data) + 1, len(STREAM) - 1, len(STREAM)])
def test_a_sealed_delivery_arrives_in_chunks_of_any_size(peer: Daemon, piece: int) -> None:
    """Those of the manifest are opened before those of the content; one may hold something of both."""

    async def test() -> None:
        async with sending(peer) as on:
            await on.delivers_after_all(piece=piece)

    play(test())


OFFERS: dict[str, tuple[Callable[[Sender], DataTransferRequest], str]] = {
    "with a wrong signature": (
        lambda on: replace(it := on.request(), seal=replace(on.seal(it).share, signature="0" * 128)),
        "signature is not that of peer",
    ),
    "signed by somebody else": (
        lambda on: replace(it := on.request(), seal=on.seal(it, by="receiver").share),
        "signature is not that of peer",
    ),
    "with the key of somebody in the middle": (
        lambda on: replace(
            it := on.request(), seal=replace(on.seal(it).share, key=on.seal(it, by="receiver").share.key)
        ),
        "signature is not that of peer",
    ),
    "whose seal is another transfer's": (
        lambda on: replace(on.request(), seal=on.seal(on.request()).share),
        "signature is not that of peer",
    ),
    "with encrypted taken away": (
        lambda on: replace(it := on.request(), seal=on.seal(it).share, encrypted=False),
        "a sealed transfer comes with a seal",
    ),
    "with the seal taken away": (lambda on: on.request(), "a sealed transfer comes with a seal"),
    "with a key of zeros": (lambda on: with_zero_key(on), "none with which a secret can be shared"),
}


def with_zero_key(on: Sender) -> DataTransferRequest:
    request, key = on.request(), "00" * 32
    ways = Ways(sender=on.peer.peer_id, receiver=PeerId(on.daemon.peer_id))
    signature = on.peer.key.sign(offer_text(read_request(request), ways, key)).hex()
    return replace(request, seal=SealShare(key=key, signature=signature))


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_whose_seal_does_not_fit_is_rejected_before_anything_is_allocated(peer: Daemon, name: str) -> None:
    make, words = OFFERS[name]

    async def test() -> None:
        async with sending(peer) as on:
            before, files = peer.snapshot(), peer.files()
            answer = await on.data.ask(make(on))
            assert isinstance(answer, DataTransferReject), answer
            assert answer.code is RejectionCode.MALFORMED
            assert words in answer.reason
            assert (peer.snapshot(), peer.files()) == (before, files)
            await on.delivers_after_all()

    play(test())


def test_a_seal_that_somebody_has_kept_opens_nothing_later(peer: Daemon) -> None:
    """A request is replayed word for word, and the frames that followed it: the receiver's key is another one by then."""

    async def test() -> None:
        async with sending(peer) as on:
            request = on.request()
            seal = on.seal(request)
            recorded = replace(request, seal=seal.share)
            answer = await on.data.ask(recorded)
            assert isinstance(answer, DataTransferAccept)
            frames = chunks(seal.agree(answer.offset, answer.seal))
            await on.data.ask(
                DataTransferComplete(transfer_id=request.transfer_id, success=False, bytes_received=0, error="cut off")
            )
            while not isinstance(again := await on.data.ask(recorded), DataTransferAccept):
                assert isinstance(again, DataTransferReject)
                assert again.code is RejectionCode.BUSY
            assert again.seal != answer.seal
            await on.data.send_frame(request.stream, *frames[0])
            await on.stopped(request, "is not what the sender has sealed there")
            await on.delivers_after_all()

    play(test())


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


Sealed = list[tuple[int, bytes]]
NOT_SEALED_THERE = "is not what the sender has sealed there"
STREAMS: dict[str, tuple[Callable[[Sealed, Sealed], Sealed], str]] = {
    "changed": (lambda it, _: [(0, flipped(it[0][1]))], NOT_SEALED_THERE),
    "changed in the content": (lambda it, _: [it[0], (PIECE, flipped(it[1][1]))], NOT_SEALED_THERE),
    "moved": (lambda it, _: [(0, it[1][1])], NOT_SEALED_THERE),
    "moved later": (lambda it, _: [it[0], (PIECE, it[2][1])], NOT_SEALED_THERE),
    "moved with its header": (lambda it, _: [it[1]], "where 0 was due"),
    "cut": (lambda it, _: [(0, it[0][1][:-1])], NOT_SEALED_THERE),
    "cut in the content": (lambda it, _: [it[0], (PIECE, it[1][1][:-1])], NOT_SEALED_THERE),
    "cut to less than a tag": (lambda it, _: [it[0], (PIECE, it[1][1][:5])], "a frame without bytes"),
    "cut to its tag": (lambda it, _: [it[0], (PIECE, it[1][1][:TAG_BYTES])], "a frame without bytes"),
    "replayed": (lambda it, _: [it[0], it[0]], f"from 0 on where {PIECE:,} was due"),
    "replayed as the next": (lambda it, _: [it[0], (PIECE, it[0][1])], NOT_SEALED_THERE),
    "left out": (lambda it, _: [it[0], it[2]], f"where {PIECE:,} was due"),
    "reordered": (lambda it, _: [it[0], it[2], it[1]], f"where {PIECE:,} was due"),
    "of another transfer": (lambda _, other: [other[0]], NOT_SEALED_THERE),
    "of another transfer in the content": (lambda it, other: [it[0], other[1]], NOT_SEALED_THERE),
    "plain": (lambda _, __: [(0, STREAM[: PIECE + TAG_BYTES])], NOT_SEALED_THERE),
    "plain in the content": (lambda it, _: [it[0], (PIECE, STREAM[PIECE : 2 * PIECE])], NOT_SEALED_THERE),
    "too long": (lambda it, _: [it[0], it[1], (2 * PIECE, it[2][1] + b"more")], "more than the announced"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_sealed_chunk_that_is_not_the_next_ends_the_transfer(peer: Daemon, name: str) -> None:
    change, words = STREAMS[name]

    async def test() -> None:
        async with sending(peer) as on:
            other, theirs = await on.accepted()
            done = DataTransferComplete(transfer_id=other.transfer_id, success=False, bytes_received=0, error="off")
            await on.data.ask(done)
            request, sealer = await on.accepted()
            for offset, data in change(chunks(sealer), chunks(theirs)):
                await on.data.send_frame(request.stream, offset, data)
            await on.stopped(request, words)
            await on.delivers_after_all()

    play(test())


def test_chunks_of_two_transfers_at_once_cannot_be_swapped(peer: Daemon) -> None:
    async def test() -> None:
        async with sending(peer) as one, sending(peer) as two:
            two.data, two.stream = one.data, 50  # the same link and the same keys' owners
            (first, a), (second, b) = await one.accepted(), await two.accepted()
            await one.data.send_frame(first.stream, *chunks(b)[0])
            await one.data.send_frame(second.stream, *chunks(a)[0])
            await one.stopped(first, NOT_SEALED_THERE)
            await two.stopped(second, NOT_SEALED_THERE)
            await one.delivers_after_all()
            await two.delivers_after_all()

    play(test())


def test_an_end_before_the_last_chunk_delivers_nothing(peer: Daemon) -> None:
    async def test() -> None:
        async with sending(peer) as on:
            request, sealer = await on.accepted()
            for offset, sealed in chunks(sealer)[:-1]:
                await on.data.send_frame(request.stream, offset, sealed)
            done = DataTransferComplete(transfer_id=request.transfer_id, success=True, bytes_received=0, error=None)
            answer = await on.data.ask(done)
            assert isinstance(answer, DataTransferComplete)
            assert not answer.success
            assert "it announced the end after" in (answer.error or "")
            await asyncio.to_thread(wait_until, lambda: not part_files(on), "nothing is left")
            on.left_nothing()
            await on.delivers_after_all()

    play(test())


def part_files(on: Sender) -> list[str]:
    return [each for each in on.daemon.files() if f"/{on.job_id}/" in each and ".part" in each]


def test_open_transfers_arrive_as_before_at_a_duty_that_knows_of_no_seal(peer: Daemon) -> None:
    async def test() -> None:
        async with sending(peer) as on:
            request = offer(on.orderer, on.uid, on.job_id, MANIFEST)
            answer = await on.data.ask(request)
            assert answer == DataTransferAccept(transfer_id=request.transfer_id, offset=0, seal=None)
            await on.data.send_frame(1, 0, STREAM)
            done = DataTransferComplete(transfer_id=request.transfer_id, success=True, bytes_received=0, error=None)
            answer = await on.data.ask(done)
            assert isinstance(answer, DataTransferComplete)
            assert answer.success

    play(test())


# ---- the daemon sends


@dataclass(slots=True)
class Receiver:
    """A receiver that does as the wire says, unless a test puts something in place of its answer."""

    peer: ScriptedPeer
    sender_id: PeerId
    link: ScriptedLink | None = None
    offers: list[DataTransferRequest] = field(default_factory=list)
    ended: list[DataTransferComplete] = field(default_factory=list)
    opener: ChunkOpener | None = None
    answer: Callable[[DataTransferRequest], Message] | None = None

    def reply(self, message: Message) -> Message | None:
        match message:
            case DataTransferRequest():
                self.offers.append(message)
                return self.accept(message) if self.answer is None else self.answer(message)
            case DataTransferComplete():
                self.ended.append(message)
                it = read_request(self.offers[-1])
                return replace(message, bytes_received=it.stream_bytes if message.success else 0)
        return answer_politely(message)

    def seal(self, message: DataTransferRequest, *, by: str = "receiver") -> ReceiverSeal:
        assert message.seal is not None
        ways = Ways(sender=self.sender_id, receiver=self.peer.peer_id)
        return ReceiverSeal(read_request(message), ways, message.seal, secret=fresh_secret(), sign=named(by).key.sign)

    def accept(self, message: DataTransferRequest, **changed: str) -> DataTransferAccept:
        share, self.opener = self.seal(message).agree(0)
        return DataTransferAccept(transfer_id=message.transfer_id, offset=0, seal=replace(share, **changed))

    def zero_key(self, message: DataTransferRequest) -> DataTransferAccept:
        assert message.seal is not None
        ways = Ways(sender=self.sender_id, receiver=self.peer.peer_id)
        text = accept_text(offer_text(read_request(message), ways, message.seal.key), 0, b"", "00" * 32)
        share = SealShare(key="00" * 32, signature=self.peer.key.sign(text).hex())
        return DataTransferAccept(transfer_id=message.transfer_id, offset=0, seal=share)

    def stream(self) -> bytes:
        """Open all that has come for the last offer."""
        assert self.link is not None
        assert self.opener is not None
        plain = b""
        for frame in map(read_frame, self.link.frames):
            into = bytearray(len(frame.payload) - TAG_BYTES)
            assert frame.offset == len(plain)
            self.opener.open(frame.payload, offset=frame.offset, into=memoryview(into))
            plain += into
        return plain


@dataclass(slots=True)
class Order:
    """A DATA job of the daemon that owes its content."""

    daemon: Daemon
    control: ScriptedLink
    uid: ExecutionUid
    job_id: JobExecutionId

    def transfer(self) -> tuple[str, str]:
        query = "SELECT status, COALESCE(error, '') FROM transfers WHERE source_job_execution_id = ?"
        rows = self.daemon.rows(query, self.job_id)
        return rows[0] if rows else ("", "")

    async def until(self, found: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(wait_until, found, what)


@asynccontextmanager
async def receiving(daemon: Daemon) -> AsyncIterator[tuple[Receiver, Callable[[str, int], Awaitable[Order]]]]:
    """Set the scene of a daemon that sends; what is yielded besides orders DATA by name and id."""
    who, what = named("orderer"), named("receiver")
    taking = Receiver(what, PeerId(daemon.peer_id))
    what.reply = taking.reply
    async with cast(who, what):
        control, taking.link = await daemon.control(who), await daemon.data_link(what)

        async def deliver(name: str, service_id: int) -> Order:
            uid = fresh_uid()
            service = {"id": service_id, "name": name, "service_type": "DATA"}
            outputs = [end(what.peer_id, OUTPUT, MountFunction.INPUT, node=3)]
            plan = job_plan(daemon.peer_id, service, outputs=outputs, output_type=InterfaceType.MOUNT)
            job_id = await order(control, uid, plan)
            await start(control, uid, job_id, route(OUTPUT, 901))
            return Order(daemon, control, uid, job_id)

        yield taking, deliver


@pytest.mark.parametrize(("name", "service_id"), [("sealed", 2), ("encrypted", 4)])
def test_what_is_to_be_sealed_goes_out_sealed_and_a_relay_sees_none_of_it(
    peer: Daemon, name: str, service_id: int
) -> None:
    async def test() -> None:
        async with receiving(peer) as (taking, deliver):
            it = await deliver(name, service_id)
            await it.until(lambda: it.transfer()[0] == "COMPLETED", "it has arrived")
            assert taking.offers[-1].encrypted
            assert taking.link is not None
            seen = b"".join(taking.link.frames)
            assert b"secret" not in seen
            assert b"in.txt" not in seen
            assert len(taking.link.frames) > 3
            assert taking.stream() == STREAM

    play(test())


def test_what_need_not_be_sealed_goes_out_open(peer: Daemon) -> None:
    async def test() -> None:
        async with receiving(peer) as (taking, deliver):
            taking.answer = lambda message: DataTransferAccept(transfer_id=message.transfer_id, offset=0)
            it = await deliver("open", 3)
            await it.until(lambda: it.transfer()[0] == "COMPLETED", "it has arrived")
            assert (taking.offers[-1].encrypted, taking.offers[-1].seal) == (False, None)
            assert taking.link is not None
            assert b"".join(bytes(read_frame(frame).payload) for frame in taking.link.frames) == STREAM

    play(test())


Answer = Callable[[Receiver, DataTransferRequest], Message]
ANSWERS: dict[str, tuple[Answer, str]] = {
    "without a key": (
        lambda _, it: DataTransferAccept(transfer_id=it.transfer_id, offset=0),
        "it accepted without a seal what goes out only sealed",
    ),
    "signed by somebody in the middle": (
        lambda who, it: DataTransferAccept(
            transfer_id=it.transfer_id, offset=0, seal=who.seal(it, by="sender").agree(0)[0]
        ),
        "signature is not that of peer",
    ),
    "with the key of somebody in the middle": (
        lambda who, it: who.accept(it, key=who.seal(it, by="sender").agree(0)[0].key),
        "signature is not that of peer",
    ),
    "with a wrong signature": (
        lambda who, it: who.accept(it, signature="0" * 128),
        "signature is not that of peer",
    ),
    "from another offset than was signed": (
        lambda who, it: replace(who.accept(it), offset=100),
        "signature is not that of peer",
    ),
    "with a key of zeros": (lambda who, it: who.zero_key(it), "none with which a secret can be shared"),
    "with what was signed before": (
        lambda who, it: DataTransferAccept(
            transfer_id=it.transfer_id, offset=0, seal=who.accept(earlier(it, who)).seal
        ),
        "signature is not that of peer",
    ),
}


def earlier(message: DataTransferRequest, who: Receiver) -> DataTransferRequest:
    """Return an offer of the same content with another transfer_id, which its sender might have signed some time."""
    old: Offer = replace(read_request(message), transfer_id=TransferId("ffffffff-ffff-4fff-8fff-ffffffffffff"))
    ways = Ways(sender=who.peer.peer_id, receiver=who.peer.peer_id)
    who.sender_id = who.peer.peer_id
    share = SenderSeal(old, ways, secret=fresh_secret(), sign=who.peer.key.sign).share
    return replace(message, transfer_id=old.transfer_id, seal=share)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_byte_goes_out_to_a_receiver_whose_seal_does_not_fit(peer: Daemon, name: str) -> None:
    answer, words = ANSWERS[name]

    async def test() -> None:
        async with receiving(peer) as (taking, deliver):
            taking.answer = lambda message: answer(taking, message)
            it = await deliver("sealed", 2)
            await it.until(lambda: words in it.transfer()[1], "the reason is written down")
            assert taking.link is not None
            await taking.link.until(lambda: bool(taking.ended), "the receiver is told")
            assert not taking.ended[0].success
            assert words in (taking.ended[0].error or "")
            assert taking.link.frames == []
            taking.answer, taking.sender_id = None, PeerId(peer.peer_id)
            await it.until(lambda: it.transfer()[0] == "COMPLETED", "it arrives after all")
            assert taking.stream() == STREAM

    play(test())


def test_a_receiver_that_cannot_seal_gets_nothing_and_the_job_says_why(peer: Daemon) -> None:
    async def test() -> None:
        async with receiving(peer) as (taking, deliver):
            taking.answer = lambda message: DataTransferReject(
                transfer_id=message.transfer_id,
                code=RejectionCode.MALFORMED,
                reason="sealed transfers are unknown here",
            )
            it = await deliver("sealed", 2)
            await it.until(lambda: it.transfer()[0] == "FAILED", "it is given up")
            assert "sealed transfers are unknown here" in it.transfer()[1]
            assert taking.link is not None
            assert taking.link.frames == []
            await it.until(lambda: peer.job(it.job_id)["status"] == "ERRORED", "the job says so")

    play(test())


def test_a_seal_on_what_was_offered_open_ends_the_attempt(peer: Daemon) -> None:
    async def test() -> None:
        async with receiving(peer) as (taking, deliver):
            taking.answer = lambda message: DataTransferAccept(
                transfer_id=message.transfer_id, offset=0, seal=SealShare(key="1" * 64, signature="1" * 128)
            )
            it = await deliver("open", 3)
            await it.until(
                lambda: "sealed what was not offered sealed" in it.transfer()[1], "the reason is written down"
            )
            assert taking.link is not None
            assert taking.link.frames == []
            await it.control.ask(JobCancel(execution_uid=it.uid, node_id=NODE, reason="enough"))

    play(test())
