"""Who this peer is: one Ed25519 key, from whose public half the peer id is made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from rnd.rules.peer_id import peer_id_from_key
from rnd.services.key_file import load_given_or_own
from rnd.types.errors import KeyFileUnsafe
from rnd.types.seams import Entropy

IDENTITY_FILE: Final = "identity.key"
_SEED_BYTES: Final = 32


class Identity:
    """This peer's key pair. `peer_id` holds the public key and is what other peers know."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.peer_id = peer_id_from_key(self.public_key)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of a message."""
        return self._private_key.sign(message)

    def private_key_pem(self) -> bytes:
        """Return the private key as unencrypted PEM (PKCS 8), for the TLS context and the key file only."""
        return self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_identity(data_dir: Path, entropy: Entropy, *, credentials: Path | None = None) -> Identity:
    """Return the identity of a data directory, making `identity.key` (PEM, 0600) at the first start.

    An `identity.key` in `credentials`, the folder of the service manager (systemd.exec(5)), is taken and never written down.

    Raises `KeyFileUnsafe` where the file is not private or does not hold an Ed25519 key; it is never replaced, since
    other peers know this one by it.
    """
    path = data_dir / IDENTITY_FILE
    pem = load_given_or_own(path, lambda: _fresh_identity(entropy).private_key_pem(), credentials=credentials)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        raise KeyFileUnsafe(f"{path} does not hold an unencrypted private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileUnsafe(f"{path} holds a key of another kind than Ed25519")
    return Identity(key)


def _fresh_identity(entropy: Entropy) -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(entropy.random_bytes(_SEED_BYTES)))
