"""Deliveries along a slow line: they go on for as long as bytes move, in one attempt; a line on which nothing moves is given up."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.running_peers import Peer, pair, wait_until

LONGEST_FRAMES = {"RND_CHUNK_BYTES": str(8 << 20)}
GIVEN_UP_AFTER_S = 22.5
LOOKED_EVERY_S = 1.0
SHARE_AT_LEAST = 0.8
SAID_WITHIN_S = 1.0
"""A frame alone takes as long on the slowest line here, and several stand before what is said there."""
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


def begin_several(folder: Path, sender: Peer, receiver: Peer, *sizes_bytes: int) -> int:
    """Have a file of each size delivered to a job of its own, all by one execution; return that."""
    workflow = sender.workflow("several")
    program = receiver.offer("count all", "wc -c")
    for size_bytes in sizes_bytes:
        source = folder / f"{size_bytes}.bin"
        source.write_bytes(os.urandom(size_bytes))
        sink = sender.remote_node(workflow, receiver, program)
        sender.connect(workflow, None, sink, source_path=str(source))
    return sender.execute(workflow)


def arrivals(receiver: Peer) -> list[tuple[datetime, datetime]]:
    """Return when the content of each delivery that has come began to move and when it was whole, by the latter."""
    sql = """
        SELECT started_at, completed_at FROM transfers WHERE direction = 'INCOMING' AND status = 'COMPLETED'
        ORDER BY completed_at
    """
    return [(datetime.fromisoformat(began), datetime.fromisoformat(ended)) for began, ended in receiver.rows(sql)]


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


def test_deliveries_on_one_line_get_equal_shares_of_it(tmp_path: Path) -> None:
    """While both moved, the one that came later got at least four fifths of what the other got."""
    size_bytes, rate_bytes_s = 6_000_000, 1_000_000
    with running_slow_way(tmp_path, rate_bytes_s=rate_bytes_s) as (sender, receiver, _):
        begun = begin_several(tmp_path, sender, receiver, size_bytes, size_bytes + 1)
        assert sender.wait(begun, timeout_s=60)["status"] == "COMPLETED"
        (first_began, first_ended), (other_began, other_ended) = arrivals(receiver)
        assert abs((other_began - first_began).total_seconds()) < 1
        came_alone_bytes = (other_ended - first_ended).total_seconds() * rate_bytes_s
        assert 1 - came_alone_bytes / size_bytes > SHARE_AT_LEAST


def test_a_small_delivery_passes_a_large_one_on_the_same_line(tmp_path: Path) -> None:
    with running_slow_way(tmp_path, rate_bytes_s=1_000_000) as (sender, receiver, _):
        large = begin(tmp_path, sender, receiver, 8_000_000)
        sender.until("SELECT count(*) FROM transfers WHERE bytes_done > 1000000", 1)
        small = begin_several(tmp_path, sender, receiver, 1024)
        assert sender.wait(small, timeout_s=30)["status"] == "COMPLETED"
        ((done_bytes,),) = sender.rows("SELECT bytes_done FROM transfers WHERE size_bytes = 8000000")
        assert done_bytes < 6_000_000, "the small one waited for the large one"
        assert sender.wait(large, timeout_s=30)["status"] == "COMPLETED"


def test_questions_and_cancels_never_wait_behind_bytes(tmp_path: Path) -> None:
    """On the data link what is under way takes seconds to leave; what is said on the control link is there at once."""
    with running_slow_way(tmp_path, rate_bytes_s=16_000) as (sender, receiver, _):
        execution_id = begin(tmp_path, sender, receiver, 4_000_000)
        sender.until("SELECT count(*) FROM transfers WHERE bytes_done > 30000", 1)
        for asker, other in ((sender, receiver), (receiver, sender)):
            pings_ms = [asker.call("peer.ping", peer_id=other.peer_id)["rtt_ms"] for _ in range(10)]
            assert max(pings_ms) < 1_000 * SAID_WITHIN_S, pings_ms
        began_s = time.monotonic()
        sender.call("execution.cancel", execution_id=execution_id, reason="enough")
        receiver.until("SELECT status FROM job_executions", "CANCELLED", within_s=SAID_WITHIN_S)
        assert time.monotonic() - began_s < SAID_WITHIN_S


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
