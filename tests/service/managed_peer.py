"""A daemon as a service manager runs it: the manager's end of sd_notify(3) and sd_listen_fds(3) is the test's."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.running_peer import PROJECT, READY_WITHIN_S, RunningPeer

# What a manager does between fork and exec: sockets from descriptor 3 on, and whose they are.
HAND_OVER = """
import fcntl, os, sys
count = int(sys.argv[1])
kept = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[2:2 + count]]
for number, each in enumerate(kept):
    os.dup2(each, 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


class Manager:
    """A service manager's socket, and every line that has come there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lines: list[str] = []
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind("\0" + address[1:] if address.startswith("@") else address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def listen(self, timeout_s: float) -> list[str]:
        """Return the lines of the next datagram; none if it does not come in time."""
        self._channel.settimeout(timeout_s)
        try:
            lines = self._channel.recv(1 << 16).decode().split("\n")
        except TimeoutError:
            return []
        self.lines += lines
        return lines

    def hear(self, wanted: str | Callable[[str], bool], timeout_s: float = READY_WITHIN_S) -> str:
        """Return the first line that is `wanted`, or for which it is true, of those that come from now on."""
        until = time.monotonic() + timeout_s
        while (left_s := until - time.monotonic()) > 0:
            for line in self.listen(left_s):
                if line == wanted or (callable(wanted) and wanted(line)):
                    return line
        raise AssertionError(f"not heard within {timeout_s} s: {wanted}; heard: {self.lines}")


class ManagedPeer(RunningPeer):
    """A daemon that tells `manager` how it is; `sockets` are listening ones with the names that their unit gives them."""

    def __init__(
        self,
        data_dir: Path,
        manager: Manager,
        *,
        config: str = "",
        env: Mapping[str, str] | None = None,
        sockets: Sequence[tuple[str, socket.socket]] = (),
    ) -> None:
        super().__init__(data_dir, config=config)
        self.manager = manager
        self.more = dict(env or {})
        self.sockets = sockets

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process, and return it whatever becomes of it."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._config:
            (self.data_dir / "rnd.toml").write_text(self._config)
        descriptors = [sock.fileno() for _, sock in self.sockets]
        command = [sys.executable, "-m", "rnd", "serve", "--data-dir", str(self.data_dir)]
        command += ["--api", self.api_at, "--peer", self.listen_at]
        announced = {"NOTIFY_SOCKET": self.manager.address}
        if descriptors:
            command = [sys.executable, "-c", HAND_OVER, str(len(descriptors)), *map(str, descriptors), *command]
            announced |= {"LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": ":".join(n for n, _ in self.sockets)}
        with (self.data_dir / "stderr.txt").open("ab") as output:
            self.process = subprocess.Popen(
                [*self.within, *command],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                env={**os.environ, **announced, **self.more},
            )
        return self.process

    def start(self) -> None:
        """Start it and return when the manager has heard that it is ready."""
        self.launch()
        with contextlib.suppress(AssertionError):
            self.manager.hear("READY=1")
            return
        raise AssertionError(f"it has not said that it is ready: {self.manager.lines}\n{self.stderr()}")

    def await_log(self, text: str, timeout_s: float = 20.0) -> str:
        """Return the first line of the log with this text, once there is one."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            for line in self.log_lines():
                if text in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line has {text!r}:\n" + "\n".join(self.log_lines()[-20:]))
