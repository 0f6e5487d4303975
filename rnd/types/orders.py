"""What an orchestrator asks of an executor, and what is answered: the two phases as records.

The same records serve a job on this peer and, later, one on another peer; a wire message is one of them encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rnd.types.definitions import JobPlan
from rnd.types.enums import JobStatus
from rnd.types.ids import (
    ConnectionId,
    ExecutionId,
    ExecutionUid,
    JobExecutionId,
    NodeId,
    PeerId,
    WorkflowId,
    WorkflowJobId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """Phase 1: create this job, do not start it. The key is (orchestrator, execution_uid, plan.node_id).

    `workflow_execution_id` is known to the orchestrator alone. Durations in seconds. `reused_from` names an earlier
    execution of the same orchestrator whose completed job serves in place of a new run. Where the executor is another peer
    `reuse_of` is what asks it for that: the same execution by its uid, or a later one that has reused it. `bounds` are set
    where another peer orders; an own execution has them in its row.
    """

    orchestrator_peer_id: PeerId
    execution_uid: ExecutionUid
    workflow_execution_id: ExecutionId | None
    workflow_job_id: WorkflowJobId
    plan: JobPlan
    start_by_s: float
    max_runtime_s: float
    reused_from: ExecutionId | None = None
    reuse_of: ExecutionUid | None = None
    bounds: ForeignBounds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignBounds:
    """What else bounds a job that another peer orders, in seconds from the moment it is created.

    `deadline_s` is what its execution has left, `transfer_idle_s` how long a transfer may stand still, `hold_s` how long
    after its end its outputs are kept.
    """

    deadline_s: float
    transfer_idle_s: float
    hold_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResponse:
    """The executor's answer to a job request: the id of the job, or every reason why not.

    `service_revision` is what the service of the job is there; `None` where nothing is told of it.
    `may_pass`: it has not said no, it cannot say yes at the moment; the same request may well be taken later.
    `reused`: the job that another peer was asked about serves again, and the new one is COMPLETED by that.
    """

    node_id: NodeId
    job_execution_id: JobExecutionId | None
    reasons: tuple[str, ...] = ()
    service_revision: int | None = None
    may_pass: bool = False
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the other end of a connection lives, known in full only in phase 2."""

    connection_id: ConnectionId
    peer_workflow_job_id: WorkflowJobId | None
    peer_job_execution_id: JobExecutionId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStart:
    """Phase 2: the complete routing of a job, and the word to start it."""

    job_execution_id: JobExecutionId
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatusReport:
    """How a job stands on its executor, as told to the peer that ordered it.

    `seq` grows with every change, and only a report of a higher one is taken; `duties` are the connections whose
    delivery the executor's end knows to be done. Times are for people, and so is `remark`, on a job that has completed all the same.
    `image_digest` is the image that a DOCKER job runs.
    """

    execution_uid: ExecutionUid
    node_id: NodeId
    job_execution_id: JobExecutionId
    attempt: int
    seq: int
    status: JobStatus
    error_message: str | None
    exit_code: int | None
    exit_signal: int | None
    started_at: datetime | None
    ended_at: datetime | None
    duties: tuple[ConnectionId, ...]
    remark: str | None = None
    image_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReport:
    """What a start command led to on the executor."""

    started: tuple[JobExecutionId, ...]


class JobEndpoint(Protocol):
    """An executor as the WorkflowManager sees it: this peer's JobManager, or the link to another peer."""

    async def check_jobs(self, requests: Sequence[JobRequest]) -> list[JobResponse]:
        """Say what would be answered to these requests; create nothing."""

    async def create_jobs(self, requests: Sequence[JobRequest]) -> list[JobResponse]:
        """Create every job (status IDLE) or none; the same request twice gets the same answer."""

    async def start_jobs(self, starts: Sequence[JobStart]) -> StartReport:
        """Hand every job its routing and start it; repeating it changes nothing."""

    async def cancel_jobs(self, job_execution_ids: Sequence[JobExecutionId], *, reason: str) -> None:
        """Record the wish to cancel and kill what runs; returns when the wish is durable, not when all is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOrder:
    """A request to run a workflow, checked and ready to be written down."""

    workflow_id: WorkflowId
    workflow_name: str
    definition: str
    execution_uid: ExecutionUid
    retry_of: ExecutionId | None
    start_by_s: float
    max_runtime_s: float
    transfer_idle_s: float
    hold_s: float
    workflow_deadline_s: float
