"""The data directory lets nobody in, or one group as far as the socket."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

import pytest

from rnd.services.data_directory import prepare_data_directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def group() -> grp.struct_group:
    """A group that this process may give a folder to: root any, others their own."""
    if os.geteuid() == 0:
        return next(found for found in grp.getgrall() if found.gr_gid != os.getegid())
    return grp.getgrgid(os.getegid())


def test_a_new_directory_is_its_owners_alone(tmp_path: Path) -> None:
    prepare_data_directory(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_was_open_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare_data_directory(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_group_may_pass_and_neither_look_nor_open(tmp_path: Path, group: grp.struct_group) -> None:
    place = tmp_path / "peer"
    (place / "logs").mkdir(parents=True)
    (place / "logs").chmod(0o755)
    (place / "rnd.toml").write_text("")
    (place / "rnd.toml").chmod(0o664)
    (place / "link").symlink_to("/etc/hostname")
    hosts = mode(Path("/etc/hostname"))
    prepare_data_directory(place, group=group.gr_name)
    assert (mode(place), place.stat().st_gid) == (0o710, group.gr_gid)
    assert {path.name: mode(path) & 0o077 for path in place.iterdir() if not path.is_symlink()} == {
        "logs": 0,
        "rnd.toml": 0,
        "services": 0,
        "workflows": 0,
    }
    assert mode(Path("/etc/hostname")) == hosts


def test_without_its_group_the_directory_is_closed_again(tmp_path: Path, group: grp.struct_group) -> None:
    prepare_data_directory(tmp_path, group=group.gr_name)
    prepare_data_directory(tmp_path, group=group.gr_name)
    assert mode(tmp_path) == 0o710
    prepare_data_directory(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_group_that_there_is_not_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="there is no group 'no-such-group'"):
        prepare_data_directory(tmp_path / "peer", group="no-such-group")
    assert not (tmp_path / "peer").exists()


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        prepare_data_directory(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
