"""What a start, an end or a delivery entails for others, within the one transaction of the change itself.

Functions here choreograph the table families: a job that fails cancels the jobs that needed it, a delivery that arrives
makes its receiver's duty done, and so on along the graph. They return `News`: what was committed and has yet to be
logged and acted upon. Nothing here waits, and nothing here touches more than rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rnd.database import job_executions, job_interfaces, job_moves, results, transfers
from rnd.database.job_moves import JobEnd, JobHead
from rnd.database.transfers import NewTransfer
from rnd.rules.lifecycle import upstream_failure_reason
from rnd.types.enums import (
    ExecutionConstraint,
    JobStatus,
    MountFunction,
    ServiceType,
    TransferDirection,
    TransferStatus,
)
from rnd.types.errors import JobFailed, NotFound, StaleState
from rnd.types.executions import FileEntry, InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import SELF_PEER_JOB, ConnectionId, ExecutionId, InterfacePeerId, JobExecutionId, TransferId
from rnd.types.orders import JobStart

NewTransferId = Callable[[], TransferId]


@dataclass(slots=True)
class News:
    """What a transaction changed beyond what its caller asked for. Filled while the transaction runs."""

    ready: list[JobHead] = field(default_factory=list)
    waiting: list[JobExecutionId] = field(default_factory=list)
    ended: list[tuple[JobHead, str | None]] = field(default_factory=list)
    acknowledged: list[InterfacePeerId] = field(default_factory=list)
    inputs_changed: list[JobExecutionId] = field(default_factory=list)
    transfers_created: int = 0
    transfers_ended: list[Transfer] = field(default_factory=list)
    executions: set[ExecutionId] = field(default_factory=set)

    def touch(self, conn: sqlite3.Connection, execution_id: ExecutionId | None) -> None:
        """Note that an own execution may have come to its end: nothing of it is open any more."""
        if execution_id is not None and not job_executions.has_open_jobs(conn, execution_id):
            self.executions.add(execution_id)


def start_jobs(
    conn: sqlite3.Connection, starts: Sequence[JobStart], *, new_transfer_id: NewTransferId, now: datetime, news: News
) -> list[JobExecutionId]:
    """Take start commands: routing, flag, what the self-peer owes, and READY where nothing is waited for.

    Returns the jobs that it started: not those whose command was taken before or that have ended meanwhile. One that has
    failed before it knew whom it would feed takes those with it now, else they would wait for it.
    """
    started = job_moves.mark_started(conn, [start.job_execution_id for start in starts])
    job_interfaces.set_routes(
        conn, ((start.job_execution_id, start.routes) for start in starts if start.job_execution_id in started)
    )
    free = [job_id for job_id, constraint in started.items() if constraint is ExecutionConstraint.NONE]
    news.ready += job_moves.mark_all_ready(conn, sorted(free), now=now)
    for start in starts:
        job_id = start.job_execution_id
        if job_id not in started:
            _spread_late(conn, start, now=now, news=news)
        elif started[job_id] is not ExecutionConstraint.NONE:
            news.waiting.append(job_id)
            if any(route.peer_job_execution_id == SELF_PEER_JOB for route in start.routes):
                _owe_inputs_from_self_peer(conn, job_id, new_transfer_id=new_transfer_id, now=now, news=news)
    return [start.job_execution_id for start in starts if start.job_execution_id in started]


def _owe_inputs_from_self_peer(
    conn: sqlite3.Connection,
    job_execution_id: JobExecutionId,
    *,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> None:
    job = job_executions.get_job(conn, job_execution_id)
    for interface in job_interfaces.list_interfaces(conn, job_execution_id):
        for peer in interface.peers:
            if peer.peer_mount_function is MountFunction.OUTPUT and peer.peer_job_execution_id == SELF_PEER_JOB:
                _owe_from_self_peer(conn, job, peer, new_transfer_id=new_transfer_id, now=now, news=news)


def _spread_late(conn: sqlite3.Connection, start: JobStart, *, now: datetime, news: News) -> None:
    job = job_executions.get_job(conn, start.job_execution_id)
    if job.status in (JobStatus.ERRORED, JobStatus.CANCELLED):
        job_interfaces.set_routes(conn, [(job.id, start.routes)])
        spread_failure(conn, job_moves.head_of(job), job.error_message, now=now, news=news)


def check_inputs(conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, now: datetime, news: News) -> bool:
    """IDLE -> READY if the job is started and every duty to it is acknowledged; say whether it moved."""
    if job_interfaces.open_inputs(conn, job_execution_id):
        return False
    moved = job_moves.mark_all_ready(conn, [job_execution_id], now=now)
    news.ready += moved
    return bool(moved)


def complete_job(
    conn: sqlite3.Connection,
    job: JobExecution,
    interfaces: Sequence[JobInterface],
    outputs: Mapping[str, Sequence[FileEntry]],
    *,
    exit_code: int,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> None:
    """RUNNING -> COMPLETED with a durable manifest; its deliveries are owed from here on. Raises `StaleState`."""
    head = job_moves.mark_completed(conn, job.id, exit_code=exit_code, now=now)
    results.add_outputs(conn, job.id, outputs)
    owe_deliveries(conn, job, interfaces, new_transfer_id=new_transfer_id, now=now, news=news)
    news.ended.append((head, None))
    news.touch(conn, head.workflow_execution_id)


def reuse_job(
    conn: sqlite3.Connection,
    job: JobExecution,
    earlier: JobExecution,
    *,
    execution_id: ExecutionId,
    now: datetime,
    news: News,
) -> None:
    """IDLE -> COMPLETED in phase 1: an earlier execution's outputs stand in for a run; deliveries follow in phase 2."""
    head = job_moves.mark_reused(conn, job.id, execution_id=execution_id, now=now)
    results.copy_outputs(conn, from_job=earlier.id, to_job=job.id)
    news.touch(conn, head.workflow_execution_id)


def owe_deliveries(
    conn: sqlite3.Connection,
    job: JobExecution,
    interfaces: Sequence[JobInterface],
    *,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> int:
    """Write down every delivery that a job owes and has not made; return how many are new."""
    created = 0
    for interface in interfaces:
        for peer in interface.peers:
            if peer.peer_mount_function is not MountFunction.INPUT or peer.duty_acknowledged:
                continue
            created += _owe(conn, job, peer, new_transfer_id=new_transfer_id, now=now)
    news.transfers_created += created
    return created


def fail_job(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, end: JobEnd, *, now: datetime, news: News
) -> None:
    """IDLE, READY or RUNNING -> ERRORED, and CANCELLED for all that needed its output. Raises `StaleState`."""
    head = job_moves.mark_errored(conn, job_execution_id, end, now=now)
    news.ended.append((head, end.error))
    spread_failure(conn, head, end.error, now=now, news=news)


def fail_open_job(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, end: JobEnd, *, now: datetime, news: News
) -> bool:
    """Do what `fail_job` does unless the job has ended, perhaps by what was done for one before it; say which."""
    try:
        fail_job(conn, job_execution_id, end, now=now, news=news)
    except StaleState:
        return False
    return True


def cancel_job(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, end: JobEnd, *, now: datetime, news: News
) -> None:
    """IDLE, READY or RUNNING -> CANCELLED, and so for all that needed its output. Raises `StaleState`."""
    head = job_moves.mark_cancelled(conn, job_execution_id, end, now=now)
    news.ended.append((head, end.error))
    spread_failure(conn, head, end.error, now=now, news=news)


def spread_failure(conn: sqlite3.Connection, failed: JobHead, error: str | None, *, now: datetime, news: News) -> None:
    """Cancel, along the graph, every job that still waits for output of a failed one, and the deliveries of both."""
    reason = upstream_failure_reason(failed.job_name, error or str(failed.status))
    stack = [failed]
    while stack:
        head = stack.pop()
        news.touch(conn, head.workflow_execution_id)
        _cancel_deliveries(conn, head, reason, now=now, news=news)
        for receiver in job_interfaces.list_unserved_receivers(conn, head.id):
            try:
                cancelled = job_moves.mark_cancelled(conn, receiver, JobEnd(error=reason), now=now)
            except StaleState:
                continue
            news.ended.append((cancelled, reason))
            stack.append(cancelled)


def complete_transfer(
    conn: sqlite3.Connection,
    transfer_id: TransferId,
    files: Sequence[FileEntry],
    *,
    started_at: datetime | None = None,
    now: datetime,
    news: News,
) -> Transfer:
    """PENDING or ACTIVE -> COMPLETED: the duty is acknowledged at both ends and the receiver told. Raises `StaleState`."""
    size_bytes = sum(entry.size_bytes for entry in files)
    count = sum(1 for entry in files if entry.sha256)
    transfer = transfers.mark_completed(
        conn, transfer_id, file_count=count, size_bytes=size_bytes, started_at=started_at or now, now=now
    )
    for row_id in (transfer.source_peer_row_id, transfer.dest_peer_row_id):
        if row_id is not None and job_interfaces.acknowledge_duty(conn, row_id):
            news.acknowledged.append(row_id)
    if transfer.result_id is not None:
        results.mark_arrived(conn, transfer.result_id, files)
    if transfer.dest_job_execution_id != SELF_PEER_JOB:
        news.inputs_changed.append(transfer.dest_job_execution_id)
    news.transfers_ended.append(transfer)
    news.touch(conn, transfer.workflow_execution_id)
    settle_data_job(conn, transfer.source_job_execution_id, now=now, news=news)
    return transfer


def complete_owed(
    conn: sqlite3.Connection,
    source_job: JobExecutionId,
    connection_id: ConnectionId,
    receiver: JobExecutionId,
    files: Sequence[FileEntry],
    *,
    now: datetime,
    news: News,
) -> Transfer | None:
    """Complete a delivery that has just come to be owed and lies at its destination already.

    `None` where nothing is owed: the receiver has ended, and nobody is left to deliver to.
    """
    transfer_id = transfers.find_pending(conn, source_job=source_job, connection_id=connection_id, dest_job=receiver)
    if transfer_id is None:
        return None
    news.transfers_created -= 1  # nothing is left to be done about it
    return complete_transfer(conn, transfer_id, files, now=now, news=news)


def fail_transfer(
    conn: sqlite3.Connection, transfer_id: TransferId, error: str, *, now: datetime, news: News
) -> Transfer:
    """PENDING or ACTIVE -> FAILED for good: its receiver can never run. Raises `StaleState`."""
    transfer = transfers.mark_ended(conn, transfer_id, TransferStatus.FAILED, error, now=now)
    news.transfers_ended.append(transfer)
    news.touch(conn, transfer.workflow_execution_id)
    if transfer.result_id is not None:
        results.mark_failed(conn, transfer.result_id, error)
    if transfer.dest_job_execution_id != SELF_PEER_JOB:
        try:
            end = JobEnd(error=f"an input could not be delivered: {error}")
            cancel_job(conn, transfer.dest_job_execution_id, end, now=now, news=news)
        except StaleState:
            pass  # the receiver has ended on its own; the transfer's row keeps the reason
    settle_data_job(conn, transfer.source_job_execution_id, now=now, news=news)
    return transfer


def settle_data_job(conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, now: datetime, news: News) -> None:
    """End a RUNNING DATA job whose last delivery has ended: COMPLETED if all arrived, else ERRORED with the reason.

    Deliveries that were cancelled because their receiver had ended count for neither.
    """
    if job_execution_id == SELF_PEER_JOB:
        return
    try:
        job = job_executions.get_job(conn, job_execution_id)
    except NotFound:
        return  # a person has deleted the row; nobody is left to end
    if job.service_type is not ServiceType.DATA or job.status is not JobStatus.RUNNING:
        return
    owed = transfers.list_by_source_job(conn, job_execution_id)
    if any(transfer.status in (TransferStatus.PENDING, TransferStatus.ACTIVE) for transfer in owed):
        return
    failed = next((transfer for transfer in owed if transfer.status is TransferStatus.FAILED), None)
    if failed is not None:
        fail_job(conn, job_execution_id, JobEnd(error=f"could not deliver: {failed.error}"), now=now, news=news)
        return
    head = job_moves.mark_completed(conn, job_execution_id, exit_code=None, now=now)
    news.ended.append((head, None))
    news.touch(conn, head.workflow_execution_id)


def _cancel_deliveries(conn: sqlite3.Connection, head: JobHead, reason: str, *, now: datetime, news: News) -> None:
    sources: set[JobExecutionId] = set()
    for transfer_id in transfers.list_open_of_job(conn, head.id):
        transfer = transfers.mark_ended(conn, transfer_id, TransferStatus.CANCELLED, reason, now=now)
        news.transfers_ended.append(transfer)
        sources.add(transfer.source_job_execution_id)
    if head.workflow_execution_id is not None:
        results.mark_failed_of_job(conn, head.workflow_execution_id, head.id, reason)
    for source in sources - {head.id}:
        settle_data_job(conn, source, now=now, news=news)


def _owe(
    conn: sqlite3.Connection, job: JobExecution, peer: InterfacePeer, *, new_transfer_id: NewTransferId, now: datetime
) -> bool:
    receiver = peer.peer_job_execution_id
    if receiver is None:
        raise JobFailed(f"job {job.id} was started without a route for connection {peer.connection_id}")
    dest_row: InterfacePeerId | None = None
    result_id = None
    if receiver == SELF_PEER_JOB:
        if job.workflow_execution_id is not None:
            result = results.find_result(conn, execution_id=job.workflow_execution_id, connection_id=peer.connection_id)
            result_id = None if result is None else result.id
    else:
        end = job_interfaces.find_end(conn, job_execution_id=receiver, connection_id=peer.connection_id)
        dest_row = None if end is None else end.interface_peer_id
        if end is not None and job_executions.get_job(conn, receiver).status is not JobStatus.IDLE:
            return False  # the receiver has ended without waiting for this; nobody is left to deliver to
    new = NewTransfer(
        transfer_id=new_transfer_id(),
        direction=TransferDirection.LOCAL,
        workflow_execution_id=job.workflow_execution_id,
        ordering_peer_id=job.ordering_peer_id,
        execution_uid=job.execution_uid,
        connection_id=peer.connection_id,
        source_peer_id=job.executor_peer_id,
        source_job_execution_id=job.id,
        dest_peer_id=peer.peer_id,
        dest_job_execution_id=receiver,
        source_peer_row_id=peer.id,
        dest_peer_row_id=dest_row,
        result_id=result_id,
        source_path=None,
    )
    return transfers.create_transfer(conn, new, now=now)


def _owe_from_self_peer(
    conn: sqlite3.Connection,
    job: JobExecution,
    peer: InterfacePeer,
    *,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> None:
    new = NewTransfer(
        transfer_id=new_transfer_id(),
        direction=TransferDirection.LOCAL,
        workflow_execution_id=job.workflow_execution_id,
        ordering_peer_id=job.ordering_peer_id,
        execution_uid=job.execution_uid,
        connection_id=peer.connection_id,
        source_peer_id=peer.peer_id,
        source_job_execution_id=SELF_PEER_JOB,
        dest_peer_id=job.executor_peer_id,
        dest_job_execution_id=job.id,
        source_peer_row_id=None,
        dest_peer_row_id=peer.id,
        result_id=None,
        source_path=peer.source_path,
    )
    news.transfers_created += transfers.create_transfer(conn, new, now=now)
