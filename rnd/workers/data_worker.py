"""The DataWorker: deliveries along the connections of jobs (document: Transfer Protocol, DATA Service Execution).

A delivery is a row in `transfers`, committed together with the end of the job that owes it. The DataWorker takes the
rows that nobody has begun, brings every file whole, verified and durable to its place, and commits the acknowledgement
of both ends. Where both ends are on this peer no message is needed: the same lines are logged, the same rows written.
A delivery that a stopped daemon was making begins again; its destination appears by one rename, so nothing half done is
ever seen.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Final

from rnd.database import job_executions, transfers
from rnd.database.connection import Database
from rnd.database.consequences import settle_data_job
from rnd.database.news import News
from rnd.database.owing import owe_deliveries
from rnd.log import about_run, get_logger
from rnd.rules.selection import SelectionError
from rnd.types.config import Config
from rnd.types.enums import JobStatus, TransferDirection
from rnd.types.errors import (
    CalledOff,
    DatabaseGone,
    JobFailed,
    RndError,
    StaleState,
)
from rnd.types.executions import FileEntry, JobExecution, JobInterface, Transfer
from rnd.types.ids import PeerId, TransferId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock, Entropy
from rnd.types.services import Service
from rnd.workers.copying import OpenEntry, copy_entries
from rnd.workers.deliveries import Delivery, DeliveryDesk
from rnd.workers.delivery_log import DeliveryLog, log_completed, log_initiated
from rnd.workers.delivery_rows import DeliveryRows
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard
from rnd.workers.pace import Pace
from rnd.workers.underway import Underway

ROOM_ASKED_FROM_BYTES: Final = 1 << 20
"""Deliveries of own executions from this size on are counted before they begin; for less a transaction is too much."""

PROGRESS_INTERVAL_S: Final = 0.5
"""How often the progress of one delivery is written down and told."""

log = get_logger()


@dataclass(slots=True, kw_only=True)
class _Load:
    """What a delivery is going to copy, with all that was opened for it; `opened` is whoever's closes it."""

    open_entry: OpenEntry
    items: Sequence[tuple[FileEntry, str]]
    opened: ExitStack


class DataWorker:
    """Makes the deliveries that this peer owes, a bounded number at a time."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        folders: JobFolders,
        desk: DeliveryDesk,
        disk: DiskGuard,
        board: NewsBoard,
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._folders = folders
        self._desk = desk
        self._disk = disk
        self._board = board
        self._rows = DeliveryRows(database=database, clock=clock, board=board)
        self._peer_id = peer_id
        self._underway: dict[TransferId, Underway] = {}
        self._is_holding_back = False
        # Threads of its own: deliveries that take hours must not keep the inputs and outputs of jobs waiting.
        self._threads = ThreadPoolExecutor(config.transfer_slots, thread_name_prefix="rnd-delivery")

    async def run(self) -> None:
        """Make deliveries until cancelled. What an earlier daemon left unfinished begins again."""
        try:
            await self._make_deliveries()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _make_deliveries(self) -> None:
        await insist(self._database, lambda conn, _: transfers.requeue_active(conn, direction=TransferDirection.LOCAL))
        async with asyncio.TaskGroup() as group:
            while True:
                free = self._config.transfer_slots - len(self._underway)
                if free > 0 and not await self._hold_back():
                    await self._begin(free, group)
                changed = await self._board.transfers.wait(self._config.queue_interval_s)
                for transfer_id in sorted(changed & self._underway.keys()):
                    self._underway[transfer_id].call_off()

    async def _begin(self, count: int, group: asyncio.TaskGroup) -> None:
        """Make deliveries that nobody has begun tasks of the group, which then alone hold their manifests."""
        for transfer, delivery in await self._claim(count):
            self._underway[transfer.transfer_id] = Underway(started_at=self._clock.now(), disk=self._disk)
            with about_run(transfer.execution_uid, transfer.ordering_peer_id):
                group.create_task(self._deliver(transfer, delivery))

    async def execute_data_service(
        self, job: JobExecution, service: Service, interfaces: Sequence[JobInterface]
    ) -> None:
        """Begin every delivery that a DATA job owes; the job ends when the last of them has (ruling 16).

        Repeating it after a restart begins what is missing. Raises `StaleState` where the job has ended meanwhile.
        """
        log.info(LogEvent.EXECUTING_DATA_SERVICE, job_id=job.id, service_id=service.id)
        log.info(LogEvent.DATA_SERVICE_PATH, path=service.service_path, job_id=job.id)
        now = self._clock.now()

        def work(conn: sqlite3.Connection, news: News) -> int:
            if job_executions.get_job(conn, job.id).status is not JobStatus.RUNNING:
                raise StaleState(f"job {job.id} is not RUNNING")
            owe_deliveries(conn, job, interfaces, new_transfer_id=self._entropy.new_transfer_id, now=now, news=news)
            settle_data_job(conn, job.id, now=now, news=news)
            return len(transfers.list_by_source_job(conn, job.id))

        count, news = await insist(self._database, work)
        log.info(LogEvent.INITIATING_DATA_TRANSFERS, count=count, job_id=job.id)
        self._board.publish(news)

    async def _hold_back(self) -> bool:
        """Say whether nothing may begin for want of room; the rows that wait say so then."""
        words = self._disk.refusal()
        if words is None and not self._is_holding_back:
            return False
        self._is_holding_back = words is not None
        now = self._clock.now()
        await insist(
            self._database,
            lambda conn, _: transfers.set_hold_up(conn, words, direction=TransferDirection.LOCAL, now=now),
        )
        return self._is_holding_back

    async def _claim(self, count: int) -> list[tuple[Transfer, Delivery | Exception]]:
        """Take deliveries that nobody has begun, with all that is known of each, from one snapshot.

        The row is the intent already, so taking it writes nothing; only one that takes its time becomes ACTIVE. What is
        in hand is left out as of now: its end is committed before it leaves `_underway`.
        """
        in_hand = set(self._underway)

        def work(conn: sqlite3.Connection) -> list[tuple[Transfer, Delivery | Exception]]:
            claimed: list[tuple[Transfer, Delivery | Exception]] = []
            limit = count + len(in_hand)
            for transfer in transfers.list_pending(conn, direction=TransferDirection.LOCAL, limit=limit):
                if transfer.transfer_id in in_hand:
                    continue
                try:
                    claimed.append((transfer, self._desk.look_up(conn, transfer)))
                except sqlite3.Error:
                    raise
                except Exception as error:  # noqa: BLE001 - one transfer's; its own boundary deals with it
                    claimed.append((transfer, error))
            return claimed[:count]

        return await self._database.read(work)

    async def _deliver(self, transfer: Transfer, delivery: Delivery | Exception) -> None:
        """Make one delivery: the boundary at which whatever goes wrong with it becomes its error."""
        underway = self._underway[transfer.transfer_id]
        try:
            if isinstance(delivery, Exception):
                raise delivery
            self._log_begin(delivery)
            underway.pace = Pace(0, self._clock.monotonic())
            files = await self._supervise(delivery, underway)
            await self._rows.complete(transfer.transfer_id, underway, files, log_done=log_completed)
        except DatabaseGone:
            raise
        except (CalledOff, StaleState):
            pass  # somebody ended the receiver or the delivery meanwhile, and has said why
        except (SelectionError, RndError) as error:
            await self._rows.fail(transfer.transfer_id, str(error))
        except OSError as error:
            await self._rows.fail(transfer.transfer_id, f"{error.strerror or error}")
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="delivery", transfer_id=transfer.transfer_id)
            await self._rows.fail(transfer.transfer_id, f"internal error: {type(error).__name__}")
        finally:
            del self._underway[transfer.transfer_id]
            self._board.transfers.ring()

    async def _supervise(self, delivery: Delivery, underway: Underway) -> list[FileEntry]:
        """Choose and copy in a thread, having asked for room in between where that is called for."""
        try:
            carried = await self._in_thread(partial(self._carry, delivery, underway), delivery, underway)
            if isinstance(carried, list):
                return carried
            with carried.opened as opened:
                refusal = await self._rows.take_room(delivery.transfer, underway, self._config.limits)
                if refusal is not None:
                    raise JobFailed(refusal)
                carried.opened = opened.pop_all()
            copied = await self._in_thread(partial(self._copy, carried, delivery, underway), delivery, underway)
            assert isinstance(copied, list)
            return copied
        finally:
            underway.call_off()

    async def _in_thread(
        self, carry: Callable[[], list[FileEntry] | _Load], delivery: Delivery, underway: Underway
    ) -> list[FileEntry] | _Load:
        """Work in a thread, tell the progress, and give up when nothing has moved for too long."""
        # What the thread logs is about the same run.
        work = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, carry)
        told, life, idle_since = -1, 0, self._clock.monotonic()
        try:
            while not (await asyncio.wait([work], timeout=PROGRESS_INTERVAL_S))[0]:
                held_up = underway.held_up
                if held_up is not None or underway.signs_of_life != life:
                    life, idle_since = underway.signs_of_life, self._clock.monotonic()
                if held_up is not None or underway.bytes_done != told:
                    told = underway.bytes_done
                    await self._rows.tell_progress(delivery.transfer.transfer_id, underway)
                if self._clock.monotonic() - idle_since > delivery.idle_s:
                    raise JobFailed(f"no byte has moved for {delivery.idle_s:g} s (transfer_idle)")
        except BaseException:
            work.add_done_callback(_let_go)
            raise
        return work.result()

    def _log_begin(self, delivery: Delivery) -> None:
        assert delivery.destination is not None  # both ends are here
        relative = delivery.destination.relative_to(self._folders.data_dir)
        log_initiated(delivery.transfer, source=self._desk.source_words(delivery), destination=relative)

    # ---- in a thread

    def _carry(self, delivery: Delivery, underway: Underway) -> list[FileEntry] | _Load:
        """Choose what travels and name it, then copy it; what has to ask for room first is returned as chosen."""
        with ExitStack() as stack:
            open_entry, items = self._desk.choose(delivery, stack, underway.must_stop)
            underway.file_count = sum(1 for entry, _ in items if entry.sha256)
            underway.size_bytes = sum(entry.size_bytes for entry, _ in items)
            load = _Load(open_entry=open_entry, items=items, opened=stack.pop_all())
        return load if self._asks_for_room(delivery, underway) else self._copy(load, delivery, underway)

    def _copy(self, load: _Load, delivery: Delivery, underway: Underway) -> list[FileEntry]:
        """Copy what was chosen; the destination appears only when all of it is verified."""
        assert delivery.destination is not None  # both ends are here
        with load.opened:
            lines = DeliveryLog(delivery.transfer, size_bytes=underway.size_bytes, chunk_bytes=self._config.chunk_bytes)
            lines.begin()

            def moved(count: int) -> None:
                underway.add(count)
                lines.add(count)

            copied = copy_entries(
                load.open_entry, load.items, delivery.destination, progress=moved, cancelled=underway.must_stop
            )
            lines.end()
            return copied

    def _asks_for_room(self, delivery: Delivery, underway: Underway) -> bool:
        """Say whether a delivery may be more than its order may hold here; own small ones are only counted."""
        is_own = delivery.transfer.ordering_peer_id == self._peer_id
        return not is_own or underway.size_bytes >= ROOM_ASKED_FROM_BYTES


def _let_go(work: asyncio.Future[list[FileEntry] | _Load]) -> None:
    """Look at how a thread ended that nobody waits for any more, and close what it has opened."""
    if not work.cancelled() and work.exception() is None:
        carried = work.result()
        if isinstance(carried, _Load):
            carried.opened.close()
