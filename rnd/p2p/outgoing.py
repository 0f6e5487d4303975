"""Deliveries from this peer to others: claimed from rows, tried until they have arrived, committed (document: Data Streaming).

`shipping` makes an attempt. One that comes to nothing for want of a link or of room is followed by another after a pause, for
as long as the receiver may still want it; only what can never succeed fails.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from rnd.database import job_executions, transfers
from rnd.database.connection import Database
from rnd.log import about_run, get_logger
from rnd.p2p.owner_rules import bytes_allowed, data_refusal
from rnd.p2p.peer_manager import PeerManager
from rnd.p2p.rests import Rests
from rnd.p2p.seals import Seals
from rnd.p2p.shipping import Shipping, TryAgain
from rnd.rules.selection import SelectionError
from rnd.types.config import Config
from rnd.types.enums import TransferDirection
from rnd.types.errors import (
    CalledOff,
    DatabaseGone,
    DatabaseNotNow,
    NotFound,
    PeerRefused,
    PeerUnreachable,
    RndError,
    StaleState,
    TimedOut,
    TransferFailed,
)
from rnd.types.executions import Transfer
from rnd.types.ids import SELF_PEER_JOB, PeerId, TransferId
from rnd.types.log_events import LogEvent
from rnd.types.peers import PASSING
from rnd.types.seams import Clock
from rnd.workers.deliveries import Delivery, DeliveryDesk
from rnd.workers.delivery_log import log_initiated, log_sender_completed
from rnd.workers.delivery_rows import DeliveryRows
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import insist
from rnd.workers.kept_hashes import KeptHashes
from rnd.workers.news_board import NewsBoard
from rnd.workers.sending import Sending
from rnd.workers.underway import Underway

T = TypeVar("T")

RECEIVER_FAILURES_MAX: Final = 5
"""How often a receiver may fail on its own side (a full disk, a file that did not arrive as promised) before it is final."""
log = get_logger()


class Outgoing:
    """Makes the deliveries that this peer owes to others, a bounded number at a time."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        config: Config,
        desk: DeliveryDesk,
        disk: DiskGuard,
        board: NewsBoard,
        links: PeerManager,
        seals: Seals,
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._config = config
        self._desk = desk
        self._disk = disk
        self._board = board
        self._links = links
        self._rows = DeliveryRows(database=database, clock=clock, board=board)
        self._peer_id = peer_id
        self._underway: dict[TransferId, Underway] = {}
        self._receivers: Counter[PeerId] = Counter()
        self._began_at, self._began_s = clock.now(), clock.monotonic()
        self._rests = Rests()
        self._hashes = KeptHashes()
        self._looked_at_s = 0.0
        """When the rows were last looked through for what is to be sent, by the event loop's clock."""
        self._threads = ThreadPoolExecutor(config.transfer_slots, thread_name_prefix="rnd-sending")
        self.shipping = Shipping(
            database=database,
            clock=clock,
            config=config,
            board=board,
            rows=self._rows,
            seals=seals,
            threads=self._threads,
        )
        """Makes the attempts, and is told what links say."""

    async def run(self) -> None:
        """Make deliveries until cancelled; what an earlier daemon left unfinished begins again."""
        direction = TransferDirection.OUTGOING
        try:
            await insist(self._database, lambda conn, _: transfers.requeue_active(conn, direction=direction))
            async with asyncio.TaskGroup() as group:
                while True:
                    for transfer, delivery in await self._claim():
                        self._receivers[transfer.dest_peer_id] += 1
                        self._underway[transfer.transfer_id] = Underway(started_at=self._clock.now(), disk=self._disk)
                        with about_run(transfer.execution_uid, transfer.ordering_peer_id):
                            group.create_task(self._see_to(transfer, delivery))
                    ended = await self._board.outgoing.wait(self._pause_s())
                    self._forget(*ended)
                    for transfer_id in sorted(ended & self._underway.keys()):
                        self._call_off(transfer_id)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def peer_came(self, peer_id: PeerId) -> None:
        """A link to a peer is up, or it may be dialled elsewhere: what waits for it need not wait for its pause."""
        self._rests.peer_came(peer_id, asyncio.get_running_loop().time())
        self._board.outgoing.ring()

    def _forget(self, *transfer_ids: TransferId) -> None:
        """Let go of what is known of deliveries that have ended."""
        for transfer_id in transfer_ids:
            self._rests.forget(transfer_id)
            self._hashes.forget(transfer_id)

    def _call_off(self, transfer_id: TransferId) -> None:
        self._underway[transfer_id].call_off()
        self.shipping.call_off(transfer_id)

    # ---- claiming

    def _pause_s(self) -> float:
        """Return how long to wait for news before the rows are looked through again."""
        at_most = self._config.queue_interval_s
        next_s = self._rests.next_over_s(self._looked_at_s)
        return at_most if next_s is None else min(max(0.0, next_s - asyncio.get_running_loop().time()), at_most)

    async def _claim(self) -> list[tuple[Transfer, Delivery | Exception]]:
        """Return what is to be sent next. One receiver never has more than half of the places, and always at least one."""
        slots, most = self._config.transfer_slots, max(1, self._config.transfer_slots // 2)
        self._looked_at_s = asyncio.get_running_loop().time()
        busy = self._rests.resting(self._looked_at_s) | self._underway.keys()

        def work(conn: sqlite3.Connection) -> list[tuple[Transfer, Delivery | Exception]]:
            claimed: list[tuple[Transfer, Delivery | Exception]] = []
            taken = Counter(self._receivers)
            for transfer in transfers.list_pending_outgoing(conn, each=most + len(busy)):
                has = taken[transfer.dest_peer_id]
                if transfer.transfer_id in busy or has >= most or (has and taken.total() >= slots):
                    continue
                taken[transfer.dest_peer_id] += 1
                try:
                    claimed.append((transfer, self._desk.look_up(conn, transfer)))
                except sqlite3.Error:
                    raise
                except Exception as error:  # noqa: BLE001 - one transfer's; its own boundary deals with it
                    claimed.append((transfer, error))
            return claimed

        return await self._database.read(work)

    # ---- one delivery

    async def _see_to(self, transfer: Transfer, delivery: Delivery | Exception) -> None:
        """Make one attempt: the boundary at which whatever goes wrong with it becomes its error, or a pause."""
        underway = self._underway[transfer.transfer_id]
        begun_s = asyncio.get_running_loop().time()
        try:
            if isinstance(delivery, Exception):
                raise delivery
            max_bytes = await self._check_owner_rules(delivery)
            await self._attempt(delivery, underway, max_bytes)
            self._forget(transfer.transfer_id)
        except DatabaseGone:
            raise
        except (CalledOff, StaleState):
            self._forget(transfer.transfer_id)
        except (SelectionError, RndError, OSError) as error:
            if _may_pass(error):
                bytes_done = transfer.bytes_done if underway.pace is None else underway.bytes_done
                await self._rest(transfer, delivery, error, bytes_done=bytes_done, begun_s=begun_s)
            else:
                await self._fail(transfer.transfer_id, _words(error))
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="delivery", transfer_id=transfer.transfer_id)
            await self._fail(transfer.transfer_id, f"internal error: {type(error).__name__}")
        finally:
            underway.call_off()  # a thread may still read for it where this task is cancelled
            del self._underway[transfer.transfer_id]
            self._receivers -= Counter([transfer.dest_peer_id])
            self._board.outgoing.ring()

    async def _check_owner_rules(self, delivery: Delivery) -> int | None:
        """Enforce the owner's word once more, when something would leave (design: Peers); return how much of it may."""
        transfer, service, job = delivery.transfer, delivery.service, delivery.source_job
        is_download = service is not None and transfer.dest_job_execution_id == SELF_PEER_JOB

        def work(conn: sqlite3.Connection) -> tuple[str | None, int | None]:
            refusal = None if service is None else data_refusal(conn, transfer, service, self_peer_id=self._peer_id)
            if job is None:
                return refusal, None
            return refusal, bytes_allowed(conn, job, self_peer_id=self._peer_id, is_download=is_download)

        refusal, max_bytes = await self._database.read(work)
        if refusal is not None:
            raise TransferFailed(refusal)
        return max_bytes

    async def _attempt(self, delivery: Delivery, underway: Underway, max_bytes: int | None) -> None:
        transfer = delivery.transfer
        if delivery.service is None and delivery.outputs_job is None:
            # What is still to be hashed is not read for a receiver that is not there; what is not allowed fails without one.
            await self._links.data_link(transfer.dest_peer_id)
        with ExitStack() as stack:
            sending = await self._in_thread(self._open, delivery, stack, underway)
            stack.callback(sending.close)
            underway.file_count, underway.size_bytes = sending.manifest.file_count, sending.manifest.size_bytes
            if max_bytes is not None and underway.size_bytes > max_bytes:
                raise TransferFailed(f"{underway.size_bytes:,} bytes are to be sent; your grant allows {max_bytes:,}")
            if transfer.transfer_id not in self._rests:
                log_initiated(
                    transfer,
                    source=self._desk.source_words(delivery),
                    destination=Path(f"connection:{transfer.connection_id}"),
                )
            link = await self._links.data_link(transfer.dest_peer_id)
            is_first = transfer.transfer_id not in self._rests  # else it has been said, and why it came to nothing
            await self.shipping.ship(delivery, sending, link, underway, is_first=is_first)
        entries = sending.manifest.entries
        await self._rows.complete(transfer.transfer_id, underway, entries, log_done=log_sender_completed)

    def _open(self, delivery: Delivery, stack: ExitStack, underway: Underway) -> Sending:
        open_entry, items = self._desk.choose(delivery, stack, underway.is_called_off, hashes=self._hashes)
        return Sending(open_entry, items, cancelled=underway.is_called_off)

    # ---- rows

    async def _fail(self, transfer_id: TransferId, error: str) -> None:
        self._forget(transfer_id)
        await self._rows.fail(transfer_id, error)

    async def _rest(
        self,
        transfer: Transfer,
        delivery: Delivery | Exception,
        error: Exception,
        *,
        bytes_done: int,
        begun_s: float,
    ) -> None:
        """Have a delivery wait for another attempt, with the reason in its row; give it up where nobody wants it any more.

        Its pause grows, but is cut short where a link to its receiver has come up since the attempt began at `begun_s`.
        """
        transfer_id, reason, now_s = transfer.transfer_id, _words(error), asyncio.get_running_loop().time()
        has_failed = isinstance(error, TryAgain) and error.counts
        rest = self._rests.note_failure(
            transfer_id, transfer.dest_peer_id, bytes_done=bytes_done, has_failed=has_failed
        )
        if rest.failures >= RECEIVER_FAILURES_MAX or await self._hold_is_over(delivery):
            await self._fail(transfer_id, reason)
            return
        is_soon = isinstance(error, TryAgain) and error.at_once
        self._rests.begin(rest, is_soon=is_soon, begun_s=begun_s, now_s=now_s)
        if rest.is_news(reason):
            attempts = transfer.attempts + 1
            log.warning(LogEvent.TRANSFER_RETRYING, transfer_id=transfer_id, reason=reason, attempts=attempts)
        else:
            log.debug(LogEvent.TRANSFER_POSTPONED, transfer_id=transfer_id, reason=reason)
        now, kept = self._clock.now(), 0 if has_failed else bytes_done
        again_at = now + timedelta(seconds=rest.until_s - now_s)
        try:
            is_open = await self._database.write(
                lambda conn: transfers.put_back(
                    conn, transfer_id, reason, bytes_done=kept, next_attempt_at=again_at, now=now
                )
            )
        except DatabaseNotNow:
            return  # the note is a courtesy
        if not is_open:
            self._forget(transfer_id)

    async def _hold_is_over(self, delivery: Delivery | Exception) -> bool:
        """Say whether the outputs of a job that another peer ordered have been kept for as long as was agreed.

        A job whose row is gone, by hand, keeps nothing.
        """
        if isinstance(delivery, Exception) or delivery.source_job is None or delivery.source_job.hold_s is None:
            return False
        job_id = delivery.source_job.id
        try:
            job = await self._database.read(lambda conn: job_executions.get_job(conn, job_id))
        except NotFound:
            return True
        except DatabaseNotNow:
            return False
        return (
            job.ended_at is not None
            and job.hold_s is not None
            and job.ended_at + timedelta(seconds=job.hold_s) < self._surely_now()
        )

    def _surely_now(self) -> datetime:
        """Return a time that has come for sure: no step of the wall clock, forward or back, ends a hold before it is over."""
        passed = timedelta(seconds=self._clock.monotonic() - self._began_s)
        return min(self._clock.now(), self._began_at + passed)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _may_pass(error: Exception) -> bool:
    """Say whether the same attempt may well succeed later."""
    if isinstance(error, PeerRefused):
        return error.word in PASSING
    return isinstance(error, (TryAgain, PeerUnreachable, TimedOut, DatabaseNotNow)) or _is_short_of_something(error)


def _is_short_of_something(error: BaseException) -> bool:
    """Say whether this host lacks, for now, what reading takes; errors about files have the system's as their cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    return cause is not None and cause.errno in _SHORTAGES


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ENOBUFS})
