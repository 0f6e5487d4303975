"""Workflows across three daemons, of which some are killed at seeded moments and start again, and what has to hold at the end."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.figures import note_figures
from tests.integration.peer_sites import Site, processes_of, until_nothing_is_open
from tests.running_peer import RpcError
from tests.running_peers import Peer, wait_until

CONFIG = "[deadlines]\ncancel_by_s = 2\ncancel_grace_s = 0.5\n"
AMPLE_S = 40.0
LATE_S = 8.0
LINES_WITHIN_S = 2.0

Offer = Callable[[Peer, str, str], dict[str, Any]]
"""Offers a shell script under a name on a peer, as another kind of service than STANDALONE; returns the service."""
Runs = Callable[[str, Peer, list[int]], int]
"""Returns how often the program of a name has been started on a peer, whose rows of it have these ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A workflow that is drawn; `results` is what is to come home, `places` where each program runs."""

    workflow_id: int
    results: dict[tuple[int, str], bytes]
    places: dict[str, Peer]


def draw(site: Site, name: str, rng: random.Random, folder: Path, *, contain: Offer | None = None) -> Graph:
    """DATA fans out to a program of B and one of C, which feed a third, as may a file of the self-peer; results come home.

    With `contain` two of three programs are what that offers, and run but once.
    """
    peers = (site.home, site.b, site.c)
    content = rng.randbytes(1000) * rng.choice((1, 3_000, 20_000))
    (folder / "source.bin").write_bytes(content)
    workflow = site.home.workflow(name)

    def offer(part: str, peer: Peer) -> int:
        own = f"{name}-{part}"
        if contain is not None and rng.random() < 2 / 3:
            script = f"sleep {rng.uniform(0, 0.4):.2f}; printf '<{part}>'; cat"
            return site.home.remote_node(workflow, peer, contain(peer, own, script), name=own)
        fails = f"test $(grep -cx {own} '{site.place}/runs') -ge 2 || exit 7;" if rng.random() < 0.3 else ""
        script = f"{site.note(own)}; {fails} sleep {rng.uniform(0, 0.4):.2f}; printf '<{part}>'; cat"
        retry: dict[str, Any] = {"retry_safe": True, "retry": {"attempts": 3, "backoff_s": 0.1}} if fails else {}
        return site.home.remote_node(workflow, peer, peer.offer(own, script, **retry), name=own)

    giver = rng.choice(peers)
    data = site.home.remote_node(workflow, giver, giver.give(f"{name}-data", folder / "source.bin"))
    places = {"left": site.b, "right": site.c, "join": rng.choice(peers)}
    left, right, join = (offer(part, peer) for part, peer in places.items())
    for way in (left, right):
        site.home.connect(workflow, data, way)
        site.home.connect(workflow, way, join)
    joined = b"<join><left>" + content + b"<right>" + content
    if rng.random() < 0.4:
        (folder / "more.bin").write_bytes(content)
        site.home.connect(workflow, None, join, source_path=str(folder / "more.bin"))
        joined += content
    results = {(site.home.connect(workflow, join, None), "stdout.txt"): joined}
    if rng.random() < 0.5:
        results[site.home.connect(workflow, left, None), "stdout.txt"] = b"<left>" + content
    if rng.random() < 0.5:
        results[site.home.connect(workflow, data, None), "source.bin"] = content
    return Graph(
        workflow_id=workflow,
        results=results,
        places={f"{name}-{part}": peer for part, peer in places.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Killing:
    """Kill daemons when the first of them has logged so many lines more than before, or after a time; then start them again."""

    victims: list[Peer]
    lines: int
    moment: float
    pause: float

    def carry_out(self, logged: int) -> None:
        """Do it; `logged` is how long the first one's log was before."""
        self._await_moment(self.victims[0].data_dir / "logs" / "peer.log", logged)
        for peer in self.victims:
            peer.kill()
        time.sleep(self.pause)
        for peer in self.victims:
            peer.start()

    def _await_moment(self, path: Path, logged: int) -> None:
        deadline = time.monotonic() + (LINES_WITHIN_S if self.lines else self.moment)
        while time.monotonic() < deadline:
            if self.lines and path.read_bytes().count(b"\n", logged) >= self.lines:
                time.sleep(self.moment / 50)
                return
            time.sleep(0.001)


def killings_of(site: Site, seed: int, rng: random.Random) -> list[Killing]:
    """Return whom to kill and when; the first to be killed changes from seed to seed."""
    peers = [site.home, site.b, site.c]
    found: list[Killing] = []
    for number in range(rng.randint(1, 3)):
        first = peers[seed % 3] if number == 0 else rng.choice(peers)
        found.append(
            Killing(
                victims=[first, *(peer for peer in peers if peer is not first and rng.random() < 0.15)],
                lines=rng.randint(1, rng.choice((6, 20, 60))) if rng.random() < 0.7 else 0,
                moment=rng.uniform(0, 1),
                pause=rng.uniform(0, 0.8),
            )
        )
    return found


def logged_by(peer: Peer) -> int:
    return (peer.data_dir / "logs" / "peer.log").stat().st_size


def kill_and_see(
    site: Site, graph: Graph, seed: int, rng: random.Random, *, stage: str, runs: Runs, excuse: str = ""
) -> None:
    """Have a workflow run while daemons are killed, and hold its end against what it may be.

    Time enough and nobody's cancel: COMPLETED. Otherwise it may end another way, for a reason, and leaves nothing. `excuse`
    matches the words of what may fail a job although there is time enough.
    """
    killings = killings_of(site, seed, rng)
    fate = rng.choices(("ample", "short", "cancel"), (5, 2, 3))[0]
    deadline_s = rng.uniform(1.5, 4) if fate == "short" else AMPLE_S
    cancel_before, cancel_after_s = rng.randint(0, len(killings)), rng.uniform(0, 0.5)
    logged = logged_by(killings[0].victims[0])
    execution_id = site.home.execute(graph.workflow_id, deadlines={"workflow_deadline_s": deadline_s})
    for number, killing in enumerate(killings):
        if fate == "cancel" and number == cancel_before:
            _cancel(site, execution_id, cancel_after_s)
        killing.carry_out(logged_by(killing.victims[0]) if number else logged)
    if fate == "cancel" and cancel_before == len(killings):
        _cancel(site, execution_id, cancel_after_s)
    began_s = time.monotonic()
    execution = site.home.wait(execution_id, timeout_s=deadline_s + LATE_S)
    note_figures(stage, what=f"seed {seed}", fate=fate, converged_s=round(time.monotonic() - began_s, 2))
    _check_end(site, graph, execution, fate, excuse)
    _check_rest(site, graph, execution, runs)


def _cancel(site: Site, execution_id: int, after_s: float) -> None:
    time.sleep(after_s)
    with contextlib.suppress(RpcError):  # it has ended already
        site.home.call("execution.cancel", execution_id=execution_id)


def _check_end(site: Site, graph: Graph, execution: dict[str, Any], fate: str, excuse: str) -> None:
    status, error = execution["status"], execution["error"]
    if status == "FAILED" and excuse and re.search(excuse, error):
        fate = "short"
    possible = {"ample": {"COMPLETED"}, "short": {"COMPLETED", "FAILED"}, "cancel": {"COMPLETED", "CANCELLED"}}[fate]
    assert status in possible, (fate, status, error)
    came = site.home.results(execution["id"])
    if status == "COMPLETED":
        assert error is None
        assert came == graph.results
    else:
        assert error
        assert came.items() <= graph.results.items()
    ((deadline_at, completed_at),) = site.home.rows(
        "SELECT deadline_at, completed_at FROM workflow_executions WHERE id = ?", execution["id"]
    )
    late = datetime.fromisoformat(completed_at) - datetime.fromisoformat(deadline_at)
    assert late < timedelta(seconds=LATE_S)


def _check_rest(site: Site, graph: Graph, execution: dict[str, Any], count: Runs) -> None:
    """Nothing is open, to be told or under way on any peer, and each program ran once an attempt."""
    ((uid,),) = site.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", execution["id"])
    until_nothing_is_open(site, uid)
    for name, peer in graph.places.items():
        jobs = peer.rows(
            "SELECT status, attempt FROM job_executions WHERE job_name = ? AND executor_peer_id = ?", name, peer.peer_id
        )
        ids = peer.rows("SELECT id FROM job_executions WHERE job_name = ? AND executor_peer_id = ?", name, peer.peer_id)
        runs = count(name, peer, [job_id for (job_id,) in ids])
        if execution["status"] == "COMPLETED":
            assert jobs == [("COMPLETED", runs)]
        else:
            assert runs <= sum(attempt for _, attempt in jobs)
        shown = site.home.rows("SELECT status, attempt FROM job_executions WHERE job_name = ?", name)
        if execution["status"] == "FAILED":  # whoever was silent past the deadline has been given up
            assert len(shown) <= 1
        else:
            assert shown in ([], jobs)
        wait_until(lambda name=name: not processes_of(name), f"no process of {name} is left")
