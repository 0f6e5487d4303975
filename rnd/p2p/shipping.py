"""One attempt of a delivery to another peer: offered, streamed within a window, its end announced (document: Transfer Protocol).

What it does is decided by `protocol/transfer_sending.py`; what its receiver says on the link goes to its machine here, and wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from rnd.database.connection import Database
from rnd.database.consequences import call_off_transfer
from rnd.p2p.frame_feed import FrameFeed, ReadFrame
from rnd.p2p.link import Link
from rnd.p2p.seals import Seals
from rnd.protocol.frames import read_frame
from rnd.protocol.instructions import Complete, Ends, LeaveOut, SendBytes, TransferState
from rnd.protocol.messages import Message
from rnd.protocol.offers import make_offer, write_request
from rnd.protocol.transfer import ENDED
from rnd.protocol.transfer_messages import (
    TEXT_CHUNK_BYTES,
    ChunkAck,
    DataChunk,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
)
from rnd.protocol.transfer_sending import SendTransfer
from rnd.rules.policy import leaves_sealed
from rnd.types.config import Config
from rnd.types.enums import DataCodec
from rnd.types.errors import CalledOff, PeerRefused, PeerUnreachable, RndError, TimedOut, TransferFailed
from rnd.types.executions import Transfer
from rnd.types.ids import TransferId
from rnd.types.peers import RejectionCode
from rnd.types.seams import Clock
from rnd.workers.deliveries import Delivery
from rnd.workers.delivery_log import SenderLog
from rnd.workers.delivery_rows import DeliveryRows
from rnd.workers.insistence import insist
from rnd.workers.news_board import NewsBoard
from rnd.workers.pace import Pace
from rnd.workers.sending import Sending
from rnd.workers.underway import Underway

T = TypeVar("T")

ANSWER_TIMEOUT_S: Final = 60.0
PROGRESS_INTERVAL_S: Final = 0.5


class TryAgain(RndError):
    """This attempt came to nothing; another one may well succeed. `at_once`: the other side is only not ready yet."""

    def __init__(self, message: str, *, at_once: bool = False, counts: bool = False) -> None:
        super().__init__(message)
        self.at_once = at_once
        self.counts = counts


@dataclass(slots=True)
class Shipment:
    """One attempt on its way: what its messages are for, and what wakes its task."""

    link: Link
    machine: SendTransfer
    news: asyncio.Event = field(default_factory=asyncio.Event)
    moved_at_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When bytes were last sent, or acknowledged that had not been, by the event loop's clock."""
    mark: int = 0
    """Where the last bytes that were sent stand among all that is said on the link."""

    def note_move(self) -> None:
        """Note that the delivery goes on."""
        self.moved_at_s = asyncio.get_running_loop().time()


class Shipping:
    """Makes the attempts, each for the task that it belongs to."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        board: NewsBoard,
        rows: DeliveryRows,
        seals: Seals,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._board = board
        self._rows = rows
        self._seals = seals
        self._threads = threads
        self._shipments: dict[TransferId, Shipment] = {}
        self._streams = itertools.count(1)
        self._frame_bytes = config.chunk_bytes
        if config.data_codec == DataCodec.BASE64:
            self._frame_bytes = min(config.chunk_bytes, TEXT_CHUNK_BYTES)

    # ---- what links say

    def take_ack(self, link: Link, message: Message) -> None:
        """A receiver has written what it got."""
        assert isinstance(message, ChunkAck)
        shipment = self._of(link, message.transfer_id)
        if shipment is not None:
            before = shipment.machine.acknowledged
            shipment.machine.acknowledge(message.offset)
            if shipment.machine.acknowledged > before:
                shipment.note_move()
            shipment.news.set()

    def take_present(self, link: Link, message: Message) -> None:
        """A receiver says which files it has already, or that it is still looking."""
        assert isinstance(message, DataTransferPresent)
        shipment = self._of(link, message.transfer_id)
        if shipment is not None:
            before = shipment.machine.bytes_read
            shipment.machine.take_present(message.present, bytes_read=message.bytes_read)
            if shipment.machine.bytes_read > before:
                shipment.note_move()
            shipment.news.set()

    def take_stop(self, link: Link, message: Message) -> None:
        """A receiver has failed on its side, or stands still."""
        assert isinstance(message, DataTransferStop)
        shipment = self._of(link, message.transfer_id)
        if shipment is not None:
            if message.paused:
                shipment.machine.pause(message.reason)
            else:
                shipment.machine.stop(message.reason)
            shipment.news.set()

    def link_lost(self, link: Link) -> None:
        """What was on its way over a link stands still."""
        for shipment in self._shipments.values():
            if shipment.link is link:
                shipment.machine.lose_link(f"the link was lost: {link.why_closed}")
                shipment.news.set()

    def call_off(self, transfer_id: TransferId) -> None:
        """Nobody wants this delivery any more."""
        shipment = self._shipments.get(transfer_id)
        if shipment is not None:
            shipment.machine.call_off("it is not wanted any more")
            shipment.news.set()

    def _of(self, link: Link, transfer_id: TransferId) -> Shipment | None:
        shipment = self._shipments.get(transfer_id)
        return shipment if shipment is not None and shipment.link is link else None

    # ---- one attempt

    async def ship(
        self, delivery: Delivery, sending: Sending, link: Link, underway: Underway, *, is_first: bool
    ) -> None:
        """Make one attempt over a link; it has arrived when this returns. What was said of an attempt before, unless this
        `is_first`, is not said again.

        Raises `TryAgain`, `CalledOff`, `TransferFailed`, and what reading, the link and the rows raise.
        """
        transfer = delivery.transfer
        offer = make_offer(
            sending.manifest,
            _ends(transfer),
            transfer_id=transfer.transfer_id,
            stream=next(self._streams),
            encrypted=delivery.service is not None and leaves_sealed(delivery.service),
        )
        seal = self._seals.offer(offer, transfer.dest_peer_id)
        request = write_request(
            offer,
            source_path=f"job {offer.ends.source_job_execution_id}",
            dest_path=f"connection {offer.ends.connection_id}",
            seal=None if seal is None else seal.share,
        )
        machine = SendTransfer(
            offer,
            entries=sending.manifest.entries,
            seal=seal,
            window_bytes=self._config.window_bytes,
            frame_bytes=self._frame_bytes,
        )
        shipment = Shipment(link=link, machine=machine)
        lines = SenderLog(transfer, size_bytes=offer.size_bytes, chunk_bytes=self._config.chunk_bytes)
        underway.sealed = seal is not None
        if is_first:
            lines.sent()
        self._shipments[offer.transfer_id] = shipment
        link.deliveries += 1
        try:
            await self._offer(shipment, request, sending, underway, lines, idle_s=delivery.idle_s)
        finally:
            link.deliveries -= 1
            del self._shipments[offer.transfer_id]
        if machine.state is TransferState.FAILED:
            await self._in_thread(sending.verify)  # a source that has changed is why, then, and stays so
        await self._judge(machine, delivery)

    async def _offer(
        self,
        shipment: Shipment,
        request: DataTransferRequest,
        sending: Sending,
        underway: Underway,
        lines: SenderLog,
        *,
        idle_s: float,
    ) -> None:
        machine = shipment.machine
        try:
            reply = await shipment.link.ask(request, timeout_s=ANSWER_TIMEOUT_S)
        except PeerRefused as error:
            raise TryAgain(error.reason or str(error)) from error
        match reply:
            case DataTransferAccept(offset=offset, present=present, seal=share):
                machine.accept(offset, share, present=present)
                lines.accepted(machine.acknowledged, sealed=underway.sealed)
                underway.bytes_done = machine.content_bytes
                underway.pace = Pace(underway.bytes_done, self._clock.monotonic())
                await self._stream(shipment, sending, underway, lines, idle_s=idle_s)
            case DataTransferReject(code=code, reason=reason):
                machine.reject(code, reason)

    async def _stream(
        self, shipment: Shipment, sending: Sending, underway: Underway, lines: SenderLog, *, idle_s: float
    ) -> None:
        """Follow the machine until it has come to an end."""
        machine, link = shipment.machine, shipment.link
        feed = FrameFeed(sending, in_thread=self._in_thread, frame_bytes=machine.frame_bytes, sealer=machine.sealer)
        told_s = self._clock.monotonic()
        while True:
            machine.shorten_frames(link.frame_bytes)
            instruction = machine.take()
            match instruction:
                case LeaveOut(present=present):
                    await self._in_thread(sending.leave_out, present)
                    lines.leave_out(len(present), machine.recognised_bytes)
                    underway.pace = Pace(machine.content_bytes, self._clock.monotonic())
                    shipment.note_move()
                case SendBytes():
                    try:
                        frames = await feed.read(machine.take_bytes(instruction, at_most=feed.spare()))
                    except (RndError, OSError) as error:
                        machine.fail(str(error))
                        await self._say_last_words(machine, link)
                        raise
                    for frame in frames:
                        await self._send_frame(link, frame)
                        shipment.note_move()
                        shipment.mark = link.mark
                        lines.add(frame.length)
                case Complete():
                    await self._announce(machine, link, instruction)
                    if machine.state is not TransferState.ANNOUNCED:
                        return
                case None if machine.state in ENDED:
                    return
                case None:
                    await self._wait(shipment, idle_s)
            underway.bytes_done = machine.content_bytes
            if self._clock.monotonic() - told_s > PROGRESS_INTERVAL_S:
                told_s = self._clock.monotonic()
                await self._rows.tell_progress(machine.offer.transfer_id, underway)

    async def _send_frame(self, link: Link, frame: ReadFrame) -> None:
        if self._config.data_codec == DataCodec.BINARY:
            await link.send_frame(frame.content, frame.give_back)
            return
        try:
            as_read = read_frame(frame.content)
            chunk = DataChunk(stream=as_read.stream, offset=as_read.offset, data=bytes(as_read.payload))
        finally:
            frame.give_back()
        await link.tell_in_turn(chunk)

    async def _wait(self, shipment: Shipment, idle_s: float) -> None:
        shipment.news.clear()
        try:
            async with asyncio.timeout_at(shipment.moved_at_s + idle_s):
                await shipment.news.wait()
        except TimeoutError:
            if not shipment.link.has_left(shipment.mark):  # what is not there yet cannot be acknowledged
                shipment.note_move()
                return
            shipment.machine.call_off(f"no acknowledgement for {idle_s:g} s (transfer_idle)")
            raise TryAgain(f"the receiver has acknowledged nothing for {idle_s:g} s (transfer_idle)") from None

    async def _announce(self, machine: SendTransfer, link: Link, words: Complete) -> None:
        try:
            reply = await link.ask(_completion(words), timeout_s=ANSWER_TIMEOUT_S)
        except PeerRefused as error:
            machine.stop(error.reason)
            return
        if isinstance(reply, DataTransferComplete):
            machine.complete(success=reply.success, bytes_received=reply.bytes_received, error=reply.error or "")

    async def _say_last_words(self, machine: SendTransfer, link: Link) -> None:
        words = machine.take()
        if isinstance(words, Complete):
            with contextlib.suppress(PeerUnreachable, PeerRefused, TimedOut):  # it notices by itself that nothing comes
                await link.ask(_completion(words), timeout_s=ANSWER_TIMEOUT_S)

    async def _judge(self, machine: SendTransfer, delivery: Delivery) -> None:
        """Decide what an ended attempt means for its delivery; return where it has arrived."""
        match machine.state:
            case TransferState.DONE:
                return
            case TransferState.CALLED_OFF:
                raise CalledOff(machine.reason)
            case TransferState.LINK_LOST:
                raise TryAgain(machine.reason)
            case TransferState.REJECTED:
                await self._rejected(machine, delivery)
            case _:
                raise TryAgain(f"the receiver failed: {machine.reason}", counts=True)

    async def _rejected(self, machine: SendTransfer, delivery: Delivery) -> None:
        match machine.code:
            case RejectionCode.NO_DUTY:
                now = self._clock.now()
                transfer_id = delivery.transfer.transfer_id
                reason = f"the receiver does not wait for it any more: {machine.reason}"
                _, news = await insist(
                    self._database,
                    lambda conn, news: call_off_transfer(conn, transfer_id, reason, now=now, news=news),
                )
                self._board.publish(news)
                raise CalledOff(reason)
            case RejectionCode.BUSY:
                raise TryAgain(machine.reason, at_once=True)
            case RejectionCode.NO_ROOM:
                raise TryAgain(machine.reason)
        raise TransferFailed(f"the receiver does not take it: {machine.reason}")

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _ends(transfer: Transfer) -> Ends:
    return Ends(
        ordering_peer_id=transfer.ordering_peer_id,
        execution_uid=transfer.execution_uid,
        connection_id=transfer.connection_id,
        source_job_execution_id=transfer.source_job_execution_id,
        dest_job_execution_id=transfer.dest_job_execution_id,
    )


def _completion(words: Complete) -> DataTransferComplete:
    return DataTransferComplete(
        transfer_id=words.transfer_id,
        success=words.success,
        bytes_received=words.bytes_received,
        error=words.error or None,
    )
