"""What tools/package has built, and machines to install it on. These tests are for `tools/package --try`: minutes, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.booted_machine import BootedMachine, why_not

PROJECT = Path(__file__).resolve().parent.parent.parent
DIST = PROJECT / "dist"
TREE_WITHIN_S = 1200.0


def built(pattern: str) -> Path:
    """Return the one file in dist/ of that name."""
    if not DIST.is_dir():
        pytest.skip("nothing was built: tools/package --try")
    found = list(DIST.glob(pattern))
    if len(found) != 1:
        pytest.fail(f"{len(found)} files in dist/ are named {pattern}: run tools/package")
    return found[0]


def unpacked(tar: Path, folder: Path) -> Path:
    """Unpack a tree of files as root, and return where it is."""
    folder.mkdir()
    subprocess.run(["tar", "--numeric-owner", "-xf", tar, "-C", folder], check=True, timeout=TREE_WITHIN_S)
    return folder


@pytest.fixture(scope="session")
def bookworm() -> Path:
    """A tar file of a minimal Debian 12."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("only root can make a Debian, with debootstrap")
    done = subprocess.run(
        [PROJECT / "tools/packaging/bookworm"], stdout=subprocess.PIPE, text=True, check=True, timeout=TREE_WITHIN_S
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def tree(bookworm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of that Debian, for machines to have below their own."""
    folder = unpacked(bookworm, tmp_path_factory.mktemp("debian") / "tree")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def machine(tree: Path, tmp_path: Path) -> Iterator[BootedMachine]:
    """A machine that was just installed. It sees what was built in /opt/dist, and the project's examples in /opt/project."""
    if reason := why_not():
        pytest.skip(reason)
    seen = {"/opt/dist": DIST, "/opt/project": PROJECT}
    with BootedMachine(tmp_path / "layer", tree=tree, seen=seen) as machine:
        machine.run("systemctl", "start", "multi-user.target")
        yield machine
