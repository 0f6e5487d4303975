"""Manifests: golden bytes, any chunking, and every lie refused in words."""

from __future__ import annotations

import hashlib
import itertools
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.manifest import (
    FILE_BYTES_MAX,
    LINE_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    Announced,
    Manifest,
    ManifestReader,
    ManifestRefused,
    write_manifest,
)
from rnd.rules.paths import PATH_BYTES_MAX
from rnd.types.executions import FileEntry
from tests.protocol.parcels import Parcel, file_entry, folder_entry, parcels

SHA = hashlib.sha256(b"x").hexdigest()


def announced(manifest: Manifest) -> Announced:
    return Announced(
        manifest_bytes=len(manifest.data),
        manifest_sha256=manifest.sha256,
        entry_count=len(manifest.entries),
        file_count=manifest.file_count,
        size_bytes=manifest.size_bytes,
    )


def truthful(data: bytes, *, entries: int = 1, files: int = 1, size_bytes: int = 1) -> Announced:
    """Announce bytes as they are, whatever they are."""
    return Announced(
        manifest_bytes=len(data),
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        entry_count=entries,
        file_count=files,
        size_bytes=size_bytes,
    )


def read(
    data: bytes, promise: Announced, *, cuts: Sequence[int] = (), max_folders: int = 1_000
) -> tuple[FileEntry, ...]:
    reader = ManifestReader(promise, max_folders=max_folders)
    points = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for begin, end in itertools.pairwise(points):
        reader.feed(memoryview(data)[begin:end])
    return reader.finish()


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_a_manifest_is_these_bytes() -> None:
    manifest = write_manifest([file_entry('ä "b"/c', b"x", executable=True), folder_entry("empty/")])
    assert (
        manifest.data
        == (
            '["ä \\"b\\"/c",1,"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",true]\n["empty/",0,"",false]\n'
        ).encode()
    )
    assert manifest.sha256 == hashlib.sha256(manifest.data).hexdigest()
    assert (manifest.file_count, manifest.size_bytes) == (1, 1)


def test_nothing_to_send_is_a_manifest_without_bytes() -> None:
    manifest = write_manifest([])
    assert manifest.data == b""
    assert read(b"", announced(manifest)) == ()


@given(parcels(), st.lists(st.integers(0, 400)))
def test_any_chunking_gives_exactly_the_entries(parcel: Parcel, cuts: list[int]) -> None:
    manifest = parcel.manifest
    assert read(manifest.data, announced(manifest), cuts=cuts) == tuple(parcel.entries)


def test_another_peer_may_write_its_json_in_another_way() -> None:
    data = b' [ "\\u00e4\\/b" , 1 , "%s" , false ] \r\n' % SHA.encode()
    assert read(data, truthful(data)) == (FileEntry(relative_path="ä/b", size_bytes=1, sha256=SHA),)


def test_names_that_differ_in_case_differ() -> None:
    data = lines(["a", 1, SHA, False], ["A", 1, SHA, False])
    assert len(read(data, truthful(data, entries=2, files=2, size_bytes=2))) == 2


def test_the_longest_path_escaped_throughout_fits_a_line() -> None:
    path = "/".join(['"' * 255] * 4)
    assert len(path) == PATH_BYTES_MAX - 1
    escaped = path.replace('"', "\\u0022").replace("/", "\\/")
    data = f'["{escaped}",{FILE_BYTES_MAX},"{SHA}",false]\n'.encode()
    assert read(data, truthful(data, size_bytes=FILE_BYTES_MAX))[0].relative_path == path


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//", "/etc/passwd", "../x", "a/../b", "a/..", ".", "..", "./a", "a/./b", "a//b", "a//", "a/b//",
        "a\x00b", "a\nb", "a\x7f", "a\u2028b", "\ud800", "x" * 256, "/".join(["y" * 200] * 6),
        "/".join(["d"] * 65),
    ],
)  # fmt: skip
def test_hostile_names_are_refused(path: str) -> None:
    row = [path, 0, "", False] if path.endswith("/") else [path, 1, SHA, False]
    data = lines(row)
    with pytest.raises(ManifestRefused, match="the path"):
        read(data, truthful(data))


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["a", "a"], "'a' appears twice"),
        (["a/", "a/"], "'a/' appears twice"),
        (["a", "a/"], "'a/' appears twice"),
        (["a", "a/b"], "'a/b' leads through another entry"),
        (["a/b", "a"], "'a' is an entry and a folder of other entries"),
        (["a/", "a/b"], "'a/b' leads through another entry"),
        (["a/b", "a/"], "'a/' is an entry and a folder of other entries"),
        (["a/b/c", "x", "a/b"], "'a/b' is an entry and a folder of other entries"),
        (["x/y", "x/y/z/"], "'x/y/z/' leads through another entry"),
    ],
)
def test_names_in_each_others_way_are_refused(paths: list[str], words: str) -> None:
    data = lines(*([path, 0, "", False] if path.endswith("/") else [path, 1, SHA, False] for path in paths))
    with pytest.raises(ManifestRefused, match=words):
        read(data, truthful(data, entries=3, files=3, size_bytes=9))
    with pytest.raises(ManifestRefused, match=words):
        write_manifest(folder_entry(path) if path.endswith("/") else file_entry(path, b"x") for path in paths)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{}", b"[]", b'"a"', b"null", b'["a",1,"%s"]', b'["a",1,"%s",false,0]', b'["a","1","%s",false]',
        b'["a",1.0,"%s",false]', b'["a",true,"%s",false]', b'["a",1,"%s",0]', b'["a",1,null,false]', b'[["a"],1,"%s",false]',
        b'["a",NaN,"%s",false]', b'["a",1,"%s",false],', b'["a",1,"%s",false] ["b"]', b"[" * 5_000, b'["\xff",1,"%s",false]',
        b'\xef\xbb\xbf["a",1,"%s",false]', b'["a",' + b"9" * 5_000 + b',"%s",false]', b'["a\tb",1,"%s",false]',
    ],
)  # fmt: skip
def test_lines_that_are_no_entry_are_refused(line: bytes) -> None:
    data = line.replace(b"%s", SHA.encode()) + b"\n"
    with pytest.raises(ManifestRefused, match="line 1 is not"):
        read(data, truthful(data))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["a", -1, SHA, False], "the size of 'a'"),
        (["a", FILE_BYTES_MAX + 1, SHA, False], "the size of 'a'"),
        (["a", 10**4_000, SHA, False], "the size of 'a'"),
        (["a", 1, "", False], "the SHA-256 of 'a'"),
        (["a", 1, SHA[:-1], False], "the SHA-256 of 'a'"),
        (["a", 1, SHA + "0", False], "the SHA-256 of 'a'"),
        (["a", 1, SHA.upper(), False], "the SHA-256 of 'a'"),
        (["a", 1, SHA[:-1] + "\n", False], "the SHA-256 of 'a'"),
        (["a/", 1, "", False], "the folder 'a/'"),
        (["a/", 0, SHA, False], "the folder 'a/'"),
        (["a/", 0, "", True], "the folder 'a/'"),
    ],
)
def test_sizes_and_hashes_that_cannot_be_are_refused(row: list[Any], words: str) -> None:
    data = lines(row)
    with pytest.raises(ManifestRefused, match=words):
        read(data, truthful(data, size_bytes=10**5_000))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manifest_bytes": -1}, "longer than the announced"),
        ({"manifest_bytes": 1}, "announced were"),
        ({"entry_count": -1}, "more than the announced 1 entries"),
        ({"entry_count": 1}, "has 2 entries, announced were 3"),
        ({"file_count": -1}, "has 2 files, announced were 1"),
        ({"size_bytes": -1}, "more than the announced 1 bytes"),
        ({"size_bytes": 1}, "has 2 bytes of content, announced were 3"),
    ],
)
def test_what_differs_from_the_announcement_is_refused(change: dict[str, int], words: str) -> None:
    manifest = write_manifest([file_entry("a", b"x"), file_entry("b", b"y")])
    true = announced(manifest)
    false = replace(true, **{field: getattr(true, field) + by for field, by in change.items()})
    with pytest.raises(ManifestRefused, match=words):
        read(manifest.data, false)


def test_another_hash_than_the_announced_one_is_refused() -> None:
    manifest = write_manifest([file_entry("a", b"x")])
    with pytest.raises(ManifestRefused, match="SHA-256 of the manifest"):
        read(manifest.data, replace(announced(manifest), manifest_sha256=SHA))


def test_a_last_line_without_an_end_is_refused() -> None:
    data = lines(["a", 1, SHA, False])[:-1]
    with pytest.raises(ManifestRefused, match="line 1 has no end"):
        read(data, truthful(data))


def test_a_line_that_does_not_end_is_refused_before_it_fills_memory() -> None:
    reader = ManifestReader(truthful(b"x" * (LINE_BYTES_MAX + 1)), max_folders=10)
    reader.feed(b"x" * LINE_BYTES_MAX)
    with pytest.raises(ManifestRefused, match="line 1 is longer than 8,192 bytes"):
        reader.feed(b"x")
    line = b" " * LINE_BYTES_MAX + b"[]\n"
    with pytest.raises(ManifestRefused, match="line 1 is longer than 8,192 bytes"):
        read(line, truthful(line))


def test_entries_in_more_folders_than_allowed_are_refused() -> None:
    data = lines(["a/b/c", 1, SHA, False], ["a/b/d/", 0, "", False], ["e/", 0, "", False])
    promise = truthful(data, entries=3)
    assert len(read(data, promise, max_folders=4)) == 3
    with pytest.raises(ManifestRefused, match="more than 3 folders"):
        read(data, promise, max_folders=3)


def test_more_than_a_manifest_may_have_is_not_written() -> None:
    long = "/".join(["n" * 250] * 4)
    count = MANIFEST_BYTES_MAX // len(long) + 1
    with pytest.raises(ManifestRefused, match=r"limit is 67,108,864"):
        write_manifest(file_entry(f"{index}/{long}", b"") for index in range(count))


def test_many_entries_are_read_in_bounded_memory() -> None:
    manifest = write_manifest(file_entry(f"{index % 100}/{index}", b"x") for index in range(20_000))
    tracemalloc.start()
    try:
        entries = read(manifest.data, announced(manifest), cuts=range(0, len(manifest.data), 256 << 10))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert entries == manifest.entries
    assert peak < 13 << 20  # 650 bytes an entry: what is returned, and the names


def test_a_piece_of_line_feeds_costs_no_more_than_itself() -> None:
    data = memoryview(b"\n" * (4 << 20))
    reader = ManifestReader(truthful(bytes(data), entries=100_000), max_folders=10)
    tracemalloc.start()
    try:
        with pytest.raises(ManifestRefused, match="line 1 is not JSON"):
            reader.feed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20
