"""The log: one event is one line, the document's text comes first, nothing can forge or break a line."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnd
from rnd.log import VALUE_CHARACTERS, close_logging, configure_logging, get_logger, reopen
from rnd.types.enums import JobStatus, LogFormat
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


def test_a_logger_that_has_settled_follows_the_next_configuration() -> None:
    settled = get_logger()
    for level, lines in (("INFO", 1), ("DEBUG", 2), ("ERROR", 0)):
        stream = io.StringIO()
        configure_logging(level, log_path=None, stream=stream, for_good=True)
        settled.debug(LogEvent.QUEUE_TICK)
        settled.info(LogEvent.QUEUE_TICK)
        assert len(stream.getvalue().splitlines()) == lines
    close_logging()


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


def test_a_stream_that_was_full_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "stderr.txt"
    with path.open("w") as errors, open("/dev/full", "w") as full:
        configure_logging("INFO", log_path=None, stream=errors)
        kept = os.dup(errors.fileno())
        os.dup2(full.fileno(), errors.fileno())
        log.error("lost")
        os.dup2(kept, errors.fileno())
        os.close(kept)
        log.error("there again")
        close_logging()
    assert path.read_text().endswith("[ERROR] there again\n")


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


def test_a_file_that_was_moved_away_is_opened_anew_at_once_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    configure_logging("INFO", log_path=path, stream=io.StringIO(), now_s=lambda: NOON_S)
    log.info("before")
    path.rename(tmp_path / "peer.log.1")
    reopen()
    log.info("after")
    close_logging()
    assert (tmp_path / "peer.log.1").read_text().endswith("[INFO] before\n")
    assert path.read_text().endswith("[INFO] after\n")


def test_to_open_anew_what_is_not_there_is_told_and_stops_nobody(tmp_path: Path, stream: io.StringIO) -> None:
    reopen()
    folder = tmp_path / "logs"
    configure_logging("INFO", log_path=folder / "peer.log", stream=stream, now_s=lambda: NOON_S)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    reopen()
    log.info("still here")
    assert stream.getvalue().count("Log file not written") == 1
    assert stream.getvalue().endswith("[INFO] still here\n")


def test_the_file_takes_no_more_than_its_bytes_twice(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    configure_logging("INFO", log_path=path, stream=io.StringIO(), now_s=lambda: NOON_S, log_bytes=1000)
    for number in range(50):
        log.info("told", number=number, text="x" * 100)
    close_logging()
    old = tmp_path / "peer.log.old"
    assert sorted(tmp_path.iterdir()) == [path, old]
    assert max(path.stat().st_size, old.stat().st_size) <= 1000
    numbers = [int(n) for n in re.findall(r"number=(\d+)", old.read_text() + path.read_text())]
    assert numbers == list(range(numbers[0], 50))
    assert len(numbers) > 6
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_long_from_before_is_put_aside_at_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    path.write_text("x" * 2000)
    configure_logging("INFO", log_path=path, stream=io.StringIO(), now_s=lambda: NOON_S, log_bytes=1000)
    log.info("told")
    close_logging()
    assert path.read_text() == f"{PREFIX} [INFO] told\n"
    assert (tmp_path / "peer.log.old").stat().st_size == 2000


def test_a_line_that_is_longer_than_the_file_may_be_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "peer.log"
    configure_logging("INFO", log_path=path, stream=io.StringIO(), now_s=lambda: NOON_S, log_bytes=10)
    log.info("told")
    close_logging()
    assert path.read_text() == f"{PREFIX} [INFO] told\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_put_aside_goes_on(tmp_path: Path, stream: io.StringIO) -> None:
    path = tmp_path / "peer.log"
    (tmp_path / "peer.log.old").mkdir()
    configure_logging("INFO", log_path=path, stream=stream, now_s=lambda: NOON_S, log_bytes=100)
    for _ in range(5):
        log.info("told " + "x" * 40)
    assert path.read_text().count("told") == 5
    assert "Log file not written" in stream.getvalue()


def under_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: LogFormat) -> tuple[str, str]:
    """Return what one line of each level becomes on a stream that is the journal's, and in the file."""
    path = tmp_path / "peer.log"
    with (tmp_path / "stderr").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure_logging("DEBUG", log_path=path, stream=stream, now_s=lambda: NOON_S, log_format=log_format)
        log.debug("fine")
        log.info("told")
        log.warning("odd")
        log.error("bad")
        log.critical("over")
        close_logging()
        stream.seek(0)
        return stream.read(), path.read_text()


@pytest.mark.parametrize("log_format", LogFormat)
def test_under_the_journal_lines_carry_their_priority_and_the_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: LogFormat
) -> None:
    journal, file = under_the_journal(tmp_path, monkeypatch, log_format)
    assert [line[:3] for line in journal.splitlines()] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert [line[3:] for line in journal.splitlines()] == file.splitlines()


def test_a_stream_that_is_not_the_one_of_the_journal_has_no_priorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable reaches every process that a service starts, whatever that makes of standard error."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:123456789")
    with (tmp_path / "stderr").open("w+") as stream:
        configure_logging("INFO", log_path=None, stream=stream, now_s=lambda: NOON_S)
        log.info("told")
        stream.seek(0)
        assert stream.read() == f"{PREFIX} [INFO] told\n"
        configure_logging("INFO", log_path=None, stream=io.StringIO())


@pytest.fixture
def json_stream() -> Iterator[io.StringIO]:
    lines = io.StringIO()
    configure_logging("INFO", log_path=None, stream=lines, now_s=lambda: NOON_S, log_format=LogFormat.JSON)
    yield lines
    close_logging()


def test_json_has_the_same_facts(json_stream: io.StringIO) -> None:
    log.info(LogEvent.EXECUTING_PROCESS, command="/bin/sh", args=["-c", "x"], job_id=7)
    log.warning("told", ratio=1.5, size=float("inf"), nothing=None, is_so=True, status=JobStatus.IDLE, secret="x")
    first, second = map(json.loads, json_stream.getvalue().splitlines())
    assert first == {
        "time": PREFIX,
        "level": "INFO",
        "event": "EXECUTING_PROCESS",
        "text": 'Executing process: command=/bin/sh, args=["-c", "x"]',
        "command": "/bin/sh",
        "args": ["-c", "x"],
        "job_id": 7,
    }
    assert second == {
        "time": PREFIX,
        "level": "WARNING",
        "text": "told",
        "ratio": 1.5,
        "size": "inf",
        "nothing": None,
        "is_so": True,
        "status": "IDLE",
        "secret": "[hidden]",
    }


def test_json_of_exceptions_and_libraries(json_stream: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception(LogEvent.INTERNAL_ERROR, where="a job")
    logging.getLogger("asyncio").warning("slow %s", 7)
    first, second = map(json.loads, json_stream.getvalue().splitlines())
    assert (first["level"], first["where"]) == ("ERROR", "a job")
    assert first["traceback"].endswith("ValueError: first\nsecond")
    assert second == {"time": PREFIX, "level": "WARNING", "text": "asyncio: slow 7"}


@given(st.dictionaries(st.text(min_size=1), st.text() | st.binary() | st.lists(st.text())))
def test_every_line_of_json_is_one_object_in_ascii(fields: dict[str, object]) -> None:
    lines = io.StringIO()
    configure_logging("INFO", log_path=None, stream=lines, now_s=lambda: NOON_S, log_format=LogFormat.JSON)
    log.bind(**fields).info(LogEvent.JOB_START_RECEIVED, job_id=3)
    written = lines.getvalue()
    assert written.isascii()
    assert written[:-1].isprintable()
    told = json.loads(written)
    assert (told["event"], told["text"], told["job_id"]) == ("JOB_START_RECEIVED", "Job start received: job_id=3", 3)


def test_no_field_of_the_catalogue_is_named_like_a_part_of_a_json_line() -> None:
    names = {name for event in LogEvent for name in (*event.fields, *event.also)}
    assert names.isdisjoint({"time", "level", "event", "text"})


def test_a_fault_of_the_file_is_json_too(json_stream: io.StringIO) -> None:
    configure_logging(
        "INFO",
        log_path=Path("/dev/full"),
        stream=json_stream,
        now_s=lambda: NOON_S,
        log_format=LogFormat.JSON,
    )
    log.info("one")
    told = [json.loads(line) for line in json_stream.getvalue().splitlines()]
    assert [line["level"] for line in told] == ["INFO", "ERROR"]
    assert told[1]["text"].startswith("Log file not written: ")


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
