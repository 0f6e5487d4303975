"""What is cancelled while its bytes move leaves nothing on either side, whoever says so and wherever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.integration.peer_sites import MOUNT_IN, Site, running_site
from tests.live_files import found_below
from tests.running_peer import PROJECT
from tests.running_peers import Peer, wait_until

SIZE_BYTES = 1 << 30


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        with (site.place / "big.bin").open("wb") as big:
            big.truncate(SIZE_BYTES)
        site.b.give("big", site.place / "big.bin")
        yield site


@pytest.fixture
def site(daemons: Site) -> Iterator[Site]:
    daemons.restore()
    yield daemons
    daemons.restore()
    daemons.settle()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """A delivery whose bytes move right now."""

    site: Site
    name: str
    sender: Peer
    receiver: Peer
    execution_id: int

    def job(self, peer: Peer, name: str) -> int:
        """Return the id that a job has on a peer."""
        ((job_id,),) = peer.rows("SELECT MAX(id) FROM job_executions WHERE job_name = ?", name)
        return int(job_id)

    def leaves_nothing(self, reason: str) -> None:
        """See both sides clean, their rows ended, and both logs say so."""
        ((uid,),) = self.site.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", self.execution_id)
        for peer in (self.sender, self.receiver):
            peer.until("SELECT status FROM transfers WHERE execution_uid = ?", "CANCELLED", uid)
            ((transfer_id, error),) = peer.rows("SELECT transfer_id, error FROM transfers WHERE execution_uid = ?", uid)
            assert reason in error
            until_logged(peer, f"Transfer cancelled: transfer_id={transfer_id}")
        wait_until(lambda: parts(self.receiver) == [], lambda: f"these stay: {parts(self.receiver)}")
        assert not found_below(self.receiver.data_dir / "workflows", "big.bin")
        execution = self.site.home.wait(self.execution_id)
        assert execution["status"] in {"CANCELLED", "FAILED"}
        for peer in (self.sender, self.receiver):
            assert "Traceback" not in peer.stderr()


def until_logged(peer: Peer, words: str) -> None:
    """Wait until a peer's log says so."""
    wait_until(lambda: words in peer.log(), f"the log of {peer.data_dir.name} says: {words}")


def parts(peer: Peer) -> list[str]:
    """Return what there is of deliveries that came in part."""
    return [str(path) for path in found_below(peer.data_dir / "workflows", ".*.part*")]


def given(site: Site, workflow: int) -> int:
    """Draw a node of b's DATA."""
    (data,) = (each for each in site.b.call("service.list")["items"] if each["name"] == "big")
    return site.home.remote_node(workflow, site.b, site.b.call("service.get", service_id=data["id"]))


def begin(site: Site, name: str, sender: Peer) -> Moving:
    """Have a big file on its way: DATA of b, or a file of home's own host, to a job of c."""
    workflow = site.home.workflow(name)
    end = site.home.remote_node(workflow, site.c, site.c.offer(f"{name}-taker", "exit 0\n", interfaces=[MOUNT_IN]))
    if sender is site.home:
        site.home.connect(workflow, None, end, "STDOUT->MOUNT", source_path=str(site.place / "big.bin"))
    else:
        site.home.connect(workflow, given(site, workflow), end, "STDOUT->MOUNT")
    moving = Moving(site=site, name=name, sender=sender, receiver=site.c, execution_id=site.home.execute(workflow))
    wait_until(lambda: bool(parts(site.c)), "its bytes move")
    return moving


def execution_cancelled(moving: Moving) -> str:
    moving.site.home.call("execution.cancel", execution_id=moving.execution_id, reason="by its owner")
    return "by its owner"


def command(moving: Moving) -> str:
    subprocess.run(
        [sys.executable, "-m", "rnd", "cancel", str(moving.execution_id), "--reason", "by command"],
        check=True,
        cwd=PROJECT,
        env={**os.environ, "RND_DATA_DIR": str(moving.site.home.data_dir)},
        capture_output=True,
    )
    return "by command"


def receivers_owner(moving: Moving) -> str:
    job_id = moving.job(moving.receiver, f"{moving.name}-taker")
    moving.receiver.call("job.cancel", job_execution_id=job_id, reason="by the receiver's owner")
    return ""


def senders_owner(moving: Moving) -> str:
    job_id = moving.job(moving.sender, "big")
    moving.sender.call("job.cancel", job_execution_id=job_id, reason="by the sender's owner")
    return ""


WAYS: list[Callable[[Moving], str]] = [execution_cancelled, command, receivers_owner, senders_owner]


@pytest.mark.parametrize("cancel", WAYS, ids=lambda way: way.__name__)
def test_data_of_one_peer_on_its_way_to_a_job_of_another(site: Site, cancel: Callable[[Moving], str]) -> None:
    moving = begin(site, cancel.__name__.replace("_", "-"), site.b)
    moving.leaves_nothing(cancel(moving))


@pytest.mark.parametrize("cancel", [execution_cancelled, receivers_owner], ids=lambda way: way.__name__)
def test_a_file_of_the_orchestrator_on_its_way_to_a_job(site: Site, cancel: Callable[[Moving], str]) -> None:
    moving = begin(site, f"own-{cancel.__name__.replace('_', '-')}", site.home)
    moving.leaves_nothing(cancel(moving))


def test_a_result_on_its_way_home(site: Site) -> None:
    workflow = site.home.workflow("homeward")
    site.home.connect(workflow, given(site, workflow), None, "STDOUT->MOUNT")
    execution_id = site.home.execute(workflow)
    wait_until(lambda: bool(parts(site.home)), "its bytes move")
    moving = Moving(site=site, name="homeward", sender=site.b, receiver=site.home, execution_id=execution_id)
    moving.leaves_nothing(execution_cancelled(moving))


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_what_came_before_a_restart_is_gone_with_its_job(daemons: Site, is_killed: bool) -> None:
    """The sender stays away; the receiver has only its notes of what came, and nobody comes for them.

    Both listen elsewhere afterwards, so that what the sender has to tell the receiver waits until they meet again.
    """
    site = daemons
    site.restore()
    moving = begin(site, f"restarted-{is_killed}", site.b)
    notes = lambda: [each for each in parts(site.c) if each.endswith(".json")]  # noqa: E731 - asked again and again
    wait_until(lambda: bool(notes()), "it is noted how much has come")
    site.b.kill()
    site.c.kill() if is_killed else site.c.stop()
    site.c.start()
    assert notes()
    site.home.call("execution.cancel", execution_id=moving.execution_id, reason="enough")
    site.until_job(site.c, f"{moving.name}-taker", "CANCELLED")
    wait_until(lambda: parts(site.c) == [], lambda: f"these stay: {parts(site.c)}")
    assert site.home.wait(moving.execution_id)["status"] == "CANCELLED"
    site.b.start()
    moving.leaves_nothing("")
