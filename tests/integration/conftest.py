"""Daemons for integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import RunningPeer, running_peer


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[RunningPeer]:
    """A daemon of the test's own, with a space in its path."""
    with running_peer(tmp_path / "a peer") as running:
        yield running
