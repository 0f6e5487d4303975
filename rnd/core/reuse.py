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

from rnd.database import job_executions, results, workflow_executions
from rnd.database.connection import Database
from rnd.rules.reuse import programs_to_reuse, reused_execution
from rnd.types.definitions import WorkflowDefinition
from rnd.types.errors import NotFound
from rnd.types.executions import FileEntry, JobExecution
from rnd.types.ids import ExecutionId, ExecutionUid, NodeId
from rnd.workers.job_folders import JobFolders
from rnd.workers.staging import lies_where_it_was_left


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierExecution:
    """The execution that a retry goes on from. `programs_here` serve again, `programs_elsewhere` if their executors say so."""

    id: ExecutionId
    execution_uid: ExecutionUid
    jobs: Mapping[NodeId, JobExecution]
    programs_here: frozenset[NodeId]
    programs_elsewhere: frozenset[NodeId]

    def origin(self, node_id: NodeId) -> ExecutionId:
        """Return the execution in which the job of a node truly ran."""
        return reused_execution(self.jobs[node_id]) or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What a completed job left: its manifest, and the job in whose folder it lies."""

    job: JobExecution
    outputs: Mapping[str, Sequence[FileEntry]]


async def find_earlier(
    database: Database, folders: JobFolders, earlier_id: ExecutionId, definition: WorkflowDefinition
) -> EarlierExecution:
    """Return what a retry of an execution of this definition may take from it."""

    def read(conn: sqlite3.Connection) -> tuple[ExecutionUid, dict[NodeId, JobExecution], dict[NodeId, _Left]]:
        jobs = {job.node_id: job for job in job_executions.list_jobs_of_execution(conn, earlier_id)}
        programs = programs_to_reuse(definition, jobs)
        here = [jobs[node_id] for node_id in programs if jobs[node_id].remote_job_execution_id is None]
        uid = workflow_executions.get_execution(conn, earlier_id).execution_uid
        return uid, jobs, _read_left(conn, here)

    def look(left: Mapping[NodeId, _Left]) -> frozenset[NodeId]:
        return frozenset(
            node_id for node_id, one in left.items() if lies_where_it_was_left(folders, one.job, one.outputs)
        )

    uid, jobs, left = await database.read(read)
    programs = programs_to_reuse(definition, jobs)
    return EarlierExecution(
        id=earlier_id,
        execution_uid=uid,
        jobs=jobs,
        programs_here=await asyncio.to_thread(look, left),
        programs_elsewhere=frozenset(
            node_id for node_id in programs if jobs[node_id].remote_job_execution_id is not None
        ),
    )


def _read_left(conn: sqlite3.Connection, jobs: Sequence[JobExecution]) -> dict[NodeId, _Left]:
    left: dict[NodeId, _Left] = {}
    for job in jobs:
        with suppress(NotFound):  # the job whose outputs it took has been deleted by hand
            source = job_executions.get_outputs_job(conn, job)
            left[job.node_id] = _Left(job=source, outputs=results.list_outputs(conn, job.id))
    return left
