"""Deliveries from other peers to this one: what their links say goes to the room that it concerns (document: Data Handler).

`admission` says what is taken on, `intake` carries it to its end, `recognition` knows what has come before,
`paused_receptions` keeps what has come of a delivery while its link is gone, `reception` knows who has which place. What is taken, and when what is said, `protocol/transfer_receiving.py` decides.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Final

from rnd.database import transfers
from rnd.database.connection import Database
from rnd.database.consequences import take_notice
from rnd.database.news import News
from rnd.log import about_run, get_logger
from rnd.p2p.admission import Admission
from rnd.p2p.copying_places import CopyingPlaces
from rnd.p2p.intake import Intake
from rnd.p2p.link import Link
from rnd.p2p.paused_receptions import PausedReceptions
from rnd.p2p.peer_manager import AnswerTo
from rnd.p2p.reception import ReceivingThreads, Reception, Receptions
from rnd.p2p.recognition import Recognition
from rnd.p2p.seals import Seals
from rnd.protocol.frames import Frame, FrameRefused, frame_of, read_frame
from rnd.protocol.instructions import Complete, ReceiveInstruction, Reject
from rnd.protocol.link_messages import Ack
from rnd.protocol.messages import Message
from rnd.protocol.offers import read_request
from rnd.protocol.transfer import WINDOW_BYTES
from rnd.protocol.transfer_messages import (
    DataChunk,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferReject,
    DataTransferRequest,
)
from rnd.types.config import Config
from rnd.types.enums import TransferDirection
from rnd.types.errors import NotFound
from rnd.types.ids import PeerId, TransferId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.workers.delivery_log import ReceiverLog
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import Bell, NewsBoard

FRAMES_WAITING_MAX: Final = 16_384
"""How many frames of a delivery may wait for the disk: each costs memory, however little it brings. A window of the
shortest frames that can be configured here (`chunk_bytes`) has half as many."""
OVERRUN_BYTES: Final = 8 << 20
"""How much beyond its window a sender may send before it is cut off."""

log = get_logger()


class Incoming:
    """Takes deliveries."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        folders: JobFolders,
        disk: DiskGuard,
        board: NewsBoard,
        seals: Seals,
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._board = board
        board.when_called_off = self.call_off
        self._peer_id = peer_id
        self._unwanted: Bell[TransferId] = Bell()
        self._group: asyncio.TaskGroup | None = None
        self._threads = ReceivingThreads(config.transfer_slots)
        places = CopyingPlaces()
        self._receptions = Receptions(peer_id)
        self._paused = PausedReceptions(
            database=database,
            folders=folders,
            receptions=self._receptions,
            threads=self._threads,
            places=places,
            max_folders=config.limits.files_per_transfer,
        )
        self._recognition = Recognition(database=database, clock=clock, folders=folders, threads=self._threads)
        self._admission = Admission(
            database=database,
            clock=clock,
            config=config,
            folders=folders,
            disk=disk,
            seals=seals,
            peer_id=peer_id,
            receptions=self._receptions,
            paused=self._paused,
            recognition=self._recognition,
            threads=self._threads,
            begin=self._begin,
        )
        self._intake = Intake(
            database=database,
            clock=clock,
            disk=disk,
            board=board,
            receptions=self._receptions,
            paused=self._paused,
            recognition=self._recognition,
            threads=self._threads,
            places=places,
        )

    async def run(self) -> None:
        """Take deliveries until cancelled; those that an earlier daemon was taking wait for their senders to come again."""
        direction = TransferDirection.INCOMING
        try:
            await insist(self._database, lambda conn, _: transfers.requeue_active(conn, direction=direction))
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._recognition.tidy_up())
                try:
                    while True:
                        for transfer_id in await self._unwanted.wait(self._config.queue_interval_s):
                            await self._paused.clear_away(transfer_id)
                finally:
                    self._threads.tell_to_stop()  # before what waits for them is told that nobody wants it any more
        finally:
            self._group = None
            self._threads.stop()

    def call_off(self, reasons: Mapping[TransferId, str]) -> None:
        """Stop taking these deliveries: their receiver has ended."""
        for reception in self._receptions:
            if reception.offer.transfer_id in reasons:
                reception.called_off = reasons[reception.offer.transfer_id]
                reception.news.set()
        self._unwanted.ring(*reasons)

    def notices(self) -> AnswerTo:
        """Return what answers a sender that will never deliver."""
        return self._take_notice

    # ---- what links say

    async def answer_request(self, link: Link, message: DataTransferRequest) -> Message:
        """Accept or reject an offer."""
        with about_run(message.execution_uid, message.ordering_peer_id):
            return await self._answer_offer(link, message)

    async def _answer_offer(self, link: Link, message: DataTransferRequest) -> Message:
        offer = read_request(message)
        lines = ReceiverLog(offer.transfer_id, size_bytes=offer.size_bytes, chunk_bytes=self._config.chunk_bytes)
        answer = await self._admission.admit(link, offer, message.seal, lines)
        if isinstance(answer, Reject):
            log.debug(
                LogEvent.TRANSFER_REJECTED,
                transfer_id=offer.transfer_id,
                code=answer.code,
                reason=answer.reason,
                peer_id=link.peer_id,
            )
            return DataTransferReject(transfer_id=answer.transfer_id, code=answer.code, reason=answer.reason)
        lines.requested()  # of what is rejected nothing is said at INFO: peers can offer as fast as they like
        lines.accepted(answer.offset, sealed=answer.seal is not None)
        return DataTransferAccept(
            transfer_id=answer.transfer_id, offset=answer.offset, present=answer.present, seal=answer.seal
        )

    async def answer_complete(self, link: Link, message: DataTransferComplete) -> Message:
        """The sender has sent all, or calls it off: answer when that is settled here."""
        reception = self._receptions.find(link, message.transfer_id)
        if reception is None:
            raise NotFound(f"transfer {message.transfer_id} is not under way on this link")
        reception.queue.append(message)
        reception.news.set()
        await reception.over.wait()
        words = reception.answer or Complete(
            transfer_id=message.transfer_id, success=False, error=reception.machine.reason or "it has ended here"
        )
        return DataTransferComplete(
            transfer_id=words.transfer_id,
            success=words.success,
            bytes_received=words.bytes_received,
            error=words.error or None,
        )

    def take_frame(self, link: Link, data: bytes) -> None:
        """Queue the bytes of a frame for their delivery; those of an unknown stream are dropped."""
        try:
            frame = read_frame(data)
        except FrameRefused as error:
            link.unwanted_bytes += len(data)
            log.debug(LogEvent.PEER_QUESTION_FAILED, peer_id=link.peer_id, reason=str(error))
            return
        self._queue(link, frame)

    def take_chunk(self, link: Link, message: Message) -> None:
        """Queue the bytes of a frame that came as text."""
        assert isinstance(message, DataChunk)
        try:
            frame = frame_of(stream=message.stream, offset=message.offset, payload=message.data)
        except FrameRefused as error:
            link.unwanted_bytes += len(message.data)
            log.debug(LogEvent.PEER_QUESTION_FAILED, peer_id=link.peer_id, reason=str(error))
            return
        self._queue(link, frame)

    def _queue(self, link: Link, frame: Frame) -> None:
        reception = self._receptions.of_stream(link, frame.stream)
        if reception is None or not reception.is_taken():
            link.unwanted_bytes += len(frame.payload)
            return
        reception.queue.append(frame)
        reception.queued_bytes += len(frame.payload)
        if reception.queued_bytes > WINDOW_BYTES + OVERRUN_BYTES:
            reception.called_off = "the sender sends more than its window allows"
        elif len(reception.queue) > FRAMES_WAITING_MAX:
            reception.called_off = f"more than {FRAMES_WAITING_MAX:,} frames of it wait here: longer ones are taken"
        reception.news.set()

    def link_lost(self, link: Link) -> None:
        """What was coming over a link has to be offered again."""
        for reception in self._receptions:
            if reception.link is link:
                reception.machine.lose_link(f"the link was lost: {link.why_closed}")
                reception.news.set()

    async def _take_notice(self, peer: PeerId, message: Message) -> Message:
        assert isinstance(message, DataTransferFailed)
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            take_notice(
                conn,
                peer,
                self_peer_id=self._peer_id,
                orderer=message.ordering_peer_id,
                execution_uid=message.execution_uid,
                connection_id=message.connection_id,
                reason=message.reason,
                now=now,
                news=news,
            )

        _, news = await insist(self._database, work)
        with about_run(message.execution_uid, message.ordering_peer_id):
            self._board.publish(news)
        return Ack()

    def _begin(self, reception: Reception, instructions: list[ReceiveInstruction]) -> bool:
        """Have a delivery taken from here on, if this peer is not stopping."""
        if self._group is None:
            return False
        if not reception.link.is_open:  # it was lost while this was decided, and nobody will say so again
            reception.machine.lose_link()
        ends = reception.offer.ends
        with about_run(ends.execution_uid, ends.ordering_peer_id):
            self._group.create_task(self._intake.take(reception, instructions))
        return True
