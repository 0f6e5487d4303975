"""A delivery of 256 MiB whose link is cut, or whose sender or receiver is killed, at a random point: it goes on from there.

`RND_TEST_CUT_SEEDS` (`first:last`) runs other points than these.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rnd.protocol.transfer import WINDOW_BYTES
from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.running_peers import Peer, pair, wait_until

SIZE_BYTES = 256 << 20
SEALED_BYTES = 192 << 20
"""So long that what need not be noted (6 MiB and a frame) is less than the 5 % that may travel twice."""
FIRST, LAST = map(int, os.environ.get("RND_TEST_CUT_SEEDS", "0:20").split(":"))


class Way(NamedTuple):
    """A sender whose only way to its receiver leads through a proxy; the receiver cannot be dialled."""

    sender: Peer
    receiver: Peer
    proxy: CuttingProxy
    source: Path
    workflow: int


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder = tmp_path_factory.mktemp("cuts")
    with cutting_proxy() as proxy:
        sender = Peer(folder / "sender", env={"RND_ADVERTISE": proxy.address})
        receiver = Peer(folder / "receiver")
        receiver.listen_at = ""
        try:
            for peer in (sender, receiver):
                peer.start()
            proxy.target, sender.address = listening_at(sender), proxy.address
            pair(sender, receiver)
            source = folder / "source.bin"
            with source.open("wb") as file:
                for _ in range(SIZE_BYTES >> 20):
                    file.write(os.urandom(1 << 20))
            service = receiver.offer("sum", "sha256sum\n")
            workflow = sender.workflow("delivery")
            node = sender.remote_node(workflow, receiver, service)
            sender.connect(workflow, None, node, source_path=str(source))
            sender.connect(workflow, node, None)
            yield Way(sender, receiver, proxy, source, workflow)
        finally:
            sender.dispose()
            receiver.dispose()


def listening_at(peer: Peer) -> str:
    lines = [line for line in peer.log_lines() if "Listening for peers: address=" in line]
    return lines[-1].rpartition("=")[2]


def killed(peer: Peer, proxy: CuttingProxy, way: Way) -> None:
    assert peer.process is not None
    peer.process.send_signal(signal.SIGKILL)
    peer.process.wait()
    peer.start()
    proxy.target = listening_at(way.sender)


def asked_to_stop(peer: Peer, proxy: CuttingProxy, way: Way) -> None:
    peer.stop()
    peer.start()
    proxy.target = listening_at(way.sender)


HARMS: list[tuple[str, Callable[[Way], None]]] = [
    ("link cut", lambda way: way.proxy.cut()),
    ("sender killed", lambda way: killed(way.sender, way.proxy, way)),
    ("receiver killed", lambda way: killed(way.receiver, way.proxy, way)),
    ("receiver restarted", lambda way: asked_to_stop(way.receiver, way.proxy, way)),
    ("sender restarted", lambda way: asked_to_stop(way.sender, way.proxy, way)),
]


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_a_delivery_goes_on_where_it_was_cut(way: Way, seed: int) -> None:
    chance = random.Random(seed)
    with way.source.open("r+b") as file:
        file.write(chance.randbytes(1 << 20))  # never what has been delivered before
    check_delivery(way, way.workflow, chance, seed, content=way.source)


@pytest.mark.parametrize("seed", range(len(HARMS)))
def test_a_sealed_delivery_goes_on_under_a_new_key(way: Way, seed: int, tmp_path: Path) -> None:
    source = tmp_path / "sealed.bin"
    source.write_bytes(os.urandom(SEALED_BYTES))
    data = way.sender.give(f"sealed {seed}", source, seal=True)
    workflow = way.sender.workflow(f"sealed {seed}")
    node = way.sender.remote_node(workflow, way.receiver, way.receiver.offer(f"sum {seed}", "sha256sum\n"))
    way.sender.connect(workflow, way.sender.node(workflow, data["id"]), node)
    way.sender.connect(workflow, node, None)
    check_delivery(way, workflow, random.Random(seed), seed, content=source)


def check_delivery(way: Way, workflow: int, chance: random.Random, seed: int, *, content: Path) -> None:
    """Have a delivery come to harm at a random point, and see it arrive with little of it sent twice."""
    what, harm = HARMS[seed % len(HARMS)]
    size_bytes = content.stat().st_size
    expected = hashlib.sha256(content.read_bytes()).hexdigest()
    happened = threading.Event()
    way.proxy.after(chance.randrange(1 << 20, size_bytes), happened.set)
    before = way.proxy.to_client
    execution_id = way.sender.execute(workflow)
    assert happened.wait(60), "the bytes did not move"
    at = way.proxy.to_client - before
    harm(way)
    assert way.sender.wait(execution_id, timeout_s=120)["status"] == "COMPLETED"
    (came,) = way.sender.results(execution_id).values()
    assert came.decode().split()[0] == expected, what
    twice = way.proxy.to_client - before - size_bytes
    allowed = size_bytes * 5 // 100 + WINDOW_BYTES
    print(f"seed {seed}: {what} after {at:,} bytes, {twice:,} bytes twice")
    assert twice < allowed, f"{what} after {at:,} bytes: {twice:,} bytes were sent twice"
    folders = list((way.receiver.data_dir / "workflows").rglob("*.part*"))
    assert folders == [], folders
    wait_until(lambda: not way.sender.rows("SELECT 1 FROM transfers WHERE status IN ('PENDING', 'ACTIVE')"), "open")


def test_a_link_that_is_cut_again_and_again_brings_all_of_it(way: Way) -> None:
    with way.source.open("r+b") as file:
        file.write(os.urandom(1 << 20))
    expected = hashlib.sha256(way.source.read_bytes()).hexdigest()
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        cuts += 1
        way.proxy.after(48 << 20, cut)
        way.proxy.cut()

    way.proxy.after(48 << 20, cut)
    execution_id = way.sender.execute(way.workflow)
    assert way.sender.wait(execution_id, timeout_s=120)["status"] == "COMPLETED"
    way.proxy.after(1 << 60, cut)
    (content,) = way.sender.results(execution_id).values()
    assert content.decode().split()[0] == expected
    assert cuts >= 5
    ((attempts,),) = way.sender.rows(
        "SELECT attempts FROM transfers WHERE workflow_execution_id = ? AND direction = 'OUTGOING'", execution_id
    )
    assert attempts >= 5


def test_a_receiver_that_is_killed_when_all_is_in_its_place_takes_nothing_again(way: Way) -> None:
    with way.source.open("r+b") as file:
        file.write(os.urandom(1 << 20))
    expected = hashlib.sha256(way.source.read_bytes()).hexdigest()
    before = way.proxy.to_client
    execution_id = way.sender.execute(way.workflow)
    wait_until(lambda: bool(parts(way.receiver)), "a part")
    (part,) = parts(way.receiver)
    while part.exists():  # between the rename and the commit lies the flush
        pass
    killed(way.receiver, way.proxy, way)
    assert way.sender.wait(execution_id, timeout_s=120)["status"] == "COMPLETED"
    (content,) = way.sender.results(execution_id).values()
    assert content.decode().split()[0] == expected
    twice = way.proxy.to_client - before - SIZE_BYTES
    assert twice < SIZE_BYTES * 5 // 100, f"{twice:,} bytes were sent twice"
    assert parts(way.receiver) == []


def parts(peer: Peer) -> list[Path]:
    """Return the folders of a peer that are being filled."""
    return list((peer.data_dir / "workflows").rglob(".*.part"))
