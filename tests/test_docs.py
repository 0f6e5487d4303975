"""The documentation says what the code says."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rnd.config import config_keys
from rnd.types.config_keys import MEANINGS
from rnd.types.log_events import LogEvent

PROJECT = Path(__file__).resolve().parent.parent
DOCS = PROJECT / "docs"


def tool(name: str) -> ModuleType:
    """Return one of the scripts in tools/ as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", PROJECT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def log_events_tool() -> ModuleType:
    return tool("log_events")


def test_the_page_of_keys_is_what_the_configuration_takes() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert page == tool("config_keys").page_with_table(page), "run tools/config_keys.py"
    assert tuple(MEANINGS) == config_keys()


def test_the_page_of_log_lines_is_the_catalogue(log_events_tool: ModuleType) -> None:
    page = (DOCS / "log-events.md").read_text(encoding="utf-8")
    assert page == log_events_tool.page_with_tables(page), "run tools/log_events.py"


def test_every_log_line_belongs_to_a_section_and_says_what_it_means(log_events_tool: ModuleType) -> None:
    listed = [event for _, events in log_events_tool.sections() for event in events]
    assert listed == list(LogEvent)
    assert [event.name for event in LogEvent if not event.meaning] == []
    assert {event.level for event in LogEvent} <= {"debug", "info", "warning", "error", "critical"}


def test_no_field_of_a_log_line_stands_twice() -> None:
    assert [event.name for event in LogEvent if set(event.also) & set(event.fields)] == []


# Every line of the document's "Logs to check" lists, transcripts, diagrams and greps, as it prints them.
DOCUMENTED_LINES = """\
Executing workflow: workflow_id=10, execution_id=50
Building workflow definition: workflow_id=10
Created workflow execution: execution_id=X
Starting workflow execution: execution_id=X
Phase 1: Creating jobs
Creating workflow job: node_id=1, executor=peer_data
Created local job execution: job_id=100
Sending remote job request: peer_id=peer_worker, service_name=Train Model
Received remote job execution ID: 200
All jobs created: count=2
Phase 2: Building mappings
Building node to job execution ID mappings
Node to job execution ID: {1: 100, 2: 200}
Sending start commands
Sending start command: job_execution_id=X, executor=Y
Sent start command: job_id=100 (local)
Sent start command: job_id=200 (remote peer_worker)
Job start received: job_id=X
Workflow execution started: execution_id=50
Checking inputs ready: job_id=X
Checking input path
Expected input path: X
Input path exists: X
Input path missing: X (waiting)
Duty acknowledged: false (waiting for transfer)
All inputs ready: job_id=X
Inputs ready: job_id=X (transitioning to READY)
Job transitioning: IDLE → READY
Updating workflow statuses: active_count=X
Requesting job status: peer_id=X, job_id=Y
Received job status: job_id=X, status=Y
Workflow completed: execution_id=X, status=Y
Workflow failed: execution_id=X, error=Y
Initiating transfer: transfer_id=X, source=Y, dest=Z
Transfer request sent: size=X bytes
Transfer request sent: transfer_id=uuid-123, dest=peer_worker
Transfer accepted: transfer_id=X
Sending chunk: transfer_id=X, chunk=Y/Z
Sending chunks: transfer_id=uuid-123, total=10
Chunk received: transfer_id=X, chunk=Y
Receiving chunks: 1/10, 2/10, ... 10/10
Transfer completed: transfer_id=X, bytes=Y
Transfer completed: transfer_id=uuid-123
Duty acknowledged: interface_peer_id=X
Received transfer request: transfer_id=uuid-123, size=10MB
Executing DATA service: job_id=X, service_id=Y
DATA service path: X
Initiating transfers for DATA service: count=X
DATA service execution completed: job_id=X
Executing DOCKER service: job_id=X, image=Y
Building mounts: count=X
Pulling Docker image: X
Creating container: name=job-X
Starting container: container_id=X
Streaming logs: job_id=X
Container exited: code=X
DOCKER service completed: job_id=200
Transferring outputs: count=X files
Executing STANDALONE service: job_id=X, binary=Y
Setting working directory: X
Executing process: command=X, args=Y
Process exited: code=X
STANDALONE service completed: job_id=X
Job queue processing: found 1 READY jobs
Executing job: job_id=100, type=DATA
Received job request: orchestrator=peer_orch, service_name=Train Model
Found service: id=25, name=Train Model, type=DOCKER
Created job execution: id=200
Sending job request response: remote_job_id=200
Received job start command: job_id=200
Peer connected (websocket in place of QUIC connection): peer_id=X
""".splitlines()


def pattern_of(event: LogEvent) -> re.Pattern[str]:
    literal_parts = re.split(r"\{\w+\}", event)
    return re.compile("(.+)".join(map(re.escape, literal_parts)))


@pytest.mark.parametrize("line", DOCUMENTED_LINES)
def test_every_documented_line_has_its_event(line: str) -> None:
    assert any(pattern_of(event).fullmatch(line) for event in LogEvent)


def links_of(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


@pytest.mark.parametrize(
    "page", sorted([*DOCS.rglob("*.md"), *PROJECT.glob("*.md")]), ids=lambda page: str(page.relative_to(PROJECT))
)
def test_every_link_leads_somewhere(page: Path) -> None:
    gone = [link for link in links_of(page) if not (page.parent / link.partition("#")[0]).exists()]
    assert gone == []


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


COOKBOOK_QUERIES = [
    statement for statement in blocks_of(DOCS / "sqlite-cookbook.md", "sql") if not statement.startswith("CREATE")
]


@pytest.fixture(scope="module")
def empty_database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript((PROJECT / "schema.sql").read_text(encoding="utf-8"))
    yield connection
    connection.close()


@pytest.mark.parametrize("query", COOKBOOK_QUERIES)
def test_every_query_of_the_cookbook_runs(empty_database: sqlite3.Connection, query: str) -> None:
    assert empty_database.execute(re.sub(r"\bX\b", "1", query)).fetchall() == []


def texts_grepped() -> list[str]:
    commands = "".join(blocks_of(DOCS / "grep-cookbook.md", "bash"))
    return [text for text in re.findall(r'^grep "([^"]+)"', commands, flags=re.MULTILINE) if "=" not in text]


@pytest.mark.parametrize("text", texts_grepped())
def test_every_grep_of_the_cookbook_has_lines_to_find(text: str) -> None:
    assert any(text in event for event in LogEvent)
