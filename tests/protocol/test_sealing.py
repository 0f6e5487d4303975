"""Sealing of files and keys: golden vectors, round trips, and every way of tampering refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from rnd.protocol import sealing
from rnd.protocol.sealing import (
    CHUNK_BYTES,
    Argon2idParameters,
    KdfHeader,
    ScryptParameters,
    Stream,
    chunk_count,
    derive_key,
    header_from_json,
    header_to_json,
    open_small,
    preferred_kdf,
    seal_small,
    sealed_bytes,
    unwrap_key,
    wrap_key,
)
from rnd.types.errors import SealBroken

KEY = bytes(range(32))
CONTEXT = b"service 1f2e/table.csv"
NONCE = bytes(range(12))


def seal(plain: bytes, *, key: bytes = KEY, context: bytes = CONTEXT) -> list[bytes]:
    stream = Stream(key, context)
    room = memoryview(bytearray(sealing.SEALED_CHUNK_BYTES))
    count = chunk_count(len(plain))
    sealed = []
    for index in range(count):
        chunk = memoryview(plain)[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        size = stream.seal_chunk(index, chunk, final=index == count - 1, into=room)
        sealed.append(bytes(room[:size]))
    return sealed


def open_all(chunks: list[bytes], *, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    stream = Stream(key, context)
    room = memoryview(bytearray(CHUNK_BYTES))
    plain = b""
    for index, chunk in enumerate(chunks):
        size = stream.open_chunk(index, memoryview(chunk), final=index == len(chunks) - 1, into=room)
        plain += bytes(room[:size])
    return plain


PLAIN = hashlib.sha256(b"plain").digest() * (3 * CHUNK_BYTES // 32) + b"and 17 bytes more"
SEALED = seal(PLAIN)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_what_was_sealed_opens_again_at_every_edge_of_a_chunk(size: int) -> None:
    plain = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    chunks = seal(plain)
    assert open_all(chunks) == plain
    assert sum(map(len, chunks)) == sealed_bytes(size)


@settings(max_examples=50, deadline=None)
@given(plain=st.binary(max_size=5000), key=st.binary(min_size=32, max_size=32), context=st.binary(max_size=200))
def test_any_bytes_under_any_key_and_context_open_again(plain: bytes, key: bytes, context: bytes) -> None:
    assert open_all(seal(plain, key=key, context=context), key=key, context=context) == plain


def test_the_form_is_aes_gcm_with_counter_nonces_under_a_key_of_the_context() -> None:
    own_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"rnd/1 stream" + CONTEXT).derive(KEY)
    first = AESGCM(own_key).encrypt(bytes(12), PLAIN[:CHUNK_BYTES], b"rnd/1 stream" + CONTEXT + bytes(9))
    tail = bytes(7) + b"\x03\x01"
    last = AESGCM(own_key).encrypt(bytes(3) + tail, PLAIN[3 * CHUNK_BYTES :], b"rnd/1 stream" + CONTEXT + tail)
    assert SEALED[0] == first
    assert SEALED[3] == last


def test_golden_vectors_hold_so_that_old_files_stay_readable() -> None:
    assert seal(b"")[0].hex() == "3f981468a71f2473c227577595938944"
    assert seal(b"rnd")[0].hex() == "2c7f1c3aad0a3332497e05ddd0ff66efca2343"
    assert (
        hashlib.sha256(b"".join(SEALED)).hexdigest()
        == "db0781b1cbb4a70f5891a32b5da989ed170eda98f3f511ff3c07786d30c75a04"
    )
    assert wrap_key(KEY, KEY, context=CONTEXT, nonce=NONCE).hex() == (
        "000102030405060708090a0b4703d418c1e0c41c85489d80bde4766293c79527e46e496b207eff9e01741ead722b7e5cd9b1a365464cd3eb9077e748"
    )
    assert seal_small(KEY, b"secret", purpose="a purpose", nonce=NONCE).hex() == (
        "000102030405060708090a0b3467b569a09184d06fa3d226d3e960aa35b017b86be3"
    )


ATTACKS: dict[str, Callable[[], bytes]] = {
    "two chunks swapped": lambda: open_all([SEALED[1], SEALED[0], *SEALED[2:]]),
    "a chunk repeated in place of another": lambda: open_all([SEALED[0], SEALED[0], *SEALED[2:]]),
    "a chunk dropped from the middle": lambda: open_all([SEALED[0], *SEALED[2:]]),
    "the file cut at a chunk's edge": lambda: open_all(SEALED[:3]),
    "the last chunk cut short": lambda: open_all([*SEALED[:3], SEALED[3][:-1]]),
    "a chunk appended": lambda: open_all([*SEALED, SEALED[3]]),
    "one bit flipped": lambda: open_all([bytes([SEALED[0][0] ^ 1]) + SEALED[0][1:], *SEALED[1:]]),
    "another file's chunks under the same key": lambda: open_all(SEALED, context=b"service 1f2e/other.csv"),
    "another key": lambda: open_all(SEALED, key=bytes(32)),
    "a chunk of another file in its place": lambda: open_all([*SEALED[:3], seal(PLAIN, context=b"other")[3]]),
    "a chunk too short for its tag": lambda: open_all([b"short"]),
    "an empty chunk after others": lambda: open_all([*SEALED[:3], SEALED[3][:16]]),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_tampering_is_refused(attack: Callable[[], bytes]) -> None:
    with pytest.raises(SealBroken):
        attack()


def test_two_files_with_the_same_bytes_look_different() -> None:
    assert seal(b"same", context=b"a") != seal(b"same", context=b"b")


@pytest.mark.parametrize(("size", "index", "final"), [(CHUNK_BYTES - 1, 0, False), (0, 1, True), (0, 0, False)])
def test_a_chunk_of_the_wrong_size_is_never_sealed(size: int, index: int, final: bool) -> None:
    with pytest.raises(ValueError, match="1 MiB"):
        Stream(KEY, CONTEXT).seal_chunk(
            index, memoryview(bytes(size)), final=final, into=memoryview(bytearray(sealing.SEALED_CHUNK_BYTES))
        )


def test_the_oldest_supported_library_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_FILLS_BUFFERS", False)
    assert seal(PLAIN) == SEALED
    assert open_all(SEALED) == PLAIN
    with pytest.raises(SealBroken):
        open_all(SEALED[:3])


def test_argon2id_is_preferred_and_its_key_does_not_change() -> None:
    header = KdfHeader(parameters=Argon2idParameters(), salt=bytes(range(16)))
    assert preferred_kdf() == Argon2idParameters(iterations=3, lanes=4, memory_kib=65536)
    assert (
        derive_key(header, "correct horse").hex() == "577f1ff37e9a3e52c97d39f8e83891c1b73b0e87ffe0429cee8ede2fb005fe44"
    )


def test_scrypt_stands_in_and_its_key_does_not_change() -> None:
    header = KdfHeader(parameters=ScryptParameters(), salt=bytes(range(16)))
    assert (
        derive_key(header, "correct horse").hex() == "4c6bc95145350a07e4000e6b475195a0b9c727c25a0517bbc2ac76edc10e426c"
    )


def test_a_passphrase_typed_in_either_unicode_form_gives_the_same_key() -> None:
    header = KdfHeader(parameters=Argon2idParameters(), salt=bytes(16))
    assert derive_key(header, "caf\u00e9") == derive_key(header, "cafe\u0301")


@pytest.mark.parametrize("parameters", [Argon2idParameters(), Argon2idParameters(iterations=4), ScryptParameters()])
def test_a_header_survives_its_json(parameters: Argon2idParameters | ScryptParameters) -> None:
    header = KdfHeader(parameters=parameters, salt=bytes(range(16)))
    assert header_from_json(header_to_json(header)) == header


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"kdf": "pbkdf2"},
        {"salt": "00"},
        {"salt": "no hex"},
        {"iterations": 2},
        {"iterations": 1000},
        {"iterations": "3"},
        {"lanes": True, "iterations": 3.0},
        {"lanes": 0},
        {"memory_kib": 19456},
        {"memory_kib": 1 << 30},
        {"kdf": "scrypt", "n": 1 << 14, "r": 8, "p": 1},
        {"kdf": "scrypt", "n": 1 << 24, "r": 8, "p": 1},
        {"kdf": "scrypt", "n": 1 << 17, "r": 1 << 20, "p": 1},
    ],
)
def test_a_header_out_of_bounds_either_way_is_refused(changes: dict[str, object]) -> None:
    fields = json.loads(header_to_json(KdfHeader(parameters=Argon2idParameters(), salt=bytes(16))))
    with pytest.raises(ValueError, match=r"header|hexadecimal"):
        header_from_json(json.dumps(fields | changes))


@pytest.mark.parametrize("text", ["[]", "null", "{}"])
def test_a_header_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="version"):
        header_from_json(text)


def test_a_header_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="nested"):
        header_from_json("[" * 100_000)


def test_a_wrapped_key_opens_only_with_its_key_and_context() -> None:
    wrapped = wrap_key(KEY, b"d" * 32, context=CONTEXT, nonce=NONCE)
    assert unwrap_key(KEY, wrapped, context=CONTEXT) == b"d" * 32
    for key, sealed, context in [
        (bytes(32), wrapped, CONTEXT),
        (KEY, wrapped, b"other"),
        (KEY, wrapped[:-1], CONTEXT),
        (KEY, b"", CONTEXT),
    ]:
        with pytest.raises(SealBroken):
            unwrap_key(key, sealed, context=context)


@given(plain=st.binary(max_size=300), purpose=st.text(max_size=50), nonce=st.binary(min_size=12, max_size=12))
def test_a_small_secret_opens_for_its_purpose_only(plain: bytes, purpose: str, nonce: bytes) -> None:
    sealed = seal_small(KEY, plain, purpose=purpose, nonce=nonce)
    assert open_small(KEY, sealed, purpose=purpose) == plain
    with pytest.raises(SealBroken):
        open_small(KEY, sealed, purpose=purpose + "!")
