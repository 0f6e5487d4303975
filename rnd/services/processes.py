"""Finds and ends processes through /proc, so that nothing outlives its job (design: Running other people's code).

A process is known by (boot id, pid, start time), never by its pid alone: pids are used again. Standard library only,
since the spawner and its keepers use it too. Sources: proc_pid_stat(5), proc_tid_children(5), pidfd_open(2).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

FREEZE_ROUNDS = 50
"""A tree that still grows after so many passes of SIGSTOP is killed as it is, and again, until none is left."""


def boot_id() -> str:
    """Return the id of this boot of the machine; pids and start times mean nothing under another one."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or `None` if there is no such process."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def open_process(pid: int, started: int) -> int | None:
    """Return a pidfd for exactly this process, or `None` if it has ended or its pid belongs to another by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    fields = _stat(pid)
    if fields and fields[0] not in "ZX" and int(fields[19]) == started:
        return pidfd
    os.close(pidfd)
    return None


def ask_to_end(pidfd: int) -> None:
    """Send SIGTERM to a process that may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)


def children(pid: int) -> list[int]:
    """Return the pids of the children of all threads of a process."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found.extend(map(int, file.read().split()))
        except OSError:
            continue
    return found


def descendants(root: int, spared: frozenset[int] = frozenset()) -> dict[int, int]:
    """Return pid -> parent for everything below `root` but `spared` and what is below those."""
    found: dict[int, int] = {}
    unseen = [root]
    while unseen:
        parent = unseen.pop()
        for pid in children(parent):
            if pid not in found and pid not in spared:
                found[pid] = parent
                unseen.append(pid)
    return found


def signal_descendants(root: int, signals: tuple[int, ...], spared: frozenset[int] = frozenset()) -> set[int]:
    """Send `signals` to everything that lives below `root`; return the pids that were reached."""
    return {pid for pid, parent in descendants(root, spared).items() if _signal_child(pid, parent, signals)}


def kill_descendants(root: int, spared: frozenset[int] = frozenset()) -> set[int]:
    """Freeze everything below `root` until nothing new appears, then kill it; return the pids that were reached.

    What is stopped cannot fork, so a tree that forks as fast as it is killed ends too. The caller reaps, and calls
    again while it still has children.
    """
    frozen: set[int] = set()
    for _ in range(FREEZE_ROUNDS):
        fresh = {
            pid
            for pid, parent in descendants(root, spared).items()
            if pid not in frozen and _signal_child(pid, parent, (signal.SIGSTOP,))
        }
        if not fresh:
            break
        frozen |= fresh
    return frozen | signal_descendants(root, (signal.SIGKILL,), spared)


def kill_marked(marker: bytes, *, give_up_s: float = 5.0) -> int:
    """Kill every process of this user whose environment holds `marker` (`NAME=value`); return how many there were.

    For processes that have lost every parent that could tell whose they are. Blocks until they are gone or
    `give_up_s` has passed.
    """
    killed: set[int] = set()
    until = time.monotonic() + give_up_s
    while True:
        marked = [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_marked(int(name), marker)]
        if not marked or time.monotonic() > until:
            return len(killed)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            killed.update(pid for pid in marked if _signal_marked(pid, marker, number))
        time.sleep(0.01)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (which is field 3 in the manual), or nothing."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return []
    try:
        text = os.read(file, 4096).decode("ascii", "replace")
    except OSError:
        return []
    finally:
        os.close(file)
    # The name stands in brackets and may hold anything, so what follows is counted from the last bracket.
    return text[text.rindex(")") + 2 :].split()


def _signal_child(pid: int, parent: int, signals: tuple[int, ...]) -> bool:
    """Signal `pid` if it is alive and still the child of `parent`; the pidfd rules out a pid that was used again."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        fields = _stat(pid)
        if not fields or fields[0] in "ZX" or int(fields[1]) != parent:
            return False
        for number in signals:
            signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def _is_marked(pid: int, marker: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return marker in file.read().split(b"\0")
    except OSError:
        return False


def _signal_marked(pid: int, marker: bytes, number: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _is_marked(pid, marker):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True
