"""Transitions, readiness and outcome."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.lifecycle import (
    allowed,
    execution_is_terminal,
    execution_outcome,
    first_error_words,
    job_is_terminal,
    readiness,
    transfer_is_terminal,
    upstream_failure_reason,
)
from rnd.types.enums import (
    ExecutionStatus,
    JobStatus,
    TransferStatus,
    WorkflowJobStatus,
)

JOB_ARROWS = {
    "IDLE READY", "IDLE ERRORED", "IDLE CANCELLED",
    "READY RUNNING", "READY ERRORED", "READY CANCELLED",
    "RUNNING READY", "RUNNING COMPLETED", "RUNNING ERRORED", "RUNNING CANCELLED",
}  # fmt: skip
EXECUTION_ARROWS = {
    "PENDING RUNNING", "PENDING FAILED", "PENDING CANCELLED",
    "RUNNING COMPLETED", "RUNNING FAILED", "RUNNING CANCELLED",
}  # fmt: skip
TRANSFER_ARROWS = {
    "PENDING ACTIVE", "PENDING COMPLETED", "PENDING FAILED", "PENDING CANCELLED",
    "ACTIVE PENDING", "ACTIVE COMPLETED", "ACTIVE FAILED", "ACTIVE CANCELLED",
}  # fmt: skip


@pytest.mark.parametrize(
    ("states", "arrows"),
    [(JobStatus, JOB_ARROWS), (ExecutionStatus, EXECUTION_ARROWS), (TransferStatus, TRANSFER_ARROWS)],
)
def test_states_move_along_the_documented_lines_only(states: Any, arrows: set[str]) -> None:
    assert {f"{old} {new}" for old in states for new in states if allowed(old, new)} == arrows


def test_terminal_states_are_those_that_absorb() -> None:
    assert [status for status in JobStatus if job_is_terminal(status)] == ["COMPLETED", "ERRORED", "CANCELLED"]
    assert not job_is_terminal(WorkflowJobStatus.PENDING)
    assert job_is_terminal(WorkflowJobStatus.ERRORED)
    assert [status for status in ExecutionStatus if execution_is_terminal(status)] == [
        "COMPLETED",
        "FAILED",
        "CANCELLED",
    ]
    assert [status for status in TransferStatus if transfer_is_terminal(status)] == ["COMPLETED", "FAILED", "CANCELLED"]


@pytest.mark.parametrize(
    ("kind", "does", "acknowledged", "ready"),
    [
        ("MOUNT", "OUTPUT", True, True),
        ("MOUNT", "OUTPUT", False, False),
        ("STDIN", "OUTPUT", False, False),
        ("MOUNT", "INPUT", False, True),  # somebody receives from us: that is no input
        ("STDOUT", "OUTPUT", False, True),  # output interfaces are skipped, as the document has it
        ("STDERR", "INPUT", False, True),
    ],
)
def test_readiness_is_decided_by_the_duties_of_senders(
    make: Any, kind: str, does: str, acknowledged: bool, ready: bool
) -> None:
    peer = make.peer(1, does, acknowledged=acknowledged)
    answer = readiness([make.interface(kind, peer)])
    assert answer.ready is ready
    assert answer.missing == (() if ready else (peer,))


def test_every_open_duty_is_named(make: Any) -> None:
    one, two, three = make.peer(1), make.peer(2, acknowledged=True), make.peer(3)
    answer = readiness([make.interface("STDIN", one), make.interface("MOUNT", two, three)])
    assert answer.missing == (one, three)


def outcome(jobs: Any, results: Any = (), **values: Any) -> tuple[str, str | None] | None:
    found = execution_outcome(jobs, results, **({"cancel_requested": False} | values))
    return None if found is None else (found.status, found.error)


def test_completed_needs_every_job_and_every_delivery_home(make: Any) -> None:
    done = [make.workflow_job(1, "COMPLETED"), make.workflow_job(2, "COMPLETED")]
    assert outcome(done) == ("COMPLETED", None)
    assert outcome(done, [make.result(1, acknowledged=True)]) == ("COMPLETED", None)
    assert outcome(done, [make.result(1, acknowledged=True), make.result(2)]) is None
    assert outcome([done[0], make.workflow_job(2, "RUNNING")]) is None
    assert outcome([]) is None


def test_a_delivery_that_failed_for_good_fails_the_execution(make: Any) -> None:
    done = [make.workflow_job(1, "COMPLETED")]
    assert outcome(done, [make.result(1, error="disk full")]) == (
        "FAILED",
        "result of job job1 was not delivered (connection 11): disk full",
    )
    assert outcome(done, [make.result(4, error="gone")]) == (
        "FAILED",
        "result of job node 4 was not delivered (connection 14): gone",
    )


def test_failed_waits_until_nothing_can_run(make: Any) -> None:
    failed = make.workflow_job(1, "ERRORED", "exit code 3")
    assert outcome([failed, make.workflow_job(2, "RUNNING")]) is None
    assert outcome([failed, make.workflow_job(2, "COMPLETED")]) == ("FAILED", "job job1 failed: exit code 3")


def test_cancelled_waits_for_all_jobs_or_the_deadline(make: Any) -> None:
    running = [make.workflow_job(1, "CANCELLED"), make.workflow_job(2, "RUNNING", executor_peer_id="far")]
    ended = [make.workflow_job(1, "CANCELLED"), make.workflow_job(2, "COMPLETED")]
    assert outcome(running, cancel_requested=True) is None
    assert outcome(running, cancel_requested=True, cancel_reason="wrong data", cancel_expired=True) == (
        "CANCELLED",
        "cancelled: wrong data (not confirmed by far)",
    )
    assert outcome(ended, cancel_requested=True) == ("CANCELLED", "cancelled")
    assert outcome([], cancel_requested=True, cancel_reason="x") == ("CANCELLED", "cancelled: x")


def test_the_first_cause_is_named_before_its_consequences(make: Any) -> None:
    upstream = make.workflow_job(1, "CANCELLED", "upstream job job3 failed: boom")
    cancelled = make.workflow_job(2, "CANCELLED", "start_by passed")
    errored = make.workflow_job(3, "ERRORED", "boom")
    assert first_error_words([upstream, cancelled, errored]) == "job job3 failed: boom (2 more jobs did not complete)"
    assert (
        first_error_words([upstream, cancelled])
        == "job job2 was cancelled: start_by passed (1 more job did not complete)"
    )
    assert first_error_words([make.workflow_job(4, "ERRORED")]) == "job job4 failed: no reason was given"
    assert first_error_words([make.workflow_job(1, "COMPLETED")]) == ""


def test_a_long_chain_keeps_the_name_of_the_job_that_broke() -> None:
    reason = upstream_failure_reason("first", "exit code 1")
    assert reason == "upstream job first failed: exit code 1"
    for name in ("second", "third"):
        reason = upstream_failure_reason(name, reason)
    assert reason == "upstream job first failed: exit code 1"
    assert upstream_failure_reason("x", None) == "upstream job x failed: no reason was given"


@given(st.lists(st.sampled_from(list(WorkflowJobStatus)), max_size=8), st.booleans(), st.booleans())
def test_no_execution_ends_while_a_job_runs_unless_its_cancel_ran_out(
    make: Any, statuses: list[WorkflowJobStatus], cancel: bool, expired: bool
) -> None:
    jobs = [make.workflow_job(number, status.value) for number, status in enumerate(statuses, 1)]
    found = execution_outcome(jobs, (), cancel_requested=cancel, cancel_expired=expired)
    running = [job for job in jobs if not job_is_terminal(job.status)]
    if running and not (cancel and expired):
        assert found is None
    elif jobs or cancel:
        assert found is not None
        assert (found.status is ExecutionStatus.COMPLETED) == (not cancel and set(statuses) == {"COMPLETED"})
        assert (found.error is None) == (found.status is ExecutionStatus.COMPLETED)
