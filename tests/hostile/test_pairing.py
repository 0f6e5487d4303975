"""Invites: one secret, one peer, five tries, at both gates; and whoever answers to one has to know its secret as well."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rnd.p2p.listener import Admission, PeerListener
from rnd.p2p.pairing import JOIN_PATH, TRIES
from rnd.p2p.tls import ServerGate
from rnd.protocol.invites import InviteKey, JoinRole, derive_key, join_proof, new_invite, parse_invite
from rnd.protocol.joining import JoinAnswer, JoinQuestion, decode_answer, encode_answer, encode_question
from rnd.rules.addresses import parse_peer_address
from rnd.types.enums import TlsGate
from rnd.types.errors import PeerRefused
from rnd.types.ids import PeerId
from rnd.types.peers import AddressRecord
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedPeer, cast
from tests.hostile.stage import Daemon, daemon, play
from tests.running_peer import RpcError

NOT_LIVE = "not live"
NOT_ADMITTED = "does not admit this peer"
WRONG = "not that one"

_numbers = itertools.count(1)


def guest() -> ScriptedPeer:
    """Return somebody who has never been here."""
    return ScriptedPeer(f"pairing guest {next(_numbers)}")


def denied() -> ScriptedPeer:
    return ScriptedPeer("pairing denied")


@pytest.fixture(scope="module", params=["open", "pinned"])
def peer(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with daemon(
        tmp_path_factory.mktemp("pairing"), {denied(): "denied"}, config=f'tls_gate = "{request.param}"\n'
    ) as peer:
        yield peer


def invited(peer: Daemon) -> InviteKey:
    """Have an invite made; return what its line leads to."""
    return derive_key(parse_invite(peer.call("peer.invite")["invite"]).secret)


def proof(peer: Daemon, who: ScriptedPeer, key: InviteKey, role: JoinRole = JoinRole.JOINER) -> str:
    return join_proof(key.key, role, inviter=PeerId(peer.peer_id), joiner=who.peer_id)


async def join(
    peer: Daemon, who: ScriptedPeer, key: InviteKey, said: str | None = None, record: AddressRecord | None = None
) -> str:
    """Ask to be let in with a proof; return "" if it is, else the refusal in words."""
    words = proof(peer, who, key) if said is None else said
    question = JoinQuestion(invite_id=key.invite_id, name=who.name, proof=words, addresses=record)
    where = [parse_peer_address(peer.address, names_allowed=False)]
    try:
        body = await who.dialer.post_json(PeerId(peer.peer_id), where, JOIN_PATH, json.loads(encode_question(question)))
    except PeerRefused as error:
        return str(error)
    assert decode_answer(json.dumps(body)).proof == proof(peer, who, key, JoinRole.INVITER)
    return ""


def is_allowed(peer: Daemon, who: ScriptedPeer) -> bool:
    return peer.rows("SELECT state FROM peers WHERE peer_id = ?", who.peer_id) == [("allowed",)]


def test_of_many_that_come_with_one_invite_at_once_one_is_let_in(peer: Daemon) -> None:
    guests = [guest() for _ in range(6)]

    async def test() -> None:
        async with cast(*guests):
            key = invited(peer)
            answers = await asyncio.gather(*(join(peer, who, key) for who in guests))
            (winner,) = [who for who, refusal in zip(guests, answers, strict=True) if not refusal]
            # Who comes when the last invite is used up may find the door closed again before he can say what for.
            losers = [refusal for refusal in answers if refusal]
            assert [refusal for refusal in losers if NOT_LIVE not in refusal and NOT_ADMITTED not in refusal] == []
            assert [who for who in guests if is_allowed(peer, who)] == [winner]
            assert await join(peer, winner, key) == ""  # it may not have heard the answer
            assert await winner.refusal(peer.peer_id, peer.address, CONTROL) is None

    play(test())


@pytest.mark.parametrize("said", ["nothing", "another's", "the inviter's"])
def test_without_the_secret_nobody_comes_in_and_five_tries_end_an_invite(peer: Daemon, said: str) -> None:
    async def test() -> None:
        async with cast(who := guest(), other := guest()):
            key = invited(peer)
            words = {
                "nothing": "0" * 64,
                "another's": proof(peer, other, key),
                "the inviter's": proof(peer, who, key, JoinRole.INVITER),
            }[said]
            answers = await asyncio.gather(
                *(join(peer, who, key, words) for _ in range(4 * TRIES)), return_exceptions=True
            )
            assert sum(isinstance(each, str) and WRONG in each for each in answers) == TRIES
            assert not is_allowed(peer, who)
            invited(peer)  # the door is open again, and yet
            assert NOT_LIVE in await join(peer, who, key)
            assert not is_allowed(peer, who)

    play(test())


def test_whoever_is_shut_out_does_not_come_back_by_an_invite(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := guest(), never := denied()):
            key = invited(peer)
            assert "does not admit" in await join(peer, never, key)
            assert await join(peer, who, key) == ""
            peer.call("peer.set_state", peer_id=who.peer_id, state="pending")
            invited(peer)
            assert NOT_LIVE in await join(peer, who, key)
            peer.call("peer.remove", peer_id=who.peer_id)
            assert NOT_LIVE in await join(peer, who, key)
            assert not is_allowed(peer, who)

    play(test())


def test_a_guest_gets_no_further_than_its_question_and_tells_no_other_peers_addresses(peer: Daemon) -> None:
    async def test() -> None:
        async with cast(who := guest(), other := guest()):
            key = invited(peer)
            for kind in (CONTROL, DATA):
                assert "does not admit" in str(await who.refusal(peer.peer_id, peer.address, kind))
            assert await join(peer, who, key, record=other.record("127.0.0.1:9")) == ""
            assert peer.rows("SELECT 1 FROM address_records WHERE peer_id = ?", other.peer_id) == []

    play(test())


@asynccontextmanager
async def false_inviter(who: ScriptedPeer, answer: JoinAnswer) -> AsyncIterator[str]:
    """Listen as a peer that answers every question so, whether it knows the secret or not; give its address."""

    async def respond(_: web.Request) -> web.Response:
        return web.Response(text=encode_answer(answer), content_type="application/json")

    listener = PeerListener(
        ServerGate(who.identity, TlsGate.OPEN),
        "127.0.0.1",
        0,
        routes=[web.post(JOIN_PATH, respond)],
        admit=lambda *_: Admission.GUEST,
    )
    await listener.start()
    running = asyncio.ensure_future(listener.run())
    try:
        yield f"127.0.0.1:{listener.port}"
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("said", ["nothing", "the joiner's", "another's"])
def test_who_answers_without_knowing_the_secret_is_not_allowed(peer: Daemon, said: str) -> None:
    async def test() -> None:
        who, secret = guest(), bytes(range(16))
        key = derive_key(secret)

        def proof_of(role: JoinRole, joiner: PeerId) -> str:
            return join_proof(key.key, role, inviter=who.peer_id, joiner=joiner)

        words = {
            "nothing": "0" * 64,
            "the joiner's": proof_of(JoinRole.JOINER, PeerId(peer.peer_id)),
            "another's": proof_of(JoinRole.INVITER, guest().peer_id),
        }[said]
        async with false_inviter(who, JoinAnswer(name="x", proof=words, addresses=None)) as address:
            line = new_invite(who.peer_id, [address], secret)
            with pytest.raises(RpcError, match="does not know the secret"):
                await asyncio.to_thread(peer.call, "peer.join", invite=line)
        assert not is_allowed(peer, who)

    play(test())
