"""What is owed: the deliveries that a job has to make once it has completed, and those of the self-peer to a started job.

A delivery is a row in `transfers` before anybody does anything about it; where both ends are on this peer it is LOCAL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime

from rnd.database import job_executions, job_interfaces, mirrors, results, transfers
from rnd.database.news import News
from rnd.database.transfers import NewTransfer
from rnd.rules.reuse import is_reused
from rnd.types.enums import JobStatus, MountFunction, TransferDirection
from rnd.types.errors import JobFailed, NotFound
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface
from rnd.types.ids import SELF_PEER_JOB, InterfacePeerId, JobExecutionId, PeerId, TransferId

NewTransferId = Callable[[], TransferId]


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
            made = _owe(conn, job, peer, new_transfer_id=new_transfer_id, now=now)
            created += made
            if peer.peer_id == job.executor_peer_id:
                news.transfers_created += made
            else:
                news.outgoing_created += made
    return created


def owe_inputs_from_self_peer(
    conn: sqlite3.Connection,
    job_execution_id: JobExecutionId,
    *,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> None:
    """Write down what the self-peer has to send to a started job, here or on another peer."""
    job = job_executions.get_job(conn, job_execution_id)
    for interface in job_interfaces.list_interfaces(conn, job_execution_id):
        for peer in interface.peers:
            if peer.peer_mount_function is MountFunction.OUTPUT and peer.peer_job_execution_id == SELF_PEER_JOB:
                _owe_from_self_peer(conn, job, peer, new_transfer_id=new_transfer_id, now=now, news=news)


def here(job: JobExecution) -> PeerId:
    """Return the id of this peer, as a row of its own tells it: a mirror's executor is another."""
    is_mirror = job.workflow_job_id is not None and job.remote_job_execution_id is not None
    return job.ordering_peer_id if is_mirror else job.executor_peer_id


def is_of_order(conn: sqlite3.Connection, job_execution_id: JobExecutionId, job: JobExecution) -> bool:
    """Say whether a job of this peer belongs to the same execution: a route may name any number."""
    try:
        other = job_executions.get_job(conn, job_execution_id)
    except NotFound:
        return False
    return (other.ordering_peer_id, other.execution_uid) == (job.ordering_peer_id, job.execution_uid)


def _owe(
    conn: sqlite3.Connection, job: JobExecution, peer: InterfacePeer, *, new_transfer_id: NewTransferId, now: datetime
) -> bool:
    receiver = peer.peer_job_execution_id
    if receiver is None:
        raise JobFailed(f"job {job.id} was started without a route for connection {peer.connection_id}")
    is_here = peer.peer_id == job.executor_peer_id
    dest_row: InterfacePeerId | None = None
    result_id = None
    if receiver == SELF_PEER_JOB:
        if job.workflow_execution_id is not None:
            result = results.find_result(conn, execution_id=job.workflow_execution_id, connection_id=peer.connection_id)
            result_id = None if result is None else result.id
    else:
        row = _receiver_row(conn, job, peer, receiver, is_here=is_here)
        if row is not None and is_reused(row):
            job_interfaces.acknowledge_duty(conn, peer.id)  # it has what this would bring
            return False
        if row is not None and row.status is not JobStatus.IDLE:
            return False  # the receiver has ended without waiting for this; nobody is left to deliver to
        if row is not None:
            end = job_interfaces.find_end(conn, job_execution_id=row.id, connection_id=peer.connection_id)
            dest_row = None if end is None else end.interface_peer_id
    new = NewTransfer(
        transfer_id=new_transfer_id(),
        direction=TransferDirection.LOCAL if is_here else TransferDirection.OUTGOING,
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


def _receiver_row(
    conn: sqlite3.Connection, job: JobExecution, peer: InterfacePeer, receiver: JobExecutionId, *, is_here: bool
) -> JobExecution | None:
    """Return this peer's row of the job that a connection feeds: the job itself, its mirror, or none of it.

    Raises `JobFailed` where a route names a job of this peer that belongs to another execution.
    """
    if not is_here:
        if job.workflow_job_id is None or peer.peer_workflow_job_id is None:
            return None
        return mirrors.find_by_workflow_job(conn, peer.peer_workflow_job_id)
    try:
        found = job_executions.get_job(conn, receiver)
    except NotFound:
        return None
    if not is_of_order(conn, receiver, job):
        raise JobFailed(f"connection {peer.connection_id} of job {job.id} leads to a job of another execution")
    return found


def _owe_from_self_peer(
    conn: sqlite3.Connection,
    job: JobExecution,
    peer: InterfacePeer,
    *,
    new_transfer_id: NewTransferId,
    now: datetime,
    news: News,
) -> None:
    self_peer_id = here(job)
    if job.ordering_peer_id != self_peer_id:
        return  # the self-peer is another peer's, which sends by itself
    is_here = job.executor_peer_id == self_peer_id
    new = NewTransfer(
        transfer_id=new_transfer_id(),
        direction=TransferDirection.LOCAL if is_here else TransferDirection.OUTGOING,
        workflow_execution_id=job.workflow_execution_id,
        ordering_peer_id=job.ordering_peer_id,
        execution_uid=job.execution_uid,
        connection_id=peer.connection_id,
        source_peer_id=peer.peer_id,
        source_job_execution_id=SELF_PEER_JOB,
        dest_peer_id=job.executor_peer_id,
        dest_job_execution_id=job.id if is_here else job.remote_job_execution_id or job.id,
        source_peer_row_id=None,
        dest_peer_row_id=peer.id,
        result_id=None,
        source_path=peer.source_path,
    )
    made = transfers.create_transfer(conn, new, now=now)
    if is_here:
        news.transfers_created += made
    else:
        news.outgoing_created += made
