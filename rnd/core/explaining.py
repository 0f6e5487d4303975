"""Gathers the evidence by which `job.explain` finds the one reason why a job is where it is (document: Debugging Guide)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from rnd.core.job_runner import JobRunner
from rnd.database import (
    job_executions,
    job_interfaces,
    mirrors,
    offered_services,
    transfers,
    workflow_executions,
    workflow_jobs,
)
from rnd.database.connection import Database
from rnd.database.owing import here
from rnd.rules.evidence import Evidence, HandleState, ImageOnItsWay, OtherEnd
from rnd.rules.explain import Explanation, explain
from rnd.types.enums import JobStatus, MountFunction, ServiceStatus, WorkflowJobStatus
from rnd.types.errors import NotFound
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import SELF_PEER_JOB, ConnectionId, JobExecutionId, PeerId
from rnd.types.seams import Clock
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders


class Explainer:
    """Answers for one job at a time, from one snapshot of the rows."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        folders: JobFolders,
        runner: JobRunner,
        disk: DiskGuard,
        why_away: Callable[[PeerId], str],
        peer_id: PeerId,
    ) -> None:
        """`why_away` says why there is no link to another peer, "" where there is one."""
        self._database = database
        self._clock = clock
        self._folders = folders
        self._runner = runner
        self._disk = disk
        self._why_away = why_away
        self._peer_id = peer_id

    async def explain(self, job_execution_id: JobExecutionId, *, slots: tuple[int, int]) -> Explanation:
        """Say why a job is in its state; `slots` are the busy workers and all of them. Raises `NotFound`."""
        now = self._clock.now()
        evidence = await self._database.read(lambda conn: self._gather(conn, job_execution_id, now=now))
        disk_trouble = await asyncio.to_thread(self._disk.refusal)
        pull = self._runner.pull_of(job_execution_id)
        return explain(
            replace(
                evidence,
                executor_reason=self._runner.trouble_of(job_execution_id),
                pull=None
                if pull is None
                else ImageOnItsWay(
                    image=pull.image, status=pull.status, bytes_done=pull.bytes_done, bytes_total=pull.bytes_total
                ),
                slots_in_use=slots[0],
                slots_total=slots[1],
                handle=self._handle_state(evidence.job),
                other_ends=self._seen_now(evidence),
                disk_trouble=disk_trouble or "",
                orchestrator_away=self._away(evidence.job.ordering_peer_id),
                executor_away=self._away(evidence.job.executor_peer_id),
            )
        )

    def _seen_now(self, evidence: Evidence) -> dict[ConnectionId, OtherEnd]:
        """Add what no row tells to the other ends: whether their folders are there, and whether their peers are linked."""
        peers = {peer.connection_id: peer.peer_id for each in evidence.interfaces for peer in each.peers}
        return {
            connection_id: replace(
                end,
                path_exists=self._folders.exists(end.path) if end.path else None,
                away=self._away(peers[connection_id]),
            )
            for connection_id, end in evidence.other_ends.items()
        }

    def _away(self, peer_id: PeerId) -> str:
        return "" if peer_id == self._peer_id else self._why_away(peer_id)

    def _gather(self, conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, now: datetime) -> Evidence:
        job = job_executions.get_job(conn, job_execution_id)
        interfaces = job_interfaces.list_interfaces(conn, job.id)
        found, active = _service_state(conn, job)
        state = None
        if job.workflow_execution_id is not None:
            state = workflow_executions.get_state(conn, job.workflow_execution_id)
        return Evidence(
            job=job,
            interfaces=interfaces,
            now=now,
            other_ends=self._other_ends(conn, job, interfaces),
            execution_status=None if state is None else state.status,
            execution_phase=None if state is None else state.phase,
            service_found=found,
            service_active=active,
            not_before=job_executions.not_before(conn, job.id),
            start_trouble=workflow_jobs.find_wait(conn, job.workflow_job_id) if job.workflow_job_id else "",
        )

    def _other_ends(
        self, conn: sqlite3.Connection, job: JobExecution, interfaces: tuple[JobInterface, ...]
    ) -> dict[ConnectionId, OtherEnd]:
        moves = {
            transfer.connection_id: transfer
            for transfer in (*transfers.list_by_dest_job(conn, job.id), *transfers.list_by_source_job(conn, job.id))
        }
        return {
            peer.connection_id: self._other_end(conn, job, peer, moves.get(peer.connection_id))
            for interface in interfaces
            for peer in interface.peers
        }

    def _other_end(
        self, conn: sqlite3.Connection, job: JobExecution, peer: InterfacePeer, transfer: Transfer | None
    ) -> OtherEnd:
        path = ""
        if peer.peer_mount_function is MountFunction.OUTPUT:
            path = str(self._folders.input(job, peer))
        other_id = peer.peer_job_execution_id
        if other_id == SELF_PEER_JOB:
            return OtherEnd(name="self-peer", transfer=transfer, path=path)
        if other_id is None:
            return OtherEnd(name=f"connection {peer.connection_id}", transfer=transfer, path=path)
        other = self._other_job(conn, job, peer, other_id)
        if other is None:
            return OtherEnd(name=f"job {other_id} of peer {peer.peer_id}", transfer=transfer, path=path)
        return OtherEnd(
            name=other.job_name,
            status=WorkflowJobStatus(other.status),
            error=other.error_message,
            transfer=transfer,
            path=path,
        )

    def _other_job(
        self, conn: sqlite3.Connection, job: JobExecution, peer: InterfacePeer, other_id: JobExecutionId
    ) -> JobExecution | None:
        """Return this peer's row of the job at the other end: itself, its mirror, or none of it."""
        if peer.peer_id != here(job):
            if job.workflow_job_id is None or peer.peer_workflow_job_id is None:
                return None
            return mirrors.find_by_workflow_job(conn, peer.peer_workflow_job_id)
        try:
            return job_executions.get_job(conn, other_id)
        except NotFound:
            return None

    def _handle_state(self, job: JobExecution) -> HandleState:
        if job.status is not JobStatus.RUNNING:
            return HandleState.NONE
        if self._runner.pull_of(job.id) is not None:
            return HandleState.PULLING
        if self._runner.has_ended(job.id):
            return HandleState.EXITED
        if self._runner.waits_for_worker(job.id):
            return HandleState.QUEUED
        if self._runner.has_handle(job.id):
            return HandleState.RUNNING
        return HandleState.SUBMITTING if self._runner.running_among({job.id}) else HandleState.NONE


def _service_state(conn: sqlite3.Connection, job: JobExecution) -> tuple[bool, bool]:
    try:
        service = offered_services.get_service(conn, job.service_id)
    except NotFound:
        return False, False
    return True, service.status is ServiceStatus.ACTIVE
