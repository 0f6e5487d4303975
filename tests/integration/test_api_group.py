"""With `api_group` the members of that group reach the socket of a running peer, and nothing else of it."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import RunningPeer, running_peer

NOBODY = 65534


def as_nobody(groups: list[int], place: Path, names: list[str]) -> str:
    """Become a user of these groups only, and tell what can be opened: `200` for the socket, then names."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process, which runs no program: this one's may be out of reach
        try:
            os.setgroups(groups)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, tell(place, names).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as told:
        text = told.read()
    os.waitpid(pid, 0)
    return text


def tell(place: Path, names: list[str]) -> str:
    told = []
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place / "api.sock"))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: rnd\r\nConnection: close\r\n\r\n")
            told.append(client.recv(100).split()[1].decode())
    except PermissionError:
        told.append("closed")
    for name in names:
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_DIRECTORY):
            with contextlib.suppress(OSError):
                os.close(os.open(place / name, flags))
                told.append(name)
    return " ".join(told)


@pytest.fixture
def group() -> grp.struct_group:
    """A group that this process may give a folder to: root any, others their own."""
    if os.geteuid() == 0:
        return next(found for found in grp.getgrall() if found.gr_gid not in (os.getegid(), NOBODY))
    return grp.getgrgid(os.getegid())


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can pass on the way to the peer's own; pytest's are closed."""
    folder = Path(tempfile.mkdtemp(prefix="rnd-group-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def use(peer: RunningPeer) -> None:
    """Have the peer make everything that a peer makes: a snapshot, a run with its folders and logs, an upload."""
    text = peer.data_dir.parent / "text"
    text.write_text("abc")
    workflow = peer.workflow("used")
    data, program = (
        peer.node(workflow, peer.data("text", text)),
        peer.node(workflow, peer.program("upper", "tr a-z A-Z")),
    )
    peer.connect(workflow, data, program)
    peer.connect(workflow, program, None)
    assert peer.run(workflow)["status"] == "COMPLETED"
    assert peer.put("/upload/x", b"x")[0] == 201


def test_a_member_of_the_group_reaches_the_socket_and_nothing_else(place: Path, group: grp.struct_group) -> None:
    with running_peer(place / "peer", config=f'api_group = "{group.gr_name}"\n') as peer:
        use(peer)
        found = peer.data_dir.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o710, group.gr_gid)
        reachable = {path.name for path in peer.data_dir.iterdir() if stat.S_IMODE(path.stat().st_mode) & 0o077}
        assert reachable == {"api.sock"}
        found = peer.socket_path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, group.gr_gid)
        if os.geteuid() == 0:  # nobody else may become another user
            names = [str(path.relative_to(peer.data_dir)) for path in peer.data_dir.rglob("*") if not path.is_socket()]
            assert any(name.startswith("workflows/") for name in names)
            assert as_nobody([group.gr_gid], peer.data_dir, [".", *names]) == "200"
            assert as_nobody([], peer.data_dir, names) == "closed"


def test_without_a_group_the_directory_is_closed(peer: RunningPeer) -> None:
    assert stat.S_IMODE(peer.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(peer.socket_path.stat().st_mode) == 0o600


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no group 'no-such-group'"):
        RunningPeer(tmp_path / "peer", config='api_group = "no-such-group"\n').start()
