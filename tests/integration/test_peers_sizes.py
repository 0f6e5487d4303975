"""What is huge, in one file or in many, goes from peer to peer in bounded memory.

With `RND_TEST_SIZES=full` (tools/soak) it is more than 4 GiB and 100,000 entries, else an eighth and a fifth of that.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.figures import note_figures
from tests.integration.peer_sites import MOUNT_IN
from tests.running_peers import Peer, introduce, running_peers
from tests.workers.carrying import manifest_of

IS_FULL = os.environ.get("RND_TEST_SIZES") == "full"
ROUND_BYTES = (4 << 30) if IS_FULL else (512 << 20)
HUGE_BYTES = ROUND_BYTES + (5 << 20) + 12_345
ISLAND_BYTES = 50_000
ISLANDS = (0, ROUND_BYTES // 2 - 10, ROUND_BYTES - ISLAND_BYTES // 2, HUGE_BYTES - ISLAND_BYTES)
"""Where the file has bytes that are no zeros: one piece lies across 4 GiB."""
STORED_BYTES_MAX = (2 * len(ISLANDS) + 1) << 20
"""What comes is looked at by frames of 1 MiB, and an island may lie in two of them."""
ENTRIES = 100_000 if IS_FULL else 20_000
GROWTH_BYTES_MAX = 64 << 20
"""How much the memory of a daemon may grow while one huge file passes through it."""
BYTES_AN_ENTRY_MAX = 1 << 10
"""How much more it may grow for each entry of a delivery."""
RUN_WITHIN_S = 400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[list[Peer]]:
    with running_peers(tmp_path, "home", "away") as peers:
        home, away = peers
        introduce((home, away))
        yield peers


@pytest.mark.timeout(600)
def test_a_huge_sparse_file(town: list[Peer], tmp_path: Path) -> None:
    """It arrives exact, holds no more of either disk than its bytes, and of memory no more than the window."""
    home, away = town
    source = tmp_path / "huge.bin"
    with source.open("wb") as file:
        for place in ISLANDS:
            file.seek(place)
            file.write(os.urandom(ISLAND_BYTES))
    assert source.stat().st_size == HUGE_BYTES
    workflow = delivery(home, away, source, 'wc -c < "$RND_MOUNT_INPUT/huge.bin"\n')
    begin_peaks(town)
    before, began_s = peaks(town), time.monotonic()
    execution = home.run(workflow, timeout_s=RUN_WITHIN_S)
    took_s = time.monotonic() - began_s
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert came_home(home, execution["id"]) == HUGE_BYTES
    (arrived,) = (away.data_dir / "workflows").rglob("input/*/*/huge.bin")
    grown = [now - then for now, then in zip(peaks(town), before, strict=True)]
    stored_bytes = arrived.stat().st_blocks * 512
    note_figures(
        "sizes",
        what="a sparse file",
        size_bytes=HUGE_BYTES,
        stored_bytes=stored_bytes,
        took_s=round(took_s, 2),
        sender_grew_bytes=grown[0],
        receiver_grew_bytes=grown[1],
    )
    assert sha256_of(arrived) == sha256_of(source)
    assert stored_bytes <= STORED_BYTES_MAX
    assert max(grown) < GROWTH_BYTES_MAX, grown


@pytest.mark.timeout(600)
def test_as_many_entries_as_are_allowed(town: list[Peer], tmp_path: Path) -> None:
    home, away = town
    source = tmp_path / "many"
    make_entries(source)
    entries = manifest_of(source)
    assert len(entries) == ENTRIES
    workflow = delivery(home, away, source, 'find "$RND_MOUNT_INPUT/" -type f | wc -l\n')
    begin_peaks(town)
    before, began_s = peaks(town), time.monotonic()
    execution = home.run(workflow, timeout_s=RUN_WITHIN_S)
    took_s = time.monotonic() - began_s
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    grown = [now - then for now, then in zip(peaks(town), before, strict=True)]
    note_figures(
        "sizes",
        what="many entries",
        entries=ENTRIES,
        took_s=round(took_s, 2),
        sender_grew_bytes=grown[0],
        receiver_grew_bytes=grown[1],
    )
    assert came_home(home, execution["id"]) == sum(1 for entry in entries if entry.sha256)
    (arrived,) = (away.data_dir / "workflows").glob("*/*/jobs/*/*/input/*/*/")
    assert manifest_of(arrived) == entries
    assert max(grown) < GROWTH_BYTES_MAX // 2 + ENTRIES * BYTES_AN_ENTRY_MAX, grown


def make_entries(folder: Path) -> None:
    """Make so many entries: files of a few bytes, a thousand a folder, and an empty folder for every hundred of them."""
    for number in range(ENTRIES):
        below = folder / f"{number // 1000}"
        if number % 1000 == 0:
            below.mkdir(parents=True)
        if number % 100 == 0:
            (below / f"void {number}").mkdir()
        else:
            (below / f"file {number}.txt").write_text(f"{number}\n" * (number % 5))


def delivery(home: Peer, away: Peer, source: Path, script: str) -> int:
    """Draw a workflow in which a program elsewhere looks at a file or folder of home; return its id."""
    workflow = home.workflow("delivery")
    node = home.remote_node(workflow, away, away.offer("look", script, interfaces=[MOUNT_IN]))
    home.connect(workflow, None, node, "STDOUT->MOUNT", source_path=str(source))
    home.connect(workflow, node, None)
    return workflow


def came_home(home: Peer, execution_id: int) -> int:
    """Return the number that the program has printed."""
    (content,) = home.results(execution_id).values()
    return int(content)


def begin_peaks(peers: Sequence[Peer]) -> None:
    """Have the peak of each daemon's memory begin anew."""
    for peer in peers:
        assert peer.process is not None
        Path(f"/proc/{peer.process.pid}/clear_refs").write_text("5")


def peaks(peers: Sequence[Peer]) -> list[int]:
    """Return the peak of each daemon's resident memory, in bytes."""
    return [peak(peer) for peer in peers]


def peak(peer: Peer) -> int:
    assert peer.process is not None
    for line in Path(f"/proc/{peer.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel says nothing of VmHWM")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
