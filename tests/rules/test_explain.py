"""Why a job is where it is: the document's debugging cases, one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.cli.parser import parse
from rnd.rules.evidence import Evidence, HandleState, ImageOnItsWay, OtherEnd
from rnd.rules.explain import Explanation, explain, explained_elsewhere
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

WAIT = "rnd watch 3"
EXECUTION = "rnd show 3"
INTERFACES = "rnd rpc job.interfaces job_execution_id=5"
TRANSFER = "rnd transfers 3"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def asked(make: Any, job: Any, interfaces: Any = (), **values: Any) -> Explanation:
    return explain(Evidence(job=job, interfaces=interfaces, now=values.pop("now", make.now), **values))


def answer(make: Any, job: Any, interfaces: Any = (), **values: Any) -> tuple[str, str]:
    found = asked(make, job, interfaces, **values)
    assert found.status is job.status
    return found.because, found.do


def checks(found: Explanation) -> list[tuple[str, bool, str]]:
    return [(check.check, check.ok, check.evidence) for check in found.checks]


# ---- issue 1: the start command


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("CREATING", "Phase 1 is not over: jobs are still being created, and none is started before all exist."),
        ("STARTING", "Phase 2 is under way: start commands are being sent, its own has not come yet."),
        ("STARTED", "Phase 2 is over, but its start command was not received."),
        (None, "Its orchestrator has not sent the start command."),
    ],
)
def test_a_job_that_was_not_started(make: Any, phase: str | None, words: str) -> None:
    job = make.job("IDLE", start_received=False)
    found = asked(make, job, execution_phase=None if phase is None else ExecutionPhase(phase))
    assert (found.because, found.do) == (f"{words} It waits until 2026-01-31T12:15:00.000Z.", EXECUTION)
    assert checks(found) == [("start command received", False, "start_received = 0, start_by 2026-01-31T12:15:00.000Z")]


def test_a_start_command_that_never_came(make: Any) -> None:
    late = make.now + timedelta(minutes=15)
    because, do = answer(make, make.job("IDLE", start_received=False), now=late)
    assert because == "Its start command did not come before 2026-01-31T12:15:00.000Z; it is about to be given up."
    assert do == WAIT


def test_a_job_left_over_by_an_execution_that_ended(make: Any) -> None:
    job = make.job("IDLE", start_received=False)
    assert answer(make, job, execution_status=ExecutionStatus.FAILED) == (
        "Its execution ended FAILED before the job was started.",
        "rnd rpc job.get job_execution_id=5",
    )


# ---- issue 2: inputs


@pytest.mark.parametrize(
    ("end", "peer", "because", "do"),
    [
        (
            {"status": "ERRORED", "error": "exit code 1"}, {},
            "The input from load (connection 1) will not come: that job is ERRORED: exit code 1.", EXECUTION,
        ),
        (
            {"status": "CANCELLED"}, {},
            "The input from load (connection 1) will not come: that job is CANCELLED: no reason was given.", EXECUTION,
        ),
        (
            {"status": "COMPLETED"}, {"peer_job_execution_id": None},
            "Phase 2 has not told it which job sends the input from load (connection 1).", INTERFACES,
        ),
        (
            {"status": "RUNNING"}, {},
            "The input from load (connection 1) comes when that job has ended; it is RUNNING.", EXECUTION,
        ),
        (
            {"status": "COMPLETED"}, {},
            "Its sender load is COMPLETED, but the input from load (connection 1) is not on its way yet.", EXECUTION,
        ),
        (
            {}, {},
            "The input from load (connection 1) has not been announced by its sender yet.", EXECUTION,
        ),
        (
            {"transfer": ("FAILED", "disk full")}, {},
            "The input from load (connection 1) could not be delivered: disk full.", TRANSFER,
        ),
        (
            {"transfer": ("FAILED", None)}, {},
            "The input from load (connection 1) could not be delivered: no reason was given.", TRANSFER,
        ),
        (
            {"transfer": ("CANCELLED", None)}, {},
            "The delivery of the input from load (connection 1) was cancelled: no reason was given.", TRANSFER,
        ),
        (
            {"transfer": ("ACTIVE", None)}, {},
            "The input from load (connection 1) is on its way: 40 of 100 bytes.", TRANSFER,
        ),
        (
            {"transfer": ("PENDING", None)}, {},
            "The delivery of the input from load (connection 1) waits for its turn.", TRANSFER,
        ),
        (
            {"transfer": ("COMPLETED", None)}, {},
            "The input from load (connection 1) has arrived, but the duty is not acknowledged in job_interface_peers.",
            INTERFACES,
        ),
    ],
)  # fmt: skip
def test_an_input_that_is_not_there(make: Any, end: Any, peer: Any, because: str, do: str) -> None:
    found = answer(
        make,
        make.job("IDLE"),
        [make.interface("STDIN", make.peer(1, **peer))],
        other_ends={1: other_end(make, "load", **end)},
    )
    assert found == (because, do)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "The input from load (connection 1) is not here, and none is taken now: the disk is nearly full."),
        ("RUNNING", "The input from load (connection 1) comes when that job has ended; it is RUNNING."),
    ],
)
def test_an_input_that_nobody_would_take_now(make: Any, status: str | None, words: str) -> None:
    ends = {1: other_end(make, "load", status=status)}
    job, interfaces = make.job("IDLE"), [make.interface("STDIN", make.peer(1))]
    assert answer(make, job, interfaces, other_ends=ends, disk_trouble="the disk is nearly full")[0] == words


def other_end(make: Any, name: str, **values: Any) -> OtherEnd:
    status, transfer = values.pop("status", None), values.pop("transfer", None)
    return OtherEnd(
        name=name,
        status=None if status is None else WorkflowJobStatus(status),
        transfer=None if transfer is None else make.transfer(*transfer),
        **values,
    )


@pytest.mark.parametrize(
    ("attempts", "next_attempt_at", "words"),
    [
        (0, None, "waits: nobody is there."),
        (1, None, "waits: nobody is there (tried once)."),
        (7, NOW, "waits: nobody is there (tried 7 times, again by 2026-01-31T12:00:00.000Z)."),
    ],
)
def test_a_delivery_that_waits_says_how_often_it_was_tried_and_when_it_is_again(
    make: Any, attempts: int, next_attempt_at: datetime | None, words: str
) -> None:
    transfer = replace(make.transfer("PENDING", "nobody is there"), attempts=attempts, next_attempt_at=next_attempt_at)
    found = asked(
        make,
        make.job("IDLE"),
        [make.interface("STDIN", make.peer(1))],
        other_ends={1: OtherEnd(name="load", transfer=transfer)},
    )
    assert (found.because, found.do) == (f"The delivery of the input from load (connection 1) {words}", TRANSFER)


def test_the_most_final_of_several_reasons_is_told(make: Any) -> None:
    peers = [make.peer(1), make.peer(2), make.peer(3, acknowledged=True)]
    ends = {
        1: other_end(make, "slow", status="RUNNING"),
        2: other_end(make, "broken", status="ERRORED", error="boom"),
    }
    found = asked(make, make.job("IDLE"), [make.interface("MOUNT", *peers)], other_ends=ends)
    assert found.because == "The input from broken (connection 2) will not come: that job is ERRORED: boom."
    assert checks(found) == [
        ("start command received", True, "start_received = 1"),
        ("input of connection 1 from slow", False, "duty_acknowledged = 0, slow is RUNNING"),
        ("input of connection 2 from broken", False, "duty_acknowledged = 0, broken is ERRORED"),
        ("input of connection 3 from a job of peer other", True, "duty_acknowledged = 1"),
    ]


def test_a_folder_that_somebody_has_removed(make: Any) -> None:
    interfaces = [make.interface("MOUNT", make.peer(1, acknowledged=True), make.peer(2, "INPUT"))]
    ends = {1: OtherEnd(name="load", path="/w/in", path_exists=False)}
    found = asked(make, make.job("IDLE"), interfaces, other_ends=ends)
    assert found.because == "The input from load (connection 1) had arrived, but its folder is gone: /w/in"
    assert found.do == "rnd retry 3"
    assert checks(found)[2] == ("input path of connection 1", False, "/w/in is missing")


@pytest.mark.parametrize("constraint", list(ExecutionConstraint))
def test_a_job_whose_inputs_are_all_there_is_about_to_move(make: Any, constraint: ExecutionConstraint) -> None:
    job = make.job("IDLE", execution_constraint=constraint)
    interfaces = [make.interface("MOUNT", make.peer(1, acknowledged=True))]
    ends = {1: OtherEnd(name="load", path="/w/in", path_exists=True)}
    found = asked(make, job, interfaces, other_ends=ends)
    assert (found.because, found.do) == (
        "Everything it waits for is here; the next look at the queue moves it on.",
        WAIT,
    )
    assert len(found.checks) == (1 if constraint is ExecutionConstraint.NONE else 3)


def test_what_was_seen_of_an_input_is_in_the_checks(make: Any) -> None:
    interfaces = [make.interface("STDIN", make.peer(1, peer_job_execution_id=None))]
    ends = {1: other_end(make, "load", transfer=("FAILED", "x"), path="/w/in", path_exists=False)}
    assert checks(asked(make, make.job("IDLE"), interfaces, other_ends=ends))[1:] == [
        (
            "input of connection 1 from load",
            False,
            "duty_acknowledged = 0, peer_job_execution_id is NULL, transfer t-1 is FAILED",
        ),
        ("input path of connection 1", True, "/w/in comes with its files"),  # as it should be
    ]


# ---- waiting for a worker


@pytest.mark.parametrize(
    ("values", "because", "do"),
    [
        (
            {"service_found": False},
            "Service wc (id 9) is not on this peer any more.",
            "rnd service list",
        ),
        (
            {"service_active": False},
            "Service wc is INACTIVE.",
            "rnd service set-status 9 ACTIVE",
        ),
        (
            {"executor_reason": "dockerd does not answer"},
            "The STANDALONE engine is not available: dockerd does not answer.",
            "rnd status",
        ),
        (
            {"slots_in_use": 4, "slots_total": 4},
            "All 4 job slots of this peer are in use.",
            "rnd rpc job.list status=RUNNING",
        ),
        (
            {"slots_in_use": 3, "slots_total": 4},
            "It waits for a free worker; the next look at the queue takes it.",
            WAIT,
        ),
        ({}, "It waits for a free worker; the next look at the queue takes it.", WAIT),
    ],
)
def test_a_job_that_is_ready(make: Any, values: Any, because: str, do: str) -> None:
    assert answer(make, make.job("READY"), **values) == (because, do)


def test_another_attempt_waits_for_its_time(make: Any) -> None:
    job, later = make.job("READY", attempt=2), make.now + timedelta(seconds=30)
    found = asked(make, job, not_before=later)
    assert found.because == "Attempt 2 waits until 2026-01-31T12:00:30.000Z, since the one before failed."
    assert checks(found)[-1] == ("back-off over", False, "not before 2026-01-31T12:00:30.000Z")
    assert asked(make, job, not_before=make.now).because.startswith("It waits for a free worker")


def test_what_a_worker_needs_is_in_the_checks(make: Any) -> None:
    found = asked(make, make.job("READY"), slots_in_use=1, slots_total=4)
    assert checks(found) == [
        ("start command received", True, "start_received = 1"),
        ("service can be used", True, "service 9 (wc) is found, ACTIVE"),
        ("engine available", True, "it is"),
        ("free job slot", True, "1 of 4 in use"),
    ]
    found = asked(make, make.job("READY"), service_active=False, executor_reason="no engine")
    assert checks(found)[1:] == [
        ("service can be used", False, "service 9 (wc) is found, INACTIVE"),
        ("engine available", False, "no engine"),
    ]
    found = asked(make, make.job("READY", service_type=ServiceType.DATA), service_found=False)
    assert checks(found)[1:] == [("service can be used", False, "service 9 (wc) is not found")]


# ---- issue 5: running without an end


@pytest.mark.parametrize(
    ("handle", "because", "do"),
    [
        (
            HandleState.RUNNING,
            "Its program runs since 2026-01-31T12:00:00.000Z. It may run until 2026-02-01T12:00:00.000Z.",
            "rnd logs 5",
        ),
        (
            HandleState.LOST,
            "Its program cannot be found any more and left no exit code; it is about to be given up.",
            "rnd rpc job.get job_execution_id=5",
        ),
        (HandleState.EXITED, "Its program has ended; its outputs are being collected.", WAIT),
        (HandleState.SUBMITTING, "Its folders and its program are being prepared.", WAIT),
        (HandleState.NONE, "Its folders and its program are being prepared.", WAIT),
    ],
)
def test_a_job_that_runs(make: Any, handle: HandleState, because: str, do: str) -> None:
    found = asked(make, make.job("RUNNING"), handle=handle)
    assert (found.because, found.do) == (because, do)
    assert checks(found) == [
        ("program known to its engine", handle is not HandleState.LOST, f"handle is {handle}"),
        ("within its time", True, "run_by 2026-02-01T12:00:00.000Z"),
    ]


def test_a_job_of_unknown_times(make: Any) -> None:
    found = asked(make, make.job("RUNNING", started_at=None, run_by=None), handle=HandleState.RUNNING)
    assert found.because == "Its program runs since an unknown time."
    assert len(found.checks) == 1


def test_a_job_past_its_time(make: Any) -> None:
    found = asked(make, make.job("RUNNING", run_by=make.now), handle=HandleState.RUNNING)
    assert found.because == "Its time was up at 2026-01-31T12:00:00.000Z; it is being ended."
    assert checks(found)[-1] == ("within its time", False, "run_by 2026-01-31T12:00:00.000Z")


# ---- issue 3: deliveries


@pytest.mark.parametrize(
    ("transfer", "because", "do"),
    [
        (None, "Its delivery to train (connection 1) has not begun.", INTERFACES),
        (("PENDING", None), "Its delivery to train (connection 1) waits for its turn.", TRANSFER),
        (("ACTIVE", None), "Its delivery to train (connection 1) is under way: 40 of 100 bytes.", TRANSFER),
        (("FAILED", "disk full"), "Its delivery to train (connection 1) is FAILED: disk full.", TRANSFER),
        (("CANCELLED", None), "Its delivery to train (connection 1) is CANCELLED: no reason was given.", TRANSFER),
        (
            ("COMPLETED", None),
            "Its delivery to train (connection 1) is made, but not confirmed by the receiver.",
            TRANSFER,
        ),
    ],
)
def test_a_delivery_that_is_not_confirmed(make: Any, transfer: Any, because: str, do: str) -> None:
    interfaces = [make.interface("STDOUT", make.peer(1, "INPUT"), make.peer(2, "INPUT", acknowledged=True))]
    ends = {1: other_end(make, "train", transfer=transfer)}
    data = make.job("RUNNING", service_type=ServiceType.DATA)
    assert answer(make, data, interfaces, other_ends=ends) == (because, do)
    done = make.job("COMPLETED")
    assert answer(make, done, interfaces, other_ends=ends) == (
        f"The job itself is done, but {because[0].lower()}{because[1:]}",
        do,
    )
    seen = "duty_acknowledged = 0" + (f", transfer t-1 is {transfer[0]}" if transfer else "")
    assert checks(asked(make, done, interfaces, other_ends=ends)) == [
        ("delivery of connection 1 to train", False, seen),
        ("delivery of connection 2 to a job of peer other", True, "duty_acknowledged = 1"),
    ]


def test_data_that_is_everywhere_is_about_to_end(make: Any) -> None:
    found = asked(make, make.job("RUNNING", service_type=ServiceType.DATA, run_by=None))
    assert (found.because, found.do) == ("Its files are with every destination; it is about to end.", WAIT)
    assert found.checks == ()


# ---- ends


def test_a_job_that_is_done(make: Any) -> None:
    assert answer(make, make.job("COMPLETED")) == (
        "It is done, and everything it owes is delivered.",
        "rnd results 3",
    )


@pytest.mark.parametrize(
    ("values", "because", "do"),
    [
        ({"exit_code": 3, "error_message": "exit code 3"}, "It failed (exit code 3): exit code 3", "logs"),
        ({"exit_signal": 9, "error_message": "killed"}, "It failed (killed by signal 9): killed", "logs"),
        ({}, "It failed: no reason was given", "logs"),
        ({"started_at": None, "error_message": "start_by passed"}, "It failed: start_by passed", "execution"),
        ({"service_type": ServiceType.DATA, "error_message": "locked"}, "It failed: locked", "execution"),
    ],
)
def test_a_job_that_failed(make: Any, values: Any, because: str, do: str) -> None:
    logs = "rnd logs 5 --stream stderr"
    assert answer(make, make.job("ERRORED", **values)) == (because, logs if do == "logs" else EXECUTION)


def test_the_facts_of_a_failure_are_in_the_checks(make: Any) -> None:
    found = asked(make, make.job("ERRORED", exit_code=3, exit_signal=9, error_message="bad"))
    assert checks(found) == [("error_message", False, "bad"), ("exit_signal", False, "9"), ("exit_code", False, "3")]
    assert checks(asked(make, make.job("CANCELLED", exit_code=0))) == [
        ("error_message", False, "NULL"),
        ("exit_code", True, "0"),
    ]


def test_a_cancelled_job_says_who_is_to_blame(make: Any) -> None:
    upstream = make.job("CANCELLED", error_message="upstream job load failed: boom")
    assert answer(make, upstream) == ("It could not run: upstream job load failed: boom", EXECUTION)
    by_hand = make.job("CANCELLED", error_message="wrong data")
    assert answer(make, by_hand) == ("It was cancelled: wrong data", "rnd retry 3")


@pytest.mark.parametrize("status", ["IDLE", "READY", "RUNNING"])
def test_a_job_that_is_being_cancelled(make: Any, status: str) -> None:
    assert answer(make, make.job(status, cancel_requested_at=make.now)) == (
        "It is being cancelled since 2026-01-31T12:00:00.000Z; its processes are being ended.",
        WAIT,
    )
    ended = make.job("CANCELLED", cancel_requested_at=make.now, error_message="enough")
    assert answer(make, ended)[0] == "It was cancelled: enough"


def test_a_job_of_another_orchestrator_points_to_itself(make: Any) -> None:
    for status in JobStatus:
        job = make.job(status, workflow_execution_id=None, started_at=None)
        assert "job_execution_id=5" in answer(make, job, handle=HandleState.LOST)[1]


@given(
    st.sampled_from(JobStatus),
    st.booleans(),
    st.sampled_from(MountFunction),
    st.booleans(),
    st.none() | st.sampled_from(WorkflowJobStatus),
    st.none() | st.sampled_from(TransferStatus),
    st.none() | st.booleans(),
    st.sampled_from(HandleState),
)
def test_every_case_has_one_reason_and_one_next_step(
    make: Any, status: Any, started: bool, does: Any, done: bool, other: Any, transfer: Any, exists: Any, handle: Any
) -> None:
    end = OtherEnd(
        name="x", status=other, transfer=None if transfer is None else make.transfer(transfer), path_exists=exists
    )
    found = asked(
        make,
        make.job(status, start_received=started),
        [make.interface("MOUNT", make.peer(1, does.value, acknowledged=done))],
        other_ends={1: end},
        handle=handle,
    )
    assert found.because[0].isupper()
    assert found.do.split()[0] == "rnd"
    assert parse(found.do.split()[1:]).handler
    assert all(check.check and check.evidence for check in found.checks)


def test_a_reused_job_says_so_and_where_its_outputs_come_from(make: Any) -> None:
    job = make.job("COMPLETED", result="reused:2")
    told = asked(make, job)
    assert (
        told.because == "It has not run: what it left in execution 2 serves again, and everything it owes is delivered."
    )
    assert checks(told) == [("outputs of an earlier execution", True, "result = reused:2")]
    ordered = replace(job, workflow_execution_id=None, result=f"reused:{'ab' * 16}")
    there = asked(make, ordered)
    assert "what it left in an earlier execution of its orchestrator serves again" in there.because
    assert explained_elsewhere(job, there).checks == told.checks


# ---------------------------------------------------------------- containers


def test_an_image_on_its_way_is_the_reason_and_says_how_far_it_is(make: Any) -> None:
    job = make.job(
        "RUNNING",
        service_type=ServiceType.DOCKER,
        run_by=None,
        pull_by=make.now + timedelta(minutes=30),
        image_digest="i@d",
    )
    pull = ImageOnItsWay(image="i@d", status="Downloading", bytes_done=1, bytes_total=4)
    until = "it may take until 2026-01-31T12:30:00.000Z"
    found = asked(make, job, handle=HandleState.PULLING, pull=pull)
    assert found.because == f"Its image is being pulled i@d: Downloading, 1 of 4 bytes; {until}."
    assert checks(found) == [("image", False, "i@d"), ("image on its way", True, found.because[:-1])]
    unknown = asked(make, job, handle=HandleState.PULLING, pull=replace(pull, bytes_total=0))
    assert unknown.because == f"Its image is being pulled i@d: Downloading; {until}."
    late = asked(make, replace(job, pull_by=make.now), handle=HandleState.PULLING, pull=pull)
    assert [ok for _, ok, _ in checks(late)] == [False, False]


def test_a_container_that_runs_says_which_image_it_runs(make: Any) -> None:
    job = make.job("RUNNING", service_type=ServiceType.DOCKER, image_digest="i@d")
    assert checks(asked(make, job, handle=HandleState.RUNNING))[0] == ("image", True, "i@d")
