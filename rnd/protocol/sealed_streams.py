"""The seal of a transfer, from one end to the other: a key that both have signed for, and chunks in STREAM form
(docs/wire.md, section 5, Sealed transfers).

Nothing here makes randomness: each side hands in 32 fresh random bytes an attempt, from which its X25519 key follows, and
what signs with its identity. Whoever stands between the two can refuse them service, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rnd.protocol.frames import PAYLOAD_BYTES_MAX
from rnd.protocol.instructions import Offer
from rnd.protocol.sealing import KEY_BYTES, TAG_BYTES, open_into, seal_into
from rnd.protocol.transfer_messages import SealShare
from rnd.rules.peer_id import key_from_peer_id
from rnd.types.errors import RndError, SealBroken
from rnd.types.ids import PeerId

CHUNK_BYTES_MAX: Final = PAYLOAD_BYTES_MAX - TAG_BYTES
"""How many plain bytes fit in one sealed frame."""

Sign = Callable[[bytes], bytes]

_OFFER_LABEL: Final = "rnd/1 sealed offer"
_ACCEPT_LABEL: Final = "rnd/1 sealed accept"
_KEY_LABEL: Final = b"rnd/1 sealed transfer"
_NONCE: Final = struct.Struct(">3xQ?")
_OFFSET: Final = struct.Struct(">Q")


class SealRefused(RndError):
    """The other side's part in a seal is missing, or is not what it must be; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """From whom to whom a transfer goes: the peers at the two ends of its link."""

    sender: PeerId
    receiver: PeerId


class SenderSeal:
    """The sender's part in the seal of one attempt; `share` goes with the offer."""

    def __init__(self, offer: Offer, ways: Ways, *, secret: bytes, sign: Sign) -> None:
        self._ways = ways
        self._stream_bytes = offer.stream_bytes
        self._key = X25519PrivateKey.from_private_bytes(secret)
        public = self._key.public_key().public_bytes_raw().hex()
        self._offer_text = offer_text(offer, ways, public)
        self.share = SealShare(key=public, signature=sign(self._offer_text).hex())

    def agree(self, offset: int, share: SealShare | None, *, present: bytes | None = b"") -> ChunkSealer:
        """Return what seals the stream from `offset` on, for the receiver that has answered with this share and nobody else.

        `present` is what it said it has. Raises `SealRefused`.
        """
        if share is None:
            raise SealRefused("it accepted without a seal what goes out only sealed")
        text = accept_text(self._offer_text, offset, present, share.key)
        _verify(self._ways.receiver, share, text)
        key, transcript = _agreed(self._key, share, text)
        return ChunkSealer(key, transcript, stream_bytes=self._stream_bytes)


class ReceiverSeal:
    """The receiver's part in the seal of one attempt. Raises `SealRefused` unless the sender has signed for this very offer."""

    def __init__(self, offer: Offer, ways: Ways, theirs: SealShare, *, secret: bytes, sign: Sign) -> None:
        self._stream_bytes = offer.stream_bytes
        self._theirs = theirs
        self._sign = sign
        self._offer_text = offer_text(offer, ways, theirs.key)
        _verify(ways.sender, theirs, self._offer_text)
        self._key = X25519PrivateKey.from_private_bytes(secret)
        _exchange(self._key, theirs)

    def agree(self, offset: int, *, present: bytes | None = b"") -> tuple[SealShare, ChunkOpener]:
        """Return the answer's share, and what opens the stream from `offset` on; `present` is what is said to be here."""
        public = self._key.public_key().public_bytes_raw().hex()
        text = accept_text(self._offer_text, offset, present, public)
        key, transcript = _agreed(self._key, self._theirs, text)
        share = SealShare(key=public, signature=self._sign(text).hex())
        return share, ChunkOpener(key, transcript, stream_bytes=self._stream_bytes)


class _Chunks:
    """Counts the chunks of one attempt. Not for two threads at once."""

    def __init__(self, key: bytes, transcript: bytes, *, stream_bytes: int) -> None:
        self._aead = AESGCM(key)
        self._transcript = transcript
        self._stream_bytes = stream_bytes
        self._count = 0

    def end_at(self, stream_bytes: int) -> None:
        """Take note of where the stream ends now that it is known what need not come."""
        self._stream_bytes = stream_bytes

    def _next(self, offset: int, length: int) -> tuple[bytes, bytes]:
        """Return nonce and associated data of the next chunk. No number is given out twice, whatever becomes of its chunk."""
        number = self._count
        self._count += 1
        is_last = offset + length == self._stream_bytes
        return _NONCE.pack(number, is_last), self._transcript + _OFFSET.pack(offset)


class ChunkSealer(_Chunks):
    """Seals the chunks of one attempt, in order."""

    def seal(self, plain: memoryview, *, offset: int, into: memoryview) -> None:
        """Seal the bytes of the stream from `offset` on into a buffer that is 16 bytes longer."""
        nonce, associated = self._next(offset, len(plain))
        seal_into(self._aead, nonce, plain, associated, into)


class ChunkOpener(_Chunks):
    """Opens the chunks of one attempt, in order."""

    def open(self, sealed: memoryview, *, offset: int, into: memoryview) -> None:
        """Open a chunk into a buffer that is 16 bytes shorter. Raises `SealBroken`; the buffer then holds nothing to be used."""
        number = self._count
        nonce, associated = self._next(offset, len(into))
        try:
            open_into(self._aead, nonce, sealed, associated, into)
        except SealBroken:
            raise SealBroken(
                f"chunk {number:,} of the sealed stream, at {offset:,}, is not what the sender has sealed there"
            ) from None


def answer_seal(
    offer: Offer, ways: Ways, theirs: SealShare | None, *, secret: bytes, sign: Sign
) -> ReceiverSeal | None:
    """Return the receiver's part in the seal of an offer; `None` if it is of an open transfer. Raises `SealRefused`."""
    if offer.encrypted != (theirs is not None):
        raise SealRefused("a sealed transfer comes with a seal, and an open one without")
    return None if theirs is None else ReceiverSeal(offer, ways, theirs, secret=secret, sign=sign)


def offer_text(offer: Offer, ways: Ways, key: str) -> bytes:
    """Return what a sender signs. No field holds a line feed."""
    ends = offer.ends
    lines = (
        _OFFER_LABEL,
        ways.sender,
        ways.receiver,
        offer.transfer_id,
        offer.stream,
        ends.ordering_peer_id,
        ends.execution_uid,
        ends.connection_id,
        ends.source_job_execution_id,
        ends.dest_job_execution_id,
        offer.file_count,
        offer.entry_count,
        offer.size_bytes,
        offer.manifest_bytes,
        offer.manifest_sha256,
        key,
    )
    return "".join(f"{line}\n" for line in lines).encode()


def accept_text(offer_text: bytes, offset: int, present: bytes | None, key: str) -> bytes:
    """Return what a receiver signs."""
    words = "-" if present is None else base64.b64encode(present).decode()
    return f"{_ACCEPT_LABEL}\n".encode() + offer_text + f"{offset}\n{words}\n{key}\n".encode()


def _verify(signer: PeerId, share: SealShare, text: bytes) -> None:
    try:
        signature = bytes.fromhex(share.signature)
        Ed25519PublicKey.from_public_bytes(key_from_peer_id(signer)).verify(signature, text)
    except (InvalidSignature, ValueError):
        raise SealRefused(
            f"the seal's signature is not that of peer {signer} over this transfer: its request or its answer was changed"
        ) from None


def _exchange(own: X25519PrivateKey, theirs: SealShare) -> bytes:
    """Return the shared secret. Raises `SealRefused` where the other key leaves no choice what it is (RFC 7748, section 6.1)."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(theirs.key)))
    except ValueError:
        shared = bytes(KEY_BYTES)
    if not any(shared):
        raise SealRefused("the seal's key is none with which a secret can be shared")
    return shared


def _agreed(own: X25519PrivateKey, theirs: SealShare, accept_text: bytes) -> tuple[bytes, bytes]:
    """Return the key of an attempt, and the transcript that its chunks belong to."""
    transcript = hashlib.sha256(accept_text).digest()
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=transcript, info=_KEY_LABEL)
    return derivation.derive(_exchange(own, theirs)), transcript
