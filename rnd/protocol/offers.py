"""The offer of a transfer: made from a manifest, and held against the duty that a receiver has (docs/wire.md, section 5)."""

from __future__ import annotations

from typing import Final

from rnd.protocol.frames import OFFSET_MAX, STREAM_MAX
from rnd.protocol.instructions import Duty, Ends, Offer, Reject, RejectCode
from rnd.protocol.manifest import LINE_BYTES_MAX, MANIFEST_BYTES_MAX, Manifest, is_sha256
from rnd.types.ids import PeerId, TransferId

_EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def make_offer(manifest: Manifest, ends: Ends, *, transfer_id: TransferId, stream: int) -> Offer:
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
    )


def check_offer(offer: Offer, duty: Duty, *, sender_peer_id: PeerId) -> Reject | None:
    """Return the rejection of an offer that its duty does not cover, before anything is allocated for it; else `None`.

    `sender_peer_id` is the peer at the other end of the link.
    """

    def reject(code: RejectCode, reason: str) -> Reject:
        return Reject(transfer_id=offer.transfer_id, code=code, reason=reason)

    if sender_peer_id != duty.source_peer_id or offer.ends != duty.ends:
        return reject(RejectCode.NO_DUTY, "nothing here waits for this delivery from this peer")
    problem = _contradiction(offer)
    if problem:
        return reject(RejectCode.MALFORMED, problem)
    if offer.entry_count > duty.max_entries:
        return reject(
            RejectCode.TOO_LARGE, f"{offer.entry_count:,} files and folders; {duty.max_entries:,} are allowed here"
        )
    if offer.size_bytes > duty.max_bytes:
        return reject(RejectCode.TOO_LARGE, f"{offer.size_bytes:,} bytes; {duty.max_bytes:,} are allowed here")
    if offer.manifest_bytes > MANIFEST_BYTES_MAX:
        return reject(
            RejectCode.TOO_LARGE, f"a manifest of {offer.manifest_bytes:,} bytes; the limit is {MANIFEST_BYTES_MAX:,}"
        )
    return None


def _contradiction(offer: Offer) -> str:
    """Return why an offer cannot be meant, or ""."""
    counts = (offer.file_count, offer.entry_count, offer.size_bytes, offer.manifest_bytes)
    if not 0 <= offer.stream <= STREAM_MAX or min(counts) < 0 or offer.stream_bytes > OFFSET_MAX:
        return "a number is out of range"
    if offer.encrypted:
        return "sealed transfers are not known here"
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
