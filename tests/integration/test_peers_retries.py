"""A retry over several peers runs only what did not complete: executors that have kept what their jobs left deliver it anew."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from tests.integration.peer_sites import Site
from tests.running_peers import wait_until

NUMBERS = "".join(f"{number}\n" for number in range(1, 50_001)).encode()


def _fan_out(site: Site, name: str) -> int:
    """Draw what B makes and two jobs use, `NAME-up` on C and `NAME-bad` on B; the second fails until its flag is there.

    The results of all three come home.
    """
    home, b, c = site.home, site.b, site.c
    flag = site.place / f"{name}.flag"
    workflow = home.workflow(name)
    make = home.remote_node(workflow, b, b.offer(f"{name}-make", f"{site.note(f'{name}-make')}; seq 1 50000"))
    up = home.remote_node(workflow, c, c.offer(f"{name}-up", f"{site.note(f'{name}-up')}; sort -rn"))
    script = f"{site.note(f'{name}-bad')}; test -e '{flag}' && cat"
    bad = home.remote_node(workflow, b, b.offer(f"{name}-bad", script))
    home.connect(workflow, make, up)
    home.connect(workflow, make, bad)
    for node in (make, up, bad):
        home.connect(workflow, node, None)
    return workflow


def _failed(site: Site, name: str) -> int:
    """Run a fan-out to its failure, once all that can complete has, and let the job that failed succeed from now on."""
    first = site.home.run(_fan_out(site, name))
    assert first["status"] == "FAILED"
    assert site.home.statuses(first["id"]) == {
        f"{name}-make": "COMPLETED",
        f"{name}-up": "COMPLETED",
        f"{name}-bad": "ERRORED",
    }
    (site.place / f"{name}.flag").touch()
    return int(first["id"])


def _retried(site: Site, execution_id: int) -> dict[str, Any]:
    retry: dict[str, Any] = site.home.wait(site.home.call("execution.retry", execution_id=execution_id)["execution_id"])
    assert (retry["status"], retry["error"]) == ("COMPLETED", None)
    return retry


def _brought_home(site: Site, execution_id: int) -> list[bytes]:
    return sorted(site.home.results(execution_id).values(), key=lambda content: content[:10])


EXACT = sorted(
    [NUMBERS, NUMBERS, b"".join(reversed(NUMBERS.splitlines(keepends=True)))], key=lambda content: content[:10]
)


def _runs(site: Site, name: str) -> tuple[int, int, int]:
    """Return how often the three programs have run."""
    ran = site.ran()
    return ran[f"{name}-make"], ran[f"{name}-up"], ran[f"{name}-bad"]


def _reused(retry: dict[str, Any]) -> dict[str, str | None]:
    return {job["job_name"]: job["result"] for job in retry["jobs"]}


def test_what_completed_on_other_peers_does_not_run_again(site: Site) -> None:
    first = _failed(site, "fan")
    retry = _retried(site, first)
    assert _runs(site, "fan") == (1, 1, 2)
    assert _brought_home(site, retry["id"]) == EXACT
    assert _reused(retry) == {"fan-make": f"reused:{first}", "fan-up": f"reused:{first}", "fan-bad": None}
    ((uid,),) = site.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", first)
    for peer, name in ((site.b, "fan-make"), (site.c, "fan-up")):
        query = "SELECT status, result, start_received FROM job_executions WHERE job_name = ? ORDER BY id DESC LIMIT 1"
        assert peer.rows(query, name) == [("COMPLETED", f"reused:{uid}", 1)]
        assert f"reused_from={uid}" in peer.log()
    assert f"reused_from={first}" in site.home.log()
    make = next(job for job in retry["jobs"] if job["job_name"] == "fan-make")
    told = site.home.call("job.explain", job_execution_id=make["job_execution_id"])
    because = f"It has not run: what it left in execution {first} serves again, and everything it owes is delivered."
    assert told["because"] == because
    assert told["checks"][0]["evidence"] == f"result = reused:{first}"


def test_a_retry_of_a_retry_takes_what_truly_ran(site: Site) -> None:
    first = _failed(site, "twice")
    (site.place / "twice.flag").unlink()
    second = site.home.wait(site.home.call("execution.retry", execution_id=first)["execution_id"])
    assert second["status"] == "FAILED"
    (site.place / "twice.flag").touch()
    third = _retried(site, second["id"])
    assert _runs(site, "twice") == (1, 1, 3)
    assert _brought_home(site, third["id"]) == EXACT
    assert _reused(third) == {"twice-make": f"reused:{first}", "twice-up": f"reused:{first}", "twice-bad": None}


def test_executors_that_were_restarted_in_between_still_have_it(site: Site) -> None:
    first = _failed(site, "again")
    for peer in (site.b, site.c):
        peer.stop()
    site.restore()
    retry = _retried(site, first)
    assert _runs(site, "again") == (1, 1, 2)
    assert _brought_home(site, retry["id"]) == EXACT


@pytest.mark.parametrize(
    "line", ["Phase 1: Creating jobs", "Received remote job execution ID", "Sending start command"]
)
def test_an_orchestrator_that_dies_while_it_asks_goes_on_where_it_was(site: Site, line: str) -> None:
    name = f"dies-{line.split(maxsplit=1)[0].lower()}"
    first = _failed(site, name)
    logged = len(site.home.log())
    second = site.home.call("execution.retry", execution_id=first)["execution_id"]
    wait_until(lambda: line in site.home.log()[logged:], f"home says {line!r}")
    site.home.kill()
    site.restore()
    retry = site.home.wait(second)
    assert (retry["status"], retry["error"]) == ("COMPLETED", None)
    assert _runs(site, name)[:2] == (1, 1)
    assert _brought_home(site, second) == EXACT
    assert _reused(retry) == {f"{name}-make": f"reused:{first}", f"{name}-up": f"reused:{first}", f"{name}-bad": None}


@pytest.mark.parametrize("loss", ["outputs", "hold", "revision"])
def test_what_an_executor_has_not_kept_runs_anew_and_what_it_needs_is_brought(site: Site, loss: str) -> None:
    """B keeps what it made; what C had made of it is gone, or nobody's any more, or made by what its service was before."""
    first = _failed(site, loss)
    ((job_id, service_id),) = site.c.rows("SELECT id, service_id FROM job_executions WHERE job_name = ?", f"{loss}-up")
    if loss == "outputs":
        (folder,) = (site.c.data_dir / "workflows").glob(f"*/*/jobs/*/{job_id}")
        shutil.rmtree(folder)
    elif loss == "hold":
        site.c.sql("UPDATE job_executions SET hold_s = 0.001 WHERE id = :id", id=job_id)
    else:
        site.c.call("service.update", service_id=service_id, timeout_s=300)
        ((revision,),) = site.c.rows("SELECT revision FROM offered_services WHERE id = ?", service_id)
        assert revision == 2
    retry = _retried(site, first)
    assert _runs(site, loss) == (1, 2, 2)
    assert _brought_home(site, retry["id"]) == EXACT
    assert _reused(retry) == {f"{loss}-make": f"reused:{first}", f"{loss}-up": None, f"{loss}-bad": None}


def test_data_of_another_peer_is_needed_no_more_where_all_that_it_feeds_is_reused(site: Site) -> None:
    home, b, c = site.home, site.b, site.c
    given = site.place / "given.txt"
    given.write_bytes(NUMBERS)
    workflow = home.workflow("data")
    data = home.remote_node(workflow, b, b.give("given", given))
    up = home.remote_node(workflow, c, c.offer("data-up", f"{site.note('data-up')}; sort -rn"))
    flag = site.place / "data.flag"
    bad = home.node(workflow, home.program("data-bad", f"{site.note('data-bad')}; test -e '{flag}' && cat"))
    home.connect(workflow, data, up)
    home.connect(workflow, up, bad)
    home.connect(workflow, bad, None)
    first = home.run(workflow)
    assert (first["status"], home.statuses(first["id"])["given"]) == ("FAILED", "COMPLETED")
    flag.touch()
    sent = "SELECT COUNT(*) FROM transfers WHERE source_job_execution_id = ?"
    retry = _retried(site, first["id"])
    assert (site.ran()["data-up"], site.ran()["data-bad"]) == (1, 2)
    assert list(home.results(retry["id"]).values()) == [EXACT[-1]]
    assert _reused(retry)["given"] == f"reused:{first['id']}"
    ((newest,),) = b.rows("SELECT MAX(id) FROM job_executions WHERE job_name = 'given'")
    assert b.rows(sent, newest) == [(0,)]


def test_what_the_owner_no_longer_lets_be_ordered_is_refused_whatever_it_has_left(site: Site) -> None:
    first = _failed(site, "closed")
    ((service_id,),) = site.c.rows("SELECT id FROM offered_services WHERE name = 'closed-up'")
    site.c.call("service.set_status", service_id=service_id, status="INACTIVE")
    second = site.home.wait(site.home.call("execution.retry", execution_id=first)["execution_id"])
    assert second["status"] == "FAILED"
    assert "INACTIVE" in second["error"]
    assert _runs(site, "closed") == (1, 1, 1)
    site.c.call("service.set_status", service_id=service_id, status="ACTIVE")
    third = _retried(site, second["id"])  # the one between came to nothing, and takes nothing from it
    assert _runs(site, "closed") == (1, 1, 2)
    assert _brought_home(site, third["id"]) == EXACT


def test_outputs_that_are_found_wrong_when_they_are_sent_end_the_retry_with_words(site: Site) -> None:
    first = _failed(site, "late")
    ((job_id,),) = site.b.rows("SELECT id FROM job_executions WHERE job_name = 'late-make'")
    (folder,) = (site.b.data_dir / "workflows").glob(f"*/*/jobs/*/{job_id}")
    outputs = next(folder.glob("logs/stdout.txt"))
    outputs.write_bytes(b"x" * outputs.stat().st_size)  # in its size, which is all that is looked at in phase 1
    second = site.home.wait(site.home.call("execution.retry", execution_id=first)["execution_id"])
    assert second["status"] == "FAILED"
    assert "stdout.txt has changed" in second["error"]
    assert _runs(site, "late") == (1, 1, 1)
    wait_until(lambda: site.job(site.b, "late-bad")[:1] == ("CANCELLED",), "who waited for it is cancelled")
    third = _retried(site, second["id"])  # what could not be delivered is made anew
    assert _runs(site, "late") == (2, 1, 2)
    assert _brought_home(site, third["id"]) == EXACT
