"""Peers go, come back at other ports, or lose rows to a person's hand, while bytes are owed between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peer_sites import Site, running_site
from tests.running_peers import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path) as site:
        yield site


def test_a_job_that_is_deleted_by_hand_while_its_output_waits_does_not_end_the_daemon(site: Site) -> None:
    workflow = site.home.workflow("deleted")
    first = site.home.remote_node(workflow, site.b, site.b.offer("deleted-1", f"{site.gated('deleted')}; echo x"))
    last = site.home.remote_node(workflow, site.c, site.c.offer("deleted-2", "cat"))
    site.home.connect(workflow, first, last)
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["deleted"] == 1, "the job runs")
    site.home.until("SELECT phase FROM workflow_executions WHERE id = ?", "STARTED", execution_id)
    site.c.kill()
    site.gate("deleted").touch()
    site.until_job(site.b, "deleted-1", "COMPLETED")
    site.b.sql("DELETE FROM job_executions WHERE job_name = 'deleted-1'")
    site.b.until("SELECT COUNT(*) FROM transfers WHERE status = 'FAILED'", 1)
    assert site.b.call("node.status")["transfers_active"] == 0


@pytest.mark.parametrize("who", ["sender", "receiver", "both"])
def test_executors_that_come_back_at_other_ports_find_each_other_by_their_orchestrator(site: Site, who: str) -> None:
    """They know only it, and it hears of the new address of either; what is owed goes at once."""
    workflow = site.home.workflow("moved")
    first = site.home.remote_node(workflow, site.b, site.b.offer("moved-1", f"{site.gated('moved')}; echo x"))
    last = site.home.remote_node(workflow, site.c, site.c.offer("moved-2", "cat"))
    site.home.connect(workflow, first, last)
    site.home.connect(workflow, last, None)
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["moved"] == 1, "the job runs")
    site.home.until("SELECT phase FROM workflow_executions WHERE id = ?", "STARTED", execution_id)
    movers = {"sender": [site.b], "receiver": [site.c], "both": [site.b, site.c]}[who]
    for peer in movers:
        peer.kill()
    site.gate("moved").touch()
    for peer in movers:
        peer.start()
    begun = time.monotonic()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
    assert time.monotonic() - begun < 2.5
    assert list(site.home.results(execution_id).values()) == [b"x\n"]


def test_a_peer_that_expects_bytes_stops_in_order(site: Site) -> None:
    """The end of its links is no reason to dial anew while it stops."""
    workflow = site.home.workflow("stops")
    first = site.home.remote_node(workflow, site.b, site.b.offer("stops-1", f"{site.gated('stops')}; echo x"))
    last = site.home.remote_node(workflow, site.c, site.c.offer("stops-2", "cat"))
    site.home.connect(workflow, first, last)
    site.home.connect(workflow, last, None)
    execution_id = site.home.execute(workflow)
    wait_until(lambda: site.ran()["stops"] == 1, "the job runs")
    site.home.until("SELECT phase FROM workflow_executions WHERE id = ?", "STARTED", execution_id)
    assert site.c.stop() == 0
    assert "Internal error" not in site.c.log()
    site.c.start()
    site.gate("stops").touch()
    assert site.home.wait(execution_id)["status"] == "COMPLETED"
