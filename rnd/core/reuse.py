"""What a retry takes from the execution before it, and what it has to run anew (ruling 21).

Outputs serve again only as long as they lie where their manifest says; a job whose outputs are gone runs again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rnd.database import job_executions, results
from rnd.database.connection import Database
from rnd.types.definitions import JobPlan, WorkflowDefinition
from rnd.types.enums import JobStatus, MountFunction, ServiceType
from rnd.types.errors import NotFound
from rnd.types.executions import FileEntry, JobExecution
from rnd.types.ids import ExecutionId, NodeId
from rnd.workers.job_folders import JobFolders
from rnd.workers.staging import lies_where_it_was_left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What a completed job left: its manifest, and the job in whose folder it lies."""

    job: JobExecution
    outputs: Mapping[str, Sequence[FileEntry]]


async def find_reusable(
    database: Database, folders: JobFolders, earlier_id: ExecutionId, definition: WorkflowDefinition
) -> list[NodeId]:
    """Return the nodes whose job in an earlier execution serves again, in the definition's order."""
    earlier, left = await database.read(lambda conn: _read(conn, earlier_id))

    def look() -> set[NodeId]:
        return {node_id for node_id, one in left.items() if lies_where_it_was_left(folders, one.job, one.outputs)}

    return reusable_nodes(definition, earlier, still_there=await asyncio.to_thread(look))


def reusable_nodes(
    definition: WorkflowDefinition, earlier: Mapping[NodeId, JobExecution], *, still_there: set[NodeId]
) -> list[NodeId]:
    """Decide what `find_reusable` returns; `still_there` are the nodes whose outputs lie where they were left.

    DATA has no outputs of its own to reuse: it runs again unless everything it feeds is reused. A job that was set to
    COMPLETED by hand has no manifest, and runs again.
    """
    completed = {
        node_id
        for node_id, job in earlier.items()
        if job.status is JobStatus.COMPLETED and job.remote_job_execution_id is None  # what lies elsewhere is made anew
    }
    programs = {
        plan.node_id
        for plan in definition.jobs
        if plan.node_id in completed & still_there
        and plan.service_type is not ServiceType.DATA
        and _has_outputs(earlier[plan.node_id])
    }
    data = {
        plan.node_id
        for plan in definition.jobs
        if plan.node_id in completed and plan.service_type is ServiceType.DATA and set(_receivers(plan)) <= programs
    }
    return [plan.node_id for plan in definition.jobs if plan.node_id in programs | data]


def _read(
    conn: sqlite3.Connection, execution_id: ExecutionId
) -> tuple[dict[NodeId, JobExecution], dict[NodeId, _Left]]:
    jobs = {job.node_id: job for job in job_executions.list_jobs_of_execution(conn, execution_id)}
    left: dict[NodeId, _Left] = {}
    for node_id, job in jobs.items():
        if job.status is not JobStatus.COMPLETED or job.service_type is ServiceType.DATA:
            continue
        with suppress(NotFound):  # the job whose outputs it took has been deleted by hand
            left[node_id] = _Left(job=_source(conn, job), outputs=results.list_outputs(conn, job.id))
    return jobs, left


def _source(conn: sqlite3.Connection, job: JobExecution) -> JobExecution:
    origin = job_executions.reused_execution(job)
    return job if origin is None else job_executions.find_job(conn, execution_id=origin, node_id=job.node_id)


def _has_outputs(job: JobExecution) -> bool:
    return job.exit_code == 0 or job_executions.reused_execution(job) is not None


def _receivers(plan: JobPlan) -> list[NodeId | None]:
    return [
        peer.peer_workflow_node_id
        for interface in plan.interfaces
        for peer in interface.interface_peers
        if peer.peer_mount_function is MountFunction.INPUT
    ]
