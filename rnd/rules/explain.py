"""Why a job is where it is: the document's Debugging Guide as a decision over evidence that others have gathered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, assert_never

from rnd.rules.evidence import Evidence, HandleState, OtherEnd
from rnd.rules.lifecycle import NO_REASON
from rnd.rules.reasons import find_reason, pull_words
from rnd.rules.reuse import is_reused
from rnd.types.enums import ExecutionConstraint, JobStatus, MountFunction, ServiceType, WorkflowJobStatus
from rnd.types.executions import InterfacePeer, JobExecution, Transfer, WorkflowJob
from rnd.types.times import to_text

REUSED_CHECK: Final = "outputs of an earlier execution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at, whether it is as it should be, and what was seen."""

    check: str
    ok: bool
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer: where the job is, the one reason, what was looked at on the way, and the next thing to type."""

    status: JobStatus | WorkflowJobStatus
    because: str
    checks: tuple[Check, ...]
    do: str


def explain(evidence: Evidence) -> Explanation:
    """Return why a job is in its state: one reason, everything that was looked at, and what to do next."""
    finding = find_reason(evidence)
    return Explanation(
        status=evidence.job.status, because=finding.because, checks=tuple(_checks(evidence)), do=finding.do
    )


def explain_uncreated(job: WorkflowJob, *, away: str = "") -> Explanation:
    """Return why a job of an own execution does not exist on its executor: phase 1 has yet to come to it, or was refused.

    `away` says why there is no link to its executor, if there is none.
    """
    if job.status is WorkflowJobStatus.PENDING:
        because = "Phase 1 is not over: it has not been created yet."
        if job.error:
            because += f" It is asked for again: {job.error}"
        elif away:
            because += f" There is no link to its peer now: {away}."
    else:
        because = f"It was never created: {job.error or NO_REASON}"
    created = Check(check="created in phase 1", ok=False, evidence=f"workflow_jobs {job.id} is {job.status}")
    return Explanation(
        status=job.status, because=because, checks=(created,), do=f"rnd show {job.workflow_execution_id}"
    )


def without_folder(told: Explanation, folder: str) -> Explanation:
    """Return an explanation for another peer: where the folder with everything lies here is not told."""
    prefix = f"{folder}/"
    return replace(
        told,
        because=told.because.replace(prefix, ""),
        checks=tuple(replace(check, evidence=check.evidence.replace(prefix, "")) for check in told.checks),
    )


def explained_elsewhere(job: JobExecution, told: Explanation) -> Explanation:
    """Return what the executor of a job has told of it, with what to type here: its own advice is for its owner's peer."""
    is_running = told.status is JobStatus.RUNNING or job.workflow_execution_id is None
    here = f"rnd logs {job.id}" if is_running else f"rnd show {job.workflow_execution_id}"
    if is_reused(job):  # told there by the uid of that execution
        evidence = f"result = {job.result}"
        checks = (replace(each, evidence=evidence) if each.check == REUSED_CHECK else each for each in told.checks)
        told = replace(told, checks=tuple(checks))
    return replace(told, do=f"{here}   (its owner, there: {told.do})" if told.do else here)


def explain_unreachable(job: JobExecution, why: str, *, do: str, deadline_at: datetime | None) -> Explanation:
    """Return where a job of an own execution stood when its executor was last heard of, and how long that is waited for."""
    until = "" if deadline_at is None else f" It is waited for until {to_text(deadline_at)}, and given up then."
    because = f"Its peer was last heard to say {job.status}, and cannot be asked now: {why}.{until}"
    if job.cancel_requested_at is not None:
        because = (
            f"It is being cancelled since {to_text(job.cancel_requested_at)}; its peer was last heard to say {job.status} "
            f"and cannot be told now: {why}. It hears of it when it is back."
        )
    return Explanation(
        status=job.status,
        because=because,
        checks=(Check(check="peer can be asked", ok=False, evidence=why),),
        do=do,
    )


def _checks(evidence: Evidence) -> Iterator[Check]:
    """Yield the guide's questions in its order, those that make sense in the job's state."""
    match evidence.job.status:
        case JobStatus.IDLE:
            yield _start_check(evidence)
            if evidence.job.execution_constraint is ExecutionConstraint.INPUTS_READY:
                yield from _input_checks(evidence)
        case JobStatus.READY:
            yield _start_check(evidence)
            yield from _input_checks(evidence)
            yield from _worker_checks(evidence)
        case JobStatus.RUNNING:
            yield from _running_checks(evidence)
            yield from _delivery_checks(evidence)
        case JobStatus.COMPLETED:
            if is_reused(evidence.job):
                yield Check(check=REUSED_CHECK, ok=True, evidence=f"result = {evidence.job.result}")
            yield from _delivery_checks(evidence)
        case JobStatus.ERRORED | JobStatus.CANCELLED:
            yield from _end_checks(evidence)
        case _:
            assert_never(evidence.job.status)


def _start_check(evidence: Evidence) -> Check:
    job = evidence.job
    words = "start_received = 1" if job.start_received else f"start_received = 0, start_by {to_text(job.start_by)}"
    return Check(check="start command received", ok=job.start_received, evidence=words)


def _input_checks(evidence: Evidence) -> Iterator[Check]:
    """Ask of each input whether its duty is acknowledged, its routing known and its folder there."""
    for peer, end in _peers(evidence, MountFunction.OUTPUT):
        words = f"duty_acknowledged = {int(peer.duty_acknowledged)}"
        if peer.peer_job_execution_id is None:
            words += ", peer_job_execution_id is NULL"
        if end.status is not None:
            words += f", {end.name} is {end.status}"
        if end.transfer is not None:
            words += f", {_transfer_words(end.transfer)}"
        if end.away and not peer.duty_acknowledged:
            words += f", no link to its peer: {end.away}"
        name = f"input of connection {peer.connection_id} from {end.name}"
        yield Check(check=name, ok=peer.duty_acknowledged, evidence=words)
        if end.path_exists is not None:
            # A folder that is not there is as it should be until its files have arrived.
            ok = end.path_exists or not peer.duty_acknowledged
            missing = "comes with its files" if ok else "is missing"
            words = f"{end.path} {'exists' if end.path_exists else missing}"
            yield Check(check=f"input path of connection {peer.connection_id}", ok=ok, evidence=words)


def _worker_checks(evidence: Evidence) -> Iterator[Check]:
    job = evidence.job
    state = "found, INACTIVE" if evidence.service_found else "not found"
    is_usable = evidence.service_found and evidence.service_active
    words = f"service {job.service_id} ({job.service_name}) is {'found, ACTIVE' if is_usable else state}"
    yield Check(check="service can be used", ok=is_usable, evidence=words)
    if job.service_type is not ServiceType.DATA:
        yield Check(
            check="engine available", ok=not evidence.executor_reason, evidence=evidence.executor_reason or "it is"
        )
        if evidence.slots_total:
            yield Check(
                check="free job slot",
                ok=evidence.slots_in_use < evidence.slots_total,
                evidence=f"{evidence.slots_in_use} of {evidence.slots_total} in use",
            )
    if evidence.not_before is not None:
        words = f"not before {to_text(evidence.not_before)}"
        yield Check(check="back-off over", ok=evidence.now >= evidence.not_before, evidence=words)


def _running_checks(evidence: Evidence) -> Iterator[Check]:
    job = evidence.job
    if job.image_digest is not None:
        yield Check(check="image", ok=evidence.handle is not HandleState.PULLING, evidence=job.image_digest)
    if evidence.handle is HandleState.PULLING:
        is_in_time = job.pull_by is None or evidence.now < job.pull_by
        yield Check(check="image on its way", ok=is_in_time, evidence=pull_words(evidence))
    elif job.service_type is not ServiceType.DATA:
        ok = evidence.handle is not HandleState.LOST
        yield Check(check="program known to its engine", ok=ok, evidence=f"handle is {evidence.handle}")
    if job.run_by is not None:
        yield Check(check="within its time", ok=evidence.now < job.run_by, evidence=f"run_by {to_text(job.run_by)}")


def _delivery_checks(evidence: Evidence) -> Iterator[Check]:
    for peer, end in _peers(evidence, MountFunction.INPUT):
        words = f"duty_acknowledged = {int(peer.duty_acknowledged)}"
        if end.transfer is not None:
            words += f", {_transfer_words(end.transfer)}"
        name = f"delivery of connection {peer.connection_id} to {end.name}"
        yield Check(check=name, ok=peer.duty_acknowledged, evidence=words)


def _transfer_words(transfer: Transfer) -> str:
    words = f"transfer {transfer.transfer_id} is {transfer.status}"
    return f"{words}, attempts = {transfer.attempts}" if transfer.attempts > 1 else words


def _end_checks(evidence: Evidence) -> Iterator[Check]:
    job = evidence.job
    yield Check(check="error_message", ok=False, evidence=job.error_message or "NULL")
    if job.exit_signal is not None:
        yield Check(check="exit_signal", ok=False, evidence=str(job.exit_signal))
    if job.exit_code is not None:
        yield Check(check="exit_code", ok=job.exit_code == 0, evidence=str(job.exit_code))


def _peers(evidence: Evidence, does: MountFunction) -> Iterator[tuple[InterfacePeer, OtherEnd]]:
    """Yield the ends that send to the job (OUTPUT) or receive from it (INPUT), with what is known of them."""
    for interface in evidence.interfaces:
        for peer in interface.peers:
            if peer.peer_mount_function is does:
                yield peer, evidence.other_end(peer)
