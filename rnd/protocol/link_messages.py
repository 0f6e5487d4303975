"""Messages of every link, and questions that any allowed peer may ask (docs/wire.md, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from rnd.protocol.fields import JOBS_MAX, InstanceId, Items, Message, Name, ProtocolVersion, Records, Sentence
from rnd.types.enums import ServiceStatus, ServiceType
from rnd.types.ids import ServiceId
from rnd.types.peers import AddressRecord, Caller, RefusalCode
from rnd.types.services import ServiceInterface


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """The first message of either side: which versions it speaks, and which run of its daemon it is."""

    type = "hello"
    caller = Caller.ANYBODY

    protocol_min: ProtocolVersion
    protocol_max: ProtocolVersion
    instance_id: InstanceId
    name: Name
    addresses: AddressRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Message):
    """Asks for a sign of life."""

    type = "ping"
    caller = Caller.ANYBODY
    answered_by = ("pong",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Message):
    """The sign of life."""

    type = "pong"
    caller = Caller.ANYBODY
    is_answer = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Message):
    """It is written down."""

    type = "ack"
    caller = Caller.ANYBODY
    is_answer = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Message):
    """The answer to what was not acted on (type `error`)."""

    type = "error"
    caller = Caller.ANYBODY
    is_answer = True

    code: RefusalCode
    reason: Sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOffer:
    """A service as other peers see it."""

    id: ServiceId
    name: Name
    description: Sentence
    service_type: ServiceType
    status: ServiceStatus
    interfaces: tuple[ServiceInterface, ...]
    pricing_amount: float
    pricing_type: Name
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSearchRequest(Message):
    """Asks which services the peer offers to the one that asks. `query` "" and `service_type` null narrow nothing."""

    type = "service_search_request"
    caller = Caller.ANY_ALLOWED
    answered_by = ("service_search_response",)

    query: Name
    service_type: ServiceType | None
    active_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSearchResponse(Message):
    """What it offers."""

    type = "service_search_response"
    caller = Caller.ANY_ALLOWED
    is_answer = True

    services: Annotated[tuple[ServiceOffer, ...], Items(JOBS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitiesRequest(Message):
    """Asks what a job could count on there."""

    type = "capabilities_request"
    caller = Caller.ANY_ALLOWED
    answered_by = ("capabilities_response",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitiesResponse(Message):
    """What JSON-RPC's `node.capabilities` answers there, as plain JSON: another version may say more or less."""

    type = "capabilities_response"
    caller = Caller.ANY_ALLOWED
    is_answer = True

    capabilities: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddresses(Message):
    """Tells where peers that a job exchanges bytes with can be reached now."""

    type = "peer_addresses"
    caller = Caller.ANY_ALLOWED
    answered_by = ("ack",)

    addresses: Records


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachRequest(Message):
    """Asks whether a peer that a workflow needs can be reached from there."""

    type = "reach_request"
    caller = Caller.ANY_ALLOWED
    answered_by = ("reach_response",)

    addresses: AddressRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachResponse(Message):
    """Whether it can; `reason` says why not and is empty else."""

    type = "reach_response"
    caller = Caller.ANY_ALLOWED
    is_answer = True

    reachable: bool
    reason: Sentence
