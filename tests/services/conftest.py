"""What the tests of DATA services stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rnd.types.config import Limits
from tests.services.confined import require_confinement
from tests.services.data_peer import Peer
from tests.services.native_processes import assert_no_processes


@pytest.fixture(scope="session")
def confinement() -> None:
    """Skip, or fail, where programs cannot be confined."""
    require_confinement()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose processes must all be gone at the end."""
    directory = tmp_path / "data"
    directory.mkdir()
    yield directory
    assert_no_processes(directory)


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    """A peer whose disk is never too full for a test."""
    return Peer(data_dir=tmp_path / "data", limits=Limits(disk_floor_bytes=0))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of the owner's: some files, one executable, one empty, one bigger than a chunk, an empty folder."""
    root = tmp_path / "files"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a.csv").write_bytes(b"1,2\n")
    (root / "none").write_bytes(b"")
    (root / "sub" / "big").write_bytes(bytes(range(256)) * (2 << 12) + b"a bit more than two chunks")
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    return root
