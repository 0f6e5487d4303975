"""Fixtures of the tests of the service: the command, and a folder in the place of the machine's root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Rnd


@pytest.fixture
def rnd(tmp_path: Path) -> Rnd:
    """The command, of a person at whose home nothing is."""
    (tmp_path / "home").mkdir()
    return Rnd(data_dir=tmp_path / "peer", home=tmp_path / "home")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder in the place of the machine's root."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"
