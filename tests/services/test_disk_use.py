"""What a run has added is counted, also where it does not show in the size of a file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from rnd.services.disk_use import unnamed_bytes, used_bytes


def test_the_size_of_a_file_counts(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    os.link(tmp_path / "file", tmp_path / "again")
    assert used_bytes(str(tmp_path), besides="") == 1000


def test_room_that_is_taken_beyond_the_end_of_a_file_counts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    subprocess.run(["fallocate", "--keep-size", "--length", "20M", tmp_path / "file"], check=True)
    assert (tmp_path / "file").stat().st_size == 0
    assert used_bytes(str(tmp_path), besides="") >= 20 << 20


def test_nothing_counts_of_processes_that_are_in_no_container(tmp_path: Path) -> None:
    """The number of a container's first process may be another's by now."""
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(1000))
        file.flush()
        (tmp_path / "file").unlink()
        assert unnamed_bytes(os.getpid(), str(tmp_path)) == 0
