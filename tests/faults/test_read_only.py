"""A data directory that cannot be written to is refused at the start; one that turns read-only ends the daemon, in words."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.disks import break_disk, failing_disk, mounted, small_disk
from tests.running_peer import PROJECT, RpcError, running_peer
from tests.running_peers import Peer, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("test_read_only")]  # its tests share daemons

EXIT_FAILED = 1
REFUSED = re.compile(
    "Read-only file system|readonly database|Permission denied|not permitted|unable to open|disk I/O error"
)


def served(data_dir: Path, *within: str) -> subprocess.CompletedProcess[str]:
    """Try to serve a data directory that cannot be served; return how that ended."""
    return subprocess.run(
        [*within, sys.executable, "-m", "rnd", "serve", "--data-dir", str(data_dir), "--api", "127.0.0.1:0"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_disk_that_is_mounted_read_only_is_refused_in_words(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 << 20) as disk:
        with running_peer(disk.place / "peer") as peer:
            peer.workflow("kept")
            peer.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(disk.place)], check=True)
        ended = served(disk.place / "peer")
        assert ended.returncode == EXIT_FAILED
        assert ended.stderr.splitlines()[-1].endswith("cannot hold a peer: Read-only file system")
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["", "rnd.db", "identity.key", "logs"])
def test_what_another_user_owns_is_refused_in_words(tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can give a file away and then do without its powers")
    with running_peer(tmp_path / "peer") as peer:
        peer.stop()
        os.chown(peer.data_dir / name, 65534, 65534)
        ended = served(peer.data_dir, "setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
        assert ended.returncode == EXIT_FAILED, ended.stderr
        assert "Traceback" not in ended.stderr, ended.stderr
        assert REFUSED.search(ended.stderr.splitlines()[-1]), ended.stderr


def test_a_disk_that_turns_read_only_ends_the_daemon_and_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    with failing_disk(tmp_path / "disk", 64 << 20) as disk:
        peer = Peer(disk.place / "peer")
        peer.data_dir.mkdir()
        (peer.data_dir / "stderr.txt").symlink_to(tmp_path / "stderr.txt")  # which that disk would not keep
        try:
            peer.start()
            acknowledged = []
            for number in range(40):
                if number == 20:
                    break_disk(disk)
                with contextlib.suppress(RpcError, OSError, http.client.HTTPException):
                    peer.workflow(f"fact-{number}")
                    acknowledged.append(f"fact-{number}")
            wait_until(peer.is_dead, "it ends")
            assert peer.process is not None
            assert peer.process.returncode == EXIT_FAILED
            assert "CRITICAL" in peer.stderr().splitlines()[-1]
        finally:
            peer.dispose()
        assert len(acknowledged) >= 20
        ended = served(peer.data_dir)
        assert ended.returncode == EXIT_FAILED
        assert REFUSED.search(ended.stderr.splitlines()[-1]), ended.stderr
    image = disk.place.with_name("disk.image")
    with mounted(image, disk.place), running_peer(disk.place / "peer") as peer:  # as after a repair
        assert {name for (name,) in peer.sql("SELECT name FROM workflows")} >= set(acknowledged)
