"""What a delivery is made of: who sends what under which names, from this peer's rows and files.

The DataWorker makes deliveries within this peer from it, the DataHandler those to other peers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rnd.database import job_executions, job_interfaces, offered_services, results
from rnd.database.workflow_executions import get_bounds
from rnd.rules.selection import deliveries
from rnd.rules.upload_names import uploaded_name
from rnd.services.data_service import DataService
from rnd.services.snapshot import HostRules, find_host_source, find_upload
from rnd.types.config import Config
from rnd.types.enums import ServiceType, TransferDirection
from rnd.types.errors import JobFailed, NotFound, UnfitFiles
from rnd.types.executions import FileEntry, InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import SELF_PEER_JOB
from rnd.types.services import Service
from rnd.workers.copying import OpenEntry, Reader, tree_source
from rnd.workers.files import OpenTree
from rnd.workers.job_folders import JobFolders
from rnd.workers.kept_hashes import KeptHashes
from rnd.workers.staging import carried_origins_of, origin_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Everything that one delivery needs to know, read in one snapshot.

    `service` is set where DATA is the source; `destination` where the receiving end is on this peer.
    """

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
    destination: Path | None
    idle_s: float


class DeliveryDesk:
    """Looks up deliveries and opens what they carry; holds no state of its own."""

    def __init__(self, *, config: Config, folders: JobFolders, data_service: DataService) -> None:
        self._config = config
        self._folders = folders
        self._data_service = data_service

    def look_up(self, conn: sqlite3.Connection, transfer: Transfer) -> Delivery:
        """Read all that a delivery of this peer takes. Raises `NotFound` where a row that it needs is gone."""
        dest_job = None
        is_here = transfer.direction is not TransferDirection.OUTGOING
        if is_here and transfer.dest_job_execution_id != SELF_PEER_JOB:
            dest_job = job_executions.get_job(conn, transfer.dest_job_execution_id)
        source_job = None
        interfaces: tuple[JobInterface, ...] = ()
        if transfer.source_job_execution_id != SELF_PEER_JOB:
            source_job = job_executions.get_job(conn, transfer.source_job_execution_id)
            interfaces = job_interfaces.list_interfaces(conn, source_job.id)
        source_end = _end_of(interfaces, transfer)
        if source_end is not None:
            _, peer = source_end
        elif transfer.dest_peer_row_id is not None:
            peer = job_interfaces.get_peer(conn, transfer.dest_peer_row_id)
        else:
            raise NotFound(f"Transfer {transfer.transfer_id} belongs to no interface of a job")
        service, data_entries, data_key = self._data_of(conn, source_job, transfer)
        outputs_job = _outputs_job(conn, source_job) if service is None else None
        return Delivery(
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
            destination=self._destination(source_job, dest_job, transfer, peer) if is_here else None,
            idle_s=self._idle_s(conn, transfer, source_job),
        )

    def source_words(self, delivery: Delivery) -> str:
        """Return where a delivery comes from, for the log: never a path of this host."""
        if delivery.service is not None:
            return f"service:{delivery.service.id}"
        if delivery.outputs_job is not None:
            return str(self._folders.job(delivery.outputs_job).relative_to(self._folders.data_dir))
        return "self-peer"

    def choose(
        self,
        delivery: Delivery,
        stack: ExitStack,
        cancelled: Callable[[], bool],
        *,
        hashes: KeptHashes | None = None,
    ) -> tuple[OpenEntry, Sequence[tuple[FileEntry, str]]]:
        """In a thread: choose what travels and under which names. What it opens is closed with `stack`.

        `hashes` has what the files of the self-peer hashed to in an earlier attempt. Raises `SelectionError` and what the source's state makes impossible (`RndError`, `OSError`).
        """
        if delivery.service is not None:
            service = delivery.service

            def open_data(entry: FileEntry) -> Reader:
                return self._data_service.open_entry(service, entry, delivery.data_key)

            return open_data, deliveries(delivery.data_entries, delivery.include, delivery.file_name)
        if delivery.outputs_job is not None:
            return self._choose_outputs(delivery, delivery.outputs_job, stack)
        return self._choose_host_files(delivery, stack, cancelled, hashes or KeptHashes())

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

    def _idle_s(self, conn: sqlite3.Connection, transfer: Transfer, source_job: JobExecution | None) -> float:
        if transfer.workflow_execution_id is not None:
            return get_bounds(conn, transfer.workflow_execution_id).transfer_idle_s
        configured = self._config.deadlines.transfer_idle_s
        ordered = None if source_job is None else source_job.transfer_idle_s
        return configured if ordered is None else min(configured, ordered)

    def _choose_outputs(
        self, delivery: Delivery, outputs_job: JobExecution, stack: ExitStack
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
        self, delivery: Delivery, stack: ExitStack, cancelled: Callable[[], bool], hashes: KeptHashes
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
        entries = hashes.hash(delivery.transfer.transfer_id, source.root, source.found, cancelled=cancelled)
        tree = stack.enter_context(OpenTree(source.root))
        return tree_source(tree), deliveries(entries, delivery.include, delivery.file_name)


def _open_outputs(root: Path, job: JobExecution) -> OpenTree:
    try:
        return OpenTree(root)
    except UnfitFiles as error:
        raise JobFailed(f"the outputs of job {job.id} ({job.job_name}) cannot be read any more: {error}") from error


def _end_of(interfaces: Sequence[JobInterface], transfer: Transfer) -> tuple[JobInterface, InterfacePeer] | None:
    rows = (transfer.source_peer_row_id, transfer.dest_peer_row_id)
    for interface in interfaces:
        for peer in interface.peers:
            if peer.id in rows:
                return interface, peer
    return None


def _outputs_job(conn: sqlite3.Connection, job: JobExecution | None) -> JobExecution | None:
    return None if job is None else job_executions.get_outputs_job(conn, job)
