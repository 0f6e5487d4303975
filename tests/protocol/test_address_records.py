"""Records of addresses: a golden one, one way to write each, and nobody else's signature."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.address_records import join_address, sign_addresses, split_address, text_to_sign, verify_record
from rnd.types.errors import MalformedAddresses
from rnd.types.ids import PeerId
from rnd.types.peers import AddressRecord
from tests.protocol.examples import EXECUTOR, ORCHESTRATOR

GOLDEN = json.loads((Path(__file__).parent / "golden" / "address_record.json").read_text(encoding="utf-8"))
RECORD = AddressRecord(**GOLDEN["record"] | {"addresses": tuple(GOLDEN["record"]["addresses"])})


def test_the_golden_record_both_ways() -> None:
    verify_record(RECORD)
    assert bytes.fromhex(GOLDEN["seed"]) == ORCHESTRATOR.seed
    text = text_to_sign(RECORD.peer_id, RECORD.issued_at_ms, RECORD.addresses)
    assert text.decode() == GOLDEN["text"]
    made = sign_addresses(
        RECORD.peer_id, RECORD.addresses, issued_at_ms=RECORD.issued_at_ms, sign=ORCHESTRATOR.key.sign
    )
    assert made == RECORD


def test_a_peer_may_have_no_address() -> None:
    verify_record(ORCHESTRATOR.record())


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("192.0.2.1:30906", ("192.0.2.1", 30906)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("[::]:80", ("::", 80)),
    ],
)
def test_numeric_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "port"),
        ("192.0.2.1", "port"),
        ("192.0.2.1:", "port"),
        ("192.0.2.1:0", "port"),
        ("192.0.2.1:080", "port"),
        ("192.0.2.1:65536", "port"),
        ("192.0.2.1:+80", "port"),
        ("192.0.2.1:٣", "port"),
        ("192.0.2.1:80\n", "port"),
        (":80", "numeric"),
        ("lab.example.org:80", "numeric"),
        ("localhost:80", "numeric"),
        ("192.0.2.01:80", "numeric"),
        ("192.0.2:80", "numeric"),
        ("2130706433:80", "numeric"),
        ("0x7f.0.0.1:80", "numeric"),
        (" 192.0.2.1:80", "numeric"),
        ("[[::1]]:80", "numeric"),
        ("[192.0.2.1]:80", "must be written 192.0.2.1:80"),
        ("::1:80", "must be written"),
        ("[2001:DB8::1]:80", "must be written"),
        ("[2001:db8:0::1]:80", "must be written"),
        ("[::ffff:192.0.2.1]:80", "IPv4"),
        ("[::ffff:c000:201]:80", "IPv4"),
        ("[fe80::1%eth0]:80", "zone"),
    ],
)
def test_addresses_that_are_not_taken(address: str, words: str) -> None:
    with pytest.raises(MalformedAddresses, match=words):
        split_address(address)
    with pytest.raises(MalformedAddresses, match=words):
        ORCHESTRATOR.record(address)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        host, port = split_address(text)
    except MalformedAddresses:
        return
    assert join_address(host, port) == text


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_canonical_address_is_taken(host: object, port: int) -> None:
    text = join_address(str(host), port)
    if getattr(host, "ipv4_mapped", None) is None:
        assert split_address(text) == (str(host), port)


SIGNATURE = base64.b64decode(RECORD.signature)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peer_id": EXECUTOR.peer_id}, "signature of a record is not its peer's"),
        ({"issued_at_ms": RECORD.issued_at_ms + 1}, "not its peer's"),
        ({"issued_at_ms": -1}, "time"),
        ({"issued_at_ms": 2**63}, "time"),
        ({"addresses": RECORD.addresses[:1]}, "not its peer's"),
        ({"addresses": RECORD.addresses[::-1]}, "not its peer's"),
        ({"addresses": RECORD.addresses[:1] * 2}, "twice"),
        ({"addresses": tuple(f"192.0.2.{n}:1" for n in range(5))}, "at most 4"),
        ({"peer_id": PeerId("peer_worker")}, "a peer id begins"),
        ({"signature": ""}, "64 bytes"),
        ({"signature": RECORD.signature[:-1]}, "64 bytes"),
        ({"signature": RECORD.signature.rstrip("=")}, "64 bytes"),
        ({"signature": RECORD.signature + "\n"}, "64 bytes"),
        ({"signature": "é" * 88}, "64 bytes"),
        ({"signature": RECORD.signature.replace("+", "-")}, "64 bytes"),
        ({"signature": base64.b64encode(bytes([SIGNATURE[0] ^ 1]) + SIGNATURE[1:]).decode()}, "not its peer's"),
        # The same 64 bytes written otherwise: the last digit before the padding has spare bits.
        ({"signature": RECORD.signature[:-3] + chr(ord(RECORD.signature[-3]) + 1) + "=="}, "64 bytes"),
    ],
)
def test_a_record_that_was_changed_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MalformedAddresses, match=words):
        verify_record(replace(RECORD, **changes))  # type: ignore[arg-type]  # each case is of its field's type
