"""What the two machines of a transfer are told and what they answer with: records only (docs/wire.md, section 5).

An instruction of either is a message to send or a thing to do; they are to be carried out in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from rnd.protocol.recognition import NONE_PRESENT
from rnd.protocol.transfer_messages import SealShare
from rnd.types.executions import FileEntry
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId
from rnd.types.peers import RejectionCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Which delivery a transfer makes: the first three name it on both peers; the jobs are each of its own peer, 0 is the
    self-peer."""

    ordering_peer_id: PeerId
    execution_uid: ExecutionUid
    connection_id: ConnectionId
    source_job_execution_id: JobExecutionId
    dest_job_execution_id: JobExecutionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a sender says of a transfer beforehand: the fields of `data_transfer_request` that anything depends on."""

    transfer_id: TransferId
    stream: int
    ends: Ends
    file_count: int
    entry_count: int
    size_bytes: int
    manifest_bytes: int
    manifest_sha256: str
    encrypted: bool = False

    @property
    def stream_bytes(self) -> int:
        """How long the stream is: the manifest and the content of all files."""
        return self.manifest_bytes + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """A delivery that a receiver waits for: from which peer, between which ends, and how much of it is allowed."""

    source_peer_id: PeerId
    ends: Ends
    max_bytes: int
    max_entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a receiver has of a transfer whose link was lost: everything below `offset` is written, what ends there is
    verified, and so are the entries that were `present` and are no part of the stream."""

    offer: Offer
    entries: tuple[FileEntry, ...]
    offset: int
    present: frozenset[int] = NONE_PRESENT

    def is_part_of(self, offer: Offer) -> bool:
        """Say whether an offer is of the very same bytes to the very same end."""
        return replace(offer, transfer_id=self.offer.transfer_id, stream=self.offer.stream) == self.offer


# ---- instructions: messages to send


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Send `data_transfer_accept`."""

    transfer_id: TransferId
    offset: int
    present: bytes | None = b""
    seal: SealShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TellPresent:
    """Send `data_transfer_present`: all that is here is known."""

    transfer_id: TransferId
    bytes_read: int
    present: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Send `data_transfer_reject`."""

    transfer_id: TransferId
    code: RejectionCode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Send `chunk_ack`."""

    transfer_id: TransferId
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Send `data_transfer_stop`."""

    transfer_id: TransferId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Send `data_transfer_complete`: the sender as a request, the receiver as its answer."""

    transfer_id: TransferId
    success: bool
    bytes_received: int = 0
    error: str | None = None


# ---- instructions: things to do


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBytes:
    """Read so many bytes of the stream and send them as one frame."""

    stream: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """These entries are at the receiver: from here on the stream is without their content."""

    present: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayOut:
    """The manifest is whole and right: make room for its entries."""

    entries: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognise:
    """Copy what is here already of these entries, and say to `recognise` which are."""

    entries: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseal:
    """Open a sealed chunk, which fills the buffer that the writes after it are views of. Raises `SealBroken`."""

    open: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Write bytes of the file at this index of the entries. `data` is a view of the frame: use it before the next one."""

    index: int
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class EndFile:
    """All bytes of this file have come: compare its size and SHA-256."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """All has come: put it in its place, make it durable, commit, and only then say `mark_finished`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Throw away whatever has been written of this transfer."""

    reason: str


SendInstruction: TypeAlias = LeaveOut | SendBytes | Complete
StagingInstruction: TypeAlias = LayOut | Unseal | Write | EndFile | Discard
ReceiveInstruction: TypeAlias = (
    StagingInstruction | Recognise | TellPresent | Finish | Accept | Reject | Acknowledge | Stop | Complete
)


class TransferState(StrEnum):
    """Where one end of a transfer stands. Those from DONE on are ends."""

    OFFERED = "OFFERED"
    STREAMING = "STREAMING"
    ANNOUNCED = "ANNOUNCED"
    """All is sent; the receiver verifies it, makes it durable and commits."""
    DONE = "DONE"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    CALLED_OFF = "CALLED_OFF"
    LINK_LOST = "LINK_LOST"
