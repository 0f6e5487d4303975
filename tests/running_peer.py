"""A real daemon for tests: its own process, data directory and ports, driven by JSON-RPC over its unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 30.0
QUICK = {"RND_QUEUE_INTERVAL_S": "1", "RND_STATUS_INTERVAL_S": "1", "RND_DRAIN_S": "0"}
"""Tests that stop a daemon in the middle of something want it cut there."""


class RpcError(AssertionError):
    """The daemon answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.code = int(error["code"])
        self.message = str(error["message"])
        self.data: dict[str, Any] = dict(error.get("data") or {})


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, also where the path is longer than a socket address may be."""

    def __init__(self, path: Path) -> None:
        super().__init__("rnd", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


class RunningPeer:
    """A daemon process. `stop` ends it in order, `kill` pulls the plug; `start` brings it up again on the same data.

    `listen_at` is where other peers come in, `api_at` where its API listens on TCP, and `within` what its command line begins with (`ip netns exec ...`); set while
    the daemon is away, they hold from the next start on.
    """

    def __init__(self, data_dir: Path, *, config: str = "", env: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self._config = config
        self._env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.listen_at = "127.0.0.1:0"
        self.api_at = "127.0.0.1:0"
        self.within: tuple[str, ...] = ()

    # ---- life

    def start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._config:
            (self.data_dir / "rnd.toml").write_text(self._config)
        output = (self.data_dir / "stderr.txt").open("ab")
        with output:
            self.process = subprocess.Popen(
                [
                    *(*self.within, sys.executable, "-m", "rnd", "serve"),
                    *("--data-dir", str(self.data_dir)),
                    *("--api", self.api_at, "--peer", self.listen_at),
                ],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **QUICK, **self._env},
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.stderr()}")
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the daemon was not ready within {READY_WITHIN_S} s:\n{self.stderr()}")

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOPPED_WITHIN_S)
        self.process = None
        return code

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOPPED_WITHIN_S)
        self.process = None

    @contextlib.contextmanager
    def variables(self, more: Mapping[str, str]) -> Iterator[None]:
        """Have the daemon, when it is started meanwhile, find these variables in its environment too."""
        before, self._env = self._env, {**self._env, **more}
        try:
            yield
        finally:
            self._env = before

    def dispose(self) -> None:
        """End the daemon and every job process it has left, whatever state the test ended in."""
        if self.process is not None and self.process.poll() is None:
            # Asked first: what a daemon that is killed has run is missing from the coverage.
            self.process.terminate()
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in processes_below(self.data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- speaking to it

    @property
    def socket_path(self) -> Path:
        return self.data_dir / "api.sock"

    def call(self, method: str, /, **params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = _UnixConnection(self.socket_path)
        try:
            connection.request("POST", "/rpc", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        connection = _UnixConnection(self.socket_path)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def put(self, path: str, content: bytes) -> tuple[int, bytes]:
        connection = _UnixConnection(self.socket_path)
        try:
            connection.request("PUT", path, content)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def sql(self, query: str, /, **values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.data_dir / "rnd.db", timeout=10)) as conn, conn:
            return conn.execute(query, values).fetchall()

    def log_lines(self) -> list[str]:
        return (self.data_dir / "logs" / "peer.log").read_text().splitlines()

    def stderr(self) -> str:
        return (self.data_dir / "stderr.txt").read_text(errors="replace")[-8000:]

    # ---- what tests do again and again

    def program(self, name: str, script: str, **more: Any) -> int:
        """Offer a shell script as a STANDALONE service; return its id."""
        path = self.data_dir.parent / f"{self.data_dir.name}-programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        return int(
            self.call("service.create", name=name, service_type="STANDALONE", executable=str(path), **more)["id"]
        )

    def data(self, name: str, *paths: Path, **more: Any) -> int:
        """Offer files as a DATA service; return its id."""
        created = self.call("service.create", name=name, service_type="DATA", paths=[str(p) for p in paths], **more)
        return int(created["id"])

    def workflow(self, name: str) -> int:
        return int(self.call("workflow.create", name=name)["id"])

    def node(self, workflow_id: int, service_id: int, **more: Any) -> int:
        return int(self.call("workflow.add_node", workflow_id=workflow_id, service_id=service_id, **more)["node_id"])

    def connect(
        self, workflow_id: int, start: int | None, end: int | None, types: str = "STDOUT->STDIN", **more: Any
    ) -> int:
        """Connect two nodes (`None`: the self-peer) by `FROM->TO` interface types; return the connection's id."""
        from_type, to_type = types.split("->")
        connection = self.call(
            "workflow.add_connection",
            workflow_id=workflow_id,
            from_node_id=start,
            from_interface_type=from_type,
            to_node_id=end,
            to_interface_type=to_type,
            **more,
        )
        return int(connection["connection_id"])

    def execute(self, workflow_id: int, **more: Any) -> int:
        return int(self.call("workflow.execute", workflow_id=workflow_id, **more)["execution_id"])

    def wait(self, execution_id: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return the execution at its end; fail if that does not come in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            execution: dict[str, Any] = self.call(
                "execution.wait", execution_id=execution_id, timeout_s=max(0.1, min(left, 25.0))
            )
            if execution["status"] not in ("PENDING", "RUNNING"):
                return execution
            if left <= 0:
                raise AssertionError(f"execution {execution_id} is still {execution['status']}:\n{self.stderr()}")

    def run(self, workflow_id: int, timeout_s: float = 60.0, **more: Any) -> dict[str, Any]:
        return self.wait(self.execute(workflow_id, **more), timeout_s)

    def result_items(self, execution_id: int) -> list[dict[str, Any]]:
        """Return every item of `execution.results`, page after page."""
        items: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.call("execution.results", execution_id=execution_id, limit=1000, after_id=after)
            items += page["items"]
            after = page["next_after_id"]
        return items

    def results(self, execution_id: int) -> dict[tuple[int, str], bytes]:
        """Return what came home: (connection id, relative path) -> content, read through the API."""
        found: dict[tuple[int, str], bytes] = {}
        for item in self.result_items(execution_id):
            path = f"/results/{execution_id}/{item['node_id']}/{item['connection_id']}/{item['path']}"
            status, content = self.get(path)
            assert status == 200, (status, content)
            assert content == Path(item["absolute_path"]).read_bytes()
            found[item["connection_id"], item["path"]] = content
        return found

    def eventually(self, question: str, expected: Sequence[tuple[Any, ...]], timeout_s: float = 30.0) -> None:
        """Wait until a query answers as expected."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.sql(question)
            if answer == list(expected):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{question} answers {answer}, not {list(expected)}\n{self.stderr()}")
            time.sleep(0.02)


@contextlib.contextmanager
def running_peer(data_dir: Path, *, config: str = "", env: Mapping[str, str] | None = None) -> Iterator[RunningPeer]:
    """Start a daemon on a data directory; end it, and all its jobs, at the end."""
    peer = RunningPeer(data_dir, config=config, env=env)
    try:
        peer.start()
        yield peer
    finally:
        peer.dispose()


def processes_below(data_dir: Path) -> list[int]:
    """Return the processes whose command line or working directory names the data directory."""
    found: list[int] = []
    wanted = str(data_dir)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace")
            if wanted in arguments or (entry / "cwd").readlink().is_relative_to(data_dir):
                found.append(int(entry.name))
    return found
