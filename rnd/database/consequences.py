"""What a start, an end or a delivery entails for others, within the one transaction of the change itself.

Functions here choreograph the table families: a job that fails cancels the jobs that needed it, a delivery that arrives
makes its receiver's duty done, and so on along the graph. They return `News`: what was committed and has yet to be
logged and acted upon. Nothing here waits, and nothing here touches more than rows.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from rnd.database import (
    duties,
    job_executions,
    job_interfaces,
    job_moves,
    job_reports,
    mirrors,
    outbox,
    results,
    transfers,
)
from rnd.database.job_moves import JobEnd, JobHead
from rnd.database.news import News
from rnd.database.owing import NewTransferId, here, is_of_order, owe_deliveries, owe_inputs_from_self_peer
from rnd.protocol.codec import fields_of
from rnd.protocol.transfer_messages import DataTransferFailed
from rnd.rules.lifecycle import upstream_failure_reason
from rnd.types.enums import (
    ExecutionConstraint,
    JobStatus,
    ServiceType,
    TransferDirection,
    TransferStatus,
)
from rnd.types.errors import JobFailed, NotFound, StaleState
from rnd.types.executions import FileEntry, JobExecution, JobInterface, Transfer
from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionId,
    ExecutionUid,
    JobExecutionId,
    PeerId,
    TransferId,
)
from rnd.types.orders import JobStart, JobStatusReport


def start_jobs(
    conn: sqlite3.Connection, starts: Sequence[JobStart], *, new_transfer_id: NewTransferId, now: datetime, news: News
) -> list[JobExecutionId]:
    """Take start commands: routing, flag, what the self-peer owes, and READY where nothing is waited for.

    What an earlier execution's outputs have completed delivers them. Returns the jobs that it started: not those whose
    command was taken before or that have ended meanwhile. One that has failed before it knew whom it would feed takes
    those with it now, else they would wait for it. Raises `StaleState` where a command that was taken before had other
    routes, or the routes of what is to be delivered lead nowhere.
    """
    reused = job_moves.mark_reused_started(conn, [start.job_execution_id for start in starts])
    for start in starts:
        if start.job_execution_id in reused:
            _deliver_reused(conn, start, new_transfer_id=new_transfer_id, now=now, news=news)
    starts = [start for start in starts if start.job_execution_id not in reused]
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
                owe_inputs_from_self_peer(conn, job_id, new_transfer_id=new_transfer_id, now=now, news=news)
    return [*reused, *(start.job_execution_id for start in starts if start.job_execution_id in started)]


def _deliver_reused(
    conn: sqlite3.Connection, start: JobStart, *, new_transfer_id: NewTransferId, now: datetime, news: News
) -> None:
    """Owe what a reused job has to deliver in this execution. DATA has nothing: all that it feeds is reused as well."""
    job_interfaces.set_routes(conn, [(start.job_execution_id, start.routes)])
    job = job_executions.get_job(conn, start.job_execution_id)
    if job.service_type is ServiceType.DATA:
        return
    interfaces = job_interfaces.list_interfaces(conn, job.id)
    try:
        owe_deliveries(conn, job, interfaces, new_transfer_id=new_transfer_id, now=now, news=news)
    except JobFailed as error:
        raise StaleState(str(error)) from error


def _spread_late(conn: sqlite3.Connection, start: JobStart, *, now: datetime, news: News) -> None:
    job = job_executions.get_job(conn, start.job_execution_id)
    if job.start_received and job_interfaces.has_other_routes(conn, job.id, start.routes):
        raise StaleState(f"job {job.id} was started before with other routes")
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
    remark: str | None = None,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> None:
    """RUNNING -> COMPLETED with a durable manifest; its deliveries are owed from here on. Raises `StaleState`."""
    head = job_moves.mark_completed(conn, job.id, exit_code=exit_code, remark=remark, now=now)
    results.add_outputs(conn, job.id, outputs)
    owe_deliveries(conn, job, interfaces, new_transfer_id=new_transfer_id, now=now, news=news)
    news.ended.append((head, None))
    news.touch(conn, head.workflow_execution_id)


def reuse_job(
    conn: sqlite3.Connection,
    job: JobExecution,
    earlier: JobExecution,
    *,
    origin: ExecutionId | ExecutionUid,
    now: datetime,
    news: News,
) -> None:
    """IDLE -> COMPLETED in phase 1: an earlier execution's outputs stand in for a run; deliveries follow in phase 2.

    Its inputs count as arrived, so that whoever is about to send one hears so. `origin` is what `mark_reused` takes.
    """
    job_interfaces.acknowledge_inputs(conn, job.id)
    head = job_moves.mark_reused(
        conn,
        job.id,
        origin=origin,
        service_revision=earlier.service_revision,
        image_digest=earlier.image_digest,
        now=now,
    )
    results.copy_outputs(conn, from_job=earlier.id, to_job=job.id)
    news.touch(conn, head.workflow_execution_id)


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
    """Cancel, along the graph, every job that still waits for output of a failed one, and the deliveries of both.

    Receivers elsewhere are told: by the orchestrator that their job is to be cancelled, by an executor that nothing comes.
    """
    reason = upstream_failure_reason(failed.job_name, error or str(failed.status))
    stack = [failed]
    while stack:
        head = stack.pop()
        news.touch(conn, head.workflow_execution_id)
        try:
            job = job_executions.get_job(conn, head.id)
        except NotFound:
            continue  # a person has deleted the row; nobody can say whom it was to feed
        _cancel_deliveries(conn, job, reason, now=now, news=news)
        for duty in job_interfaces.list_unserved_duties(conn, head.id):
            if duty.peer_id == here(job):
                if not is_of_order(conn, duty.job_execution_id, job):
                    continue
                with contextlib.suppress(StaleState):
                    cancelled = job_moves.mark_cancelled(conn, duty.job_execution_id, JobEnd(error=reason), now=now)
                    news.ended.append((cancelled, reason))
                    stack.append(cancelled)
            elif job.workflow_job_id is not None:
                mirror = mirrors.find_by_workflow_job(conn, duty.workflow_job_id or 0)
                if mirror is not None:
                    mirrors.ask_to_cancel(conn, mirror, reason, now=now)
            else:
                _post_nothing_comes(conn, duty.peer_id, job, duty.connection_id, reason, now=now)


def take_report(
    conn: sqlite3.Connection, mirror: JobExecution, report: JobStatusReport, *, now: datetime, news: News
) -> bool:
    """Carry what an executor reports into the mirror of its job, and on along the graph; say whether its status moved."""
    news.acknowledged += mirrors.acknowledge(conn, mirror, report.duties)
    head = mirrors.take_report(conn, mirror, report, now=now)
    if head is None:
        return False
    if head.status in (JobStatus.ERRORED, JobStatus.CANCELLED):
        spread_failure(conn, head, report.error_message, now=now, news=news)
    news.touch(conn, head.workflow_execution_id)
    return True


def give_up_mirror(conn: sqlite3.Connection, mirror: JobExecution, error: str, *, now: datetime, news: News) -> None:
    """End the mirror of a job whose executor does not say how it ends. Its peer is told to cancel it all the same."""
    mirrors.post_cancel(conn, mirror.executor_peer_id, mirror.execution_uid, mirror.node_id, error, now=now)
    try:
        head = job_moves.mark_errored(conn, mirror.id, JobEnd(error=error), now=now)
    except StaleState:
        return
    spread_failure(conn, head, error, now=now, news=news)


def take_notice(
    conn: sqlite3.Connection,
    sender: PeerId,
    *,
    self_peer_id: PeerId,
    orderer: PeerId,
    execution_uid: ExecutionUid,
    connection_id: ConnectionId,
    reason: str,
    now: datetime,
    news: News,
) -> bool:
    """Take a sender's word that nothing will ever come along a connection; False where nothing waits for it.

    What has come is not taken back.
    """
    duty = duties.find_duty(
        conn,
        sender,
        self_peer_id=self_peer_id,
        orderer=orderer,
        execution_uid=execution_uid,
        connection_id=connection_id,
    )
    if duty is None or duty.is_done:
        return False
    if duty.result_id is not None:
        results.mark_failed(conn, duty.result_id, reason)
        source = duty.source_job_execution_id or SELF_PEER_JOB
        for transfer in transfers.list_open_from_remote_job(conn, sender, source):
            if transfer.connection_id == connection_id:
                ended = transfers.mark_ended(conn, transfer.transfer_id, TransferStatus.FAILED, reason, now=now)
                news.transfers_ended.append(ended)
        news.touch(conn, duty.workflow_execution_id)
        return True
    try:
        cancel_job(conn, duty.job_execution_id, JobEnd(error=reason), now=now, news=news)
    except StaleState:
        return False
    return True


def complete_transfer(
    conn: sqlite3.Connection,
    transfer_id: TransferId,
    files: Sequence[FileEntry],
    *,
    started_at: datetime | None = None,
    rate_bytes_s: float | None = None,
    sealed: bool = False,
    now: datetime,
    news: News,
) -> Transfer:
    """PENDING or ACTIVE -> COMPLETED: the duty is acknowledged at both ends and the receiver told. Raises `StaleState`."""
    size_bytes = sum(entry.size_bytes for entry in files)
    count = sum(1 for entry in files if entry.sha256)
    transfer = transfers.mark_completed(
        conn,
        transfer_id,
        file_count=count,
        size_bytes=size_bytes,
        started_at=started_at or now,
        rate_bytes_s=rate_bytes_s,
        sealed=sealed,
        now=now,
    )
    for row_id in (transfer.source_peer_row_id, transfer.dest_peer_row_id):
        if row_id is not None and job_interfaces.acknowledge_duty(conn, row_id):
            news.acknowledged.append(row_id)
    if transfer.result_id is not None:
        results.mark_arrived(conn, transfer.result_id, files)
    if transfer.direction is not TransferDirection.OUTGOING and transfer.dest_job_execution_id != SELF_PEER_JOB:
        news.inputs_changed.append(transfer.dest_job_execution_id)
        job_reports.post_report(conn, transfer.dest_job_execution_id, now=now)
    news.transfers_ended.append(transfer)
    news.touch(conn, transfer.workflow_execution_id)
    _settle_sender(conn, transfer, now=now, news=news)
    return transfer


def _settle_sender(conn: sqlite3.Connection, transfer: Transfer, *, now: datetime, news: News) -> None:
    """See what the end of a delivery means for the job that owed it, if that is one of this peer."""
    if transfer.direction is TransferDirection.INCOMING or transfer.source_job_execution_id == SELF_PEER_JOB:
        return
    job_reports.post_report(conn, transfer.source_job_execution_id, now=now)
    settle_data_job(conn, transfer.source_job_execution_id, now=now, news=news)


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


def call_off_transfer(
    conn: sqlite3.Connection, transfer_id: TransferId, reason: str, *, now: datetime, news: News
) -> Transfer:
    """PENDING or ACTIVE -> CANCELLED: its receiver has ended, and says so. Raises `StaleState`."""
    transfer = transfers.mark_ended(conn, transfer_id, TransferStatus.CANCELLED, reason, now=now)
    news.transfers_ended.append(transfer)
    news.touch(conn, transfer.workflow_execution_id)
    _settle_sender(conn, transfer, now=now, news=news)
    return transfer


def fail_transfer(
    conn: sqlite3.Connection, transfer_id: TransferId, error: str, *, now: datetime, news: News
) -> Transfer:
    """PENDING or ACTIVE -> FAILED for good: its receiver can never run. Raises `StaleState`."""
    transfer = transfers.mark_ended(conn, transfer_id, TransferStatus.FAILED, error, now=now)
    news.transfers_ended.append(transfer)
    news.touch(conn, transfer.workflow_execution_id)
    if transfer.result_id is not None:
        results.mark_failed(conn, transfer.result_id, error)
    reason = f"an input could not be delivered: {error}"
    if transfer.direction is TransferDirection.OUTGOING:
        _tell_receiver(conn, transfer, reason, now=now)
    elif transfer.dest_job_execution_id != SELF_PEER_JOB:
        # The receiver may have ended on its own; the transfer's row keeps the reason.
        with contextlib.suppress(StaleState):
            cancel_job(conn, transfer.dest_job_execution_id, JobEnd(error=reason), now=now, news=news)
    _settle_sender(conn, transfer, now=now, news=news)
    return transfer


def _tell_receiver(conn: sqlite3.Connection, transfer: Transfer, reason: str, *, now: datetime) -> None:
    """Have the peer at the other end told that a delivery will never come."""
    notice = DataTransferFailed(
        ordering_peer_id=transfer.ordering_peer_id,
        execution_uid=transfer.execution_uid,
        connection_id=transfer.connection_id,
        reason=reason,
    )
    _post_notice(conn, transfer.dest_peer_id, notice, now=now)


def _post_nothing_comes(
    conn: sqlite3.Connection,
    receiver: PeerId,
    job: JobExecution,
    connection_id: ConnectionId,
    reason: str,
    *,
    now: datetime,
) -> None:
    notice = DataTransferFailed(
        ordering_peer_id=job.ordering_peer_id,
        execution_uid=job.execution_uid,
        connection_id=connection_id,
        reason=reason,
    )
    _post_notice(conn, receiver, notice, now=now)


def _post_notice(conn: sqlite3.Connection, receiver: PeerId, notice: DataTransferFailed, *, now: datetime) -> None:
    key = f"{notice.ordering_peer_id}/{notice.execution_uid}/{notice.connection_id}"
    outbox.post(conn, receiver, notice.type, key, fields_of(notice), now=now)


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


def _cancel_deliveries(conn: sqlite3.Connection, job: JobExecution, reason: str, *, now: datetime, news: News) -> None:
    sources: set[JobExecutionId] = set()
    if job.executor_peer_id == here(job):
        found = transfers.list_open_of_job(conn, job.id)
    else:
        remote_id = job.remote_job_execution_id or job.id
        found = transfers.list_open_to_remote_job(conn, job.executor_peer_id, remote_id)
        coming = transfers.list_open_from_remote_job(conn, job.executor_peer_id, remote_id)
        found += [transfer.transfer_id for transfer in coming]
    for transfer_id in found:
        transfer = transfers.mark_ended(conn, transfer_id, TransferStatus.CANCELLED, reason, now=now)
        news.transfers_ended.append(transfer)
        if transfer.direction is not TransferDirection.INCOMING:
            sources.add(transfer.source_job_execution_id)
    if job.workflow_execution_id is not None:
        results.mark_failed_of_job(conn, job.workflow_execution_id, job.id, reason)
    for source in sources - {job.id}:
        settle_data_job(conn, source, now=now, news=news)
