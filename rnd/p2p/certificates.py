"""The canonical certificate of a peer, byte by byte (design: Peers; docs/wire-identity.md).

Every field is fixed or follows from the peer's key, and the issuer is a published key whose Ed25519 signatures are
deterministic. So whoever knows a peer id knows that peer's whole certificate, and two peers can meet over ordinary
TLS without ever having exchanged certificates. The signature of the anchor proves nothing and is not meant to: a peer
is its key, which TLS makes it prove.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rnd.rules.peer_id import KEY_BYTES, key_from_peer_id, peer_id_from_key
from rnd.types.errors import CertificateNotCanonical
from rnd.types.ids import PeerId

CERTIFICATE_BYTES: Final = 461
PUBLIC_NAME: Final = "rnd.invalid"
"""The one DNS name of every certificate, for TLS libraries that insist on a name. It says nothing about anybody."""

ANCHOR_SEED: Final = hashlib.sha256(b"rnd public anchor: published on purpose, not a secret").digest()
_ANCHOR_NAME: Final = "rnd public anchor (not a secret)"
_ANCHOR: Final = Ed25519PrivateKey.from_private_bytes(ANCHOR_SEED)
_ANCHOR_KEY: Final = _ANCHOR.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

_KEY_AT: Final = 200
_SERIAL_LABEL: Final = b"rnd-serial"
_SERIAL_BYTES: Final = 16
_KEY_ID_BYTES: Final = 20

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _UTF8 = 0x02, 0x03, 0x04, 0x06, 0x0C
_UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _SET = 0x17, 0x18, 0x30, 0x31


@lru_cache(maxsize=1024)
def canonical_certificate(peer_id: PeerId) -> bytes:
    """Return the DER of the only certificate that this peer can have. Raises `ValueError` for what is no peer id."""
    key = key_from_peer_id(peer_id)
    digest = hashlib.sha256(_SERIAL_LABEL + key).digest()[:_SERIAL_BYTES]
    # The top bits 01 make it positive and exactly 16 bytes long, so that every certificate has the same length.
    serial = bytes([digest[0] & 0x3F | 0x40]) + digest[1:]
    extensions = (
        _BASIC_CONSTRAINTS_NO_CA
        + _KEY_USAGE_SIGNATURES
        + _EXTENDED_KEY_USAGE
        + _ALTERNATIVE_NAME
        + _subject_key_id(key)
        + _AUTHORITY_KEY_ID
    )
    return _signed_by_anchor(serial, peer_id, key, extensions)


@lru_cache(maxsize=1)
def anchor_certificate() -> bytes:
    """Return the DER of the anchor's own certificate. Whoever trusts it lets every peer through, known or not."""
    extensions = _BASIC_CONSTRAINTS_CA + _KEY_USAGE_CERTIFICATES + _subject_key_id(_ANCHOR_KEY)
    return _signed_by_anchor(b"\x01", _ANCHOR_NAME, _ANCHOR_KEY, extensions)


def peer_id_of_certificate(der: bytes) -> PeerId:
    """Return whose certificate this is. Names in it are never read.

    Raises `CertificateNotCanonical` unless the bytes are exactly those of `canonical_certificate` for the key inside.
    """
    # Nothing is parsed: in a canonical certificate the key stands at one place, and all else follows from it.
    if len(der) != CERTIFICATE_BYTES:
        raise CertificateNotCanonical(f"a peer's certificate has {CERTIFICATE_BYTES} bytes, not {len(der)}")
    peer_id = peer_id_from_key(der[_KEY_AT : _KEY_AT + KEY_BYTES])
    if der != canonical_certificate(peer_id):
        raise CertificateNotCanonical("this certificate differs from the one that follows from its key")
    return peer_id


def _signed_by_anchor(serial: bytes, subject: str, key: bytes, extensions: bytes) -> bytes:
    body = _tlv(
        _SEQUENCE,
        _tlv(0xA0, _tlv(_INTEGER, b"\x02")),  # X.509 version 3
        _tlv(_INTEGER, serial),
        _ED25519,
        _name(_ANCHOR_NAME),
        _tlv(_SEQUENCE, _tlv(_UTC_TIME, b"700101000000Z"), _tlv(_GENERALIZED_TIME, b"99991231235959Z")),
        _name(subject),
        _tlv(_SEQUENCE, _ED25519, _bits(key)),
        _tlv(0xA3, _tlv(_SEQUENCE, extensions)),
    )
    return _tlv(_SEQUENCE, body, _ED25519, _bits(_ANCHOR.sign(body)))


def _tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = bytes([0x81, size])
    else:
        length = bytes([0x82, size >> 8, size & 0xFF])
    return bytes([tag]) + length + content


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = bytes([first * 40 + second])
    for number in rest:
        content += bytes([number]) if number < 0x80 else bytes([number >> 7 | 0x80, number & 0x7F])
    return _tlv(_OID, content)


def _bits(content: bytes, *, unused: int = 0) -> bytes:
    return _tlv(_BIT_STRING, bytes([unused]), content)


def _name(common_name: str) -> bytes:
    attribute = _tlv(_SEQUENCE, _oid("2.5.4.3"), _tlv(_UTF8, common_name.encode("ascii")))
    return _tlv(_SEQUENCE, _tlv(_SET, attribute))


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    marker = b"\x01\x01\xff" if critical else b""
    return _tlv(_SEQUENCE, _oid(oid), marker, _tlv(_OCTET_STRING, value))


def _key_id(key: bytes) -> bytes:
    """Return RFC 7093's first kind of key identifier."""
    return hashlib.sha256(key).digest()[:_KEY_ID_BYTES]


def _subject_key_id(key: bytes) -> bytes:
    return _extension("2.5.29.14", _tlv(_OCTET_STRING, _key_id(key)))


_ED25519: Final = _tlv(_SEQUENCE, _oid("1.3.101.112"))
_BASIC_CONSTRAINTS_NO_CA: Final = _extension("2.5.29.19", _tlv(_SEQUENCE), critical=True)
_BASIC_CONSTRAINTS_CA: Final = _extension(
    "2.5.29.19", _tlv(_SEQUENCE, b"\x01\x01\xff", _tlv(_INTEGER, b"\x00")), critical=True
)
_KEY_USAGE_SIGNATURES: Final = _extension("2.5.29.15", _bits(b"\x80", unused=7), critical=True)
_KEY_USAGE_CERTIFICATES: Final = _extension("2.5.29.15", _bits(b"\x04", unused=2), critical=True)
_EXTENDED_KEY_USAGE: Final = _extension(
    "2.5.29.37", _tlv(_SEQUENCE, _oid("1.3.6.1.5.5.7.3.1"), _oid("1.3.6.1.5.5.7.3.2"))
)
_ALTERNATIVE_NAME: Final = _extension("2.5.29.17", _tlv(_SEQUENCE, _tlv(0x82, PUBLIC_NAME.encode("ascii"))))
_AUTHORITY_KEY_ID: Final = _extension("2.5.29.35", _tlv(_SEQUENCE, _tlv(0x80, _key_id(_ANCHOR_KEY))))
