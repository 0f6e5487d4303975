"""Other peers: where they can be reached, and the words that peers say to each other (docs/wire.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rnd.types.ids import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRecord:
    """Where a peer says it can be reached, signed by itself, so that it can be passed on by anybody.

    `addresses` are numeric `host:port`; `signature` is base64, as it travels and as it is stored.
    """

    peer_id: PeerId
    addresses: tuple[str, ...]
    issued_at_ms: int
    signature: str


class Caller(StrEnum):
    """Who may send a message. All but ANYBODY are peers that this peer's owner has let in, one way or the other."""

    ANYBODY = "anybody"
    """Whoever has a link at all."""
    ANY_ALLOWED = "any_allowed"
    """Any allowed peer."""
    ORDERER = "orderer"
    """An allowed peer, about jobs that it ordered itself."""
    EXECUTOR = "executor"
    """The peer that was given the job of which it speaks."""
    SENDER = "sender"
    """The sending end of the connection of which it speaks; it may be introduced only."""
    RECEIVER = "receiver"
    """The receiving end of the connection of which it speaks; it may be introduced only."""


class RefusalCode(StrEnum):
    """Why a message was not acted on."""

    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    NOT_PERMITTED = "not_permitted"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    BUSY = "busy"
    INTERNAL = "internal"


class RejectionCode(StrEnum):
    """Why a receiver does not take a transfer."""

    NO_DUTY = "no_duty"
    DONE = "done"
    BUSY = "busy"
    TOO_LARGE = "too_large"
    NO_ROOM = "no_room"
    MALFORMED = "malformed"
