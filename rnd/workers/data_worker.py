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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rnd.database import job_executions, job_interfaces, offered_services, results, transfers
from rnd.database.connection import Database
from rnd.database.consequences import News, complete_transfer, fail_transfer, owe_deliveries, settle_data_job
from rnd.database.workflow_executions import ExecutionBounds, get_bounds
from rnd.log import get_logger
from rnd.rules.selection import SelectionError, deliveries
from rnd.rules.upload_names import uploaded_name
from rnd.services.data_service import DataService
from rnd.services.snapshot import HostRules, find_host_source, find_upload
from rnd.types.config import Config
from rnd.types.enums import JobStatus, ServiceType, TransferDirection
from rnd.types.errors import (
    CalledOff,
    DatabaseGone,
    DatabaseNotNow,
    JobFailed,
    NotFound,
    RndError,
    StaleState,
    UnfitFiles,
)
from rnd.types.executions import FileEntry, InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import SELF_PEER_JOB, PeerId, TransferId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock, Entropy
from rnd.types.services import Service
from rnd.workers.copying import OpenEntry, Reader, copy_entries, tree_source
from rnd.workers.delivery_log import DeliveryLog, log_completed, log_initiated
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.files import OpenTree, hash_tree
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard
from rnd.workers.staging import carried_origins_of, origin_root
from rnd.workers.underway import Underway

PROGRESS_INTERVAL_S: Final = 0.5
"""How often the progress of one delivery is written down and told."""

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """Everything that one delivery needs to know, read in one snapshot. `service` is set where DATA is the source."""

    transfer: Transfer
    source_job: JobExecution | None
    source_interfaces: tuple[JobInterface, ...]
    outputs_job: JobExecution | None
    outputs: dict[str, list[FileEntry]]
    service: Service | None
    data_entries: list[FileEntry]
    data_key: bytes | None = field(repr=False)
    dest_job: JobExecution | None
    include: tuple[str, ...]
    file_name: str | None
    source_path: str | None
    source_end: tuple[JobInterface, InterfacePeer] | None
    destination: Path
    idle_s: float


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
        data_service: DataService,
        disk: DiskGuard,
        board: NewsBoard,
        peer_id: PeerId,
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._folders = folders
        self._data_service = data_service
        self._disk = disk
        self._board = board
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
                for transfer_id in changed & self._underway.keys():
                    self._underway[transfer_id].call_off()

    async def _begin(self, count: int, group: asyncio.TaskGroup) -> None:
        """Make deliveries that nobody has begun tasks of the group, which then alone hold their manifests."""
        for transfer, delivery in await self._claim(count):
            self._underway[transfer.transfer_id] = Underway(started_at=self._clock.now(), disk=self._disk)
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

    async def _claim(self, count: int) -> list[tuple[Transfer, _Delivery | Exception]]:
        """Take deliveries that nobody has begun, with all that is known of each, from one snapshot.

        The row is the intent already, so taking it writes nothing; only one that takes its time becomes ACTIVE. What is
        in hand is left out as of now: its end is committed before it leaves `_underway`.
        """
        in_hand = set(self._underway)

        def work(conn: sqlite3.Connection) -> list[tuple[Transfer, _Delivery | Exception]]:
            claimed: list[tuple[Transfer, _Delivery | Exception]] = []
            limit = count + len(in_hand)
            for transfer in transfers.list_pending(conn, direction=TransferDirection.LOCAL, limit=limit):
                if transfer.transfer_id in in_hand:
                    continue
                try:
                    claimed.append((transfer, self._look_up(conn, transfer)))
                except sqlite3.Error:
                    raise
                except Exception as error:  # noqa: BLE001 - one transfer's; its own boundary deals with it
                    claimed.append((transfer, error))
            return claimed[:count]

        return await self._database.read(work)

    async def _deliver(self, transfer: Transfer, delivery: _Delivery | Exception) -> None:
        """Make one delivery: the boundary at which whatever goes wrong with it becomes its error."""
        underway = self._underway[transfer.transfer_id]
        try:
            if isinstance(delivery, Exception):
                raise delivery
            self._log_begin(delivery)
            files = await self._supervise(delivery, underway)
            await self._commit(delivery, underway, files)
        except DatabaseGone:
            raise
        except (CalledOff, StaleState):
            pass  # somebody ended the receiver or the delivery meanwhile, and has said why
        except (SelectionError, RndError) as error:
            await self._fail(transfer, str(error))
        except OSError as error:
            await self._fail(transfer, f"{error.strerror or error}")
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="delivery", transfer_id=transfer.transfer_id)
            await self._fail(transfer, f"internal error: {type(error).__name__}")
        finally:
            del self._underway[transfer.transfer_id]
            self._board.transfers.ring()

    async def _supervise(self, delivery: _Delivery, underway: Underway) -> list[FileEntry]:
        """Run the copy in a thread, tell its progress, and give up when nothing has moved for too long."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._carry, delivery, underway)
        work.add_done_callback(_take_note)
        told, life, idle_since = -1, 0, self._clock.monotonic()
        try:
            while True:
                done, _ = await asyncio.wait({work}, timeout=PROGRESS_INTERVAL_S)
                if done:
                    return work.result()
                held_up = underway.held_up
                if held_up is not None or underway.signs_of_life != life:
                    life, idle_since = underway.signs_of_life, self._clock.monotonic()
                if held_up is not None or underway.bytes_done != told:
                    told = underway.bytes_done
                    await self._tell_progress(delivery.transfer, underway)
                if self._clock.monotonic() - idle_since > delivery.idle_s:
                    raise JobFailed(f"no byte has moved for {delivery.idle_s:g} s (transfer_idle)")
        finally:
            underway.call_off()

    async def _tell_progress(self, transfer: Transfer, underway: Underway) -> None:
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> None:
            if not underway.active:
                transfers.mark_active(conn, transfer.transfer_id, now=underway.started_at)
            transfers.set_progress(
                conn,
                transfer,
                file_count=underway.file_count,
                size_bytes=underway.size_bytes,
                bytes_done=min(underway.bytes_done, underway.size_bytes),
                held_up=underway.held_up,
                now=now,
            )

        try:
            await self._database.write(work)
        except DatabaseNotNow:
            return  # progress is a courtesy; its end will be written down
        underway.active = True

    async def _commit(self, delivery: _Delivery, underway: Underway, files: list[FileEntry]) -> None:
        now = self._clock.now()
        done, news = await insist(
            self._database,
            lambda conn, news: complete_transfer(
                conn, delivery.transfer.transfer_id, files, started_at=underway.started_at, now=now, news=news
            ),
        )
        log_completed(done)
        self._board.publish(news)

    async def _fail(self, transfer: Transfer, error: str) -> None:
        now = self._clock.now()
        try:
            _, news = await insist(
                self._database,
                lambda conn, news: fail_transfer(conn, transfer.transfer_id, error, now=now, news=news),
            )
        except StaleState:
            return
        self._board.publish(news)

    def _log_begin(self, delivery: _Delivery) -> None:
        relative = delivery.destination.relative_to(self._folders.data_dir)
        log_initiated(delivery.transfer, source=self._source_words(delivery), destination=relative)

    def _source_words(self, delivery: _Delivery) -> str:
        if delivery.service is not None:
            return f"service:{delivery.service.id}"
        if delivery.outputs_job is not None:
            return str(self._folders.job(delivery.outputs_job).relative_to(self._folders.data_dir))
        return delivery.source_path or "self-peer"

    # ---- one snapshot of rows

    def _look_up(self, conn: sqlite3.Connection, transfer: Transfer) -> _Delivery:
        dest_job = None
        if transfer.dest_job_execution_id != SELF_PEER_JOB:
            dest_job = job_executions.get_job(conn, transfer.dest_job_execution_id)
        source_job = None
        interfaces: tuple[JobInterface, ...] = ()
        if transfer.source_job_execution_id != SELF_PEER_JOB:
            source_job = job_executions.get_job(conn, transfer.source_job_execution_id)
            interfaces = job_interfaces.list_interfaces(conn, source_job.id)
        end = source_end = _end_of(interfaces, transfer)
        if end is None and dest_job is not None:
            end = _end_of(job_interfaces.list_interfaces(conn, dest_job.id), transfer)
        if end is None:
            raise NotFound(f"Transfer {transfer.transfer_id} belongs to no interface of a job")
        _, peer = end
        service, data_entries, data_key = self._data_of(conn, source_job, transfer)
        outputs_job = _outputs_job(conn, source_job) if service is None else None
        return _Delivery(
            transfer=transfer,
            source_job=source_job,
            source_interfaces=interfaces,
            outputs_job=outputs_job,
            outputs={} if outputs_job is None else results.list_outputs(conn, outputs_job.id),
            service=service,
            data_entries=data_entries,
            data_key=data_key,
            dest_job=dest_job,
            include=peer.include,
            file_name=peer.peer_file_name,
            source_path=transfer.source_path,
            source_end=source_end,
            destination=self._destination(source_job, dest_job, transfer, peer),
            idle_s=self._bounds(conn, transfer).transfer_idle_s,
        )

    def _data_of(
        self, conn: sqlite3.Connection, source_job: JobExecution | None, transfer: Transfer
    ) -> tuple[Service | None, list[FileEntry], bytes | None]:
        if source_job is None or source_job.service_type is not ServiceType.DATA:
            return None, [], None
        service = offered_services.get_service(conn, source_job.service_id)
        key = self._data_service.data_key_for(conn, service, transfer.workflow_execution_id)
        return service, self._data_service.list_entries(conn, service.id), key

    def _destination(
        self,
        source_job: JobExecution | None,
        dest_job: JobExecution | None,
        transfer: Transfer,
        peer: InterfacePeer,
    ) -> Path:
        if dest_job is not None:
            return self._folders.delivery(transfer, dest_job, peer.lane)
        if source_job is None:
            raise NotFound(f"Transfer {transfer.transfer_id} leads from the self-peer to itself")
        return self._folders.result(source_job, transfer.dest_peer_id, peer.lane)

    def _bounds(self, conn: sqlite3.Connection, transfer: Transfer) -> ExecutionBounds:
        if transfer.workflow_execution_id is not None:
            return get_bounds(conn, transfer.workflow_execution_id)
        default = self._config.deadlines
        return ExecutionBounds(
            start_by_s=default.start_by_s,
            max_runtime_s=default.max_runtime_s,
            transfer_idle_s=default.transfer_idle_s,
        )

    # ---- in a thread

    def _carry(self, delivery: _Delivery, underway: Underway) -> list[FileEntry]:
        """Choose what travels, name it, and copy it; the destination appears only when all of it is verified."""
        with ExitStack() as stack:
            open_entry, items = self._choose(delivery, stack, underway)
            underway.file_count = sum(1 for entry, _ in items if entry.sha256)
            underway.size_bytes = sum(entry.size_bytes for entry, _ in items)
            lines = DeliveryLog(delivery.transfer, size_bytes=underway.size_bytes, chunk_bytes=self._config.chunk_bytes)
            lines.begin()

            def moved(count: int) -> None:
                underway.add(count)
                lines.add(count)

            carried = copy_entries(
                open_entry, items, delivery.destination, progress=moved, cancelled=underway.must_stop
            )
            lines.end()
            return carried

    def _choose(
        self, delivery: _Delivery, stack: ExitStack, underway: Underway
    ) -> tuple[OpenEntry, Sequence[tuple[FileEntry, str]]]:
        if delivery.service is not None:
            service = delivery.service

            def open_data(entry: FileEntry) -> Reader:
                return self._data_service.open_entry(service, entry, delivery.data_key)

            return open_data, deliveries(delivery.data_entries, delivery.include, delivery.file_name)
        if delivery.outputs_job is not None:
            return self._choose_outputs(delivery, delivery.outputs_job, stack)
        return self._choose_host_files(delivery, stack, underway)

    def _choose_outputs(
        self, delivery: _Delivery, outputs_job: JobExecution, stack: ExitStack
    ) -> tuple[OpenEntry, Sequence[tuple[FileEntry, str]]]:
        if delivery.source_end is None or delivery.source_job is None:
            raise NotFound(f"Transfer {delivery.transfer.transfer_id} belongs to no interface of its sender")
        interface, peer = delivery.source_end
        openers: dict[FileEntry, OpenEntry] = {}
        entries: list[FileEntry] = []
        for origin in carried_origins_of(delivery.source_job, interface, delivery.source_interfaces, peer):
            found = delivery.outputs.get(origin, [])
            if found:
                tree = stack.enter_context(_open_outputs(origin_root(self._folders, outputs_job, origin), outputs_job))
                openers.update(dict.fromkeys(found, tree_source(tree)))
                entries += found
        return (lambda entry: openers[entry](entry)), deliveries(entries, delivery.include, delivery.file_name)

    def _choose_host_files(
        self, delivery: _Delivery, stack: ExitStack, underway: Underway
    ) -> tuple[OpenEntry, Sequence[tuple[FileEntry, str]]]:
        if delivery.source_path is None:
            raise JobFailed(f"connection {delivery.transfer.connection_id} names no file or folder to send")
        limits = self._config.limits
        rules = HostRules(
            allowed_roots=tuple(Path(root).resolve() for root in self._config.allowed_roots),
            data_dir=self._config.data_dir.resolve(),
            max_files=limits.files_per_transfer,
            max_file_bytes=limits.file_bytes,
        )
        upload = uploaded_name(delivery.source_path)
        source = find_host_source(delivery.source_path, rules) if upload is None else find_upload(upload, rules)
        entries = hash_tree(source.root, source.found, hard_links=True, cancelled=underway.must_stop)
        tree = stack.enter_context(OpenTree(source.root))
        return tree_source(tree), deliveries(entries, delivery.include, delivery.file_name)


def _open_outputs(root: Path, job: JobExecution) -> OpenTree:
    try:
        return OpenTree(root)
    except UnfitFiles as error:
        raise JobFailed(f"the outputs of job {job.id} ({job.job_name}) cannot be read any more: {error}") from error


def _take_note(work: asyncio.Future[list[FileEntry]]) -> None:
    """Look at how a thread ended that nobody waits for any more, so that asyncio does not complain about it."""
    if not work.cancelled():
        work.exception()


def _end_of(interfaces: Sequence[JobInterface], transfer: Transfer) -> tuple[JobInterface, InterfacePeer] | None:
    rows = (transfer.source_peer_row_id, transfer.dest_peer_row_id)
    for interface in interfaces:
        for peer in interface.peers:
            if peer.id in rows:
                return interface, peer
    return None


def _outputs_job(conn: sqlite3.Connection, job: JobExecution | None) -> JobExecution | None:
    """Return the job whose folder holds the outputs: the job itself, or the earlier one that it reuses."""
    if job is None:
        return None
    earlier = job_executions.reused_execution(job)
    return job if earlier is None else job_executions.find_job(conn, execution_id=earlier, node_id=job.node_id)
