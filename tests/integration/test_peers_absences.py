"""A peer disappears, in every phase of a workflow, and comes back or never does: the end is right, and nothing runs twice."""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import pytest

from tests.integration.peer_sites import Site
from tests.running_peers import Peer, wait_until


def _two_jobs(site: Site, name: str, *, first: str, second: str) -> tuple[int, int]:
    """Draw a job of B that feeds one of C, whose output comes home; return the workflow and that connection."""
    workflow = site.home.workflow(name)
    start = site.home.remote_node(workflow, site.b, site.b.offer(f"{name}-first", first))
    end = site.home.remote_node(workflow, site.c, site.c.offer(f"{name}-second", second))
    site.home.connect(workflow, start, end)
    return workflow, site.home.connect(workflow, end, None)


# ---------------------------------------------------------------- the orchestrator


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_the_others_finish_without_the_orchestrator(site: Site, way: str) -> None:
    """It goes after phase 2 and comes back when the rest is done: COMPLETED, results home, nothing ran twice."""
    name = f"orphans-{way}"
    workflow = site.home.workflow(name)
    first = site.home.remote_node(workflow, site.b, site.b.offer(f"{name}-1", f"{site.gated(f'{name}-1')}; echo one"))
    second = site.home.remote_node(
        workflow, site.c, site.c.offer(f"{name}-2", f"{site.note(f'{name}-2')}; cat; echo two")
    )
    third = site.home.remote_node(
        workflow, site.b, site.b.offer(f"{name}-3", f"{site.note(f'{name}-3')}; cat; echo three")
    )
    site.home.connect(workflow, first, second)
    site.home.connect(workflow, second, third)
    results = [site.home.connect(workflow, node, None) for node in (second, third)]
    execution_id = site.home.execute(workflow)
    site.until_job(site.b, f"{name}-1", "RUNNING")
    site.home.until("SELECT phase FROM workflow_executions WHERE id = ?", "STARTED", execution_id)
    getattr(site.home, way)()
    site.gate(f"{name}-1").touch()
    site.until_job(site.b, f"{name}-3", "COMPLETED")
    site.home.start()
    execution = site.home.wait(execution_id)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert site.home.results(execution_id) == {
        (results[0], "stdout.txt"): b"one\ntwo\n",
        (results[1], "stdout.txt"): b"one\ntwo\nthree\n",
    }
    assert {key: count for key, count in site.ran().items() if key.startswith(name)} == {
        f"{name}-{number}": 1 for number in (1, 2, 3)
    }


def test_an_orchestrator_killed_in_phase_1_goes_on_where_it_was(site: Site) -> None:
    workflow, home = _two_jobs(
        site, "halfway", first=f"{site.note('halfway')}; echo x", second=f"{site.note('halfway')}; cat"
    )
    site.c.freeze()
    execution_id = site.home.execute(workflow)
    site.until_job(site.b, "halfway-first", "IDLE")
    ((job_id,),) = site.b.rows("SELECT id FROM job_executions WHERE job_name = 'halfway-first'")
    explained = site.b.call("job.explain", job_execution_id=job_id)
    assert "has not sent the start command" in explained["because"]
    assert "start_received = 0" in explained["checks"][0]["evidence"]
    site.home.until("SELECT COUNT(*) FROM job_executions WHERE workflow_execution_id = ?", 1, execution_id)
    (mirror,) = site.home.rows("SELECT id FROM job_executions WHERE workflow_execution_id = ?", execution_id)
    assert site.home.call("job.explain", job_execution_id=mirror[0])["status"] == "IDLE"
    site.home.kill()
    site.c.thaw()
    site.home.start()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id) == {(home, "stdout.txt"): b"x\n"}
    assert site.ran()["halfway"] == 2


# ---------------------------------------------------------------- before the request


def test_a_peer_that_is_not_there_ends_the_execution_at_its_deadline_and_never_runs_the_job(site: Site) -> None:
    """What the others have created is cancelled; the peer, when it comes back, refuses the order if it ever comes."""
    workflow, _ = _two_jobs(site, "absent", first=site.note("absent"), second=site.note("absent"))
    site.c.kill()
    begun = time.monotonic()
    execution = site.home.run(workflow, deadlines={"workflow_deadline_s": 2})
    assert time.monotonic() - begun < 6
    assert execution["status"] == "FAILED"
    assert site.c.peer_id in execution["error"]
    site.until_given_up(site.b, "absent-first")
    site.c.start()
    site.c.until("SELECT COUNT(*) FROM cancelled_orders WHERE execution_uid = ?", 1, _uid(site, execution["id"]))
    assert site.job(site.c, "absent-second") == ()
    assert site.ran()["absent"] == 0


def test_a_peer_that_stands_still_takes_back_what_it_was_asked_for(site: Site) -> None:
    """The request waits in its socket and the cancel behind it; whichever is dealt with first, the job never runs."""
    workflow, _ = _two_jobs(site, "frozen", first=site.note("frozen"), second=site.note("frozen"))
    site.c.freeze()
    execution = site.home.run(workflow, deadlines={"workflow_deadline_s": 2})
    assert execution["status"] == "FAILED"
    assert site.c.peer_id in execution["error"]
    site.until_given_up(site.b, "frozen-first")
    site.c.thaw()
    site.home.until("SELECT COUNT(*) FROM outbox", 0)
    assert site.job(site.c, "frozen-second")[:1] in {(), ("CANCELLED",)}
    assert site.ran()["frozen"] == 0


def test_a_peer_that_comes_back_in_time_is_asked_again(site: Site) -> None:
    workflow, home = _two_jobs(site, "late", first="echo x", second=f"{site.note('late')}; cat")
    site.c.freeze()
    execution_id = site.home.execute(workflow)
    site.until_job(site.b, "late-first", "IDLE")
    site.c.thaw()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id) == {(home, "stdout.txt"): b"x\n"}
    assert site.ran()["late"] == 1


def test_a_peer_that_is_killed_with_the_request_in_its_hands_is_asked_again(site: Site) -> None:
    workflow, home = _two_jobs(site, "again", first="echo x", second=f"{site.note('again')}; cat")
    site.c.freeze()
    execution_id = site.home.execute(workflow)
    site.until_job(site.b, "again-first", "IDLE")
    site.c.kill()
    site.c.start()
    execution = site.home.wait(execution_id)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert site.home.results(execution_id) == {(home, "stdout.txt"): b"x\n"}
    assert site.ran()["again"] == 1


# ---------------------------------------------------------------- between the phases


def _created_but_not_started(site: Site, name: str, **deadlines: float) -> tuple[int, int]:
    """Bring an execution to where B has created its job and is gone, while C has yet to answer."""
    workflow, home = _two_jobs(site, name, first=f"{site.note(name)}; echo x", second=f"{site.note(name)}; cat")
    site.c.freeze()
    execution_id = site.home.execute(workflow, deadlines=deadlines)
    site.home.until(
        "SELECT COUNT(*) FROM job_executions WHERE workflow_execution_id = ? AND status = 'IDLE'", 1, execution_id
    )
    site.b.kill()
    site.c.thaw()
    site.home.until("SELECT phase FROM workflow_executions WHERE id = ?", "STARTING", execution_id)
    return execution_id, home


def test_a_peer_that_goes_between_the_phases_and_comes_back_is_started(site: Site) -> None:
    execution_id, home = _created_but_not_started(site, "between")
    site.b.start()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id) == {(home, "stdout.txt"): b"x\n"}
    assert site.ran()["between"] == 2


def test_a_peer_that_goes_between_the_phases_for_good_ends_the_execution(site: Site) -> None:
    execution_id, _ = _created_but_not_started(site, "gone", workflow_deadline_s=4)
    execution = site.home.wait(execution_id, timeout_s=10)
    assert execution["status"] == "FAILED"
    assert site.b.peer_id in execution["error"]
    site.until_given_up(site.c, "gone-second")
    site.b.start()
    site.until_given_up(site.b, "gone-first")
    assert site.ran()["gone"] == 0


# ---------------------------------------------------------------- while it runs


def test_a_peer_killed_while_its_job_runs_goes_on_with_it(site: Site) -> None:
    workflow, home = _two_jobs(
        site, "reborn", first=f"{site.gated('reborn')}; echo x", second=f"{site.note('reborn2')}; cat"
    )
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["reborn"] == 1, "the job runs")
    site.b.kill()
    site.gate("reborn").touch()
    site.b.start()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id) == {(home, "stdout.txt"): b"x\n"}
    assert (site.ran()["reborn"], site.ran()["reborn2"]) == (1, 1)


def test_a_peer_gone_for_good_while_its_job_runs_ends_the_execution_at_its_deadline(site: Site) -> None:
    """And when it comes back after all, the job is over."""
    workflow, _ = _two_jobs(site, "lost", first=site.gated("lost"), second=site.note("lost-second"))
    execution_id = site.home.execute(workflow, deadlines={"workflow_deadline_s": 3})
    wait_until(lambda: site.ran()["lost"] == 1, "the job runs")
    site.b.kill()
    execution = site.home.wait(execution_id, timeout_s=15)
    assert execution["status"] == "FAILED"
    assert site.b.peer_id in execution["error"]
    assert "deadline" in execution["error"]
    site.b.start()
    site.until_given_up(site.b, "lost-first")
    site.until_given_up(site.c, "lost-second")
    assert (site.ran()["lost"], site.ran()["lost-second"]) == (1, 0)


def test_a_peer_that_stands_still_while_its_job_runs_costs_only_time(site: Site) -> None:
    workflow, home = _two_jobs(site, "still", first=f"{site.gated('still')}; echo x", second="cat")
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["still"] == 1, "the job runs")
    site.b.freeze()
    site.gate("still").touch()
    asked = "Requesting job status"
    count = site.home.log().count(asked)
    wait_until(lambda: site.home.log().count(asked) > count, "its orchestrator asks for it")
    site.b.thaw()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id) == {(home, "stdout.txt"): b"x\n"}
    assert site.ran()["still"] == 1


# ---------------------------------------------------------------- while bytes move


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.bin"
    path.write_bytes(random.Random(5).randbytes(1 << 20) * 80)
    return path


@pytest.mark.parametrize("what", ["sender killed", "receiver killed", "sender stands still"])
def test_a_peer_disappears_while_bytes_move(site: Site, big: Path, what: str) -> None:
    """The receiver stands still with bytes on their way; either end goes and comes back; what arrives is whole."""
    name = what.replace(" ", "-")
    workflow = site.home.workflow(name)
    data = site.b.give(name, big)
    count = site.c.offer(f"{name}-sum", f"{site.note(name)}; sha256sum | cut -c1-64")
    start = site.home.remote_node(workflow, site.b, data)
    end = site.home.remote_node(workflow, site.c, count)
    site.home.connect(workflow, start, end)
    home = site.home.connect(workflow, end, None)
    execution_id = site.home.execute(workflow)
    query = "SELECT COUNT(*) FROM transfers WHERE direction = 'INCOMING' AND execution_uid = ?"
    site.c.until(query, 1, _uid(site, execution_id))
    site.c.freeze()
    _go_and_come_back(site, what)
    execution = site.home.wait(execution_id)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    assert site.home.results(execution_id) == {(home, "stdout.txt"): f"{digest}\n".encode()}
    assert site.ran()[name] == 1


def _go_and_come_back(site: Site, what: str) -> None:
    if what == "sender stands still":
        site.b.freeze()
        site.c.thaw()
        site.c.call("node.status")
        site.b.thaw()
        return
    gone: Peer = site.b if what == "sender killed" else site.c
    gone.kill()
    site.c.thaw() if gone is not site.c else None
    gone.start()


def test_what_is_sent_home_waits_for_a_home_that_was_killed_while_it_received(site: Site, big: Path) -> None:
    workflow = site.home.workflow("home again")
    node = site.home.remote_node(workflow, site.b, site.b.give("home again", big))
    home = site.home.connect(workflow, node, None)
    execution_id = site.home.execute(workflow)
    site.home.until("SELECT COUNT(*) FROM transfers WHERE workflow_execution_id = ?", 1, execution_id)
    site.home.kill()
    site.home.start()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert site.home.results(execution_id)[home, "big.bin"] == big.read_bytes()


def test_a_receiver_gone_for_good_ends_the_execution_at_its_deadline(site: Site, big: Path) -> None:
    workflow = site.home.workflow("never received")
    start = site.home.remote_node(workflow, site.b, site.b.give("never received", big))
    end = site.home.remote_node(workflow, site.c, site.c.offer("receives never", site.note("never")))
    site.home.connect(workflow, start, end)
    execution_id = site.home.execute(workflow, deadlines={"workflow_deadline_s": 4})
    site.c.until("SELECT COUNT(*) FROM transfers WHERE execution_uid = ?", 1, _uid(site, execution_id))
    site.c.kill()
    execution = site.home.wait(execution_id, timeout_s=20)
    assert execution["status"] == "FAILED"
    assert "deadline" in execution["error"]
    site.until_given_up(site.b, "never received")
    site.c.start()
    site.until_given_up(site.c, "receives never")
    assert site.ran()["never"] == 0


def _uid(site: Site, execution_id: int) -> str:
    ((uid,),) = site.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", execution_id)
    return str(uid)
