"""The document's transcripts with the DOCKER job, and its "Logs to check" of DOCKER services, line by line in their order.

The expected lines are written out here and not taken from the catalogue. All jobs are one peer's, and its engine is a script.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Final

import pytest
import structlog

from rnd.log import close_logging, configure_logging
from rnd.services.executor import Observation, Phase
from rnd.types.errors import ExecutorUnavailable
from rnd.types.ids import ExecutionId
from tests.core.core_peer import Daemon, Machine, Script, edge, says_much
from tests.log_lines import without_run
from tests.scripted_images import image_facts

ONE = ExecutionId(1)
IMAGE: Final = "pytorch/pytorch:latest"

# "Orchestrator Logs", with both jobs here.
ORCHESTRATOR: Final = (
    "Executing workflow: workflow_id=1, execution_id=1",
    "Building workflow definition: workflow_id=1",
    "Phase 1: Creating jobs",
    "Creating workflow job: node_id=1, executor=rnme",
    "Created local job execution: job_id=1",
    "Creating workflow job: node_id=2, executor=rnme",
    "Created local job execution: job_id=2",
    "All jobs created: count=2",
    "Phase 2: Building mappings",
    "Node to job execution ID: {1: 1, 2: 2}",
    "Sending start commands",
    "Sent start command: job_id=1 (local)",
    "Sent start command: job_id=2 (local)",
    "Workflow execution started: execution_id=1",
)

# "Job Execution Logs (Orchestrator)".
DATA_JOB: Final = (
    "Job queue processing: found 1 READY jobs",
    "Executing job: job_id=1, type=DATA",
    "Executing DATA service: job_id=1, service_id=1",
    "Initiating transfers for DATA service: count=1",
    "Transfer request sent: transfer_id={t}, dest=rnme",
    "Transfer accepted: transfer_id={t}",
    "Sending chunks: transfer_id={t}, total=10",
    "Transfer completed: transfer_id={t}, bytes=10485760",
    "Duty acknowledged: interface_peer_id=1",
    "DATA service execution completed: job_id=1",
)

# "Remote Peer Logs" from the start command on.
DOCKER_JOB: Final = (
    "Job start received: job_id=2",
    "Received transfer request: transfer_id={t}, size=10MB",
    "Transfer accepted: transfer_id={t}",
    "Receiving chunks: 1/10, 2/10, ... 10/10",
    "Transfer completed: transfer_id={t}",
    "Duty acknowledged: interface_peer_id=2",
    "Checking inputs ready: job_id=2",
    "All inputs ready: job_id=2",
    "Job transitioning: IDLE → READY",
    "Executing job: job_id=2, type=DOCKER",
    "Pulling Docker image: pytorch/pytorch:latest",
    "Creating container: name=job-2",
    "Starting container: container_id=id-of-job-2-1",
    "Container exited: code=0",
    "DOCKER service completed: job_id=2",
    "Transferring outputs: count=1 files",
)

# "DOCKER Service Execution: Logs to check", each with what rnd adds.
LOGS_TO_CHECK: Final = (
    "Executing DOCKER service: job_id=2, image=pytorch/pytorch:latest",
    "Building mounts: count=2 job_id=2",
    "Pulling Docker image: pytorch/pytorch:latest job_id=2",
    "Creating container: name=job-2 job_id=2",
    "Starting container: container_id=id-of-job-2-1 job_id=2",
    "Streaming logs: job_id=2",
    "Container exited: code=0 job_id=2 signal=null",
    "DOCKER service completed: job_id=2 status=COMPLETED",
    "Transferring outputs: count=1 files job_id=2",
)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    lines = io.StringIO()
    configure_logging("INFO", log_path=None, stream=lines)
    yield lines
    close_logging()
    structlog.reset_defaults()


def _texts(log: io.StringIO) -> list[str]:
    return [without_run(line.partition(" ")[2]) for line in log.getvalue().splitlines()]


def _come_in_order(texts: Sequence[str], transcript: Sequence[str], transfer: str = "") -> None:
    lines = iter(texts)
    for expected in transcript:
        wanted = re.compile(re.escape("[INFO] " + expected.replace("{t}", transfer)) + r"( \w+=.*)?")
        assert any(wanted.fullmatch(line) for line in lines), f"{expected!r} is missing, or does not come in its place"


def test_the_documents_transcripts_come_in_their_order_with_the_docker_job(machine: Machine, log: io.StringIO) -> None:
    async def play(daemon: Daemon) -> str:
        facts = image_facts(1, "docker.io/pytorch/pytorch")
        daemon.images.offer(IMAGE, facts=facts)
        data = await daemon.files("data", {"data.bin": bytes(10 << 20)})
        train = await daemon.container("Train Model", Script(leaves=says_much), facts=facts, image=IMAGE)
        drawn = await daemon.draw([data, train], [edge(0, 1), edge(1, None, file_name="model.pth")])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.ended(ONE)
        ((transfer,),) = await daemon.sql("SELECT transfer_id FROM transfers WHERE source_job_execution_id = 1")
        return str(transfer)

    transfer = machine.play(play)
    texts = _texts(log)
    for transcript in (ORCHESTRATOR, DATA_JOB, DOCKER_JOB, LOGS_TO_CHECK):
        _come_in_order(texts, transcript, transfer)
    containers = [text for text in texts if re.search("DOCKER service|Docker|[Cc]ontainer|mounts|Streaming logs", text)]
    assert containers == [f"[INFO] {line}" for line in LOGS_TO_CHECK[:-1]]


def _lines_of(machine: Machine, log: io.StringIO, script: Script | None = None, **more: object) -> list[str]:
    """Run one container to its end, and return what is told of it."""

    async def play(daemon: Daemon) -> None:
        service = await daemon.container("a", script)
        for name, value in more.items():
            setattr(daemon.containers, name, value)
        if "registry" in more:
            daemon.images.registry.clear()
        drawn = await daemon.draw([service], [])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.ended(ONE)
        await daemon.until(lambda: not daemon.runner.in_hand())

    machine.play(play)
    texts = _texts(log)
    begin = next(at for at, text in enumerate(texts) if "Executing DOCKER service" in text)
    return [text for text in texts[begin:] if "job_id=1" in text]


def test_a_container_that_fails_is_told_to_its_end(machine: Machine, log: io.StringIO) -> None:
    lines = _lines_of(machine, log, Script(observation=Observation(phase=Phase.EXITED, exit_code=3)))
    assert "[INFO] Container exited: code=3 job_id=1 signal=null" in lines
    assert "[INFO] DOCKER service completed: job_id=1 status=ERRORED" in lines
    assert not any("Transferring outputs" in line for line in lines)


def test_a_failed_pull_is_told_with_the_registrys_words(machine: Machine, log: io.StringIO) -> None:
    lines = _lines_of(machine, log, registry={})
    told = next(line for line in lines if "Image pull failed" in line)
    assert re.fullmatch(r'\[ERROR\] Image pull failed: python:3 job_id=1 error="pull access denied .*"', told)
    assert not any("Creating container" in line for line in lines)


def test_a_container_that_cannot_be_created_is_told_with_the_engines_words(machine: Machine, log: io.StringIO) -> None:
    lines = _lines_of(machine, log, submit_error=ExecutorUnavailable("no space left on device"))
    assert '[ERROR] Failed to create container: name=job-1 job_id=1 error="no space left on device"' in lines
    assert not any("Starting container" in line for line in lines)


@pytest.mark.parametrize(
    ("observation", "line"),
    [
        (
            Observation(phase=Phase.REJECTED, reason="no such program: pyton"),
            '[ERROR] Failed to start container: job_id=1 reason="no such program: pyton"',
        ),
        (Observation(phase=Phase.LOST, reason="it is gone"), "[ERROR] Job lost: job_id=1, reason=it is gone"),
    ],
)
def test_what_has_no_exit_code_is_not_told_to_have_exited(
    machine: Machine, log: io.StringIO, observation: Observation, line: str
) -> None:
    lines = _lines_of(machine, log, Script(observation=observation))
    assert line in lines
    assert not any("Container exited" in told for told in lines)


def test_an_engine_that_goes_before_a_container_is_removed_is_no_failure(machine: Machine, log: io.StringIO) -> None:
    lines = _lines_of(machine, log, cleanup_error=ExecutorUnavailable("no engine answers"))
    assert '[WARNING] Container not removed: job_id=1 reason="no engine answers"' in lines
    assert "[INFO] DOCKER service completed: job_id=1 status=COMPLETED" in lines
    assert not any("Internal error" in line for line in lines)
