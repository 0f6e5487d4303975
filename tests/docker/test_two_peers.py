"""DATA -> DOCKER -> DOCKER -> self-peer over two real daemons: the example, its result, and the document's transcripts."""

from __future__ import annotations

import collections
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from docker import APIClient

from tests.docker.engine import IMAGE
from tests.running_peer import PROJECT
from tests.running_peers import Peer, pair, wait_until

TEXT = "the quick brown fox\njumps over the lazy dog the end\n" * 500

# "Orchestrator Logs" of the document, from its remote job on.
ORCHESTRATOR = (
    "Executing workflow: workflow_id=1, execution_id=1",
    "Building workflow definition: workflow_id=1",
    "Phase 1: Creating jobs",
    "Creating workflow job: node_id=1, executor={home}",
    "Created local job execution: job_id=1",
    "Creating workflow job: node_id=2, executor={worker}",
    "Sending remote job request: peer_id={worker}, service_name=words",
    "Received remote job execution ID: 1",
    "All jobs created: count=3",
    "Phase 2: Building mappings",
    "Sending start commands",
    "Sent start command: job_id=1 (remote {worker})",
    "Workflow execution started: execution_id=1",
)

# "Remote Peer Logs" of the document; the image is there already.
REMOTE = (
    "Received job request: orchestrator={home}, service_name=words",
    "Found service: id=1, name=words, type=DOCKER",
    "Created job execution: id=1",
    "Sending job request response: remote_job_id=1",
    "Received job start command: job_id=1",
    "Job start received: job_id=1",
    "Received transfer request: transfer_id={transfer}, size=",
    "Transfer accepted: transfer_id={transfer}",
    "Transfer completed: transfer_id={transfer}",
    "Duty acknowledged: interface_peer_id=",
    "Checking inputs ready: job_id=1",
    "All inputs ready: job_id=1",
    "Job transitioning: IDLE → READY",
    "Executing job: job_id=1, type=DOCKER",
    "Executing DOCKER service: job_id=1, image=" + IMAGE,
    "Creating container: name=job-1",
    "Starting container: container_id=",
    "Streaming logs: job_id=1",
    "Container exited: code=0",
    "DOCKER service completed: job_id=1",
    "Transferring outputs: count=1 files",
)


class Run(NamedTuple):
    """The example, carried out."""

    home: Peer
    worker: Peer
    result: str
    status: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, engine: APIClient, image_id: str) -> Iterator[Run]:
    assert engine.inspect_image(image_id)["Id"] == image_id
    folder = tmp_path_factory.mktemp("two peers")
    (folder / "text.txt").write_text(TEXT)
    home, worker = Peer(folder / "home"), Peer(folder / "worker", env={"RND_NAME": "worker"})
    try:
        for peer in (home, worker):
            peer.start()
        pair(home, worker)
        offer(worker, "words", "tr -s ' ' '\\n'")
        home.give("text", folder / "text.txt")
        offer(home, "count", "sort | uniq -c | sort -rn")
        document = json.loads((PROJECT / "docs/examples/containers-two-peers.json").read_text())
        workflow = home.call("workflow.import", document=document)
        execution_id = home.execute(workflow["id"])
        execution = home.wait(execution_id, timeout_s=120)
        results = home.results(execution_id) if execution["status"] == "COMPLETED" else {}
        yield Run(home, worker, b"".join(results.values()).decode(), f"{execution['status']} {execution['error']}")
    finally:
        home.dispose()
        worker.dispose()


def offer(peer: Peer, name: str, script: str) -> None:
    peer.call(
        "service.create",
        name=name,
        service_type="DOCKER",
        image=IMAGE,
        entrypoint=["/bin/sh", "-c"],
        cmd=[script],
        access="allowed",
    )


def test_the_words_are_counted_right(run: Run) -> None:
    assert run.status == "COMPLETED None"
    counted = {word: int(count) for count, word in (line.split() for line in run.result.splitlines())}
    assert counted == collections.Counter(TEXT.split())


@pytest.mark.parametrize(("side", "transcript"), [("home", ORCHESTRATOR), ("worker", REMOTE)])
def test_the_documents_transcript_comes_in_its_order(run: Run, side: str, transcript: tuple[str, ...]) -> None:
    ((transfer,),) = run.worker.rows("SELECT transfer_id FROM transfers WHERE direction = 'INCOMING'")
    log = run.home.log() if side == "home" else run.worker.log()
    found = 0
    for line in transcript:
        expected = line
        for word, value in {"home": run.home.peer_id, "worker": run.worker.peer_id, "transfer": transfer}.items():
            expected = expected.replace(f"{{{word}}}", value)
        at = log.find(f"[INFO] {expected}", found)
        assert at >= 0, f"{expected!r} does not come after\n{log[:found][-500:]}"
        found = at


def test_nothing_is_left_in_the_engine(run: Run, engine: APIClient, image_id: str) -> None:
    """Containers go a moment after their jobs' ends are written down."""

    def ours() -> list[list[str]]:
        return [each["Names"] for each in engine.containers(all=True, filters={"label": "rnd.directory"})]

    wait_until(lambda: ours() == [], lambda: f"{ours()} are gone")
    for peer in (run.home, run.worker):
        digests = peer.rows("SELECT image_digest FROM job_executions WHERE service_type = 'DOCKER'")
        assert set(digests) == {(image_id,)}
        assert "Traceback" not in peer.stderr()


@pytest.mark.usefixtures("image_id")
def test_the_page_shows_what_happens(tmp_path: Path) -> None:
    """Its commands are run as they stand there, but for the name of the image."""
    section = (PROJECT / "docs/containers.md").read_text().partition("\n## On two peers\n")[2].partition("\n## ")[0]
    commands, told, counted = re.findall(r"^```[a-z]+\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "docs").symlink_to(PROJECT / "docs")
    home, worker = Peer(tmp_path / "home"), Peer(tmp_path / "worker")
    rnd = f'rnd() {{ PYTHONPATH={shlex.quote(str(PROJECT))} {sys.executable} -m rnd "$@"; }}\n'
    elsewhere = re.sub(r"^(.*# on worker)$", rf"RND_DATA_DIR={worker.data_dir} \1", commands, flags=re.MULTILINE)
    assert elsewhere != commands
    try:
        for peer in (home, worker):
            peer.start()
        pair(home, worker)
        done = subprocess.run(
            ["bash", "-ec", rnd + elsewhere.replace("busybox", IMAGE)],
            cwd=tmp_path,
            env={**os.environ, "RND_DATA_DIR": str(home.data_dir)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert without_seconds(done.stdout).endswith("\n" + without_seconds(told)), done.stdout + done.stderr
        assert (tmp_path / "results/counts.txt").read_text() == counted
    finally:
        home.dispose()
        worker.dispose()


def without_seconds(text: str) -> str:
    return re.sub(r"\b\d+\.\d+s\b", "SECONDS", text)
