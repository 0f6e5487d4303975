"""Two daemons, a workflow across them, and what is true of it afterwards, whatever the machine of one of them did meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.integration.peer_sites import settle_ports
from tests.running_peer import RpcError
from tests.running_peers import Peer, await_links, introduce, running_peers

CONFIG = "[deadlines]\ncancel_by_s = 2\ncancel_grace_s = 0.5\n[limits]\ndisk_floor_bytes = 0\n"
CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB
NAMES_THE_DISK = re.compile(
    "[Nn]o space|nearly full|Input/output error|disk I/O error|Read-only|readonly|disk is full|disk of|disk cannot be read|"
    "database file"
)
ENDS_WITHIN_S = 60.0
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
"""For daemons whose system calls fail: what measures their coverage would meet the fault too, and write its own last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A workflow that is drawn; `results` is what is to come home, `gate` lets its first program go on."""

    workflow_id: int
    results: dict[tuple[int, str], bytes]
    gate: Path


class FaultSite:
    """Home that orchestrates, gives DATA and joins, and b that runs."""

    def __init__(self, home: Peer, b: Peer, place: Path) -> None:
        self.home = home
        self.b = b
        self.place = place
        self._numbers = itertools.count()
        (place / "source.bin").write_bytes(CONTENT)
        self._gift = home.data("source", place / "source.bin")

    def draw(self, *, runs_at_home: bool = True) -> Drawn:
        """Draw: DATA of home goes to a program of b, whose end goes to one of home and to one of b, which both come home.

        Where home runs no program, both are programs of b.
        """
        home, b = self.home, self.b
        name = f"w{next(self._numbers)}"
        gate = self.place / f"{name}.gate"
        workflow = home.workflow(name)
        data = home.node(workflow, self._gift)
        first = home.remote_node(
            workflow,
            b,
            b.offer(f"{name}-first", f"while ! test -e '{gate}'; do sleep 0.02; done; cat; printf first"),
        )
        nearer = home if runs_at_home else b
        near = home.remote_node(workflow, nearer, nearer.offer(f"{name}-near", "cat; printf near"))
        far = home.remote_node(workflow, b, b.offer(f"{name}-far", "cat; printf far"))
        home.connect(workflow, data, first)
        home.connect(workflow, first, near)
        home.connect(workflow, first, far)
        results = {
            (home.connect(workflow, node, None), "stdout.txt"): CONTENT + b"first" + ending
            for node, ending in ((near, b"near"), (far, b"far"))
        }
        return Drawn(workflow_id=workflow, results=results, gate=gate)

    def execute(self, drawn: Drawn) -> int:
        """Execute a workflow, and ask again as long as the database of home takes no write now."""
        while True:
            try:
                return self.home.execute(drawn.workflow_id)
            except RpcError as error:
                if "Nothing was changed" not in error.data.get("hint", ""):
                    raise

    def restore(self) -> None:
        """Bring back who is away, and wait for the link."""
        for peer in (self.home, self.b):
            if peer.is_dead():
                peer.start()
        for peer in (self.home, self.b):
            await_links(peer, 1)

    def check(self, drawn: Drawn, execution: Mapping[str, Any]) -> str:
        """Return how an execution ended: right, or in words that name the disk."""
        if execution["status"] == "COMPLETED":
            assert self.home.results(execution["id"]) == drawn.results
        else:
            assert execution["status"] == "FAILED", execution
            assert NAMES_THE_DISK.search(execution["error"]), execution["error"]
        return str(execution["status"])


@contextlib.contextmanager
def fault_site(
    place: Path, *, config: str = CONFIG, within: Callable[[Peer], tuple[str, ...]] = lambda _: ()
) -> Iterator[FaultSite]:
    """Start the daemons of a site, at ports that they keep; `within` is what their command lines begin with."""
    env = {"RND_STATUS_INTERVAL_S": "0.3", "RND_QUEUE_INTERVAL_S": "0.3", **UNMEASURED}
    with running_peers(place, "home", "b", env=env, config=config) as (home, b):
        introduce((home, b))
        for peer in (home, b):
            peer.within = within(peer)
        settle_ports(home, b)
        for peer in (home, b):
            await_links(peer, 1)
        yield FaultSite(home, b, place)


class Scribe:
    """Has a peer write facts down, again and again, and remembers which of them it has acknowledged."""

    def __init__(self, peer: Peer, label: str) -> None:
        self._peer = peer
        self._label = label
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[str] = []
        self.refusals: list[RpcError] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            name = f"{self._label}-{number}"
            try:
                self._peer.call("workflow.create", name=name)
            except RpcError as refusal:
                self.refusals.append(refusal)
            except (OSError, http.client.HTTPException):
                pass  # it is away: nothing was acknowledged
            else:
                self.acknowledged.append(name)
            if self._is_over.wait(0.03):
                return

    def check(self) -> None:
        """All that was acknowledged is there; what was refused for the machine's sake is not."""
        known = {name for (name,) in self._peer.rows("SELECT name FROM workflows")}
        assert not set(self.acknowledged) - known
