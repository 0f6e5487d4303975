"""The methods about other peers and what is granted to them, as rows of the method table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rnd.api import handlers_peers as peers
from rnd.api import result_schemas as answers
from rnd.api.methods import Method
from rnd.api.parameters import (
    ID,
    BadParameter,
    Choice,
    Integer,
    ListOf,
    Name,
    Nullable,
    Number,
    Parameter,
    Record,
    Text,
    optional,
    required,
)
from rnd.api.result_schemas import members
from rnd.rules.addresses import MAX_NAME_CHARACTERS, parse_peer_address
from rnd.rules.peer_id import PEER_ID_CHARACTERS, key_from_peer_id
from rnd.rules.strict_json import JsonObject
from rnd.types.enums import PeerState, Scope, Verb
from rnd.types.ids import PeerId
from rnd.types.peers import EVERY_PEER, GrantLimits

MAX_ADDRESSES: Final = 4
MAX_INVITE_CHARS: Final = 4_096
INVITE_VALID_S: Final = 900.0
INVITE_VALID_S_MIN: Final = 10.0
INVITE_VALID_S_MAX: Final = 86_400.0
CONNECT_TIMEOUT_S: Final = 60.0

_PEER_ID_PATTERN: Final = f"rn[a-z2-7]{{{PEER_ID_CHARACTERS - 2}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPeerId:
    """A peer id whose check fits; with `every`, `*` for every allowed peer too."""

    every: bool = False

    def parse(self, value: object, where: str) -> PeerId:
        """Return the id; what is wrong with one is said in words."""
        text = Text(min_chars=1, max_chars=256).parse(value, where)
        if self.every and text == EVERY_PEER:
            return EVERY_PEER
        try:
            key_from_peer_id(text)
        except ValueError as error:
            raise BadParameter(where, str(error)) from None
        return PeerId(text)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        pattern = f"(?:{_PEER_ID_PATTERN}|\\*)" if self.every else _PEER_ID_PATTERN
        return {"type": "string", "pattern": f"^{pattern}$"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer may be dialled, as its operator wrote it: `host:port`, a DNS name too."""

    def parse(self, value: object, where: str) -> str:
        """Return the address in its one form."""
        text = Text(min_chars=1, max_chars=MAX_NAME_CHARACTERS + 10).parse(value, where)
        try:
            return str(parse_peer_address(text, names_allowed=True))
        except ValueError as error:
            raise BadParameter(where, str(error)) from None

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARACTERS + 10}


@dataclass(frozen=True, slots=True)
class PeerName:
    """What the owner calls a peer; null or "" gives way to the name by which it calls itself."""

    def parse(self, value: object, where: str) -> str:
        """Return the name, "" for none."""
        return "" if value is None or value == "" else Name().parse(value, where)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": ["string", "null"], "maxLength": Name().max_chars}


_PEER: Final = required("peer_id", CheckedPeerId())
_LIMITS: Final = Record(
    members=(
        optional("concurrent_jobs", Nullable(Integer(minimum=0, maximum=1_000_000)), summary="Not ended at once."),
        optional("max_runtime_s", Nullable(Number(minimum=0.01, maximum=366 * 86_400)), summary="Of one job."),
        optional("max_bytes", Nullable(Integer(minimum=0, maximum=1 << 60)), summary="Of one transfer."),
    ),
    build=GrantLimits,
)


def peer_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    """Return the methods about other peers and grants; `page` are the parameters of a list method."""
    yield from _reading_methods(page)
    yield from _pairing_methods()
    yield from _link_methods()
    yield from _grant_methods(page)


def _reading_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    yield Method(
        name="peer.list",
        summary="List the peers that this one's owner has a word on, oldest first.",
        scope=Scope.READ,
        handler=peers.peer_list,
        parameters=(optional("state", Choice(PeerState)), *page),
        result=answers.page_of(answers.PEER),
    )
    yield Method(
        name="peer.get",
        summary="Return one peer, and whether it is linked.",
        scope=Scope.READ,
        handler=peers.peer_get,
        parameters=(_PEER,),
        result=answers.PEER,
    )
    yield Method(
        name="peer.capabilities",
        summary="Ask a peer what a job could count on there.",
        scope=Scope.READ,
        handler=peers.peer_capabilities,
        parameters=(_PEER,),
        result=answers.OBJECT,
    )
    yield Method(
        name="peer.ping",
        summary="Ask a peer for a sign of life and say how long it took.",
        scope=Scope.READ,
        handler=peers.peer_ping,
        parameters=(_PEER,),
        result=members({"peer_id": answers.TEXT, "rtt_ms": answers.NUMBER}),
    )


def _pairing_methods() -> Iterable[Method]:
    yield Method(
        name="peer.invite",
        summary="Make a line to paste on another machine; it pairs one peer with this one and is shown this once.",
        scope=Scope.ADMIN,
        handler=peers.peer_invite,
        parameters=(
            optional(
                "valid_s", Number(minimum=INVITE_VALID_S_MIN, maximum=INVITE_VALID_S_MAX), INVITE_VALID_S, "How long."
            ),
        ),
        result=members({"invite": answers.TEXT, "expires_at": answers.TIME}),
    )
    yield Method(
        name="peer.join",
        summary="Use the invite of another peer; afterwards both hold each other as allowed.",
        scope=Scope.ADMIN,
        handler=peers.peer_join,
        parameters=(required("invite", Text(min_chars=1, max_chars=MAX_INVITE_CHARS)),),
        result=answers.PEER,
        timeout_s=CONNECT_TIMEOUT_S,
    )
    yield Method(
        name="peer.add",
        summary="Write a peer down without an invite; both sides do it.",
        scope=Scope.ADMIN,
        handler=peers.peer_add,
        parameters=(
            _PEER,
            required("addresses", ListOf(items=Address(), max_items=MAX_ADDRESSES), "host:port; none: it dials us."),
            optional("name", PeerName(), "", "Left out: as it calls itself."),
            optional("state", Choice(PeerState), PeerState.ALLOWED),
        ),
        result=answers.PEER,
    )
    yield Method(
        name="peer.set_state",
        summary="Let a peer in (allowed), keep it out (denied: its link is closed at once), or only know it (pending).",
        scope=Scope.ADMIN,
        handler=peers.peer_set_state,
        parameters=(_PEER, required("state", Choice(PeerState))),
        result=answers.PEER,
    )
    yield Method(
        name="peer.rename",
        summary="Call a peer by a name of one's own; an empty one gives way to its own.",
        scope=Scope.ADMIN,
        handler=peers.peer_rename,
        parameters=(_PEER, required("name", PeerName())),
        result=answers.PEER,
    )
    yield Method(
        name="peer.set_addresses",
        summary="Say where a peer is to be dialled from now on, beside what it says itself; it is dialled at once.",
        scope=Scope.ADMIN,
        handler=peers.peer_set_addresses,
        parameters=(_PEER, required("addresses", ListOf(items=Address(), max_items=MAX_ADDRESSES), "host:port.")),
        result=answers.PEER,
    )
    yield Method(
        name="peer.remove",
        summary="Forget a peer with its grants; it is a stranger then. To keep it out, deny it instead.",
        scope=Scope.ADMIN,
        handler=peers.peer_remove,
        parameters=(_PEER,),
        result=members({"removed": answers.FLAG}),
    )


def _link_methods() -> Iterable[Method]:
    yield Method(
        name="peer.connect",
        summary="Link to an allowed peer now, without waiting for the next attempt.",
        scope=Scope.OPERATE,
        handler=peers.peer_connect,
        parameters=(_PEER,),
        result=answers.PEER,
        timeout_s=CONNECT_TIMEOUT_S,
    )
    yield Method(
        name="peer.disconnect",
        summary="Close the link to a peer.",
        scope=Scope.OPERATE,
        handler=peers.peer_disconnect,
        parameters=(_PEER,),
        result=answers.PEER,
    )


def _grant_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    yield Method(
        name="grant.list",
        summary="List what is granted, oldest first.",
        scope=Scope.READ,
        handler=peers.grant_list,
        parameters=(
            optional("peer_id", CheckedPeerId(every=True), summary="Only what names this peer, or *."),
            optional("service_id", ID),
            *page,
        ),
        result=answers.page_of(answers.GRANT),
    )
    yield Method(
        name="grant.add",
        summary="Grant verbs on a service (left out: on all) to a peer, or with * to every allowed one.",
        scope=Scope.ADMIN,
        handler=peers.grant_add,
        parameters=(
            required("peer_id", CheckedPeerId(every=True)),
            required("verbs", ListOf(items=Choice(Verb), min_items=1, max_items=len(Verb))),
            optional("service_id", Nullable(ID), summary="Left out or null: every service."),
            optional("limits", _LIMITS, summary="Bounds on what is granted; the most generous grant counts."),
        ),
        result=answers.GRANT,
    )
    yield Method(
        name="grant.remove",
        summary="Take a grant back; it holds at once.",
        scope=Scope.ADMIN,
        handler=peers.grant_remove,
        parameters=(required("grant_id", ID),),
        result=answers.GRANT,
    )
