"""Daemons of one workflow of containers are killed at seeded moments, sometimes with their rnd-exec: each container starts once.

The engine itself tells how often each was started. `RND_TEST_KILL_SEEDS` (`first:last`) runs other seeds than these.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.docker.contained import contain, left_of, starts_of
from tests.integration.peer_sites import Site, running_site, settle_ports
from tests.kills.kill_sites import CONFIG, draw, kill_and_see
from tests.running_peers import Peer, wait_until
from tests.services.native_processes import name_of, processes_of

EXCUSE = "its standard input was cut short: the process that fed it was ended|stdout is not whole, since what took it was killed"
"""What is promised of a run whose rnd-exec is killed while it is being fed, or writes more than the engine keeps (ADR 13)."""
SEEDS = os.environ.get("RND_TEST_KILL_SEEDS", "0:4")


class ContainerPeer(Peer):
    """A daemon whose rnd-exec is killed with it, every other time."""

    exec_too = False

    def kill(self) -> None:
        self.exec_too = not self.exec_too
        victims = [pid for pid in processes_of(self.data_dir) if name_of(pid) == "rnd-exec"] if self.exec_too else []
        super().kill()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory, image_id: str) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), config=CONFIG, kind=ContainerPeer) as site:
        settle_ports(site.home, site.b, site.c)
        yield site


@pytest.fixture
def site(daemons: Site) -> Iterator[Site]:
    daemons.restore()
    yield daemons
    daemons.restore()


@pytest.mark.parametrize("seed", range(*map(int, SEEDS.split(":"))))
def test_killed_daemons_start_each_container_once(site: Site, tmp_path: Path, engine: APIClient, seed: int) -> None:
    began = int(time.time())
    rng = random.Random(f"containers {seed}")

    def runs(name: str, peer: Peer, jobs: list[int]) -> int:
        kinds = peer.rows("SELECT DISTINCT service_type FROM offered_services WHERE name = ?", name)
        if kinds == [("STANDALONE",)]:
            return site.ran()[name]
        (job_id,) = jobs or [0]
        return starts_of(engine, peer, job_id, began)

    graph = draw(site, f"contained{seed}", rng, tmp_path, contain=contain)
    kill_and_see(site, graph, seed, rng, stage="containers", runs=runs, excuse=EXCUSE)
    for peer in (site.home, site.b, site.c):
        wait_until(
            lambda peer=peer: not left_of(engine, peer), lambda peer=peer: f"these stay: {left_of(engine, peer)}"
        )
