"""The log: one event is one line, the document's text comes first, nothing can forge or break a line."""

from __future__ import annotations

import ast
import io
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnd
from rnd.log import VALUE_CHARACTERS, close_logging, configure_logging, get_logger
from rnd.types.enums import JobStatus
from rnd.types.log_events import LogEvent, describe_chunks, describe_mapping, describe_size

NOON_S = 1_800_000_000.25
PREFIX = "2027-01-15T08:00:00.250Z"
log = get_logger()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    lines = io.StringIO()
    configure_logging("INFO", log_path=None, stream=lines, now_s=lambda: NOON_S)
    yield lines
    close_logging()


def test_a_line_is_time_level_text_and_the_fields_that_the_text_does_not_name(stream: io.StringIO) -> None:
    log.info(LogEvent.JOB_START_RECEIVED, job_id=5, attempt=1)
    assert stream.getvalue() == f"{PREFIX} [INFO] Job start received: job_id=5 attempt=1\n"


@pytest.mark.parametrize(
    ("event", "fields", "text"),
    [
        (
            LogEvent.SENDING_REMOTE_JOB_REQUEST,
            {"peer_id": "peer_worker", "service_name": "Train Model"},
            "Sending remote job request: peer_id=peer_worker, service_name=Train Model",
        ),
        (LogEvent.NODE_TO_JOB_EXECUTION_ID, {"mapping": describe_mapping({1: 100, 2: 200})}, "Node to job execution ID: {1: 100, 2: 200}"),
        (LogEvent.RECEIVING_CHUNKS, {"chunks": describe_chunks(10)}, "Receiving chunks: 1/10, 2/10, ... 10/10"),
        (LogEvent.JOB_TRANSITIONING, {"job_id": 7}, "Job transitioning: IDLE → READY job_id=7"),
        (
            LogEvent.EXECUTING_PROCESS,
            {"command": "/bin/sh", "args": ["-c", 'echo "a b"', "\n"]},
            'Executing process: command=/bin/sh, args=["-c", "echo \\"a b\\"", "\\n"]',
        ),
        (LogEvent.RECEIVED_JOB_STATUS, {"job_id": 1, "status": JobStatus.READY}, "Received job status: job_id=1, status=READY"),
    ],
)  # fmt: skip
def test_what_a_template_names_is_put_in_as_the_document_writes_it(
    stream: io.StringIO, event: LogEvent, fields: dict[str, object], text: str
) -> None:
    log.info(event, **fields)
    assert stream.getvalue() == f"{PREFIX} [INFO] {text}\n"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        ('say "x"', '"say \\"x\\""'),
        ("a=b", '"a=b"'),
        ("line\nend", '"line\\nend"'),
        ("\x1b[31mred", '"\\x1b[31mred"'),
        ("\u2028", '"\\u2028"'),
        ("caf\u00e9", "caf\u00e9"),
        (os.fsdecode(b"\xff"), '"\\udcff"'),
        ("back\\slash", '"back\\\\slash"'),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        (b"payload", '"<7 bytes>"'),
        (Path("/tmp/x"), "/tmp/x"),
        (JobStatus.IDLE, "IDLE"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00.000Z"),
        ({"a": 1}, '"{\\"a\\": 1}"'),
    ],
)
def test_trailing_values_are_quoted_where_a_reader_needs_it(stream: io.StringIO, value: object, written: str) -> None:
    log.info("told", key=value)
    assert stream.getvalue() == f"{PREFIX} [INFO] told key={written}\n"


@given(st.text(), st.text())
def test_no_value_can_break_or_forge_a_line(in_text: str, after_text: str) -> None:
    lines = io.StringIO()
    configure_logging("INFO", log_path=None, stream=lines, now_s=lambda: NOON_S)
    log.info(LogEvent.INPUT_PATH_EXISTS, path=in_text, reason=after_text)
    written = lines.getvalue()
    assert written.startswith(f"{PREFIX} [INFO] Input path exists: ")
    assert written.endswith("\n")
    assert written[:-1].isprintable()


def test_a_huge_value_is_cut_and_says_so(stream: io.StringIO) -> None:
    log.info(LogEvent.INPUT_PATH_EXISTS, path="x" * (VALUE_CHARACTERS + 1), error="y" * (VALUE_CHARACTERS + 1))
    assert f"[cut: {VALUE_CHARACTERS + 1} characters]" in stream.getvalue()
    assert len(stream.getvalue()) < 2 * VALUE_CHARACTERS + 200


def test_a_field_that_the_call_forgot_shows_as_missing(stream: io.StringIO) -> None:
    log.info(LogEvent.JOB_START_RECEIVED)
    assert stream.getvalue() == f"{PREFIX} [INFO] Job start received: job_id=<missing>\n"


def test_values_of_keys_that_name_secrets_are_never_written(stream: io.StringIO) -> None:
    log.info("told", passphrase="open sesame", token="t0ken")
    assert stream.getvalue() == f"{PREFIX} [INFO] told passphrase=[hidden] token=[hidden]\n"


def test_an_exception_is_one_line_too(stream: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception(LogEvent.INTERNAL_ERROR, where="a job")
    written = stream.getvalue()
    assert written.startswith(f"{PREFIX} [ERROR] Internal error: where=a job traceback=")
    assert written.count("\n") == 1
    assert "ValueError: first\\nsecond" in written


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    log.debug(LogEvent.SENDING_CHUNK, transfer_id="t", chunk=1, total=2)
    configure_logging("DEBUG", log_path=None, stream=stream, now_s=lambda: NOON_S)
    log.debug(LogEvent.SENDING_CHUNK, transfer_id="t", chunk=2, total=2)
    assert stream.getvalue() == f"{PREFIX} [DEBUG] Sending chunk: transfer_id=t, chunk=2/2\n"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level: LOUD"):
        configure_logging("LOUD", log_path=None, stream=io.StringIO())


def test_what_libraries_say_comes_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("asyncio").warning("slow\ncallback %s", 7)
    assert stream.getvalue() == f"{PREFIX} [WARNING] asyncio: slow\\ncallback 7\n"


def test_the_file_is_appended_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "logs" / "peer.log"
    for number in (1, 2):
        configure_logging("INFO", log_path=path, stream=io.StringIO(), now_s=lambda: NOON_S)
        log.info(LogEvent.JOB_START_RECEIVED, job_id=number)
        close_logging()
    assert path.read_text() == (
        f"{PREFIX} [INFO] Job start received: job_id=1\n{PREFIX} [INFO] Job start received: job_id=2\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_is_rotated_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    clock = [NOON_S]
    configure_logging("INFO", log_path=path, stream=io.StringIO(), now_s=lambda: clock[0])
    log.info("before")
    path.rename(tmp_path / "peer.log.1")
    clock[0] += 1
    log.info("after")
    close_logging()
    assert "before" in (tmp_path / "peer.log.1").read_text()
    assert path.read_text().endswith("[INFO] after\n")


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nobody(stream: io.StringIO) -> None:
    configure_logging("INFO", log_path=Path("/dev/full"), stream=stream, now_s=lambda: NOON_S)
    log.info("one")
    log.info("two")
    assert stream.getvalue().count("Log file not written") == 1
    assert "[INFO] one\n" in stream.getvalue()
    assert "[INFO] two\n" in stream.getvalue()


def test_a_stream_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", closefd=False) as broken:
        configure_logging("INFO", log_path=tmp_path / "peer.log", stream=broken)
        log.info("one")
        log.info("two")
        configure_logging("INFO", log_path=None, stream=io.StringIO())
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)  # what the wrapper still holds goes nowhere
        os.close(null)
    os.close(writer)
    assert (tmp_path / "peer.log").read_text().count("[INFO]") == 2


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    configure_logging("INFO", log_path=path, stream=io.StringIO())
    threads = [
        threading.Thread(target=lambda: [log.info("told", text="x" * 300) for _ in range(100)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close_logging()
    lines = path.read_text().splitlines()
    assert len(lines) == 400
    assert all(re.fullmatch(r"\S+Z \[INFO\] told text=x{300}", line) for line in lines)


@pytest.mark.parametrize(
    ("total", "text"),
    [(0, "0/0"), (1, "1/1"), (2, "1/2, 2/2"), (3, "1/3, 2/3, 3/3"), (4, "1/4, 2/4, ... 4/4")],
)
def test_chunks_are_named_as_in_the_transcript(total: int, text: str) -> None:
    assert describe_chunks(total) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KB"), (1536, "1.5KB"), (10 << 20, "10MB"), (500 << 20, "500MB"), (1 << 40, "1TB")],
)  # fmt: skip
def test_sizes_are_written_as_in_the_transcript(size_bytes: int, text: str) -> None:
    assert describe_size(size_bytes) == text


def calls_of_the_log(source: str) -> Iterator[tuple[int, str, str, set[str], bool]]:
    """Yield line, method, event name, keywords and whether there is a `**` for every `log.<level>(LogEvent.X, ...)`."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        first = node.args[0]
        if isinstance(first, ast.Attribute) and isinstance(first.value, ast.Name) and first.value.id == "LogEvent":
            keywords = {keyword.arg for keyword in node.keywords if keyword.arg}
            yield node.lineno, node.func.attr, first.attr, keywords, any(k.arg is None for k in node.keywords)


def wrong_calls(source: str) -> list[str]:
    """Return what is wrong with the calls of the log in a module's source."""
    wrong = []
    for line, method, name, keywords, open_ended in calls_of_the_log(source):
        event = LogEvent.__members__.get(name)
        if event is None:
            wrong.append(f"line {line}: no LogEvent.{name}")
            continue
        missing = set(event.fields) - keywords
        if missing and not open_ended:
            wrong.append(f"line {line}: {name} without {', '.join(sorted(missing))}")
        if method not in {event.level, "exception"}:
            wrong.append(f"line {line}: {name} is {event.level}, not {method}")
    return wrong


def test_every_call_of_the_log_passes_what_its_template_names_at_its_level() -> None:
    package = Path(rnd.__file__).parent
    wrong = {
        str(path.relative_to(package)): problems
        for path in sorted(package.rglob("*.py"))
        if (problems := wrong_calls(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_the_fields_behind_the_text_are_those_that_calls_pass() -> None:
    passed: dict[str, set[str]] = {}
    for path in Path(rnd.__file__).parent.rglob("*.py"):
        for _, _, name, keywords, _ in calls_of_the_log(path.read_text(encoding="utf-8")):
            passed.setdefault(name, set()).update(keywords)
    from_exceptions = {"exc_info", "traceback"}
    wrong = {
        name: sorted(found)
        for name, keywords in passed.items()
        if (found := keywords - set(LogEvent[name].fields) - from_exceptions)
        != set(LogEvent[name].also) - from_exceptions
    }
    assert wrong == {}, "say in the catalogue which fields follow the text, then run tools/log_events.py"


def test_the_check_of_calls_can_bite() -> None:
    source = (
        "log.info(LogEvent.JOB_START_RECEIVED)\n"
        "log.debug(LogEvent.PHASE_1_CREATING_JOBS)\n"
        "log.info(LogEvent.NO_SUCH_EVENT)\n"
        "log.info(LogEvent.JOB_START_RECEIVED, job_id=1)\n"
    )
    assert wrong_calls(source) == [
        "line 1: JOB_START_RECEIVED without job_id",
        "line 2: PHASE_1_CREATING_JOBS is info, not debug",
        "line 3: no LogEvent.NO_SUCH_EVENT",
    ]
