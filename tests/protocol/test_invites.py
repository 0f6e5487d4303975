"""Invites: golden line and proofs, good words for every way to be wrong, and secrets that never show."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.invites import Invite, JoinRole, derive_key, join_proof, new_invite, parse_invite, proof_holds
from rnd.types.errors import MalformedInvite
from rnd.types.ids import PeerId
from tests.protocol.examples import EXECUTOR, ORCHESTRATOR

GOLDEN = json.loads((Path(__file__).parent / "golden" / "invite.json").read_text(encoding="utf-8"))
LINE: str = GOLDEN["line"]
SECRET = bytes.fromhex(GOLDEN["secret"])
KEY = derive_key(SECRET)
INVITER, JOINER = ORCHESTRATOR.peer_id, EXECUTOR.peer_id


def with_check(body: str) -> str:
    """Return a line whose check fits, whatever stands in it."""
    return body + "/" + base64.b32encode(hashlib.sha256(body.encode()).digest()).decode().lower()[:8]


def refusal(line: str) -> str:
    with pytest.raises(MalformedInvite) as caught:
        parse_invite(line)
    return str(caught.value)


def test_the_golden_line_both_ways() -> None:
    assert (GOLDEN["inviter"], GOLDEN["joiner"]) == (INVITER, JOINER)
    assert new_invite(INVITER, GOLDEN["addresses"], SECRET) == LINE
    assert parse_invite(LINE) == Invite(peer_id=INVITER, addresses=tuple(GOLDEN["addresses"]), secret=SECRET)


def test_the_golden_key_and_proofs() -> None:
    assert (KEY.invite_id, KEY.key.hex()) == (GOLDEN["invite_id"], GOLDEN["key"])
    for role in JoinRole:
        assert join_proof(KEY.key, role, inviter=INVITER, joiner=JOINER) == GOLDEN["proofs"][role]


@given(
    st.binary(min_size=16, max_size=16),
    st.lists(
        st.sampled_from(["lab:1", "192.0.2.1:30906", "[::1]:65535", "peer_a.example.org:80"]), min_size=1, max_size=4
    ),
)
def test_an_invite_comes_back_as_it_was(secret: bytes, addresses: list[str]) -> None:
    line = new_invite(INVITER, addresses, secret)
    assert line.split() == [line]
    assert parse_invite(f"  {line}\n") == Invite(peer_id=INVITER, addresses=tuple(addresses), secret=secret)


def test_names_of_hosts_are_written_in_lower_case() -> None:
    assert parse_invite(new_invite(INVITER, ["Lab.Example.ORG:1"], SECRET)).addresses == ("lab.example.org:1",)


BODY = LINE.rpartition("/")[0]
HEAD, _, ADDRESSES = BODY.rpartition("/")
DIGITS = HEAD.rpartition("/")[2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "this is not an invite"),
        ("hello", "this is not an invite"),
        (INVITER, "this is not an invite"),
        (LINE.upper(), "this is not an invite"),
        (with_check(BODY.replace(":1/", ":one/", 1)), "this is not an invite"),
        (LINE[:60] + "\n" + LINE[60:], "without spaces"),
        (LINE + " and more", "without spaces"),
        (LINE.replace(":1/", ":2/", 1), "has version 2, and only version 1"),
        (LINE.replace(":1/", ":10/", 1), "has version 10"),
        ("rnd-invite:", "was cut"),
        ("rnd-invite:1", "was cut"),
        (LINE[:50], "was cut"),
        (BODY, "was cut"),
        (LINE[:-1], "was cut"),
        (LINE + "x", "more in this line"),
        (LINE + "/x", "more in this line"),
        (LINE.replace("lab", "lap"), "typo"),
        (LINE[:-1] + ("a" if LINE[-1] != "a" else "b"), "typo"),
        (LINE[:-1] + "é", "typo"),
        (with_check(BODY.replace(INVITER, INVITER[:-1])), "58 characters, not 57"),
        (with_check(BODY.replace(INVITER, "rnb" + INVITER[3:])), "names is none"),
        (with_check(BODY.replace(DIGITS, DIGITS[:-1])), "26 letters"),
        (with_check(BODY.replace(DIGITS, DIGITS[:-1] + "1")), "26 letters"),
        (with_check(BODY.replace(DIGITS, DIGITS[:-1] + "5")), "26 letters"),
        (with_check(BODY.replace(DIGITS, DIGITS.upper())), "26 letters"),
        (with_check(f"{HEAD}/"), "host:port"),
        (with_check(f"{HEAD}/lab"), "host:port"),
        (with_check(f"{HEAD}/lab:0"), "host:port"),
        (with_check(f"{HEAD}/lab:1,"), "host:port"),
        (with_check(f"{HEAD}/-lab:1"), "host:port"),
        (with_check(f"{HEAD}/l@b:1"), "host:port"),
        (with_check(f"{HEAD}/[::1%eth0]:1"), "host:port"),
        (with_check(f"{HEAD}/[::x]:1"), "host:port"),
        (with_check(f"{HEAD}/a:1,b:1,c:1,d:1,e:1"), "at most 4 addresses, not 5"),
        (with_check(f"{HEAD}/{'a' * 3000}:1"), "too long"),
    ],
)
def test_what_is_wrong_is_said(line: str, words: str) -> None:
    assert words in refusal(line)


@pytest.mark.parametrize("secret", [b"", b"short", bytes(17), bytes(32)])
def test_a_secret_has_16_bytes(secret: bytes) -> None:
    with pytest.raises(MalformedInvite):
        new_invite(INVITER, ["lab:1"], secret)


@given(st.integers(0, len(LINE) - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567/:,.1 "))
def test_no_single_typo_is_taken(position: int, letter: str) -> None:
    typo = LINE[:position] + letter + LINE[position + 1 :]
    if typo != LINE and typo.strip() != LINE:
        refusal(typo)


@given(st.text() | st.text().map(lambda text: "rnd-invite:" + text) | st.text().map(lambda text: with_check_of(text)))
def test_any_text_is_an_invite_or_refused(text: str) -> None:
    refusal(text)


def with_check_of(text: str) -> str:
    return with_check("rnd-invite:1/" + text.encode(errors="replace").decode())


def test_a_proof_is_for_one_secret_one_role_and_two_peers() -> None:
    right = join_proof(KEY.key, JoinRole.JOINER, inviter=INVITER, joiner=JOINER)
    assert proof_holds(right, KEY.key, JoinRole.JOINER, inviter=INVITER, joiner=JOINER)
    assert not proof_holds(right, KEY.key, JoinRole.INVITER, inviter=INVITER, joiner=JOINER)
    assert not proof_holds(right, KEY.key, JoinRole.JOINER, inviter=JOINER, joiner=INVITER)
    assert not proof_holds(right, bytes(32), JoinRole.JOINER, inviter=INVITER, joiner=JOINER)
    for wrong in ("", right[:-1], right + "0", right.upper(), "é", "\udcff"):
        assert not proof_holds(wrong, KEY.key, JoinRole.JOINER, inviter=INVITER, joiner=JOINER)


def test_no_secret_shows() -> None:
    shown = repr(parse_invite(LINE)) + repr(KEY) + refusal(LINE.replace("lab", "lap"))
    for hidden in (DIGITS, repr(SECRET)[2:-1], SECRET.hex(), repr(KEY.key)[2:-1], KEY.key.hex()):
        assert hidden not in shown


def test_an_invite_of_a_peer_that_is_none_is_not_made() -> None:
    with pytest.raises(MalformedInvite):
        new_invite(PeerId("peer_worker"), ["lab:1"], SECRET)
