"""Which offers of other peers are taken on: those that a duty waits for, that fit, and that nobody is filling already
(document: Transfer Acceptance). Nothing is allocated before that is known.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from rnd.database import (
    duties,
    holdings,
    job_executions,
    job_interfaces,
    transfers,
    workflow_executions,
)
from rnd.database.connection import Database
from rnd.database.duties import OpenDuty
from rnd.database.transfers import NewTransfer
from rnd.p2p.link import Link
from rnd.p2p.owner_rules import bytes_allowed
from rnd.p2p.paused_receptions import PausedReceptions, PlacesTaken
from rnd.p2p.reception import ReceivingThreads, Reception, Receptions, key_of
from rnd.p2p.recognition import Recognition
from rnd.p2p.seals import Seals, Unsealing
from rnd.protocol.instructions import Accept, Duty, Kept, Offer, ReceiveInstruction, Reject
from rnd.protocol.offers import check_offer
from rnd.protocol.sealed_streams import SealRefused
from rnd.protocol.transfer_messages import SealShare
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.types.config import Config
from rnd.types.enums import TransferDirection
from rnd.types.errors import ToldToStop
from rnd.types.executions import Transfer
from rnd.types.ids import PeerId
from rnd.types.peers import RejectionCode
from rnd.types.seams import Clock
from rnd.workers.delivery_log import ReceiverLog
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.pace import Pace
from rnd.workers.receiving import Receiving

DUTY_BYTES_MAX: Final = 64 << 30
ANSWER_WITHIN_S: Final = 30.0
"""A sender gives up waiting for an answer after 60 s: what took longer to look through is kept for its next offer."""

Begin = Callable[[Reception, list[ReceiveInstruction]], bool]
"""Has a delivery taken from here on; false where this peer is stopping."""


class _Waiting(NamedTuple):
    """What waits for an offer: the duty, where its files go, how long it may stand still, and what a grant allows."""

    duty: OpenDuty
    destination: Path
    idle_s: float
    max_bytes: int | None


class Admission:
    """Takes offers on, or says why not."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        folders: JobFolders,
        disk: DiskGuard,
        seals: Seals,
        peer_id: PeerId,
        receptions: Receptions,
        paused: PausedReceptions,
        recognition: Recognition,
        threads: ReceivingThreads,
        begin: Begin,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._folders = folders
        self._disk = disk
        self._seals = seals
        self._peer_id = peer_id
        self._receptions = receptions
        self._paused = paused
        self._recognition = recognition
        self._threads = threads
        self._begin = begin

    async def admit(self, link: Link, offer: Offer, share: SealShare | None, lines: ReceiverLog) -> Accept | Reject:
        """Take an offer on if a duty waits for it; else say why not."""

        def look(conn: sqlite3.Connection) -> tuple[_Waiting | Reject, Reject | None]:
            found = self._look_up(conn, link.peer_id, offer)
            return found, None if isinstance(found, Reject) else self._beyond_bounds(conn, offer)

        waiting, beyond = await self._database.read(look)
        if isinstance(waiting, Reject):
            return waiting
        terms = self._terms(link.peer_id, offer, waiting)
        rejection = self._refusal(link, offer, waiting, terms) or beyond
        if rejection is not None:
            return rejection
        try:
            seal = self._seals.answer(offer, link.peer_id, share)
        except SealRefused as error:
            return _reject(offer, RejectionCode.MALFORMED, str(error))
        begun_s = asyncio.get_running_loop().time()
        try:
            with self._receptions.holding(key_of(offer)):
                receiving, kept = await self._paused.take_up(offer, waiting.destination, sender=link.peer_id)
                recognises = kept is None and await self._recognition.may_know(link.peer_id, offer)
        except (PlacesTaken, ToldToStop) as error:
            return _reject(offer, RejectionCode.BUSY, str(error))
        except OSError as error:
            words = f"what has come of it before cannot be looked at now: {error.strerror or error}"
            return _reject(offer, RejectionCode.BUSY, words)
        receiving.report_to(lines.add)
        machine = ReceiveTransfer(
            offer, terms, sender_peer_id=link.peer_id, seal=seal, kept=kept, recognises=recognises
        )
        *instructions, answer = machine.begin()
        assert isinstance(answer, Accept)
        no_place = self._no_place(link.peer_id, offer, missing_bytes=machine.stream_bytes - machine.received)
        if asyncio.get_running_loop().time() - begun_s > ANSWER_WITHIN_S:
            no_place = _reject(
                offer, RejectionCode.BUSY, "what has come of it before was looked through; offer it again"
            )
        if no_place is not None:
            await self._paused.put(key_of(offer), receiving, kept)
            return no_place
        reception = self._reception(link, machine, receiving, lines, waiting)
        return await self._open(reception, instructions, kept) or answer

    # ---- looking

    def _look_up(self, conn: sqlite3.Connection, sender: PeerId, offer: Offer) -> _Waiting | Reject:
        """Return what waits for an offer; a rejection where nothing does, or not yet."""
        ends = offer.ends
        nothing = _reject(offer, RejectionCode.NO_DUTY, "nothing here waits for this")
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
            return _reject(offer, RejectionCode.BUSY, "its receiver has not been started yet") if waits else nothing
        if duty.job_execution_id != ends.dest_job_execution_id:
            return nothing
        if duty.interface_peer_id is not None:
            job = job_executions.get_job(conn, duty.job_execution_id)
            peer = job_interfaces.get_peer(conn, duty.interface_peer_id)
            if peer.peer_job_execution_id != ends.source_job_execution_id:
                return nothing
            idle_s = self._idle_s(conn, duty, job.transfer_idle_s)
            allowed = bytes_allowed(conn, job, self_peer_id=self._peer_id)
            return _Waiting(duty, self._folders.input(job, peer), idle_s, allowed)
        if duty.source_job_execution_id != ends.source_job_execution_id:
            return nothing
        directory = duties.result_directory(conn, duty)
        return _Waiting(duty, self._folders.data_dir / directory, self._idle_s(conn, duty, None), None)

    def _idle_s(self, conn: sqlite3.Connection, duty: OpenDuty, ordered_s: float | None) -> float:
        configured = self._config.deadlines.transfer_idle_s
        if duty.workflow_execution_id is not None:
            return workflow_executions.get_bounds(conn, duty.workflow_execution_id).transfer_idle_s
        return configured if ordered_s is None else min(configured, ordered_s)

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
                return _reject(offer, code, f"{offer.size_bytes:,} bytes are too many: {bound.words}")
        return None

    # ---- judging

    def _terms(self, sender: PeerId, offer: Offer, waiting: _Waiting) -> Duty:
        max_bytes = waiting.max_bytes
        return Duty(
            source_peer_id=sender,
            ends=offer.ends,
            max_bytes=DUTY_BYTES_MAX if max_bytes is None else min(DUTY_BYTES_MAX, max_bytes),
            max_entries=self._config.limits.files_per_transfer,
        )

    def _refusal(self, link: Link, offer: Offer, waiting: _Waiting, terms: Duty) -> Reject | None:
        if waiting.duty.is_done:
            return _reject(offer, RejectionCode.DONE, "it has arrived before")
        if not self._receptions.is_free(link, offer) or not self._receptions.has_place(link.peer_id, offer):
            return _reject(offer, RejectionCode.BUSY, "another transfer for this is under way, or too many are")
        return check_offer(offer, terms, sender_peer_id=link.peer_id)

    def _no_place(self, sender: PeerId, offer: Offer, *, missing_bytes: int) -> Reject | None:
        """Return why it cannot be taken after all: others may have come meanwhile."""
        no_room = self._disk.refusal(more_bytes=missing_bytes)
        if no_room is not None:
            return _reject(offer, RejectionCode.NO_ROOM, no_room)
        if not self._receptions.has_place(sender, offer):
            return _reject(offer, RejectionCode.BUSY, "too many transfers are under way")
        return None

    # ---- taking on

    def _reception(
        self, link: Link, machine: ReceiveTransfer, receiving: Receiving, lines: ReceiverLog, waiting: _Waiting
    ) -> Reception:
        offer = machine.offer
        return Reception(
            link=link,
            offer=offer,
            machine=machine,
            unsealing=Unsealing(machine, self._threads.do),
            receiving=receiving,
            lines=lines,
            idle_s=waiting.idle_s,
            dest_row=waiting.duty,
            noted=machine.received,
            pace=Pace(machine.content_bytes, asyncio.get_running_loop().time()),
        )

    async def _open(
        self, reception: Reception, instructions: list[ReceiveInstruction], kept: Kept | None
    ) -> Reject | None:
        """Give a delivery its place and its row, and begin to take it; where that fails, put back what there is of it."""
        offer = reception.offer
        self._receptions.add(reception)
        opened: Transfer | Reject | None = None
        has_begun = False
        try:
            opened = await self._write_row(reception)
            if opened is None:
                words = "this transfer_id is another transfer's, or this one has ended"
                return _reject(offer, RejectionCode.MALFORMED, words)
            if isinstance(opened, Reject):
                return opened
            has_begun = self._begin(reception, instructions)
            return None if has_begun else _reject(offer, RejectionCode.BUSY, "this peer is stopping")
        finally:
            if not has_begun:
                if isinstance(opened, Reject):
                    await self._threads.do(reception.receiving.discard)
                else:
                    await self._paused.put(key_of(offer), reception.receiving, kept)
                self._receptions.forget(reception)

    async def _write_row(self, reception: Reception) -> Transfer | Reject | None:
        """Write down that a delivery is under way; a rejection where its receiver has ended, or others have come, meanwhile."""
        offer, sender = reception.offer, reception.link.peer_id
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> Transfer | Reject | None:
            if isinstance(self._look_up(conn, sender, offer), Reject):
                return _reject(offer, RejectionCode.NO_DUTY, "its receiver has ended meanwhile")
            beyond = self._beyond_bounds(conn, offer)
            if beyond is not None:
                return beyond
            return transfers.open_incoming(
                conn,
                self._new_row(sender, offer, reception.dest_row),
                file_count=offer.file_count,
                size_bytes=offer.size_bytes,
                bytes_done=reception.bytes_done,
                now=now,
            )

        return await self._database.write(work)

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


def _reject(offer: Offer, code: RejectionCode, reason: str) -> Reject:
    return Reject(transfer_id=offer.transfer_id, code=code, reason=reason)
