"""The document's transcripts of an orchestrator and of a remote peer, line by line, from two real daemons.

STANDALONE lines stand in place of the container's; docs/log-events.md says what else rnd writes between the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from tests.integration.test_log_lines import line_pattern
from tests.running_peers import Peer, pair, running_peers, wait_until

SIZE_BYTES: Final = 10 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What two daemons have written while one workflow ran on both, and what they have called things."""

    orchestrator: tuple[str, ...]
    worker: tuple[str, ...]
    known: dict[str, object]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    place = tmp_path_factory.mktemp("transcripts")
    (place / "data.bin").write_bytes(bytes(range(256)) * (SIZE_BYTES // 256))
    gate = place / "gate"
    with running_peers(place, "orchestrator", "worker", env={"RND_STATUS_INTERVAL_S": "0.2"}) as (peer, worker):
        pair(peer, worker)
        warm_up(worker)
        script = f"wc -c; while ! test -e '{gate}'; do sleep 0.05; done"
        train = worker.offer("Train Model", script)
        data = peer.give("data", place / "data.bin")
        workflow = peer.workflow("golden")
        source = peer.node(workflow, data["id"])
        node = peer.remote_node(workflow, worker, train)
        peer.connect(workflow, source, node)
        home = peer.connect(workflow, node, None, destination_file_name="count.txt")
        execution_id = peer.execute(workflow)
        asked = f"Requesting job status: peer_id={worker.peer_id}"
        wait_until(lambda: peer.log().count(asked) > 1, "the job's status is asked for")
        gate.touch()
        assert peer.wait(execution_id)["status"] == "COMPLETED"
        assert peer.results(execution_id) == {(home, "count.txt"): b"10485760\n"}
        worker.until("SELECT COUNT(*) FROM outbox", 0)
        ((remote_id,),) = worker.rows("SELECT MAX(id) FROM job_executions")
        log = "\n".join(peer.log_lines())
        transfer = re.search(r"Initiating transfer: transfer_id=(\S+), source=service:", log)
        back = re.search(r"Received transfer request: transfer_id=(\S+),", log)
        assert transfer
        assert back
        yield Runs(
            orchestrator=tuple(peer.log_lines()),
            worker=tuple(worker.log_lines()),
            known={
                "orch": peer.peer_id,
                "worker": worker.peer_id,
                "peer": worker.peer_id,
                "service": train["id"],
                "binary": train["executable"],
                "w": workflow,
                "x": execution_id,
                "local": 1,
                "remote": remote_id,
                "mapping": f"{{{source}: 1, {node}: {remote_id}}}",
                "t": transfer[1],
                "u": back[1],
            },
        )


def warm_up(worker: Peer) -> None:
    """Have the worker run jobs of its own, so that no id is the same on both peers."""
    workflow, program = worker.workflow("own"), worker.program("own", "exit 0")
    for _ in range(3):
        worker.node(workflow, program)
    assert worker.run(workflow)["status"] == "COMPLETED"


ORCHESTRATOR: Final = (
    "Executing workflow: workflow_id={w}, execution_id={x}",
    "Building workflow definition: workflow_id={w}",
    "Phase 1: Creating jobs",
    "Creating workflow job: node_id=1, executor={orch}",
    "Created local job execution: job_id={local}",
    "Creating workflow job: node_id=2, executor={worker}",
    "Sending remote job request: peer_id={worker}, service_name=Train Model",
    "Received remote job execution ID: {remote}",
    "All jobs created: count=2",
    "Phase 2: Building mappings",
    "Node to job execution ID: {mapping}",
    "Sending start commands",
    "Sent start command: job_id={local} (local)",
    "Sent start command: job_id={remote} (remote {worker})",
    "Workflow execution started: execution_id={x}",
)

JOB_OF_ORCHESTRATOR: Final = (
    "Job queue processing: found 1 READY jobs",
    "Executing job: job_id={local}, type=DATA",
    "Executing DATA service: job_id={local}, service_id=1",
    "Initiating transfers for DATA service: count=1",
    "Transfer request sent: transfer_id={t}, dest={worker}",
    "Transfer accepted: transfer_id={t}",
    "Sending chunks: transfer_id={t}, total=10",
    "Transfer completed: transfer_id={t}, bytes=10485760",
    "Duty acknowledged: interface_peer_id={n}",
    "DATA service execution completed: job_id={local}",
)

REMOTE_PEER: Final = (
    "Received job request: orchestrator={orch}, service_name=Train Model",
    "Found service: id={service}, name=Train Model, type=STANDALONE",
    "Created job execution: id={remote}",
    "Sending job request response: remote_job_id={remote}",
    "Received job start command: job_id={remote}",
    "Job start received: job_id={remote}",
    "Received transfer request: transfer_id={t}, size=10MB",
    "Transfer accepted: transfer_id={t}",
    "Receiving chunks: 1/10, 2/10, ... 10/10",
    "Transfer completed: transfer_id={t}",
    "Duty acknowledged: interface_peer_id={n}",
    "Checking inputs ready: job_id={remote}",
    "All inputs ready: job_id={remote}",
    "Job transitioning: IDLE → READY",
    "Executing job: job_id={remote}, type=STANDALONE",
    "Executing STANDALONE service: job_id={remote}, binary={binary}",
    "Setting working directory: {path}",
    "Executing process: command={binary}, args=[]",
    "Process exited: code=0",
    "STANDALONE service completed: job_id={remote}",
    "Transferring outputs: count=1 files",
)

WAY_HOME_SENT: Final = (
    "Transfer request sent: transfer_id={u}, dest={orch}",
    "Transfer accepted: transfer_id={u}",
    "Sending chunks: transfer_id={u}, total=1",
    "Transfer completed: transfer_id={u}, bytes=9",
    "Duty acknowledged: interface_peer_id={n}",
)

WAY_HOME_RECEIVED: Final = (
    "Received transfer request: transfer_id={u}, size=9B",
    "Transfer accepted: transfer_id={u}",
    "Receiving chunks: 1/1",
    "Transfer completed: transfer_id={u}",
    "Result delivered: execution_id={x}, connection_id=2, files=1",
    "Workflow completed: execution_id={x}, status=COMPLETED",
)

STATUS: Final = (
    "Sending start command: job_execution_id={local}, executor={orch}",
    "Sending start command: job_execution_id={remote}, executor={worker}",
    "Updating workflow statuses: active_count=1",
    "Requesting job status: peer_id={worker}, job_id={remote}",
    "Received job status: job_id={remote}, status=RUNNING",
    "Received job status: job_id={remote}, status=COMPLETED",
)

LINK: Final = ("Peer connected (websocket in place of QUIC connection): peer_id={worker}",)


@pytest.mark.parametrize(
    ("side", "transcript"),
    [
        ("orchestrator", ORCHESTRATOR),
        ("orchestrator", JOB_OF_ORCHESTRATOR),
        ("worker", REMOTE_PEER),
        ("worker", WAY_HOME_SENT),
        ("orchestrator", WAY_HOME_RECEIVED),
        ("orchestrator", STATUS),
        ("orchestrator", LINK),
    ],
    ids=["orchestrator", "DATA job", "remote peer", "way home sent", "way home received", "status", "link"],
)
def test_a_transcript_comes_in_its_order(runs: Runs, side: str, transcript: Sequence[str]) -> None:
    lines = iter(getattr(runs, side))
    for expected in transcript:
        wanted = line_pattern(f"[INFO] {expected}", runs.known)
        begins = re.compile(wanted.pattern + r"( \w+=.*)?")
        assert any(begins.fullmatch(line) for line in lines), f"{expected!r} is missing, or does not come in its place"


def test_a_run_across_peers_that_goes_well_warns_of_nothing(runs: Runs) -> None:
    for lines in (runs.orchestrator, runs.worker):
        loud = [line for line in lines if re.search(r"\[(WARNING|ERROR|CRITICAL)\]", line)]
        assert [line for line in loud if "Peer refused" not in line] == []


def test_no_line_comes_twice(runs: Runs) -> None:
    """What is told once is told once: an order, its answer, a start, a transfer."""
    for lines, words in (
        (runs.orchestrator, ("Sending remote job request", "Received remote job execution ID", "Transfer completed")),
        (runs.worker, ("Received job request", "Created job execution", "Received job start command")),
    ):
        for word in words:
            found = [line for line in lines if word in line]
            assert len(found) == len({line.split("] ", 1)[1] for line in found}), found
