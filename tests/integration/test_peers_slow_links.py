"""Deliveries along a slow line: they go on for as long as bytes move, in one attempt; a line on which nothing moves is given up."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.running_peers import Peer, pair, wait_until

LONGEST_FRAMES = {"RND_CHUNK_BYTES": str(8 << 20)}
GIVEN_UP_AFTER_S = 22.5
LOOKED_EVERY_S = 1.0
GIVEN_UP = re.compile(r"Peer link given up: .*link=/data, reason=(.*)")


@contextlib.contextmanager
def running_slow_way(folder: Path, *, rate_bytes_s: float) -> Iterator[tuple[Peer, Peer, CuttingProxy]]:
    """Run a sender whose only way to its receiver is slow; the receiver cannot be dialled."""
    with cutting_proxy(rate_bytes_s=rate_bytes_s) as proxy:
        sender = Peer(folder / "sender", env={"RND_ADVERTISE": proxy.address, **LONGEST_FRAMES})
        receiver = Peer(folder / "receiver")
        receiver.listen_at = ""
        try:
            for peer in (sender, receiver):
                peer.start()
            listening = [line for line in sender.log_lines() if "Listening for peers: address=" in line]
            proxy.target, sender.address = listening[-1].rpartition("=")[2], proxy.address
            pair(sender, receiver)
            yield sender, receiver, proxy
        finally:
            sender.dispose()
            receiver.dispose()


def begin(folder: Path, sender: Peer, receiver: Peer, size_bytes: int) -> int:
    """Have a file delivered to a job of the receiver; return the execution."""
    source = folder / "source.bin"
    source.write_bytes(os.urandom(size_bytes))
    workflow = sender.workflow("slow")
    sink = sender.remote_node(workflow, receiver, receiver.offer("count", "wc -c"))
    sender.connect(workflow, None, sink, source_path=str(source))
    return sender.execute(workflow)


def gives_up_data_link(peer: Peer) -> bool:
    return bool(GIVEN_UP.search(peer.log()))


@pytest.mark.parametrize(
    ("kbit_s", "size_bytes"), [(256, 1_000_000), (1_000, 4_000_000)], ids=["256 kbit/s", "1 Mbit/s"]
)
def test_a_delivery_along_a_slow_line_arrives_in_one_attempt(tmp_path: Path, kbit_s: int, size_bytes: int) -> None:
    with running_slow_way(tmp_path, rate_bytes_s=kbit_s * 125) as (sender, receiver, proxy):
        before = proxy.to_client
        execution = sender.wait(begin(tmp_path, sender, receiver, size_bytes), timeout_s=100)
        assert execution["status"] == "COMPLETED", execution
        assert (
            sender.rows("SELECT attempts FROM transfers") == receiver.rows("SELECT attempts FROM transfers") == [(1,)]
        )
        assert proxy.to_client - before < 1.1 * size_bytes
        for peer in (sender, receiver):
            assert "link given up" not in peer.log()


def test_a_line_on_which_nothing_moves_any_more_is_given_up_by_both_ends(tmp_path: Path) -> None:
    with running_slow_way(tmp_path, rate_bytes_s=256 * 125) as (sender, receiver, proxy):
        begin(tmp_path, sender, receiver, 4_000_000)
        sender.until("SELECT count(*) FROM transfers WHERE bytes_done > 100000", 1)
        proxy.is_held = True
        held_s = time.monotonic()
        for peer in (sender, receiver):
            wait_until(partial(gives_up_data_link, peer), "the data link is given up", within_s=60)
        took_s = time.monotonic() - held_s
        assert GIVEN_UP_AFTER_S - 2 < took_s < GIVEN_UP_AFTER_S + 3 * LOOKED_EVERY_S
        for peer in (sender, receiver):
            (why,) = GIVEN_UP.findall(peer.log())
            assert re.fullmatch(r"no sign of life for 2[1-5] s", why), why
        sender.until("SELECT count(*) FROM transfers WHERE error LIKE '%no sign of life for 2_ s%'", 1)
