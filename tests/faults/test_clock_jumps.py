"""The wall clock of one of two daemons is set while they work: nothing is called late, and nobody is locked out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from rnd.types.times import from_text
from tests.faults.machine_site import FaultSite, fault_site
from tests.running_peers import Peer, await_links, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("test_clock_jumps")]  # its tests share daemons

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
PRELOADED = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
A_MOMENT = timedelta(seconds=10)
"""An event has the time at which its cause was seen, and waits its turn to be written down."""
AT_ONCE_S = 60.0
"""Far less than any of the clocks is set by, and enough for a machine that has much else to do."""


def clock_file(peer: Peer) -> Path:
    return peer.data_dir.with_name(f"{peer.data_dir.name}.clock")


def set_clock(peer: Peer, by_s: int) -> None:
    """Set the wall clock of a daemon so far from the true time."""
    new = clock_file(peer).with_suffix(".new")
    new.write_text(f"{by_s:+d}\n")
    new.replace(clock_file(peer))


def restart(peer: Peer) -> None:
    peer.stop()
    peer.start()


def with_a_clock_of_its_own(peer: Peer) -> tuple[str, ...]:
    """Have a daemon read its wall clock from a file; its monotonic clock stays as it is."""
    set_clock(peer, 0)
    return (
        *("env", f"LD_PRELOAD={PRELOADED[0]}", f"FAKETIME_TIMESTAMP_FILE={clock_file(peer)}"),
        *("FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"),
    )


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    if not PRELOADED:
        pytest.skip("libfaketime is not here")
    with fault_site(tmp_path_factory.mktemp("site"), within=with_a_clock_of_its_own) as site:
        yield site


@pytest.fixture
def site(daemons: FaultSite) -> Iterator[FaultSite]:
    daemons.restore()
    yield daemons
    for peer in (daemons.home, daemons.b):
        set_clock(peer, 0)


@pytest.mark.parametrize(
    ("who", "by_s"),
    [("home", YEAR_S), ("b", 2 * HOUR_S), ("home", -2 * HOUR_S)],
    ids=["home a year on", "b two hours on", "home two hours back"],
)
def test_what_waits_runs_and_moves_goes_on_when_the_clock_is_set(site: FaultSite, who: str, by_s: int) -> None:
    home, b = site.home, site.b
    victim = {"home": home, "b": b}[who]
    tries = f"{site.place}/tries-{who}{by_s}"
    fails_once = f"echo x >> '{tries}'; test $(grep -c x '{tries}') -ge 2"
    again = victim.workflow(f"again-{who}{by_s}")
    more = {"retry": {"attempts": 2, "backoff_s": 4}, "retry_safe": True, "confine": "never"}
    victim.node(again, victim.program(f"again-{who}{by_s}", fails_once, **more))
    drawn = site.draw()
    execution_id = home.execute(drawn.workflow_id)
    b.until("SELECT status FROM job_executions WHERE job_name LIKE '%-first' ORDER BY id DESC LIMIT 1", "RUNNING")
    retried_id = victim.execute(again)
    victim.until("SELECT status FROM job_executions WHERE not_before IS NOT NULL ORDER BY id DESC LIMIT 1", "READY")
    invite = victim.call("peer.invite")["invite"]
    logged = len(victim.log())
    set_clock(victim, by_s)
    wait_until(lambda: "System clock was set" in victim.log()[logged:], "the daemon sees that its clock was set")
    (b if victim is home else home).call("peer.join", invite=invite)
    drawn.gate.touch()
    execution = home.wait(execution_id, timeout_s=AT_ONCE_S)
    assert execution["status"] == "COMPLETED", execution["error"]
    assert site.check(drawn, execution) == "COMPLETED"
    assert victim.wait(retried_id, timeout_s=AT_ONCE_S)["status"] == "COMPLETED"
    times = [from_text(moment) for (moment,) in victim.rows("SELECT time FROM events ORDER BY seq")]
    assert all(later - earlier > -A_MOMENT for earlier, later in pairwise(times))


def test_a_clock_that_was_a_year_ahead_locks_nobody_out(site: FaultSite) -> None:
    """Sessions, address records and orders of a peer that was ahead, and is so no more, count like any other's."""
    home, b = site.home, site.b
    for by_s in (YEAR_S, -YEAR_S):
        set_clock(home, by_s)
        restart(home)
        await_links(b, 1)
        await_links(home, 1)
        drawn = site.draw(runs_at_home=False)  # the library gives a process that starts in another year no sleep
        drawn.gate.touch()
        execution = home.run(drawn.workflow_id, timeout_s=AT_ONCE_S)
        assert site.check(drawn, execution) == "COMPLETED", execution["error"]
    issued = "SELECT value FROM node_facts WHERE key = 'addresses_issued_at_ms'"
    ((newest,),) = home.rows(issued)
    b.until("SELECT issued_at_ms FROM address_records WHERE peer_id = ?", int(newest), home.peer_id)
    ((known,),) = b.rows("SELECT addresses FROM address_records WHERE peer_id = ?", home.peer_id)
    assert json.loads(known) == [home.address]
