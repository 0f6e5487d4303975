"""Every message between peers by its type (docs/wire.md); the classes stand in one module a family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from rnd.protocol.fields import Message
from rnd.protocol.job_messages import (
    JobCancel,
    JobCancelResponse,
    JobExplainRequest,
    JobExplainResponse,
    JobLogsRequest,
    JobLogsResponse,
    JobRequestMessage,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobStatusRequest,
    JobStatusResponse,
    JobStatusUpdate,
)
from rnd.protocol.link_messages import (
    Ack,
    CapabilitiesRequest,
    CapabilitiesResponse,
    Hello,
    Ping,
    Pong,
    ReachRequest,
    ReachResponse,
    Refusal,
    ServiceOffer,
    ServiceSearchRequest,
    ServiceSearchResponse,
)
from rnd.protocol.transfer_messages import (
    ChunkAck,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferReject,
    DataTransferRequest,
)

__all__ = [
    "MESSAGE_TYPES",
    "Ack",
    "CapabilitiesRequest",
    "CapabilitiesResponse",
    "ChunkAck",
    "DataTransferAccept",
    "DataTransferComplete",
    "DataTransferFailed",
    "DataTransferReject",
    "DataTransferRequest",
    "Hello",
    "JobCancel",
    "JobCancelResponse",
    "JobExplainRequest",
    "JobExplainResponse",
    "JobLogsRequest",
    "JobLogsResponse",
    "JobRequestMessage",
    "JobResponseMessage",
    "JobStartMessage",
    "JobStartResponse",
    "JobStatusRequest",
    "JobStatusResponse",
    "JobStatusUpdate",
    "Message",
    "Ping",
    "Pong",
    "ReachRequest",
    "ReachResponse",
    "Refusal",
    "ServiceOffer",
    "ServiceSearchRequest",
    "ServiceSearchResponse",
]

_ALL: Final[tuple[type[Message], ...]] = (
    Hello,
    Ping,
    Pong,
    Ack,
    Refusal,
    JobRequestMessage,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobCancel,
    JobCancelResponse,
    JobStatusRequest,
    JobStatusResponse,
    JobStatusUpdate,
    JobLogsRequest,
    JobLogsResponse,
    JobExplainRequest,
    JobExplainResponse,
    ReachRequest,
    ReachResponse,
    ServiceSearchRequest,
    ServiceSearchResponse,
    CapabilitiesRequest,
    CapabilitiesResponse,
    DataTransferRequest,
    DataTransferAccept,
    DataTransferReject,
    ChunkAck,
    DataTransferComplete,
    DataTransferFailed,
)

MESSAGE_TYPES: Final[Mapping[str, type[Message]]] = MappingProxyType({message.type: message for message in _ALL})
