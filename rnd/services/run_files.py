"""The small files by which a run is known after a restart of anything: `run/<engine_name>.<kind>` in the job's folder.

`started.json` is written by the spawner before a keeper hears of the run; `exit.json` by the keeper when nothing of it is
left; `cancel.json` by the daemon that wants it to end; `fault.json` by a feeder that could not go on. None is synced to disk: after a power cut the machine has
another boot id, the run is LOST, and the database, which is synced, is what counts.

Standard library only, since the spawner and its keepers use it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from typing import NamedTuple

RUN_FOLDER = "run"
STARTED = "started.json"
EXIT = "exit.json"
CANCEL = "cancel.json"
FAULT = "fault.json"
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


def marker(directory: str, engine_name: str) -> str:
    """Return the entry (`NAME=value`) that every process of a run inherits; no other run on this machine has it."""
    return f"{MARKER}={os.path.join(directory, RUN_FOLDER, engine_name)}"


def handle(started: Started, directory: str) -> dict[str, object]:
    """Return the record that a daemon stores to find the run again."""
    return {
        "engine_name": started.engine_name,
        "directory": directory,
        "keeper_pid": started.keeper_pid,
        "keeper_start": started.keeper_start,
        "boot_id": started.boot_id,
    }


def open_run_folder(directory: str) -> int:
    """Open `directory`/run, making it if need be, and return a descriptor to reach the files by.

    Raises `OSError`; a symbolic link in its place is refused.
    """
    path = os.path.join(directory, RUN_FOLDER)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        os.mkdir(path, 0o700)
        return os.open(path, flags)


def replace(folder: int, engine_name: str, kind: str, record: dict[str, object]) -> None:
    """Write a record so that a reader sees all of it or nothing."""
    draft = f"{engine_name}.{os.getpid()}.draft"
    _write(folder, draft, json.dumps(record))
    os.rename(draft, f"{engine_name}.{kind}", src_dir_fd=folder, dst_dir_fd=folder)


def read(directory: str, engine_name: str, kind: str) -> dict[str, object] | None:
    """Return a record, or `None` where there is none or it cannot be understood."""
    try:
        with open(os.path.join(directory, RUN_FOLDER, f"{engine_name}.{kind}"), "rb", buffering=0) as file:
            record = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read_started(directory: str, engine_name: str) -> Started | None:
    """Return who keeps the run of this name, if it was ever begun."""
    record = read(directory, engine_name, STARTED)
    if record is None or record.get("engine_name") != engine_name:
        return None
    pid, start = record.get("keeper_pid"), record.get("keeper_start")
    if not isinstance(pid, int) or not isinstance(start, int):
        return None
    return Started(
        engine_name,
        pid,
        start,
        str(record.get("boot_id", "")),
        str(record.get("started_at", "")),
        str(record.get("secrets_directory", "")),
    )


def cancel_grace_s(folder: int, engine_name: str) -> float | None:
    """Return the grace that a cancel asks for, or `None` if nobody has cancelled."""
    try:
        file = os.open(f"{engine_name}.{CANCEL}", os.O_RDONLY, dir_fd=folder)
    except OSError:
        return None
    try:
        record = json.loads(os.read(file, 4096))
        return float(record["grace_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    finally:
        os.close(file)


def remove_run_files(directory: str, engine_name: str) -> None:
    """Remove every record of a run. Idempotent."""
    folder = os.path.join(directory, RUN_FOLDER)
    for kind in (CANCEL, FAULT, EXIT, STARTED):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, f"{engine_name}.{kind}"))
    with contextlib.suppress(OSError):  # not empty: another attempt's; or never made
        os.rmdir(folder)


def secrets_directory(directory: str, engine_name: str, *, shared_memory: bool) -> str:
    """Return a new name for the folder of a run's secrets: in memory where the machine offers that."""
    if shared_memory:
        return os.path.join(SHARED_MEMORY, SECRETS_PREFIX + os.urandom(12).hex())
    return os.path.join(directory, RUN_FOLDER, f"{engine_name}.secrets")


def is_secrets_directory(path: str, directory: str, engine_name: str) -> bool:
    """Return whether `path` is a name that `secrets_directory` could have given; only such a folder is removed."""
    if path == os.path.join(directory, RUN_FOLDER, f"{engine_name}.secrets"):
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


def _write(folder: int, name: str, text: str) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
