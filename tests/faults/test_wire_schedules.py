"""Wires between whole daemons go wrong by seeded schedules: every execution ends right within a minute of healing, nothing twice.

`RND_TEST_WIRE_SEEDS` (`first:last`) runs other seeds than these.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.errands import Errand, draw_errand
from tests.faults.oracle import CONVERGED_WITHIN_S
from tests.faults.schedules import Schedule, draw_schedule
from tests.faults.wired_site import WiredSite, running_wired_site
from tests.figures import note_figures
from tests.running_peer import RpcError

SEEDS = os.environ.get("RND_TEST_WIRE_SEEDS", "0:40")
SCHEDULES_A_SITE = 20
LOG_LINES = 60


class Sites:
    """Lends a site; a new one where the last has served for long, or served a schedule that went wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._site: WiredSite | None = None
        self._served = 0
        self._made = 0

    @contextlib.contextmanager
    def lent(self) -> Iterator[WiredSite]:
        """Have a site whose daemons are linked."""
        if self._site is None or self._served == SCHEDULES_A_SITE:
            self.close()
            self._made += 1
            self._site, self._served = (
                self._stack.enter_context(running_wired_site(self._folder / f"site{self._made}")),
                0,
            )
        self._served += 1
        site, self._site = self._site, None
        site.heal()
        site.await_links()
        yield site
        self._site = site

    def close(self) -> None:
        """End the daemons."""
        self._stack.close()
        self._site = None


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    sites = Sites(tmp_path_factory.mktemp("wired"))
    yield sites
    sites.close()


@pytest.mark.timeout(300)  # up to half a minute of faults and one of healing; a new site may have to start before
@pytest.mark.parametrize("seed", range(*map(int, SEEDS.split(":"))))
def test_an_execution_ends_right_when_the_wires_are_whole_again(sites: Sites, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    peers = 3 if seed % 3 == 2 else 2
    with sites.lent() as site:
        name = f"wire{seed}x{time.monotonic_ns()}"
        errand = draw_errand(site, name, rng, tmp_path, peers=peers, is_heavy=seed % 8 == 5)
        schedule = draw_schedule(rng, peers=peers)
        trial = Trial(site, errand, schedule)
        try:
            trial.run()
        except AssertionError as error:
            raise AssertionError(f"{error}\n\n{trial.story(seed)}") from error
    note_figures("wire", what=f"seed {seed}", **trial.figures)


class Trial:
    """One schedule on one errand."""

    def __init__(self, site: WiredSite, errand: Errand, schedule: Schedule) -> None:
        self.site = site
        self.errand = errand
        self.schedule = schedule
        self.figures: dict[str, object] = {}
        self._done: list[str] = []
        self._executions: list[int] = []
        self._logged = [len(peer.log_lines()) for peer in site.peers]
        self._ran_before = site.ran()

    def run(self) -> None:
        """Order, let things go wrong, and see everything come right."""
        taken = self.site.taken_bytes
        execution_id = self._order()
        if not self.schedule.is_early:
            self._await_creation(execution_id)
        self._done = self.schedule.carry_out(self.site.wires, lambda: self._cancel(execution_id))
        healed_s = time.monotonic()
        ended = self.site.home.wait(execution_id, timeout_s=CONVERGED_WITHIN_S)
        uid = self.site.uid(execution_id)
        within_s = healed_s + CONVERGED_WITHIN_S - time.monotonic()
        self.site.await_rest(uid, is_completed=ended["status"] == "COMPLETED", within_s=within_s)
        converged_s = time.monotonic() - healed_s
        self._check_end(ended)
        self.figures = {
            "status": ended["status"],
            "converged_s": round(converged_s, 2),
            "resent_bytes": max(0, self.site.taken_bytes - taken - self.site.arrived_bytes(uid)),
            "attempts_more": self.site.attempts(uid),
            "faults": Counter(str(fault.kind) for fault in self.schedule.faults),
            "is_long": any(fault.duration_s > 20 for fault in self.schedule.faults),
        }
        if ended["status"] == "FAILED":
            self._order_again()

    def _order(self) -> int:
        self._executions.append(self.site.home.execute(self.errand.workflow_id))
        return self._executions[-1]

    def _await_creation(self, execution_id: int) -> None:
        phase = "SELECT phase <> 'CREATING' FROM workflow_executions WHERE id = ?"
        self.site.home.until(phase, 1, execution_id)

    def _cancel(self, execution_id: int) -> None:
        with contextlib.suppress(RpcError):  # it has ended already
            self.site.home.call("execution.cancel", execution_id=execution_id)

    def _check_end(self, ended: dict[str, Any]) -> None:
        runs = self.site.ran() - self._ran_before
        match ended["status"]:
            case "CANCELLED":
                assert self.schedule.cancel_at_s is not None, ended["error"]
                self.errand.check_cancelled(self.site, ended, runs)
            case "FAILED" if self.schedule.is_early:  # somebody could not be asked in time: nothing was begun
                phase = self.site.home.rows("SELECT phase FROM workflow_executions WHERE id = ?", ended["id"])
                assert phase == [("CREATING",)], ended["error"]
                assert not runs, runs
                assert self.site.home.results(ended["id"]) == {}
            case _:
                self.errand.check_completed(self.site, ended, runs)

    def _order_again(self) -> None:
        """Who could not be asked in time is asked again."""
        self.site.await_links()
        again = self.site.home.wait(self._order(), timeout_s=CONVERGED_WITHIN_S)
        self.site.await_rest(self.site.uid(again["id"]), is_completed=True)
        self.errand.check_completed(self.site, again, self.site.ran() - self._ran_before)

    def story(self, seed: int) -> str:
        """Return what was to happen, what was done, and the last that each daemon has said."""
        lines = [f"seed {seed}: {'before' if self.schedule.is_early else 'after'} everything is created"]
        lines += [f"  {fault}" for fault in self.schedule.faults]
        lines += [f"  cancel at {self.schedule.cancel_at_s}", *(f"  {words}" for words in self._done)]
        for peer, logged in zip(self.site.peers, self._logged, strict=True):
            said = peer.log_lines()[logged:]
            lines += [f"---- {peer.data_dir.name}, {len(said)} lines:", *said[-LOG_LINES:]]
        return "\n".join(lines)
