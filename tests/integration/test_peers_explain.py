"""`job.explain` says why a job waits, in each state, on its own peer and asked from its orchestrator, with others there or away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.peer_sites import MOUNT_IN, Site, running_site
from tests.running_peers import Peer, wait_until


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site"), config="job_slots = 1\n") as site:
        yield site


@pytest.fixture
def site(daemons: Site) -> Iterator[Site]:
    daemons.restore()
    yield daemons
    daemons.restore()
    for execution in daemons.home.call("execution.list", status="RUNNING")["items"]:
        daemons.home.call("execution.cancel", execution_id=execution["id"])
        daemons.home.wait(execution["id"])
    daemons.settle()


def _drawn(site: Site, name: str, *, first: str) -> int:
    """Draw a job `NAME-1` of B whose output one of C, `NAME-2`, gets; what that makes comes home."""
    workflow = site.home.workflow(name)
    start = site.home.remote_node(workflow, site.b, site.b.offer(f"{name}-1", first))
    end = site.home.remote_node(workflow, site.c, site.c.offer(f"{name}-2", "cat"))
    site.home.connect(workflow, start, end)
    site.home.connect(workflow, end, None)
    return workflow


def _chain(site: Site, name: str, *, first: str) -> int:
    """Execute such a workflow."""
    return site.home.execute(_drawn(site, name, first=first))


def _explained(peer: Peer, name: str) -> dict[str, Any]:
    """Return what a peer says of its newest row of a job, be that its own or a mirror."""
    peer.until("SELECT COUNT(*) > 0 FROM job_executions WHERE job_name = ?", 1, name)
    ((job_id,),) = peer.rows("SELECT MAX(id) FROM job_executions WHERE job_name = ?", name)
    told: dict[str, Any] = peer.call("job.explain", job_execution_id=job_id)
    return told


def _until_explained(peer: Peer, name: str, *words: str) -> dict[str, Any]:
    """Wait until a peer's reason for a job has all these words, and return what it says."""
    told: list[dict[str, Any]] = [{}]

    def is_said() -> bool:
        told[0] = _explained(peer, name)
        return all(each in told[0]["because"] for each in words)

    wait_until(is_said, lambda: f"{peer.data_dir.name} says {words} of {name}, not {told[0]}")
    return told[0]


def test_an_input_comes_when_its_job_has_ended(site: Site) -> None:
    _chain(site, "runs", first=site.gated("runs"))
    site.until_job(site.b, "runs-1", "RUNNING")
    for peer in (site.home, site.b):
        _until_explained(peer, "runs-1", "Its program runs since", "It may run until")
    for peer in (site.home, site.c):
        told = _until_explained(peer, "runs-2", "has not been announced by its sender yet.", site.b.peer_id)
        assert told["status"] == "IDLE"


def test_the_peer_that_an_input_comes_from_is_away(site: Site) -> None:
    _chain(site, "away", first=site.gated("away"))
    _until_explained(site.home, "away-1", "Its program runs since")
    site.home.until("SELECT status FROM job_executions WHERE job_name = 'away-1'", "RUNNING")
    site.b.kill()
    _until_explained(site.home, "away-1", "Its peer was last heard to say RUNNING, and cannot be asked now: ")
    for peer in (site.home, site.c):
        told = _until_explained(peer, "away-2", "has not been announced", "; there is no link to its peer now: ")
        (check,) = (each for each in told["checks"] if each["check"].startswith("input of connection"))
        assert ("no link to its peer: " in check["evidence"], check["ok"]) == (True, False)
    site.b.start()
    site.home.until("SELECT COUNT(*) FROM job_executions WHERE job_name = 'away-1' AND status = 'RUNNING'", 1)
    wait_until(lambda: "no link" not in _explained(site.c, "away-2")["because"], "the link is there again")


def test_a_job_of_this_peer_waits_for_one_of_a_peer_that_is_away(site: Site) -> None:
    """The orchestrator has a mirror of the job that sends: its name and where it stood are known."""
    workflow = site.home.workflow("mixed")
    start = site.home.remote_node(workflow, site.b, site.b.offer("mixed-1", site.gated("mixed")))
    site.home.connect(workflow, start, site.home.node(workflow, site.home.program("mixed-2", "cat")))
    site.home.execute(workflow)
    _until_explained(site.home, "mixed-2", "comes when that job has ended; it is RUNNING.")
    site.b.kill()
    _until_explained(site.home, "mixed-2", "it is RUNNING; there is no link to its peer now: ")


def test_the_orchestrator_went_away_before_it_sent_the_start_command(site: Site) -> None:
    workflow = _drawn(site, "unstarted", first="true")
    site.c.freeze()
    site.home.execute(workflow)
    site.until_job(site.b, "unstarted-1", "IDLE")
    told = _explained(site.b, "unstarted-1")
    assert told["because"].startswith("Its orchestrator has not sent the start command. It waits until ")
    site.home.kill()
    words = "Its orchestrator has not sent the start command, and there is no link to it now: "
    _until_explained(site.b, "unstarted-1", words, "It waits until ")
    site.c.thaw()


def test_phase_1_waits_for_a_peer_that_is_away(site: Site) -> None:
    workflow = _drawn(site, "uncreated", first="true")
    site.c.kill()
    execution_id = site.home.execute(workflow)
    nodes = site.home.call("workflow.list_nodes", workflow_id=workflow)["items"]
    (node_id,) = (node["id"] for node in nodes if node["service_name"] == "uncreated-2")
    site.home.until("SELECT COUNT(*) FROM workflow_jobs WHERE workflow_execution_id = ?", 2, execution_id)

    def told() -> dict[str, Any]:
        found: dict[str, Any] = site.home.call("job.explain", execution_id=execution_id, node_id=node_id)
        return found

    words = "Phase 1 is not over: it has not been created yet. There is no link to its peer now: "
    wait_until(lambda: words in told()["because"], lambda: f"not {told()}")
    _until_explained(site.home, "uncreated-1", "Phase 1 is not over: jobs are still being created")
    assert site.home.wait(execution_id)["status"] == "FAILED"
    assert told()["because"].startswith("It was never created: phase 1 was refused: ")


def test_phase_2_waits_for_a_peer_that_is_away(site: Site) -> None:
    workflow = _drawn(site, "starting", first="true")
    site.c.freeze()
    site.home.execute(workflow)
    site.home.until("SELECT COUNT(*) FROM job_executions WHERE job_name = 'starting-1'", 1)
    site.b.kill()
    site.c.thaw()
    _until_explained(site.home, "starting-1", "Phase 2 is under way, and its start command is sent again: ")


def test_all_workers_are_busy(site: Site) -> None:
    for name in ("busy", "queued"):
        workflow = site.home.workflow(name)
        site.home.remote_node(workflow, site.b, site.b.offer(name, site.gated(name)))
        site.home.execute(workflow)
        site.until_job(site.b, name, "RUNNING" if name == "busy" else "READY")
    for peer in (site.home, site.b):
        told = _until_explained(peer, "queued", "All 1 job slots of this peer are in use.")
        assert told["status"] == "READY"


def test_another_attempt_waits_for_its_time(site: Site) -> None:
    workflow = site.home.workflow("flaky")
    offer = site.b.offer("flaky", "exit 3", retry_safe=True, retry={"attempts": 2, "backoff_s": 60})
    site.home.remote_node(workflow, site.b, offer)
    site.home.execute(workflow)
    site.b.until("SELECT attempt FROM job_executions WHERE job_name = 'flaky'", 2)
    for peer in (site.home, site.b):
        _until_explained(peer, "flaky", "Attempt 2 waits until ", "since the one before failed.")


def test_the_receiver_of_a_delivery_is_away(site: Site) -> None:
    _chain(site, "undelivered", first=f"{site.gated('undelivered')}; echo x")
    site.until_job(site.b, "undelivered-1", "RUNNING")
    site.c.kill()
    site.gate("undelivered").touch()
    for peer in (site.home, site.b):
        told = _until_explained(peer, "undelivered-1", "its delivery to ", " waits: ", "again by ")
        assert told["because"].startswith("The job itself is done, but ")
        assert told["status"] == "COMPLETED"


def test_the_receiver_has_no_room_for_a_delivery(site: Site) -> None:
    _chain(site, "full", first=f"{site.gated('full')}; echo x")
    site.until_job(site.b, "full-1", "RUNNING")
    site.c.stop()
    with site.c.variables({"RND_LIMITS_DISK_FLOOR_BYTES": str(1 << 50)}):
        site.c.start()
        site.gate("full").touch()
        _until_explained(site.b, "full-1", " waits: ", "the disk of this peer is nearly full")
        _until_explained(site.c, "full-2", "nearly full")
        site.c.stop()


def test_a_cancel_that_cannot_be_told(site: Site) -> None:
    execution_id = _chain(site, "deaf", first=site.gated("deaf"))
    site.until_job(site.b, "deaf-1", "RUNNING")
    site.home.until("SELECT status FROM job_executions WHERE job_name = 'deaf-1'", "RUNNING")
    site.b.kill()
    site.home.call("execution.cancel", execution_id=execution_id, reason="enough")
    words = ("It is being cancelled since ", "was last heard to say RUNNING and cannot be told now: ")
    _until_explained(site.home, "deaf-1", *words)
    site.b.start()
    site.until_job(site.b, "deaf-1", "CANCELLED")


def test_what_a_program_left_is_being_collected(site: Site) -> None:
    """It does not run any more: that there is no end yet is not its doing."""
    workflow = site.home.workflow("big")
    big = site.b.offer("big", "truncate -s 6G big.bin")
    keep = site.c.offer("keep", "true", interfaces=[MOUNT_IN])
    start, end = site.home.remote_node(workflow, site.b, big), site.home.remote_node(workflow, site.c, keep)
    site.home.connect(workflow, start, end, "STDOUT->MOUNT")
    site.home.execute(workflow)
    _until_explained(site.b, "big", "Its program has ended; its outputs are being collected.")
