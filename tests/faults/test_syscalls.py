"""The n-th system call of a kind fails on one of two daemons: the disk is full, broken or read-only for a moment or for good.

`RND_TEST_SYSCALL_SEEDS` (`first:last`) runs other seeds than these.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.machine_site import NAMES_THE_DISK, FaultSite, Scribe, fault_site
from tests.figures import note_figures
from tests.running_peers import Peer, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("test_syscalls")]  # its tests share daemons

SEEDS = range(*map(int, os.environ.get("RND_TEST_SYSCALL_SEEDS", "0:10").split(":")))
KINDS = (
    "fsync",
    "fdatasync",
    "pwrite64",
    "write,writev",
    "rename,renameat,renameat2",
    "mkdir,mkdirat",
    "openat",
    "fallocate,ftruncate",
    "unlink,unlinkat",
    "pread64",
)
READING = ("openat", "pread64", "unlink,unlinkat")
RARE = ("rename,renameat,renameat2", "mkdir,mkdirat", "fallocate,ftruncate", "unlink,unlinkat")
"""Of these a thread has a few in a workflow, of the others dozens."""
ERRORS = ("ENOSPC", "EIO")
FAILS_FOR_S = 8.0
EXIT_FAILED, EXIT_DATABASE = 1, 65


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """System calls that fail from the n-th on, `times` often in each thread."""

    calls: str
    error: str
    first: int
    times: int
    paths: tuple[Path, ...] = ()

    def words(self) -> list[str]:
        """Return what strace is to be told."""
        last = self.first + self.times - 1
        when = f"{self.first}" if self.times == 1 else f"{self.first}..{last}"
        only = [word for path in self.paths for word in ("-P", str(path))]
        return ["-e", f"trace={self.calls}", "-e", f"inject={self.calls}:error={self.error}:when={when}", *only]


@contextlib.contextmanager
def failing(peer: Peer, fault: Fault, record: Path) -> Iterator[None]:
    """Let system calls of a daemon fail as long as this lasts, or until it ends."""
    assert peer.process is not None
    command = ["strace", "-f", "-p", str(peer.process.pid), "-o", str(record), *fault.words()]
    complaints = record.with_suffix(".stderr")
    with complaints.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as tracer:
        try:
            wait_until(lambda: b"attached" in complaints.read_bytes(), "strace attaches")
            yield
        finally:
            tracer.send_signal(signal.SIGINT)


def is_settled(peer: Peer) -> bool:
    """Say whether a daemon has ended or answers; one that is stopping does neither."""
    if peer.is_dead():
        return True
    try:
        return peer.get("/readyz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def drawn_fault(rng: random.Random) -> Fault:
    """Return a fault of the first call of its kind or of a later one, once, a few times or for good."""
    calls = rng.choice(KINDS)
    return Fault(
        calls=calls,
        error="EIO" if calls in READING else rng.choice(ERRORS),
        first=int(2 ** rng.uniform(0, 2 if calls in RARE else 7)),
        times=rng.choice((1, 1, 3, 1000)),
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    with fault_site(tmp_path_factory.mktemp("site")) as daemons:
        yield daemons


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failing_system_call_loses_nothing(site: FaultSite, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    site.restore()
    victim = rng.choice((site.home, site.b))
    fault = drawn_fault(rng)
    drawn = site.draw()
    record = tmp_path / "record"
    with failing(victim, fault, record), Scribe(victim, f"seed{seed}") as scribe:
        drawn.gate.touch()
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):  # seen to below
            site.home.wait(site.home.execute(drawn.workflow_id), timeout_s=FAILS_FOR_S)
        wait_until(lambda: is_settled(victim), "it goes on or ends", within_s=60)
    died = victim.is_dead()
    if died:
        assert victim.process is not None
        # What SQLite cannot read it calls damaged.
        assert victim.process.returncode in (
            (EXIT_FAILED, EXIT_DATABASE) if "pread64" in fault.calls else (EXIT_FAILED,)
        )
        assert NAMES_THE_DISK.search(victim.stderr().splitlines()[-1]), victim.stderr()[-2000:]
    site.restore()
    outcome = "REFUSED"
    for (known,) in site.home.rows("SELECT id FROM workflow_executions WHERE workflow_id = ?", drawn.workflow_id):
        outcome = site.check(drawn, site.home.wait(known))
    scribe.check()
    injected = record.read_text().count("INJECTED")
    what = (
        f"{fault.calls} fails with {fault.error} on {victim.data_dir.name} {injected} times from call {fault.first} on"
    )
    note_figures("faults", what=what, seed=seed, injected=injected, died=died, outcome=outcome)


@pytest.mark.parametrize("error", ERRORS)
def test_a_flush_of_the_database_that_fails_ends_the_daemon(site: FaultSite, tmp_path: Path, error: str) -> None:
    """Once is enough: the kernel may have dropped what it could not write, and would call the next flush a success."""
    site.restore()
    b = site.b
    fault = Fault(calls="fsync,fdatasync", error=error, first=1, times=1, paths=(b.data_dir / "rnd.db-wal",))
    with failing(b, fault, tmp_path / "record"), Scribe(b, f"flush-{error}") as scribe:
        wait_until(b.is_dead, "it ends")
    assert b.process is not None
    assert b.process.returncode == EXIT_FAILED
    assert "disk I/O error" in b.stderr().splitlines()[-1]
    site.restore()
    scribe.check()
