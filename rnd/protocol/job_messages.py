"""Messages about jobs, between an orchestrator and its executors (docs/wire.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from rnd.protocol.fields import (
    JOBS_MAX,
    LOG_BYTES_MAX,
    Absent,
    Binary,
    Inline,
    Items,
    Message,
    Records,
    Seconds,
    Sentence,
    Whole,
)
from rnd.rules.explain import Check
from rnd.types.definitions import JobPlan
from rnd.types.enums import JobStatus, LogStream
from rnd.types.ids import ExecutionUid, JobExecutionId, NodeId, WorkflowJobId
from rnd.types.orders import JobStatusReport, Route
from rnd.types.peers import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequestMessage(Message):
    """Phase 1: create this job, do not start it; with `check_only` say only whether it would be created.

    `addresses` are records of the peers that the job names. Durations count from when the message arrives. `reuse_of` is
    an earlier execution of the same orchestrator, whose job of this node may serve in place of a run.
    """

    type = "job_request"
    caller = Caller.ANY_ALLOWED
    answered_by = ("job_response",)

    execution_uid: ExecutionUid
    workflow_job_id: WorkflowJobId
    job: JobPlan
    start_by_s: Seconds
    max_runtime_s: Seconds
    transfer_idle_s: Seconds
    hold_s: Seconds
    deadline_s: Seconds
    check_only: bool
    addresses: Records
    reuse_of: Annotated[ExecutionUid | None, Absent()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResponseMessage(Message):
    """The executor's answer: the id of the job, or every reason why not; and what the job's service is there.

    `service_revision` is null where the job is refused. `reused`: the earlier job serves, and this one is COMPLETED by that.
    """

    type = "job_response"
    caller = Caller.EXECUTOR
    is_answer = True

    accepted: bool
    job_execution_id: Annotated[JobExecutionId, Whole(least=1)] | None  # 0 is the self-peer, which no job of a peer is
    service_revision: Annotated[int | None, Whole(least=1)] = None
    reasons: Annotated[tuple[Sentence, ...], Items(JOBS_MAX)]
    reused: Annotated[bool, Absent()] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStartMessage(Message):
    """Phase 2: where the job's neighbours live, and the word to start it."""

    type = "job_start"
    caller = Caller.ORDERER
    answered_by = ("job_start_response",)

    execution_uid: ExecutionUid
    node_id: NodeId
    job_execution_id: JobExecutionId
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStartResponse(Message):
    """How the job stands once the start is written down."""

    type = "job_start_response"
    caller = Caller.EXECUTOR
    is_answer = True

    status: JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancel(Message):
    """The wish that a job ends, or never begins."""

    type = "job_cancel"
    caller = Caller.ORDERER
    answered_by = ("job_cancel_response",)

    execution_uid: ExecutionUid
    node_id: NodeId
    reason: Sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelResponse(Message):
    """How the job stands once the wish is written down; null: there is none, and a request that comes later is refused."""

    type = "job_cancel_response"
    caller = Caller.EXECUTOR
    is_answer = True

    status: JobStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatusRequest(Message):
    """Asks how jobs stand."""

    type = "job_status_request"
    caller = Caller.ORDERER
    answered_by = ("job_status_response",)

    execution_uid: ExecutionUid
    node_ids: Annotated[tuple[NodeId, ...], Items(JOBS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatusResponse(Message):
    """How they stand; jobs that are unknown there are left out."""

    type = "job_status_response"
    caller = Caller.EXECUTOR
    is_answer = True

    jobs: Annotated[tuple[JobStatusReport, ...], Items(JOBS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatusUpdate(Message):
    """News of a job. On the wire the fields of the report are those of the message."""

    type = "job_status_update"
    caller = Caller.EXECUTOR
    answered_by = ("ack",)

    report: Annotated[JobStatusReport, Inline()]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLogsRequest(Message):
    """Asks for a part of what a job has written. `offset` counts bytes."""

    type = "job_logs_request"
    caller = Caller.ORDERER
    answered_by = ("job_logs_response",)

    execution_uid: ExecutionUid
    node_id: NodeId
    stream: LogStream
    offset: int
    limit_bytes: Annotated[int, Whole(least=1, most=LOG_BYTES_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLogsResponse(Message):
    """The part, and where the next one begins; `eof`: the job has ended and this was the last."""

    type = "job_logs_response"
    caller = Caller.EXECUTOR
    is_answer = True

    data: Annotated[bytes, Binary(LOG_BYTES_MAX)] = field(repr=False)
    next_offset: int
    eof: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExplainRequest(Message):
    """Asks why a job is where it is."""

    type = "job_explain_request"
    caller = Caller.ORDERER
    answered_by = ("job_explain_response",)

    execution_uid: ExecutionUid
    node_id: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExplainResponse(Message):
    """The one reason, what was looked at on the way, and the next thing to do."""

    type = "job_explain_response"
    caller = Caller.EXECUTOR
    is_answer = True

    status: JobStatus
    because: Sentence
    checks: tuple[Check, ...]
    do: Sentence
