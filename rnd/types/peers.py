"""Other peers: who they are, where they are, and what they may do (tables `peers` and those around it)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from rnd.types.enums import PeerState, Verb
from rnd.types.ids import PeerId, ServiceId

EVERY_PEER: Final = PeerId("*")
"""Stands in a grant for every allowed peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A row of `peers`. `addresses` are `host:port` as the operator or an invite gave them, DNS names too.

    `instance_id` is that of the peer's daemon when it was last linked; another one means that it was restarted.
    """

    id: int
    peer_id: PeerId
    name: str
    state: PeerState
    addresses: tuple[str, ...]
    instance_id: str | None
    last_seen_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRecord:
    """Where a peer says it can be reached, signed by itself: at most 4 numeric `host:port`; the signature is base64."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    issued_at_ms: int
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLimits:
    """Bounds on what is granted; `None` sets none.

    `concurrent_jobs` counts jobs that have not ended, `max_runtime_s` is for one job, `max_bytes` for one
    transfer between a job of the service and another peer.
    """

    concurrent_jobs: int | None = None
    max_runtime_s: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A row of `grants`: what a peer, or `EVERY_PEER`, may do with one service (`None`: with all of them)."""

    id: int
    peer_id: PeerId
    service_id: ServiceId | None
    verbs: frozenset[Verb]
    limits: GrantLimits
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInvite:
    """A row of `peer_invites`; `key` is what a proof is checked with and never shows."""

    invite_id: str
    key: bytes = field(repr=False)
    expires_at: datetime
    tries_left: int
    used_by: PeerId | None


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


PASSING: Final = frozenset({RefusalCode.BUSY, RefusalCode.INTERNAL})
"""What says nothing about the message: said again later, it may well be acted on."""


class RejectionCode(StrEnum):
    """Why a receiver does not take a transfer."""

    NO_DUTY = "no_duty"
    DONE = "done"
    BUSY = "busy"
    TOO_LARGE = "too_large"
    NO_ROOM = "no_room"
    MALFORMED = "malformed"
