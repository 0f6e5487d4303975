"""The hashes of a delivery's files, from one attempt to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnd.types.errors import CalledOff
from rnd.types.executions import FileEntry
from rnd.types.ids import TransferId
from rnd.workers.files import FoundEntry, hash_tree, scan_tree
from rnd.workers.kept_hashes import KeptHashes

ONE, TWO = TransferId("one"), TransferId("two")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"first")
    (folder / "deep/b").write_bytes(b"second")
    return folder


def scan(root: Path) -> list[FoundEntry]:
    return scan_tree(root, max_files=99, max_file_bytes=1 << 40, hard_links=True)


def reads_nothing() -> bool:
    """Call off whatever is read: hashing asks after each buffer."""
    return True


def hashed(hashes: KeptHashes, root: Path, transfer_id: TransferId = ONE) -> list[FileEntry]:
    return hashes.hash(transfer_id, root, scan(root), cancelled=lambda: False)


def is_kept(hashes: KeptHashes, root: Path, transfer_id: TransferId = ONE) -> bool:
    try:
        hashes.hash(transfer_id, root, scan(root), cancelled=reads_nothing)
    except CalledOff:
        return False
    return True


def test_what_was_hashed_is_not_read_again(root: Path) -> None:
    hashes = KeptHashes()
    first = hashed(hashes, root)
    assert first == hash_tree(root, scan(root))
    assert hashes.hash(ONE, root, scan(root), cancelled=reads_nothing) == first


def _same_size_and_time(root: Path) -> None:
    before = (root / "a").stat()
    (root / "a").write_bytes(b"other")
    while (root / "a").stat().st_ctime_ns == before.st_ctime_ns:  # within one tick of the file system's clock
        os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def _another_file(root: Path) -> None:
    (root / "new").write_bytes(b"first")
    os.replace(root / "new", root / "a")


@pytest.mark.parametrize(
    "change",
    [
        _same_size_and_time,
        _another_file,
        lambda root: (root / "c").write_bytes(b""),
        lambda root: (root / "a").unlink(),
        lambda root: (root / "a").rename(root / "z"),
        lambda root: (root / "a").chmod(0o755),
    ],
)
def test_what_has_changed_since_is_hashed_anew(root: Path, change: Callable[[Path], object]) -> None:
    hashes = KeptHashes()
    hashed(hashes, root)
    change(root)
    assert not is_kept(hashes, root)
    assert hashed(hashes, root) == hash_tree(root, scan(root))


def test_each_delivery_has_its_own_and_keeps_none_after_its_end(root: Path) -> None:
    hashes = KeptHashes()
    hashed(hashes, root)
    assert not is_kept(hashes, root, TWO)
    hashes.forget(ONE)
    assert not is_kept(hashes, root)


def test_what_was_used_longest_ago_goes_where_there_is_too_much(root: Path) -> None:
    hashes = KeptHashes(entries_max=4)
    for transfer_id in (ONE, TWO):
        hashed(hashes, root, transfer_id)
    assert is_kept(hashes, root, ONE)
    hashed(hashes, root, TransferId("three"))
    assert is_kept(hashes, root, ONE)
    assert not is_kept(hashes, root, TWO)
