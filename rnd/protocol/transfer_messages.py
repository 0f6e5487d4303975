"""Messages about deliveries, between their two ends on a data link (docs/wire.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

from rnd.protocol.fields import (
    Absent,
    Binary,
    KeyDigits,
    Message,
    PresentBits,
    Sentence,
    Sha256,
    SignatureDigits,
    StreamNumber,
)
from rnd.protocol.sealing import TAG_BYTES
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId
from rnd.types.peers import Caller, RejectionCode

TEXT_CHUNK_BYTES: Final = 1 << 20
"""The most plain bytes that go as one text."""
CHUNK_BYTES_MAX: Final = TEXT_CHUNK_BYTES + TAG_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SealShare:
    """One side's part in the seal of a transfer: its fresh X25519 public key, and what its identity has signed with it."""

    key: KeyDigits
    signature: SignatureDigits


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferRequest(Message):
    """Offers what a connection carries. Both paths are labels for people; `stream` is the number in the frames."""

    type = "data_transfer_request"
    caller = Caller.SENDER
    answered_by = ("data_transfer_accept", "data_transfer_reject")

    transfer_id: TransferId
    stream: StreamNumber
    ordering_peer_id: PeerId
    execution_uid: ExecutionUid
    connection_id: ConnectionId
    source_job_execution_id: JobExecutionId
    dest_job_execution_id: JobExecutionId
    source_path: Sentence
    dest_path: Sentence
    file_count: int
    entry_count: int
    size_bytes: int
    manifest_bytes: int
    manifest_sha256: Sha256
    encrypted: bool
    seal: SealShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferAccept(Message):
    """Send it, from this offset of the stream of bytes on, without the entries that are `present` here (bits, none at all
    where it has no bytes). Null: `data_transfer_present` says which, once the manifest has come."""

    type = "data_transfer_accept"
    caller = Caller.RECEIVER
    is_answer = True

    transfer_id: TransferId
    offset: int
    present: PresentBits | None = b""
    seal: SealShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferPresent(Message):
    """Leave these entries out: they are here. Null while that is still looked into; `bytes_read` grows meanwhile. It is not
    answered."""

    type = "data_transfer_present"
    caller = Caller.RECEIVER

    transfer_id: TransferId
    bytes_read: int
    present: PresentBits | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferReject(Message):
    """Do not send it."""

    type = "data_transfer_reject"
    caller = Caller.RECEIVER
    is_answer = True

    transfer_id: TransferId
    code: RejectionCode
    reason: Sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChunk(Message):
    """A frame as text: for people who read along and clients without binary messages. It is not answered."""

    type = "data_chunk"
    caller = Caller.SENDER

    stream: StreamNumber
    offset: int
    data: Annotated[bytes, Binary(CHUNK_BYTES_MAX)] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkAck(Message):
    """Everything below `offset` is written. It is not answered."""

    type = "chunk_ack"
    caller = Caller.RECEIVER

    transfer_id: TransferId
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferStop(Message):
    """The transfer has failed on this side, or (`paused`) stands still there and keeps what has come: send no more of it now.

    It is not answered.
    """

    type = "data_transfer_stop"
    caller = Caller.RECEIVER

    transfer_id: TransferId
    reason: Sentence
    paused: Annotated[bool, Absent()] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferComplete(Message):
    """From the sender: that was all, or (`success` false) it is called off. From the receiver: how it ended there."""

    type = "data_transfer_complete"
    caller = Caller.SENDER
    answered_by = ("data_transfer_complete",)
    is_answer = True

    transfer_id: TransferId
    success: bool
    bytes_received: int
    error: Sentence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferFailed(Message):
    """Nothing will ever come along this connection."""

    type = "data_transfer_failed"
    caller = Caller.SENDER
    answered_by = ("ack",)

    ordering_peer_id: PeerId
    execution_uid: ExecutionUid
    connection_id: ConnectionId
    reason: Sentence
