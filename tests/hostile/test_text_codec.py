"""A peer that is told to send its bytes as text: its receiver hears nothing but text, whole and in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rnd.protocol.messages import DataChunk
from tests.hostile.scripted_peer import ScriptedPeer, cast
from tests.hostile.stage import Daemon, daemon, play
from tests.hostile.test_outgoing_bytes import CONTENT, order_for, orderer, receiving, until


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("text")
    (folder / "data.bin").write_bytes(CONTENT)
    standings = {ScriptedPeer(f"outgoing {name}"): "allowed" for name in ("orderer", "receiver")}
    config = 'data_codec = "base64"\nchunk_bytes = 300000\n'
    with daemon(folder, standings, config=config) as peer:
        peer.data("data", folder / "data.bin")
        yield peer


def test_all_bytes_go_as_text(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := orderer()), receiving(peer) as (receiver, taking):
            order = await order_for(peer, await peer.control(who), receiver)
            await until(lambda: order.transfer()[0] == "COMPLETED", "it is delivered")
            assert taking.link is not None
            assert taking.link.frames == []
            (offer,) = taking.offers
            chunks = [each for each in taking.link.heard_of(DataChunk) if isinstance(each, DataChunk)]
            assert [each.stream for each in chunks] == [offer.stream] * len(chunks)
            stream = b""
            for chunk in chunks:
                assert chunk.offset == len(stream)
                assert len(chunk.data) <= 300_000
                stream += chunk.data
            assert stream[offer.manifest_bytes :] == CONTENT

    play(test())
