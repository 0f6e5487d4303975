"""Deliveries whose bytes go as text: they arrive like all others, from and to peers that say nothing of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peers import Peer, pair

SIZE_BYTES = (3 << 20) + 5


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    folder = tmp_path_factory.mktemp("codec")
    talker = Peer(folder / "talker", env={"RND_DATA_CODEC": "base64"})
    other = Peer(folder / "other")
    try:
        for peer in (talker, other):
            peer.start()
        pair(talker, other)
        yield talker, other
    finally:
        for peer in (talker, other):
            if peer.process is not None:
                peer.stop()


@pytest.mark.parametrize("seal", [False, True])
def test_bytes_as_text_there_and_in_binary_back(peers: tuple[Peer, Peer], tmp_path: Path, seal: bool) -> None:
    talker, other = peers
    content = os.urandom(SIZE_BYTES)
    source = tmp_path / f"source-{seal}.bin"
    source.write_bytes(content)
    data = talker.call("service.create", name=source.name, service_type="DATA", paths=[str(source)], seal=seal)
    program = other.offer(f"sum-{seal}", "sha256sum\n")
    workflow = talker.workflow(f"text-{seal}")
    node = talker.remote_node(workflow, other, program)
    talker.connect(workflow, talker.node(workflow, data["id"]), node)
    talker.connect(workflow, node, None)
    execution_id = talker.execute(workflow)
    assert talker.wait(execution_id)["status"] == "COMPLETED"
    (result,) = talker.results(execution_id).values()
    assert result.split()[0].decode() == hashlib.sha256(content).hexdigest()
    ((sent,),) = other.rows("SELECT sealed FROM transfers WHERE direction = 'INCOMING' ORDER BY rowid DESC LIMIT 1")
    assert bool(sent) is seal
