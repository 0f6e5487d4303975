"""Several real daemons on this machine that know each other, for tests of what goes on between peers."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rnd.types.times import to_text
from tests.running_peer import RunningPeer

CONNECTED_WITHIN_S = 30.0


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
        now = to_text(datetime.now(UTC))
        with contextlib.closing(sqlite3.connect(self.data_dir / "rnd.db", timeout=30)) as conn, conn:
            conn.execute(
                """
                INSERT INTO peers (peer_id, name, state, addresses, created_at, updated_at)
                VALUES (?, ?, 'allowed', ?, ?, ?)
                """,
                (other.peer_id, other.data_dir.name, json.dumps([other.address] if other.address else []), now, now),
            )

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


def wait_until(found: Callable[[], bool], what: str, *, within_s: float = CONNECTED_WITHIN_S) -> None:
    """Return when something has come about, or fail with what it was."""
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def pair(one: Peer, other: Peer) -> None:
    """Have two peers allow each other and wait for their link."""
    one.allow(other)
    other.allow(one)
    for peer in (one, other):
        wait_until(lambda peer=peer: peer.call("node.status")["peers_connected"] > 0, f"{peer.data_dir.name} is linked")


@contextlib.contextmanager
def running_peers(
    folder: Path, *names: str, env: Mapping[str, str] | None = None, config: str = ""
) -> Iterator[list[Peer]]:
    """Start peers that do not know each other yet; end all of them, and what they have left, afterwards."""
    peers = [Peer(folder / name, env=env, config=config) for name in names]
    try:
        for peer in peers:
            peer.start()
        yield peers
    finally:
        for peer in peers:
            peer.dispose()
