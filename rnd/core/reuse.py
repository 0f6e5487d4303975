"""What a retry takes from the execution before it, and what it has to run anew (ruling 21).

Outputs serve again only as long as they lie where their manifest says; a job whose outputs are gone runs again. Here that
is looked up; of a job on another peer its executor is asked in phase 1, and looks it up there (`earlier_orders.py`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from rnd.database import job_executions, results, transfers, workflow_executions
from rnd.database.connection import Database
from rnd.rules.reuse import could_not_deliver, never_ran, programs_to_reuse, reused_execution
from rnd.types.definitions import WorkflowDefinition
from rnd.types.errors import NotFound
from rnd.types.executions import FileEntry, JobExecution
from rnd.types.ids import ExecutionId, NodeId
from rnd.workers.job_folders import JobFolders
from rnd.workers.staging import lies_where_it_was_left

RETRIES_BACK: Final = 100
"""Over how many retries in a row, each of which came to nothing, the last run of a job is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierExecution:
    """The execution that a retry goes on from. `programs_here` serve again, `programs_elsewhere` if their executors say so.

    `jobs` are those that ran last: where one of this execution never did, that of the execution which it was itself a retry of.
    """

    id: ExecutionId
    jobs: Mapping[NodeId, JobExecution]
    programs_here: frozenset[NodeId]
    programs_elsewhere: frozenset[NodeId]

    def origin(self, node_id: NodeId) -> ExecutionId:
        """Return the execution in which the job of a node truly ran."""
        job = self.jobs[node_id]
        return reused_execution(job) or job.workflow_execution_id or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What a completed job left: its manifest, and the job in whose folder it lies."""

    job: JobExecution
    outputs: Mapping[str, Sequence[FileEntry]]


async def find_earlier(
    database: Database, folders: JobFolders, earlier_id: ExecutionId, definition: WorkflowDefinition
) -> EarlierExecution:
    """Return what a retry of an execution of this definition may take from it."""

    def read(conn: sqlite3.Connection) -> tuple[dict[NodeId, JobExecution], dict[NodeId, _Left]]:
        jobs = _read_jobs(conn, earlier_id, {plan.node_id for plan in definition.jobs})
        programs = programs_to_reuse(definition, jobs)
        here = [jobs[node_id] for node_id in programs if jobs[node_id].remote_job_execution_id is None]
        return jobs, _read_left(conn, here)

    def look(left: Mapping[NodeId, _Left]) -> frozenset[NodeId]:
        return frozenset(
            node_id for node_id, one in left.items() if lies_where_it_was_left(folders, one.job, one.outputs)
        )

    jobs, left = await database.read(read)
    programs = programs_to_reuse(definition, jobs)
    return EarlierExecution(
        id=earlier_id,
        jobs=jobs,
        programs_here=await asyncio.to_thread(look, left),
        programs_elsewhere=frozenset(
            node_id for node_id in programs if jobs[node_id].remote_job_execution_id is not None
        ),
    )


def _read_jobs(
    conn: sqlite3.Connection, execution_id: ExecutionId, node_ids: set[NodeId]
) -> dict[NodeId, JobExecution]:
    """Return the job of each node that ran last: a retry that came to nothing takes nothing from the one after it."""
    jobs: dict[NodeId, JobExecution] = {}
    looked_at: ExecutionId | None = execution_id
    for _ in range(RETRIES_BACK):
        if looked_at is None:
            break
        for job in job_executions.list_jobs_of_execution(conn, looked_at):
            if job.node_id not in jobs or never_ran(jobs[job.node_id]):
                jobs[job.node_id] = job
        if all(node_id in jobs and not never_ran(jobs[node_id]) for node_id in node_ids):
            break
        try:
            looked_at = workflow_executions.get_execution(conn, looked_at).retry_of
        except NotFound:  # it has been forgotten, and its jobs with it
            break
    return jobs


def _read_left(conn: sqlite3.Connection, jobs: Sequence[JobExecution]) -> dict[NodeId, _Left]:
    left: dict[NodeId, _Left] = {}
    for job in jobs:
        if could_not_deliver(job, transfers.list_by_source_job(conn, job.id)):
            continue
        with suppress(NotFound):  # the job whose outputs it took has been deleted by hand
            source = job_executions.get_outputs_job(conn, job)
            # Once it is decided that they go, they do not serve any more, even where they are still there.
            if source.workflow_execution_id is None or not workflow_executions.is_cleared(
                conn, source.workflow_execution_id
            ):
                left[job.node_id] = _Left(job=source, outputs=results.list_outputs(conn, job.id))
    return left
