"""How far a delivery between two peers is, how fast it goes and how long it still takes, told by both while it goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.command import Rnd
from tests.cutting_proxy import PIECE_BYTES, CuttingProxy, cutting_proxy
from tests.running_peers import Peer, pair, wait_until

SIZE_BYTES = 96 << 20
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")
PAUSE_S = 0.003
FASTEST_BYTES_S = PIECE_BYTES / PAUSE_S


class Way(NamedTuple):
    """An orchestrator that sends to a receiver over a slow way, and a workflow that does it."""

    sender: Peer
    receiver: Peer
    proxy: CuttingProxy
    workflow: int
    source: Path


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder = tmp_path_factory.mktemp("progress")
    with cutting_proxy() as proxy:
        sender = Peer(folder / "sender", env={"RND_ADVERTISE": proxy.address, "RND_LOG_LEVEL": "INFO"})
        receiver = Peer(folder / "receiver", env={"RND_LOG_LEVEL": "DEBUG"})
        receiver.listen_at = ""
        try:
            for peer in (sender, receiver):
                peer.start()
            line = next(each for each in sender.log_lines() if "Listening for peers: address=" in each)
            proxy.target, sender.address = line.rpartition("=")[2], proxy.address
            pair(sender, receiver)
            source = folder / "source.bin"
            with source.open("wb") as file:
                for _ in range(SIZE_BYTES >> 20):
                    file.write(os.urandom(1 << 20))
            workflow = sender.workflow("delivery")
            node = sender.remote_node(workflow, receiver, receiver.offer("count", "wc -c\n"))
            sender.connect(workflow, None, node, source_path=str(source))
            sender.connect(workflow, node, None)
            yield Way(sender, receiver, proxy, workflow, source)
        finally:
            sender.dispose()
            receiver.dispose()


def active(peer: Peer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = peer.call("transfer.list", status="ACTIVE")["items"]
    return items


def followed(way: Way, execution_id: int) -> dict[Peer, list[dict[str, Any]]]:
    """Return what both peers say of the delivery, looked at again and again until the execution has ended."""
    told: dict[Peer, list[dict[str, Any]]] = {way.sender: [], way.receiver: []}
    for _ in range(400):
        for peer, seen in told.items():
            seen += [each for each in active(peer) if each["size_bytes"] == SIZE_BYTES]
        if way.sender.call("execution.get", execution_id=execution_id)["status"] in FINISHED:
            break
        time.sleep(0.1)
    return told


def check_rates(told: list[dict[str, Any]]) -> None:
    done = [each["bytes_done"] for each in told]
    assert done == sorted(done)
    assert len(set(done)) >= 4, "it is told several times how far it is"
    rated = [each for each in told if each["rate_bytes_s"]]
    assert rated
    for each in rated:
        assert each["rate_bytes_s"] < 1.5 * FASTEST_BYTES_S
        assert each["left_s"] == pytest.approx((SIZE_BYTES - each["bytes_done"]) / each["rate_bytes_s"], abs=0.06)
    assert 0 < rated[len(rated) // 2]["bytes_done"] < SIZE_BYTES


def test_both_ends_tell_how_far_and_how_fast_and_a_resumed_one_does_not_count_what_it_had(way: Way) -> None:
    way.proxy.pause_s = PAUSE_S
    before = {peer: peer.call("events.poll", after_seq=0, types=["transfer.progress"])["next_seq"] for peer in way[:2]}
    way.proxy.after(SIZE_BYTES * 2 // 3, way.proxy.cut)
    execution_id = way.sender.execute(way.workflow)
    told = followed(way, execution_id)
    assert way.sender.wait(execution_id)["status"] == "COMPLETED"
    for peer, seen in told.items():
        ((transfer_id, attempts),) = peer.rows(
            "SELECT transfer_id, attempts FROM transfers WHERE size_bytes = ?", SIZE_BYTES
        )
        assert attempts >= 2
        check_rates(seen)
        done = peer.call("transfer.get", transfer_id=transfer_id)
        assert (done["status"], done["bytes_done"], done["left_s"]) == ("COMPLETED", SIZE_BYTES, None)
        assert 0 < done["rate_bytes_s"] < 1.5 * FASTEST_BYTES_S
        events = peer.call("events.poll", after_seq=before[peer], types=["transfer.progress"])["items"]
        mine = [each for each in events if each["data"]["transfer_id"] == transfer_id]
        steps = [each["data"] for each in mine if each["data"]["status"] == "ACTIVE"]
        assert len({each["bytes_done"] for each in steps}) >= 4
        assert any(each["rate_bytes_s"] and each["left_s"] for each in steps)
        seconds = [each["time"][:19] for each in mine if each["data"]["rate_bytes_s"]]
        assert max(map(seconds.count, seconds)) <= 4
    assert not [line for line in way.sender.log_lines() if "chunk=" in line]
    chunks = [line for line in way.receiver.log_lines() if "chunk=" in line]
    assert chunks
    assert all("[DEBUG]" in line for line in chunks)


def test_the_command_shows_what_moves_in_lines_and_as_json(way: Way, tmp_path: Path) -> None:
    way.proxy.pause_s = PAUSE_S
    with way.source.open("r+b") as file:
        file.write(os.urandom(1 << 20))  # what has been delivered before is not sent again
    home = tmp_path / "desk"
    home.mkdir()
    rnd = Rnd(data_dir=way.sender.data_dir, home=home)
    execution_id = way.sender.execute(way.workflow)
    wait_until(lambda: any(each["rate_bytes_s"] for each in active(way.sender)), "it moves")
    watching = [
        subprocess.Popen(
            rnd.command("watch", str(execution_id), *more),
            cwd=home,
            env=rnd.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for more in ([], ["--json"])
    ]
    (_, plain), (document, lines) = (each.communicate(timeout=60) for each in watching)
    assert re.search(
        rf"execution {execution_id}: self-peer -> count  \d+\.\d MiB of 96\.0 MiB \(\d+%\)  \d+\.\d MiB/s, [\dms. ]+ left",
        plain,
    ), plain
    told = [json.loads(line)["transfer"] for line in lines.splitlines()]
    moving = [each for each in told if each["size_bytes"] == SIZE_BYTES]  # the result comes home as well
    assert len(moving) >= 2
    assert all(each["bytes_done"] <= SIZE_BYTES and each["rate_bytes_s"] for each in moving)
    assert json.loads(document)["status"] == "COMPLETED"
