"""Executions, jobs, interfaces, transfers and results as rows (document: Database Schema Summary)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rnd.types.enums import (
    ExecutionConstraint,
    ExecutionPhase,
    ExecutionStatus,
    InterfaceType,
    JobStatus,
    MountFunction,
    ServiceType,
    TransferDirection,
    TransferStatus,
    WorkflowJobStatus,
)
from rnd.types.ids import (
    ConnectionId,
    ExecutionId,
    ExecutionUid,
    InterfacePeerId,
    JobExecutionId,
    JobInterfaceId,
    NodeId,
    PeerId,
    ResultId,
    ServiceId,
    TransferId,
    WorkflowId,
    WorkflowJobId,
)

STILL_AFTER: Final = timedelta(seconds=5)
"""A delivery under way that nothing has been heard of for so long stands still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowExecution:
    """A row of `workflow_executions`: one run of a workflow, with its frozen definition as JSON text."""

    id: ExecutionId
    workflow_id: WorkflowId | None
    workflow_name: str
    execution_uid: ExecutionUid
    status: ExecutionStatus
    phase: ExecutionPhase
    error: str | None
    definition: str
    retry_of: ExecutionId | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    deadline_at: datetime
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    cancel_by: datetime | None
    cleared_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowJob:
    """A row of `workflow_jobs`: a job as its orchestrator tracks it.

    `job_execution_id` is this peer's row in `job_executions` (`None` before the job exists);
    `remote_job_execution_id` is the executor's own id where the executor is another peer.
    """

    id: WorkflowJobId
    job_execution_id: JobExecutionId | None
    workflow_execution_id: ExecutionId
    workflow_id: WorkflowId | None
    node_id: NodeId
    job_name: str
    service_id: ServiceId
    service_type: ServiceType
    executor_peer_id: PeerId
    remote_job_execution_id: JobExecutionId | None
    status: WorkflowJobStatus
    result: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExecution:
    """A row of `job_executions`: a job on its executor, or this orchestrator's mirror of one elsewhere.

    Work is keyed by (ordering_peer_id, execution_uid, node_id, attempt). `workflow_job_id` is set for own executions
    only; `order_workflow_job_id` is always the orchestrator's id of this job, and the one that paths use.
    `remark` is what a person should know of a job that has completed all the same. `pull_by` is set while the image of a
    DOCKER job is being pulled; `run_by` is empty then. `service_revision` is what the job runs with, however its service is changed meanwhile.
    """

    id: JobExecutionId
    workflow_job_id: WorkflowJobId | None
    order_workflow_job_id: int
    workflow_execution_id: ExecutionId | None
    execution_uid: ExecutionUid
    node_id: NodeId
    attempt: int
    job_name: str
    service_id: ServiceId
    service_name: str
    service_type: ServiceType
    executor_peer_id: PeerId
    ordering_peer_id: PeerId
    remote_job_execution_id: JobExecutionId | None
    status: JobStatus
    entrypoint: tuple[str, ...] | None
    commands: tuple[str, ...] | None
    execution_constraint: ExecutionConstraint
    constraint_detail: str
    start_received: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    start_by: datetime
    max_runtime_s: float = 24 * 3600.0
    run_by: datetime | None
    pull_by: datetime | None
    image_digest: str | None
    error_message: str | None
    exit_code: int | None
    exit_signal: int | None
    cancel_requested_at: datetime | None
    result: str | None
    remark: str | None = None
    service_revision: int = 1
    status_seq: int = 0
    deadline_at: datetime | None = None
    transfer_idle_s: float | None = None
    hold_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfacePeer:
    """A row of `job_interface_peers`: one end of one connection, with its duty."""

    id: InterfacePeerId
    job_interface_id: JobInterfaceId
    peer_id: PeerId
    peer_workflow_job_id: int | None
    peer_job_execution_id: JobExecutionId | None
    peer_path: str
    peer_file_name: str | None
    peer_mount_function: MountFunction
    duty_acknowledged: bool
    connection_id: ConnectionId
    peer_interface_type: InterfaceType
    include: tuple[str, ...]
    source_path: str | None
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInterface:
    """A row of `job_interfaces` with its peers, in connection order."""

    id: JobInterfaceId
    job_execution_id: JobExecutionId
    interface_type: InterfaceType
    path: str
    mount_function: MountFunction | None
    peers: tuple[InterfacePeer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One entry of a manifest: a file, or an empty folder (`sha256` is "" then and `relative_path` ends in `/`).

    `relative_path` is normalised, uses `/`, never starts with it and has no `.` or `..`.
    """

    relative_path: str
    size_bytes: int
    sha256: str
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A row of `transfers`: one delivery along one connection.

    It is known to both ends by (ordering_peer_id, execution_uid, connection_id). Each end's job id is that of its own peer:
    `source_job_execution_id` is 0 where the self-peer sends, `dest_job_execution_id` is 0 where it receives.
    `source_peer_row_id` and `dest_peer_row_id` are the two ends' rows in `job_interface_peers` where they are here.
    """

    transfer_id: TransferId
    direction: TransferDirection
    status: TransferStatus
    workflow_execution_id: ExecutionId | None
    ordering_peer_id: PeerId
    execution_uid: ExecutionUid
    connection_id: ConnectionId
    source_peer_id: PeerId
    source_job_execution_id: JobExecutionId
    dest_peer_id: PeerId
    dest_job_execution_id: JobExecutionId
    source_peer_row_id: InterfacePeerId | None
    dest_peer_row_id: InterfacePeerId | None
    result_id: ResultId | None
    source_path: str | None
    file_count: int
    size_bytes: int
    bytes_done: int
    rate_bytes_s: float | None
    progress_at: datetime | None
    sealed: bool
    attempts: int
    error: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    next_attempt_at: datetime | None = None
    """When it is tried again at the latest, while it waits; for people."""

    def rate(self, now: datetime) -> float | None:
        """Return the rate in bytes a second: of late while it is under way, else of the attempt that delivered it.

        0 where nothing has been heard of it for a while; `None` where there is nothing to tell.
        """
        if self.status is TransferStatus.ACTIVE:
            if self.progress_at is None:
                return None
            return self.rate_bytes_s if now - self.progress_at < STILL_AFTER else 0.0
        if self.status is not TransferStatus.COMPLETED or self.started_at is None or self.completed_at is None:
            return None
        if self.rate_bytes_s is not None:
            return self.rate_bytes_s
        took_s = (self.completed_at - self.started_at).total_seconds()
        return round(self.bytes_done / took_s, 1) if took_s > 0 else None

    def left_s(self, now: datetime) -> float | None:
        """Return how many seconds what is left takes at the rate of late; `None` where that is not known."""
        rate = self.rate(now)
        if self.status is not TransferStatus.ACTIVE or not rate:
            return None
        return round((self.size_bytes - self.bytes_done) / rate, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row of `results`: what one connection to the self-peer delivers, and whether it has arrived."""

    id: ResultId
    workflow_execution_id: ExecutionId
    node_id: NodeId
    connection_id: ConnectionId
    source_peer_id: PeerId
    source_job_execution_id: JobExecutionId | None
    directory: str
    duty_acknowledged: bool
    error: str | None
