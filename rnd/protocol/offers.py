"""The offer of a transfer: made from a manifest, and held against the duty that a receiver has (docs/wire.md, section 5)."""

from __future__ import annotations

from typing import Final

from rnd.protocol.frames import OFFSET_MAX, STREAM_MAX
from rnd.protocol.instructions import Duty, Ends, Offer, Reject
from rnd.protocol.manifest import LINE_BYTES_MAX, MANIFEST_BYTES_MAX, Manifest, is_sha256
from rnd.protocol.transfer_messages import DataTransferRequest, SealShare
from rnd.types.ids import PeerId, TransferId
from rnd.types.peers import RejectionCode

_EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def make_offer(
    manifest: Manifest, ends: Ends, *, transfer_id: TransferId, stream: int, encrypted: bool = False
) -> Offer:
    """Return the offer of what a manifest lists."""
    return Offer(
        transfer_id=transfer_id,
        stream=stream,
        ends=ends,
        file_count=manifest.file_count,
        entry_count=len(manifest.entries),
        size_bytes=manifest.size_bytes,
        manifest_bytes=len(manifest.data),
        manifest_sha256=manifest.sha256,
        encrypted=encrypted,
    )


def write_request(
    offer: Offer, *, source_path: str, dest_path: str, seal: SealShare | None = None
) -> DataTransferRequest:
    """Return the message that makes an offer. The paths are labels for people."""
    ends = offer.ends
    return DataTransferRequest(
        transfer_id=offer.transfer_id,
        stream=offer.stream,
        ordering_peer_id=ends.ordering_peer_id,
        execution_uid=ends.execution_uid,
        connection_id=ends.connection_id,
        source_job_execution_id=ends.source_job_execution_id,
        dest_job_execution_id=ends.dest_job_execution_id,
        source_path=source_path,
        dest_path=dest_path,
        file_count=offer.file_count,
        entry_count=offer.entry_count,
        size_bytes=offer.size_bytes,
        manifest_bytes=offer.manifest_bytes,
        manifest_sha256=offer.manifest_sha256,
        encrypted=offer.encrypted,
        seal=seal,
    )


def read_request(request: DataTransferRequest) -> Offer:
    """Return the offer that a message makes."""
    return Offer(
        transfer_id=request.transfer_id,
        stream=request.stream,
        ends=Ends(
            ordering_peer_id=request.ordering_peer_id,
            execution_uid=request.execution_uid,
            connection_id=request.connection_id,
            source_job_execution_id=request.source_job_execution_id,
            dest_job_execution_id=request.dest_job_execution_id,
        ),
        file_count=request.file_count,
        entry_count=request.entry_count,
        size_bytes=request.size_bytes,
        manifest_bytes=request.manifest_bytes,
        manifest_sha256=request.manifest_sha256,
        encrypted=request.encrypted,
    )


def check_offer(offer: Offer, duty: Duty, *, sender_peer_id: PeerId) -> Reject | None:
    """Return the rejection of an offer that its duty does not cover, before anything is allocated for it; else `None`.

    `sender_peer_id` is the peer at the other end of the link.
    """

    def reject(code: RejectionCode, reason: str) -> Reject:
        return Reject(transfer_id=offer.transfer_id, code=code, reason=reason)

    if sender_peer_id != duty.source_peer_id or offer.ends != duty.ends:
        return reject(RejectionCode.NO_DUTY, "nothing here waits for this delivery from this peer")
    problem = _contradiction(offer)
    if problem:
        return reject(RejectionCode.MALFORMED, problem)
    if offer.entry_count > duty.max_entries:
        return reject(
            RejectionCode.TOO_LARGE, f"{offer.entry_count:,} files and folders; {duty.max_entries:,} are allowed here"
        )
    if offer.size_bytes > duty.max_bytes:
        return reject(RejectionCode.TOO_LARGE, f"{offer.size_bytes:,} bytes; {duty.max_bytes:,} are allowed here")
    if offer.manifest_bytes > MANIFEST_BYTES_MAX:
        return reject(
            RejectionCode.TOO_LARGE,
            f"a manifest of {offer.manifest_bytes:,} bytes; the limit is {MANIFEST_BYTES_MAX:,}",
        )
    return None


def _contradiction(offer: Offer) -> str:
    """Return why an offer cannot be meant, or ""."""
    counts = (offer.file_count, offer.entry_count, offer.size_bytes, offer.manifest_bytes)
    if not 0 <= offer.stream <= STREAM_MAX or min(counts) < 0 or offer.stream_bytes > OFFSET_MAX:
        return "a number is out of range"
    if not is_sha256(offer.manifest_sha256):
        return "manifest_sha256 is not 64 hexadecimal digits in lower case"
    if offer.file_count > offer.entry_count:
        return f"{offer.file_count:,} files cannot be among {offer.entry_count:,} entries"
    if offer.size_bytes and not offer.file_count:
        return f"{offer.size_bytes:,} bytes without a file"
    if bool(offer.manifest_bytes) != bool(offer.entry_count) or offer.manifest_bytes > offer.entry_count * (
        LINE_BYTES_MAX + 1
    ):
        return f"{offer.entry_count:,} entries do not make a manifest of {offer.manifest_bytes:,} bytes"
    if not offer.manifest_bytes and offer.manifest_sha256 != _EMPTY_SHA256:
        return "the SHA-256 of an empty manifest is another"
    return ""
