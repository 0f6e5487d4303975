"""The kernel spoils the cable between two daemons: packets are lost, reset or swallowed; executions end right all the same.

Needs root, `ip`, `tc` and `iptables`; in CI it is a failure where they are missing.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnd.p2p.signs_of_life import SILENT_AFTER_S
from tests.faults.errands import Errand, draw_errand
from tests.faults.networks import CabledSite, CannotTry, running_cabled_site
from tests.faults.oracle import CONVERGED_WITHIN_S
from tests.figures import note_figures
from tests.live_files import bytes_of, found_below
from tests.running_peers import links_of, wait_until

BIG_BYTES = (12 << 20, 12 << 20)
"""It is on its way for a second and more."""
LOSSY_BYTES = (6 << 20, 6 << 20)
LONG_S = SILENT_AFTER_S + 6
RESETS_S = 3.0
GIVEN_UP = "Peer link given up"
_seeds = itertools.count()


@pytest.fixture(scope="module")
def cabled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CabledSite]:
    try:
        with running_cabled_site(tmp_path_factory.mktemp("cabled")) as site:
            yield site
    except CannotTry as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def site(cabled: CabledSite) -> CabledSite:
    cabled.await_links()
    return cabled


def ordered(site: CabledSite, tmp_path: Path, big_bytes: tuple[int, int]) -> tuple[Errand, int]:
    """Order a workflow; return it and its execution."""
    name = f"cable{time.monotonic_ns()}"
    rng = random.Random(next(_seeds))  # what has come before would not be sent again
    errand = draw_errand(site, name, rng, tmp_path, peers=2, big_bytes=big_bytes, giver=site.home)
    return errand, site.home.execute(errand.workflow_id)


def await_bytes(site: CabledSite) -> None:
    """Wait until something of the big delivery has come."""

    def has_come() -> bool:
        parts = [path for peer in site.peers for path in found_below(peer.data_dir / "workflows", ".*.part/*")]
        return any(bytes_of(path) > 1 << 20 for path in parts)

    wait_until(has_come, "bytes move")


def check_end(site: CabledSite, errand: Errand, execution_id: int, what: str) -> None:
    """Check that the execution has its right end soon, and note how soon."""
    begun_s = time.monotonic()
    ended = site.home.wait(execution_id, timeout_s=CONVERGED_WITHIN_S)
    within_s = begun_s + CONVERGED_WITHIN_S - time.monotonic()
    site.await_rest(site.uid(execution_id), is_completed=True, within_s=within_s)
    converged_s = round(time.monotonic() - begun_s, 1)
    errand.check_completed(site, ended, site.ran())
    note_figures("network", what=what, converged_s=converged_s, attempts_more=site.attempts(site.uid(execution_id)))


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_a_network_that_loses_packets_brings_everything(site: CabledSite, tmp_path: Path, share: float) -> None:
    with site.loss(share):
        errand, execution_id = ordered(site, tmp_path, LOSSY_BYTES)
        check_end(site, errand, execution_id, f"loss {share}")
        assert site.hits(0) + site.hits(1) > 1000 * share, "hardly anything was lost"


def test_resets_from_the_network_are_no_end(site: CabledSite, tmp_path: Path) -> None:
    """Whatever is said for a while is answered by a reset, and so is every new connection."""
    errand, execution_id = ordered(site, tmp_path, BIG_BYTES)
    await_bytes(site)
    passes = ("!", "--tcp-flags", "RST", "RST")  # a reset itself has to come through
    reset = (*passes, "-j", "REJECT", "--reject-with", "tcp-reset")
    with site.rule(0, *reset), site.rule(1, *reset):
        wait_until(lambda: min(site.hits(0), site.hits(1)) > 0, "something is reset at either end")
        time.sleep(RESETS_S)
    check_end(site, errand, execution_id, "resets")


@pytest.mark.parametrize("deaf", [0, 1], ids=["home hears nothing", "b hears nothing"])
def test_a_direction_that_is_dead_for_longer_than_anybody_waits_is_noticed_at_both_ends(
    site: CabledSite, tmp_path: Path, deaf: int
) -> None:
    given_up = site.peers[deaf].log().count(GIVEN_UP)
    errand, execution_id = ordered(site, tmp_path, BIG_BYTES)
    await_bytes(site)
    with site.rule(deaf, "-j", "DROP"):
        wait_until(lambda: site.peers[deaf].log().count(GIVEN_UP) > given_up, "links are given up", within_s=LONG_S)
        for peer in site.peers:  # the other one is told, since it hears
            wait_until(lambda peer=peer: links_of(peer) == 0, "both know", within_s=LONG_S)  # type: ignore[misc]  # mypy knows no type for a default that binds a loop variable
    check_end(site, errand, execution_id, f"{site.peers[deaf].data_dir.name} hears nothing")


def test_a_cancel_while_the_cable_is_unplugged_holds_once_it_is_back(site: CabledSite, tmp_path: Path) -> None:
    errand, execution_id = ordered(site, tmp_path, BIG_BYTES)
    await_bytes(site)
    with site.unplugged():
        site.home.call("execution.cancel", execution_id=execution_id)
        ended = site.home.wait(execution_id, timeout_s=LONG_S)
    site.await_rest(site.uid(execution_id), is_completed=False)
    errand.check_cancelled(site, ended, site.ran())


@pytest.mark.parametrize("pause_s", [1.0, LONG_S])
def test_a_cable_that_is_unplugged_for_a_while_is_no_end(site: CabledSite, tmp_path: Path, pause_s: float) -> None:
    errand, execution_id = ordered(site, tmp_path, BIG_BYTES)
    await_bytes(site)
    with site.unplugged():
        time.sleep(pause_s)
    check_end(site, errand, execution_id, f"unplugged for {pause_s:g} s")
