"""The deadlines of one execution go to the peers that run its jobs, are on record there, and end waits by their own clocks."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

from tests.integration.peer_sites import Site
from tests.running_peers import Peer


def _drawn(site: Site, name: str, *, first: str) -> int:
    """Draw a job `NAME-1` of B whose output one of C, `NAME-2`, gets."""
    workflow = site.home.workflow(name)
    start = site.home.remote_node(workflow, site.b, site.b.offer(f"{name}-1", first))
    end = site.home.remote_node(workflow, site.c, site.c.offer(f"{name}-2", "cat"))
    site.home.connect(workflow, start, end)
    return workflow


def _bounds(peer: Peer, name: str) -> tuple[float, ...]:
    """Return what a peer has on record of the deadlines of its job, in seconds."""
    ((created, start_by, runtime_s, deadline, idle_s, hold_s),) = peer.rows(
        """
        SELECT created_at, start_by, max_runtime_s, deadline_at, transfer_idle_s, hold_s
        FROM job_executions
        WHERE job_name = ?
        """,
        name,
    )
    since = datetime.fromisoformat(created)
    start_by_s, deadline_s = ((datetime.fromisoformat(each) - since).total_seconds() for each in (start_by, deadline))
    return start_by_s, runtime_s, idle_s, hold_s, deadline_s


def test_each_is_on_record_where_the_job_runs(site: Site) -> None:
    wishes = {"start_by_s": 601, "max_runtime_s": 602, "transfer_idle_s": 63, "hold_s": 604, "workflow_deadline_s": 605}
    execution_id = site.home.execute(_drawn(site, "stored", first=site.gated("stored")), deadlines=wishes)
    site.until_job(site.b, "stored-1", "RUNNING")
    for peer, name in ((site.b, "stored-1"), (site.c, "stored-2")):
        *bounds, deadline_s = _bounds(peer, name)
        assert bounds == [601, 602, 63, 604]
        assert 600 < deadline_s <= 605.01
    site.gate("stored").touch()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"


def test_start_by_ends_a_job_whose_orchestrator_went_away_between_the_phases(site: Site) -> None:
    workflow = _drawn(site, "unstarted", first=site.note("unstarted"))
    site.c.freeze()
    site.home.execute(workflow, deadlines={"start_by_s": 3})
    site.until_job(site.b, "unstarted-1", "IDLE")
    site.home.kill()
    site.until_job(site.b, "unstarted-1", "ERRORED")
    assert site.job(site.b, "unstarted-1")[1] == "no start command came before start_by; phase 2 never reached this job"
    assert site.ran()["unstarted"] == 0
    site.c.thaw()


def test_max_runtime_ends_a_job_where_it_runs(site: Site) -> None:
    execution = site.home.run(_drawn(site, "endless", first="exec sleep 600"), deadlines={"max_runtime_s": 0.7})
    assert (execution["status"], site.home.statuses(execution["id"])["endless-2"]) == ("FAILED", "CANCELLED")
    assert site.job(site.b, "endless-1") == ("ERRORED", "timed out after 0.7 s (max_runtime)")


def test_the_workflow_deadline_ends_what_has_not_begun_while_the_orchestrator_is_away(site: Site) -> None:
    """What runs then has its own time, and may use it."""
    workflow = _drawn(site, "overdue", first=site.gated("overdue"))
    site.home.execute(workflow, deadlines={"workflow_deadline_s": 6, "max_runtime_s": 12})
    site.until_job(site.b, "overdue-1", "RUNNING")
    site.until_job(site.c, "overdue-2", "IDLE")
    site.home.kill()
    site.until_job(site.c, "overdue-2", "ERRORED")
    assert site.job(site.c, "overdue-2")[1] == "the deadline of the workflow that ordered it has passed"
    site.until_job(site.b, "overdue-1", "ERRORED")
    assert site.job(site.b, "overdue-1")[1] == "timed out after 12 s (max_runtime)"


def test_transfer_idle_ends_a_try_whose_sender_stands_still(site: Site, tmp_path: Path) -> None:
    """And the delivery itself is made when that goes on. How a sender gives up a receiver is among the hostile peers' tests."""
    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(7).randbytes(1 << 20) * 200)
    workflow = site.home.workflow("idle")
    start = site.home.remote_node(workflow, site.b, site.b.give("idle", big))
    end = site.home.remote_node(workflow, site.c, site.c.offer("idle-count", "wc -c"))
    site.home.connect(workflow, start, end)
    home = site.home.connect(workflow, end, None)
    execution_id = site.home.execute(workflow, deadlines={"transfer_idle_s": 1})
    ((uid,),) = site.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", execution_id)
    site.c.until("SELECT status FROM transfers WHERE execution_uid = ? AND direction = 'INCOMING'", "ACTIVE", uid)
    site.b.freeze()
    query = "SELECT error FROM transfers WHERE execution_uid = ? AND direction = 'INCOMING'"
    site.c.until(query, "no byte has come for 1 s (transfer_idle)", uid)
    site.b.thaw()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id) == {(home, "stdout.txt"): f"{200 << 20}\n".encode()}


def test_what_other_peers_hold_of_an_execution_is_let_go_of_after_its_hold(site: Site) -> None:
    for name, deadlines in (("held", {}), ("brief", {"hold_s": 0.5})):
        execution = site.home.run(_drawn(site, name, first="echo x"), deadlines=deadlines)
        assert execution["status"] == "COMPLETED"
    for peer, place in ((site.b, 1), (site.c, 2)):
        peer.until("SELECT COUNT(*) FROM job_executions WHERE job_name = ?", 0, f"brief-{place}")
        assert site.job(peer, f"held-{place}") == ("COMPLETED", None)
