"""What the tests of DATA services stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnd.types.config import Limits
from tests.services.data_peer import Peer


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
