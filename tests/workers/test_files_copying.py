"""Verified, durable copies: whole or not at all, whatever fails on the way."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnd.types.errors import CalledOff, TransferFailed
from rnd.types.executions import FileEntry
from rnd.workers.copying import Reader, copy_entries
from rnd.workers.files import BUFFER_BYTES, hash_tree, scan_tree


def entry_of(content: bytes, name: str, *, executable: bool = False) -> FileEntry:
    return FileEntry(
        relative_path=name,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        executable=executable,
    )


def manifest(root: Path) -> list[FileEntry]:
    return hash_tree(root, scan_tree(root, max_files=100_000, max_file_bytes=1 << 40))


def under_own_names(entries: list[FileEntry]) -> list[tuple[FileEntry, str]]:
    return [(entry, entry.relative_path) for entry in entries]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"a")
    (root / "empty.txt").write_bytes(b"")
    (root / "sub" / "big").write_bytes(os.urandom(2 * BUFFER_BYTES + 5))
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "nothing").mkdir()
    return root


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "data" / "input" / "7"


def test_content_exec_bits_and_empty_folders_survive(source: Path, destination: Path) -> None:
    (source / "sub" / "deep").rmdir()
    entries = manifest(source)
    assert copy_entries(source, under_own_names(entries), destination) == entries
    assert manifest(destination) == entries
    assert os.listdir(destination.parent) == ["7"]


def test_files_arrive_under_the_names_they_are_given(source: Path, destination: Path) -> None:
    by_path = {entry.relative_path: entry for entry in manifest(source)}
    copied = copy_entries(source, [(by_path["a.txt"], "x/y/renamed"), (by_path["nothing/"], "x/void/")], destination)
    assert [entry.relative_path for entry in copied] == ["x/y/renamed", "x/void/"]
    assert (destination / "x" / "y" / "renamed").read_bytes() == b"a"
    assert (destination / "x" / "void").is_dir()


def test_nothing_to_copy_still_makes_the_folder(source: Path, destination: Path) -> None:
    assert copy_entries(source, [], destination) == []
    assert list(destination.iterdir()) == []


def test_a_copy_is_no_hard_link(source: Path, destination: Path) -> None:
    copy_entries(source, under_own_names(manifest(source)), destination)
    assert (destination / "a.txt").stat().st_nlink == 1
    assert (destination / "a.txt").stat().st_ino != (source / "a.txt").stat().st_ino


def test_more_files_than_are_flushed_one_by_one(tmp_path: Path, destination: Path) -> None:
    root = tmp_path / "many"
    for index in range(100):
        (root / str(index % 7)).mkdir(parents=True, exist_ok=True)
        (root / str(index % 7) / str(index)).write_bytes(b"x" * index)
    entries = manifest(root)
    copy_entries(root, under_own_names(entries), destination)
    assert manifest(destination) == entries


def test_a_second_call_replaces_what_an_earlier_one_left(source: Path, destination: Path) -> None:
    entries = manifest(source)
    copy_entries(source, under_own_names(entries), destination)
    (destination / "stray").write_text("from an earlier attempt")
    copy_entries(source, under_own_names(entries[:1]), destination)
    assert [entry.relative_path for entry in manifest(destination)] == ["a.txt"]
    assert os.listdir(destination.parent) == ["7"]


def test_a_file_that_stands_in_the_way_is_replaced(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True)
    destination.write_text("a file")
    copy_entries(source, under_own_names(manifest(source)), destination)
    assert destination.is_dir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (b"A" * 10, "has changed: its SHA-256"),
        (b"a" * 9, "has changed: 10 bytes were promised, 9 came"),
        (b"a" * 11, "has changed: 10 bytes were promised, more came"),
        (None, "source/f is missing"),
    ],
)
def test_a_source_that_changed_is_named_and_leaves_nothing(
    tmp_path: Path, destination: Path, change: bytes | None, words: str
) -> None:
    root = tmp_path / "source"
    root.mkdir()
    if change is not None:
        (root / "f").write_bytes(change)
    with pytest.raises(TransferFailed, match=words):
        copy_entries(root, [(entry_of(b"a" * 10, "f"), "f")], destination)
    assert os.listdir(destination.parent) == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("same", "same"), "two files would both be called same"),
        (("x", "x/y"), "x would be the name of a file and of a folder"),
        (("../up", "y"), "cannot be the name of a copy"),
        (("/etc/passwd", "y"), "cannot be the name of a copy"),
        (("folder/", "y"), "one is a folder, the other a file"),
    ],
)
def test_names_that_clash_or_lead_out_are_refused(
    tmp_path: Path, destination: Path, names: tuple[str, str], words: str
) -> None:
    with pytest.raises(TransferFailed, match=words):
        copy_entries(
            tmp_path, [(entry_of(b"", name), target) for name, target in zip("ab", names, strict=True)], destination
        )
    assert not destination.parent.exists()


def test_progress_counts_every_byte_once(source: Path, destination: Path) -> None:
    entries = manifest(source)
    seen: list[int] = []
    copy_entries(source, under_own_names(entries), destination, progress=seen.append)
    assert sum(seen) == sum(entry.size_bytes for entry in entries)
    assert max(seen) <= BUFFER_BYTES


def test_a_copy_that_is_called_off_stops_within_a_buffer_and_leaves_nothing(source: Path, destination: Path) -> None:
    seen: list[int] = []
    with pytest.raises(CalledOff):
        copy_entries(
            source,
            under_own_names(manifest(source)),
            destination,
            progress=seen.append,
            cancelled=lambda: len(seen) == 2,
        )
    assert len(seen) == 2
    assert os.listdir(destination.parent) == []


class Dripping(io.RawIOBase):
    """A reader that gives a few bytes at a time, as a decrypting one may."""

    def __init__(self, content: bytes) -> None:
        self._left = content

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower than the stub: as the copy calls it
        piece, self._left = self._left[:7], self._left[7:]
        buffer[: len(piece)] = piece
        return len(piece)


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=100))
def test_anything_that_can_be_read_can_be_a_source(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    destination = tmp_path_factory.mktemp("copy") / "d"
    opened: list[Dripping] = []

    def open_entry(_: FileEntry) -> Reader:
        opened.append(Dripping(content))
        return opened[-1]

    copy_entries(open_entry, [(entry_of(content, "f"), "f")], destination)
    assert (destination / "f").read_bytes() == content
    assert opened[0].closed


def test_a_sparse_file_stays_sparse(tmp_path: Path, destination: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with (root / "f").open("wb") as file:
        file.seek(20 << 20)
        file.write(b"middle")
        file.truncate(64 << 20)
    entries = manifest(root)
    copy_entries(root, under_own_names(entries), destination)
    assert manifest(destination) == entries
    assert (destination / "f").stat().st_blocks * 512 <= 1 << 20


FILL_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from rnd.types.errors import TransferFailed
from rnd.types.executions import FileEntry
from rnd.workers.copying import copy_entries
from rnd.workers.files import hash_tree, scan_tree
disk, root = map(Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
entries = hash_tree(root, scan_tree(root, max_files=9, max_file_bytes=1 << 40))
try:
    copy_entries(root, [(entry, entry.relative_path) for entry in entries], disk / "d")
except TransferFailed as error:
    assert "could not be written: No space left on device" in str(error), error
    assert "Free some space" in error.hint
else:
    sys.exit("a full disk was not noticed")
assert list(disk.iterdir()) == []
"""


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "big").write_bytes(os.urandom(3 << 20))
    (tmp_path / "disk").mkdir()
    in_own_mounts = ["unshare", "--mount", "--map-root-user"]
    subprocess.run(
        [*in_own_mounts, sys.executable, "-c", FILL_A_SMALL_DISK, str(tmp_path / "disk"), str(tmp_path / "root")],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


DIE_AT_STEP = """
import os, sys
from pathlib import Path
from rnd.workers.copying import copy_entries
from rnd.workers.files import hash_tree, scan_tree
root, destination, last_step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
entries = hash_tree(root, scan_tree(root, max_files=99, max_file_bytes=1 << 40))
items = [(entry, entry.relative_path) for entry in entries]
steps = 0
def count(event, _):
    global steps
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.listdir"):
        steps += 1
        if steps == last_step:
            os._exit(9)
def copy_and_die_at(step):
    if os.fork() == 0:
        global last_step
        last_step = step
        sys.addaudithook(count)
        copy_entries(root, items, destination)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.wait()[1])
def whole(folder):
    return hash_tree(folder, scan_tree(folder, max_files=99, max_file_bytes=1 << 40)) == entries
step = 0
while True:
    step += 1
    code = copy_and_die_at(step)
    assert code in (0, 9), code
    assert not destination.exists() or whole(destination), f"half a copy was visible after step {step}"
    if code == 0:
        break
    if step % 3 == 0:
        copy_entries(root, items, destination)
        assert whole(destination) and os.listdir(destination.parent) == [destination.name]
assert whole(destination)
assert os.listdir(destination.parent) == [destination.name], os.listdir(destination.parent)
print(step)
"""


def test_a_process_that_dies_at_any_step_leaves_a_whole_copy_or_none(source: Path, destination: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIE_AT_STEP, str(source), str(destination), "0"],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
    )
    assert int(done.stdout) > 20
