"""Several real daemons on this machine that know each other, for tests of what goes on between peers."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.running_peer import RunningPeer

CONNECTED_WITHIN_S = 30.0


def wait_until(
    found: Callable[[], bool], what: str | Callable[[], str], *, within_s: float = CONNECTED_WITHIN_S
) -> None:
    """Return when something has come about, or fail with what it was."""
    deadline = time.monotonic() + within_s
    while not found():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


class Peer(RunningPeer):
    """A daemon with a name; `peer_id` and `address` are known once it has run."""

    def __init__(self, data_dir: Path, *, config: str = "", env: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, config=config, env={"RND_NAME": data_dir.name, **(env or {})})
        self.peer_id = ""
        self.address = ""

    def start(self) -> None:
        super().start()
        status = self.call("node.status")
        self.peer_id = status["peer_id"]
        self.address = next(iter(status["peer_addresses"]), "")

    def allow(self, other: Peer) -> None:
        """Take another peer in, as its owner's word would."""
        addresses = [other.address] if other.address else []
        self.call("peer.add", peer_id=other.peer_id, name=other.data_dir.name, addresses=addresses)

    def log(self) -> str:
        """Return the log so far."""
        return (self.data_dir / "logs" / "peer.log").read_text()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query of the database finds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data_dir}/rnd.db?mode=ro", uri=True, timeout=30)) as conn:
            return conn.execute(query, values).fetchall()

    def remote_node(self, workflow_id: int, other: Peer, service: Mapping[str, Any], **more: Any) -> int:
        """Draw a node of another peer's service."""
        return int(
            self.call(
                "workflow.add_node",
                workflow_id=workflow_id,
                peer_id=other.peer_id,
                service_id=service["id"],
                service_name=service["name"],
                service_type=service["service_type"],
                interfaces=service["interfaces"],
                **more,
            )["node_id"]
        )

    def offer(self, name: str, script: str, **more: Any) -> dict[str, Any]:
        """Offer a shell script to other peers as well; return the service."""
        service_id = self.program(name, script, confine="never", **more)
        service: dict[str, Any] = self.call("service.get", service_id=service_id)
        return service

    def give(self, name: str, *paths: Path, **more: Any) -> dict[str, Any]:
        """Offer files as DATA; return the service."""
        service: dict[str, Any] = self.call("service.get", service_id=self.data(name, *paths, **more))
        return service

    def statuses(self, execution_id: int) -> dict[str, str]:
        """Return how each job of an own execution stands, by name."""
        execution = self.call("execution.get", execution_id=execution_id)
        return {job["job_name"]: job["status"] for job in execution["jobs"]}

    def until(self, query: str, expected: object, *values: object, within_s: float = CONNECTED_WITHIN_S) -> None:
        """Wait until the one value that a query finds is the expected one."""

        def answer() -> object:
            found = self.rows(query, *values)
            return found[0][0] if found else None

        wait_until(
            lambda: answer() == expected,
            lambda: f"{query} finds {expected!r}, not {answer()!r}, on {self.data_dir.name}\n{self.stderr()[-1500:]}",
            within_s=within_s,
        )

    def is_dead(self) -> bool:
        """Say whether the daemon has ended by itself."""
        return self.process is None or self.process.poll() is not None

    def freeze(self) -> None:
        """Let the daemon stand still, as if the network had swallowed it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


def pair(one: Peer, other: Peer) -> None:
    """Have two peers allow each other and wait for their link."""
    introduce((one, other))


def introduce(*pairs: tuple[Peer, Peer]) -> None:
    """Have the peers of each pair allow each other, and wait for all links."""
    before: dict[Peer, int] = {}
    for one, other in pairs:
        before.setdefault(one, links_of(one))
        before.setdefault(other, links_of(other))
    for one, other in pairs:
        one.allow(other)
        other.allow(one)
    for peer, count in before.items():
        await_links(peer, count + sum(peer in each for each in pairs))


def links_of(peer: Peer) -> int:
    """Return to how many peers one is linked."""
    return int(peer.call("node.status")["peers_connected"])


def await_links(peer: Peer, count: int) -> None:
    """Wait until a peer is linked to so many others."""
    wait_until(lambda: links_of(peer) >= count, f"{peer.data_dir.name} has {count} links")


@contextlib.contextmanager
def running_peers(
    folder: Path, *names: str, env: Mapping[str, str] | None = None, config: str = "", kind: type[Peer] = Peer
) -> Iterator[list[Peer]]:
    """Start peers that do not know each other yet; end all of them, and what they have left, afterwards."""
    peers = [kind(folder / name, env=env, config=config) for name in names]
    try:
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(Peer.start, peers))
        yield peers
    finally:
        for peer in peers:
            peer.dispose()
