"""The documentation says what the code says."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import re
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rnd import daemon
from rnd.api import envelope
from rnd.api.method_table import build_table
from rnd.api.openrpc import describe
from rnd.cli import failures
from rnd.cli import main as command
from rnd.cli.manual import every_command
from rnd.cli.parser import build_parser, parse
from rnd.config import config_keys
from rnd.services.docker_service import BOUND_NAMES
from rnd.types import errors
from rnd.types.config_keys import MEANINGS
from rnd.types.enums import EventType
from rnd.types.errors import ApplicationError
from rnd.types.log_events import LogEvent
from tests.console_pages import PROJECT, tool

DOCS = PROJECT / "docs"
METHODS = build_table().methods


@pytest.fixture(scope="module")
def log_events_tool() -> ModuleType:
    return tool("log_events")


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["commands", "config_keys", "error_codes", "log_events", "rpc_methods"])
def test_a_page_that_a_tool_makes_is_what_the_sources_make_of_it(name: str) -> None:
    part = tool(name).PART
    assert text_of(part.name) == part.page(), f"run tools/{name}.py"


def test_every_key_has_its_row() -> None:
    assert tuple(MEANINGS) == config_keys()
    assert re.findall(r"^\| `([a-z_.]+)` \|", text_of("configuration.md"), flags=re.MULTILINE) == list(config_keys())


def test_every_log_line_has_its_row() -> None:
    listed = re.findall(r"^\| `([A-Z0-9_]+)` \| `", text_of("log-events.md"), flags=re.MULTILINE)
    assert listed == [event.name for event in LogEvent]


def sections_of(page: str) -> dict[str, str]:
    """Return what stands below each heading of the fourth level."""
    parts = re.split(r"^#{1,4} (.+)\n", text_of(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_method_has_its_section_with_every_parameter() -> None:
    sections = sections_of("rpc-methods.md")
    listed = [name for name in sections if re.fullmatch(r"[a-z]+\.[a-z_]+", name)]
    assert sorted(listed) == sorted(METHODS)
    for name, method in METHODS.items():
        assert re.findall(r"^\| `(\w+)`", sections[name], re.MULTILINE) == [each.name for each in method.parameters]
        assert method.summary in sections[name]
        assert f"`{method.scope}`" in sections[name] or method.scope is None


def application_errors() -> list[type[ApplicationError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ApplicationError)]
    return [each for each in found if each is not ApplicationError]


def test_every_error_has_its_row_with_what_to_do() -> None:
    rows = re.findall(r"^\| (-?\d+) \| `(\w+)` \| (.+) \| (.+) \|$", text_of("errors.md"), flags=re.MULTILINE)
    theirs = {value for value in vars(envelope).values() if isinstance(value, int) and value < 0}
    assert {int(code) for code, *_ in rows} == theirs | {error.code for error in application_errors()}
    for error in application_errors():
        ((when, do),) = [row[2:] for row in rows if row[:2] == (str(error.code), error.error)]
        assert error.default_hint in do
        if "code" in vars(error):
            assert error.__doc__ in when


def test_no_other_module_has_a_code_that_is_not_in_the_table() -> None:
    codes = {error.code for error in application_errors()}
    for module in PROJECT.joinpath("rnd").rglob("*.py"):
        found = re.findall(r"^    code(?:: [^=]+)? = (\d{4})$", module.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(map(int, found)) <= codes, module


def test_the_description_of_the_api_has_the_errors_of_the_page() -> None:
    described: Any = describe([], version="0")["components"]
    assert {(each["code"], name) for name, each in described["errors"].items()} == {
        (error.code, error.error) for error in application_errors()
    }


def test_every_command_has_its_section_with_every_option() -> None:
    sections = sections_of("commands.md")
    listed = list(every_command(build_parser(), "rnd", ""))[1:]
    assert [words for words, *_ in listed] == [name for name in sections if name.startswith("rnd ")]
    for words, summary, parser in listed:
        assert summary
        assert summary in sections[words]
        for action in parser._actions:
            if action.help != argparse.SUPPRESS and (action.option_strings or action.help):
                named = "|".join(map(re.escape, action.option_strings)) or re.escape(str(action.metavar or "|"))
                place = (sections[words] + sections["Options of every command"]).replace("\\|", "|")
                assert re.search(rf"^\| `[^`]*(?<![\w-])(?:{named})(?![\w-])", place, re.MULTILINE), (words, named)


def test_every_exit_code_has_its_row() -> None:
    listed = re.findall(r"^\| (\d+) \|", sections_of("commands.md")["Exit codes"], flags=re.MULTILINE)
    sources = {**vars(failures), **{name: code for name, code in vars(daemon).items() if name.startswith("EXIT_")}}
    codes = {code for name, code in sources.items() if isinstance(code, int) and name != "PERMISSION_DENIED_CODE"}
    assert [int(code) for code in listed] == sorted(codes | {command.BROKEN_PIPE})


def test_every_metric_has_its_row() -> None:
    source = (PROJECT / "rnd" / "api" / "metrics.py").read_text(encoding="utf-8")
    families = set(re.findall(r"_(?:family|histogram)\(\s*\"(rnd_\w+)\"", source))
    assert len(families) > 10
    assert families <= set(re.findall(r"^\| `(rnd_\w+)` \|", text_of("metrics.md"), flags=re.MULTILINE))


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


PAGES = sorted([*DOCS.rglob("*.md"), *PROJECT.glob("*.md")])


def prose_of(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links_of(page: Path) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)) if "://" not in target]


def anchors_of(page: Path) -> set[str]:
    """Return what a link may name after #: each heading, in small letters, without signs, with dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def target_of(page: Path, link: str) -> Path:
    """Return the file or folder a link leads to; of a folder with a page of its own, that page."""
    name = link.partition("#")[0]
    target = (page.parent / name).resolve() if name else page
    return target / "README.md" if (target / "README.md").is_file() else target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    gone = []
    for link in links_of(page):
        target, anchor = target_of(page, link), link.partition("#")[2]
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            gone.append(link)
    assert gone == []


def test_every_page_is_reached_from_the_readme_by_links() -> None:
    waiting, reached = [PROJECT / "README.md"], set()
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting += [target_of(page, link) for link in links_of(page)]
    assert [str(page.relative_to(PROJECT)) for page in PAGES if page not in reached] == []


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


ENDS_A_COMMAND = set("();<>|&")


def commands_of(page: Path) -> list[list[str]]:
    """Return the arguments of every `rnd` in a page's blocks for a shell; quotations that go over lines are left out."""
    found = []
    for line in "".join([*blocks_of(page, "bash"), *blocks_of(page, "console")]).splitlines():
        lexer = shlex.shlex(re.sub(r"^\w*\$ ", "", line), posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        with contextlib.suppress(ValueError):
            words = list(lexer)
            for at, word in enumerate(words):
                before = words[at - 1] if at else "do"
                if re.fullmatch(r"(/\S+/)?rnd", word) and (set(before) <= ENDS_A_COMMAND or before in {"do", "until"}):
                    arguments = list(itertools.takewhile(lambda word: not set(word) <= ENDS_A_COMMAND, words[at + 1 :]))
                    found.append(arguments[:-1] if arguments[-1:] == ["2"] else arguments)  # the 2 of 2>file
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    for words in commands_of(page):
        if not {"--help", "--version"} & set(words):
            with contextlib.redirect_stderr(io.StringIO()) as told:
                try:
                    parsed = parse(words)
                except SystemExit:
                    pytest.fail(f"rnd {shlex.join(words)}\n{told.getvalue()}")
            if parsed.handler == "node:rpc" and parsed.method:
                assert parsed.method in METHODS


def test_the_commands_of_pages_are_found() -> None:
    assert len(commands_of(DOCS / "tutorial.md")) > 25
    assert sum(len(commands_of(page)) for page in PAGES) > 120


METHOD_GROUPS = "|".join(sorted({name.partition(".")[0] for name in METHODS}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_method_event_and_key_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{METHOD_GROUPS})\.[a-z_]+)`", text))
    assert named <= {*METHODS, *map(str, EventType)}
    limits_of_services = {f"limits.{name}" for name in BOUND_NAMES}
    assert set(re.findall(r"`((?:limits|deadlines)\.[a-z_]+)`", text)) <= {*config_keys(), *limits_of_services}


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
