"""Two flows across three daemons, for deaths at labelled points: one that runs to its end, one that is cancelled on its way."""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnd import crash_points
from tests.integration.peer_sites import (
    MOUNT_IN,
    Site,
    processes_of,
    running_site,
    settle_ports,
    until_nothing_is_open,
)
from tests.live_files import found_below
from tests.running_peer import RpcError
from tests.running_peers import Peer, await_links, wait_until

CONFIG = "[deadlines]\ncancel_by_s = 2\ncancel_grace_s = 0.5\n"
ENDS_WITHIN_S = 40.0
CONTENT = bytes(range(256)) * 256
BIG = bytes(1 << 20) * 9  # long enough for a note of how much has come
ROLES = ("home", "b", "c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A workflow that is drawn; `results` is what is to come home, `runs` how often each program is to run, and `places` where."""

    workflow_id: int
    results: dict[tuple[int, str], bytes]
    places: dict[str, Peer]
    runs: dict[str, int]


class CrashSite:
    """Home that orchestrates and runs, b that gives DATA and runs, c that runs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.numbers = itertools.count()
        (site.place / "source.bin").write_bytes(CONTENT)
        (site.place / "big.bin").write_bytes(BIG)
        self.gifts = {name: site.b.give(name, site.place / f"{name}.bin") for name in ("source", "big")}

    def peer(self, role: str) -> Peer:
        """Return the daemon that plays a role."""
        found: Peer = getattr(self.site, role)
        return found

    def draw(self, flow: str) -> Drawn:
        """Draw what a flow runs, with programs of its own."""
        name = f"{flow}{next(self.numbers)}"
        return {"run": self._draw_run, "cancel": self._draw_cancel}[flow](name)

    def ran(self, drawn: Drawn) -> dict[str, int]:
        """Return how often each program of a workflow has run."""
        runs = self.site.ran()
        return {name: runs[name] for name in drawn.places}

    def _program(self, workflow: int, name: str, peer: Peer, script: str, **more: Any) -> int:
        return self.site.home.remote_node(workflow, peer, peer.offer(name, script, **more), name=name)

    def _draw_run(self, name: str) -> Drawn:
        """DATA and a file of home go to c; what c makes goes on there, to b and to home, which join; one is tried twice."""
        home, b, c, note = self.site.home, self.site.b, self.site.c, self.site.note
        workflow = home.workflow(name)
        data, big = (home.remote_node(workflow, b, gift) for gift in self.gifts.values())
        places = {f"{name}-{part}": peer for part, peer in (("first", c), ("next", c), ("far", b), ("join", home))}
        first_name, next_name, far_name, join_name = places
        first = self._program(
            workflow, first_name, c, f'{note(first_name)}; cat "$RND_MOUNT_INPUT"/*; cat', interfaces=[MOUNT_IN]
        )
        again = f"test $(grep -cx {next_name} '{self.site.place}/runs') -ge 2 || exit 7"
        following = self._program(
            workflow,
            next_name,
            c,
            f"{note(next_name)}; {again}; printf next; cat",
            retry_safe=True,
            retry={"attempts": 3, "backoff_s": 0.1},
        )
        far = self._program(workflow, far_name, b, f"{note(far_name)}; printf far; cat")
        join = self._program(workflow, join_name, home, f"{note(join_name)}; cat")
        home.connect(workflow, data, first)
        home.connect(workflow, big, first, "STDOUT->MOUNT")
        home.connect(workflow, None, first, source_path=str(self.site.place / "source.bin"))
        for way in (following, far):
            home.connect(workflow, first, way)
            home.connect(workflow, way, join)
        made = BIG + CONTENT + CONTENT
        results = {
            (home.connect(workflow, join, None), "stdout.txt"): b"next" + made + b"far" + made,
            (home.connect(workflow, following, None), "stdout.txt"): b"next" + made,
            (home.connect(workflow, data, None), "source.bin"): CONTENT,
        }
        runs = {first_name: 1, next_name: 2, far_name: 1, join_name: 1}
        return Drawn(workflow_id=workflow, results=results, places=places, runs=runs)

    def _draw_cancel(self, name: str) -> Drawn:
        """A program of each daemon runs without end, and one waits for it, when the order to end comes."""
        home, b, c, note = self.site.home, self.site.b, self.site.c, self.site.note
        workflow = home.workflow(name)
        data = home.remote_node(workflow, b, self.gifts["source"])
        places: dict[str, Peer] = {}
        for part, peer in (("home", home), ("b", b), ("c", c)):
            own = f"{name}-{part}"
            places[own] = peer
            runs = self._program(workflow, own, peer, self.site.gated(own))
            places[f"{own}-waits"] = peer
            waits = self._program(workflow, f"{own}-waits", peer, f"{note(f'{own}-waits')}; cat")
            home.connect(workflow, data, runs)
            home.connect(workflow, runs, waits)
            home.connect(workflow, waits, None)
        runs = {own: 0 if own.endswith("-waits") else 1 for own in places}
        return Drawn(workflow_id=workflow, results={}, places=places, runs=runs)

    # ---- a flow with one daemon under watch

    def watch(self, role: str, variables: dict[str, str]) -> None:
        """Start the daemon of a role anew with these variables; it may be dead again at any time."""
        peer = self.peer(role)
        peer.kill()
        with peer.variables(variables), contextlib.suppress(AssertionError, OSError, http.client.HTTPException):
            peer.start()
            await_links(peer, 2 if role == "home" else 1)

    def play(self, flow: str, drawn: Drawn) -> dict[str, Any]:
        """Play a flow to its end and return the execution. Whoever dies is to be brought back by somebody else."""
        home = self.site.home

        def insist(ask: Callable[[], Any]) -> Any:
            deadline = time.monotonic() + ENDS_WITHIN_S
            while True:
                try:
                    return ask()
                except (OSError, http.client.HTTPException):
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

        def begin() -> int:
            for (known,) in home.rows("SELECT id FROM workflow_executions WHERE workflow_id = ?", drawn.workflow_id):
                return int(known)
            return home.execute(drawn.workflow_id, deadlines={"workflow_deadline_s": ENDS_WITHIN_S})

        def cancel() -> None:
            with contextlib.suppress(RpcError):  # it was, and the answer was lost
                home.call("execution.cancel", execution_id=execution_id, reason="enough")

        execution_id = insist(begin)
        if flow == "cancel":
            running = {name for name in drawn.places if not name.endswith("-waits")}
            wait_until(lambda: running <= self.site.ran().keys(), lambda: f"all run: {self.site.ran()}")
            insist(cancel)
        execution: dict[str, Any] = insist(lambda: home.wait(execution_id, timeout_s=ENDS_WITHIN_S + 10))
        return execution

    def labels(self, flow: str, role: str, file: Path) -> list[str]:
        """Return the labels that a daemon comes to in a flow, in that order."""
        drawn = self.draw(flow)
        self.watch(role, {crash_points.LABELS: str(file)})
        before = set(file.read_text().splitlines())
        self.play(flow, drawn)
        self.site.settle()
        found = [label for label in file.read_text().splitlines() if label not in before]
        self.peer(role).kill()
        self.site.restore()
        return found

    def die_at(self, flow: str, role: str, label: str, number: int = 1) -> bool:
        """Play a flow in which a daemon dies at a point and comes back; see that all is right, and say whether it died there."""
        peer = self.peer(role)
        drawn = self.draw(flow)
        died = threading.Event()
        is_over = threading.Event()

        def bring_back() -> None:
            while not is_over.wait(0.01):
                if peer.is_dead():
                    died.set()
                    peer.start()
                    return

        self.watch(role, {crash_points.AT: f"{label}:{number}"})
        reviver = threading.Thread(target=bring_back)
        reviver.start()
        try:
            execution = self.play(flow, drawn)
        finally:
            is_over.set()
            reviver.join()
        if not died.is_set():
            peer.kill()
        self.site.restore()
        self.check(flow, drawn, execution)
        return died.is_set()

    def check(self, flow: str, drawn: Drawn, execution: dict[str, Any]) -> None:
        """The end is right, nothing is open or left anywhere, and each program ran as often as it had to."""
        site = self.site
        assert execution["status"] == ("CANCELLED" if flow == "cancel" else "COMPLETED"), execution["error"]
        assert site.home.results(execution["id"]) == drawn.results
        ((uid,),) = site.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", execution["id"])
        until_nothing_is_open(site, uid)
        assert self.ran(drawn) == drawn.runs
        for name in drawn.places:
            wait_until(lambda name=name: not processes_of(name), f"no process of {name} is left")
        for peer in (site.home, site.b, site.c):
            parts = functools.partial(found_below, peer.data_dir / "workflows", ".*.part*")
            wait_until(lambda parts=parts: not parts(), lambda parts=parts: f"these stay: {parts()}")
            assert "Traceback" not in peer.stderr()


@contextlib.contextmanager
def crash_site(place: Path) -> Iterator[CrashSite]:
    """Start the daemons."""
    with site_of_three(place) as site:
        yield CrashSite(site)


@contextlib.contextmanager
def site_of_three(place: Path) -> Iterator[Site]:
    """Start the daemons of a crash site, at ports of their own."""
    with running_site(place, config=CONFIG) as site:
        settle_ports(site.home, site.b, site.c)
        site.restore()
        yield site
