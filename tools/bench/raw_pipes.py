"""The pipes that bound what a Python program can do: plain sendfile, and TLS 1.3 with SHA-256 on both sides.

Sender and receiver are two processes, as two peers are. Each function returns the seconds from the first byte to the
flush of the last; what has arrived is compared with the hash that the sender has computed.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import queue
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

PIECE_BYTES = 1 << 20
PIECES = 8
"""How many pieces lie between the thread of the socket and the thread that hashes."""


def straight(port: int) -> int:
    """Return the port that leads to a port without a detour: the same."""
    return port


def sent_file(source: Path, target: Path) -> float:
    """Send a file in the clear by sendfile; nothing is hashed."""
    return _between(source, target / source.name, _send_plain, _receive_plain)


def piped_file(source: Path, target: Path, by: Callable[[int], int] = straight) -> float:
    """Send a file over TLS, hashed in a thread on both sides; `by` returns the port by way of which a port is reached."""
    return _between(source, target / source.name, _send_tls, _receive_tls, by)


def piped_tar(source: Path, target: Path, by: Callable[[int], int] = straight) -> float:
    """Send a folder as tar over TLS, unpack it, hash every file, flush the file system."""
    return _between(source, target, _send_tar, _receive_tar, by)


def _between(source: Path, target: Path, send, receive, by=straight) -> float:  # type: ignore[no-untyped-def]  # a tool, not typed
    context = get_context("fork")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as keys, socket.create_server(("127.0.0.1", 0)) as server:
        certificate = _certificate(Path(keys))
        receiver = context.Process(target=receive, args=(server, target, certificate, theirs))
        receiver.start()
        assert ours.recv() == "ready"
        port = by(server.getsockname()[1])
        begun = time.perf_counter()
        sender = context.Process(target=send, args=(port, source, certificate))
        sender.start()
        assert ours.recv() == "whole"
        took = time.perf_counter() - begun
        sender.join()
        receiver.join()
    return took


def _certificate(folder: Path) -> Path:
    """Return a file with a key and a certificate that nobody needs to trust."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1)
    )
    certificate = builder.sign(key, None)
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    return path


def _tls(certificate: Path, *, server_side: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    return context


def _send_plain(port: int, source: Path, _: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection, source.open("rb") as file:
        connection.sendfile(file)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def _receive_plain(server: socket.socket, target: Path, _: Path, told: Connection) -> None:
    told.send("ready")
    connection, _ = server.accept()
    with connection, target.open("wb") as file:
        buffer = memoryview(bytearray(PIECE_BYTES))
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])
        file.flush()
        os.fsync(file.fileno())
    told.send("whole")


def stop_and_wait(source: Path, address: str, server: socket.socket) -> float:
    """Send a file to `server` by way of `address`, a piece after the other, each after the last was acknowledged."""
    host, _, port = address.rpartition(":")

    def acknowledge() -> None:
        connection, _ = server.accept()
        with connection:
            left = source.stat().st_size
            buffer = memoryview(bytearray(PIECE_BYTES))
            while left:
                wanted = got = min(left, PIECE_BYTES)
                while got:
                    got -= connection.recv_into(buffer[:got])
                left -= wanted
                connection.sendall(b"+")

    taker = threading.Thread(target=acknowledge)
    taker.start()
    begun = time.perf_counter()
    with socket.create_connection((host, int(port))) as connection, source.open("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while piece := file.read(PIECE_BYTES):
            connection.sendall(piece)
            connection.recv(1)
    taker.join()
    return time.perf_counter() - begun


class _Hasher:
    """Hashes pieces in a thread of its own, in their order; buffers come back to be filled again."""

    def __init__(self) -> None:
        self.free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(PIECES):
            self.free.put(bytearray(PIECE_BYTES))
        self._full: queue.SimpleQueue[tuple[bytearray, int]] = queue.SimpleQueue()
        self._digest = hashlib.sha256()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def put(self, buffer: bytearray, count: int) -> None:
        """Have the first bytes of a buffer hashed; the buffer returns to `free`."""
        self._full.put((buffer, count))

    def digest(self) -> bytes:
        """Return the hash of all that was put."""
        self._full.put((bytearray(), 0))
        self._thread.join()
        return self._digest.digest()

    def _run(self) -> None:
        while True:
            buffer, count = self._full.get()
            if not count:
                return
            self._digest.update(memoryview(buffer)[:count])
            self.free.put(buffer)


def _send_tls(port: int, source: Path, certificate: Path) -> None:
    hasher = _Hasher()
    context = _tls(certificate, server_side=False)
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as connection,
        source.open("rb", buffering=0) as file,
    ):
        while True:
            buffer = hasher.free.get()
            count = file.readinto(buffer)
            if not count:
                break
            connection.sendall(memoryview(buffer)[:count])
            hasher.put(buffer, count)
        connection.sendall(hasher.digest())
        _say_goodbye(connection)


def _say_goodbye(connection: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):  # the other side reads to the end and leaves without a word
        connection.unwrap()


def _receive_tls(server: socket.socket, target: Path, certificate: Path, told: Connection) -> None:
    hasher = _Hasher()
    context = _tls(certificate, server_side=True)
    told.send("ready")
    plain, _ = server.accept()
    with context.wrap_socket(plain, server_side=True) as connection, target.open("wb", buffering=0) as file:
        tail = b""
        while True:
            buffer = hasher.free.get()
            view = memoryview(buffer)
            count = 0
            while count < PIECE_BYTES and (more := connection.recv_into(view[count:])):
                count += more
            if not count:
                break
            if count < PIECE_BYTES:  # the last bytes are the sender's hash
                tail, count = bytes(view[count - 32 : count]), count - 32
            file.write(view[:count])
            hasher.put(buffer, count)
        assert hasher.digest() == tail
        os.fsync(file.fileno())
    told.send("whole")


def _send_tar(port: int, source: Path, certificate: Path) -> None:
    context = _tls(certificate, server_side=False)
    with (
        subprocess.Popen(["tar", "-C", source.parent, "-cf", "-", source.name], stdout=subprocess.PIPE) as tar,
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as connection,
    ):
        assert tar.stdout is not None
        while piece := tar.stdout.read(PIECE_BYTES):
            connection.sendall(piece)
        _say_goodbye(connection)


def _receive_tar(server: socket.socket, target: Path, certificate: Path, told: Connection) -> None:
    context = _tls(certificate, server_side=True)
    told.send("ready")
    plain, _ = server.accept()
    with (
        context.wrap_socket(plain, server_side=True) as connection,
        subprocess.Popen(["tar", "-C", target, "-xf", "-"], stdin=subprocess.PIPE) as tar,
    ):
        assert tar.stdin is not None
        while piece := connection.recv(PIECE_BYTES):
            tar.stdin.write(piece)
        tar.stdin.close()
        assert tar.wait() == 0
    subprocess.run(f"find '{target}' -type f -print0 | xargs -0 sha256sum > '{target}.sums'", shell=True, check=True)
    subprocess.run(["sync", "-f", target], check=True)
    told.send("whole")


if __name__ == "__main__":
    sys.exit("this is part of tools/bench/transfers.py")
