"""Listening: private from the first moment, at paths of any length, never beside a daemon that is alive."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from rnd.api.sockets import connect_unix, listen_tcp, listen_unix, parse_address
from rnd.types.errors import AddressInUse


def test_the_socket_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        listener = listen_unix(tmp_path / "api.sock")
    finally:
        os.umask(before)
    try:
        mode = os.stat(tmp_path / "api.sock").st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    finally:
        listener.close()


def test_with_a_group_the_socket_is_the_groups_too(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    listener = listen_unix(tmp_path / "api.sock", group=group)
    try:
        found = os.stat(tmp_path / "api.sock")
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == os.getgid()
    finally:
        listener.close()


def test_an_unknown_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no-such-group"):
        listen_unix(tmp_path / "api.sock", group="no-such-group")


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name"] * 8)
    deep.mkdir(parents=True)
    path = deep / "api.sock"
    assert len(os.fsencode(path)) > 108
    listener = listen_unix(path)
    try:
        with connect_unix(path) as client:
            listener.sock.setblocking(True)
            server, _ = listener.sock.accept()
            with server:
                client.sendall(b"hello")
                assert server.recv(5) == b"hello"
    finally:
        listener.close()
    assert not path.exists()


def test_a_socket_that_nobody_answers_at_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(path))
    stale.close()
    listener = listen_unix(path)
    try:
        connect_unix(path).close()
    finally:
        listener.close()


def test_a_socket_that_somebody_answers_at_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    first = listen_unix(path)
    try:
        with pytest.raises(AddressInUse, match="another daemon"):
            listen_unix(path)
        connect_unix(path).close()
    finally:
        first.close()


def test_what_is_not_a_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("precious")
    with pytest.raises(AddressInUse, match="not a socket"):
        listen_unix(path)
    assert path.read_text() == "precious"


def test_closing_leaves_the_socket_of_a_successor_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    first = listen_unix(path)
    path.unlink()
    second = listen_unix(path)
    first.close()
    try:
        connect_unix(path).close()
    finally:
        second.close()
        second.close()


def test_port_0_takes_a_free_port() -> None:
    with listen_tcp("127.0.0.1:0") as sock:
        assert sock.getsockname()[1] > 0


@pytest.mark.parametrize(
    ("address", "parsed"),
    [("127.0.0.1:30069", ("127.0.0.1", 30069)), ("[::1]:0", ("::1", 0)), ("localhost:1", ("localhost", 1))],
)
def test_addresses_are_read(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address", ["", "30069", "127.0.0.1", ":1", "::1:1", "host:port", "host:65536", "host:-1", "h:١"]
)
def test_odd_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|brackets"):
        parse_address(address)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_tcp_listens_on_the_loopback_only(address: str) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        listen_tcp(address)
