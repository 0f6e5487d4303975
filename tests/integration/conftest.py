"""Daemons for integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peer_sites import Site, running_site
from tests.running_peer import RunningPeer, running_peer


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[RunningPeer]:
    """A daemon of the test's own, with a space in its path."""
    with running_peer(tmp_path / "a peer") as running:
        yield running


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three daemons that the tests of a module share."""
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(daemons: Site) -> Iterator[Site]:
    """The three, up and with nothing left to do, before a test and after it."""
    daemons.restore()
    yield daemons
    daemons.restore()
    daemons.settle()
