"""Every state in which a job can wait, every cause of it, and the words for each, in one table (document: Debugging Guide)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from rnd.rules.evidence import Evidence, HandleState, ImageOnItsWay, OtherEnd
from rnd.rules.explain import explain, explain_uncreated, explain_unreachable
from rnd.types.enums import (
    ExecutionPhase,
    JobStatus,
    MountFunction,
    ServiceType,
    TransferStatus,
    WorkflowJobStatus,
)
from tests.rules.conftest import NOW, Make

make = Make()
AT = "2026-01-31T12:00:00.000Z"
UNSTARTED = {"start_received": False}
UNTIL = " It waits until 2026-01-31T12:15:00.000Z."
INPUT = "The input from load (connection 1)"
OUTPUT = "Its delivery to train (connection 1)"
GONE = "no answer from 10.0.0.7:30906"
FULL = "the disk of this peer is nearly full"
IMAGE = ImageOnItsWay(image="i@d", status="Downloading", bytes_done=1, bytes_total=4)

Row = tuple[Mapping[str, Any], Mapping[str, Any], str]


def load(status: str | None = None, transfer: str | None = None, **values: Any) -> dict[str, Any]:
    """Return a missing input, and what is known of its other end."""
    return {"_peer": make.peer(1, **values.pop("peer", {})), "_end": _end("load", status, transfer, values)}


def train(transfer: str | None = None, **values: Any) -> dict[str, Any]:
    """Return a delivery that is not confirmed, and what is known of its other end."""
    return {"_peer": make.peer(1, "INPUT"), "_end": _end("train", None, transfer, values)}


def _end(name: str, status: str | None, transfer: str | None, values: dict[str, Any]) -> OtherEnd:
    found = None
    if transfer is not None:
        more = {key: values.pop(key) for key in ("attempts", "next_attempt_at") if key in values}
        found = replace(make.transfer(transfer, values.pop("why", None)), **more)
    return OtherEnd(name=name, status=None if status is None else WorkflowJobStatus(status), transfer=found, **values)


DATA = {"service_type": ServiceType.DATA, "run_by": None}
TABLE: dict[tuple[JobStatus, object], Row] = {
    # ---- IDLE: the start command (debugging case 1)
    (JobStatus.IDLE, ExecutionPhase.CREATING): (
        UNSTARTED, {"execution_phase": ExecutionPhase.CREATING},
        "Phase 1 is not over: jobs are still being created, and none is started before all exist." + UNTIL,
    ),
    (JobStatus.IDLE, ExecutionPhase.STARTING): (
        UNSTARTED, {"execution_phase": ExecutionPhase.STARTING},
        "Phase 2 is under way: start commands are being sent, its own has not come yet." + UNTIL,
    ),
    (JobStatus.IDLE, "its executor cannot be told to start it"): (
        UNSTARTED, {"execution_phase": ExecutionPhase.STARTING, "start_trouble": GONE},
        f"Phase 2 is under way, and its start command is sent again: {GONE}." + UNTIL,
    ),
    (JobStatus.IDLE, ExecutionPhase.STARTED): (
        UNSTARTED, {"execution_phase": ExecutionPhase.STARTED},
        "Phase 2 is over, but its start command was not received." + UNTIL,
    ),
    (JobStatus.IDLE, "ordered by another peer, and not started"): (
        UNSTARTED, {}, "Its orchestrator has not sent the start command." + UNTIL,
    ),
    (JobStatus.IDLE, "ordered by a peer that is away, and not started"): (
        UNSTARTED, {"orchestrator_away": GONE},
        f"Its orchestrator has not sent the start command, and there is no link to it now: {GONE}." + UNTIL,
    ),
    (JobStatus.IDLE, "start_by has passed"): (
        UNSTARTED, {"now": NOW + timedelta(minutes=15)},
        "Its start command did not come before 2026-01-31T12:15:00.000Z; it is about to be given up.",
    ),
    # ---- IDLE: inputs (debugging cases 2 and 3)
    (JobStatus.IDLE, WorkflowJobStatus.PENDING): (
        {}, load("PENDING"), f"{INPUT} comes when that job has ended; it is PENDING.",
    ),
    (JobStatus.IDLE, WorkflowJobStatus.IDLE): (
        {}, load("IDLE"), f"{INPUT} comes when that job has ended; it is IDLE.",
    ),
    (JobStatus.IDLE, WorkflowJobStatus.READY): (
        {}, load("READY"), f"{INPUT} comes when that job has ended; it is READY.",
    ),
    (JobStatus.IDLE, WorkflowJobStatus.RUNNING): (
        {}, load("RUNNING"), f"{INPUT} comes when that job has ended; it is RUNNING.",
    ),
    (JobStatus.IDLE, WorkflowJobStatus.COMPLETED): (
        {}, load("COMPLETED"), "Its sender load is COMPLETED, but the input from load (connection 1) is not on its way yet.",
    ),
    (JobStatus.IDLE, WorkflowJobStatus.ERRORED): (
        {}, load("ERRORED", error="boom"), f"{INPUT} will not come: that job is ERRORED: boom.",
    ),
    (JobStatus.IDLE, WorkflowJobStatus.CANCELLED): (
        {}, load("CANCELLED", error="enough"), f"{INPUT} will not come: that job is CANCELLED: enough.",
    ),
    (JobStatus.IDLE, "its sender is another peer's job of which nothing is heard"): (
        {}, load(), f"{INPUT} has not been announced by its sender yet.",
    ),
    (JobStatus.IDLE, "the peer that sends is away"): (
        {}, load("RUNNING", away=GONE),
        f"{INPUT} comes when that job has ended; it is RUNNING; there is no link to its peer now: {GONE}.",
    ),
    (JobStatus.IDLE, "this peer has no room for it"): (
        {}, {**load(), "disk_trouble": FULL},
        f"{INPUT} is not here, and none is taken now: {FULL}.",
    ),
    (JobStatus.IDLE, "phase 2 has not brought its routing"): (
        {}, load("RUNNING", peer={"peer_job_execution_id": None}),
        "Phase 2 has not told it which job sends the input from load (connection 1).",
    ),
    (JobStatus.IDLE, TransferStatus.PENDING): (
        {}, load(transfer="PENDING"), "The delivery of the input from load (connection 1) waits for its turn.",
    ),
    (JobStatus.IDLE, "its delivery is tried again"): (
        {}, load(transfer="PENDING", why=GONE, attempts=3, next_attempt_at=NOW),
        f"The delivery of the input from load (connection 1) waits: {GONE} (tried 3 times, again by {AT}).",
    ),
    (JobStatus.IDLE, TransferStatus.ACTIVE): (
        {}, load(transfer="ACTIVE"), f"{INPUT} is on its way: 40 of 100 bytes.",
    ),
    (JobStatus.IDLE, TransferStatus.COMPLETED): (
        {}, load(transfer="COMPLETED"),
        f"{INPUT} has arrived, but the duty is not acknowledged in job_interface_peers.",
    ),
    (JobStatus.IDLE, TransferStatus.FAILED): (
        {}, load(transfer="FAILED", why="disk full"), f"{INPUT} could not be delivered: disk full.",
    ),
    (JobStatus.IDLE, TransferStatus.CANCELLED): (
        {}, load(transfer="CANCELLED", why="enough"),
        "The delivery of the input from load (connection 1) was cancelled: enough.",
    ),
    (JobStatus.IDLE, "its folder is gone"): (
        {}, load(peer={"acknowledged": True}, path="/w/in", path_exists=False),
        f"{INPUT} had arrived, but its folder is gone: /w/in",
    ),
    (JobStatus.IDLE, "all is here"): (
        {}, load(peer={"acknowledged": True}), "Everything it waits for is here; the next look at the queue moves it on.",
    ),
    (JobStatus.IDLE, "a cancel"): (
        {"cancel_requested_at": NOW}, {}, f"It is being cancelled since {AT}; its processes are being ended.",
    ),
    (JobStatus.IDLE, "a cancel that its peer cannot be told"): (
        {"cancel_requested_at": NOW}, {"executor_away": GONE},
        f"It is being cancelled since {AT}; its peer has not confirmed that and cannot be told now: {GONE}.",
    ),
    # ---- READY
    (JobStatus.READY, "its service is gone"): (
        {}, {"service_found": False}, "Service wc (id 9) is not on this peer any more.",
    ),
    (JobStatus.READY, "its service is INACTIVE"): ({}, {"service_active": False}, "Service wc is INACTIVE."),
    (JobStatus.READY, "its engine is away"): (
        {}, {"executor_reason": "dockerd does not answer"},
        "The STANDALONE engine is not available: dockerd does not answer.",
    ),
    (JobStatus.READY, "not before another attempt"): (
        {"attempt": 2}, {"not_before": NOW + timedelta(seconds=30)},
        "Attempt 2 waits until 2026-01-31T12:00:30.000Z, since the one before failed.",
    ),
    (JobStatus.READY, "no worker is free"): (
        {}, {"slots_in_use": 4, "slots_total": 4}, "All 4 job slots of this peer are in use.",
    ),
    (JobStatus.READY, "the next turn takes it"): (
        {}, {"slots_in_use": 1, "slots_total": 4},
        "It waits for a free worker; the next look at the queue takes it.",
    ),
    (JobStatus.READY, "a cancel"): (
        {"cancel_requested_at": NOW}, {}, f"It is being cancelled since {AT}; its processes are being ended.",
    ),
    # ---- RUNNING (debugging case 5)
    (JobStatus.RUNNING, HandleState.NONE): ({}, {}, "Its folders and its program are being prepared."),
    (JobStatus.RUNNING, HandleState.SUBMITTING): (
        {}, {"handle": HandleState.SUBMITTING}, "Its folders and its program are being prepared.",
    ),
    (JobStatus.RUNNING, HandleState.PULLING): (
        {"service_type": ServiceType.DOCKER, "run_by": None, "pull_by": NOW + timedelta(minutes=30)},
        {"handle": HandleState.PULLING, "pull": IMAGE},
        "Its image is being pulled i@d: Downloading, 1 of 4 bytes; it may take until 2026-01-31T12:30:00.000Z.",
    ),
    (JobStatus.RUNNING, HandleState.QUEUED): (
        {"service_type": ServiceType.DOCKER}, {"handle": HandleState.QUEUED, "slots_total": 4},
        "Its image is here; it waits for one of the 4 job slots of this peer, all in use.",
    ),
    (JobStatus.RUNNING, HandleState.RUNNING): (
        {}, {"handle": HandleState.RUNNING},
        f"Its program runs since {AT}. It may run until 2026-02-01T12:00:00.000Z.",
    ),
    (JobStatus.RUNNING, HandleState.EXITED): (
        {}, {"handle": HandleState.EXITED}, "Its program has ended; its outputs are being collected.",
    ),
    (JobStatus.RUNNING, HandleState.LOST): (
        {}, {"handle": HandleState.LOST},
        "Its program cannot be found any more and left no exit code; it is about to be given up.",
    ),
    (JobStatus.RUNNING, "its engine is away"): (
        {"service_type": ServiceType.DOCKER}, {"executor_reason": "dockerd does not answer"},
        "The DOCKER engine does not say what became of it: dockerd does not answer. It is asked again.",
    ),
    (JobStatus.RUNNING, "its time is up"): (
        {"run_by": NOW}, {"handle": HandleState.RUNNING}, f"Its time was up at {AT}; it is being ended.",
    ),
    (JobStatus.RUNNING, "a cancel"): (
        {"cancel_requested_at": NOW}, {"handle": HandleState.RUNNING},
        f"It is being cancelled since {AT}; its processes are being ended.",
    ),
    # ---- RUNNING: DATA waits for its deliveries (debugging case 3)
    (JobStatus.RUNNING, "DATA: not begun"): (DATA, train(), f"{OUTPUT} has not begun."),
    (JobStatus.RUNNING, TransferStatus.PENDING): (DATA, train("PENDING"), f"{OUTPUT} waits for its turn."),
    (JobStatus.RUNNING, "DATA: the receiver is away, or takes nothing now"): (
        DATA, train("PENDING", why="receiver busy", attempts=1, next_attempt_at=NOW),
        f"{OUTPUT} waits: receiver busy (tried once, again by {AT}).",
    ),
    (JobStatus.RUNNING, TransferStatus.ACTIVE): (DATA, train("ACTIVE"), f"{OUTPUT} is under way: 40 of 100 bytes."),
    (JobStatus.RUNNING, TransferStatus.COMPLETED): (
        DATA, train("COMPLETED"), f"{OUTPUT} is made, but not confirmed by the receiver.",
    ),
    (JobStatus.RUNNING, TransferStatus.FAILED): (
        DATA, train("FAILED", why="disk full"), f"{OUTPUT} is FAILED: disk full.",
    ),
    (JobStatus.RUNNING, TransferStatus.CANCELLED): (
        DATA, train("CANCELLED", why="enough"), f"{OUTPUT} is CANCELLED: enough.",
    ),
    (JobStatus.RUNNING, "DATA: all confirmed"): (
        DATA, {}, "Its files are with every destination; it is about to end.",
    ),
    # ---- COMPLETED, and its workflow waits all the same
    (JobStatus.COMPLETED, TransferStatus.PENDING): (
        {}, train("PENDING", why=GONE, attempts=2, next_attempt_at=NOW),
        f"The job itself is done, but its delivery to train (connection 1) waits: {GONE} (tried 2 times, again by {AT}).",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("state", "cause"), TABLE, ids=lambda part: str(part))
def test_each_cause_has_its_words(state: JobStatus, cause: object) -> None:
    job_values, seen, words = TABLE[state, cause]
    values = dict(seen)
    interfaces = []
    if (peer := values.pop("_peer", None)) is not None:
        values["other_ends"] = {peer.connection_id: values.pop("_end")}
        interfaces = [make.interface("STDIN" if peer.peer_mount_function is MountFunction.OUTPUT else "STDOUT", peer)]
    evidence = Evidence(job=make.job(state, **job_values), interfaces=interfaces, **{"now": NOW, **values})
    assert explain(evidence).because == words


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (JobStatus.IDLE, ExecutionPhase),
        (JobStatus.IDLE, WorkflowJobStatus),
        (JobStatus.IDLE, TransferStatus),
        (JobStatus.RUNNING, HandleState),
        (JobStatus.RUNNING, TransferStatus),
    ],
)
def test_no_cause_is_missing_that_a_row_or_an_engine_can_tell(state: JobStatus, kind: type[Enum]) -> None:
    assert [cause for cause in kind if (state, cause) not in TABLE] == []


def test_each_cause_has_words_of_its_own() -> None:
    """Only what is the same to whoever waits is told in the same words: a cancel, and what comes before a program runs."""
    told: dict[str, set[object]] = {}
    for (_, cause), (_, _, words) in TABLE.items():
        told.setdefault(words, set()).add(cause)
    same = [causes for causes in told.values() if len(causes) > 1]
    assert same == [{HandleState.NONE, HandleState.SUBMITTING}]


def test_a_job_that_its_peer_has_yet_to_create() -> None:
    job = make.workflow_job(4, "PENDING", GONE)
    assert explain_uncreated(job).because == (
        f"Phase 1 is not over: it has not been created yet. It is asked for again: {GONE}"
    )
    assert explain_uncreated(replace(job, error=None), away=GONE).because == (
        f"Phase 1 is not over: it has not been created yet. There is no link to its peer now: {GONE}."
    )


@pytest.mark.parametrize("state", [JobStatus.IDLE, JobStatus.READY, JobStatus.RUNNING])
def test_a_job_of_a_peer_that_cannot_be_asked(state: JobStatus) -> None:
    told = explain_unreachable(make.job(state), GONE, do="rnd peer list", deadline_at=NOW)
    assert told.because == (
        f"Its peer was last heard to say {state}, and cannot be asked now: {GONE}. "
        f"It is waited for until {AT}, and given up then."
    )
    cancelled = make.job(state, cancel_requested_at=NOW)
    assert explain_unreachable(cancelled, GONE, do="rnd peer list", deadline_at=NOW).because == (
        f"It is being cancelled since {AT}; its peer was last heard to say {state} and cannot be told now: {GONE}. "
        "It hears of it when it is back."
    )
