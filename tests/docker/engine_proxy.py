"""Stands between rnd-exec and the engine: counts what is asked; at one question it kills whom it is told to, or holds it up.

Nothing of ours knows of it; it is reached as any engine is, by DOCKER_HOST.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from pathlib import Path

from tests.docker.engine import SOCKET, stop_accepting

QUESTION = re.compile(rb"^(GET|HEAD|POST|DELETE) (?:/v[0-9.]+)?(/[^ ]*) HTTP/1\.[01]\r\n")


class _Marks:
    """What is to become of the next answer on one connection."""

    def __init__(self) -> None:
        self.dying = threading.Event()
        self.holding = threading.Event()


class EngineProxy:
    """One socket; `questions` are what has been asked so far, without versions and ids.

    `kill_at` is the number, from 1, of the question at which `victim` dies: before the engine hears it, or after it has
    answered and before anybody hears that. Without a victim whoever has asked dies.

    `hold_at` names a question, as `questions` does: the first of that name is held up until `let_go`, before the engine hears
    it or, with `hold_answer`, once it has answered; `held` says that it is there. `refusals` are answered here, in place of the
    engine: status and words by question. `slow_s` is how long every question takes longer. `hung_up` counts who has.
    """

    def __init__(self, folder: Path, *, engine: str = SOCKET) -> None:
        self.path = folder / "engine.sock"
        self.questions: list[str] = []
        self.kill_at: int | None = None
        self.before = False
        self.victim: int | None = None
        self.killed = threading.Event()
        self.refuses = False
        self.hold_at = ""
        self.hold_answer = False
        self.held = threading.Event()
        self.refusals: dict[str, tuple[int, str]] = {}
        self.slow_s = 0.0
        self.hung_up = 0
        self._let_go = threading.Event()
        self._drops = False
        self._engine = engine
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """What DOCKER_HOST is to say."""
        return f"unix://{self.path}"

    def close(self) -> None:
        """Refuse everybody from now on."""
        stop_accepting(self._listener, self._acceptor)
        self.cut()

    def let_go(self, *, drop: bool = False) -> None:
        """Let the question, or the answer, that is held up go on, or get lost."""
        self._drops = drop
        self._let_go.set()

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
            marks = _Marks()
            back = threading.Thread(target=self._carry_back, args=(engine, client, asker, marks), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(1 << 16):
                    if not self._hear(data, client, asker, marks):
                        break
                    engine.sendall(data)
                with self._lock:
                    self.hung_up += 1
                engine.shutdown(socket.SHUT_WR)
            back.join()
            with self._lock:
                self._open -= {client, engine}

    def _hear(self, data: bytes, client: socket.socket, asker: int, marks: _Marks) -> bool:
        """Do with what is asked as the test wants it; say whether the engine is to hear it."""
        found = QUESTION.match(data)
        if found is None:
            return True
        time.sleep(self.slow_s)
        with self._lock:
            path = re.sub(r"[0-9a-f]{64}", "ID", found[2].decode().partition("?")[0])
            question = f"{found[1].decode()} {path}"
            self.questions.append(question)
            is_the_one = self.kill_at == len(self.questions)
            is_to_hold = self.hold_at == question
            if is_to_hold:
                self.hold_at = ""
        if question in self.refusals:
            status, words = self.refusals[question]
            body = json.dumps({"message": words}).encode()
            head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            return False
        if is_the_one and self.before:
            self._kill(asker)
            return False
        if is_the_one:
            marks.dying.set()
        if is_to_hold and self.hold_answer:
            marks.holding.set()
        elif is_to_hold:
            return self._hold()
        return True

    def _hold(self) -> bool:
        self.held.set()
        self._let_go.wait()
        return not self._drops

    def _carry_back(self, engine: socket.socket, client: socket.socket, asker: int, marks: _Marks) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(1 << 16):
                if marks.dying.is_set():
                    marks.dying.clear()
                    self._kill(asker)
                if marks.holding.is_set():
                    marks.holding.clear()
                    if not self._hold():
                        break
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _kill(self, asker: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.victim or asker, signal.SIGKILL)
        self.killed.set()
