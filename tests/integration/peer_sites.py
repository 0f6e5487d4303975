"""Three daemons for the tests of one module: a home that orchestrates, and two executors that know only it."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running_peers import Peer, await_links, introduce, running_peers, wait_until

MOUNT_IN = {"interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The daemons; programs note below `place` that they have run, and wait there for gates."""

    home: Peer
    b: Peer
    c: Peer
    place: Path

    def ran(self) -> Counter[str]:
        """Return how often each program has run."""
        runs = self.place / "runs"
        return Counter(runs.read_text().split()) if runs.exists() else Counter()

    def gate(self, name: str) -> Path:
        """Return what opens the gate of the program of that name, by being made."""
        return self.place / f"{name}.gate"

    def note(self, name: str) -> str:
        """Return the shell words by which a program notes that it has run."""
        return f"echo {name} >> '{self.place}/runs'"

    def gated(self, name: str) -> str:
        """Return the shell words by which a program notes that it runs and waits for its gate."""
        return f"{self.note(name)}; while ! test -e '{self.gate(name)}'; do sleep 0.05; done"

    def restore(self) -> None:
        """Bring back who is away, and wait for the links."""
        for peer in (self.home, self.b, self.c):
            if peer.process is None:
                peer.start()
            peer.thaw()
        for peer, count in ((self.home, 2), (self.b, 1), (self.c, 1)):
            await_links(peer, count)

    def job(self, peer: Peer, name: str) -> tuple[Any, ...]:
        """Return status and error of an executor's newest job of that name."""
        found = peer.rows(
            "SELECT status, error_message FROM job_executions WHERE job_name = ? ORDER BY id DESC LIMIT 1", name
        )
        return found[0] if found else ()

    def until_job(self, peer: Peer, name: str, status: str, *, within_s: float = 30.0) -> None:
        """Wait until an executor's newest job of that name has a status."""
        query = "SELECT status FROM job_executions WHERE job_name = ? ORDER BY id DESC LIMIT 1"
        peer.until(query, status, name, within_s=within_s)

    def until_given_up(self, peer: Peer, name: str) -> None:
        """Wait until an executor's newest job of that name has ended without success: by a cancel, or by its own clock."""
        wait_until(
            lambda: self.job(peer, name)[:1] in {("CANCELLED",), ("ERRORED",)},
            lambda: f"{name} on {peer.data_dir.name} is given up: {self.job(peer, name)}",
        )

    def settle(self) -> None:
        """Wait until nobody has anything left to tell or to send."""
        for peer in (self.home, self.b, self.c):
            peer.until("SELECT COUNT(*) FROM outbox", 0)
            peer.until("SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE')", 0)


@contextlib.contextmanager
def running_site(
    place: Path, *, config: str = "[deadlines]\ncancel_by_s = 2\n", kind: type[Peer] = Peer
) -> Iterator[Site]:
    """Start the daemons of a site."""
    env = {"RND_STATUS_INTERVAL_S": "0.3", "RND_QUEUE_INTERVAL_S": "0.3"}
    with running_peers(place, "home", "b", "c", env=env, config=config, kind=kind) as (home, b, c):
        introduce((home, b), (home, c))
        yield Site(home=home, b=b, c=c, place=place)


def settle_ports(*peers: Peer) -> None:
    """Give peers ports of their own, outside of those that the system hands out, so that all find each other again."""
    with contextlib.ExitStack() as held:
        for peer in peers:
            peer.stop()
            peer.listen_at = f"127.0.0.1:{held.enter_context(_quiet_port()).getsockname()[1]}"
    for peer in peers:
        peer.start()
        for other in peers:
            other.sql(
                "UPDATE peers SET addresses = :addresses WHERE peer_id = :peer_id",
                addresses=json.dumps([peer.address]),
                peer_id=peer.peer_id,
            )


def _quiet_port() -> socket.socket:
    """Return a socket that holds a free port."""
    for port in random.sample(range(20_000, 32_000), 100):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
        else:
            return held
    raise AssertionError("no port is free")


def until_nothing_is_open(site: Site, execution_uid: str) -> None:
    """Wait until no job of an execution is open, to be told or under way on any peer."""
    open_jobs = """
        SELECT COUNT(*) FROM job_executions
        WHERE execution_uid = ?
          AND (status NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED') OR settled_status IS NOT status)
        """
    for peer in (site.home, site.b, site.c):
        peer.until(open_jobs, 0, execution_uid)
    site.settle()


def processes_of(name: str) -> list[str]:
    """Return the command lines of the processes that run a program."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"/" + name.encode()) for word in words):
            found.append(b" ".join(words).decode(errors="replace"))
    return found
