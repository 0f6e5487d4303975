"""Deliveries from other peers to this one: matched to an open duty, staged, verified, durable, committed, confirmed
(document: Transfer Acceptance, Transfer Completion).

What is taken, and when what is said, `protocol/transfer.py` decides. Frames are carried out in a thread, in their order; a
sender that outruns its window is cut off, so what waits for the disk is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from rnd.database import (
    arrived_manifests,
    duties,
    holdings,
    job_executions,
    job_interfaces,
    results,
    transfers,
    workflow_executions,
)
from rnd.database.connection import Database
from rnd.database.consequences import complete_transfer, take_notice
from rnd.database.duties import OpenDuty
from rnd.database.news import News
from rnd.database.transfers import NewTransfer
from rnd.log import get_logger
from rnd.p2p.link import Link
from rnd.p2p.owner_rules import bytes_allowed
from rnd.p2p.peer_manager import AnswerTo
from rnd.p2p.seals import Seals, Unsealing
from rnd.protocol.frames import Frame, FrameRefused, read_frame
from rnd.protocol.instructions import (
    Accept,
    Acknowledge,
    Complete,
    Discard,
    Duty,
    EndFile,
    Finish,
    Kept,
    LayOut,
    Offer,
    ReceiveInstruction,
    Reject,
    StagingInstruction,
    Stop,
    Unseal,
    Write,
)
from rnd.protocol.link_messages import Ack
from rnd.protocol.messages import Message
from rnd.protocol.offers import check_offer, read_request
from rnd.protocol.sealed_streams import SealRefused
from rnd.protocol.transfer import ENDED, WINDOW_BYTES, ReceiveTransfer
from rnd.protocol.transfer_messages import (
    ChunkAck,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
    SealShare,
)
from rnd.types.config import Config
from rnd.types.enums import TransferDirection
from rnd.types.errors import DatabaseGone, DatabaseNotNow, NotFound, PeerUnreachable, RndError, StaleState
from rnd.types.executions import Transfer
from rnd.types.ids import PeerId, TransferId
from rnd.types.log_events import LogEvent
from rnd.types.peers import RejectionCode
from rnd.types.seams import Clock
from rnd.workers.delivery_log import ReceiverLog, log_receiver_completed
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import Bell, NewsBoard
from rnd.workers.pace import Pace
from rnd.workers.receiving import NOTED_FROM_BYTES, Checkpoint, Receiving
from rnd.workers.underway import LOOK_AGAIN_S

INCOMING_MAX: Final = 64
"""How many deliveries come in at once, and one more of each sender that has none; others are asked to come again."""
INCOMING_OF_ONE_SENDER: Final = 8
INCOMING_FOR_ONE_ORDERER: Final = 16
"""For jobs that one other peer has ordered: it decides who sends to them, and may have made those up."""
DUTY_BYTES_MAX: Final = 64 << 30
PAUSED_MAX: Final = 64
PAUSED_ENTRIES_MAX: Final = 200_000
"""How many deliveries whose link was lost keep an open file and their names in memory, and how many names those are in all;
others are read from their notes."""
NOTE_LAG_BYTES: Final = 6 << 20
NOTE_LAG_SHARE: Final = 40
"""How much may have come that is not noted as durable: so many bytes, or this part of all of them."""
PROGRESS_INTERVAL_S: Final = 0.5
TOGETHER_MAX: Final = 8
"""How many steps of a delivery, opening what is sealed not counted, are carried out in one go, if so many have come."""
HELD_UP_BYTES_MAX: Final = 128 << 20
"""How much of all deliveries stays in memory while they are held up; what is too much has to come again."""
FRAMES_WAITING_MAX: Final = 16_384
"""How many frames of a delivery may wait for the disk: each costs memory, however little it brings. A window of the
shortest frames that can be configured here (`chunk_bytes`) has half as many."""

T = TypeVar("T")

log = get_logger()

_DutyKey = tuple[str, str, int]
"""What a duty is known by: its orchestrator, its execution's uid, its connection."""


@dataclass(slots=True)
class _Arrival:
    """One delivery that is coming in over one link."""

    link: Link
    offer: Offer
    machine: ReceiveTransfer
    unsealing: Unsealing
    receiving: Receiving
    lines: ReceiverLog
    idle_s: float
    dest_row: OpenDuty
    noted: int
    """How much of the stream was durable when that was last noted."""
    pace: Pace
    queue: deque[Frame | DataTransferComplete] = field(default_factory=deque)
    queued_bytes: int = 0
    noting: asyncio.Task[None] | None = None
    told_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When the row was last told how far it is, by the event loop's clock."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Complete | None = None
    called_off: str = ""

    def is_called_off(self) -> bool:
        """Say whether nothing more of it is to be taken; `called_off` says why."""
        return bool(self.called_off)

    @property
    def behind_bytes(self) -> int:
        """How much has come that is not noted as durable."""
        return self.machine.received - self.noted

    @property
    def lag_bytes(self) -> int:
        """How much that may be before it is waited for."""
        return max(NOTE_LAG_BYTES, self.offer.size_bytes // NOTE_LAG_SHARE)


class _Paused(NamedTuple):
    """A delivery whose link was lost: what has come of it waits for its sender."""

    receiving: Receiving
    kept: Kept


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
        self._folders = folders
        self._disk = disk
        self._board = board
        board.when_called_off = self.call_off
        self._seals = seals
        self._peer_id = peer_id
        self._by_stream: dict[tuple[Link, int], _Arrival] = {}
        self._by_duty: dict[_DutyKey, _Arrival] = {}
        self._admitting: set[_DutyKey] = set()
        self._paused: dict[_DutyKey, _Paused] = {}
        self._unwanted: Bell[TransferId] = Bell()
        self._group: asyncio.TaskGroup | None = None
        self._threads = ThreadPoolExecutor(config.transfer_slots, thread_name_prefix="rnd-receiving")

    async def run(self) -> None:
        """Take deliveries until cancelled; those that an earlier daemon was taking wait for their senders to come again."""
        direction = TransferDirection.INCOMING
        try:
            await insist(self._database, lambda conn, _: transfers.requeue_active(conn, direction=direction))
            async with asyncio.TaskGroup() as group:
                self._group = group
                while True:
                    for transfer_id in await self._unwanted.wait(self._config.queue_interval_s):
                        await self._clear_away(transfer_id)
        finally:
            self._group = None
            self._threads.shutdown(wait=False, cancel_futures=True)

    def call_off(self, reasons: Mapping[TransferId, str]) -> None:
        """Stop taking these deliveries: their receiver has ended."""
        for arrival in list(self._by_stream.values()):
            if arrival.offer.transfer_id in reasons:
                arrival.called_off = reasons[arrival.offer.transfer_id]
                arrival.news.set()
        self._unwanted.ring(*reasons)

    # ---- what links say

    async def answer_request(self, link: Link, message: DataTransferRequest) -> Message:
        """Accept or reject an offer."""
        offer = read_request(message)
        lines = ReceiverLog(offer.transfer_id, size_bytes=offer.size_bytes, chunk_bytes=self._config.chunk_bytes)
        answer = await self._admit(link, offer, message.seal, lines)
        if isinstance(answer, Reject):
            rejection = answer
            log.debug(
                LogEvent.TRANSFER_REJECTED,
                transfer_id=offer.transfer_id,
                code=rejection.code,
                reason=rejection.reason,
                peer_id=link.peer_id,
            )
            return DataTransferReject(transfer_id=rejection.transfer_id, code=rejection.code, reason=rejection.reason)
        lines.requested()  # of what is rejected nothing is said at INFO: peers can offer as fast as they like
        lines.accepted(answer.offset)
        return DataTransferAccept(transfer_id=answer.transfer_id, offset=answer.offset, seal=answer.seal)

    async def answer_complete(self, link: Link, message: DataTransferComplete) -> Message:
        """The sender has sent all, or calls it off: answer when that is settled here."""
        arrival = next(
            (
                each
                for each in self._by_stream.values()
                if each.link is link and each.offer.transfer_id == message.transfer_id
            ),
            None,
        )
        if arrival is None:
            raise NotFound(f"transfer {message.transfer_id} is not under way on this link")
        arrival.queue.append(message)
        arrival.news.set()
        await arrival.over.wait()
        words = arrival.answer or Complete(
            transfer_id=message.transfer_id, success=False, error=arrival.machine.reason or "it has ended here"
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
            log.debug(LogEvent.PEER_QUESTION_FAILED, peer_id=link.peer_id, reason=str(error))
            return
        arrival = self._by_stream.get((link, frame.stream))
        if arrival is None or arrival.is_called_off() or arrival.machine.state in ENDED:
            return
        arrival.queue.append(frame)
        arrival.queued_bytes += len(frame.payload)
        if arrival.queued_bytes > WINDOW_BYTES + (8 << 20):
            arrival.called_off = "the sender sends more than its window allows"
        elif len(arrival.queue) > FRAMES_WAITING_MAX:
            arrival.called_off = f"more than {FRAMES_WAITING_MAX:,} frames of it wait here: longer ones are taken"
        arrival.news.set()

    def link_lost(self, link: Link) -> None:
        """What was coming over a link has to be offered again."""
        for arrival in list(self._by_stream.values()):
            if arrival.link is link:
                arrival.machine.lose_link()
                arrival.news.set()

    def notices(self) -> AnswerTo:
        """Return what answers a sender that will never deliver."""
        return self._take_notice

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
        self._board.publish(news)
        return Ack()

    # ---- admitting

    async def _admit(self, link: Link, offer: Offer, share: SealShare | None, lines: ReceiverLog) -> Accept | Reject:
        """Take an offer on if a duty waits for it; else say why not. Nothing is allocated before that is known."""

        def reject(code: RejectionCode, reason: str) -> Reject:
            return Reject(transfer_id=offer.transfer_id, code=code, reason=reason)

        key = _key_of(offer)

        def look(conn: sqlite3.Connection) -> tuple[tuple[OpenDuty, Path, float, int | None] | str, Reject | None]:
            found = self._look_up(conn, link.peer_id, offer)
            return found, None if isinstance(found, str) else self._beyond_bounds(conn, offer)

        found, beyond = await self._database.read(look)
        if isinstance(found, str):
            return reject(
                RejectionCode.BUSY if found else RejectionCode.NO_DUTY, found or "nothing here waits for this"
            )
        duty, destination, idle_s, max_bytes = found
        if duty.is_done:
            return reject(RejectionCode.DONE, "it has arrived before")
        is_busy = (link, offer.stream) in self._by_stream or key in self._by_duty or key in self._admitting
        if is_busy or not self._has_place(link.peer_id, offer):
            return reject(RejectionCode.BUSY, "another transfer for this is under way, or too many are")
        terms = Duty(
            source_peer_id=link.peer_id,
            ends=offer.ends,
            max_bytes=DUTY_BYTES_MAX if max_bytes is None else min(DUTY_BYTES_MAX, max_bytes),
            max_entries=self._config.limits.files_per_transfer,
        )
        rejection = check_offer(offer, terms, sender_peer_id=link.peer_id)
        rejection = rejection or beyond
        if rejection is not None:
            return rejection
        try:
            seal = self._seals.answer(offer, link.peer_id, share)
        except SealRefused as error:
            return reject(RejectionCode.MALFORMED, str(error))
        self._admitting.add(key)
        try:
            receiving, kept = await self._begun_before(link.peer_id, offer, destination)
        finally:
            self._admitting.discard(key)
        receiving.report_to(lines.add)
        machine = ReceiveTransfer(offer, terms, sender_peer_id=link.peer_id, seal=seal, kept=kept)
        *instructions, answer = machine.begin()
        assert isinstance(answer, Accept)
        no_room = self._disk.refusal(more_bytes=offer.stream_bytes - machine.received)
        if no_room is not None or not self._has_place(link.peer_id, offer):  # others may have come meanwhile
            await self._set_aside(key, receiving, kept)
            if no_room is not None:
                return reject(RejectionCode.NO_ROOM, no_room)
            return reject(RejectionCode.BUSY, "too many transfers are under way")
        arrival = _Arrival(
            link=link,
            offer=offer,
            machine=machine,
            unsealing=Unsealing(machine, self._in_thread),
            receiving=receiving,
            lines=lines,
            idle_s=idle_s,
            dest_row=duty,
            noted=machine.received,
            pace=Pace(_content(offer, machine.received), asyncio.get_running_loop().time()),
        )
        self._by_stream[link, offer.stream] = arrival
        self._by_duty[key] = arrival
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> Transfer | Reject | None:
            if isinstance(self._look_up(conn, link.peer_id, offer), str):
                return reject(RejectionCode.NO_DUTY, "its receiver has ended meanwhile")
            beyond = self._beyond_bounds(conn, offer)  # others may have been taken on meanwhile
            if beyond is not None:
                return beyond
            return transfers.open_incoming(
                conn,
                self._new_row(link.peer_id, offer, duty),
                file_count=offer.file_count,
                size_bytes=offer.size_bytes,
                bytes_done=_content(offer, machine.received),
                now=now,
            )

        opened: Transfer | Reject | None = None
        try:
            opened = await self._database.write(work)
            if opened is None:
                return reject(RejectionCode.MALFORMED, "this transfer_id is another transfer's, or this one has ended")
            if isinstance(opened, Reject):
                return opened
            if self._group is None:
                return reject(RejectionCode.BUSY, "this peer is stopping")
            self._group.create_task(self._take(arrival, instructions))
            return answer
        finally:
            if not isinstance(opened, Transfer) or self._group is None:
                if isinstance(opened, Reject):
                    await self._in_thread(receiving.discard)
                else:
                    await self._set_aside(key, receiving, kept)
                self._forget(arrival)

    def _beyond_bounds(self, conn: sqlite3.Connection, offer: Offer) -> Reject | None:
        """Return why a delivery is more than may be held here, or `None`."""
        ends = offer.ends
        held = holdings.held_by_delivery(conn, ends.ordering_peer_id, ends.execution_uid, ends.connection_id)
        for bound in holdings.bounds_of(
            conn,
            ends.ordering_peer_id,
            ends.execution_uid,
            self_peer_id=self._peer_id,
            limits=self._config.limits,
        ):
            if bound.room_bytes < offer.size_bytes - held:
                has_hope = bound.frees_itself and offer.size_bytes <= bound.limit_bytes
                code = RejectionCode.NO_ROOM if has_hope else RejectionCode.TOO_LARGE
                reason = f"{offer.size_bytes:,} bytes are too many: {bound.words}"
                return Reject(transfer_id=offer.transfer_id, code=code, reason=reason)
        return None

    async def _begun_before(self, sender: PeerId, offer: Offer, destination: Path) -> tuple[Receiving, Kept | None]:
        """Return what has come of an offer already: over a link that was lost, or, as its notes say, before a restart; or
        all of it, if the same has come from this sender for this orderer before.
        """
        paused = self._paused.pop(_key_of(offer), None)
        if paused is not None:
            return paused.receiving, paused.kept
        receiving = Receiving(destination)
        if offer.size_bytes < NOTED_FROM_BYTES:
            return receiving, None
        max_folders = self._config.limits.files_per_transfer
        kept = await self._in_thread(partial(receiving.take_up, offer, max_folders=max_folders))
        if kept is not None or self._disk.refusal(more_bytes=offer.size_bytes) is not None:
            return receiving, kept
        orderer, sha256 = offer.ends.ordering_peer_id, offer.manifest_sha256
        folder = await self._database.read(
            lambda conn: arrived_manifests.find_folder(conn, sender=sender, orderer=orderer, manifest_sha256=sha256)
        )
        if folder is not None:
            earlier = self._folders.data_dir / folder
            kept = await self._in_thread(partial(receiving.fill_from, earlier, offer, max_folders=max_folders))
        if kept is not None:
            log.info(LogEvent.TRANSFER_RECOGNISED, transfer_id=offer.transfer_id, bytes=offer.size_bytes)
        return receiving, kept

    def _has_place(self, sender: PeerId, offer: Offer) -> bool:
        """Say whether one more delivery may come in; nobody takes the places of others."""
        orderer = offer.ends.ordering_peer_id
        of_sender = sum(arrival.link.peer_id == sender for arrival in self._by_stream.values())
        for_orderer = sum(arrival.offer.ends.ordering_peer_id == orderer for arrival in self._by_stream.values())
        if of_sender >= INCOMING_OF_ONE_SENDER:
            return False
        if for_orderer >= INCOMING_FOR_ONE_ORDERER and orderer != self._peer_id:
            return False
        return len(self._by_stream) < INCOMING_MAX or not of_sender

    def _look_up(
        self, conn: sqlite3.Connection, sender: PeerId, offer: Offer
    ) -> tuple[OpenDuty, Path, float, int | None] | str:
        """Return the duty that an offer is for, where it goes, how long it may stand still, and what a grant allows.

        A text where there is none: why it may come later, or "".
        """
        ends = offer.ends
        duty = duties.find_duty(
            conn,
            sender,
            self_peer_id=self._peer_id,
            orderer=ends.ordering_peer_id,
            execution_uid=ends.execution_uid,
            connection_id=ends.connection_id,
        )
        if duty is None:
            waits = duties.is_unstarted(
                conn,
                sender,
                self_peer_id=self._peer_id,
                orderer=ends.ordering_peer_id,
                execution_uid=ends.execution_uid,
                connection_id=ends.connection_id,
            )
            return "its receiver has not been started yet" if waits else ""
        if duty.job_execution_id != ends.dest_job_execution_id:
            return ""
        if duty.interface_peer_id is not None:
            job = job_executions.get_job(conn, duty.job_execution_id)
            peer = job_interfaces.get_peer(conn, duty.interface_peer_id)
            if peer.peer_job_execution_id != ends.source_job_execution_id:
                return ""
            idle_s = self._idle_s(conn, duty, job.transfer_idle_s)
            return duty, self._folders.input(job, peer), idle_s, bytes_allowed(conn, job, self_peer_id=self._peer_id)
        if duty.source_job_execution_id != ends.source_job_execution_id:
            return ""
        directory = duties.result_directory(conn, duty)
        return duty, self._folders.data_dir / directory, self._idle_s(conn, duty, None), None

    def _idle_s(self, conn: sqlite3.Connection, duty: OpenDuty, ordered_s: float | None) -> float:
        configured = self._config.deadlines.transfer_idle_s
        if duty.workflow_execution_id is not None:
            return workflow_executions.get_bounds(conn, duty.workflow_execution_id).transfer_idle_s
        return configured if ordered_s is None else min(configured, ordered_s)

    def _new_row(self, sender: PeerId, offer: Offer, duty: OpenDuty) -> NewTransfer:
        return NewTransfer(
            transfer_id=offer.transfer_id,
            direction=TransferDirection.INCOMING,
            workflow_execution_id=duty.workflow_execution_id,
            ordering_peer_id=offer.ends.ordering_peer_id,
            execution_uid=offer.ends.execution_uid,
            connection_id=offer.ends.connection_id,
            source_peer_id=sender,
            source_job_execution_id=offer.ends.source_job_execution_id,
            dest_peer_id=self._peer_id,
            dest_job_execution_id=duty.job_execution_id,
            source_peer_row_id=None,
            dest_peer_row_id=duty.interface_peer_id,
            result_id=duty.result_id,
            source_path=None,
        )

    def _forget(self, arrival: _Arrival) -> None:
        self._by_stream.pop((arrival.link, arrival.offer.stream), None)
        key = _key_of(arrival.offer)
        if self._by_duty.get(key) is arrival:
            del self._by_duty[key]

    # ---- taking

    async def _take(self, arrival: _Arrival, instructions: list[ReceiveInstruction]) -> None:
        """Carry one delivery to its end: the boundary at which whatever goes wrong with it ends it."""
        try:
            await self._follow(arrival, instructions)
            await self._take_stream(arrival)
        except DatabaseGone:
            raise
        except (RndError, OSError) as error:
            await self._give_up(arrival, str(error))
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="incoming transfer", transfer_id=arrival.offer.transfer_id)
            await self._give_up(arrival, f"internal error: {type(error).__name__}")
        finally:
            arrival.over.set()
            self._forget(arrival)

    async def _take_stream(self, arrival: _Arrival) -> None:
        while True:
            if arrival.machine.kept is not None and not arrival.is_called_off():
                await self._pause(arrival)
                return
            if arrival.is_called_off() or arrival.machine.state in ENDED:
                await self._give_up(arrival, arrival.called_off or arrival.machine.reason)
                return
            while arrival.queue and await self._may_take_next(arrival):
                item = arrival.queue.popleft()
                if isinstance(item, DataTransferComplete):
                    await self._follow(
                        arrival, arrival.machine.take_complete(success=item.success, error=item.error or "")
                    )
                    return
                await self._follow(arrival, await self._take_frames(arrival, item))
                await self._note(arrival)
                await self._tell_progress(arrival)
            if arrival.is_called_off() or arrival.machine.state in ENDED:
                continue
            arrival.news.clear()
            try:
                async with asyncio.timeout(arrival.idle_s):
                    await arrival.news.wait()
            except TimeoutError:
                self._stand_still(arrival, f"no byte has come for {arrival.idle_s:g} s (transfer_idle)")

    def _stand_still(self, arrival: _Arrival, reason: str) -> None:
        """Take no more of an attempt that has come to a stop; what has come of it waits for another one."""
        transfer_id = arrival.offer.transfer_id
        self._tell(arrival, DataTransferStop(transfer_id=transfer_id, reason=reason))
        arrival.machine.lose_link(reason)

    async def _note(self, arrival: _Arrival) -> None:
        """Have what has come made durable and noted now and then, beside what still comes; never fall far behind with it."""
        if arrival.behind_bytes > arrival.lag_bytes and arrival.noting is not None:
            await arrival.noting
        if arrival.behind_bytes > arrival.lag_bytes // 2 and arrival.noting is None:
            checkpoint = arrival.receiving.checkpoint(arrival.machine.received)
            if checkpoint is not None:
                arrival.noting = asyncio.get_running_loop().create_task(self._make_durable(arrival, checkpoint))

    async def _tell_progress(self, arrival: _Arrival) -> None:
        """Say in the row how far it is, now and then; a courtesy that nothing waits for."""
        now_s = asyncio.get_running_loop().time()
        if now_s - arrival.told_s < PROGRESS_INTERVAL_S:
            return
        arrival.told_s = now_s
        offer, bytes_done = arrival.offer, _content(arrival.offer, arrival.machine.received)
        rate_bytes_s = arrival.pace.note(bytes_done, now_s)
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> None:
            transfers.set_progress(
                conn,
                offer.transfer_id,
                file_count=offer.file_count,
                size_bytes=offer.size_bytes,
                bytes_done=bytes_done,
                rate_bytes_s=rate_bytes_s,
                held_up=None,
                now=now,
            )

        with contextlib.suppress(DatabaseNotNow, StaleState):
            await self._database.write(work)

    async def _make_durable(self, arrival: _Arrival, checkpoint: Checkpoint) -> None:
        try:
            await self._in_thread(checkpoint.make_durable)
        except OSError as error:
            # Only a restart would have profited; where the disk fails for good, writing does too.
            log.warning(
                LogEvent.TRANSFER_NOT_NOTED,
                transfer_id=arrival.offer.transfer_id,
                reason=error.strerror or str(error),
            )
        arrival.noted = checkpoint.offset
        arrival.noting = None

    async def _take_frames(self, arrival: _Arrival, first: Frame) -> list[ReceiveInstruction]:
        """Return what follows from a frame and from those that have come after it meanwhile: one way to the thread for all."""
        instructions: list[ReceiveInstruction] = []
        item: Frame | DataTransferComplete = first
        while isinstance(item, Frame):
            arrival.queued_bytes -= len(item.payload)
            instructions += await arrival.unsealing.take_frame(item)
            steps = sum(not isinstance(each, Unseal) for each in instructions)
            if steps >= TOGETHER_MAX or arrival.machine.state in ENDED:
                break
            if not arrival.queue or not isinstance(arrival.queue[0], Frame):
                break
            if arrival.behind_bytes > arrival.lag_bytes:
                break
            item = arrival.queue.popleft()
        return instructions

    async def _may_take_next(self, arrival: _Arrival) -> bool:
        """Say whether what has come next is to be taken; first hold bytes up while the disk is nearly full.

        What is held up for as long as a delivery may stand still has to come again, and what is too much to be kept meanwhile.
        """
        until_s = asyncio.get_running_loop().time() + arrival.idle_s
        while isinstance(arrival.queue[0], Frame) and _is_taken(arrival):
            no_room = self._disk.refusal()
            if no_room is None:
                break
            held_up = sum(each.queued_bytes for each in self._by_stream.values() if _is_taken(each))
            if held_up > HELD_UP_BYTES_MAX or asyncio.get_running_loop().time() >= until_s:
                self._stand_still(arrival, no_room)
            else:
                await asyncio.sleep(LOOK_AGAIN_S)
        return not arrival.is_called_off()

    async def _follow(self, arrival: _Arrival, instructions: list[ReceiveInstruction]) -> None:
        """Carry instructions out in order, those for the disk together in a thread."""
        staging: list[StagingInstruction] = []
        for instruction in instructions:
            match instruction:
                case LayOut() | Unseal() | Write() | EndFile() | Discard():
                    staging.append(instruction)
                    continue
            if staging:
                await self._stage(arrival, staging)
                staging = []
            match instruction:
                case Acknowledge(transfer_id=transfer_id, offset=offset):
                    self._tell(arrival, ChunkAck(transfer_id=transfer_id, offset=offset))
                case Stop(transfer_id=transfer_id, reason=reason):
                    self._tell(arrival, DataTransferStop(transfer_id=transfer_id, reason=reason))
                case Complete():
                    arrival.answer = instruction
                case Finish():
                    await self._finish(arrival)
        if staging:
            await self._stage(arrival, staging)

    async def _stage(self, arrival: _Arrival, staging: list[StagingInstruction]) -> None:
        await self._in_thread(partial(arrival.receiving.carry_out, staging))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _tell(self, arrival: _Arrival, message: Message) -> None:
        with contextlib.suppress(PeerUnreachable):  # its end is noticed by itself
            arrival.link.tell(message)

    async def _finish(self, arrival: _Arrival) -> None:
        """Put everything in its place, commit that the duty is done, and only then say so."""
        await self._noted(arrival)
        files = await self._in_thread(arrival.receiving.finish)
        arrival.lines.end()
        now = self._clock.now()
        offer, sender = arrival.offer, arrival.link.peer_id
        rate_bytes_s = arrival.pace.mean(offer.size_bytes, asyncio.get_running_loop().time())
        folder = os.fspath(arrival.receiving.destination.relative_to(self._folders.data_dir))

        def work(conn: sqlite3.Connection, news: News) -> Transfer:
            if offer.size_bytes >= NOTED_FROM_BYTES:
                arrived_manifests.remember(
                    conn,
                    sender=sender,
                    orderer=offer.ends.ordering_peer_id,
                    manifest_sha256=offer.manifest_sha256,
                    folder=folder,
                    now=now,
                )
            return complete_transfer(conn, offer.transfer_id, files, rate_bytes_s=rate_bytes_s, now=now, news=news)

        try:
            done, news = await insist(self._database, work)
        except StaleState:
            await self._follow(arrival, arrival.machine.fail("its receiver has ended meanwhile"))
            return
        log_receiver_completed(done)
        self._board.publish(news)
        await self._follow(arrival, arrival.machine.mark_finished())

    async def _give_up(self, arrival: _Arrival, reason: str) -> None:
        """End a delivery that did not arrive: nothing of it stays, its sender is told, and its row waits for another try."""
        await self._noted(arrival)
        await self._follow(arrival, arrival.machine.fail(reason))
        await self._in_thread(arrival.receiving.discard)
        await self._put_back(arrival, reason)

    async def _pause(self, arrival: _Arrival) -> None:
        """Keep what has come of a delivery whose link was lost, for the next link, and for a restart until then."""
        await self._noted(arrival)
        kept = arrival.machine.kept
        assert kept is not None
        checkpoint = arrival.receiving.checkpoint(kept.offset)
        if checkpoint is not None:
            await self._make_durable(arrival, checkpoint)
        await self._in_thread(arrival.receiving.give_back_room)
        await self._set_aside(_key_of(arrival.offer), arrival.receiving, kept)
        await self._put_back(arrival, arrival.machine.reason, bytes_done=_content(arrival.offer, kept.offset))

    async def _set_aside(self, key: _DutyKey, receiving: Receiving, kept: Kept | None) -> None:
        """Have what has come of a delivery wait for its sender; of what is too much, only what is noted."""
        if kept is None:
            return
        self._paused[key] = _Paused(receiving, kept)
        while len(self._paused) > 1 and (
            len(self._paused) > PAUSED_MAX
            or sum(len(each.kept.entries) for each in self._paused.values()) > PAUSED_ENTRIES_MAX
        ):
            longest = next(iter(self._paused))
            evicted = self._paused.pop(longest)
            self._admitting.add(longest)
            try:
                await self._in_thread(evicted.receiving.let_go)
            finally:
                self._admitting.discard(longest)

    async def _clear_away(self, transfer_id: TransferId) -> None:
        """Delete what has come of a delivery that has ended and is not under way, by this daemon or an earlier one."""

        def work(conn: sqlite3.Connection) -> tuple[_DutyKey, Path]:
            transfer = transfers.get_transfer(conn, transfer_id)
            key = transfer.ordering_peer_id, transfer.execution_uid, transfer.connection_id
            return key, self._destination(conn, transfer)

        try:
            key, destination = await self._database.read(work)
        except (NotFound, DatabaseNotNow):
            return  # it goes with the folder of its job
        if key in self._by_duty or key in self._admitting:
            return  # whoever has it in hand learns that nobody waits for it
        paused = self._paused.pop(key, None)
        receiving = Receiving(destination) if paused is None else paused.receiving
        await self._in_thread(receiving.clear_away)

    def _destination(self, conn: sqlite3.Connection, transfer: Transfer) -> Path:
        if transfer.result_id is not None:
            return self._folders.data_dir / results.get_result_by_id(conn, transfer.result_id).directory
        if transfer.dest_peer_row_id is None:
            raise NotFound(f"Transfer {transfer.transfer_id} has no receiving end")
        job = job_executions.get_job(conn, transfer.dest_job_execution_id)
        return self._folders.input(job, job_interfaces.get_peer(conn, transfer.dest_peer_row_id))

    async def _noted(self, arrival: _Arrival) -> None:
        """Return when nothing is being noted: what follows may remove the notes."""
        if arrival.noting is not None:
            await arrival.noting

    async def _put_back(self, arrival: _Arrival, reason: str, *, bytes_done: int = 0) -> None:
        """Have the row wait for another attempt; it may have been called off in the same moment."""
        now = self._clock.now()
        transfer_id = arrival.offer.transfer_id

        def work(conn: sqlite3.Connection, _: News) -> None:
            transfers.put_back(conn, transfer_id, reason, bytes_done=bytes_done, now=now)

        await insist(self._database, work)
        if arrival.is_called_off() and (paused := self._paused.pop(_key_of(arrival.offer), None)):
            await self._in_thread(paused.receiving.discard)


def _is_taken(arrival: _Arrival) -> bool:
    return not arrival.is_called_off() and arrival.machine.state not in ENDED


def _content(offer: Offer, offset: int) -> int:
    """Return how much of the files lies before an offset of the stream, which begins with the manifest."""
    return max(0, offset - offer.manifest_bytes)


def _key_of(offer: Offer) -> _DutyKey:
    ends = offer.ends
    return ends.ordering_peer_id, ends.execution_uid, ends.connection_id
