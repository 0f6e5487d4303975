"""Looks for what native runs may have left on this machine: processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

PATIENCE_S = 20.0


def processes_of(data_dir: Path) -> dict[int, str]:
    """Return pid -> command line of every process that has the data directory in its arguments or environment."""
    needle = os.fsencode(data_dir)
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            arguments = Path(f"/proc/{name}/cmdline").read_bytes()
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if needle in arguments or needle in environment:
            found[int(name)] = arguments.replace(b"\0", b" ").decode(errors="replace")
    return found


def spawner_of(data_dir: Path) -> int:
    """Return the pid of the spawner of a data directory: its keepers have its arguments too, but are its children."""
    [pid] = [
        pid for pid in processes_of(data_dir) if name_of(pid) == "rnd-spawner" and _parent_name(pid) != "rnd-spawner"
    ]
    return pid


def _parent_name(pid: int) -> str:
    try:
        return name_of(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
    except OSError:
        return ""


def name_of(pid: int) -> str:
    """Return the name that ps shows."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had resident so far."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def assert_no_processes(data_dir: Path) -> None:
    """Fail if processes of a data directory do not end by themselves now; end them then."""
    until = time.monotonic() + PATIENCE_S
    while left := processes_of(data_dir):
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.01)
