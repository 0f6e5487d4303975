"""How the daemon's log lines are written (document: every "Logs to check" list; design: one catalogue of lines).

`<RFC 3339 UTC, milliseconds, Z> [INFO] <rendered template> key=value ...`: one event is always exactly one line. Lines
go to a stream (standard error) and to `<data-dir>/logs/peer.log`, where the document's greps find them.

What a template names is put into the text as it is, spaces included, because the document's lines are read that way;
what follows as key=value is quoted where it has to be. Everything that cannot be printed is escaped in both, so neither
a peer nor a job can forge a line or talk to a terminal. Values of keys that name secrets are never written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePath
from traceback import format_exception
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, ProcessorReturnValue, WrappedLogger

from rnd.types.log_events import LogEvent
from rnd.types.times import to_text

LOG_FILE_MODE: Final = 0o600
LOG_FOLDER_MODE: Final = 0o700
VALUE_CHARACTERS: Final = 4096
"""A longer value is cut and marked; a line stays readable whatever a peer puts into a name."""

_SECRET_KEYS: Final = frozenset(
    {"passphrase", "passphrases", "password", "secret", "secrets", "token", "authorization", "private_key", "vault_key",
     "invite"}
)  # fmt: skip
_TAGS: Final = {name: f" [{name.upper()}] " for name in ("debug", "info", "warning", "error", "critical")}
_TAGS["exception"] = _TAGS["error"]


def configure_logging(
    level: str,
    *,
    log_path: Path | None,
    stream: TextIO,
    now_s: Callable[[], float] = time.time,
    for_good: bool = False,
    gather: bool = False,
) -> None:
    """Send lines of `level` and above to `stream` and, if given, to `log_path` (opened for append, mode 0600).

    May be called again, and loggers that exist follow, unless it was `for_good`: then they settle on what they find at
    their first line, which makes each line after it cheaper. With `gather`, what one turn of an event loop says below
    WARNING is written together at its end, in a fraction of the system calls; `close_logging` writes what is left.
    `now_s` gives the seconds since 1970 that lines are stamped with.
    Raises `ValueError` for an unknown level and `OSError` when the file cannot be opened. Later faults of the file
    (a full disk) are told once on the stream and never reach the caller.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level: {level}")
    _sink.open(stream, log_path, now_s, gather=gather)
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        context_class=dict,
        logger_factory=lambda: _sink,
        cache_logger_on_first_use=for_good,
    )
    _take_over_standard_library()


def get_logger() -> FilteringBoundLogger:
    """Return the logger; `log.info(LogEvent.JOB_START_RECEIVED, job_id=5)`. It may be made before configuration."""
    return cast(FilteringBoundLogger, structlog.get_logger())


def close_logging() -> None:
    """Close the log file; lines that come later still reach the stream."""
    _sink.close()


def render(logger: WrappedLogger, method: str, event_dict: EventDict) -> ProcessorReturnValue:
    """Do all that is to be done to an event; one processor, since each more would cost a tenth of a line."""
    if not _SECRET_KEYS.isdisjoint(event_dict):
        event_dict = hide_secrets(logger, method, event_dict)
    if "exc_info" in event_dict:
        event_dict = render_exception(logger, method, event_dict)
    return render_line(logger, method, event_dict)


def hide_secrets(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Replace the values of keys that name secrets: a last net, since nothing of ours passes any."""
    return {key: "[hidden]" if key in _SECRET_KEYS else value for key, value in event_dict.items()}


def render_exception(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Turn `exc_info` into `traceback`, which the line then carries with its line ends escaped."""
    exc_info = event_dict.pop("exc_info")
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = sys.exc_info()[1] if exc_info else None
    if error is not None:
        event_dict["traceback"] = "".join(format_exception(error)).rstrip()
    return event_dict


def render_line(_logger: WrappedLogger, method: str, event_dict: EventDict) -> ProcessorReturnValue:
    """Return ` [LEVEL] text key=value ...` without time and line end, which the sink adds."""
    event = event_dict.pop("event", "")
    if isinstance(event, LogEvent):
        text = _fill(event, event_dict)
        named = event.fields
    else:
        text = _printable(str(event))
        named = ()
    if len(named) < len(event_dict):
        text += "".join([f" {key}={_quoted(value)}" for key, value in event_dict.items() if key not in named])
    return _TAGS.get(method, " [INFO] ") + text


def _fill(event: LogEvent, values: Mapping[str, Any]) -> str:
    # A field that the call forgot shows as <missing>: a log line is no place to fail.
    return event.layout.format(
        *[_printable(_text_of(values[field])) if field in values else "<missing>" for field in event.fields]
    )


def _text_of(value: object) -> str:
    if type(value) is int or type(value) is str:
        return str(value)
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case str() | PurePath():
            return str(value)
        case datetime():
            return to_text(value)
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case list() | tuple():
            return json.dumps([_plain(item) for item in value], ensure_ascii=False)
        case Mapping():
            return json.dumps({str(key): _plain(item) for key, item in value.items()}, ensure_ascii=False)
        case _:
            return str(value)


def _plain(value: object) -> object:
    return value if value is None or type(value) in {bool, int, float, str} else _text_of(value)


def _printable(text: str) -> str:
    if len(text) > VALUE_CHARACTERS:
        text = f"{text[:VALUE_CHARACTERS]}[cut: {len(text)} characters]"
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _quoted(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = _text_of(value)
    if len(text) > VALUE_CHARACTERS and "\n" not in text:
        text = f"{text[:VALUE_CHARACTERS]}[cut: {len(text)} characters]"
    if text.isprintable() and text and not (" " in text or '"' in text or "=" in text or "\\" in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + ("".join(map(_escaped, escaped)) if not escaped.isprintable() else escaped) + '"'


class _Sink:
    """Where finished lines go, to the stream and to the file, from any thread.

    Lines are written one by one, or gathered until the event loop's next turn; their order is kept either way. A file that was rotated away is noticed when the second changes: at worst the lines of one second are still in the
    old file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: TextIO | None = None
        self._stream_fd = -1
        self._path: Path | None = None
        self._fd = -1
        self._file_key = (0, 0)
        self._file_fault_told = False
        self._now_s: Callable[[], float] = time.time
        self._second = -1
        self._second_text = ""
        self._gathers = False
        self._gathered: list[str] = []

    def open(self, stream: TextIO, path: Path | None, now_s: Callable[[], float], *, gather: bool) -> None:
        with self._lock:
            self._flush()
            self._gathers = gather
            self._close_file()
            self._stream = stream
            self._stream_fd = _descriptor_of(stream)
            self._path = path
            self._now_s = now_s
            self._second = -1
            self._file_fault_told = False
            if path is not None:
                self._open_file(path)

    def close(self) -> None:
        with self._lock:
            self._flush()
            self._gathers = False
            self._path = None
            self._close_file()

    def write_line(self, text: str) -> None:
        """Write one line, after those that were gathered before it."""
        with self._lock:
            self._gathered.append(self._stamped(text))
            self._flush()

    def gather_line(self, text: str) -> None:
        """Write one line, at once or, from within an event loop, with the others of this turn."""
        with self._lock:
            self._gathered.append(self._stamped(text))
            if len(self._gathered) == 1 or not self._gathers:
                self._flush_soon()

    debug = info = gather_line
    warning = error = critical = exception = msg = write_line

    def _stamped(self, text: str) -> str:
        now_s = self._now_s()
        second = int(now_s)
        if second != self._second:
            self._begin_second(second)
        return f"{self._second_text}{int((now_s - second) * 1000):03d}Z{text}\n"

    def _flush_soon(self) -> None:
        if self._gathers:
            with contextlib.suppress(RuntimeError):  # no loop runs in this thread
                asyncio.get_running_loop().call_soon(self.flush)
                return
        self._flush()

    def flush(self) -> None:
        """Write what was gathered."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if not self._gathered:
            return
        lines = "".join(self._gathered)
        self._gathered.clear()
        data = lines.encode("utf-8", "backslashreplace")
        if self._stream_fd >= 0:
            self._write_descriptor(data)
        else:
            self._write_stream(lines)
        if self._path is not None:
            self._write_file(data)

    def _begin_second(self, second: int) -> None:
        self._second = second
        self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        if self._path is not None:
            self._reopen_if_rotated(self._path)

    def _reopen_if_rotated(self, path: Path) -> None:
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) == self._file_key:
                return
        except OSError:
            pass  # rotated away, nothing new in its place yet: opening makes it
        self._close_file()
        try:
            self._open_file(path)
        except OSError as error:
            self._tell_file_fault(error)

    def _open_file(self, path: Path) -> None:
        path.parent.mkdir(mode=LOG_FOLDER_MODE, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, LOG_FILE_MODE)
        status = os.fstat(self._fd)
        self._file_key = (status.st_dev, status.st_ino)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._file_key = (0, 0)

    def _write_file(self, data: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, data)
            self._file_fault_told = False
        except OSError as error:
            self._tell_file_fault(error)

    def _tell_file_fault(self, error: OSError) -> None:
        if not self._file_fault_told:
            self._file_fault_told = True
            self._write_stream(f"{self._second_text}000Z [ERROR] Log file not written: {error}\n")

    def _write_descriptor(self, data: bytes) -> None:
        """Write past the stream's buffer, which would be emptied at every line anyway."""
        try:
            while data:
                data = data[os.write(self._stream_fd, data) :]
        except OSError:
            self._stream_fd = -1  # nobody reads it any more (broken pipe, closed); the file goes on
            self._stream = None

    def _write_stream(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None  # nobody reads it any more (broken pipe, closed); the file goes on


def _descriptor_of(stream: TextIO) -> int:
    """Return where a stream writes to, with nothing left in its buffer; -1 if it is no file."""
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError):
        return -1


class _StandardLibraryHandler(logging.Handler):
    """Brings what libraries say (asyncio, aiohttp) into the same lines, with the logger's name in front."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: EventDict = {"event": f"{record.name}: {record.getMessage()}"}
        if record.exc_info:
            fields = render_exception(None, "", {**fields, "exc_info": record.exc_info})
        _sink.write_line(cast(str, render_line(None, record.levelname.lower(), fields)))


def _take_over_standard_library() -> None:
    root = logging.getLogger()
    if _standard_library_handler not in root.handlers:
        root.addHandler(_standard_library_handler)


_sink = _Sink()
_standard_library_handler = _StandardLibraryHandler(logging.WARNING)
