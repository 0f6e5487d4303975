"""The vault: small secrets that open only for their purpose and with the node's own key; secrets that do not print."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.services.vault import Vault, load_vault
from rnd.types.errors import KeyFileUnsafe, SealBroken
from rnd.types.secret import Secret
from tests.seams import CountingEntropy


@given(plain=st.binary(max_size=200), purpose=st.text(max_size=30))
def test_what_was_sealed_opens_for_its_purpose_only(plain: bytes, purpose: str) -> None:
    vault = Vault(bytes(32), CountingEntropy())
    sealed = vault.seal(plain, purpose=purpose)
    assert vault.open(sealed, purpose=purpose) == plain
    with pytest.raises(SealBroken):
        vault.open(sealed, purpose=purpose + "x")


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    vault = Vault(bytes(32), CountingEntropy())
    assert vault.seal(b"same", purpose="p") != vault.seal(b"same", purpose="p")


def test_a_restarted_daemon_opens_what_an_earlier_one_sealed(tmp_path: Path) -> None:
    sealed = load_vault(tmp_path, CountingEntropy()).seal(b"key", purpose="p")
    assert load_vault(tmp_path, CountingEntropy("later")).open(sealed, purpose="p") == b"key"
    assert stat.S_IMODE((tmp_path / "vault.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["vault.key"]


def test_another_nodes_vault_does_not_open_it(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    sealed = load_vault(tmp_path / "a", CountingEntropy("a")).seal(b"key", purpose="p")
    with pytest.raises(SealBroken):
        load_vault(tmp_path / "b", CountingEntropy("b")).open(sealed, purpose="p")


def test_a_vault_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_vault(tmp_path, CountingEntropy())
    (tmp_path / "vault.key").chmod(0o640)
    with pytest.raises(KeyFileUnsafe, match="run chmod 600"):
        load_vault(tmp_path, CountingEntropy())


@pytest.mark.parametrize("size", [0, 31, 33, 5000])
def test_a_vault_key_of_another_length_is_refused_and_kept(tmp_path: Path, size: int) -> None:
    (tmp_path / "vault.key").write_bytes(bytes(size))
    (tmp_path / "vault.key").chmod(0o600)
    with pytest.raises(KeyFileUnsafe, match="a vault key has 32"):
        load_vault(tmp_path, CountingEntropy())
    assert (tmp_path / "vault.key").stat().st_size == size


def test_a_vault_does_not_print_its_key() -> None:
    assert repr(Vault(b"k" * 32, CountingEntropy())) == "Vault(***)"


def test_a_secret_shows_nothing_however_it_is_printed() -> None:
    secret = Secret("open sesame")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>20}",
        repr([secret]),
        repr({"p": secret}),
    ]
    assert not any("sesame" in text for text in shown)
    assert shown[0] == "***"
    assert secret.reveal() == "open sesame"


def test_secrets_compare_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert not Secret("")


def test_a_secret_is_neither_pickled_nor_copied() -> None:
    for way in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not to be pickled"):
            way(Secret("a"))
