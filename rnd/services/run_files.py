"""The record by which a run is known after a restart of anything: `<engine_name>.run.jsonl` in the job's folder.

Its first line is written by the spawner before a keeper hears of the run, its second by the keeper when nothing of the
run is left; a line counts once its newline is there. One file that grows, since making a file costs more than all else
that is done for a short job. Beside it there may be `<engine_name>.cancel.json`, by the daemon that wants the run to
end, and `<engine_name>.fault.json`, by a feeder that could not go on.

None is synced to disk: after a power cut the machine has another boot id, the run is LOST, and the database, which is
synced, is what counts. Standard library only, since the spawner and its keepers use it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from typing import NamedTuple

RECORD = "run.jsonl"
RECORD_MAX_BYTES = 1 << 16
"""Far above what two lines need; what a job has made of its record beyond that is not looked at."""
GRACE_MAX_S = 86_400.0
"""More than the configuration allows; what a job asks for beyond that ends at once."""
CANCEL = "cancel.json"
FAULT = "fault.json"
PID_MAX = 1 << 22
"""No system has more processes, proc(5)."""
START_MAX = 1 << 63
ENGINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,159}")
MARKER = "RND_RUN"
"""The environment variable that tells whose a process is when all its parents are gone."""
TEMPORARY_FOLDER = "tmp"
"""Where a program finds its TMPDIR, below the job's folder."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - not a temporary file of ours but the machine's tmpfs; folders in it are 0700
SECRETS_PREFIX = "rnd-secrets-"


class Started(NamedTuple):
    """Who keeps a run: enough to find the keeper again, and never a stranger with its pid.

    `keeper_start` is in clock ticks since boot, as /proc/PID/stat has it. `secrets_directory` is "" without secrets.
    """

    engine_name: str
    keeper_pid: int
    keeper_start: int
    boot_id: str
    started_at: str
    secrets_directory: str


_STARTED_TYPES = {
    "engine_name": str,
    "keeper_pid": int,
    "keeper_start": int,
    "boot_id": str,
    "started_at": str,
    "secrets_directory": str,
}


def marker(directory: str, engine_name: str) -> str:
    """Return the entry (`NAME=value`) that every process of a run inherits; no other run on this machine has it."""
    return f"{MARKER}={os.path.join(directory, engine_name)}"


def handle(started: Started, directory: str) -> dict[str, object]:
    """Return the record that a daemon stores to find the run again."""
    return {
        "engine_name": started.engine_name,
        "directory": directory,
        "keeper_pid": started.keeper_pid,
        "keeper_start": started.keeper_start,
        "boot_id": started.boot_id,
        "secrets_directory": started.secrets_directory,
    }


class Record(NamedTuple):
    """What is known of a run. `ended` holds the fields of its end, unchecked, or is `None` while it runs."""

    started: Started
    ended: dict[str, object] | None


def make_way(directory: str) -> None:
    """Create a folder and what is missing above it; nothing is asked first, since nearly all of it is new."""
    try:
        os.mkdir(directory)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_way(os.path.dirname(directory))
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)


def begin(directory: str, started: Started) -> None:
    """Write the first line, into a folder that is made if need be; the run is claimed by it. Raises `OSError`.

    Only the spawner that holds the lock of the data directory may do this, and only where `read` returns `None`: what
    such a file holds is half a line, of a spawner that ended before anything was started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    path = _path(directory, started.engine_name, RECORD)
    try:
        record = os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_way(directory)
        record = os.open(path, flags, 0o600)
    _write(record, started._asdict())


def open_record(directory: str, engine_name: str) -> int:
    """Return a descriptor of a record that has begun, for `end`."""
    return os.open(_path(directory, engine_name, RECORD), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)


def end(record: int, ended: dict[str, object]) -> bytes:
    """Write the second line, close the record and return the line. Raises `OSError`."""
    return _write(record, ended)


def read(directory: str, engine_name: str) -> Record | None:
    """Return what is known of a run, or `None` if it was never begun, or its record is no record any more."""
    try:
        file = os.open(_path(directory, engine_name, RECORD), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        *lines, _ = os.read(file, RECORD_MAX_BYTES).split(b"\n")
    except OSError:
        return None
    finally:
        os.close(file)
    records = [_parse(line) for line in lines]
    if not records or records[0].get("engine_name") != engine_name:
        return None
    fields = [records[0].get(name) for name in Started._fields]
    if [type(field) for field in fields] != list(_STARTED_TYPES.values()):
        return None
    started = Started._make(fields)
    if not 0 < started.keeper_pid <= PID_MAX or not 0 <= started.keeper_start <= START_MAX:
        return None
    return Record(started, records[-1] if len(records) > 1 else None)


def ask_to_end(directory: str, engine_name: str, grace_s: float) -> None:
    """Leave the wish that a run be ended, for its keeper to read. Raises `OSError`."""
    _replace(_path(directory, engine_name, CANCEL), {"grace_s": grace_s})


def cancel_grace_s(directory: str, engine_name: str) -> float | None:
    """Return the grace that a cancel asks for, or `None` if nobody has cancelled."""
    record = _read(_path(directory, engine_name, CANCEL))
    grace_s = record.get("grace_s")
    if grace_s is None:
        return None
    return float(grace_s) if isinstance(grace_s, int | float) and 0 <= grace_s <= GRACE_MAX_S else 0.0


def leave_fault(directory: str, engine_name: str, fault: str) -> None:
    """Leave word of why the input of a run is not whole. Raises `OSError`."""
    _replace(_path(directory, engine_name, FAULT), {"fault": fault})


def read_fault(directory: str, engine_name: str) -> str:
    """Return what `leave_fault` left, or ""."""
    return str(_read(_path(directory, engine_name, FAULT)).get("fault", ""))


def remove_notes(directory: str, engine_name: str) -> None:
    """Remove what lies beside the record of a run that is over. Idempotent."""
    for kind in (CANCEL, FAULT):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_path(directory, engine_name, kind))


def secrets_directory(directory: str, engine_name: str, *, shared_memory: bool) -> str:
    """Return a new name for the folder of a run's secrets: in memory where the machine offers that."""
    if shared_memory:
        return os.path.join(SHARED_MEMORY, SECRETS_PREFIX + os.urandom(12).hex())
    return os.path.join(directory, f"{engine_name}.secrets")


def is_secrets_directory(path: str, directory: str, engine_name: str) -> bool:
    """Return whether `path` is a name that `secrets_directory` could have given; only such a folder is removed."""
    if path == os.path.join(directory, f"{engine_name}.secrets"):
        return True
    parent, name = os.path.split(path)
    return parent == SHARED_MEMORY and re.fullmatch(SECRETS_PREFIX + "[0-9a-f]{24}", name) is not None


def remove_tree(path: str) -> None:
    """Remove a folder and what is in it, following no link. Idempotent; call it when nobody works in it any more.

    Raises `OSError`, or `RecursionError` where somebody has nested folders without end.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(path, stat.S_IRWXU)
    with os.scandir(path) as entries:
        for entry in list(entries):
            remove_tree(entry.path)
    os.rmdir(path)


def _path(directory: str, engine_name: str, kind: str) -> str:
    return os.path.join(directory, f"{engine_name}.{kind}")


def _parse(text: bytes) -> dict[str, object]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _read(path: str) -> dict[str, object]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        return _parse(os.read(file, RECORD_MAX_BYTES))
    except OSError:
        return {}
    finally:
        os.close(file)


def _write(file: int, record: dict[str, object]) -> bytes:
    try:
        line = json.dumps(record).encode() + b"\n"
        os.write(file, line)
    finally:
        os.close(file)
    return line


def _replace(path: str, record: dict[str, object]) -> None:
    """Write a record so that a reader sees all of it or nothing."""
    draft = f"{path}.{os.getpid()}.draft"
    _write(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), record)
    os.rename(draft, path)
