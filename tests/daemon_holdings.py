"""What a daemon and the processes that belong to it hold of this machine at one moment, for tests that run for long."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.running_peer import processes_below
from tests.running_peers import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessHoldings:
    """Of one process: open files, threads, and resident memory in bytes."""

    fds: int
    threads: int
    rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Of a daemon: its processes by role, the tasks of its event loop, and what it has on the disk.

    `entries` are the files and folders of its data directory by what lies at the top of it; the log only ever grows and is left out.
    """

    processes: dict[str, ProcessHoldings]
    tasks: int
    database_bytes: int
    wal_bytes: int
    entries: dict[str, int]

    @property
    def figures(self) -> dict[str, int]:
        """Return all of it by name."""
        found = {"tasks": self.tasks, "database_bytes": self.database_bytes, "wal_bytes": self.wal_bytes}
        for role, process in self.processes.items():
            found |= {
                f"{role}_fds": process.fds,
                f"{role}_threads": process.threads,
                f"{role}_rss_bytes": process.rss_bytes,
            }
        return found | {"entries": sum(self.entries.values())}


def holdings_of(peer: Peer) -> Holdings:
    """Look at a daemon that runs."""
    return Holdings(
        processes=dict(_processes(peer)),
        tasks=_tasks(peer),
        database_bytes=_size(peer.data_dir / "rnd.db"),
        wal_bytes=_size(peer.data_dir / "rnd.db-wal"),
        entries=_entries(peer.data_dir),
    )


def _processes(peer: Peer) -> Iterator[tuple[str, ProcessHoldings]]:
    """Yield the daemon and the helpers that stay as long as it; what these have forked for a job comes and goes with that."""
    assert peer.process is not None
    yield "daemon", _process(peer.process.pid)
    helpers = {pid: name for pid in processes_below(peer.data_dir) if (name := _helper_name(pid))}
    for pid, name in helpers.items():
        if _parent(pid) not in helpers:
            yield name, _process(pid)


def _process(pid: int) -> ProcessHoldings:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return ProcessHoldings(
        fds=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(status["Threads"]),
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
    )


def _helper_name(pid: int) -> str:
    """Return whose entry a process was started by, such as `spawner`; "" for the programs of jobs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return next((Path(word).name.removesuffix("_main.py") for word in words if word.endswith("_main.py")), "")


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _tasks(peer: Peer) -> int:
    status, text = peer.get("/metrics")
    assert status == 200
    return next(int(line.split()[1]) for line in text.decode().splitlines() if line.startswith("rnd_tasks "))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _entries(data_dir: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for folder, folders, files in os.walk(data_dir):
        parts = Path(folder).relative_to(data_dir).parts
        if parts[:1] != ("logs",):
            counts[parts[0] if parts else "."] += len(folders) + len(files)
    return dict(counts)
