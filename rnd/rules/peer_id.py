"""The id of a peer: its Ed25519 public key in 58 characters that catch a typo and can be read back into the key."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from rnd.types.ids import PeerId

KEY_BYTES: Final = 32
PEER_ID_CHARACTERS: Final = 58

_PREFIX: Final = "rn"
_VERSION: Final = b"\x01"
_CHECK_BYTES: Final = 2
_CHECK_LABEL: Final = b"rnd-peer-id"


def peer_id_from_key(public_key: bytes) -> PeerId:
    """Return the id of an Ed25519 public key of 32 bytes.

    `rn` and then base32, lower case and without padding, of version byte 1, the key, and a 2-byte SHA-256 check.
    Raises `ValueError` for a key of another length.
    """
    if len(public_key) != KEY_BYTES:
        raise ValueError(f"a public key has {KEY_BYTES} bytes, not {len(public_key)}")
    payload = _VERSION + public_key
    # 35 bytes are exactly 56 digits of base32, so there is no padding and no second way to write the same id.
    return PeerId(_PREFIX + base64.b32encode(payload + _check(payload)).decode("ascii").lower())


def key_from_peer_id(text: str) -> bytes:
    """Return the public key (32 bytes) that a peer id names. Raises `ValueError` that says what is wrong with the id."""
    if not text.startswith(_PREFIX):
        raise ValueError(f"a peer id begins with {_PREFIX!r}")
    if len(text) != PEER_ID_CHARACTERS:
        raise ValueError(f"a peer id has {PEER_ID_CHARACTERS} characters, not {len(text)}")
    digits = text.removeprefix(_PREFIX)
    if digits != digits.lower():
        raise ValueError("a peer id is written in lower case")
    try:
        decoded = base64.b32decode(digits.upper())
    except (binascii.Error, ValueError) as error:
        raise ValueError("a peer id holds only the letters a-z and the digits 2-7") from error
    payload, check = decoded[:-_CHECK_BYTES], decoded[-_CHECK_BYTES:]
    if _check(payload) != check:
        raise ValueError("the check of this peer id does not fit: there is a typo in it")
    if not payload.startswith(_VERSION):
        raise ValueError(f"this peer id has version {payload[0]}; only version {_VERSION[0]} is known")
    return payload[len(_VERSION) :]


def _check(payload: bytes) -> bytes:
    return hashlib.sha256(_CHECK_LABEL + payload).digest()[:_CHECK_BYTES]
