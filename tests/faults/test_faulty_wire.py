"""The faulty wire does to connections what it says: a wire that is whole by mistake would prove nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.faulty_wire import BACK, TOWARD, FaultyWire, faulty_wires
from tests.running_peers import wait_until

SOON_S = 0.3


@pytest.fixture
def echo() -> Iterator[str]:
    """Where everything that is said comes back."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(1 << 16):
                sock.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.fixture
def wire(echo: str) -> Iterator[FaultyWire]:
    with faulty_wires(1, rate_bytes_s=8 << 20) as (wire,):
        wire.target = echo
        yield wire


def dialled(wire: FaultyWire) -> socket.socket:
    host, _, port = wire.address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=5)
    sock.settimeout(5)
    return sock


def heard(sock: socket.socket, count: int) -> bytes:
    """Return so many bytes, or fewer where the connection ends before."""
    found = b""
    while len(found) < count and (data := sock.recv(count - len(found))):
        found += data
    return found


def is_silent(sock: socket.socket) -> bool:
    sock.settimeout(SOON_S)
    try:
        return sock.recv(1, socket.MSG_PEEK) is None
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)


def test_a_sound_wire_passes_on_every_byte_and_the_end(wire: FaultyWire) -> None:
    content = bytes(range(256)) * 4096
    with dialled(wire) as sock:
        threading.Thread(target=sock.sendall, args=(content,), daemon=True).start()
        assert heard(sock, len(content)) == content
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    wait_until(lambda: wire.open_connections == 0, "the connection is gone", within_s=5)
    assert wire.taken_bytes == 2 * len(content)


def test_a_cut_is_a_reset_or_an_end_as_it_is_asked(wire: FaultyWire) -> None:
    with dialled(wire) as sock:
        sock.sendall(b"hello")
        assert heard(sock, 5) == b"hello"
        wire.cut(is_reset=True)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with dialled(wire) as sock:
        sock.sendall(b"hello")
        assert heard(sock, 5) == b"hello"
        wire.cut(is_reset=False)
        assert sock.recv(1) == b""
    wait_until(lambda: wire.open_connections == 0, "both connections are gone", within_s=5)


@pytest.mark.parametrize("direction", [TOWARD, BACK])
def test_what_is_stalled_comes_once_the_wire_is_sound(wire: FaultyWire, direction: str) -> None:
    with dialled(wire) as sock:
        wire.stall(direction)
        sock.sendall(b"hello")
        assert is_silent(sock)
        wire.heal()
        assert heard(sock, 5) == b"hello"


@pytest.mark.parametrize("direction", [TOWARD, BACK])
def test_a_connection_that_is_forgotten_says_nothing_ever_again_and_a_new_one_does(
    wire: FaultyWire, direction: str
) -> None:
    with dialled(wire) as sock, dialled(wire) as other:
        for each in (sock, other):
            each.sendall(b"hello")
            assert heard(each, 5) == b"hello"
        wire.forget(direction)
        wire.heal()
        sock.sendall(b"is anybody there?")
        assert is_silent(sock)
        with dialled(wire) as new:
            new.sendall(b"hello")
            assert heard(new, 5) == b"hello"


def test_drip_and_delay_are_as_slow_as_they_say(wire: FaultyWire) -> None:
    with dialled(wire) as sock:
        wire.drip(8 << 10)
        begun_s = time.monotonic()
        sock.sendall(bytes(4 << 10))
        heard(sock, 4 << 10)
        assert time.monotonic() - begun_s > 0.3
        wire.heal()
    with dialled(wire) as sock:
        wire.delay(0.2)
        begun_s = time.monotonic()
        sock.sendall(b"hello")
        heard(sock, 5)
        assert time.monotonic() - begun_s > 0.35


def test_connections_are_refused_until_it_is_sound(wire: FaultyWire) -> None:
    wire.refuse()
    with pytest.raises(ConnectionRefusedError):
        dialled(wire)
    wire.heal()
    with dialled(wire) as sock:
        sock.sendall(b"hello")
        assert heard(sock, 5) == b"hello"


@pytest.mark.parametrize("direction", [TOWARD, BACK])
def test_only_a_new_connection_loses_its_first_bytes(wire: FaultyWire, direction: str) -> None:
    with dialled(wire) as before:
        before.sendall(b"1")
        assert heard(before, 1) == b"1"
        wire.swallow(direction, 3)
        before.sendall(b"hello")
        assert heard(before, 5) == b"hello"
        with dialled(wire) as sock:
            sock.sendall(b"hello")
            assert heard(sock, 2) == b"lo"


def test_a_new_connection_is_reset_after_so_many_bytes(wire: FaultyWire) -> None:
    wire.cut_early(3)
    with dialled(wire) as sock:
        sock.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            while sock.recv(1):
                pass
