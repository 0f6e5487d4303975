"""The bytes of a stream: the manifest and then the files, from any offset, and whether the files are what it promises."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rnd.types.errors import CalledOff, TransferFailed, UnfitFiles
from rnd.types.executions import FileEntry
from rnd.workers.copying import Reader
from rnd.workers.sending import Sending
from tests.workers.carrying import OpenedSource, manifest_of, read_all, under_own_names

CONTENT = {"a": os.urandom(100_000), "b/empty": b"", "b/small": b"12345", "b/z": b"", "run": b"#!/bin/sh\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, content in CONTENT.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "run").chmod(0o755)
    (root / "void").mkdir()
    return root


@pytest.fixture
def source(root: Path) -> Iterator[OpenedSource]:
    opened = OpenedSource(root)
    yield opened
    opened.tree.close()
    assert opened.open_now == 0
    assert opened.most_open <= 1


def sending_of(source: OpenedSource, root: Path) -> Sending:
    return Sending(source, under_own_names(manifest_of(root)))


def whole_stream(sending: Sending) -> bytes:
    return sending.manifest.data + b"".join(CONTENT[e.relative_path] for e in sending.manifest.entries if e.sha256)


@pytest.mark.parametrize("piece_bytes", [1_000, 65_537, 1 << 20])
def test_the_stream_is_the_manifest_and_then_the_content(source: OpenedSource, root: Path, piece_bytes: int) -> None:
    with sending_of(source, root) as sending:
        assert sending.manifest.entries == tuple(manifest_of(root))
        assert read_all(sending, piece_bytes=piece_bytes) == whole_stream(sending)
    assert source.opened == ["a", "b/empty", "b/small", "b/z", "run"]


def test_the_manifest_has_the_names_at_the_destination(source: OpenedSource, root: Path) -> None:
    by_path = {entry.relative_path: entry for entry in manifest_of(root)}
    with Sending(source, [(by_path["run"], "x/renamed"), (by_path["void/"], "x/void/")]) as sending:
        assert [entry.relative_path for entry in sending.manifest.entries] == ["x/renamed", "x/void/"]
        assert sending.manifest.entries[0].executable
        assert read_all(sending) == sending.manifest.data + b"#!/bin/sh\n"


def test_nothing_to_send_is_a_stream_without_bytes(source: OpenedSource) -> None:
    with Sending(source, []) as sending:
        assert sending.stream_bytes == 0
        sending.read_into(memoryview(b""), 0)


def test_it_goes_on_from_any_offset(source: OpenedSource, root: Path) -> None:
    with sending_of(source, root) as sending:
        stream = whole_stream(sending)
        edges = [len(sending.manifest.data), len(sending.manifest.data) + 100_000, len(stream)]
        for start in {0, 1, 50_000, *(edge + by for edge in edges for by in (-1, 0, 1) if edge + by <= len(stream))}:
            assert read_all(sending, start=start) == stream[start:], start


@pytest.mark.parametrize("left_out", [{"a"}, {"b/small"}, {"run"}, {"a", "run"}, {"a", "b/small", "run"}], ids=sorted)
def test_it_goes_on_from_any_offset_without_what_is_left_out(
    source: OpenedSource, root: Path, left_out: set[str]
) -> None:
    with sending_of(source, root) as sending:
        read_all(sending, piece_bytes=70_000)  # and has the last file open
        entries = sending.manifest.entries
        sending.leave_out({index for index, entry in enumerate(entries) if entry.relative_path in left_out})
        kept = [entry.relative_path for entry in entries if entry.sha256 and entry.relative_path not in left_out]
        stream = sending.manifest.data + b"".join(CONTENT[path] for path in kept)
        assert sending.stream_bytes == len(stream)
        source.opened.clear()
        assert read_all(sending) == stream
        assert source.opened == kept
        begin = len(sending.manifest.data)
        for start in {
            0,
            1,
            begin,
            len(stream),
            *(at for at in (begin + 1, begin + 5, begin + 50_000) if at < len(stream)),
        }:
            assert read_all(sending, start=start) == stream[start:], start


def test_going_on_opens_only_the_files_from_there_on(source: OpenedSource, root: Path) -> None:
    with sending_of(source, root) as sending:
        read_all(sending, start=len(sending.manifest.data) + 100_002)
    assert source.opened == ["b/small", "b/z", "run"]


def test_what_is_no_plain_file_is_read_up_to_the_offset(root: Path) -> None:
    class Opened:
        """A reader that knows no offsets, as that of encrypted DATA."""

        def __init__(self, path: Path) -> None:
            self._file = path.open("rb")

        def readinto(self, buffer: memoryview, /) -> int:
            return self._file.readinto(buffer)

        def close(self) -> None:
            self._file.close()

    items = under_own_names(manifest_of(root))
    with Sending(lambda entry: Opened(root / entry.relative_path), items) as sending:
        stream = whole_stream(sending)
        for into_file in (1, 50_000, 99_999):
            start = len(sending.manifest.data) + into_file
            assert read_all(sending, start=start) == stream[start:]


def test_sources_that_are_as_promised_are_found_so(source: OpenedSource, root: Path) -> None:
    with sending_of(source, root) as sending:
        read_all(sending)
        sending.verify()
        assert read_all(sending) == whole_stream(sending)


def test_looking_through_the_sources_is_called_off(source: OpenedSource, root: Path) -> None:
    with (
        Sending(source, under_own_names(manifest_of(root)), cancelled=lambda: True) as sending,
        pytest.raises(CalledOff),
    ):
        sending.verify()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("name", "do", "words"),
    [
        ("a", grow, "a has changed: 100,000 bytes were promised, more came"),
        ("a", shrink, "a has changed: 100,000 bytes were promised, 99,999 came"),
        ("b/empty", grow, "b/empty has changed: 0 bytes were promised, more came"),
        ("b/z", grow, "b/z has changed: 0 bytes were promised, more came"),
        ("b/small", Path.unlink, "the source root/b/small is missing"),
    ],
)
def test_a_source_that_has_changed_is_named(
    source: OpenedSource, root: Path, name: str, do: Callable[[Path], None], words: str
) -> None:
    with sending_of(source, root) as sending:
        do(root / name)
        with pytest.raises(TransferFailed, match=words):
            read_all(sending)


@pytest.mark.parametrize(
    ("name", "do", "words"),
    [
        ("a", change, "a has changed: its SHA-256"),
        ("b/small", change, "b/small has changed: its SHA-256"),
        ("a", grow, "a has changed: 100,000 bytes were promised, more came"),
        ("b/empty", grow, "b/empty has changed: 0 bytes were promised, more came"),
        ("b/small", Path.unlink, "the source root/b/small is missing"),
    ],
)
def test_why_a_receiver_objects_is_found_in_the_sources(
    source: OpenedSource, root: Path, name: str, do: Callable[[Path], None], words: str
) -> None:
    with sending_of(source, root) as sending:
        do(root / name)
        with pytest.raises(TransferFailed, match=words):
            sending.verify()


def test_the_last_bytes_of_a_file_that_has_grown_are_not_given(source: OpenedSource, root: Path) -> None:
    with sending_of(source, root) as sending:
        grow(root / "a")
        end = len(sending.manifest.data) + 100_000
        sending.read_into(memoryview(bytearray(end - 1)), 0)
        with pytest.raises(TransferFailed):
            sending.read_into(memoryview(bytearray(1)), end - 1)


def test_an_empty_file_at_the_end_is_checked_too(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"1")
    (root / "z").write_bytes(b"")
    source = OpenedSource(root)
    with sending_of(source, root) as sending:
        grow(root / "z")
        with pytest.raises(TransferFailed, match="z has changed"):
            read_all(sending)
    source.tree.close()


def test_a_disk_that_cannot_be_read_is_a_failure_with_the_name() -> None:
    def open_entry(entry: FileEntry) -> Reader:
        raise OSError(5, "Input/output error")

    entry = FileEntry(relative_path="a", size_bytes=1, sha256="0" * 64)
    with (
        Sending(open_entry, [(entry, "b")]) as sending,
        pytest.raises(TransferFailed, match="the source file a could not be read: Input/output error"),
    ):
        read_all(sending)


def test_sending_is_called_off(root: Path) -> None:
    source = OpenedSource(root)
    asked = iter([False, False, True])
    entries = manifest_of(root)
    with (
        Sending(source, under_own_names(entries), cancelled=lambda: next(asked)) as sending,
        pytest.raises(CalledOff),
    ):
        read_all(sending)
    asked = iter([True])
    with (
        Sending(source, under_own_names(entries), cancelled=lambda: next(asked)) as sending,
        pytest.raises(CalledOff),
    ):
        read_all(sending, start=50_000)
    source.tree.close()
    assert source.open_now == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["../x"], "cannot be the name of a copy"),
        (["x", "x"], "two files would both be called x"),
        (["x", "x/y"], "x would be the name of a file and of a folder"),
    ],
)
def test_names_that_cannot_travel_are_refused(names: list[str], words: str) -> None:
    def open_entry(entry: FileEntry) -> Reader:
        raise UnfitFiles("never opened")

    items = [(FileEntry(relative_path="a", size_bytes=1, sha256="0" * 64), name) for name in names]
    with pytest.raises(TransferFailed, match=words):
        Sending(open_entry, items)


def test_more_than_a_file_may_have_is_refused(source: OpenedSource) -> None:
    entry = FileEntry(relative_path="a", size_bytes=(1 << 40) + 1, sha256="0" * 64)
    with pytest.raises(TransferFailed, match="this cannot be sent: the size of 'a'"):
        Sending(source, [(entry, "a")])


def test_what_is_not_in_the_stream_cannot_be_read(source: OpenedSource, root: Path) -> None:
    with sending_of(source, root) as sending:
        for offset, length in [(-1, 1), (0, sending.stream_bytes + 1), (sending.stream_bytes, 1)]:
            with pytest.raises(ValueError, match="the stream has"):
                sending.read_into(memoryview(bytearray(length)), offset)
