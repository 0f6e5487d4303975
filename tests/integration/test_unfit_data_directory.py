"""A place that cannot hold a peer is named in words, before anything is written."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running_peer import PROJECT


def test_a_data_directory_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("mine")
    served = subprocess.run(
        [sys.executable, "-m", "rnd", "serve", "--data-dir", str(place), "--api", "127.0.0.1:0"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (served.returncode, served.stdout) == (1, "")
    assert served.stderr == f"rnd: {place} cannot hold a peer: it is not a folder\n"
    assert place.read_text() == "mine"


@pytest.mark.parametrize(("taken_by", "free"), [("--api", "--peer"), ("--peer", "--api")])
def test_an_address_in_use_is_refused_as_a_data_directory_in_use_is(taken_by: str, free: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        served = subprocess.run(
            [
                *(sys.executable, "-m", "rnd", "serve", "--data-dir", str(tmp_path / "peer")),
                *(taken_by, address, free, "127.0.0.1:0"),
            ],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert served.returncode == 69
    words = (
        f"{address} is in use by another process: stop what listens there, or choose another address with {taken_by}"
    )
    assert words in served.stderr
