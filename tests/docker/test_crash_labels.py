"""A daemon whose jobs are containers dies at a labelled point and starts again: each container starts once, and all comes home.

A few labels each time; `RND_TEST_CRASH_ROLES=all` has the daemon die at every label that it comes to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from tests.docker.contained import contain, left_of, starts_of
from tests.figures import note_figures
from tests.integration.peer_sites import Site
from tests.kills.crash_sites import CONTENT, CrashSite, Drawn, site_of_three
from tests.running_peers import wait_until

FLOW, ROLE = "contained", "c"
EVERY_LABEL = os.environ.get("RND_TEST_CRASH_ROLES", "") == "all"
ONE_OF = 1 if EVERY_LABEL else 9
TRIES = 2
"""Some points are come to only where two things happen in one order and not the other."""


class ContainedSite(CrashSite):
    """b gives DATA, c runs two containers of which one feeds the other, and home gets what they make."""

    def __init__(self, site: Site, engine: APIClient) -> None:
        super().__init__(site)
        self._engine = engine
        self._began = int(time.time())

    def draw(self, flow: str) -> Drawn:
        home, b, c = self.site.home, self.site.b, self.site.c
        name = f"{flow}{next(self.numbers)}"
        workflow = home.workflow(name)
        data = home.remote_node(workflow, b, self.gifts["source"])
        first, second = (
            home.remote_node(workflow, c, contain(c, own, f"printf {part}; cat"), name=own)
            for part, own in (("one", f"{name}-one"), ("two", f"{name}-two"))
        )
        home.connect(workflow, data, first)
        home.connect(workflow, first, second)
        results = {(home.connect(workflow, second, None), "stdout.txt"): b"twoone" + CONTENT}
        names = (f"{name}-one", f"{name}-two")
        return Drawn(
            workflow_id=workflow, results=results, places=dict.fromkeys(names, c), runs=dict.fromkeys(names, 1)
        )

    def ran(self, drawn: Drawn) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, peer in drawn.places.items():
            query = "SELECT id FROM job_executions WHERE job_name = ? AND executor_peer_id = ?"
            ((job_id,),) = peer.rows(query, name, peer.peer_id)
            found[name] = starts_of(self._engine, peer, job_id, self._began)
        return found

    def check(self, flow: str, drawn: Drawn, execution: dict[str, Any]) -> None:
        super().check(flow, drawn, execution)
        c = self.site.c
        wait_until(lambda: not left_of(self._engine, c), lambda: f"these stay: {left_of(self._engine, c)}")


@pytest.fixture
def crashing(tmp_path: Path, engine: APIClient, image_id: str) -> Iterator[ContainedSite]:
    with site_of_three(tmp_path / "site") as site:
        yield ContainedSite(site, engine)


@pytest.mark.timeout(3600 if EVERY_LABEL else 300)
def test_a_daemon_of_containers_that_dies_at_a_label_loses_nothing(crashing: ContainedSite, tmp_path: Path) -> None:
    labels = crashing.labels(FLOW, ROLE, tmp_path / "labels")
    mine = labels[1::ONE_OF]
    assert mine
    wrong: list[str] = []
    passed_by: list[str] = []
    for label in mine:
        try:
            if not any(crashing.die_at(FLOW, ROLE, label) for _ in range(TRIES)):
                passed_by.append(label)
        except AssertionError as error:
            wrong.append(f"at '{label}': {error}")
            crashing.site.restore()
    note_figures(
        "labels", what="crash labels of containers", cases=len(mine), passed_by=len(passed_by), wrong=len(wrong)
    )
    assert not wrong, "\n".join(wrong)
    assert len(passed_by) <= len(mine) / 4, passed_by
