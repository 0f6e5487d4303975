"""Methods about what runs: executions, jobs, transfers and results (document: handlers_jobs, Debugging Guide)."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from rnd.api.confined_files import open_below
from rnd.api.context import ApiContext, Call
from rnd.api.downloads import download_key, result_url
from rnd.api.parameters import BadParameter
from rnd.api.rendering import (
    JsonMembers,
    render,
    render_execution,
    render_job,
    render_page,
    render_transfer,
)
from rnd.database import job_executions, job_interfaces, results, transfers, workflow_executions, workflow_jobs
from rnd.rules.explain import Explanation, explain_uncreated, explain_unreachable, explained_elsewhere
from rnd.rules.lifecycle import execution_is_terminal, job_is_terminal
from rnd.types.enums import ExecutionStatus, JobStatus, LogStream, ServiceType, TransferStatus
from rnd.types.errors import Conflict, NotFound, PeerRefused, PeerUnreachable, TimedOut
from rnd.types.executions import JobExecution, WorkflowJob
from rnd.types.ids import ConnectionId, ExecutionId, JobExecutionId, NodeId, PeerId, ServiceId, TransferId, WorkflowId
from rnd.workers.job_folders import JobFolders

LOG_BYTES_MAX: Final = 256 << 10
LOG_BYTES_MIN: Final = 16
_UTF8_TAIL_BYTES: Final = 3


async def execution_get(call: Call, *, execution_id: ExecutionId, with_definition: bool = False) -> JsonMembers:
    """Answer `execution.get`."""
    now = call.api.clock.now()
    return await call.api.database.read(
        lambda conn: _execution_with_jobs(conn, execution_id, now=now, with_definition=with_definition)
    )


def _execution_with_jobs(
    conn: sqlite3.Connection, execution_id: ExecutionId, *, now: datetime, with_definition: bool
) -> JsonMembers:
    execution = workflow_executions.get_execution(conn, execution_id)
    definition = {"definition": json.loads(execution.definition)} if with_definition else {}
    return {
        **definition,
        **render_execution(execution),
        "jobs": render(workflow_jobs.list_workflow_jobs(conn, execution_id)),
        "progress": render(workflow_jobs.execution_progress(conn, execution_id, now=now)),
    }


async def execution_list(
    call: Call,
    *,
    workflow_id: WorkflowId | None = None,
    status: ExecutionStatus | None = None,
    newest_first: bool,
    limit: int,
    after_id: int,
) -> JsonMembers:
    """Answer `execution.list`, with how many jobs of each have ended."""

    def find(conn: sqlite3.Connection) -> JsonMembers:
        page = workflow_executions.list_executions(
            conn, workflow_id=workflow_id, status=status, limit=limit, after_id=after_id, newest_first=newest_first
        )
        counts = workflow_jobs.count_jobs(conn, [execution.id for execution in page.items])
        none = workflow_jobs.JobCounts()
        return render_page(page, lambda each: {**render_execution(each), **render(counts.get(each.id, none))})

    return await call.api.database.read(find)


async def execution_wait(call: Call, *, execution_id: ExecutionId, timeout_s: float) -> JsonMembers:
    """Answer `execution.wait`: at the end of the execution, or when the time is up."""
    await call.api.workflow_manager.wait(execution_id, timeout_s=timeout_s)
    return await execution_get(call, execution_id=execution_id)


async def execution_cancel(call: Call, *, execution_id: ExecutionId, reason: str) -> JsonMembers:
    """Answer `execution.cancel`: the wish is durable; the status follows when every job has ended."""
    await call.api.workflow_manager.cancel(execution_id, reason=reason)
    return await execution_get(call, execution_id=execution_id)


async def execution_retry(
    call: Call,
    *,
    execution_id: ExecutionId,
    passphrase: str | None = None,
    passphrases: Mapping[ServiceId, str],
) -> JsonMembers:
    """Answer `execution.retry`; passphrases are asked for again, since none is ever kept."""
    retried = await call.api.workflow_manager.retry(execution_id, passphrase=passphrase, passphrases=passphrases)
    return {"execution_id": retried, "retry_of": execution_id}


async def execution_results(call: Call, *, execution_id: ExecutionId, limit: int, after_id: int) -> JsonMembers:
    """Answer `execution.results`: the files that reached the self-peer, page by page, and what has not come."""
    data_dir = call.api.config.data_dir

    def shape(file: results.ResultFile) -> JsonMembers:
        return {
            "id": file.id,
            "node_id": file.node_id,
            "connection_id": file.connection_id,
            "path": file.relative_path,
            "absolute_path": str(data_dir / file.directory / file.relative_path),
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "executable": file.executable,
            "url": result_url(execution_id, file.node_id, file.connection_id, file.relative_path),
        }

    def find(conn: sqlite3.Connection) -> JsonMembers:
        workflow_executions.get_execution(conn, execution_id)
        page = results.list_results(conn, execution_id, limit=limit, after_id=after_id)
        return {
            **render_page(page, shape),
            "outstanding": [
                {"node_id": row.node_id, "connection_id": row.connection_id, "error": row.error}
                for row in results.list_result_rows(conn, execution_id)
                if not row.duty_acknowledged
            ],
        }

    return await call.api.database.read(find)


async def execution_ticket(
    call: Call, *, execution_id: ExecutionId, node_id: NodeId, connection_id: ConnectionId, path: str
) -> JsonMembers:
    """Answer `execution.ticket`: a link that downloads one file once, within 60 s, without a token."""
    await call.api.database.read(
        lambda conn: results.get_result_file(
            conn, execution_id=execution_id, node_id=node_id, connection_id=connection_id, path=path
        )
    )
    ticket, expires_at = call.api.tickets.issue(download_key(execution_id, node_id, connection_id, path))
    url = result_url(execution_id, node_id, connection_id, path)
    return {"ticket": ticket, "url": f"{url}?ticket={ticket}", "expires_at": render(expires_at)}


# ---------------------------------------------------------------- jobs


async def job_get(call: Call, *, job_execution_id: JobExecutionId) -> JsonMembers:
    """Answer `job.get`."""
    return render_job(await call.api.database.read(lambda conn: job_executions.get_job(conn, job_execution_id)))


async def job_cancel(call: Call, *, job_execution_id: JobExecutionId, reason: str) -> JsonMembers:
    """Answer `job.cancel`: the owner ends what another peer has ordered here; that peer is told as of any other end."""
    api = call.api
    job = await api.database.read(lambda conn: job_executions.get_job(conn, job_execution_id))
    if job.workflow_execution_id is not None:
        raise Conflict(
            f"Job {job.id} belongs to execution {job.workflow_execution_id} of this peer",
            hint="execution.cancel ends the whole execution; a part of it is of no use.",
        )
    if job_is_terminal(job.status):
        raise Conflict(f"Job {job.id} is {job.status} already", hint="A job that has ended cannot be cancelled.")
    await api.job_manager.cancel_jobs([job.id], reason=reason)
    return await job_get(call, job_execution_id=job.id)


async def job_list(
    call: Call,
    *,
    status: JobStatus | None = None,
    execution_id: ExecutionId | None = None,
    newest_first: bool,
    limit: int,
    after_id: int,
) -> JsonMembers:
    """Answer `job.list`."""
    page = await call.api.database.read(
        lambda conn: job_executions.list_jobs(
            conn, status=status, execution_id=execution_id, limit=limit, after_id=after_id, newest_first=newest_first
        )
    )
    return render_page(page, render_job)


async def job_interfaces_of(call: Call, *, job_execution_id: JobExecutionId) -> list[JsonMembers]:
    """Answer `job.interfaces`: the job's complete routing and which duties are done."""

    def find(conn: sqlite3.Connection) -> list[JsonMembers]:
        job_executions.get_job(conn, job_execution_id)
        return [render(interface) for interface in job_interfaces.list_interfaces(conn, job_execution_id)]

    return await call.api.database.read(find)


async def job_explain(
    call: Call,
    *,
    job_execution_id: JobExecutionId | None = None,
    execution_id: ExecutionId | None = None,
    node_id: NodeId | None = None,
) -> JsonMembers:
    """Answer `job.explain`."""
    find = _chosen_job(job_execution_id, execution_id, node_id)

    def work(conn: sqlite3.Connection) -> tuple[JobExecution | WorkflowJob, bool]:
        if execution_id is not None and node_id is not None:
            uncreated = workflow_jobs.find_uncreated_job(conn, execution_id, node_id)
            if uncreated is not None:
                return uncreated, True
        job = find(conn)
        return job, job.executor_peer_id == call.api.peer_id or _is_on_record(conn, job)

    job, is_known_here = await call.api.database.read(work)
    if isinstance(job, WorkflowJob):
        explanation = explain_uncreated(job, away=_why_away(call.api, job.executor_peer_id))
    elif is_known_here:
        explanation = await call.api.job_manager.explain(job.id)
    else:
        explanation = await _explain_elsewhere(call.api, job)
    answer: JsonMembers = render(explanation)
    return answer


def _why_away(api: ApiContext, peer_id: PeerId) -> str:
    if peer_id == api.peer_id or api.peers.is_connected(peer_id):
        return ""
    return api.peers.last_failure(peer_id) or "it has not come, and was not dialled"


async def _explain_elsewhere(api: ApiContext, job: JobExecution) -> Explanation:
    """Have the executor of a job say why it has not ended; where it cannot be asked, say what is known here."""
    try:
        return explained_elsewhere(job, await api.peers.explain(job))
    except (PeerUnreachable, PeerRefused, TimedOut) as error:
        execution_id, why, do = job.workflow_execution_id, error.message, error.hint
    deadline_at = None
    if execution_id is not None:
        execution = await api.database.read(lambda conn: workflow_executions.get_execution(conn, execution_id))
        deadline_at = execution.deadline_at
    return explain_unreachable(job, why, do=do, deadline_at=deadline_at)


def _is_on_record(conn: sqlite3.Connection, job: JobExecution) -> bool:
    """Say whether all that matters of a job elsewhere is on record here, so that its executor need not be there.

    That is why it is not started, and how it has ended; but not how far the deliveries are that it owes to others.
    """
    if job.status is JobStatus.COMPLETED and job.workflow_execution_id is not None:
        state = workflow_executions.get_state(conn, job.workflow_execution_id)
        is_over = state is None or execution_is_terminal(state.status)
        return is_over or not job_interfaces.owes_deliveries(conn, job.id)
    return job_is_terminal(job.status) or (job.status is JobStatus.IDLE and not job.start_received)


async def job_logs(
    call: Call,
    *,
    job_execution_id: JobExecutionId | None = None,
    execution_id: ExecutionId | None = None,
    node_id: NodeId | None = None,
    stream: LogStream,
    offset: int,
    limit_bytes: int,
) -> JsonMembers:
    """Answer `job.logs`: a piece of a captured stream from a byte offset; `eof` once no more can follow."""
    api = call.api
    job = await api.database.read(_chosen_job(job_execution_id, execution_id, node_id))
    if job.executor_peer_id != api.peer_id:
        return await _logs_elsewhere(api, job, stream, offset, limit_bytes)
    piece = await asyncio.to_thread(
        _read_log, JobFolders(api.config.data_dir).job(job), f"logs/{stream}.txt", offset, limit_bytes
    )
    # The job was read first: if it had ended then, nothing was written after it.
    ended = job_is_terminal(job.status) or job.service_type is ServiceType.DATA
    return _piece_of_log(job, piece, offset=offset, eof=ended and len(piece) < limit_bytes)


async def _logs_elsewhere(
    api: ApiContext, job: JobExecution, stream: LogStream, offset: int, limit_bytes: int
) -> JsonMembers:
    """Have the executor of a job say what the job wrote. Raises `PeerUnreachable`, `PeerRefused`."""
    piece, _, eof = await api.peers.job_logs(job, stream=stream, offset=offset, limit_bytes=limit_bytes)
    # Where the next piece begins follows from what came: no answer of another peer can send a reader elsewhere.
    kept = piece[:limit_bytes]
    return _piece_of_log(job, kept, offset=offset, eof=eof and len(kept) == len(piece))


def _piece_of_log(job: JobExecution, piece: bytes, *, offset: int, eof: bool) -> JsonMembers:
    text, taken = _whole_characters(piece, final=eof)
    return {
        "data": text,
        "next_offset": offset + taken,
        "eof": eof,
        "job_execution_id": job.id,
        "status": job.status,
    }


def _chosen_job(
    job_execution_id: JobExecutionId | None, execution_id: ExecutionId | None, node_id: NodeId | None
) -> Callable[[sqlite3.Connection], JobExecution]:
    """Return what finds the job that a call names in one of two ways. Raises `BadParameter`."""
    if job_execution_id is not None and execution_id is None and node_id is None:
        return lambda conn: job_executions.get_job(conn, job_execution_id)
    if job_execution_id is None and execution_id is not None and node_id is not None:
        return lambda conn: job_executions.find_job(conn, execution_id=execution_id, node_id=node_id)
    raise BadParameter("job_execution_id", "give either this, or execution_id and node_id")


def _read_log(job_folder: Path, name: str, offset: int, limit_bytes: int) -> bytes:
    """Return a piece of a log; nothing where the job has not begun to write."""
    try:
        descriptor = open_below(job_folder, name)
    except NotFound:
        return b""
    try:
        return os.pread(descriptor, limit_bytes, offset)
    finally:
        os.close(descriptor)


def _whole_characters(piece: bytes, *, final: bool) -> tuple[str, int]:
    """Return the text of a piece and how many bytes it took: a character that is cut off waits for the next piece."""
    if not final:
        for tail in range(1, min(_UTF8_TAIL_BYTES, len(piece)) + 1):
            lead = piece[-tail]
            if lead >= 0xC0:
                needed = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
                piece = piece[:-tail] if needed > tail else piece
                break
            if lead < 0x80:
                break
    return piece.decode("utf-8", errors="replace"), len(piece)


# ---------------------------------------------------------------- transfers


async def transfer_get(call: Call, *, transfer_id: TransferId) -> JsonMembers:
    """Answer `transfer.get`."""
    api = call.api
    transfer = await api.database.read(lambda conn: transfers.get_transfer(conn, transfer_id))
    return render_transfer(transfer, self_peer=api.peer_id, now=api.clock.now())


async def transfer_list(
    call: Call,
    *,
    execution_id: ExecutionId | None = None,
    status: TransferStatus | None = None,
    limit: int,
    after_id: int,
) -> JsonMembers:
    """Answer `transfer.list`."""
    api = call.api
    now = api.clock.now()
    page = await api.database.read(
        lambda conn: transfers.list_transfers(
            conn, execution_id=execution_id, status=status, limit=limit, after_id=after_id
        )
    )
    return render_page(page, lambda transfer: render_transfer(transfer, self_peer=api.peer_id, now=now))
