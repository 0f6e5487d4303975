"""The id of a peer: golden vectors, round trip, and typos caught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.peer_id import key_from_peer_id, peer_id_from_key

ZERO = peer_id_from_key(bytes(32))
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def is_peer_id(text: str) -> bool:
    try:
        key_from_peer_id(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("key", "peer_id"),
    [
        (bytes(32), "rnaeaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa5ro"),
        (bytes(range(32)), "rnaeaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb7bhz"),
        (b"\xff" * 32, "rnah777777777777777777777777777777777777777777777777777vqt"),
    ],
)
def test_golden_vectors(key: bytes, peer_id: str) -> None:
    assert peer_id_from_key(key) == peer_id
    assert key_from_peer_id(peer_id) == key


@given(st.binary(min_size=32, max_size=32))
def test_the_key_is_read_out_of_the_id(key: bytes) -> None:
    peer_id = peer_id_from_key(key)
    assert len(peer_id) == 58
    assert peer_id.startswith("rn")
    assert set(peer_id) <= set(ALPHABET)
    assert key_from_peer_id(peer_id) == key


@given(st.binary(min_size=32, max_size=32), st.integers(2, 57), st.sampled_from(ALPHABET))
def test_one_wrong_letter_hardly_ever_gives_another_key(key: bytes, position: int, letter: str) -> None:
    peer_id = peer_id_from_key(key)
    typo = peer_id[:position] + letter + peer_id[position + 1 :]
    # A 16-bit check lets one typo in 65,536 pass; what passes must at least name a key that has this very id.
    if typo != peer_id and is_peer_id(typo):
        assert peer_id_from_key(key_from_peer_id(typo)) == typo


def test_every_single_typo_of_one_id_is_caught() -> None:
    typos = [ZERO[:at] + letter + ZERO[at + 1 :] for at in range(58) for letter in ALPHABET if letter != ZERO[at]]
    assert not any(is_peer_id(typo) for typo in typos)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with"),
        ("xx" + ZERO[2:], "begins with"),
        (ZERO[:-1], "58 characters, not 57"),
        (ZERO + "a", "58 characters, not 59"),
        ("rn" + ZERO[2:].upper(), "lower case"),
        ("rn1" + ZERO[3:], "letters a-z"),
        ("rné" + ZERO[3:], "letters a-z"),
        ("rnb" + ZERO[3:], "typo"),
        ("rnaiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabo5f", "version 2"),
    ],
)
def test_malformed_ids_are_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        key_from_peer_id(text)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_a_key_of_32_bytes_has_an_id(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        peer_id_from_key(bytes(length))
