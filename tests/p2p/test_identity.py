"""A peer's identity: made once, kept private, never replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from rnd.p2p.identity import Identity, load_identity
from rnd.rules.peer_id import key_from_peer_id
from rnd.types.errors import KeyFileUnsafe
from tests.seams import CountingEntropy


def write_key(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def test_the_first_start_makes_a_private_key_and_later_ones_keep_it(tmp_path: Path) -> None:
    first = load_identity(tmp_path, CountingEntropy())
    later = CountingEntropy("another")
    assert load_identity(tmp_path, later).peer_id == first.peer_id
    assert later.asked == 0
    assert stat.S_IMODE((tmp_path / "identity.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["identity.key"]


def test_the_key_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_identity(tmp_path, CountingEntropy())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "identity.key").stat().st_mode) == 0o600


def test_the_peer_id_holds_the_public_key_that_verifies_its_signatures(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, CountingEntropy())
    assert len(identity.peer_id) == 58
    assert key_from_peer_id(identity.peer_id) == identity.public_key
    Ed25519PublicKey.from_public_bytes(identity.public_key).verify(identity.sign(b"message"), b"message")


def test_two_peers_differ(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ids = {load_identity(tmp_path / name, CountingEntropy(name)).peer_id for name in "ab"}
    assert len(ids) == 2


def test_the_private_key_does_not_print(tmp_path: Path) -> None:
    identity = load_identity(tmp_path, CountingEntropy())
    assert repr(identity) == f"Identity({identity.peer_id})"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_could_read_or_change_is_refused_and_kept(tmp_path: Path, mode: int) -> None:
    load_identity(tmp_path, CountingEntropy())
    path = tmp_path / "identity.key"
    path.chmod(mode)
    content = path.read_bytes()
    with pytest.raises(KeyFileUnsafe, match=rf"identity.key can be read or changed by others \(mode {mode:04o}\)"):
        load_identity(tmp_path, CountingEntropy())
    assert path.read_bytes() == content


# It says that it is of Ed448, whose keys are longer.
SHORT_KEY = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VxBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", SHORT_KEY]
)
def test_a_file_that_holds_no_key_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    write_key(tmp_path / "identity.key", content)
    with pytest.raises(KeyFileUnsafe, match="does not hold an unencrypted private key"):
        load_identity(tmp_path, CountingEntropy())
    assert (tmp_path / "identity.key").read_bytes() == content


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "maker").mkdir()
    key = load_identity(tmp_path / "maker", CountingEntropy())._private_key
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    write_key(tmp_path / "identity.key", pem)
    with pytest.raises(KeyFileUnsafe, match="unencrypted"):
        load_identity(tmp_path, CountingEntropy())


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_key(tmp_path / "identity.key", pem)
    with pytest.raises(KeyFileUnsafe, match="another kind than Ed25519"):
        load_identity(tmp_path, CountingEntropy())


def test_a_link_in_place_of_the_key_is_refused(tmp_path: Path) -> None:
    load_identity(tmp_path, CountingEntropy())
    (tmp_path / "identity.key").rename(tmp_path / "elsewhere")
    (tmp_path / "identity.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileUnsafe, match="cannot be used as a key file"):
        load_identity(tmp_path, CountingEntropy())


def test_a_folder_in_place_of_the_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "identity.key").mkdir()
    with pytest.raises(KeyFileUnsafe, match="is not a regular file"):
        load_identity(tmp_path, CountingEntropy())


def test_a_half_made_key_of_an_earlier_crash_is_made_anew(tmp_path: Path) -> None:
    write_key(tmp_path / ".identity.key.new", b"half")
    assert isinstance(load_identity(tmp_path, CountingEntropy()), Identity)
    assert os.listdir(tmp_path) == ["identity.key"]
