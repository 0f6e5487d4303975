"""`rnd backup` and `rnd restore`: what they say, to people and to scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Rnd
from tests.running_peer import RunningPeer


def test_a_backup_and_a_restore_for_scripts(on_peer: Rnd, tmp_path: Path, peer: RunningPeer) -> None:
    file, new = tmp_path / "peer.tar", tmp_path / "new"
    peer_id = on_peer("status", "-q").out.strip()
    made = on_peer("backup", file, "--json").json
    assert made == {"file": str(file), "peer_id": peer_id, "size_bytes": file.stat().st_size, "has_data": False}
    restored = on_peer("restore", file, "--data-dir", new, "--json").json
    assert restored == {
        "data_dir": str(new),
        "peer_id": peer_id,
        "executions_ended": 0,
        "jobs_ended": 0,
        "without_data": [],
    }
    assert on_peer("restore", file, "--data-dir", tmp_path / "other", "-q").out == f"{peer_id}\n"


def test_what_a_person_has_to_know_is_said(on_peer: Rnd, tmp_path: Path) -> None:
    done = on_peer("backup", tmp_path / "peer.tar")
    assert done.out.startswith(f"{tmp_path}/peer.tar: peer rn")
    assert "it holds its keys, and only you can read it (0600)" in done.err
    assert "--with-data takes them along" in done.err
    done = on_peer("restore", tmp_path / "peer.tar", "--data-dir", tmp_path / "new")
    assert done.out.startswith("restored: peer rn")
    assert "what was denied, revoked or granted after the backup is as before" in done.err
    assert "does not run any more" in done.err
    assert "were open" not in done.err


def test_refusals_say_what_to_do(rnd: Rnd, tmp_path: Path) -> None:
    done = rnd("backup", tmp_path / "peer.tar")
    assert (done.code, done.out) == (1, "")
    assert "has no rnd.db: no peer has lived there" in done.err
    (rnd.data_dir / "something").touch()
    done = rnd("restore", tmp_path / "peer.tar")
    assert done.code == 1
    assert "is not empty (something)" in done.err
    assert "move away what is there, or name another folder" in done.err


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_peer_elsewhere_is_backed_up_there(rnd: Rnd, command: str) -> None:
    done = rnd(command, "file", "--url", "http://127.0.0.1:1")
    assert done.code == 2
    assert "a backup is of a folder on this machine" in done.err
