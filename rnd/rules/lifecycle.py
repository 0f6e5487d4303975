"""Which state may follow which, when a job may run, and how an execution ends (document: Job State Transitions,
Dependency Resolution, Periodic Status Updates)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, assert_never

from rnd.types.enums import (
    ExecutionStatus,
    InterfaceType,
    JobStatus,
    MountFunction,
    TransferStatus,
    WorkflowJobStatus,
)
from rnd.types.executions import InterfacePeer, JobInterface, Result, WorkflowJob

JOB_TRANSITIONS: Final[Mapping[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.IDLE: frozenset({JobStatus.READY, JobStatus.ERRORED, JobStatus.CANCELLED}),
    JobStatus.READY: frozenset({JobStatus.RUNNING, JobStatus.ERRORED, JobStatus.CANCELLED}),
    # RUNNING -> READY is another attempt of a service that is safe to run twice.
    JobStatus.RUNNING: frozenset({JobStatus.READY, JobStatus.COMPLETED, JobStatus.ERRORED, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.ERRORED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}

EXECUTION_TRANSITIONS: Final[Mapping[ExecutionStatus, frozenset[ExecutionStatus]]] = {
    ExecutionStatus.PENDING: frozenset({ExecutionStatus.RUNNING, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}),
    ExecutionStatus.RUNNING: frozenset({ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}),
    ExecutionStatus.COMPLETED: frozenset(),
    ExecutionStatus.FAILED: frozenset(),
    ExecutionStatus.CANCELLED: frozenset(),
}

TRANSFER_TRANSITIONS: Final[Mapping[TransferStatus, frozenset[TransferStatus]]] = {
    # A quick delivery is never seen ACTIVE.
    TransferStatus.PENDING: frozenset(
        {TransferStatus.ACTIVE, TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.CANCELLED}
    ),
    # ACTIVE -> PENDING: a restarted daemon begins the delivery again.
    TransferStatus.ACTIVE: frozenset(
        {TransferStatus.PENDING, TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.CANCELLED}
    ),
    TransferStatus.COMPLETED: frozenset(),
    TransferStatus.FAILED: frozenset(),
    TransferStatus.CANCELLED: frozenset(),
}

UPSTREAM_PREFIX: Final = "upstream job "
NO_REASON: Final = "no reason was given"

_INPUT_INTERFACES: Final = frozenset({InterfaceType.STDIN, InterfaceType.MOUNT})
_TERMINAL_JOB_WORDS: Final = frozenset(status.value for status, following in JOB_TRANSITIONS.items() if not following)

State = TypeVar("State", JobStatus, ExecutionStatus, TransferStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether every input of a job is whole and verified, and the duties that are still open if not."""

    ready: bool
    missing: tuple[InterfacePeer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an execution ends: its terminal status and, unless it is COMPLETED, the words that say why."""

    status: ExecutionStatus
    error: str | None


def allowed(old: State, new: State) -> bool:
    """Say whether a job, an execution or a transfer may move from `old` to `new`. Terminal states absorb."""
    match old:
        case JobStatus():
            return new in JOB_TRANSITIONS[old]
        case ExecutionStatus():
            return new in EXECUTION_TRANSITIONS[old]
        case TransferStatus():
            return new in TRANSFER_TRANSITIONS[old]
        case _:
            assert_never(old)


def job_is_terminal(status: JobStatus | WorkflowJobStatus) -> bool:
    """Say whether a job in this status has ended for good."""
    return status.value in _TERMINAL_JOB_WORDS


def execution_is_terminal(status: ExecutionStatus) -> bool:
    """Say whether an execution in this status has ended for good."""
    return not EXECUTION_TRANSITIONS[status]


def transfer_is_terminal(status: TransferStatus) -> bool:
    """Say whether a transfer in this status has ended for good."""
    return not TRANSFER_TRANSITIONS[status]


def readiness(interfaces: Sequence[JobInterface]) -> Readiness:
    """Decide by duty rows alone whether a job's inputs are there (document: checkInputsReady).

    An input is a peer that sends to this job (`peer_mount_function` OUTPUT) on a STDIN or MOUNT. A folder that happens
    to exist proves nothing, so paths are not asked.
    """
    missing = tuple(
        peer
        for interface in interfaces
        if interface.interface_type in _INPUT_INTERFACES
        for peer in interface.peers
        if peer.peer_mount_function is MountFunction.OUTPUT and not peer.duty_acknowledged
    )
    return Readiness(ready=not missing, missing=missing)


def execution_outcome(
    jobs: Sequence[WorkflowJob],
    results: Sequence[Result],
    *,
    cancel_requested: bool,
    cancel_reason: str | None = None,
    cancel_expired: bool = False,
) -> Outcome | None:
    """Return how an execution ends, or `None` while it goes on.

    COMPLETED needs every job COMPLETED and every delivery to the self-peer acknowledged; FAILED comes as soon as
    nothing can run any more and something did not complete, or a delivery has failed for good; what others have left
    for the self-peer comes home first, so that the end is the end. A requested cancel ends
    CANCELLED once all jobs have ended, or once its time is up (`cancel_expired`), naming the peers that did not confirm.
    """
    running = [job for job in jobs if not job_is_terminal(job.status)]
    if cancel_requested and (not running or cancel_expired):
        return Outcome(status=ExecutionStatus.CANCELLED, error=_cancel_words(cancel_reason, running))
    if running or not jobs:
        return None
    if any(not result.duty_acknowledged and result.error is None for result in results):
        return None
    if any(job.status is not WorkflowJobStatus.COMPLETED for job in jobs):
        return Outcome(status=ExecutionStatus.FAILED, error=first_error_words(jobs))
    failed = next((result for result in results if not result.duty_acknowledged and result.error is not None), None)
    if failed is not None:
        return Outcome(status=ExecutionStatus.FAILED, error=_undelivered_words(jobs, failed))
    return Outcome(status=ExecutionStatus.COMPLETED, error=None)


def first_error_words(jobs: Sequence[WorkflowJob]) -> str:
    """Return the sentence that names the first cause among jobs that did not complete, "" where all did.

    The first cause is the first ERRORED job, else the first CANCELLED one that no upstream job took down.
    """
    failed = [job for job in jobs if job.status in (WorkflowJobStatus.ERRORED, WorkflowJobStatus.CANCELLED)]
    if not failed:
        return ""
    cause = min(failed, key=_cause_rank)
    verb = "failed" if cause.status is WorkflowJobStatus.ERRORED else "was cancelled"
    words = f"job {cause.job_name} {verb}: {cause.error or NO_REASON}"
    match len(failed) - 1:
        case 0:
            return words
        case 1:
            return f"{words} (1 more job did not complete)"
        case more:
            return f"{words} ({more} more jobs did not complete)"


def upstream_failure_reason(job_name: str, error: str | None) -> str:
    """Return why a job that needs the output of `job_name` is cancelled.

    Where that job was itself taken down by one before it, the first failure keeps its name, so that the last job of
    a long chain still says what broke.
    """
    if error is not None and error.startswith(UPSTREAM_PREFIX):
        return error
    return f"{UPSTREAM_PREFIX}{job_name} failed: {error or NO_REASON}"


def _cause_rank(job: WorkflowJob) -> tuple[bool, bool]:
    """Order causes: errors first, then cancels of their own, then those that an upstream job caused."""
    return job.status is not WorkflowJobStatus.ERRORED, (job.error or "").startswith(UPSTREAM_PREFIX)


def _cancel_words(reason: str | None, running: Sequence[WorkflowJob]) -> str:
    words = f"cancelled: {reason}" if reason else "cancelled"
    if not running:
        return words
    peers = ", ".join(sorted({job.executor_peer_id for job in running}))
    return f"{words} (not confirmed by {peers})"


def _undelivered_words(jobs: Sequence[WorkflowJob], result: Result) -> str:
    name = next((job.job_name for job in jobs if job.node_id == result.node_id), f"node {result.node_id}")
    return f"result of job {name} was not delivered (connection {result.connection_id}): {result.error}"
