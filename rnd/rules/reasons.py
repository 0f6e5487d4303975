"""The one reason why a job is where it is, and the next thing to type (document: Debugging Guide, issues 1, 2, 3, 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from rnd.rules.evidence import Evidence, HandleState, OtherEnd
from rnd.rules.lifecycle import NO_REASON, UPSTREAM_PREFIX, job_is_terminal, readiness
from rnd.rules.reuse import is_reused, reused_execution
from rnd.types.enums import (
    ExecutionConstraint,
    ExecutionPhase,
    ExecutionStatus,
    JobStatus,
    MountFunction,
    ServiceType,
    TransferStatus,
    WorkflowJobStatus,
)
from rnd.types.executions import InterfacePeer, JobExecution, Transfer
from rnd.types.times import to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A reason in plain words, and the command that leads on from it."""

    because: str
    do: str


def find_reason(evidence: Evidence) -> Finding:
    """Return why a job is in its state: one reason, the most final of those that hold."""
    job = evidence.job
    if job.cancel_requested_at is not None and not job_is_terminal(job.status):
        what = "its processes are being ended"
        if evidence.executor_away:
            what = f"its peer has not confirmed that and cannot be told now: {evidence.executor_away}"
        return Finding(
            because=f"It is being cancelled since {to_text(job.cancel_requested_at)}; {what}.",
            do=_about_execution(job, "watch"),
        )
    match job.status:
        case JobStatus.IDLE:
            return _why_idle(evidence)
        case JobStatus.READY:
            return _why_ready(evidence)
        case JobStatus.RUNNING:
            return _why_running(evidence)
        case JobStatus.COMPLETED:
            return _why_completed(evidence)
        case JobStatus.ERRORED:
            return _why_errored(job)
        case JobStatus.CANCELLED:
            return _why_cancelled(job)
        case _:
            assert_never(job.status)


def _why_idle(evidence: Evidence) -> Finding:
    """Issue 1 (no start command) and issue 2 (inputs)."""
    job = evidence.job
    if not job.start_received:
        return _why_not_started(evidence)
    if job.execution_constraint is ExecutionConstraint.INPUTS_READY:
        missing = readiness(evidence.interfaces).missing
        if missing:
            # The least hopeful input is the reason: what failed before what merely takes its time.
            return min((_why_missing(evidence, peer) for peer in missing), key=lambda ranked: ranked[0])[1]
        lost = _lost_input(evidence)
        if lost is not None:
            return lost
    return Finding(
        because="Everything it waits for is here; the next look at the queue moves it on.",
        do=_about_execution(job, "watch"),
    )


def _lost_input(evidence: Evidence) -> Finding | None:
    """Return the input whose duty is acknowledged though its folder is gone: somebody has removed it."""
    for interface in evidence.interfaces:
        for peer in interface.peers:
            end = evidence.other_end(peer)
            if peer.peer_mount_function is MountFunction.OUTPUT and end.path_exists is False:
                what = f"The input from {end.name} (connection {peer.connection_id})"
                because = f"{what} had arrived, but its folder is gone: {end.path}"
                return Finding(because=because, do=_about_execution(evidence.job, "retry"))
    return None


def _why_not_started(evidence: Evidence) -> Finding:
    job = evidence.job
    if evidence.now >= job.start_by:
        because = f"Its start command did not come before {to_text(job.start_by)}; it is about to be given up."
        return Finding(because=because, do=_about_execution(job, "watch"))
    if evidence.execution_status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.COMPLETED):
        because = f"Its execution ended {evidence.execution_status} before the job was started."
        return Finding(because=because, do=_rpc("job.get", job_execution_id=job.id))
    match evidence.execution_phase:
        case ExecutionPhase.CREATING:
            because = "Phase 1 is not over: jobs are still being created, and none is started before all exist."
        case ExecutionPhase.STARTING:
            because = "Phase 2 is under way: start commands are being sent, its own has not come yet."
            if evidence.start_trouble:
                because = f"Phase 2 is under way, and its start command is sent again: {evidence.start_trouble}."
        case ExecutionPhase.STARTED:
            because = "Phase 2 is over, but its start command was not received."
        case None:
            because = "Its orchestrator has not sent the start command."
            if evidence.orchestrator_away:
                because = f"{because[:-1]}, and there is no link to it now: {evidence.orchestrator_away}."
        case _:
            assert_never(evidence.execution_phase)
    return Finding(because=f"{because} It waits until {to_text(job.start_by)}.", do=_about_execution(job, "show"))


def _why_missing(evidence: Evidence, peer: InterfacePeer) -> tuple[int, Finding]:
    """Return why one input is not there, with its rank: 0 is the most final reason (issues 2 and 3)."""
    job = evidence.job
    end = evidence.other_end(peer)
    what = f"the input from {end.name} (connection {peer.connection_id})"
    transfer = end.transfer
    if end.status in (WorkflowJobStatus.ERRORED, WorkflowJobStatus.CANCELLED):
        because = f"{what} will not come: that job is {end.status}: {end.error or NO_REASON}."
        return 0, Finding(because=_sentence(because), do=_about_execution(job, "show"))
    if peer.peer_job_execution_id is None:
        because = f"phase 2 has not told it which job sends {what}."
        return 1, Finding(because=_sentence(because), do=_rpc("job.interfaces", job_execution_id=job.id))
    if transfer is None:
        return 5, _waiting_for_sender(evidence, end, what)
    ask = _deliveries(job)
    match transfer.status:
        case TransferStatus.FAILED:
            return 2, Finding(
                because=_sentence(f"{what} could not be delivered: {transfer.error or NO_REASON}."), do=ask
            )
        case TransferStatus.CANCELLED:
            because = f"the delivery of {what} was cancelled: {transfer.error or NO_REASON}."
            return 2, Finding(because=_sentence(because), do=ask)
        case TransferStatus.COMPLETED:
            because = f"{what} has arrived, but the duty is not acknowledged in job_interface_peers."
            return 3, Finding(because=_sentence(because), do=_rpc("job.interfaces", job_execution_id=job.id))
        case TransferStatus.ACTIVE:
            because = f"{what} is on its way: {_progress(transfer)}."
            return 6, Finding(because=_sentence(because), do=ask)
        case TransferStatus.PENDING:
            because = f"the delivery of {what} {_waiting(transfer)}."
            return 4, Finding(because=_sentence(because), do=ask)
        case _:
            assert_never(transfer.status)


def _waiting_for_sender(evidence: Evidence, end: OtherEnd, what: str) -> Finding:
    if end.status is None:
        because = f"{what} has not been announced by its sender yet"
    elif end.status is WorkflowJobStatus.COMPLETED:
        because = f"its sender {end.name} is COMPLETED, but {what} is not on its way yet"
    else:
        because = f"{what} comes when that job has ended; it is {end.status}"
    if end.away:
        because += f"; there is no link to its peer now: {end.away}"
    elif evidence.disk_trouble and end.status in (None, WorkflowJobStatus.COMPLETED):
        because = f"{what} is not here, and none is taken now: {evidence.disk_trouble}"
        return Finding(
            because=f"{_sentence(because)}.", do="Free space on the disk of the data directory (df shows what is free)."
        )
    return Finding(because=f"{_sentence(because)}.", do=_about_execution(evidence.job, "show"))


def _why_ready(evidence: Evidence) -> Finding:
    job = evidence.job
    if not evidence.service_found:
        because = f"Service {job.service_name} (id {job.service_id}) is not on this peer any more."
        return Finding(because=because, do="rnd service list")
    if not evidence.service_active:
        because = f"Service {job.service_name} is INACTIVE."
        return Finding(because=because, do=f"rnd service set-status {job.service_id} ACTIVE")
    if evidence.executor_reason:
        because = f"The {job.service_type} engine is not available: {evidence.executor_reason}."
        return Finding(because=because, do="rnd status")
    if evidence.not_before is not None and evidence.now < evidence.not_before:
        because = f"Attempt {job.attempt} waits until {to_text(evidence.not_before)}, since the one before failed."
        return Finding(because=because, do=_about_execution(job, "watch"))
    if evidence.slots_total and evidence.slots_in_use >= evidence.slots_total:
        because = f"All {evidence.slots_total} job slots of this peer are in use."
        return Finding(because=because, do=_rpc("job.list", status="RUNNING"))
    return Finding(
        because="It waits for a free worker; the next look at the queue takes it.",
        do=_about_execution(job, "watch"),
    )


def _why_running(evidence: Evidence) -> Finding:
    """Issue 5: a job that does not come to its end."""
    job = evidence.job
    since = to_text(job.started_at) if job.started_at is not None else "an unknown time"
    if job.run_by is not None and evidence.now >= job.run_by:
        return Finding(
            because=f"Its time was up at {to_text(job.run_by)}; it is being ended.",
            do=_about_execution(job, "watch"),
        )
    if job.service_type is ServiceType.DATA:
        unconfirmed = _unconfirmed(evidence)
        return unconfirmed or Finding(
            because="Its files are with every destination; it is about to end.",
            do=_about_execution(job, "watch"),
        )
    match evidence.handle:
        case HandleState.LOST:
            because = "Its program cannot be found any more and left no exit code; it is about to be given up."
            do = _rpc("job.get", job_execution_id=job.id)
        case HandleState.EXITED:
            because, do = (
                "Its program has ended; its outputs are being collected.",
                _about_execution(job, "watch"),
            )
        case HandleState.PULLING:
            because, do = f"{pull_words(evidence)}.", _about_execution(job, "watch")
        case HandleState.QUEUED:
            because = (
                f"Its image is here; it waits for one of the {evidence.slots_total} job slots of this peer, all in use."
            )
            do = _about_execution(job, "watch")
        case HandleState.NONE | HandleState.SUBMITTING if evidence.executor_reason:
            because = (
                f"The {job.service_type} engine does not say what became of it: {evidence.executor_reason}. "
                "It is asked again."
            )
            do = "rnd status"
        case HandleState.NONE | HandleState.SUBMITTING:
            because, do = "Its folders and its program are being prepared.", _about_execution(job, "watch")
        case HandleState.RUNNING:
            until = f" It may run until {to_text(job.run_by)}." if job.run_by is not None else ""
            because = f"Its program runs since {since}.{until}"
            do = f"rnd logs {job.id}"
        case _:
            assert_never(evidence.handle)
    return Finding(because=because, do=do)


def pull_words(evidence: Evidence) -> str:
    """Return how far the image of a job is that is being pulled, and until when that is waited for."""
    pull, job = evidence.pull, evidence.job
    done = ""
    if pull is not None:
        done = f" {pull.image}: {pull.status}"
        if pull.bytes_total:
            done += f", {pull.bytes_done} of {pull.bytes_total} bytes"
    until = f"; it may take until {to_text(job.pull_by)}" if job.pull_by is not None else ""
    return f"Its image is being pulled{done}{until}"


def _why_completed(evidence: Evidence) -> Finding:
    """A completed job may still owe deliveries: that is why its workflow is not over (issues 3 and 5)."""
    unconfirmed = _unconfirmed(evidence)
    if unconfirmed is not None:
        done = _how_done(evidence.job) if is_reused(evidence.job) else "The job itself is done"
        return Finding(because=f"{done}, but {_lower(unconfirmed.because)}", do=unconfirmed.do)
    remark = f" {_sentence(evidence.job.remark)}." if evidence.job.remark else ""
    return Finding(
        because=f"{_how_done(evidence.job)}, and everything it owes is delivered.{remark}",
        do=_about_execution(evidence.job, "results"),
    )


def _how_done(job: JobExecution) -> str:
    if not is_reused(job):
        return "It is done"
    execution_id = reused_execution(job)
    earlier = "an earlier execution of its orchestrator" if execution_id is None else f"execution {execution_id}"
    return f"It has not run: what it left in {earlier} serves again"


def _unconfirmed(evidence: Evidence) -> Finding | None:
    """Return the first delivery of this job that its receiver has not confirmed, failed ones first."""
    findings = [
        _why_unconfirmed(evidence, peer)
        for interface in evidence.interfaces
        for peer in interface.peers
        if peer.peer_mount_function is MountFunction.INPUT and not peer.duty_acknowledged
    ]
    return min(findings, key=lambda ranked: ranked[0])[1] if findings else None


def _why_unconfirmed(evidence: Evidence, peer: InterfacePeer) -> tuple[int, Finding]:
    job = evidence.job
    end = evidence.other_end(peer)
    what = f"its delivery to {end.name} (connection {peer.connection_id})"
    if end.transfer is None:
        because = f"{what} has not begun."
        return 2, Finding(because=_sentence(because), do=_rpc("job.interfaces", job_execution_id=job.id))
    ask = _deliveries(job)
    match end.transfer.status:
        case TransferStatus.FAILED | TransferStatus.CANCELLED:
            because = f"{what} is {end.transfer.status}: {end.transfer.error or NO_REASON}."
            return 0, Finding(because=_sentence(because), do=ask)
        case TransferStatus.PENDING:
            return 1, Finding(because=_sentence(f"{what} {_waiting(end.transfer)}."), do=ask)
        case TransferStatus.ACTIVE:
            return 3, Finding(because=_sentence(f"{what} is under way: {_progress(end.transfer)}."), do=ask)
        case TransferStatus.COMPLETED:
            return 1, Finding(because=_sentence(f"{what} is made, but not confirmed by the receiver."), do=ask)
        case _:
            assert_never(end.transfer.status)


def _waiting(transfer: Transfer) -> str:
    """Return what a delivery waits for, how often it was tried, and when it is again."""
    if not transfer.error:
        return "waits for its turn"
    words = f"waits: {transfer.error}"
    if transfer.attempts:
        words += f" (tried {transfer.attempts} times" if transfer.attempts > 1 else " (tried once"
        words += f", again by {to_text(transfer.next_attempt_at)})" if transfer.next_attempt_at else ")"
    return words


def _why_errored(job: JobExecution) -> Finding:
    ended = ""
    if job.exit_signal is not None:
        ended = f" (killed by signal {job.exit_signal})"
    elif job.exit_code is not None:
        ended = f" (exit code {job.exit_code})"
    because = f"It failed{ended}: {job.error_message or NO_REASON}"
    if job.service_type is ServiceType.DATA or job.started_at is None:
        return Finding(because=because, do=_about_execution(job, "show"))
    return Finding(because=because, do=f"rnd logs {job.id} --stream stderr")


def _why_cancelled(job: JobExecution) -> Finding:
    reason = job.error_message or NO_REASON
    if reason.startswith(UPSTREAM_PREFIX):
        return Finding(because=f"It could not run: {reason}", do=_about_execution(job, "show"))
    return Finding(because=f"It was cancelled: {reason}", do=_about_execution(job, "retry"))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _progress(transfer: Transfer) -> str:
    return f"{transfer.bytes_done} of {transfer.size_bytes} bytes"


def _rpc(method: str, **values: object) -> str:
    """Return how to call a method that has no command of its own."""
    return " ".join(["rnd rpc", method, *(f"{key}={value}" for key, value in values.items())])


def _deliveries(job: JobExecution) -> str:
    """Point to the deliveries of the whole execution where this peer has it, else to all that are not over."""
    return "rnd transfers" if job.workflow_execution_id is None else f"rnd transfers {job.workflow_execution_id}"


def _about_execution(job: JobExecution, command: str) -> str:
    """Point to the whole execution where this peer has it, else to the job alone."""
    if job.workflow_execution_id is None:
        return _rpc("job.get", job_execution_id=job.id)
    return f"rnd {command} {job.workflow_execution_id}"
