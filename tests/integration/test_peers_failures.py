"""What fails, or is cancelled, or is tried again, reaches every peer that has a part in it, whoever is away meanwhile."""

from __future__ import annotations

import time

import pytest

from tests.integration.peer_sites import Site
from tests.running_peers import wait_until


def _chain(site: Site, name: str, *scripts: str) -> int:
    """Draw jobs in a row, on B and C by turns, of which the last one's output comes home."""
    workflow = site.home.workflow(name)
    previous = None
    for number, script in enumerate(scripts, start=1):
        peer = site.b if number % 2 else site.c
        node = site.home.remote_node(workflow, peer, peer.offer(f"{name}-{number}", script))
        if previous is not None:
            site.home.connect(workflow, previous, node)
        previous = node
    site.home.connect(workflow, previous, None)
    return workflow


def test_a_failure_takes_down_what_needs_it_on_every_peer(site: Site) -> None:
    rest = [f"{site.note('after')}; cat"] * 3
    execution = site.home.run(_chain(site, "breaks", "echo the cause >&2; exit 3", *rest))
    assert execution["status"] == "FAILED"
    assert execution["error"].startswith("job breaks-1 failed: Process exited with code 3")
    assert "3 more jobs" in execution["error"]
    reason = "upstream job breaks-1 failed: Process exited with code 3"
    for peer, name in ((site.c, "breaks-2"), (site.b, "breaks-3"), (site.c, "breaks-4")):
        site.until_job(peer, name, "CANCELLED")
        assert site.job(peer, name)[1].startswith(reason)
    rows = site.home.rows(
        "SELECT status, error_message FROM job_executions WHERE workflow_execution_id = ? ORDER BY id", execution["id"]
    )
    mirrored = site.home.rows(
        "SELECT status, error FROM workflow_jobs WHERE workflow_execution_id = ? ORDER BY id", execution["id"]
    )
    assert sorted(rows) == sorted(mirrored)
    assert site.ran()["after"] == 0


def test_a_failure_spreads_while_the_orchestrator_is_away(site: Site) -> None:
    workflow = _chain(site, "alone", f"{site.gated('alone')}; exit 5", f"{site.note('alone2')}; cat", "cat")
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["alone"] == 1, "the job runs")
    site.home.until("SELECT phase FROM workflow_executions WHERE id = ?", "STARTED", execution_id)
    site.home.kill()
    site.gate("alone").touch()
    site.until_job(site.c, "alone-2", "CANCELLED")
    site.until_job(site.b, "alone-3", "CANCELLED")
    site.home.start()
    execution = site.home.wait(execution_id)
    assert execution["status"] == "FAILED"
    assert execution["error"].startswith("job alone-1 failed: Process exited with code 5")
    assert site.ran()["alone2"] == 0


def test_a_cancel_reaches_every_peer_and_ends_what_runs_there(site: Site) -> None:
    workflow = site.home.workflow("cancelled")
    for peer, name in ((site.b, "cancel-b"), (site.c, "cancel-c")):
        node = site.home.remote_node(workflow, peer, peer.offer(name, site.gated(name)))
        waits = site.home.remote_node(workflow, peer, peer.offer(f"{name}-waits", site.note("waits")))
        site.home.connect(workflow, node, waits)
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["cancel-b"] == site.ran()["cancel-c"] == 1, "both run")
    site.home.call("execution.cancel", execution_id=execution_id)
    execution = site.home.wait(execution_id, timeout_s=10)
    assert execution["status"] == "CANCELLED"
    assert "not confirmed" not in execution["error"]
    for peer, name in ((site.b, "cancel-b"), (site.c, "cancel-c")):
        assert site.job(peer, name)[0] == site.job(peer, f"{name}-waits")[0] == "CANCELLED"
    assert site.ran()["waits"] == 0


def test_a_cancel_whose_peer_is_away_ends_in_its_time_and_names_it(site: Site) -> None:
    """And when the peer comes back, the job is cancelled after all."""
    workflow = _chain(site, "away", site.gated("away"), "cat")
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["away"] == 1, "the job runs")
    site.b.kill()
    begun = time.monotonic()
    site.home.call("execution.cancel", execution_id=execution_id)
    execution = site.home.wait(execution_id, timeout_s=10)
    assert time.monotonic() - begun < 5
    assert execution["status"] == "CANCELLED"
    assert f"not confirmed by {site.b.peer_id}" in execution["error"]
    site.b.start()
    site.until_job(site.b, "away-1", "CANCELLED")
    site.until_job(site.c, "away-2", "CANCELLED")
    statuses = "SELECT COUNT(*) FROM workflow_jobs WHERE workflow_execution_id = ? AND status = 'CANCELLED'"
    site.home.until(statuses, 2, execution_id)
    assert site.ran()["away"] == 1


def test_a_cancel_ends_what_was_on_its_way_home_from_a_peer_that_is_away(site: Site) -> None:
    """Its job is done and cannot be cancelled any more; the peer may never come back, and when it does nobody waits."""
    execution_id = site.home.execute(_chain(site, "homeward", "head -c 200000000 /dev/zero"))
    coming = """
        SELECT COUNT(*) FROM transfers
        WHERE workflow_execution_id = ? AND direction = 'INCOMING' AND status IN ('PENDING', 'ACTIVE')
        """
    site.home.until("SELECT status FROM workflow_jobs WHERE workflow_execution_id = ?", "COMPLETED", execution_id)
    site.home.until(coming, 1, execution_id)
    site.b.kill()
    site.home.call("execution.cancel", execution_id=execution_id)
    assert site.home.wait(execution_id, timeout_s=10)["status"] == "CANCELLED"
    assert site.home.rows(coming, execution_id) == [(0,)]
    site.b.start()
    site.settle()
    assert site.home.results(execution_id) == {}


@pytest.mark.parametrize("way", ["frozen", "killed"])
def test_a_cancel_in_phase_1_does_not_wait_for_the_peer_that_is_silent(site: Site, way: str) -> None:
    name = f"early-{way}"
    workflow = _chain(site, name, site.note(name), site.note(name))
    site.c.freeze() if way == "frozen" else site.c.kill()
    execution_id = site.home.execute(workflow)
    site.until_job(site.b, f"{name}-1", "IDLE")
    begun = time.monotonic()
    site.home.call("execution.cancel", execution_id=execution_id)
    execution = site.home.wait(execution_id, timeout_s=10)
    assert time.monotonic() - begun < 5
    assert execution["status"] == "CANCELLED"
    site.until_job(site.b, f"{name}-1", "CANCELLED")
    site.c.thaw() if way == "frozen" else site.c.start()
    site.settle()
    assert site.job(site.c, f"{name}-2")[:1] in {(), ("CANCELLED",)}
    assert site.ran()[name] == 0


def test_a_cancel_ends_what_is_being_received_though_its_sender_says_nothing(site: Site) -> None:
    with (site.place / "big.bin").open("wb") as big:
        big.truncate(256 << 20)
    workflow = site.home.workflow("half")
    start = site.home.remote_node(workflow, site.b, site.b.give("half", site.place / "big.bin"))
    end = site.home.remote_node(workflow, site.c, site.c.offer("half-taker", site.gated("half")))
    site.home.connect(workflow, start, end)
    execution_id = site.home.execute(workflow)
    parts = f"workflows/{site.home.peer_id}/*/jobs/*/*/input/*/.*.part"
    wait_until(lambda: bool(list(site.c.data_dir.glob(parts))), "it begins to come")
    site.b.freeze()
    site.home.call("execution.cancel", execution_id=execution_id)
    site.until_job(site.c, "half-taker", "CANCELLED")
    wait_until(lambda: not list(site.c.data_dir.glob(parts)), "nothing of it stays", within_s=5)
    site.b.thaw()
    assert site.home.wait(execution_id)["status"] == "CANCELLED"
    site.until_job(site.b, "half", "CANCELLED")


def test_a_cancel_survives_the_orchestrator(site: Site) -> None:
    """It was written down; the daemon was killed before the other peer could be told, and tells it when it is back."""
    workflow = _chain(site, "written", site.gated("written"))
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["written"] == 1, "the job runs")
    site.b.freeze()
    site.home.call("execution.cancel", execution_id=execution_id)
    site.home.kill()
    site.b.thaw()
    site.home.start()
    execution = site.home.wait(execution_id, timeout_s=10)
    assert execution["status"] == "CANCELLED"
    site.until_job(site.b, "written-1", "CANCELLED")


def test_an_order_that_a_peer_refuses_ends_the_execution_with_its_words_and_cancels_the_rest(site: Site) -> None:
    workflow = _chain(site, "refused", site.note("refused"), site.note("refused"))
    ((service_id,),) = site.c.rows("SELECT id FROM offered_services WHERE name = 'refused-2'")
    site.c.call("service.set_status", service_id=service_id, status="INACTIVE")
    execution = site.home.run(workflow)
    assert execution["status"] == "FAILED"
    assert execution["error"].startswith("phase 1 was refused: ")
    assert "INACTIVE" in execution["error"]
    site.until_job(site.b, "refused-1", "CANCELLED")
    assert site.job(site.c, "refused-2") == ()
    assert site.ran()["refused"] == 0


def test_a_retry_runs_only_what_failed_on_another_peer_and_ends_right(site: Site) -> None:
    flag = site.place / "flag"
    script = f"{site.note('retried')}; test -e '{flag}' && cat"
    workflow = _chain(site, "again", f"{site.note('made')}; echo made", script)
    first = site.home.run(workflow)
    assert first["status"] == "FAILED"
    flag.touch()
    second = site.home.call("execution.retry", execution_id=first["id"])["execution_id"]
    execution = site.home.wait(second)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert list(site.home.results(second).values()) == [b"made\n"]
    assert (site.ran()["made"], site.ran()["retried"]) == (1, 2)


def test_a_service_that_is_gone_when_its_job_is_due_fails_that_job(site: Site) -> None:
    """The service is deleted after its job was created and before it could run: ERRORED there, FAILED here."""
    workflow = _chain(site, "orphan", site.gated("orphan"), site.note("orphan2"))
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["orphan"] == 1, "the first job runs")
    ((service_id,),) = site.c.rows("SELECT id FROM offered_services WHERE name = 'orphan-2'")
    site.c.sql("DELETE FROM offered_services WHERE id = :id", id=service_id)
    site.gate("orphan").touch()
    execution = site.home.wait(execution_id)
    assert execution["status"] == "FAILED"
    assert "orphan-2" in execution["error"]
    assert site.home.statuses(execution_id) == {"orphan-1": "COMPLETED", "orphan-2": "ERRORED"}
    assert site.ran()["orphan2"] == 0
