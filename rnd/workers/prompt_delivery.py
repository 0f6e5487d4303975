"""Deliveries that are made with the end of their job (document: Data Flow; ruling: same-peer edges).

What a job of few small outputs owes to receivers on this peer is copied before its end is committed, so that the end,
the deliveries and what they entail are one commit, where each would else wait for a thread and a commit of its own. A
stop in between costs nothing: the job is found as it ended, and its outputs are copied anew. What is big, what goes
elsewhere and what cannot be carried is left to the DataWorker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rnd.rules.selection import deliveries
from rnd.types.enums import MountFunction
from rnd.types.errors import JobFailed, TransferFailed
from rnd.types.executions import FileEntry, InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import SELF_PEER_JOB, ConnectionId, JobExecutionId
from rnd.workers.copying import OpenEntry, UnflushedCopy, copy_unflushed, tree_source
from rnd.workers.delivery_log import DeliveryLog, log_completed, log_initiated
from rnd.workers.durability import Unflushed
from rnd.workers.files import OpenTree, never_cancelled
from rnd.workers.job_folders import JobFolders
from rnd.workers.staging import carried_origins_of, origin_root

PROMPT_BYTES: Final = 1 << 20
PROMPT_FILES: Final = 16
PROMPT_RECEIVERS: Final = 8
"""How much of each a job may leave for its deliveries to be made at once: what is copied in a few milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDelivery:
    """What lies whole, verified and durable at its destination, and has yet to be committed as delivered."""

    connection_id: ConnectionId
    receiver: JobExecutionId
    destination: Path
    files: tuple[FileEntry, ...]


def deliver_promptly(
    folders: JobFolders,
    job: JobExecution,
    interfaces: Sequence[JobInterface],
    outputs: Mapping[str, Sequence[FileEntry]],
    unflushed: Unflushed,
    *,
    cancelled: Callable[[], bool] = never_cancelled,
) -> list[PromptDelivery]:
    """Copy what an ended job owes to receivers on this peer, if all of it is little; `outputs` is its manifest.

    What is copied is flushed together with what `unflushed` holds: one wait for the disk. Only for own orders: where another peer
    orders, only the receiver's own row may say which folder is its own. A connection that cannot be served is left out, so
    that the DataWorker finds out why. Raises `CalledOff`, and `OSError` where it cannot be flushed: nothing is copied then.
    """
    lanes = [
        (interface, peer)
        for interface in interfaces
        for peer in interface.peers
        if peer.peer_mount_function is MountFunction.INPUT and not peer.duty_acknowledged
    ]
    entries = [entry for found in outputs.values() for entry in found]
    if (
        job.ordering_peer_id != job.executor_peer_id
        or len(lanes) > PROMPT_RECEIVERS
        or len(entries) > PROMPT_FILES
        or sum(entry.size_bytes for entry in entries) > PROMPT_BYTES
    ):
        return []
    copies: list[tuple[PromptDelivery, UnflushedCopy]] = []
    try:
        for interface, peer in lanes:
            destination = _destination(folders, job, peer)
            if destination is None:
                continue
            origins = carried_origins_of(job, interface, interfaces, peer)
            try:
                copy = _copy(folders, job, origins, outputs, peer, destination, unflushed, cancelled)
            except (JobFailed, TransferFailed, OSError):
                continue  # the DataWorker meets it again, and has the words and the row for it
            assert peer.peer_job_execution_id is not None  # else there were no destination
            delivery = PromptDelivery(
                connection_id=peer.connection_id,
                receiver=peer.peer_job_execution_id,
                destination=destination,
                files=tuple(copy.entries),
            )
            copies.append((delivery, copy))
        unflushed.flush()
    except BaseException:
        for _, copy in copies:
            copy.discard()
        raise
    return [delivery for delivery, copy in copies if _has_settled(copy)]


def _has_settled(copy: UnflushedCopy) -> bool:
    try:
        copy.settle()
    except OSError:  # what it replaced resists: the DataWorker meets it again
        copy.discard()
        return False
    return True


def log_prompt_delivery(transfer: Transfer, *, source: Path, destination: Path, chunk_bytes: int) -> None:
    """Write the lines of a delivery that is committed, in the order of the transcripts.

    `source` is its job's folder; both are relative to the data directory.
    """
    log_initiated(transfer, source=str(source), destination=destination)
    lines = DeliveryLog(transfer, size_bytes=transfer.size_bytes, chunk_bytes=chunk_bytes)
    lines.begin()
    lines.add(transfer.size_bytes)
    lines.end()
    log_completed(transfer)


def _destination(folders: JobFolders, job: JobExecution, peer: InterfacePeer) -> Path | None:
    """Return where a connection ends on this peer; `None` if it ends elsewhere."""
    if peer.peer_id != job.executor_peer_id:
        return None
    if peer.peer_job_execution_id == SELF_PEER_JOB:
        return folders.result(job, peer.peer_id, peer.lane)
    return folders.receiving(job, peer)


def _copy(
    folders: JobFolders,
    job: JobExecution,
    origins: Sequence[str],
    outputs: Mapping[str, Sequence[FileEntry]],
    peer: InterfacePeer,
    destination: Path,
    unflushed: Unflushed,
    cancelled: Callable[[], bool],
) -> UnflushedCopy:
    openers: dict[FileEntry, OpenEntry] = {}
    entries: list[FileEntry] = []
    with ExitStack() as stack:
        for origin in origins:
            found = outputs.get(origin, ())
            if found:
                tree = stack.enter_context(OpenTree(origin_root(folders, job, origin)))
                openers.update(dict.fromkeys(found, tree_source(tree)))
                entries += found
        items = deliveries(entries, peer.include, peer.peer_file_name)
        return copy_unflushed(lambda entry: openers[entry](entry), items, destination, unflushed, cancelled=cancelled)
