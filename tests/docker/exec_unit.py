"""rnd-exec as a service manager runs it: in the foreground, a process of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from rnd.services import seat
from tests.running_peer import PROJECT

PATIENCE_S = 60.0


class ExecUnit:
    """One rnd-exec; as a context it listens within, and has been told to end and has ended after."""

    COMMAND: ClassVar[list[str]] = [sys.executable, "-P", "-m", "rnd.services.exec_main"]

    def __init__(self, data_dir: Path, **env: str) -> None:
        self._data_dir = data_dir
        self._log = data_dir.parent / "exec-unit.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self.COMMAND, str(data_dir), "--foreground"],
                cwd=data_dir.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(PROJECT), **env},
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def await_listener(self) -> None:
        """Return when it answers: it listens a moment before it has learnt what a signal means."""
        assert seat.await_listener(str(self._data_dir), "exec", PATIENCE_S), self.words()
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(PATIENCE_S)
            asker.connect(str(self._data_dir / "run/exec.sock"))
            asker.sendall(b'{"id": 1, "op": "hello"}\n')
            assert asker.recv(1) == b"{", self.words()

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        return self._process.wait(PATIENCE_S)

    def words(self) -> str:
        """Return what it has said."""
        return self._log.read_text()

    def __enter__(self) -> Self:
        self.await_listener()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        code = self.wait()
        if kind is None:
            assert (code, self.words()) == (0, ""), f"ended with {code}: {self.words()}"
