"""What is known of a run in a container beside what the engine knows: `<engine_name>.container.jsonl` in the job's folder.

It lies where no container can reach it. Each line is a step that has been taken, or is about to be: the engine is asked to
create and to start only after the line is there, so that a run which began is never taken for one that did not. Like a
native run's record it is not synced; after a power cut the engine's own state, which is kept on disk, and its labels count.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

RECORD = "container.jsonl"
RECORD_MAX_BYTES = 1 << 20


class Begun(NamedTuple):
    """The first line: what has to be known of a run when nobody remembers its order any more.

    `before_bytes` is what was in the job's folder before; `program` is for words.
    """

    engine_name: str
    program: str
    stdin_files: list[str]
    read_only_root: bool
    stream_bytes: int
    memory_bytes: int
    disk_bytes: int | None
    before_bytes: int
    secrets_directory: str


class Record(NamedTuple):
    """All lines of a run. `container_id` is "" before it was created; `cancel_grace_s` is `None` unless it is to end.

    `starting` names the process of the engine that was asked to start it, "" before.
    """

    begun: Begun
    container_id: str = ""
    starting: str = ""
    feeding: bool = False
    fed: bool = False
    cancel_grace_s: float | None = None
    fault: str = ""
    ended: dict[str, Any] | None = None


def begin(directory: str, begun: Begun) -> None:
    """Write the first line, over whatever was begun and never created. Raises `OSError`."""
    _write(directory, begun.engine_name, os.O_TRUNC, {"begun": begun._asdict()})


def add(directory: str, engine_name: str, **step: object) -> None:
    """Add a line: `created=ID`, `starting=ENGINE`, `feeding=True`, `fed=True`, `cancel=GRACE_S`, `fault=WORDS` or `ended=FIELDS`."""
    _write(directory, engine_name, os.O_APPEND, step)


def read(directory: str, engine_name: str) -> Record | None:
    """Return what is known of a run, or `None` if it was never begun. A line counts once its newline is there."""
    try:
        file = os.open(_path(directory, engine_name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        *lines, _ = os.read(file, RECORD_MAX_BYTES).split(b"\n")
        return _replay([json.loads(line) for line in lines])
    except (ArithmeticError, AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
        return None
    finally:
        os.close(file)


def _replay(steps: list[dict[str, Any]]) -> Record | None:
    if not steps:
        return None
    record = Record(Begun(**steps[0]["begun"]))
    for step in steps[1:]:
        for what, value in step.items():
            match what:
                case "created":
                    record = record._replace(container_id=str(value))
                case "starting":
                    record = record._replace(starting=str(value))
                case "feeding":
                    record = record._replace(feeding=True)
                case "fed":
                    record = record._replace(fed=True)
                case "cancel":
                    record = record._replace(cancel_grace_s=float(value))
                case "fault":
                    record = record._replace(fault=record.fault or str(value))
                case "ended":
                    record = record._replace(ended=record.ended or dict(value))
    return record


def _path(directory: str, engine_name: str) -> str:
    return os.path.join(directory, f"{engine_name}.{RECORD}")


def _write(directory: str, engine_name: str, flag: int, step: dict[str, object]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | flag
    file = os.open(_path(directory, engine_name), flags, 0o600)
    try:
        os.write(file, json.dumps(step).encode() + b"\n")
    finally:
        os.close(file)
