"""What one peer has delivered to another for the same orchestrator is not sent again; for another orchestrator it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peers import Peer, introduce, running_peers

SIZE_BYTES = 24 << 20


@pytest.fixture
def town(tmp_path: Path) -> Iterator[list[Peer]]:
    with running_peers(tmp_path, "giver", "taker", "home", "other") as peers:
        giver, taker, home, other = peers
        introduce((giver, taker), (home, giver), (home, taker), (other, giver), (other, taker))
        yield peers


def workflow_of(
    orchestrator: Peer, giver: Peer, data: dict[str, object], taker: Peer, program: dict[str, object]
) -> int:
    workflow = orchestrator.workflow("sum")
    first = orchestrator.remote_node(workflow, giver, data)
    second = orchestrator.remote_node(workflow, taker, program)
    orchestrator.connect(workflow, first, second)
    orchestrator.connect(workflow, second, None)
    return workflow


def summed(orchestrator: Peer, workflow: int) -> str:
    execution = orchestrator.run(workflow)
    assert execution["status"] == "COMPLETED", execution["error"]
    (content,) = orchestrator.results(execution["id"]).values()
    return content.decode().split()[0]


def recognised(taker: Peer) -> int:
    return sum("Transfer recognised" in line for line in taker.log_lines())


def test_the_same_again_is_not_sent(town: list[Peer], tmp_path: Path) -> None:
    giver, taker, home, other = town
    source = tmp_path / "data.bin"
    source.write_bytes(os.urandom(SIZE_BYTES))
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    data, program = giver.give("data", source), taker.offer("sum", "sha256sum\n")
    at_home = workflow_of(home, giver, data, taker, program)
    elsewhere = workflow_of(other, giver, data, taker, program)
    assert summed(home, at_home) == expected
    assert recognised(taker) == 0
    assert summed(home, at_home) == expected
    assert recognised(taker) == 1
    assert summed(other, elsewhere) == expected
    assert recognised(taker) == 1, "what one orchestrator ordered was compared for another"
    for path in (taker.data_dir / "workflows").rglob("input/*/*"):
        if not path.name.startswith("."):
            for file in path.rglob("*.bin"):
                file.write_bytes(b"?" * SIZE_BYTES)
    assert summed(home, at_home) == expected, "what was changed meanwhile was taken for what had come"
    assert recognised(taker) == 1
