"""Daemons of one workflow are killed at seeded moments, in turn, and start again: the end is right, and nothing runs twice.

`RND_TEST_KILL_SEEDS` (`first:last`) runs other seeds than these.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peer_sites import Site, running_site, settle_ports
from tests.kills.kill_sites import CONFIG, draw, kill_and_see
from tests.running_peers import Peer

SEEDS = os.environ.get("RND_TEST_KILL_SEEDS", "0:25")


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), config=CONFIG) as site:
        settle_ports(site.home, site.b, site.c)
        yield site


@pytest.fixture
def site(daemons: Site) -> Iterator[Site]:
    daemons.restore()
    yield daemons
    daemons.restore()


@pytest.mark.parametrize("seed", range(*map(int, SEEDS.split(":"))))
def test_killed_daemons_bring_a_workflow_to_its_right_end(site: Site, tmp_path: Path, seed: int) -> None:
    def runs(name: str, peer: Peer, jobs: list[int]) -> int:
        return site.ran()[name]

    rng = random.Random(seed)
    kill_and_see(site, draw(site, f"kills{seed}", rng, tmp_path), seed, rng, stage="kills", runs=runs)
