"""What one peer has delivered to another for the same orchestrator is not sent again, file by file; anything else is."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.integration.peer_sites import MOUNT_IN
from tests.live_files import found_below
from tests.running_peers import Peer, introduce, pair, running_peers, wait_until

FILE_BYTES = 3 << 20
FILES = 6
BIG_BYTES = 512 << 20
"""So big that copying it takes a third of a second at best."""
TALK_BYTES = 256 << 10
"""What two peers say to each other in an execution beside the content of a delivery; by far not a file."""

NUMBERS = itertools.count()
LIST_ALL = 'cd "$RND_MOUNT_INPUT" && find . -type f | sort | xargs sha256sum'


def listing(folder: Path) -> str:
    """Return what the job says of the files of a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}\n" for path in paths)


def filled(folder: Path, *, files: int = FILES, file_bytes: int = FILE_BYTES) -> Path:
    """Make a folder of files, half of them one folder further down."""
    (folder / "deep").mkdir(parents=True)
    for number in range(files):
        (folder / ("deep" if number % 2 else ".") / f"{number}.bin").write_bytes(os.urandom(file_bytes))
    return folder


def drawn(orchestrator: Peer, giver: Peer, taker: Peer, folder: Path, *, seal: bool = False) -> int:
    """Draw a workflow in which one peer's folder, as it is now, goes to a job of another, which lists it."""
    name = f"list {next(NUMBERS)}"
    data = giver.give(name, folder, seal=seal)
    program = taker.offer(name, LIST_ALL, interfaces=[MOUNT_IN])
    workflow = orchestrator.workflow(name)
    first = orchestrator.remote_node(workflow, giver, data)
    second = orchestrator.remote_node(workflow, taker, program)
    orchestrator.connect(workflow, first, second, "STDOUT->MOUNT")
    orchestrator.connect(workflow, second, None)
    return workflow


def came_of(orchestrator: Peer, execution_id: int) -> str:
    """Wait for an execution, and return what its job has listed."""
    execution = orchestrator.wait(execution_id, timeout_s=120)
    assert execution["status"] == "COMPLETED", execution["error"]
    (content,) = orchestrator.results(execution_id).values()
    return content.decode()


def recognised(taker: Peer) -> list[tuple[int, int]]:
    """Return how many files and bytes of each delivery were here already."""
    return [
        (int(files), int(count))
        for files, count in re.findall(r"Transfer recognised: .*files=(\d+), bytes=(\d+)", taker.log())
    ]


# ---- what is compared


@pytest.fixture
def town(tmp_path: Path) -> Iterator[list[Peer]]:
    with running_peers(tmp_path, "giver", "second", "taker", "home", "other") as peers:
        giver, second, taker, home, other = peers
        introduce(*((peer, orderer) for peer in (giver, second, taker) for orderer in (home, other)))
        introduce((giver, taker), (second, taker))
        yield peers


def test_the_same_of_another_sender_or_for_another_orchestrator_is_sent(town: list[Peer], tmp_path: Path) -> None:
    giver, second, taker, home, other = town
    folder = filled(tmp_path / "source")
    mine = drawn(home, giver, taker, folder)
    of_another_sender = drawn(home, second, taker, folder)
    for_another_orchestrator = drawn(other, giver, taker, folder)

    def check(orchestrator: Peer, workflow: int, expected: list[tuple[int, int]]) -> None:
        assert came_of(orchestrator, orchestrator.execute(workflow)) == listing(folder)
        assert recognised(taker) == expected

    all_of_it = (FILES, FILES * FILE_BYTES)
    check(home, mine, [])
    check(home, of_another_sender, [])
    check(other, for_another_orchestrator, [])
    check(home, mine, [all_of_it])
    check(home, of_another_sender, [all_of_it] * 2)
    check(other, for_another_orchestrator, [all_of_it] * 3)


# ---- what travels


class Lane(NamedTuple):
    """A giver that can be reached only through a proxy, which counts what it sends; it orders, and has one folder to give."""

    giver: Peer
    taker: Peer
    proxy: CuttingProxy
    folder: Path

    def begin(self, *, seal: bool = False) -> int:
        """Have the folder delivered; return the execution."""
        return self.giver.execute(drawn(self.giver, self.giver, self.taker, self.folder, seal=seal))

    def travelled(self, *, seal: bool = False) -> int:
        """Have the folder delivered, see that all of it arrived, and return how many bytes the giver has sent for it."""
        before = self.proxy.to_client
        assert came_of(self.giver, self.begin(seal=seal)) == listing(self.folder)
        return self.proxy.to_client - before

    def arrived(self) -> list[Path]:
        """Return the folders in which something has arrived at the taker, the newest last."""
        found = found_below(self.taker.data_dir / "workflows", ".*.manifest")
        folders = [path.with_name(path.name.removeprefix(".").removesuffix(".manifest")) for path in found]
        return sorted(folders, key=lambda path: path.stat().st_ctime_ns)


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    with cutting_proxy() as proxy:
        giver = Peer(tmp_path / "giver", env={"RND_ADVERTISE": proxy.address})
        taker = Peer(tmp_path / "taker")
        taker.listen_at = ""
        try:
            for peer in (giver, taker):
                peer.start()
            lines = [line for line in giver.log_lines() if "Listening for peers: address=" in line]
            proxy.target, giver.address = lines[-1].rpartition("=")[2], proxy.address
            pair(giver, taker)
            yield Lane(giver, taker, proxy, filled(tmp_path / "source"))
        finally:
            giver.dispose()
            taker.dispose()


def close_to(count: int, files: int) -> bool:
    return files * FILE_BYTES <= count < files * FILE_BYTES + TALK_BYTES


def test_only_what_is_not_here_as_it_came_travels(lane: Lane) -> None:
    assert close_to(lane.travelled(), FILES)
    assert close_to(lane.travelled(), 0)
    with (lane.folder / "0.bin").open("r+b") as file:
        file.write(os.urandom(16))
    assert close_to(lane.travelled(), 1), "of many files the one that has changed"
    assert recognised(lane.taker)[-1] == (FILES - 1, (FILES - 1) * FILE_BYTES)

    last = lane.arrived()[-1]
    (last / "2.bin").write_bytes(b"?" * FILE_BYTES)
    (last / "deep" / "3.bin").unlink()
    assert close_to(lane.travelled(), 2), "what was altered and what is gone since"

    (lane.folder / "4.bin").rename(lane.folder / "deep" / "moved.bin")
    assert close_to(lane.travelled(), 0), "a file under another name"
    lane.taker.stop()
    lane.taker.start()
    assert close_to(lane.travelled(), 0), "after a restart"


def test_only_what_is_not_here_travels_sealed(lane: Lane) -> None:
    assert close_to(lane.travelled(seal=True), FILES)
    (lane.folder / "deep" / "1.bin").write_bytes(os.urandom(FILE_BYTES))
    assert close_to(lane.travelled(seal=True), 1)
    assert close_to(lane.travelled(seal=True), 0)


# ---- while it is copied


class Copying(NamedTuple):
    """A receiver in the middle of copying what is here, a big file, when another one has changed."""

    lane: Lane
    execution_id: int
    here_bytes: int
    sent_before: int

    def parts(self) -> list[Path]:
        """Return what is there of the delivery."""
        return found_below(self.lane.taker.data_dir / "workflows", "*.part/*")


@pytest.fixture
def copying(lane: Lane) -> Copying:
    big = lane.folder / "big.bin"
    with big.open("wb") as file:
        file.truncate(BIG_BYTES)
    assert lane.travelled() >= BIG_BYTES
    (lane.folder / "0.bin").write_bytes(os.urandom(FILE_BYTES))
    here_bytes = BIG_BYTES + (FILES - 1) * FILE_BYTES
    found = Copying(lane, lane.begin(), here_bytes, lane.proxy.to_client)
    wait_until(lambda: any(path.name == big.name for path in found.parts()), "it copies the big file")
    return found


def killed(lane: Lane) -> None:
    assert lane.taker.process is not None
    lane.taker.process.send_signal(signal.SIGKILL)
    lane.taker.process.wait()
    assert recognised(lane.taker) == [], "it was killed too late"
    lane.taker.start()


def restarted(lane: Lane) -> None:
    lane.taker.stop()
    assert recognised(lane.taker) == [], "it was stopped too late"
    lane.taker.start()


def link_cut(lane: Lane) -> None:
    lane.proxy.cut()
    assert recognised(lane.taker) == [], "it was cut too late"


@pytest.mark.parametrize("harm", [killed, restarted, link_cut], ids=lambda harm: harm.__name__)
def test_a_delivery_that_comes_to_harm_while_it_is_copied_goes_on(
    copying: Copying, harm: Callable[[Lane], None]
) -> None:
    lane = copying.lane
    harm(lane)
    assert came_of(lane.giver, copying.execution_id) == listing(lane.folder)
    assert recognised(lane.taker)[-1] == (FILES, copying.here_bytes)
    assert close_to(lane.proxy.to_client - copying.sent_before, 1)
    assert copying.parts() == []


def test_a_delivery_that_is_cancelled_while_it_is_copied_leaves_nothing(copying: Copying) -> None:
    lane = copying.lane
    lane.giver.call("execution.cancel", execution_id=copying.execution_id)
    wait_until(lambda: copying.parts() == [], "all of it is gone")
    for peer in (lane.giver, lane.taker):
        open_rows = "SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE')"
        peer.until(open_rows, 0)
    assert recognised(lane.taker) == []
