"""A delivery of thousands of small files that comes to harm at a random point: all of it arrives exact, by one rename.

`RND_TEST_FILE_CUT_SEEDS` (`first:last`) runs other points than these, `RND_TEST_CUT_FILES` is how many files.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rnd.protocol.manifest import write_manifest
from tests.cuts.harmed_way import Way, check_harmed, harmed_delivery, running_way, watched_inputs
from tests.workers.carrying import manifest_of

FILES = int(os.environ.get("RND_TEST_CUT_FILES", "8000"))
FILE_BYTES_MAX = 16 << 10
EMPTY_SHARE = 0.05
FIRST, LAST = map(int, os.environ.get("RND_TEST_FILE_CUT_SEEDS", "0:5").split(":"))
MOUNT = {"interface_type": "MOUNT", "path": "/many", "mount_function": "INPUT"}


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with running_way(tmp_path_factory.mktemp("cuts")) as way:
        yield way


class Errand(NamedTuple):
    """A workflow in which the receiver counts the files of a folder of the sender."""

    workflow: int
    source: Path


@pytest.fixture(scope="module")
def errand(way: Way) -> Errand:
    source = way.folder / "many"
    make_files(source)
    service = way.receiver.offer("count", 'find "$RND_MOUNT_MANY/" -type f | wc -l\n', interfaces=[MOUNT])
    workflow = way.sender.workflow("delivery")
    node = way.sender.remote_node(workflow, way.receiver, service)
    way.sender.connect(workflow, None, node, "STDOUT->MOUNT", source_path=str(source))
    way.sender.connect(workflow, node, None)
    return Errand(workflow, source)


def make_files(folder: Path) -> None:
    """Make files in nested folders, some of them empty, some executable, and a few empty folders."""
    chance = random.Random(0)
    for number in range(FILES):
        below = folder / f"{number % 7}" / f"{number // 100}"
        below.mkdir(parents=True, exist_ok=True)
        size_bytes = 0 if chance.random() < EMPTY_SHARE else chance.randrange(16, FILE_BYTES_MAX)
        path = below / f"{number}.bin"
        path.write_bytes(chance.randbytes(size_bytes))
        if number % 10 == 0:
            path.chmod(0o755)
    for number in range(10):
        (folder / "void" / str(number)).mkdir(parents=True)


def renew_files(folder: Path, seed: int) -> None:
    """Give every file that has bytes others: nothing of them has been delivered before."""
    chance = random.Random(seed)
    for path in folder.rglob("*.bin"):
        if path.stat().st_size:
            with path.open("r+b") as file:
                file.write(chance.randbytes(16))


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_many_files_go_on_where_they_were_cut(way: Way, errand: Errand, seed: int) -> None:
    renew_files(errand.source, seed)
    entries = manifest_of(errand.source)
    manifest = write_manifest(entries)
    stream_bytes = len(manifest.data) + sum(entry.size_bytes for entry in entries)
    with watched_inputs(way.receiver) as seen:
        harmed = harmed_delivery(way, errand.workflow, seed, from_bytes=1 << 16, stream_bytes=stream_bytes)
    (counted,) = way.sender.results(harmed.execution_id).values()
    (arrived,) = seen
    assert seen[arrived].files == int(counted) == FILES, "it was visible before it was whole"
    assert seen[arrived].size_bytes == sum(entry.size_bytes for entry in entries)
    is_exact = manifest_of(arrived) == entries
    check_harmed(way, harmed, seed, what=f"{FILES:,} files", stream_bytes=stream_bytes, is_exact=is_exact)
