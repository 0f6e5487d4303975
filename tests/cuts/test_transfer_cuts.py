"""A delivery of 256 MiB whose link is cut, or whose sender or receiver is killed, at a random point: it goes on from there.

`RND_TEST_CUT_SEEDS` (`first:last`) runs other points than these.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cuts.harmed_way import (
    HARMS,
    Seen,
    Way,
    check_harmed,
    harmed_delivery,
    killed,
    running_way,
    watched_inputs,
)
from tests.live_files import found_below
from tests.running_peers import Peer, wait_until

SIZE_BYTES = 256 << 20
SEALED_BYTES = 192 << 20
"""So long that what need not be noted (6 MiB and a frame) is less than the 5 % that may travel twice."""
HOLE_BYTES = 64 << 20
"""So much of it is zeros, after the first 8 MiB; most of the points lie there."""
FIRST, LAST = map(int, os.environ.get("RND_TEST_CUT_SEEDS", "0:20").split(":"))


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with running_way(tmp_path_factory.mktemp("cuts")) as way:
        yield way


class Errand(NamedTuple):
    """A workflow in which the receiver sums up a file of the sender."""

    workflow: int
    source: Path


@pytest.fixture(scope="module")
def errand(way: Way) -> Errand:
    source = way.folder / "source.bin"
    with source.open("wb") as file:
        for _ in range(SIZE_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    service = way.receiver.offer("sum", "sha256sum\n")
    workflow = way.sender.workflow("delivery")
    node = way.sender.remote_node(workflow, way.receiver, service)
    way.sender.connect(workflow, None, node, source_path=str(source))
    way.sender.connect(workflow, node, None)
    return Errand(workflow, source)


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_a_delivery_goes_on_where_it_was_cut(way: Way, errand: Errand, seed: int) -> None:
    with errand.source.open("r+b") as file:
        file.write(random.Random(f"content {seed}").randbytes(1 << 20))  # never what has been delivered before
    check_delivery(way, errand, seed, what="256 MiB")


@pytest.mark.parametrize("seed", range(len(HARMS)))
def test_a_sealed_delivery_goes_on_under_a_new_key(way: Way, seed: int, tmp_path: Path) -> None:
    """What it has of zeros takes up no room where it arrives, wherever it was cut."""
    source = tmp_path / f"sealed-{seed}.bin"
    source.write_bytes(os.urandom(8 << 20) + bytes(HOLE_BYTES) + os.urandom(SEALED_BYTES - HOLE_BYTES - (8 << 20)))
    data = way.sender.give(f"sealed {seed}", source, seal=True)
    workflow = way.sender.workflow(f"sealed {seed}")
    node = way.sender.remote_node(workflow, way.receiver, way.receiver.offer(f"sum {seed}", "sha256sum\n"))
    way.sender.connect(workflow, way.sender.node(workflow, data["id"]), node)
    way.sender.connect(workflow, node, None)
    check_delivery(way, Errand(workflow, source), seed, what="192 MiB, sealed")
    (arrived,) = (way.receiver.data_dir / "workflows").rglob(f"input/*/*/{source.name}")
    assert arrived.stat().st_blocks * 512 <= SEALED_BYTES - HOLE_BYTES + (4 << 20)


def check_delivery(way: Way, errand: Errand, seed: int, *, what: str) -> None:
    """Have a delivery come to harm at a random point, and see it arrive at once as a whole, with little of it sent twice."""
    size_bytes = errand.source.stat().st_size
    with watched_inputs(way.receiver) as seen:
        harmed = harmed_delivery(way, errand.workflow, seed, from_bytes=1 << 20, stream_bytes=size_bytes)
    assert list(seen.values()) == [Seen(files=1, size_bytes=size_bytes)], "it was visible before it was whole"
    is_exact = summed(way, harmed.execution_id) == sha256_of(errand.source)
    check_harmed(way, harmed, seed, what=what, stream_bytes=size_bytes, is_exact=is_exact)


def summed(way: Way, execution_id: int) -> str:
    """Return the SHA-256 that came home."""
    (content,) = way.sender.results(execution_id).values()
    return content.decode().split()[0]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_link_that_is_cut_again_and_again_brings_all_of_it(way: Way, errand: Errand) -> None:
    with errand.source.open("r+b") as file:
        file.write(os.urandom(1 << 20))
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        cuts += 1
        way.proxy.after(48 << 20, cut)
        way.proxy.cut()

    way.proxy.after(48 << 20, cut)
    execution_id = way.sender.execute(errand.workflow)
    assert way.sender.wait(execution_id, timeout_s=120)["status"] == "COMPLETED"
    way.proxy.after(1 << 60, cut)
    assert summed(way, execution_id) == sha256_of(errand.source)
    assert cuts >= 5
    ((attempts,),) = way.sender.rows(
        "SELECT attempts FROM transfers WHERE workflow_execution_id = ? AND direction = 'OUTGOING'", execution_id
    )
    assert attempts >= 5


def test_a_receiver_that_is_killed_when_all_is_in_its_place_takes_nothing_again(way: Way, errand: Errand) -> None:
    with errand.source.open("r+b") as file:
        file.write(os.urandom(1 << 20))
    before = way.proxy.to_client
    execution_id = way.sender.execute(errand.workflow)
    wait_until(lambda: bool(parts(way.receiver)), "a part")
    (part,) = parts(way.receiver)
    while part.exists():  # between the rename and the commit lies the flush
        pass
    killed(way.receiver, way)
    assert way.sender.wait(execution_id, timeout_s=120)["status"] == "COMPLETED"
    assert summed(way, execution_id) == sha256_of(errand.source)
    twice = way.proxy.to_client - before - SIZE_BYTES
    assert twice < SIZE_BYTES * 5 // 100, f"{twice:,} bytes were sent twice"
    assert parts(way.receiver) == []


def parts(peer: Peer) -> list[Path]:
    """Return the folders of a peer that are being filled."""
    return found_below(peer.data_dir / "workflows", ".*.part")
