"""Work without pause for two daemons: workflows of every kind and end, each result compared byte for byte."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.peer_sites import MOUNT_IN
from tests.running_peers import Peer, wait_until

EVERY = 10
"""Each so many rounds one fails and is retried, and one is cancelled."""
MANY = 60


class Driver:
    """Has one peer orchestrate: round after round of workflows across both, each result compared byte for byte."""

    def __init__(self, home: Peer, away: Peer, place: Path) -> None:
        self.jobs = 0
        self.rounds = 0
        self._home = home
        self._place = place
        self._chance = random.Random(home.data_dir.name)
        place.mkdir()
        folder = place / "many"
        folder.mkdir()
        for number in range(MANY):
            (folder / f"{number:03}").write_bytes(self._chance.randbytes(300))
        self._many_content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
        self._relay, self._relay_source = self._draw_relay(away)
        self._many = self._draw_many(away, folder)
        self._failing = self._draw_chain("failing", away, first="echo x", second="exit 3")
        self._sleeping = self._draw_chain("sleeping", away, first="exec sleep 600", second="cat")

    def _offers(self, what: str, script: str, away: Peer, **more: Any) -> tuple[Any, Any]:
        name = f"{what}-for-{self._home.data_dir.name}"
        return self._home.offer(name, script, **more), away.offer(name, script, **more)

    def _draw_relay(self, away: Peer) -> tuple[int, int]:
        """Four jobs in a row by turns, of which each adds a line to what it gets."""
        here, there = self._offers("add", "cat; echo more", away)
        workflow = self._home.workflow("relay")
        nodes = []
        for _ in range(2):
            nodes.append(self._home.remote_node(workflow, away, there))
            nodes.append(self._home.node(workflow, here["id"]))
        source = self._home.connect(workflow, None, nodes[0], source_path=str(self._place / "many" / "000"))
        for start, end in zip(nodes, [*nodes[1:], None], strict=True):
            self._home.connect(workflow, start, end)
        return workflow, source

    def _draw_many(self, away: Peer, folder: Path) -> int:
        """Small files of the other peer, which a job here joins."""
        data = away.give(f"many-for-{self._home.data_dir.name}", folder)
        join = self._home.offer("join", 'cat "$RND_MOUNT_INPUT"/*', interfaces=[MOUNT_IN])
        workflow = self._home.workflow("many")
        start = self._home.remote_node(workflow, away, data)
        end = self._home.node(workflow, join["id"])
        self._home.connect(workflow, start, end, "STDOUT->MOUNT")
        self._home.connect(workflow, end, None)
        return workflow

    def _draw_chain(self, name: str, away: Peer, *, first: str, second: str) -> int:
        here = self._home.offer(name, first)
        there = away.offer(f"{name}-for-{self._home.data_dir.name}", second)
        workflow = self._home.workflow(name)
        start = self._home.node(workflow, here["id"])
        end = self._home.remote_node(workflow, away, there)
        self._home.connect(workflow, start, end)
        self._home.connect(workflow, end, None)
        return workflow

    def run(self, until: threading.Event, rounds: int | None = None) -> None:
        """Run rounds until told to stop, or as many as asked for."""
        while not until.is_set() and self.rounds != rounds:
            self._one_round()
            self.rounds += 1

    def _one_round(self) -> None:
        content = self._chance.randbytes(40_000)
        source = self._place / "source"
        source.write_bytes(content)
        execution = self._run(self._relay, "COMPLETED", inputs={str(self._relay_source): str(source)})
        assert list(self._home.results(execution["id"]).values()) == [content + b"more\n" * 4]
        execution = self._run(self._many, "COMPLETED")
        assert list(self._home.results(execution["id"]).values()) == [self._many_content]
        job_id = execution["jobs"][0]["job_execution_id"]
        assert self._home.call("job.explain", job_execution_id=job_id)["status"] == "COMPLETED"
        if self.rounds % EVERY == 0:
            failed = self._run(self._failing, "FAILED")
            retry = self._home.wait(self._home.call("execution.retry", execution_id=failed["id"])["execution_id"])
            assert retry["status"] == "FAILED"
            self.jobs += len(retry["jobs"])
            self._cancel_one()

    def _cancel_one(self) -> None:
        execution_id = self._home.execute(self._sleeping)
        wait_until(lambda: "RUNNING" in self._home.statuses(execution_id).values(), "the job to be cancelled runs")
        self._home.call("execution.cancel", execution_id=execution_id, reason="enough")
        execution = self._home.wait(execution_id)
        assert execution["status"] == "CANCELLED"
        self.jobs += len(execution["jobs"])

    def _run(self, workflow: int, status: str, **more: Any) -> dict[str, Any]:
        execution = self._home.run(workflow, **more)
        assert execution["status"] == status, execution
        self.jobs += len(execution["jobs"])
        return execution


def drive(drivers: Sequence[Driver], stop: threading.Event, *, rounds: int | None = None) -> None:
    """Run all drivers side by side; where something goes wrong in one, all of them end."""

    def work(driver: Driver) -> None:
        try:
            driver.run(stop, rounds)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(len(drivers)) as threads:
        for done in [threads.submit(work, driver) for driver in drivers]:
            done.result()
