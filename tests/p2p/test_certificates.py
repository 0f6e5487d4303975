"""The canonical certificate: its bytes are fixed, and nothing but its bytes is taken for a peer's."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from rnd.p2p.certificates import ANCHOR_SEED, anchor_certificate, canonical_certificate, peer_id_of_certificate
from rnd.p2p.identity import Identity
from rnd.rules.peer_id import peer_id_from_key
from rnd.types.errors import CertificateNotCanonical
from rnd.types.ids import PeerId
from tests.p2p.peers import ALICE, BOB, MALLORY, forged

VECTORS = Path(__file__).parent / "vectors"

# Seed of the private key, peer id, SHA-256 of the certificate.
GOLDEN = [
    (
        bytes(32),
        "rnae5wuj54z23killcuounaktpbvzwkmqvo4o6eq5ghlaerimllhncs5ot",
        "a4ef43d68ec9047cde144628e52a6b9f33d19d134626039a2c88040207d62d47",
    ),
    (
        bytes(range(32)),
        "rnaeb2cb576phbbpq5odorrz2lycmwpzgwgcn2kdk7dxoimzaskuy3qy7c",
        "5737fd6b616734075492261576dd10f1d8da79ba9f21fa8f1b0c1f3e91b4c705",
    ),
    (
        b"\xff" * 32,
        "rnaf3kcwjaistoj5irezn4u45gatmqwbjj2hpwak7dbim2sjlwmdi7koqh",
        "71fce82de25729f4cb90610cc17a579469cc04bf11bf8060faa438d8237edd43",
    ),
]


def vector(name: str) -> bytes:
    return bytes.fromhex((VECTORS / name).read_text(encoding="ascii"))


@pytest.mark.parametrize(("seed", "peer_id", "digest"), GOLDEN)
def test_a_key_has_the_same_certificate_for_ever(seed: bytes, peer_id: str, digest: str) -> None:
    identity = Identity(Ed25519PrivateKey.from_private_bytes(seed))
    assert identity.peer_id == peer_id
    certificate = canonical_certificate(identity.peer_id)
    assert hashlib.sha256(certificate).hexdigest() == digest
    assert peer_id_of_certificate(certificate) == peer_id


def test_the_certificate_of_the_zero_seed_is_the_published_one() -> None:
    assert canonical_certificate(PeerId(GOLDEN[0][1])) == vector("certificate-zero-seed.hex")


def test_the_anchor_is_the_published_one() -> None:
    assert ANCHOR_SEED.hex() == "c4bf08b32919cd1f7dff35d8c7d70291a8eaa26d3c451b8221a90fce4d8f841c"
    assert anchor_certificate() == vector("anchor.hex")


def test_another_library_builds_the_same_certificate_from_the_fields() -> None:
    anchor = Ed25519PrivateKey.from_private_bytes(ANCHOR_SEED)
    anchor_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rnd public anchor (not a secret)")])
    serial = bytearray(hashlib.sha256(b"rnd-serial" + ALICE.public_key).digest()[:16])
    serial[0] = serial[0] & 0x3F | 0x40
    anchor_raw = anchor.public_key().public_bytes_raw()
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"], False
    )  # fmt: skip
    built = (
        x509.CertificateBuilder()
        .issuer_name(anchor_name)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ALICE.peer_id)]))
        .public_key(Ed25519PublicKey.from_public_bytes(ALICE.public_key))
        .serial_number(int.from_bytes(serial, "big"))
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("rnd.invalid")]), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier(hashlib.sha256(ALICE.public_key).digest()[:20]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier(hashlib.sha256(anchor_raw).digest()[:20], None, None), critical=False
        )
        .sign(anchor, None)
    )  # fmt: skip
    assert built.public_bytes(Encoding.DER) == canonical_certificate(ALICE.peer_id)


def test_what_is_no_peer_id_has_no_certificate() -> None:
    with pytest.raises(ValueError, match="a peer id"):
        canonical_certificate(PeerId("peer_1"))


@given(st.binary(min_size=32, max_size=32))
def test_every_key_is_read_back_out_of_its_certificate(key: bytes) -> None:
    peer_id = peer_id_from_key(key)
    assert peer_id_of_certificate(canonical_certificate(peer_id)) == peer_id


@given(st.integers(0, 461 * 8 - 1))
def test_a_certificate_with_any_bit_changed_is_nobodys(bit: int) -> None:
    changed = bytearray(canonical_certificate(ALICE.peer_id))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CertificateNotCanonical):
        peer_id_of_certificate(bytes(changed))


@pytest.mark.parametrize(
    "certificate",
    [
        b"",
        b"\x30\x82",
        canonical_certificate(ALICE.peer_id)[:-1],
        canonical_certificate(ALICE.peer_id) + b"\x00",
        anchor_certificate(),
        forged(BOB.peer_id, MALLORY),
        # Bob's certificate with Mallory's key put in its place: a name and a signature that are somebody else's.
        canonical_certificate(BOB.peer_id).replace(BOB.public_key, MALLORY.public_key),
    ],
)
def test_other_certificates_are_nobodys(certificate: bytes) -> None:
    with pytest.raises(CertificateNotCanonical):
        peer_id_of_certificate(certificate)


def test_the_page_on_certificates_has_the_bytes_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire-identity.md").read_text(encoding="utf-8")
    certificate = canonical_certificate(PeerId(GOLDEN[0][1]))
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, flags=re.MULTILINE)
    offset = 0
    for where, content in rows:
        assert int(where) == offset
        for part in content.split("‖"):
            size = re.search(r"\((\d+)\)", part)
            text = re.search(r"`(.+)`", part)
            if text is not None and size is None and re.fullmatch(r"[0-9a-f ]+", text[1]):
                expected = bytes.fromhex(text[1])
            elif text is not None:
                expected = text[1].encode("ascii")
            else:
                assert size is not None
                offset += int(size[1])
                continue
            assert certificate[offset : offset + len(expected)] == expected
            offset += len(expected)
    assert offset == len(certificate)
    assert anchor_certificate().hex() in re.sub(r"\s", "", page)
    assert {digest for _, _, digest in GOLDEN} <= set(re.findall(r"[0-9a-f]{64}", page))
