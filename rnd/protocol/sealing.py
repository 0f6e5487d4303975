"""Sealing of files and keys: AES-256-GCM in STREAM form, and keys derived from passphrases (DATA Service Execution).

STREAM is the construction of Hoang, Reyhanitabar, Rogaway and Vizar (2015): every chunk is sealed with its index and a
flag that says whether it is the last, so that nothing can be swapped, repeated, dropped, cut off or appended. Nonces
are counters, so each file gets a key of its own, derived from the data key and from a context that names the file.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from rnd.types.errors import SealBroken

CHUNK_BYTES: Final = 1 << 20
TAG_BYTES: Final = 16
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12

_STREAM_LABEL: Final = b"rnd/1 stream"
_WRAP_LABEL: Final = b"rnd/1 wrapped data key"
_SMALL_LABEL: Final = b"rnd/1 small secret"
_HEADER_VERSION: Final = 1

# Bounds on what a stored header may ask for: no weaker than what is written today, no bigger than a daemon can bear.
_ARGON2_ITERATIONS: Final = range(3, 17)
_ARGON2_LANES: Final = range(1, 17)
_ARGON2_MEMORY_KIB: Final = range(64 << 10, (256 << 10) + 1)
_SCRYPT_N: Final = (1 << 17, 1 << 18)
_SCRYPT_R: Final = range(8, 9)
_SCRYPT_P: Final = range(1, 5)

# cryptography 44 to 46 can only return new bytes; later versions fill buffers and let other threads run meanwhile.
_FILLS_BUFFERS: Final = hasattr(AESGCM, "encrypt_into")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2idParameters:
    """Cost of Argon2id: passes, lanes, memory in KiB."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ScryptParameters:
    """Cost of scrypt, which stands in where OpenSSL has no Argon2id: N, r and p of RFC 7914."""

    n: int = 1 << 17
    r: int = 8
    p: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KdfHeader:
    """How a key is derived from a passphrase. The salt has 16 bytes."""

    parameters: Argon2idParameters | ScryptParameters
    salt: bytes


class Stream:
    """Seals or opens the chunks of one file under a key that belongs to this (key, context) alone.

    `context` names what the chunks are part of and must never serve twice for different content under one key.
    """

    def __init__(self, key: bytes, context: bytes) -> None:
        own_key = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_STREAM_LABEL + context).derive(key)
        self._aead = AESGCM(own_key)
        self._associated = _STREAM_LABEL + context

    def seal_chunk(self, index: int, plain: memoryview, *, final: bool, into: memoryview) -> int:
        """Seal a chunk of at most 1 MiB into a buffer that has 16 bytes more room; return how many were written.

        Every chunk but the last has exactly 1 MiB; an empty file is one empty last chunk.
        """
        _check_chunk_size(index, len(plain), final=final)
        nonce, associated = self._nonce(index, final), self._aad(index, final)
        size = len(plain) + TAG_BYTES
        seal_into(self._aead, nonce, plain, associated, into[:size])
        return size

    def open_chunk(self, index: int, sealed: memoryview, *, final: bool, into: memoryview) -> int:
        """Open a sealed chunk into a buffer of at least 1 MiB; return how many plain bytes it gave.

        Raises `SealBroken`; the buffer then holds nothing to be used.
        """
        size = len(sealed) - TAG_BYTES
        if size < 0:
            raise SealBroken("a sealed chunk is too short")
        try:
            _check_chunk_size(index, size, final=final)
            nonce, associated = self._nonce(index, final), self._aad(index, final)
            open_into(self._aead, nonce, sealed, associated, into[:size])
        except (SealBroken, ValueError) as error:
            raise SealBroken(f"chunk {index} is not what was sealed") from error
        return size

    def _nonce(self, index: int, final: bool) -> bytes:
        return struct.pack(">3xQB", index, final)

    def _aad(self, index: int, final: bool) -> bytes:
        return self._associated + struct.pack(">QB", index, final)


def seal_into(aead: AESGCM, nonce: bytes, plain: memoryview, associated: bytes, into: memoryview) -> None:
    """Encrypt into a buffer that is 16 bytes longer than what is encrypted."""
    if _FILLS_BUFFERS:
        aead.encrypt_into(nonce, plain, associated, into)
    else:
        into[:] = aead.encrypt(nonce, plain, associated)


def open_into(aead: AESGCM, nonce: bytes, sealed: memoryview, associated: bytes, into: memoryview) -> None:
    """Decrypt into a buffer that is 16 bytes shorter. Raises `SealBroken`; the buffer then holds nothing to be used."""
    try:
        if _FILLS_BUFFERS:
            aead.decrypt_into(nonce, sealed, associated, into)
        else:
            into[:] = aead.decrypt(nonce, sealed, associated)
    except InvalidTag as error:
        raise SealBroken("sealed bytes are not what was sealed") from error


def chunk_count(plain_bytes: int) -> int:
    """Return how many chunks a file of so many plain bytes is sealed in; an empty one takes one."""
    return max(1, -(-plain_bytes // CHUNK_BYTES))


def sealed_bytes(plain_bytes: int) -> int:
    """Return the size of a sealed file."""
    return plain_bytes + chunk_count(plain_bytes) * TAG_BYTES


def preferred_kdf() -> Argon2idParameters | ScryptParameters:
    """Return what new passphrases are hardened with: Argon2id, or scrypt where this OpenSSL has no Argon2id."""
    parameters = Argon2idParameters()
    try:
        _argon2id(parameters, bytes(SALT_BYTES))
    except UnsupportedAlgorithm:
        return ScryptParameters()
    return parameters


def derive_key(header: KdfHeader, passphrase: str) -> bytes:
    """Return the 32-byte key of a passphrase (NFC, UTF-8). Takes a quarter of a second and 64 to 256 MiB on purpose.

    A process derives one at a time: two of several lanes wait for each other without end (seen with OpenSSL 4.0.3, whose
    threads for lanes are shared by all derivations).
    Raises `cryptography.exceptions.UnsupportedAlgorithm` where this OpenSSL lacks the function that the header names.
    """
    secret = unicodedata.normalize("NFC", passphrase).encode()
    match header.parameters:
        case Argon2idParameters() as parameters:
            return _argon2id(parameters, header.salt).derive(secret)
        case ScryptParameters(n=n, r=r, p=p):
            return Scrypt(salt=header.salt, length=KEY_BYTES, n=n, r=r, p=p).derive(secret)


def header_to_json(header: KdfHeader) -> str:
    """Return a header as the JSON text that `data_keys.header` holds."""
    fields: dict[str, int | str] = {"version": _HEADER_VERSION}
    match header.parameters:
        case Argon2idParameters(iterations=iterations, lanes=lanes, memory_kib=memory_kib):
            fields |= {"kdf": "argon2id", "iterations": iterations, "lanes": lanes, "memory_kib": memory_kib}
        case ScryptParameters(n=n, r=r, p=p):
            fields |= {"kdf": "scrypt", "n": n, "r": r, "p": p}
    return json.dumps(fields | {"salt": header.salt.hex()})


def header_from_json(text: str) -> KdfHeader:
    """Return a stored header.

    Raises `ValueError` for another version, and for parameters out of bounds either way: weaker ones would be a
    downgrade, bigger ones would exhaust the memory.
    """
    try:
        fields = json.loads(text)
    except RecursionError:
        raise ValueError("the key header is nested without end") from None
    if not isinstance(fields, dict) or fields.get("version") != _HEADER_VERSION:
        raise ValueError("the key header has an unknown version")
    salt = bytes.fromhex(str(fields.get("salt", "")))
    if len(salt) != SALT_BYTES:
        raise ValueError("the key header's salt does not have 16 bytes")
    parameters: Argon2idParameters | ScryptParameters
    match fields.get("kdf"):
        case "argon2id":
            parameters = Argon2idParameters(
                iterations=_bounded(fields, "iterations", _ARGON2_ITERATIONS),
                lanes=_bounded(fields, "lanes", _ARGON2_LANES),
                memory_kib=_bounded(fields, "memory_kib", _ARGON2_MEMORY_KIB),
            )
        case "scrypt":
            parameters = ScryptParameters(
                n=_bounded(fields, "n", _SCRYPT_N),
                r=_bounded(fields, "r", _SCRYPT_R),
                p=_bounded(fields, "p", _SCRYPT_P),
            )
        case _:
            raise ValueError("the key header names an unknown key derivation function")
    return KdfHeader(parameters=parameters, salt=salt)


def wrap_key(kek: bytes, data_key: bytes, *, context: bytes, nonce: bytes) -> bytes:
    """Seal a data key under the key of a passphrase; `nonce` is 12 fresh random bytes and leads the result."""
    return nonce + AESGCM(kek).encrypt(nonce, data_key, _WRAP_LABEL + context)


def unwrap_key(kek: bytes, wrapped: bytes, *, context: bytes) -> bytes:
    """Return a wrapped data key. Raises `SealBroken` for another passphrase, another context or changed bytes."""
    return _open_small(kek, wrapped, _WRAP_LABEL + context)


def seal_small(key: bytes, plain: bytes, *, purpose: str, nonce: bytes) -> bytes:
    """Seal a few bytes that only the same purpose can open again; `nonce` is 12 fresh random bytes."""
    return nonce + AESGCM(key).encrypt(nonce, plain, _SMALL_LABEL + purpose.encode())


def open_small(key: bytes, sealed: bytes, *, purpose: str) -> bytes:
    """Return what `seal_small` sealed. Raises `SealBroken` for another key or purpose, or changed bytes."""
    return _open_small(key, sealed, _SMALL_LABEL + purpose.encode())


def _open_small(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise SealBroken("sealed bytes are too short")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except InvalidTag as error:
        raise SealBroken("sealed bytes do not open with this key for this purpose") from error


def _argon2id(parameters: Argon2idParameters, salt: bytes) -> Argon2id:
    return Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    )


def _bounded(fields: Mapping[str, object], name: str, allowed: range | tuple[int, ...]) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise ValueError(f"the key header's {name} is out of bounds")
    return value


def _check_chunk_size(index: int, size: int, *, final: bool) -> None:
    if size > CHUNK_BYTES or (not final and size != CHUNK_BYTES) or (size == 0 and index > 0):
        raise ValueError("every chunk but the last has exactly 1 MiB, and only the chunk of an empty file is empty")
