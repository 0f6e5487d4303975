"""Several peers on this machine, started for trying things: each with its own directory and ports, ended by process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rnd.cli.connection import SOCKET_NAME, Daemon
from rnd.cli.failures import CommandFailed

START_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 20.0
LINK_WITHIN_S: Final = 20.0
BETWEEN_LOOKS_S: Final = 0.05


class LocalPeers:
    """Peers below one folder, `<folder>/<name>` each. As a context it stops those that it has started."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = tuple(names)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._daemons: dict[str, Daemon] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _leave)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def data_dir(self, name: str) -> Path:
        """Return the data directory of a peer."""
        return self.folder / name

    def call(self, name: str, method: str, **params: Any) -> Any:
        """Call a method on a peer. Raises `CommandFailed`."""
        return self._daemons[name].call(method, params)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start all peers side by side and return when every one answers. Raises `CommandFailed`.

        Settings of the person who runs this are not meant for these peers: no variable of theirs reaches one.
        """
        given = os.environ if environment is None else environment
        clean = {name: value for name, value in given.items() if not name.startswith("RND_")}
        for name in self.names:
            data_dir = self.data_dir(name)
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._said(name).open("wb") as said:
                self._processes[name] = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "rnd", "serve", "--name", name, "--data-dir", str(data_dir)),
                        *("--api", "127.0.0.1:0", "--peer", self._address(name)),
                    ],
                    env=clean,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    # Ctrl-C is for whoever has started them, who then ends them in order.
                    start_new_session=True,
                )
        for name in self.names:
            self._await_answer(name)
            (address,) = self.call(name, "node.status")["peer_addresses"]
            self._address_file(name).write_text(address)

    def _await_answer(self, name: str) -> None:
        deadline_s = time.monotonic() + START_WITHIN_S
        process = self._processes[name]
        self._daemons[name] = Daemon(data_dir=self.data_dir(name))
        while True:
            if (self.data_dir(name) / SOCKET_NAME).exists():
                try:
                    self.call(name, "node.status")
                except CommandFailed:
                    pass  # the socket is there a moment before whoever answers on it
                else:
                    return
            if process.poll() is not None or time.monotonic() > deadline_s:
                last_words = self._said(name).read_text(errors="replace").splitlines()[-5:]
                raise CommandFailed(
                    f"peer {name} did not start: {'; '.join(last_words) or 'it said nothing'}",
                    hint=f"All it said is in {self._said(name)}.",
                )
            time.sleep(BETWEEN_LOOKS_S)

    def pair(self, inviter: str, joiner: str) -> None:
        """Have two peers let each other in, as their owners would, and wait for their link. Raises `CommandFailed`."""
        invite = self.call(inviter, "peer.invite")["invite"]
        self.call(joiner, "peer.join", invite=invite)
        self.await_link(joiner, self.call(inviter, "node.status")["peer_id"])

    def await_link(self, name: str, peer_id: str) -> None:
        """Return when a peer is linked to another. Raises `CommandFailed`."""
        deadline_s = time.monotonic() + LINK_WITHIN_S
        while not self.call(name, "peer.get", peer_id=peer_id)["connected"]:
            if time.monotonic() > deadline_s:
                failure = self.call(name, "peer.get", peer_id=peer_id).get("last_failure") or "no reason is known"
                raise CommandFailed(f"peer {name} is not linked after {LINK_WITHIN_S:g} s: {failure}")
            time.sleep(BETWEEN_LOOKS_S)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the peers that were started."""
        return {name: process.pid for name, process in self._processes.items()}

    def await_end(self) -> None:
        """Return when a peer has ended. Raises `CommandFailed` with its name: nobody here has asked for that."""
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise CommandFailed(
                        f"peer {name} has ended with exit code {process.returncode}",
                        hint=f"All it said is in {self._said(name)}.",
                    )
            time.sleep(0.5)

    def stop(self) -> None:
        """End every peer that was started, and wait for it."""
        for daemon in self._daemons.values():
            daemon.close()
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_WITHIN_S
        for process in self._processes.values():
            try:
                process.wait(max(deadline_s - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._daemons.clear()

    def _address(self, name: str) -> str:
        """Return where a peer listens: where it did last time, since the others know it by that address."""
        try:
            return self._address_file(name).read_text().strip()
        except FileNotFoundError:
            return "127.0.0.1:0"

    def _address_file(self, name: str) -> Path:
        return self.folder / f"{name}.address"

    def _said(self, name: str) -> Path:
        return self.folder / f"{name}.txt"


def _leave(number: int, _frame: object) -> None:
    """Leave by an exception, so that what was started is stopped on the way."""
    raise SystemExit(128 + number)
