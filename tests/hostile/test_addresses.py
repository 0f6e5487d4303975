"""Where peers are said to be: forged, old, foreign and dangerous address records, and what a peer can have others dial."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from rnd.p2p.peer_manager import STRANGERS_TOLD_MAX
from rnd.protocol.codec import encode
from rnd.protocol.messages import Hello, JobResponseMessage, Ping, Pong, ReachRequest, ReachResponse, Refusal
from rnd.protocol.session import CloseCode
from rnd.types.enums import MountFunction
from rnd.types.ids import ConnectionId
from rnd.types.peers import AddressRecord, RefusalCode
from tests.hostile.scripted_peer import CONTROL, ScriptedLink, ScriptedPeer, cast
from tests.hostile.stage import Daemon, daemon, end, fresh_uid, job_plan, order, play, request, route, start
from tests.running_peers import wait_until

GOOD = "192.0.2.7:30906"


def teller() -> ScriptedPeer:
    return ScriptedPeer("addresses teller")


def subject() -> ScriptedPeer:
    return ScriptedPeer("addresses subject")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("addresses"), {teller(): "allowed"}) as peer:
        peer.cat()
        yield peer


def known(peer: Daemon, who: ScriptedPeer) -> list[str] | None:
    """Return where the daemon believes a peer to be."""
    rows = peer.rows("SELECT addresses FROM address_records WHERE peer_id = ?", who.peer_id)
    return json.loads(rows[0][0]) if rows else None


async def passed_on(link: ScriptedLink, peer: Daemon, record: dict[str, Any]) -> bool:
    """Pass a record on within an order; say whether the message was taken."""
    plan = job_plan(peer.peer_id, {"id": 99, "name": "none", "service_type": "STANDALONE"})
    text = encode(request(fresh_uid(), plan, addresses=(teller().record(GOOD),)), id=1)
    fields = json.loads(text) | {"addresses": [record], "id": 0}
    answer = await link.ask_text(json.dumps(fields).replace('"id": 0', '"id": {id}'))
    if isinstance(answer, Refusal):
        assert answer.code is RefusalCode.MALFORMED, answer
        return False
    return True


def fields(record: AddressRecord, **more: Any) -> dict[str, Any]:
    """Return a record as JSON, changed after it was signed."""
    written: dict[str, Any] = {
        "peer_id": record.peer_id,
        "addresses": list(record.addresses),
        "issued_at_ms": record.issued_at_ms,
        "signature": record.signature,
    }
    return written | more


FORGED: dict[str, dict[str, Any]] = {
    "an address put in its place": fields(subject().record(GOOD), addresses=["192.0.2.66:1"]),
    "an address added": fields(subject().record(GOOD), addresses=[GOOD, "192.0.2.66:1"]),
    "made newer": fields(subject().record(GOOD), issued_at_ms=1_900_000_000_000),
    "another peer's": fields(teller().record(GOOD), peer_id=subject().peer_id),
    "no signature": fields(subject().record(GOOD), signature=""),
    "a fifth": fields(
        subject().record(*[f"192.0.2.{n}:1" for n in range(4)]), addresses=[f"192.0.2.{n}:1" for n in range(5)]
    ),
    "a name": fields(subject().record(GOOD), addresses=["example.org:80"]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_makes_its_message_malformed(peer: Daemon, name: str) -> None:
    async def test() -> None:
        async with teller() as who:
            before = known(peer, subject())
            assert not await passed_on(await peer.control(who), peer, FORGED[name])
            assert known(peer, subject()) == before

    play(test())


def test_an_older_record_does_not_come_back(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := teller(), about := ScriptedPeer("addresses moved")):
            link = await peer.control(who)
            old, new = about.record("192.0.2.1:1", issued_at_ms=10), about.record("192.0.2.2:2", issued_at_ms=20)
            gone = about.record(issued_at_ms=30)
            for record, then in ((new, ["192.0.2.2:2"]), (old, ["192.0.2.2:2"]), (gone, []), (new, []), (old, [])):
                assert await passed_on(link, peer, fields(record))
                assert known(peer, about) == then

    play(test())


def test_a_peer_that_tells_of_very_many_strangers_is_believed_about_the_last_ones(peer: Daemon) -> None:
    strangers = [ScriptedPeer(f"addresses stranger {number}") for number in range(STRANGERS_TOLD_MAX + 100)]
    plan = job_plan(peer.peer_id, {"id": 99, "name": "none", "service_type": "STANDALONE"})

    async def test() -> None:
        async with teller() as who:
            link = await peer.control(who)
            for first in range(0, len(strangers), 100):
                records = tuple(each.record(GOOD) for each in strangers[first : first + 100])
                assert isinstance(await link.ask(request(fresh_uid(), plan, addresses=records)), JobResponseMessage)

    play(test())
    assert [known(peer, each) for each in strangers[:100]] == [None] * 100
    assert [known(peer, each) for each in strangers[-100:]] == [[GOOD]] * 100


def test_nobody_tells_a_peer_where_it_is_itself_nor_greets_with_anothers_record(peer: Daemon) -> None:
    async def test() -> None:
        async with teller() as who:
            link = await who.link(
                peer.peer_id, peer.address, CONTROL, hello=who.hello(addresses=subject().record(GOOD))
            )
            assert await link.until_over() == CloseCode.MALFORMED
            link = await peer.control(who)
            hello = link.heard_of(Hello)[0]
            assert isinstance(hello, Hello)
            assert hello.addresses is not None
            assert hello.addresses.addresses == (peer.address,)
            await passed_on(link, peer, fields(hello.addresses))
            assert peer.rows("SELECT COUNT(*) FROM address_records WHERE peer_id = ?", peer.peer_id) == [(0,)]

    play(test())


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254:80", "100.100.100.200:80", "0.0.0.0:80", "224.0.0.1:80", "[fe80::1]:80", "[fd00:ec2::254]:80"],
)
def test_places_that_are_never_dialled_are_not_dialled_for_others(peer: Daemon, address: str) -> None:
    async def test() -> None:
        async with cast(who := teller(), about := ScriptedPeer(f"addresses at {address}")):
            link = await peer.control(who)
            answer = await link.ask(ReachRequest(addresses=about.record(address)), within_s=3)
            assert isinstance(answer, ReachResponse)
            assert not answer.reachable
            assert "no address" in answer.reason

    play(test())


def test_what_answers_at_an_address_learns_nothing_and_nothing_of_it_is_told(peer: Daemon) -> None:
    """A reach_request that points at some service of the daemon's network: it sees a TLS greeting, and its words go nowhere."""
    heard: list[bytes] = []

    async def test() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(4_096))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nthe secret of this service")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, cast(who := teller(), about := ScriptedPeer("addresses inside")):
            link = await peer.control(who)
            answer = await link.ask(ReachRequest(addresses=about.record(f"127.0.0.1:{port}")))
            assert isinstance(answer, ReachResponse)
            assert not answer.reachable
            assert "secret" not in answer.reason
            assert isinstance(await link.ask(Ping()), Pong)

    play(test())
    assert all(data[:1] == b"\x16" for data in heard)  # the first record of a TLS handshake


def test_senders_that_do_not_exist_are_not_dialled_without_end(peer: Daemon) -> None:
    """An order that expects bytes from many made-up peers, all at one victim's address."""
    made_up = [ScriptedPeer(f"addresses made up {number}") for number in range(20)]
    with socket.create_server(("127.0.0.1", 0), backlog=1_000) as victim:
        victim.settimeout(0.2)
        port = victim.getsockname()[1]

        async def test() -> None:
            async with teller() as who:
                link = await peer.control(who)
                inputs = [
                    end(each.peer_id, ConnectionId(number), MountFunction.OUTPUT)
                    for number, each in enumerate(made_up, start=1)
                ]
                plan = job_plan(peer.peer_id, {"id": 1, "name": "cat", "service_type": "STANDALONE"}, inputs=inputs)
                records = tuple(each.record(f"127.0.0.1:{port}") for each in made_up)
                for _ in range(5):
                    uid = fresh_uid()
                    job_id = await order(link, uid, plan, addresses=records)
                    await start(link, uid, job_id, *(route(ConnectionId(n), 1) for n in range(1, 21)))

        play(test())
        came = 0
        wait_until(lambda: peer.rows("SELECT COUNT(*) FROM introductions")[0][0] >= 100, "they are introduced")
        try:
            while came < 1_000:
                connection, _ = victim.accept()
                connection.close()
                came += 1
        except TimeoutError:
            pass
        assert came <= len(made_up) + 5
