"""Files that have arrived before are found in the manifests beside their folders, with no more reading than is worth it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnd.protocol.manifest import write_manifest
from rnd.types.executions import FileEntry
from rnd.workers import earlier_files
from rnd.workers.earlier_files import EarlierFile, EarlierFolder, look_through
from rnd.workers.part_notes import manifest_beside
from tests.protocol.parcels import file_entry, folder_entry


def file(name: str, content: str) -> FileEntry:
    return file_entry(name, content.encode())


def arrived(folder: Path, *entries: FileEntry) -> EarlierFolder:
    """Have a manifest beside a folder; the folder itself is not looked at."""
    manifest_beside(folder).write_bytes(write_manifest(entries).data)
    return EarlierFolder(folder, len(entries))


def test_files_are_found_by_their_content_whatever_they_are_called(tmp_path: Path) -> None:
    folder = arrived(tmp_path / "1", folder_entry("void/"), file('a "b", c', "one"), file("d/ä", "two"), file("e", ""))
    wanted = [file("x", "two"), file("y", "three"), folder_entry("z/"), file("v", "one"), file("w", "")]
    found = look_through([folder], wanted)
    assert found.files == {3: EarlierFile(tmp_path / "1", 'a "b", c'), 0: EarlierFile(tmp_path / "1", "d/ä")}
    assert found.gone == []


def test_the_first_folder_that_has_a_content_is_taken(tmp_path: Path) -> None:
    folders = [arrived(tmp_path / "1", file("a", "one")), arrived(tmp_path / "2", file("a", "one"), file("b", "two"))]
    found = look_through(folders, [file("x", "one"), file("y", "two")])
    assert found.files == {0: EarlierFile(tmp_path / "1", "a"), 1: EarlierFile(tmp_path / "2", "b")}


def test_a_content_that_is_offered_twice_is_found_for_both(tmp_path: Path) -> None:
    found = look_through([arrived(tmp_path / "1", file("a", "one"))], [file("x", "one"), file("y", "one")])
    assert found.files == dict.fromkeys((0, 1), EarlierFile(tmp_path / "1", "a"))


def test_a_hash_with_another_size_is_another_content(tmp_path: Path) -> None:
    """Nobody has such a file; a hostile manifest may say so."""
    lie = FileEntry(relative_path="a", size_bytes=4, sha256=file("a", "one").sha256)
    assert look_through([arrived(tmp_path / "1", lie)], [file("x", "one")]).files == {}


def test_folders_that_are_gone_are_told(tmp_path: Path) -> None:
    gone = EarlierFolder(tmp_path / "gone", 1)
    found = look_through([gone, arrived(tmp_path / "1", file("a", "one"))], [file("x", "one")])
    assert found.gone == [tmp_path / "gone"]
    assert set(found.files) == {0}


SPOILT: dict[str, Callable[[Path], object]] = {
    "half a line": lambda at: os.truncate(at, at.stat().st_size - 20),
    "no manifest at all": lambda at: at.write_bytes(os.urandom(1_000)),
    "lines without end": lambda at: at.write_bytes(b"x" * (1 << 20)),
    "nothing": lambda at: at.write_bytes(b""),
    "a folder": lambda at: (at.unlink(), at.mkdir()),
    "a way out": lambda at: at.write_text(at.read_text().replace('"b"', '"../../b"')),
    "another kind of line": lambda at: at.write_text(at.read_text().replace("3,", "[3],")),
    "bytes that are no UTF-8": lambda at: at.write_bytes(at.read_bytes().replace(b'"b"', b'"\xff"')),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_manifest_says_nothing(tmp_path: Path, name: str) -> None:
    folder = arrived(tmp_path / "1", file("b", "two"))
    assert set(look_through([folder], [file("x", "two")]).files) == {0}
    SPOILT[name](manifest_beside(tmp_path / "1"))
    assert look_through([folder], [file("x", "two")]).files == {}


def test_what_has_more_entries_than_it_is_worth_to_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is worth four lines, and three more here: seven lines are read for one file."""
    monkeypatch.setattr(earlier_files, "LINES_MORE", 3)
    many = [file(str(number), str(number)) for number in range(10, 18)]
    at_the_limit = arrived(tmp_path / "7", *many[:7])
    assert set(look_through([at_the_limit], [file("x", "16")]).files) == {0}
    beyond = arrived(tmp_path / "8", *many)
    assert look_through([beyond], [file("x", "17")]).files == {}
    assert set(look_through([beyond, at_the_limit], [file("x", "16")]).files) == {0}
    one = arrived(tmp_path / "1", file("a", "one"))
    assert look_through([at_the_limit, one], [file("x", "one")]).files == {}


def test_nothing_more_is_read_once_all_is_found(tmp_path: Path) -> None:
    found = look_through(
        [arrived(tmp_path / "1", file("a", "one")), EarlierFolder(tmp_path / "gone", 1)], [file("x", "one")]
    )
    assert found.gone == []
