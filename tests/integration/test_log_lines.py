"""The document's log lines appear word for word in the log of real runs, and its transcripts' lines in their order.

The expected lines are written out here and not taken from the catalogue; what stands for an id, a path or a reason is a
word in braces. Every documented member of the catalogue is either expected here or listed with the reason why one peer
on its own never writes it.
"""

from __future__ import annotations

import importlib.util
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from rnd.types.log_events import LogEvent
from tests.log_lines import without_run
from tests.running_peer import RunningPeer, running_peer

PROJECT = Path(__file__).resolve().parent.parent.parent
CHUNK_BYTES = 4096
PASSPHRASE = "correct horse " + secrets.token_hex(4)

# What a word in braces stands for.
FIELDS: Final[Mapping[str, str]] = {
    "transfer": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "n": r"\d+",
    "path": r"/[^\n]+",
    "relative": r"workflows/[^\n]+",
    "input": r"/[^\n]+/workflows/{peer}/\d+/jobs/{peer}/\d+/input/{peer}/\d+",
    "words": r".+",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Three executions on one peer: one that waits and completes, one that fails, and one of an encrypted DATA."""

    peer_id: str
    programs: str
    waiting: int
    failing: int
    lines: tuple[str, ...]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    place = tmp_path_factory.mktemp("log lines")
    env = {"RND_LOG_LEVEL": "DEBUG", "RND_CHUNK_BYTES": str(CHUNK_BYTES), "RND_STATUS_INTERVAL_S": "0.2"}
    with running_peer(place / "peer", env=env) as peer:
        waiting = _golden_run(peer, place)
        failing = _failing_run(peer)
        _encrypted_run(peer, place)
        yield Runs(
            peer_id=peer.call("node.status")["peer_id"],
            programs=str(place / "peer-programs"),
            waiting=waiting,
            failing=failing,
            lines=tuple(map(without_run, peer.log_lines())),
        )


def _golden_run(peer: RunningPeer, place: Path) -> int:
    """DATA -> STANDALONE by stdin -> STANDALONE by mount -> self-peer; the last also waits for a gated fourth job."""
    source, gate = place / "numbers.bin", place / "gate"
    source.write_bytes(b"0123456789abcde\n" * (10 * CHUNK_BYTES // 16))
    mount = [{"interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT"}]
    workflow = peer.workflow("golden")
    data = peer.node(workflow, peer.data("numbers", source))
    middle = peer.node(workflow, peer.program("count", "wc -l"))
    gated = peer.node(workflow, peer.program("gated", f"while ! test -e '{gate}'; do sleep 0.05; done; echo open"))
    last = peer.node(
        workflow, peer.program("show", 'cat "$1"/*', interfaces=mount, cmd=["{mount:/input}", "two words"])
    )
    peer.connect(workflow, data, middle)
    peer.connect(workflow, gated, last, "STDOUT->MOUNT", destination_file_name="b.txt")
    peer.connect(workflow, middle, last, "STDOUT->MOUNT", destination_file_name="a.txt")
    home = peer.connect(workflow, last, None)
    execution_id = peer.execute(workflow)
    peer.eventually("SELECT status FROM job_executions ORDER BY id", [("COMPLETED",)] * 2 + [("RUNNING",), ("IDLE",)])
    while not any("Updating workflow statuses" in line for line in peer.log_lines()):
        pass
    gate.touch()
    assert peer.wait(execution_id)["status"] == "COMPLETED"
    assert peer.results(execution_id) == {(home, "stdout.txt"): b"2560\nopen\n"}
    return execution_id


def _failing_run(peer: RunningPeer) -> int:
    workflow = peer.workflow("failing")
    peer.node(workflow, peer.program("failing", "echo the cause >&2; exit 3"))
    execution = peer.run(workflow)
    assert execution["status"] == "FAILED"
    return int(execution["id"])


def _encrypted_run(peer: RunningPeer, place: Path) -> None:
    source = place / "secret.txt"
    source.write_text("the payload itself\n")
    workflow = peer.workflow("encrypted")
    data = peer.node(workflow, peer.data("sealed", source, passphrase=PASSPHRASE))
    reader = peer.program("reader", 'cat > /dev/null; test -n "$KEY"', env={"KEY": "value of the environment"})
    node = peer.node(workflow, reader)
    peer.connect(workflow, data, node)
    assert peer.run(workflow, passphrase=PASSPHRASE)["status"] == "COMPLETED"


def line_pattern(expected: str, known: Mapping[str, object]) -> re.Pattern[str]:
    """Return the pattern of a whole line, its time included; words in braces mean what FIELDS or the run says."""
    fields = {**FIELDS, **{name: re.escape(str(value)) for name, value in known.items()}}
    parts = re.split(r"\{(\w+)\}", expected)
    text = "".join(fields[part] if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z " + text.replace("{peer}", fields["peer"]))


# ---------------------------------------------------------------- every line

# Level, the line of the document, and what rnd adds as key=value. {peer}, {x} (the execution that waits) and {f} (the
# one that fails) are filled in.
EXPECTED: Final = (
    # Execution Triggers
    ("INFO", "Executing workflow: workflow_id=1, execution_id={x}", ""),
    ("INFO", "Building workflow definition: workflow_id=1", ""),
    ("INFO", "Created workflow execution: execution_id={x}", ""),
    ("INFO", "Starting workflow execution: execution_id={x}", ""),
    ("INFO", "Workflow execution started: execution_id={x}", ""),
    # Two-Phase Execution Model
    ("INFO", "Phase 1: Creating jobs", " execution_id={x}"),
    ("INFO", "Creating workflow job: node_id=1, executor={peer}", ""),
    ("INFO", "Created local job execution: job_id=1", ""),
    ("INFO", "All jobs created: count=4", " execution_id={x}"),
    ("INFO", "Phase 2: Building mappings", " execution_id={x}"),
    ("INFO", "Building node to job execution ID mappings", " execution_id={x}"),
    ("INFO", "Node to job execution ID: {mapping}", " execution_id={x}"),
    ("INFO", "Sending start commands", " execution_id={x}"),
    ("INFO", "Sending start command: job_execution_id=1, executor={peer}", ""),
    ("INFO", "Sent start command: job_id=1 (local)", ""),
    ("INFO", "Job start received: job_id=1", ""),
    # Job Scheduling
    ("INFO", "Job queue processing: found {n} READY jobs", ""),
    ("INFO", "Executing job: job_id=1, type=DATA", ""),
    ("INFO", "Executing job: job_id=2, type=STANDALONE", ""),
    ("INFO", "Job transitioning: IDLE → READY", " job_id=2"),
    # Dependency Resolution
    ("INFO", "Checking inputs ready: job_id=4", ""),
    ("INFO", "Expected input path: {input}", " job_id=4"),
    ("INFO", "Input path exists: {input}", " job_id=4"),
    ("INFO", "Input path missing: {input} (waiting)", " job_id=4"),
    ("INFO", "Duty acknowledged: false (waiting for transfer)", " job_id=4 interface_peer_id={n}"),
    ("INFO", "All inputs ready: job_id=4", ""),
    ("INFO", "Inputs ready: job_id=4 (transitioning to READY)", ""),
    # Debugging Guide, Issue 2
    ("DEBUG", "Checking input path", ' path="{input}" exists=false duty_acknowledged=false job_id=4'),
    ("DEBUG", "Checking input path", ' path="{input}" exists=true duty_acknowledged=true job_id=4'),
    # Periodic Status Updates
    ("INFO", "Updating workflow statuses: active_count=1", ""),
    ("INFO", "Workflow completed: execution_id={x}, status=COMPLETED", ""),
    ("ERROR", "Workflow failed: execution_id={f}, error={words}the cause", ""),
    # Transfer Protocol, the sending side
    ("INFO", "Initiating transfer: transfer_id={transfer}, source=service:1, dest={relative}", " job_id=1 peer={peer}"),
    ("INFO", "Transfer request sent: transfer_id={transfer}, dest={peer}", ""),
    ("INFO", "Transfer request sent: size=40960 bytes", " transfer_id={transfer}"),
    ("INFO", "Transfer accepted: transfer_id={transfer}", ""),
    ("INFO", "Sending chunks: transfer_id={transfer}, total=10", ""),
    ("DEBUG", "Sending chunk: transfer_id={transfer}, chunk=1/10", ""),
    ("DEBUG", "Sending chunk: transfer_id={transfer}, chunk=10/10", ""),
    ("INFO", "Transfer completed: transfer_id={transfer}, bytes=40960", ""),
    ("INFO", "Duty acknowledged: interface_peer_id={n}", ""),
    ("INFO", "Transferring outputs: count=1 files", " job_id=2"),
    # Transfer Protocol, the receiving side
    ("INFO", "Received transfer request: transfer_id={transfer}, size=40KB", " bytes=40960"),
    ("INFO", "Receiving chunks: 1/10, 2/10, ... 10/10", " transfer_id={transfer}"),
    ("DEBUG", "Chunk received: transfer_id={transfer}, chunk=1", ""),
    ("DEBUG", "Chunk received: transfer_id={transfer}, chunk=10", ""),
    ("INFO", "Transfer completed: transfer_id={transfer}", " bytes=40960"),
    # DATA Service Execution
    ("INFO", "Executing DATA service: job_id=1, service_id=1", ""),
    ("INFO", "DATA service path: {words}", " job_id=1"),
    ("INFO", "Initiating transfers for DATA service: count=1", " job_id=1"),
    ("INFO", "DATA service execution completed: job_id=1", ""),
    # STANDALONE Service Execution
    ("INFO", "Executing STANDALONE service: job_id=4, binary={programs}/show", ""),
    ("INFO", "Setting working directory: {path}/output", " job_id=4"),
    ("INFO", 'Executing process: command={programs}/show, args=["{path}/mounts/input", "two words"]', " job_id=4"),
    ("INFO", "Process exited: code=0", " job_id=4 signal=null"),
    ("INFO", "Process exited: code=3", " job_id=5 signal=null"),
    ("INFO", "STANDALONE service completed: job_id=4", ""),
)

REMOTE: Final = "only a job on another peer has it"
ORDERED: Final = "only a job that another peer has ordered has it"
DOCKER: Final = "only a container has it"
LINK: Final = "only a link to another peer has it"

CANNOT_OCCUR: Final[Mapping[str, str]] = {
    "SENDING_REMOTE_JOB_REQUEST": REMOTE,
    "RECEIVED_REMOTE_JOB_EXECUTION_ID": REMOTE,
    "SENT_START_COMMAND_REMOTE": REMOTE,
    "REQUESTING_JOB_STATUS": REMOTE,
    "RECEIVED_JOB_STATUS": REMOTE,
    "RECEIVED_JOB_REQUEST": ORDERED,
    "FOUND_SERVICE": ORDERED,
    "CREATED_JOB_EXECUTION": ORDERED,
    "SENDING_JOB_REQUEST_RESPONSE": ORDERED,
    "RECEIVED_JOB_START_COMMAND": ORDERED,
    "EXECUTING_DOCKER_SERVICE": DOCKER,
    "BUILDING_MOUNTS": DOCKER,
    "PULLING_DOCKER_IMAGE": DOCKER,
    "IMAGE_PULL_FAILED": DOCKER,
    "CREATING_CONTAINER": DOCKER,
    "CONTAINER_CREATE_FAILED": DOCKER,
    "STARTING_CONTAINER": DOCKER,
    "STREAMING_LOGS": DOCKER,
    "CONTAINER_EXITED": DOCKER,
    "DOCKER_SERVICE_COMPLETED": DOCKER,
    "PEER_CONNECTED": LINK,
    "PEER_DISCONNECTED": LINK,
    "PING_SENT": LINK,
    "PONG_RECEIVED": LINK,
    "PEER_LISTENING": LINK,
    "PEER_REFUSED": LINK,
}


def _known(runs: Runs) -> dict[str, object]:
    return {
        "peer": runs.peer_id,
        "programs": runs.programs,
        "x": runs.waiting,
        "f": runs.failing,
        "mapping": "{1: 1, 2: 2, 3: 3, 4: 4}",
    }


@pytest.mark.parametrize(("level", "text", "fields"), EXPECTED, ids=[text for _, text, _ in EXPECTED])
def test_a_documented_line_appears_word_for_word(runs: Runs, level: str, text: str, fields: str) -> None:
    wanted = line_pattern(f"[{level}] {text}{fields}", _known(runs))
    assert any(wanted.fullmatch(line) for line in runs.lines), _near(runs, text)


def _near(runs: Runs, text: str) -> str:
    beginning = re.split("[{:]", text, maxsplit=1)[0]
    alike = [line for line in runs.lines if beginning in line]
    return "\n".join([f"no such line; those that begin alike: {beginning}", *alike[:20]])


def test_every_documented_member_is_expected_or_cannot_occur() -> None:
    texts = [re.sub(r"\{\w+\}", "1", text) for _, text, _ in EXPECTED]
    neither, both = [], []
    for event in documented_members():
        literals = "(.+)".join(re.escape(part) for part in re.split(r"\{\w+\}", event))
        is_expected = any(re.fullmatch(literals, text) for text in texts)
        if is_expected is (event.name in CANNOT_OCCUR):
            (both if is_expected else neither).append(event.name)
    assert neither == [], "expect them in EXPECTED, or say in CANNOT_OCCUR why one peer never writes them"
    assert both == []
    assert set(CANNOT_OCCUR) <= {event.name for event in documented_members()}


def documented_members() -> list[LogEvent]:
    """Return the members in the catalogue's sections that name their place in the document."""
    spec = importlib.util.spec_from_file_location("log_events_tool", PROJECT / "tools" / "log_events.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return [event for title, events in tool.sections() if "(document" in title for event in events]


# ---------------------------------------------------------------- the transcripts

# "Orchestrator Logs", with all three jobs here.
ORCHESTRATOR: Final = (
    "Executing workflow: workflow_id=1, execution_id={x}",
    "Building workflow definition: workflow_id=1",
    "Phase 1: Creating jobs",
    "Creating workflow job: node_id=1, executor={peer}",
    "Created local job execution: job_id=1",
    "Creating workflow job: node_id=2, executor={peer}",
    "Created local job execution: job_id=2",
    "Creating workflow job: node_id=3, executor={peer}",
    "Created local job execution: job_id=3",
    "Creating workflow job: node_id=4, executor={peer}",
    "Created local job execution: job_id=4",
    "All jobs created: count=4",
    "Phase 2: Building mappings",
    "Node to job execution ID: {mapping}",
    "Sending start commands",
    "Sent start command: job_id=1 (local)",
    "Sent start command: job_id=2 (local)",
    "Sent start command: job_id=3 (local)",
    "Sent start command: job_id=4 (local)",
    "Workflow execution started: execution_id={x}",
)

# "Job Execution Logs (Orchestrator)"; {t} is the one delivery of the DATA job.
DATA_JOB: Final = (
    "Job queue processing: found {n} READY jobs",
    "Executing job: job_id=1, type=DATA",
    "Executing DATA service: job_id=1, service_id=1",
    "Initiating transfers for DATA service: count=1",
    "Transfer request sent: transfer_id={t}, dest={peer}",
    "Transfer accepted: transfer_id={t}",
    "Sending chunks: transfer_id={t}, total=10",
    "Transfer completed: transfer_id={t}, bytes=40960",
    "Duty acknowledged: interface_peer_id={n}",
    "DATA service execution completed: job_id=1",
)

# "Remote Peer Logs" from the start command on, with STANDALONE lines in place of the container's.
RECEIVING_JOB: Final = (
    "Job start received: job_id=2",
    "Received transfer request: transfer_id={t}, size=40KB",
    "Transfer accepted: transfer_id={t}",
    "Receiving chunks: 1/10, 2/10, ... 10/10",
    "Transfer completed: transfer_id={t}",
    "Duty acknowledged: interface_peer_id={n}",
    "Checking inputs ready: job_id=2",
    "All inputs ready: job_id=2",
    "Job transitioning: IDLE → READY",
    "Executing job: job_id=2, type=STANDALONE",
    "Executing STANDALONE service: job_id=2, binary={programs}/count",
    "Setting working directory: {path}",
    "Executing process: command={programs}/count, args=[]",
    "Process exited: code=0",
    "STANDALONE service completed: job_id=2",
    "Transferring outputs: count=1 files",
)


@pytest.mark.parametrize(
    "transcript", [ORCHESTRATOR, DATA_JOB, RECEIVING_JOB], ids=["orchestrator", "DATA job", "receiving job"]
)
def test_a_transcript_comes_in_its_order(runs: Runs, transcript: Sequence[str]) -> None:
    known = {**_known(runs), "t": _delivery_of_data(runs)}
    lines = iter(runs.lines)
    for expected in transcript:
        wanted = line_pattern(f"[INFO] {expected}", known)
        begins = re.compile(wanted.pattern + r"( \w+=.*)?")
        assert any(begins.fullmatch(line) for line in lines), f"{expected!r} is missing, or does not come in its place"


def _delivery_of_data(runs: Runs) -> str:
    found = [re.search(r"Initiating transfer: transfer_id=(\S+), source=service:1,", line) for line in runs.lines]
    (transfer_id,) = [match[1] for match in found if match]
    return transfer_id


# ---------------------------------------------------------------- all lines


def test_every_line_has_a_time_a_level_and_a_text_of_the_catalogue(runs: Runs) -> None:
    shapes = [
        re.compile("(.+)".join(re.escape(part) for part in re.split(r"\{\w+\}", event)) + r"( \w+=.*)?")
        for event in LogEvent
    ]
    for line in runs.lines:
        match = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[(DEBUG|INFO|WARNING|ERROR)\] (.+)", line)
        assert match, line
        assert any(shape.fullmatch(match[2]) for shape in shapes), line


def test_no_line_shows_a_passphrase_a_payload_or_an_environment(runs: Runs) -> None:
    log = "\n".join(runs.lines)
    for secret in (PASSPHRASE, "the payload itself", "value of the environment", "0123456789abcde"):
        assert secret not in log


def test_nothing_is_told_as_a_warning_or_an_error_in_a_run_that_goes_well(runs: Runs) -> None:
    loud = [line for line in runs.lines if re.search(r"\[(WARNING|ERROR|CRITICAL)\]", line)]
    assert len(loud) == 2, loud
    assert "Job errored: job_id=5" in loud[0]
    assert f"Workflow failed: execution_id={runs.failing}" in loud[1]
