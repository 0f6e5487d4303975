"""The disk of a data directory fills up while programs run and while a delivery comes: what waits goes on once there is room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import Disk, small_disk
from tests.faults.machine_site import CONFIG, CONTENT, NAMES_THE_DISK, FaultSite, Scribe, fault_site
from tests.running_peer import RpcError
from tests.running_peers import await_links, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("test_full_disk")]  # its tests share daemons

FLOOR_BYTES = 32 << 20
DISK_BYTES = 96 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", DISK_BYTES) as mounted:
        yield mounted


def move_to(disk: Disk, site: FaultSite, config: str) -> None:
    """Have b live on another disk, with another configuration."""
    b = site.b
    b.stop()
    shutil.copytree(
        b.data_dir, disk.place / "b", ignore=lambda folder, names: {n for n in names if n.endswith(".sock")}
    )
    b.data_dir = disk.place / "b"
    (b.data_dir / "rnd.toml").write_text(config)
    b._config = config
    b.start()
    await_links(b, 1)


def test_a_disk_below_its_floor_delays_and_refuses_and_fails_nothing(disk: Disk, tmp_path: Path) -> None:
    with fault_site(tmp_path / "site") as site:
        move_to(disk, site, CONFIG.replace("disk_floor_bytes = 0", f"disk_floor_bytes = {FLOOR_BYTES}"))
        home, b = site.home, site.b
        gate = tmp_path / "gate"
        workflow = home.workflow("delayed")
        makes = f"while ! test -e '{gate}'; do sleep 0.02; done; cat '{site.place}/source.bin'"
        first = home.node(workflow, home.program("makes", makes, confine="never"))
        second = home.remote_node(workflow, b, b.offer("takes", "cat; printf taken"))
        home.connect(workflow, first, second)
        result = home.connect(workflow, second, None)
        execution_id = home.execute(workflow)
        home.until("SELECT status FROM job_executions WHERE job_name = 'makes'", "RUNNING")
        disk.fill(but_for_bytes=FLOOR_BYTES // 2)
        gate.touch()
        ((waiting,),) = home.rows("SELECT id FROM job_executions WHERE job_name = 'takes'")

        def because() -> str:
            return str(home.call("job.explain", job_execution_id=waiting)["because"])

        wait_until(lambda: "nearly full" in because(), because)

        with pytest.raises(RpcError, match="Free space on the disk of the data directory") as refused:
            b.execute(b.workflow("own"))
        assert "the disk of this peer is nearly full" in refused.value.message
        late = home.workflow("late")
        home.remote_node(late, b, b.offer("late", "true"))
        execution = home.run(late)
        assert (execution["status"], bool(NAMES_THE_DISK.search(execution["error"]))) == ("FAILED", True), execution
        assert b.log().count("Disk nearly full") == 1

        disk.free()
        execution = home.wait(execution_id)
        assert execution["status"] == "COMPLETED", execution["error"]
        assert home.results(execution_id) == {(result, "stdout.txt"): CONTENT + b"taken"}
        assert "Disk has room again" in b.log()


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_a_disk_without_a_byte_left_loses_nothing(disk: Disk, tmp_path: Path, dies: bool) -> None:
    """Below no floor: the database itself takes nothing any more, and the daemon may even be killed meanwhile."""
    with fault_site(tmp_path / "site") as site:
        move_to(disk, site, CONFIG)
        home, b = site.home, site.b
        drawn = site.draw()
        execution_id = home.execute(drawn.workflow_id)
        b.until("SELECT status FROM job_executions WHERE job_name LIKE '%-first'", "RUNNING")
        with Scribe(b, "before") as scribe:
            wait_until(lambda: len(scribe.acknowledged) > 3, "facts are written down")
            disk.fill()
            wait_until(lambda: len(scribe.refusals) > 3, lambda: f"it says that it is full: {scribe.acknowledged[-1]}")
            drawn.gate.touch()
            b.until("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING'", 1)
            assert all("No space is left" in refusal.message for refusal in scribe.refusals)
            assert all("free space" in refusal.data["hint"] for refusal in scribe.refusals)
            assert not b.is_dead()
            if dies:
                b.kill()
            disk.free()
        site.restore()
        assert site.check(drawn, home.wait(execution_id)) in ("COMPLETED", "FAILED")
        scribe.check()
        again = site.draw()
        again.gate.touch()
        assert site.check(again, home.run(again.workflow_id)) == "COMPLETED"
