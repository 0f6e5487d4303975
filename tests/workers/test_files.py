"""Walking, hashing and clearing of folders that a hostile job may have filled."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rnd.types.errors import CalledOff, UnfitFiles
from rnd.workers.durability import FSYNC_EACH_MAX, make_folders, parent_folders
from rnd.workers.files import (
    FoundEntry,
    clear_tree,
    free_bytes,
    hash_tree,
    scan_tree,
)

LIMIT = 1 << 40


def scan(root: Path, *, max_files: int = 1000, max_file_bytes: int = LIMIT) -> list[FoundEntry]:
    return scan_tree(root, max_files=max_files, max_file_bytes=max_file_bytes)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def test_files_empty_folders_and_exec_bits_are_found_in_order(output: Path) -> None:
    (output / "b" / "deep").mkdir(parents=True)
    (output / "b" / "deep" / "x.txt").write_text("x")
    (output / "empty").mkdir()
    (output / "run").write_text("#!/bin/sh\n")
    (output / "run").chmod(0o755)
    (output / "a.txt").write_bytes(b"")
    found = [(entry.relative_path, entry.size_bytes, entry.executable) for entry in scan(output)]
    assert found == [("a.txt", 0, False), ("b/deep/x.txt", 1, False), ("empty/", 0, False), ("run", 10, True)]


def test_an_empty_root_holds_nothing(output: Path) -> None:
    assert scan(output) == []
    assert hash_tree(output, []) == []


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a symbolic link": lambda path: path.symlink_to("/etc/passwd"),
    "a named pipe": lambda path: os.mkfifo(path),
    "a socket": make_socket,
}


@pytest.mark.parametrize(("kind", "make"), SPECIAL.items(), ids=SPECIAL.keys())
def test_a_special_file_is_refused_with_its_name_and_kind(
    output: Path, kind: str, make: Callable[[Path], object]
) -> None:
    (output / "sub").mkdir()
    make(output / "sub" / "odd")
    with pytest.raises(UnfitFiles, match=f"output/sub/odd is {kind}; only files and folders") as caught:
        scan(output)
    assert caught.value.relative_path == "sub/odd"


def test_a_link_to_a_folder_is_refused_too(output: Path) -> None:
    (output / "etc").symlink_to("/etc", target_is_directory=True)
    with pytest.raises(UnfitFiles, match="output/etc is a symbolic link"):
        scan(output)


def test_a_second_name_of_a_foreign_file_is_refused_in_a_jobs_output(output: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.link(tmp_path / "secret", output / "mine")
    with pytest.raises(UnfitFiles, match="output/mine is a hard link"):
        scan(output)
    assert len(scan_tree(output, max_files=10, max_file_bytes=LIMIT, hard_links=True)) == 1


@pytest.mark.parametrize("name", ["new\nline", "bell\x07"])
def test_a_name_with_control_characters_is_refused_and_shown_escaped(output: Path, name: str) -> None:
    (output / name).write_text("")
    with pytest.raises(UnfitFiles) as caught:
        scan(output)
    assert str(caught.value).isprintable()


def test_a_name_that_is_not_utf8_is_refused(output: Path) -> None:
    (output / os.fsdecode(b"\xff\xfe")).write_text("")
    with pytest.raises(UnfitFiles, match=r"output/\\udcff\\udcfe has a name"):
        scan(output)


def test_a_tree_too_deep_to_carry_is_refused_without_recursion(output: Path) -> None:
    (output / "/".join("d" * 100)).mkdir(parents=True)
    with pytest.raises(UnfitFiles, match="has a name that cannot be carried"):
        scan(output)


def test_the_limit_of_files_holds_exactly(output: Path) -> None:
    for index in range(5):
        (output / str(index)).write_text("")
    assert len(scan(output, max_files=5)) == 5
    with pytest.raises(UnfitFiles, match="holds more than 4 files or folders"):
        scan(output, max_files=4)


def test_the_limit_counts_folders_apart(output: Path) -> None:
    for index in range(5):
        (output / str(index)).mkdir()
    assert len(scan(output, max_files=5)) == 5
    with pytest.raises(UnfitFiles, match="holds more than 4"):
        scan(output, max_files=4)


def test_the_limit_of_a_files_size_holds_exactly(output: Path) -> None:
    (output / "big").write_bytes(b"12345")
    assert len(scan(output, max_file_bytes=5)) == 1
    with pytest.raises(UnfitFiles, match="output/big has 5 bytes; the limit for a file is 4"):
        scan(output, max_file_bytes=4)


def test_a_root_that_was_deleted_or_replaced_is_named(output: Path) -> None:
    output.rmdir()
    with pytest.raises(UnfitFiles, match="output is missing"):
        scan(output)
    output.symlink_to("/etc")
    with pytest.raises(UnfitFiles, match=r"output is not a folder|output is a symbolic link"):
        scan(output)


@pytest.mark.parametrize("count", [3, FSYNC_EACH_MAX + 1])
def test_hashes_are_those_of_the_content_whether_flushed_one_by_one_or_at_once(output: Path, count: int) -> None:
    (output / "sub").mkdir()
    for index in range(count):
        (output / "sub" / f"{index:03}").write_bytes(b"x" * index)
    (output / "sub" / "empty").mkdir()
    entries = hash_tree(output, scan(output))
    assert [entry.relative_path for entry in entries] == [f"sub/{i:03}" for i in range(count)] + ["sub/empty/"]
    assert [entry.sha256 for entry in entries] == [
        hashlib.sha256(b"x" * index).hexdigest() for index in range(count)
    ] + [""]


def test_a_file_bigger_than_the_buffer_is_hashed_whole(output: Path) -> None:
    content = os.urandom(3 * (1 << 20) + 7)
    (output / "big").write_bytes(content)
    assert hash_tree(output, scan(output))[0].sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_changed_since_the_walk_is_refused(output: Path) -> None:
    (output / "f").write_text("before")
    entries = scan(output)
    (output / "f").write_text("after!!")
    with pytest.raises(UnfitFiles, match="output/f changed while it was read"):
        hash_tree(output, entries)


def test_a_file_that_was_swapped_for_a_link_is_refused(output: Path) -> None:
    (output / "f").write_text("content")
    entries = scan(output)
    (output / "f").unlink()
    (output / "f").symlink_to("/etc/passwd")
    with pytest.raises(UnfitFiles, match="output/f is a symbolic link"):
        hash_tree(output, entries)


def test_a_folder_that_was_swapped_for_a_link_is_refused(output: Path, tmp_path: Path) -> None:
    (output / "sub").mkdir()
    (output / "sub" / "passwd").write_text("content")
    entries = scan(output)
    (output / "sub").rename(tmp_path / "elsewhere")
    (output / "sub").symlink_to("/etc")
    with pytest.raises(UnfitFiles, match="output/sub is"):
        hash_tree(output, entries)


def test_a_pipe_that_took_a_files_name_does_not_block(output: Path) -> None:
    (output / "f").write_text("content")
    entries = scan(output)
    (output / "f").unlink()
    os.mkfifo(output / "f")
    with pytest.raises(UnfitFiles, match="output/f is a named pipe"):
        hash_tree(output, entries)


def test_hashing_stops_when_it_is_called_off(output: Path) -> None:
    (output / "f").write_text("content")
    with pytest.raises(CalledOff):
        hash_tree(output, scan(output), cancelled=lambda: True)


def test_descriptors_are_given_back(output: Path) -> None:
    (output / "a" / "b").mkdir(parents=True)
    (output / "a" / "b" / "f").write_text("content")
    before = len(os.listdir("/proc/self/fd"))
    hash_tree(output, scan(output))
    clear_tree(output)
    assert len(os.listdir("/proc/self/fd")) == before


def test_parent_folders_come_before_what_is_in_them() -> None:
    assert parent_folders(["a/b/c", "a/x", "e/", "top"]) == ["a", "a/b", "e"]


def test_folders_are_made_with_what_is_missing_above(tmp_path: Path) -> None:
    make_folders(tmp_path / "a" / "b" / "c")
    make_folders(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "f").write_text("")
    with pytest.raises(FileExistsError):
        make_folders(tmp_path / "f")


def test_free_space_is_what_the_file_system_says(tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)
    assert abs(free_bytes(tmp_path) - facts.f_bavail * facts.f_frsize) < 1 << 30


def test_clearing_removes_links_and_never_follows_them(output: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "keep").write_text("keep")
    (output / "sub" / "subsub").mkdir(parents=True)
    (output / "to-folder").symlink_to(precious)
    (output / "sub" / "to-folder").symlink_to(precious)
    (output / "sub" / "subsub" / "to-file").symlink_to(precious / "keep")
    clear_tree(output)
    assert not output.exists()
    assert (precious / "keep").read_text() == "keep"


def test_clearing_a_link_removes_only_the_link(output: Path, tmp_path: Path) -> None:
    (output / "keep").write_text("keep")
    link = tmp_path / "link"
    link.symlink_to(output)
    clear_tree(link)
    assert not link.is_symlink()
    assert (output / "keep").exists()


def test_clearing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    clear_tree(tmp_path / "missing")
    clear_tree(tmp_path / "missing" / "below")


def test_clearing_a_file_is_fine(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    clear_tree(tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_clearing_copes_with_a_tree_deeper_than_any_path(output: Path) -> None:
    # Deeper than the recursion limit, the descriptor limit and PATH_MAX; with names that clearing itself would take.
    here = os.open(output, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("1.clearing", dir_fd=here)
        below = os.open("1.clearing", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    clear_tree(output)
    assert not output.exists()


CLEAR_AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
from rnd.workers.files import clear_tree
top = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
(top / "ro" / "inner" / "deep").mkdir(parents=True)
(top / "ro" / "inner" / "f").write_text("x")
for folder, mode in [(top / "ro" / "inner" / "deep", 0), (top / "ro" / "inner", 0o555), (top / "ro", 0o111)]:
    folder.chmod(mode)
clear_tree(top / "ro")
assert not (top / "ro").exists()
"""


def test_clearing_removes_read_only_folders_of_an_ordinary_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for above in tmp_path.parents:  # with several test workers there is one more
        if above == Path(tempfile.gettempdir()):
            break
        above.chmod(0o711)
    project = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", CLEAR_AS_ORDINARY_USER, str(tmp_path)], check=True, env={"PYTHONPATH": str(project)}
    )
