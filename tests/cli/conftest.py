"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Rnd
from tests.cli.scripted_daemon import ScriptedDaemon, scripted_daemon
from tests.running_peer import RunningPeer, running_peer


@pytest.fixture
def rnd(tmp_path: Path) -> Rnd:
    """The command, on a data directory where nothing runs."""
    (tmp_path / "home").mkdir()
    (tmp_path / "peer").mkdir()
    return Rnd(data_dir=tmp_path / "peer", home=tmp_path / "home")


@pytest.fixture
def daemon(rnd: Rnd) -> Iterator[ScriptedDaemon]:
    """A scripted daemon on the data directory of `rnd`."""
    with scripted_daemon(rnd.data_dir / "api.sock") as server:
        yield server


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    """A real daemon that the tests of a module share."""
    with running_peer(tmp_path_factory.mktemp("cli") / "a peer") as running:
        yield running


@pytest.fixture
def on_peer(peer: RunningPeer, tmp_path: Path) -> Rnd:
    """The command, on the real daemon."""
    (tmp_path / "desk").mkdir()
    return Rnd(data_dir=peer.data_dir, home=tmp_path / "desk")
