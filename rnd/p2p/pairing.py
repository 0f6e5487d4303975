"""Pairing by invite: one line carried from machine to machine by their owners (docs/wire.md, section 3)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from rnd.database import address_records, peer_invites, peers
from rnd.database.connection import Database
from rnd.log import get_logger
from rnd.p2p.dialing import Dialer
from rnd.p2p.listener import peer_of, refusal
from rnd.p2p.peer_book import PeerBook
from rnd.protocol.invites import (
    SECRET_BYTES,
    JoinRole,
    derive_key,
    join_proof,
    new_invite,
    parse_invite,
    proof_holds,
)
from rnd.protocol.joining import (
    JoinAnswer,
    JoinQuestion,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from rnd.rules.addresses import PeerAddress, parse_peer_address
from rnd.types.errors import (
    ApplicationError,
    Conflict,
    LimitExceeded,
    MalformedInvite,
    MalformedMessage,
    PeerRefused,
    PermissionDenied,
    StaleState,
)
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.peers import AddressRecord, Peer
from rnd.types.seams import Clock, Entropy

TRIES: Final = 5
JOIN_PATH: Final = "/join"

log = get_logger()


class BadInvite(ApplicationError):
    """The line is not an invite that can be accepted; the message says what is wrong with it."""

    code = 1100
    error = "VALIDATION_FAILED"
    default_hint = "Ask for a new invite on the other machine: rnd peer invite."


class Pairing:
    """Makes invites, accepts them on another machine, and answers those who come with one."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        dialer: Dialer,
        book: PeerBook,
        name: str,
        peers_at_most: int,
        peer_id: PeerId,
        own_record: Callable[[], AddressRecord | None],
        own_addresses: Callable[[], Sequence[str]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._dialer = dialer
        self._book = book
        self._name = name
        self._peers_at_most = peers_at_most
        self._peer_id = peer_id
        self._own_record = own_record
        self._own_addresses = own_addresses

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the listener's route for those who accept an invite."""
        return (web.post(JOIN_PATH, self._answer),)

    async def invite(self, valid_s: float) -> tuple[str, datetime]:
        """Return the line of a new invite and when it ends. Raises `Conflict` where nobody could reach this peer."""
        addresses = self._own_addresses()
        if not addresses:
            raise Conflict(
                "This peer has no address that another could dial",
                hint="Start it with --peer HOST:PORT, or name its addresses with the config key advertise.",
            )
        secret = self._entropy.random_bytes(SECRET_BYTES)
        line = new_invite(self._peer_id, addresses, secret)
        key = derive_key(secret)
        now = self._clock.now()
        expires_at = now + timedelta(seconds=valid_s)
        await self._database.write(
            lambda conn: peer_invites.create_invite(
                conn, invite_id=key.invite_id, key=key.key, expires_at=expires_at, tries=TRIES, now=now
            )
        )
        await self._book.refresh()
        return line, expires_at

    async def join(self, line: str) -> Peer:
        """Accept an invite: afterwards both sides allow each other.

        Raises `BadInvite`, `Conflict` (it is this peer's own, or its peer is denied here), `PeerUnreachable`, and
        `PeerRefused` with the other side's words.
        """
        try:
            invite = parse_invite(line)
        except MalformedInvite as error:
            raise BadInvite(f"This invite cannot be used: {error}") from error
        if invite.peer_id == self._peer_id:
            raise Conflict("This invite is this peer's own", hint="Accept it on the other machine.")
        key = derive_key(invite.secret)
        question = JoinQuestion(
            invite_id=key.invite_id,
            name=self._name,
            proof=join_proof(key.key, JoinRole.JOINER, inviter=invite.peer_id, joiner=self._peer_id),
            addresses=self._own_record(),
        )
        try:
            body = await self._dialer.post_json(
                invite.peer_id, _parsed(invite.addresses), JOIN_PATH, json.loads(encode_question(question))
            )
        except PeerRefused as refused:
            words = refused.reason or refused.message
            raise PeerRefused(
                f"peer {invite.peer_id} does not take this invite: {words}",
                hint=BadInvite.default_hint,
                reason=refused.reason,
            ) from refused
        try:
            answer = decode_answer(json.dumps(body))
        except MalformedMessage as error:
            raise PeerRefused(f"peer {invite.peer_id} answered what is no answer: {error.reason}") from error
        if not proof_holds(answer.proof, key.key, JoinRole.INVITER, inviter=invite.peer_id, joiner=self._peer_id):
            raise PeerRefused(f"peer {invite.peer_id} does not know the secret of this invite")
        peer = await self._pair(invite.peer_id, answer.name, answer.addresses, addresses=invite.addresses)
        await self._book.refresh()
        return peer

    async def _pair(
        self, peer_id: PeerId, name: str, record: AddressRecord | None, *, addresses: Sequence[str] = ()
    ) -> Peer:
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> Peer:
            peer = peers.pair_peer(conn, peer_id, self_peer_id=self._peer_id, name=name, addresses=addresses, now=now)
            if record is not None and record.peer_id == peer_id:
                address_records.store_record(conn, record, told_by=peer_id, now=now)
            return peer

        return await self._database.write(work)

    # ---- the inviter's side

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        peer_id = peer_of(request)
        try:
            question = decode_question((await request.read()).decode())
            answer = await self._redeem(peer_id, question)
        except (MalformedMessage, UnicodeDecodeError) as error:
            return refusal(400, "malformed", str(error))
        except PermissionDenied as error:
            log.warning(LogEvent.PEER_JOIN_REFUSED, peer_id=peer_id, reason=error.reason)
            return refusal(403, error.reason, error.message)
        await self._book.refresh()
        log.info(LogEvent.PEER_JOINED, peer_id=peer_id)
        return web.Response(text=encode_answer(answer), content_type="application/json")

    async def _redeem(self, peer_id: PeerId, question: JoinQuestion) -> JoinAnswer:
        """Check a proof and allow its peer, in one transaction. Raises `PermissionDenied`, and counts what is wrong."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> bytes | str:
            invite = peer_invites.find_live(conn, question.invite_id, peer_id=peer_id, now=now)
            if invite is None:
                return "no_invite"
            if not proof_holds(question.proof, invite.key, JoinRole.JOINER, inviter=self._peer_id, joiner=peer_id):
                peer_invites.count_failed_try(conn, question.invite_id)
                return "wrong_proof"
            try:
                peers.require_room(conn, peer_id, limit=self._peers_at_most)
                peer_invites.use_invite(conn, question.invite_id, peer_id=peer_id, now=now)
                peers.pair_peer(conn, peer_id, self_peer_id=self._peer_id, name=question.name, now=now)
            except LimitExceeded:
                return "full"
            except (StaleState, Conflict):
                return "denied"
            if question.addresses is not None and question.addresses.peer_id == peer_id:
                address_records.store_record(conn, question.addresses, told_by=peer_id, now=now)
            return invite.key

        found = await self._database.write(work)
        if isinstance(found, str):
            raise PermissionDenied(_REFUSALS[found], reason=found)
        proof = join_proof(found, JoinRole.INVITER, inviter=self._peer_id, joiner=peer_id)
        return JoinAnswer(name=self._name, proof=proof, addresses=self._own_record())


_REFUSALS: Final = {
    "no_invite": "this invite is not live: it was used by another peer, has expired, or had too many wrong tries",
    "wrong_proof": "the secret of this invite is not that one",
    "denied": "the owner of this peer denies yours",
    "full": "this peer knows as many others as its owner allows; the invite stays good meanwhile",
}


def _parsed(addresses: Sequence[str]) -> list[PeerAddress]:
    found: list[PeerAddress] = []
    for address in addresses:
        try:
            found.append(parse_peer_address(address, names_allowed=True))
        except ValueError as error:
            raise BadInvite(f"This invite names an address that cannot be dialled: {error}") from error
    return found
