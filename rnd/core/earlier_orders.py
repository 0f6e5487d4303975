"""Which jobs of other peers' earlier executions serve again in place of those that they order now (ruling 21).

An orchestrator that retries asks in phase 1. Only what it ordered itself is ever looked at, and whatever is in doubt runs anew.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rnd.core.foreign_orders import with_own_service_id
from rnd.database import job_executions, job_interfaces, offered_services, results, transfers
from rnd.database.connection import Database
from rnd.database.consequences import reuse_job
from rnd.database.news import News
from rnd.rules.reuse import could_not_deliver, is_held, is_same_work, reused_order, serves_again
from rnd.types.errors import NotFound
from rnd.types.executions import FileEntry, JobExecution
from rnd.types.ids import ExecutionUid, JobExecutionId, NodeId
from rnd.types.orders import JobRequest
from rnd.workers.job_folders import JobFolders
from rnd.workers.staging import lies_where_it_was_left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """A job that may serve again, the job in whose folder its outputs lie, and the execution which that ran in."""

    job: JobExecution
    source: JobExecution
    origin: ExecutionUid


async def find_serving(
    database: Database, folders: JobFolders, requests: Sequence[JobRequest], *, now: datetime
) -> set[NodeId]:
    """Return the nodes of those requests whose earlier job serves again, with its outputs looked at on the disk."""
    asking = [request for request in requests if request.reuse_of is not None]
    if not asking:
        return set()

    def read(conn: sqlite3.Connection) -> dict[NodeId, tuple[JobExecution, Mapping[str, Sequence[FileEntry]]]]:
        found = {request.plan.node_id: _find(conn, request, now=now) for request in asking}
        return {
            node_id: (serving.source, results.list_outputs(conn, serving.job.id))
            for node_id, serving in found.items()
            if serving is not None
        }

    def look() -> set[NodeId]:
        return {
            node_id for node_id, (source, outputs) in left.items() if lies_where_it_was_left(folders, source, outputs)
        }

    left = await database.read(read)
    return await asyncio.to_thread(look)


def let_serve(conn: sqlite3.Connection, request: JobRequest, job_id: JobExecutionId, *, now: datetime) -> bool:
    """Complete a job that was just created by what its earlier one left; False where that has gone in the meantime."""
    serving = _find(conn, request, now=now)
    if serving is None:
        return False
    reuse_job(conn, job_executions.get_job(conn, job_id), serving.job, origin=serving.origin, now=now, news=News())
    return True


def _find(conn: sqlite3.Connection, request: JobRequest, *, now: datetime) -> _Serving | None:
    if request.reuse_of is None or request.bounds is None:
        return None
    plan = with_own_service_id(conn, request).plan
    job = job_executions.find_order(
        conn,
        orderer=request.orchestrator_peer_id,
        execution_uid=request.reuse_of,
        node_id=plan.node_id,
        executor=plan.executor_peer_id,
    )
    if job is None or not serves_again(job) or not is_held(job, now=now):
        return None
    if could_not_deliver(job, transfers.list_by_source_job(conn, job.id)):
        return None
    try:
        service = offered_services.get_service(conn, plan.service_id)
        source = job_executions.get_outputs_job(conn, job)
    except NotFound:
        return None
    is_same = is_same_work(plan, job, job_interfaces.list_interfaces(conn, job.id))
    if not is_same or service.revision != job.service_revision:
        return None
    return _Serving(job=job, source=source, origin=reused_order(job) or job.execution_uid)
