"""How the daemon's log lines are written (document: every "Logs to check" list; design: one catalogue of lines).

`<RFC 3339 UTC, milliseconds, Z> [INFO] <rendered template> key=value ...`, or the same facts as a JSON object: one event
is always exactly one line. Lines go to a stream (standard error, with the priorities that the journal reads where that is
one) and to `<data-dir>/logs/peer.log`, where the document's greps find them.

What a template names is put into the text as it is, spaces included, because the document's lines are read that way;
what follows as key=value is quoted where it has to be. Everything that cannot be printed is escaped in both, so neither
a peer nor a job can forge a line or talk to a terminal. Values of keys that name secrets are never written.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePath
from traceback import format_exception
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, ProcessorReturnValue, WrappedLogger

from rnd.log_sink import Sink
from rnd.types.enums import LogFormat
from rnd.types.log_events import LogEvent
from rnd.types.times import to_text

VALUE_CHARACTERS: Final = 4096
"""A longer value is cut and marked; a line stays readable whatever a peer puts into a name."""

_SECRET_KEYS: Final = frozenset(
    {"passphrase", "passphrases", "password", "secret", "secrets", "token", "authorization", "private_key", "vault_key",
     "invite"}
)  # fmt: skip
_TAGS: Final = {name: f" [{name.upper()}] " for name in ("debug", "info", "warning", "error", "critical")}
_TAGS["exception"] = _TAGS["error"]
_run: ContextVar[Mapping[str, str] | None] = ContextVar("run", default=None)


def configure_logging(
    level: str,
    *,
    log_path: Path | None,
    stream: TextIO,
    now_s: Callable[[], float] = time.time,
    for_good: bool = False,
    gather: bool = False,
    log_format: LogFormat = LogFormat.TEXT,
    log_bytes: int = 0,
) -> None:
    """Send lines of `level` and above to `stream` and, if given, to `log_path` (opened for append, mode 0600).

    Where `stream` is the journal, each line begins with its priority there. From `log_bytes` on (0: never) the file
    becomes `<log_path>.old`, in place of the one before.

    May be called again, and loggers that exist follow. With `for_good` they settle until then on what they find at
    their first line, which makes each line after it cheaper. With `gather`, what one turn of an event loop says below
    WARNING is written together at its end, in a fraction of the system calls; `close_logging` writes what is left.
    `now_s` gives the seconds since 1970 that lines are stamped with.
    Raises `ValueError` for an unknown level and `OSError` when the file cannot be opened. Later faults of the file
    (a full disk) are told once on the stream and never reach the caller.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"unknown log level: {level}")
    _sink.open(stream, log_path, now_s, gather=gather, log_format=log_format, file_bytes=log_bytes)
    structlog.configure(
        processors=[render if log_format is LogFormat.TEXT else render_json],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        context_class=dict,
        logger_factory=lambda: _sink,
        cache_logger_on_first_use=for_good,
    )
    for logger in _loggers:
        vars(logger).pop("bind", None)  # what it has settled on; structlog keeps that there
    _take_over_standard_library()


def get_logger() -> FilteringBoundLogger:
    """Return the logger; `log.info(LogEvent.JOB_START_RECEIVED, job_id=5)`. It may be made before configuration."""
    logger = structlog.get_logger()
    _loggers.append(logger)
    return cast(FilteringBoundLogger, logger)


@contextmanager
def about_run(execution_uid: str, orchestrator: str) -> Iterator[None]:
    """Have lines about a run say which one it is, here and in every task that is begun here: on each peer it is the same.

    Tasks outlive what has begun them, so whatever is about one run says so itself; lines about anything else take no notice.
    """
    token = _run.set({"execution_uid": execution_uid, "orchestrator": orchestrator})
    try:
        yield
    finally:
        _run.reset(token)


def reopen() -> None:
    """Open the log file anew: something has moved it away, and wants to have it whole now rather than within a second."""
    _sink.reopen()


def close_logging() -> None:
    """Close the log file; lines that come later still reach the stream."""
    _sink.close()


def render(logger: WrappedLogger, method: str, event_dict: EventDict) -> ProcessorReturnValue:
    """Do all that is to be done to an event; one processor, since each more would cost a tenth of a line."""
    if not _SECRET_KEYS.isdisjoint(event_dict):
        event_dict = hide_secrets(logger, method, event_dict)
    if "exc_info" in event_dict:
        event_dict = render_exception(logger, method, event_dict)
    return render_line(logger, method, _with_run(event_dict))


def _with_run(event_dict: EventDict) -> EventDict:
    event = event_dict.get("event")
    if isinstance(event, LogEvent) and event.run_fields and (run := _run.get()) is not None:
        for name in event.run_fields:
            event_dict.setdefault(name, run[name])
    return event_dict


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


def render_json(logger: WrappedLogger, method: str, event_dict: EventDict) -> ProcessorReturnValue:
    """Return what follows the time in a JSON object: level, event, text, and every field by its name."""
    if not _SECRET_KEYS.isdisjoint(event_dict):
        event_dict = hide_secrets(logger, method, event_dict)
    if "exc_info" in event_dict:
        event_dict = render_exception(logger, method, event_dict)
    event = _with_run(event_dict).pop("event", "")
    facts = {key: _fact(value) for key, value in event_dict.items()}
    if isinstance(event, LogEvent):
        told: dict[str, object] = {"event": event.name, "text": _fill(event, event_dict)}
    else:
        told = {"text": _printable(str(event))}
    # A field of one of these names would stand for another thing: the line's own come last, and win. ASCII alone, so that
    # no reader meets half a character, or one that a terminal obeys.
    line = json.dumps(told | facts | told, allow_nan=False)
    return f'", "level": "{_TAGS.get(method, " [INFO] ")[2:-2]}", {line[1:]}'


def _fact(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Enum() | str():
            return _cut(_text_of(value))
        case list() | tuple():
            return [_fact(item) for item in value]
        case Mapping():
            return {str(key): _fact(item) for key, item in value.items()}
        case _:
            return _cut(_text_of(value))


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


def _cut(text: str) -> str:
    if len(text) > VALUE_CHARACTERS and "\n" not in text:
        return f"{text[:VALUE_CHARACTERS]}[cut: {len(text)} characters]"
    return text


def _printable(text: str) -> str:
    if len(text) > VALUE_CHARACTERS:
        text = f"{text[:VALUE_CHARACTERS]}[cut: {len(text)} characters]"
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _quoted(value: object) -> str:
    if type(value) is int:
        return str(value)
    text = _cut(_text_of(value))
    if text.isprintable() and text and not (" " in text or '"' in text or "=" in text or "\\" in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + ("".join(map(_escaped, escaped)) if not escaped.isprintable() else escaped) + '"'


class _StandardLibraryHandler(logging.Handler):
    """Brings what libraries say (asyncio, aiohttp) into the same lines, with the logger's name in front."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: EventDict = {"event": f"{record.name}: {record.getMessage()}"}
        if record.exc_info:
            fields = render_exception(None, "", {**fields, "exc_info": record.exc_info})
        renderer = render_line if _sink.format is LogFormat.TEXT else render_json
        _sink.write_line(cast(str, renderer(None, record.levelname.lower(), fields)))


def leave_out(logger: str, *kinds: type[BaseException]) -> None:
    """Have a library's logger say nothing of such exceptions: what strangers send makes no log grow, and is not repeated there."""
    logging.getLogger(logger).addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], kinds)),
    )


def _take_over_standard_library() -> None:
    root = logging.getLogger()
    if _standard_library_handler not in root.handlers:
        root.addHandler(_standard_library_handler)


_sink = Sink(time.time)
_loggers: Final[list[Any]] = []
"""One a module: those that have settled on a configuration are told of the next one."""
_standard_library_handler = _StandardLibraryHandler(logging.WARNING)
