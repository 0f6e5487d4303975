"""What a job mounts: the files of its providers side by side, read-only or its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rnd.types.errors import CalledOff, JobFailed
from rnd.workers.copying import MountSource, copy_in_kernel, place_mount
from rnd.workers.files import clear_tree, hash_tree, scan_tree


def provider(root: Path, files: dict[str, bytes]) -> MountSource:
    root.mkdir()
    for name, content in files.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    entries = hash_tree(root, scan_tree(root, max_files=99, max_file_bytes=1 << 40))
    return MountSource(root=root, entries=entries, label=f"job {root.name}")


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}


def test_the_files_of_all_providers_lie_side_by_side_read_only(tmp_path: Path) -> None:
    sources = [
        provider(tmp_path / "left", {"a": b"a", "shared/x.sh": b"x", "void/": b""}),
        provider(tmp_path / "right", {"b": b"b", "shared/y": b"y"}),
    ]
    place_mount(sources, tmp_path / "mounts" / "in", writable=False)
    assert modes(tmp_path / "mounts" / "in") == {
        ".": 0o555,
        "a": 0o444,
        "b": 0o444,
        "shared": 0o555,
        "shared/x.sh": 0o555,
        "shared/y": 0o444,
        "void": 0o555,
    }
    assert (tmp_path / "mounts" / "in" / "shared" / "y").read_bytes() == b"y"


def test_a_mount_for_both_ways_holds_private_copies_to_write(tmp_path: Path) -> None:
    sources = [provider(tmp_path / "left", {"a": b"a", "run.sh": b""})]
    place_mount(sources, tmp_path / "m", writable=True)
    assert modes(tmp_path / "m") == {".": 0o755, "a": 0o644, "run.sh": 0o755}
    (tmp_path / "m" / "a").write_bytes(b"changed by the job")
    assert (tmp_path / "left" / "a").read_bytes() == b"a"
    assert (tmp_path / "m" / "a").stat().st_nlink == 1


def test_no_providers_make_an_empty_folder(tmp_path: Path) -> None:
    place_mount([], tmp_path / "m", writable=False)
    assert modes(tmp_path / "m") == {".": 0o555}


def test_laying_it_again_starts_anew(tmp_path: Path) -> None:
    sources = [provider(tmp_path / "left", {"a": b"a"})]
    place_mount([provider(tmp_path / "old", {"stray": b""})], tmp_path / "m", writable=False)
    place_mount(sources, tmp_path / "m", writable=False)
    assert os.listdir(tmp_path / "m") == ["a"]
    clear_tree(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_name_from_two_providers_names_both(tmp_path: Path) -> None:
    sources = [provider(tmp_path / "left", {"x/same": b"1"}), provider(tmp_path / "right", {"x/same": b"1"})]
    with pytest.raises(JobFailed, match=r"^x/same comes from both job left and job right$"):
        place_mount(sources, tmp_path / "m", writable=False)


def test_a_file_called_like_the_others_folder_names_both(tmp_path: Path) -> None:
    sources = [provider(tmp_path / "left", {"x/y": b""}), provider(tmp_path / "right", {"x": b""})]
    with pytest.raises(JobFailed, match=r"^x is a file from job right and a folder from job left$"):
        place_mount(sources, tmp_path / "m", writable=False)


def test_an_input_that_changed_since_it_was_verified_is_refused(tmp_path: Path) -> None:
    source = provider(tmp_path / "left", {"a": b"a"})
    (tmp_path / "left" / "a").write_bytes(b"longer")
    with pytest.raises(JobFailed, match="left/a has changed since it was received"):
        place_mount([source], tmp_path / "m", writable=False)


def test_laying_stops_when_it_is_called_off(tmp_path: Path) -> None:
    source = provider(tmp_path / "left", {"a": b"a"})
    with pytest.raises(CalledOff):
        place_mount([source], tmp_path / "m", writable=False, cancelled=lambda: True)


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(JobFailed, match="the mount in could not be laid out: Not a directory"):
        place_mount([], tmp_path / "f" / "in", writable=False)


def test_holes_of_a_file_stay_holes_in_the_kernels_copy(tmp_path: Path) -> None:
    size = (5 << 30) + 3
    with (tmp_path / "sparse").open("wb") as source:
        source.seek(1 << 30)
        source.write(b"middle")
        source.truncate(size)
    with (tmp_path / "sparse").open("rb") as source, (tmp_path / "copy").open("wb") as copy:
        copy_in_kernel(source.fileno(), copy.fileno(), size)
    facts = (tmp_path / "copy").stat()
    assert facts.st_size == size
    assert facts.st_blocks * 512 < 1 << 20
    with (tmp_path / "copy").open("rb") as copy:
        copy.seek(1 << 30)
        assert copy.read(8) == b"middle\0\0"


def test_the_kernel_copies_between_file_systems_too(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    memory = os.memfd_create("source")
    os.write(memory, content)
    with (tmp_path / "copy").open("wb") as copy:
        copy_in_kernel(memory, copy.fileno(), len(content))
    os.close(memory)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_source_that_shrinks_under_the_copy_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    with (
        (tmp_path / "short").open("rb") as source,
        (tmp_path / "copy").open("wb") as copy,
        pytest.raises(OSError, match="changed its size"),
    ):
        copy_in_kernel(source.fileno(), copy.fileno(), 10)
