"""The node's vault: small secrets sealed under one key file, so that a restarted daemon can go on with them.

What it protects is the database: rnd.db alone, copied or backed up, gives nobody a data key. Whoever can read
`<data-dir>/vault.key` can open everything in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rnd.protocol.sealing import KEY_BYTES, NONCE_BYTES, open_small, seal_small
from rnd.services.key_file import load_given_or_own
from rnd.types.errors import KeyFileUnsafe
from rnd.types.seams import Entropy

VAULT_KEY_FILE: Final = "vault.key"


class Vault:
    """Seals and opens small secrets, each bound to a purpose: a secret of one row does not open as another's."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        self._key = key
        self._entropy = entropy

    def __repr__(self) -> str:
        return "Vault(***)"

    def seal(self, plain: bytes, *, purpose: str) -> bytes:
        """Return `plain` sealed for one purpose."""
        return seal_small(self._key, plain, purpose=purpose, nonce=self._entropy.random_bytes(NONCE_BYTES))

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """Return what was sealed for this purpose. Raises `SealBroken`."""
        return open_small(self._key, sealed, purpose=purpose)


def load_vault(data_dir: Path, entropy: Entropy, *, credentials: Path | None = None) -> Vault:
    """Return the vault of a data directory, making its key (32 bytes, 0600) at the first start.

    A `vault.key` in `credentials`, the folder of the service manager (systemd.exec(5)), is taken and never written down.

    Raises `KeyFileUnsafe` where the file is not private or is not a key.
    """
    path = data_dir / VAULT_KEY_FILE
    key = load_given_or_own(path, lambda: entropy.random_bytes(KEY_BYTES), credentials=credentials)
    if len(key) != KEY_BYTES:
        raise KeyFileUnsafe(f"{path} has {len(key)} bytes; a vault key has {KEY_BYTES}")
    return Vault(key, entropy)
