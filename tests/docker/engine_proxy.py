"""Stands between rnd-exec and the engine: counts what is asked, and at one question kills whom it is told to.

Nothing of ours knows of it; it is reached as any engine is, by DOCKER_HOST.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import threading
from pathlib import Path

from tests.docker.engine import SOCKET

QUESTION = re.compile(rb"^(GET|HEAD|POST|DELETE) (?:/v[0-9.]+)?(/[^ ]*) HTTP/1\.[01]\r\n")


class EngineProxy:
    """One socket; `questions` are what has been asked so far, without versions and ids.

    `kill_at` is the number, from 1, of the question at which `victim` dies: before the engine hears it, or after it has
    answered and before anybody hears that. Without a victim whoever has asked dies.
    """

    def __init__(self, folder: Path, *, engine: str = SOCKET) -> None:
        self.path = folder / "engine.sock"
        self.questions: list[str] = []
        self.kill_at: int | None = None
        self.before = False
        self.victim: int | None = None
        self.killed = threading.Event()
        self.refuses = False
        self._engine = engine
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What DOCKER_HOST is to say."""
        return f"unix://{self.path}"

    def close(self) -> None:
        """Refuse everybody from now on."""
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        asker = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        with client, socket.socket(socket.AF_UNIX) as engine:
            try:
                engine.connect(self._engine)
            except OSError:
                return
            with self._lock:
                self._open |= {client, engine}
            dying = threading.Event()
            back = threading.Thread(target=self._carry_back, args=(engine, client, asker, dying), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 16):
                    if self._is_the_one(data):
                        if self.before:
                            self._kill(asker)
                            return
                        dying.set()
                    engine.sendall(data)
                engine.shutdown(socket.SHUT_WR)
            back.join()
            with self._lock:
                self._open -= {client, engine}

    def _carry_back(self, engine: socket.socket, client: socket.socket, asker: int, dying: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(1 << 16):
                if dying.is_set():
                    dying.clear()
                    self._kill(asker)
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _is_the_one(self, data: bytes) -> bool:
        found = QUESTION.match(data)
        if found is None:
            return False
        with self._lock:
            path = re.sub(r"[0-9a-f]{64}", "ID", found[2].decode().partition("?")[0])
            self.questions.append(f"{found[1].decode()} {path}")
            return self.kill_at == len(self.questions)

    def _kill(self, asker: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.victim or asker, signal.SIGKILL)
        self.killed.set()
