"""What happens to a delivery once it is taken on: its bytes staged, verified and durable, its duty committed, and only then
confirmed (document: Transfer Completion).

Frames are carried out in a thread, in their order; while the disk is nearly full they wait, a bounded number of bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from functools import partial
from typing import Final

from rnd.database import transfers
from rnd.database.connection import Database
from rnd.database.consequences import complete_transfer
from rnd.database.news import News
from rnd.log import get_logger
from rnd.p2p.copying_places import CopyingPlaces
from rnd.p2p.paused_receptions import PausedReceptions
from rnd.p2p.reception import ReceivingThreads, Reception, Receptions, key_of
from rnd.p2p.recognition import Recognition
from rnd.protocol.frames import Frame
from rnd.protocol.instructions import (
    Acknowledge,
    Complete,
    Discard,
    EndFile,
    Finish,
    LayOut,
    ReceiveInstruction,
    Recognise,
    StagingInstruction,
    Stop,
    TellPresent,
    TransferState,
    Unseal,
    Write,
)
from rnd.protocol.messages import Message
from rnd.protocol.recognition import NONE_PRESENT
from rnd.protocol.transfer import ENDED
from rnd.protocol.transfer_messages import ChunkAck, DataTransferComplete, DataTransferPresent, DataTransferStop
from rnd.types.errors import (
    CalledOff,
    DatabaseGone,
    DatabaseNotNow,
    PeerUnreachable,
    RndError,
    StaleState,
    ToldToStop,
    TransferFailed,
)
from rnd.types.executions import FileEntry, Transfer
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.workers.checkpoints import Checkpoint
from rnd.workers.delivery_log import log_receiver_completed
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.earlier_files import EarlierFile
from rnd.workers.insistence import insist
from rnd.workers.news_board import NewsBoard
from rnd.workers.pace import Pace
from rnd.workers.underway import LOOK_AGAIN_S

PROGRESS_INTERVAL_S: Final = 0.5
ACKNOWLEDGED_EVERY_S: Final = 1.0
"""How often a sender is told how much is written, also where that is little."""
LOOKING_TOLD_EVERY_S: Final = 1.0
"""How often a sender is told that what has come before is still being copied."""
COPYING_WAIT_S: Final = 5.0
"""How long a delivery waits for others that copy; then all of it is sent, so that nobody is held up by what others have here."""
TOGETHER_MAX: Final = 8
"""How many steps of a delivery, opening what is sealed not counted, are carried out in one go, if so many have come."""
INSTRUCTIONS_A_TURN: Final = 2_000
"""How many instructions are looked at before the event loop may do other work: a frame of empty files brings one for each."""
HELD_UP_BYTES_MAX: Final = 128 << 20
"""How much of all deliveries stays in memory while they are held up; what is too much has to come again."""

log = get_logger()


class Intake:
    """Carries deliveries to their ends, each in a task of its own."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        disk: DiskGuard,
        board: NewsBoard,
        receptions: Receptions,
        paused: PausedReceptions,
        recognition: Recognition,
        threads: ReceivingThreads,
        places: CopyingPlaces,
    ) -> None:
        self._database = database
        self._clock = clock
        self._disk = disk
        self._board = board
        self._receptions = receptions
        self._paused = paused
        self._recognition = recognition
        self._threads = threads
        self._places = places

    async def take(self, reception: Reception, instructions: list[ReceiveInstruction]) -> None:
        """Carry one delivery to its end: the boundary at which whatever goes wrong with it ends it."""
        self._log_recognised(reception)
        try:
            await self._follow(reception, instructions)
            await self._take_stream(reception)
            await self._conclude(reception)
        except DatabaseGone:
            raise
        except ToldToStop:
            pass  # what has come waits for the next start
        except (RndError, OSError) as error:
            await self._give_up(reception, str(error))
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="incoming transfer", transfer_id=reception.offer.transfer_id)
            await self._give_up(reception, f"internal error: {type(error).__name__}")
        finally:
            self._let_go(reception)

    # ---- what comes

    async def _take_stream(self, reception: Reception) -> None:
        """Take what comes for as long as more may: until it has arrived, stands still, or comes to nothing."""
        while reception.is_taken():
            if not reception.queue:
                await self._wait(reception)
            elif await self._may_take_next(reception):
                await self._take_next(reception)

    async def _wait(self, reception: Reception) -> None:
        reception.news.clear()
        try:
            async with asyncio.timeout(reception.idle_s):
                await reception.news.wait()
        except TimeoutError:
            self._stand_still(reception, f"no byte has come for {reception.idle_s:g} s (transfer_idle)")

    async def _take_next(self, reception: Reception) -> None:
        item = reception.queue.popleft()
        if isinstance(item, DataTransferComplete):
            instructions = reception.machine.take_complete(success=item.success, error=item.error or "")
            await self._follow(reception, instructions)
            return
        await self._follow(reception, await self._take_frames(reception, item))
        await self._acknowledge(reception)
        await self._note(reception)
        await self._tell_progress(reception)

    async def _acknowledge(self, reception: Reception) -> None:
        """Let the sender see now and then that it goes on, also where that is slow."""
        now_s = asyncio.get_running_loop().time()
        if now_s - reception.acknowledged_s >= ACKNOWLEDGED_EVERY_S:
            reception.acknowledged_s = now_s
            await self._follow(reception, reception.machine.acknowledge())

    async def _may_take_next(self, reception: Reception) -> bool:
        """Say whether what has come next is to be taken; first hold bytes up while the disk is nearly full.

        What is held up for as long as a delivery may stand still has to come again, and what is too much to be kept meanwhile.
        """
        until_s = asyncio.get_running_loop().time() + reception.idle_s
        while isinstance(reception.queue[0], Frame) and reception.is_taken():
            no_room = self._disk.refusal()
            if no_room is None:
                break
            is_too_much = self._receptions.queued_bytes() > HELD_UP_BYTES_MAX
            if is_too_much or asyncio.get_running_loop().time() >= until_s:
                self._stand_still(reception, no_room)
            else:
                await asyncio.sleep(LOOK_AGAIN_S)
        return reception.is_taken()

    async def _take_frames(self, reception: Reception, first: Frame) -> list[ReceiveInstruction]:
        """Return what follows from a frame and from those that have come after it meanwhile: one way to the thread for all."""
        instructions: list[ReceiveInstruction] = []
        item: Frame | DataTransferComplete = first
        while isinstance(item, Frame):
            reception.queued_bytes -= len(item.payload)
            instructions += await reception.unsealing.take_frame(item)
            steps = sum(not isinstance(each, Unseal) for each in instructions)
            if steps >= TOGETHER_MAX or reception.machine.state in ENDED:
                break
            if not reception.queue or not isinstance(reception.queue[0], Frame):
                break
            if reception.behind_bytes > reception.lag_bytes:
                break
            item = reception.queue.popleft()
        return instructions

    def _stand_still(self, reception: Reception, reason: str) -> None:
        """Take no more of an attempt that has come to a stop; what has come of it waits for another one."""
        transfer_id = reception.offer.transfer_id
        self._tell(reception, DataTransferStop(transfer_id=transfer_id, reason=reason, paused=True))
        reception.machine.lose_link(reason)

    # ---- what follows

    async def _follow(self, reception: Reception, instructions: list[ReceiveInstruction]) -> None:
        """Carry instructions out in order, those for the disk together in a thread. One frame may bring very many."""
        staging: list[StagingInstruction] = []
        for number, instruction in enumerate(instructions, 1):
            if number % INSTRUCTIONS_A_TURN == 0:
                await asyncio.sleep(0)
            match instruction:
                case LayOut() | Unseal() | Write() | EndFile() | Discard():
                    staging.append(instruction)
                    continue
            if staging:
                await self._stage(reception, staging)
                staging = []
            match instruction:
                case Acknowledge(transfer_id=transfer_id, offset=offset):
                    self._tell(reception, ChunkAck(transfer_id=transfer_id, offset=offset))
                case Stop(transfer_id=transfer_id, reason=reason):
                    self._tell(reception, DataTransferStop(transfer_id=transfer_id, reason=reason))
                case Complete():
                    reception.answer = instruction
                case TellPresent():
                    self._tell_present(reception, instruction.bytes_read, instruction.present)
                case Recognise(entries=entries) if reception.is_taken():
                    await self._recognise(reception, entries)
                case Finish():
                    await self._finish(reception)
        if staging:
            await self._stage(reception, staging)

    async def _stage(self, reception: Reception, staging: list[StagingInstruction]) -> None:
        await self._threads.do(partial(reception.receiving.carry_out, staging))

    def _tell(self, reception: Reception, message: Message) -> None:
        with contextlib.suppress(PeerUnreachable):  # its end is noticed by itself
            reception.link.tell(message)

    # ---- what is here already

    async def _recognise(self, reception: Reception, entries: tuple[FileEntry, ...]) -> None:
        """Copy what has come before from this sender for this orderer, and say what need not come."""
        machine = reception.machine
        sender, orderer = reception.link.peer_id, reception.offer.ends.ordering_peer_id
        earlier = await self._recognition.find(entries, sender=sender, orderer=orderer)
        try:
            present = await self._fill_in_turn(reception, earlier) if earlier else NONE_PRESENT
        except CalledOff:
            return  # nothing of it is left, and the reason is known
        bytes_read, reception.looked_through_bytes = reception.looked_through_bytes, 0
        await self._follow(reception, machine.recognise(present, bytes_read=bytes_read))
        self._log_recognised(reception)
        reception.pace = Pace(machine.content_bytes, asyncio.get_running_loop().time())

    async def _fill_in_turn(self, reception: Reception, earlier: dict[int, EarlierFile]) -> frozenset[int]:
        """Copy files when others have copied theirs; nothing is here, as it were, where that takes too long."""
        async with self._places.place(reception.link.peer_id, within_s=COPYING_WAIT_S) as has_place:
            return await self._fill(reception, earlier) if has_place else NONE_PRESENT

    async def _fill(self, reception: Reception, earlier: dict[int, EarlierFile]) -> frozenset[int]:
        """Copy files in a thread, and tell the sender now and then that it goes on. Raises `CalledOff`, `ToldToStop`."""
        is_over = False

        def add(count: int) -> None:
            reception.looked_through_bytes += count

        filling = self._threads.begin_copying(
            partial(
                reception.receiving.fill,
                earlier,
                has_room=lambda size_bytes: self._disk.refusal(more_bytes=size_bytes) is None,
                progress=add,
                cancelled=lambda: is_over or reception.is_called_off(),
            )
        )
        try:
            while not (await asyncio.wait([filling], timeout=LOOKING_TOLD_EVERY_S))[0]:
                self._tell_present(reception, reception.looked_through_bytes, None)
                await self._tell_progress(reception)
        finally:
            is_over = True
            filling.cancel()  # without effect where it has ended; else nobody asks any more how it ends
        return filling.result()

    def _tell_present(self, reception: Reception, bytes_read: int, present: bytes | None) -> None:
        transfer_id = reception.offer.transfer_id
        self._tell(reception, DataTransferPresent(transfer_id=transfer_id, bytes_read=bytes_read, present=present))

    def _log_recognised(self, reception: Reception) -> None:
        if reception.machine.present:
            reception.lines.leave_out(len(reception.machine.present), reception.machine.recognised_bytes)

    # ---- how far it is

    async def _note(self, reception: Reception) -> None:
        """Have what has come made durable and noted now and then, beside what still comes; never fall far behind with it."""
        if reception.behind_bytes > reception.lag_bytes and reception.noting is not None:
            await reception.noting
        if reception.behind_bytes > reception.lag_bytes // 2 and reception.noting is None:
            checkpoint = reception.receiving.checkpoint(reception.machine.received)
            if checkpoint is not None:
                reception.noting = asyncio.get_running_loop().create_task(self._make_durable(reception, checkpoint))

    async def _make_durable(self, reception: Reception, checkpoint: Checkpoint) -> None:
        """Have it flushed and noted. What could not be flushed is not what was written any more: nothing of it is taken further."""
        try:
            await self._threads.do(checkpoint.make_durable)
        except TransferFailed as error:
            reception.called_off = str(error)
            reception.news.set()
        except OSError as error:  # of the note: only a restart would have profited
            log.warning(
                LogEvent.TRANSFER_NOT_NOTED,
                transfer_id=reception.offer.transfer_id,
                reason=error.strerror or str(error),
            )
        reception.noted = checkpoint.offset
        reception.noting = None

    async def _noted(self, reception: Reception) -> None:
        """Return when nothing is being noted: what follows may remove the notes."""
        if reception.noting is not None:
            await reception.noting

    async def _tell_progress(self, reception: Reception) -> None:
        """Say in the row how far it is, now and then: what comes next waits for that, so it is seldom. Where it cannot be written
        the next time will do.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - reception.told_s < PROGRESS_INTERVAL_S:
            return
        reception.told_s = now_s
        offer, bytes_done = reception.offer, reception.bytes_done
        rate_bytes_s = reception.pace.note(bytes_done, now_s)
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> None:
            transfers.set_progress(
                conn,
                offer.transfer_id,
                file_count=offer.file_count,
                size_bytes=offer.size_bytes,
                bytes_done=bytes_done,
                rate_bytes_s=rate_bytes_s,
                sealed=offer.encrypted,
                held_up=None,
                now=now,
            )

        with contextlib.suppress(DatabaseNotNow, StaleState):
            await self._database.write(work)

    # ---- ends

    async def _conclude(self, reception: Reception) -> None:
        """See to it that a delivery of which no more is taken has arrived, waits for another link, or leaves nothing."""
        if reception.machine.state is TransferState.DONE:
            return
        if reception.machine.kept is not None and not reception.is_called_off():
            await self._pause(reception)
        else:
            await self._give_up(reception, reception.called_off or reception.machine.reason)

    async def _finish(self, reception: Reception) -> None:
        """Put everything in its place, commit that the duty is done, and only then say so."""
        await self._noted(reception)
        if reception.is_called_off():
            raise TransferFailed(reception.called_off)
        files = await self._threads.do(partial(reception.receiving.finish, reception.machine.received))
        reception.lines.end()
        now = self._clock.now()
        offer = reception.offer
        rate_bytes_s = reception.pace.mean(offer.size_bytes, asyncio.get_running_loop().time())

        destination = reception.receiving.destination
        sender, orderer = reception.link.peer_id, offer.ends.ordering_peer_id

        def work(conn: sqlite3.Connection, news: News) -> Transfer:
            self._recognition.remember(conn, destination, files, sender=sender, orderer=orderer)
            return complete_transfer(
                conn,
                offer.transfer_id,
                files,
                rate_bytes_s=rate_bytes_s,
                sealed=offer.encrypted,
                now=now,
                news=news,
            )

        try:
            done, news = await insist(self._database, work)
        except StaleState:
            await self._follow(reception, reception.machine.fail("its receiver has ended meanwhile"))
            return
        reception.receiving.settle()
        log_receiver_completed(done)
        self._board.publish(news)
        await self._follow(reception, reception.machine.mark_finished())
        self._let_go(reception)
        await self._threads.do(partial(reception.receiving.tidy, files))

    def _let_go(self, reception: Reception) -> None:
        """Give its place to others, and have its sender told how it has ended."""
        reception.over.set()
        self._receptions.forget(reception)

    async def _give_up(self, reception: Reception, reason: str) -> None:
        """End a delivery that did not arrive: nothing of it stays, its sender is told, and its row waits for another try."""
        await self._noted(reception)
        await self._follow(reception, reception.machine.fail(reason))
        await self._threads.do(reception.receiving.discard)
        await self._put_back(reception, reason)

    async def _pause(self, reception: Reception) -> None:
        """Keep what has come of a delivery whose link was lost, for the next link, and for a restart until then."""
        await self._noted(reception)
        kept = reception.machine.kept
        assert kept is not None
        checkpoint = reception.receiving.checkpoint(kept.offset)
        if checkpoint is not None:
            await self._make_durable(reception, checkpoint)
        if reception.is_called_off():
            await self._give_up(reception, reception.called_off)
            return
        await self._threads.do(reception.receiving.give_back_room)
        await self._paused.put(key_of(reception.offer), reception.receiving, kept)
        await self._put_back(reception, reception.machine.reason, bytes_done=reception.bytes_done)

    async def _put_back(self, reception: Reception, reason: str, *, bytes_done: int = 0) -> None:
        """Have the row wait for another attempt; it may have been called off in the same moment."""
        now = self._clock.now()
        transfer_id = reception.offer.transfer_id

        def work(conn: sqlite3.Connection, _: News) -> None:
            transfers.put_back(conn, transfer_id, reason, bytes_done=bytes_done, now=now)

        await insist(self._database, work)
        if reception.is_called_off():
            await self._paused.discard(key_of(reception.offer))
