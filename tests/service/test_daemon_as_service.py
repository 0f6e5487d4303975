"""A real daemon under a service manager: ready, alive, told to end, told to read its configuration, given its sockets and keys."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import RunningPeer, running_peer
from tests.service.managed_peer import ManagedPeer, Manager

PATIENCE_S = 30.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@contextlib.contextmanager
def ended(peer: ManagedPeer) -> Iterator[ManagedPeer]:
    """End it whatever becomes of the test."""
    try:
        yield peer
    finally:
        peer.dispose()


@pytest.fixture
def peer(tmp_path: Path, manager: Manager) -> Iterator[ManagedPeer]:
    """A daemon that is ready."""
    with ended(ManagedPeer(tmp_path / "a peer", manager)) as peer:
        peer.start()
        yield peer


@contextlib.contextmanager
def upload(peer: RunningPeer, name: str, size_bytes: int) -> Iterator[socket.socket]:
    """Yield a connection on which an upload has begun and nothing of it has come yet."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(str(peer.socket_path))
        connection.sendall(f"PUT /upload/{name} HTTP/1.1\r\nHost: rnd\r\nContent-Length: {size_bytes}\r\n\r\n".encode())
        until = time.monotonic() + PATIENCE_S
        while not list((peer.data_dir / "uploads").glob(f"*{name}*")):
            assert time.monotonic() < until, "the upload does not begin"
            time.sleep(0.01)
        yield connection


def end_of(peer: ManagedPeer, timeout_s: float = PATIENCE_S) -> int:
    assert peer.process is not None
    return peer.process.wait(timeout_s)


def signalled(peer: ManagedPeer, number: signal.Signals) -> None:
    assert peer.process is not None
    peer.process.send_signal(number)


# ------------------------------------------------------------- the start


def test_it_is_ready_only_when_whoever_is_told_so_can_work_with_it(peer: ManagedPeer) -> None:
    assert peer.get("/readyz") == (200, b"ready\n")
    facts = peer.call("node.status")
    for address in (facts["api"]["url"].removeprefix("http://"), facts["peer_addresses"][0]):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    ready = peer.manager.lines.index("READY=1")
    assert "STATUS=opening the database" in peer.manager.lines[:ready]
    assert [line for line in peer.manager.lines[:ready] if line.startswith("EXTEND_TIMEOUT_USEC=")]


def test_one_that_cannot_listen_never_says_that_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, ended(ManagedPeer(tmp_path / "peer", manager)) as peer:
        peer.listen_at = f"127.0.0.1:{taken.getsockname()[1]}"
        peer.launch()
        assert end_of(peer) != 0
        while manager.listen(0.1):
            pass
        assert "READY=1" not in manager.lines


def test_a_damaged_database_has_a_code_of_its_own(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "peer").mkdir(mode=0o700)
    (tmp_path / "peer/rnd.db").write_bytes(b"no database" * 1000)
    with ended(ManagedPeer(tmp_path / "peer", manager)) as peer:
        peer.launch()
        assert end_of(peer) == 65


def test_it_gives_signs_of_life_and_says_in_words_how_it_is(tmp_path: Path, manager: Manager) -> None:
    with ended(ManagedPeer(tmp_path / "peer", manager, env={"WATCHDOG_USEC": "900000"})) as peer:
        peer.start()
        for _ in range(4):
            manager.hear("WATCHDOG=1", 5)
        manager.hear("STATUS=0 peers connected, 0 jobs running, 0 deliveries under way", 20)


# ------------------------------------------------------------- the end


def test_sigterm_waits_for_an_upload_and_says_so(peer: ManagedPeer) -> None:
    with upload(peer, "file", 4) as connection:
        signalled(peer, signal.SIGTERM)
        peer.manager.hear("STOPPING=1")
        status = peer.manager.hear(
            lambda line: line.startswith("STATUS=waiting for 0 deliveries and 1 upload or download, ")
        )
        name, _, microseconds = peer.manager.lines[peer.manager.lines.index(status) + 1].partition("=")
        assert (name, int(microseconds) > 60_000_000) == ("EXTEND_TIMEOUT_USEC", True)
        with pytest.raises(OSError, match="refused"):
            peer.get("/healthz")
        connection.sendall(b"data")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
    assert end_of(peer) == 0
    peer.await_log("Draining: deliveries=0, files=1, within_s=10.0")
    assert peer.await_log("Drained: ").endswith("deliveries=0, files=0")


def test_sigterm_waits_no_longer_than_it_may(tmp_path: Path, manager: Manager) -> None:
    with ended(ManagedPeer(tmp_path / "peer", manager, env={"RND_DRAIN_S": "1"})) as peer:
        peer.start()
        with upload(peer, "file", 4):
            signalled(peer, signal.SIGTERM)
            assert end_of(peer, 15) == 0
        assert peer.await_log("Drained: ").endswith("deliveries=0, files=1")


@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)])
def test_who_is_in_a_hurry_is_not_kept_waiting(
    tmp_path: Path, manager: Manager, numbers: tuple[signal.Signals, ...]
) -> None:
    with ended(ManagedPeer(tmp_path / "peer", manager, env={"RND_DRAIN_S": "600"})) as peer:
        peer.start()
        with upload(peer, "file", 4):
            signalled(peer, numbers[0])
            manager.hear("STOPPING=1")
            for number in numbers[1:]:
                signalled(peer, number)
            assert end_of(peer, 20) == 0


def test_sigterm_waits_for_a_delivery(tmp_path: Path, manager: Manager) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(400 << 20)
    with ended(ManagedPeer(tmp_path / "peer", manager, env={"RND_DRAIN_S": "120"})) as peer:
        peer.start()
        workflow = peer.workflow("w")
        node = peer.node(workflow, peer.data("big", big))
        peer.connect(workflow, node, None)
        peer.execute(workflow)
        peer.eventually("SELECT status FROM transfers", [("ACTIVE",)])
        signalled(peer, signal.SIGTERM)
        assert end_of(peer, 120) == 0
        peer.await_log("Draining: deliveries=1, files=0, within_s=120.0")
        assert peer.sql("SELECT status FROM transfers") == [("COMPLETED",)]


def test_a_program_runs_on_while_the_daemon_is_away(peer: ManagedPeer, tmp_path: Path) -> None:
    go = tmp_path / "go"
    service = peer.program("slow", f"echo $$ >>{tmp_path}/runs\nuntil test -e {go}; do sleep 0.02; done\necho done\n")
    workflow = peer.workflow("w")
    peer.connect(workflow, peer.node(workflow, service), None)
    execution = peer.execute(workflow)
    peer.eventually("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING' AND run_by IS NOT NULL", [(1,)])
    until = time.monotonic() + PATIENCE_S
    while not (tmp_path / "runs").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    signalled(peer, signal.SIGTERM)
    assert end_of(peer, 10) == 0  # it is not waited for
    os.kill(int((tmp_path / "runs").read_text()), 0)
    peer.start()
    go.touch()
    assert peer.wait(execution)["status"] == "COMPLETED"
    assert len((tmp_path / "runs").read_text().splitlines()) == 1


# ------------------------------------------------------------- SIGHUP


def reload(peer: ManagedPeer, config: str) -> None:
    """Have it read another configuration, and return when it says that it has."""
    (peer.data_dir / "rnd.toml").write_text(config)
    signalled(peer, signal.SIGHUP)
    peer.manager.hear("RELOADING=1")
    peer.manager.hear("READY=1")


def test_sighup_reads_the_configuration_and_says_what_waits_for_a_restart(peer: ManagedPeer) -> None:
    assert peer.get("/healthz", {"Host": "elsewhere"})[0] == 200  # the socket takes any
    url = peer.call("node.status")["api"]["url"].removeprefix("http://")
    assert status_of(url, "elsewhere.example") == 403
    began_us = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    reload(peer, 'log_level = "DEBUG"\nallowed_hosts = ["elsewhere.example"]\ntransfer_slots = 3\n')
    stamps = [line for line in peer.manager.lines if line.startswith("MONOTONIC_USEC=")]
    assert began_us <= int(stamps[-1].partition("=")[2]) <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    assert status_of(url, "elsewhere.example") == 200
    assert peer.await_log("Configuration reloaded: ").endswith('changed=["allowed_hosts", "log_level"]')
    assert peer.await_log("Configuration needs a restart: ").endswith('keys=["transfer_slots"]')
    (peer.data_dir.parent / "text").write_text("text")
    workflow = peer.workflow("w")
    peer.connect(workflow, peer.node(workflow, peer.data("text", peer.data_dir.parent / "text")), None)
    assert peer.run(workflow)["status"] == "COMPLETED"
    peer.await_log("[DEBUG] Sending chunk: ")
    reload(peer, 'log_level = "ERROR"\n')
    assert status_of(url, "elsewhere.example") == 403
    assert [line for line in peer.log_lines() if "changed=" in line][1:] == []  # no line below ERROR any more


def status_of(address: str, host: str) -> int:
    """Return how a request that names a host is answered."""
    name, _, port = address.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(1000).split()[1])


def test_sighup_with_a_mistake_leaves_what_was_in_force(peer: ManagedPeer) -> None:
    reload(peer, "log_levle = 'DEBUG'\n")
    assert "did you mean 'log_level'?" in peer.await_log("[ERROR] Configuration not reloaded: ")
    assert peer.get("/readyz")[0] == 200


def test_sighup_opens_and_closes_the_log_file(peer: ManagedPeer) -> None:
    reload(peer, "log_file = false\n")
    reload(peer, 'log_level = "DEBUG"\n')
    peer.await_log('Configuration reloaded: changed=["log_level", "log_file"]')
    assert [line for line in peer.log_lines() if "Configuration reloaded: " in line and '"log_level"' not in line] == []
    assert 'Configuration reloaded: changed=["log_file"]' in peer.stderr()


def test_sighup_drops_no_job(peer: ManagedPeer, tmp_path: Path) -> None:
    go = tmp_path / "go"
    service = peer.program("slow", f"echo >>{tmp_path}/runs\nuntil test -e {go}; do sleep 0.02; done\n")
    workflow = peer.workflow("w")
    peer.connect(workflow, peer.node(workflow, service), None)
    execution = peer.execute(workflow)
    peer.eventually("SELECT COUNT(*) FROM job_executions WHERE status = 'RUNNING' AND run_by IS NOT NULL", [(1,)])
    reload(peer, "job_slots = 1\n")
    go.touch()
    assert peer.wait(execution)["status"] == "COMPLETED"
    assert (tmp_path / "runs").read_text() == "\n"


# What a shell in a terminal does: the program's session has it as its controlling terminal.
IN_TERMINAL = "import os, sys; os.setsid(); os.open(sys.argv[1], os.O_RDWR); os.execvp(sys.argv[2], sys.argv[2:])"


def test_a_daemon_at_a_terminal_ends_with_it(tmp_path: Path, manager: Manager) -> None:
    terminal, far_end = os.openpty()
    with ended(ManagedPeer(tmp_path / "peer", manager)) as peer:
        peer.within = (sys.executable, "-c", IN_TERMINAL, os.ttyname(far_end))
        peer.start()
        signalled(peer, signal.SIGHUP)
        manager.hear("RELOADING=1")
        os.close(far_end)
        os.close(terminal)
        assert end_of(peer) == 0
        peer.await_log("Daemon stopping: reason=SIGHUP")


def test_a_daemon_with_nohup_outlives_its_terminal(tmp_path: Path, manager: Manager) -> None:
    terminal, far_end = os.openpty()
    with ended(ManagedPeer(tmp_path / "peer", manager)) as peer:
        peer.within = (sys.executable, "-c", IN_TERMINAL, os.ttyname(far_end), "nohup")
        peer.start()
        os.close(far_end)
        os.close(terminal)
        manager.hear("RELOADING=1")
        manager.hear("READY=1")
        assert peer.get("/readyz")[0] == 200


# ------------------------------------------------------------- what is handed over


def test_it_answers_at_the_sockets_that_it_is_given_and_whoever_comes_meanwhile_waits(
    tmp_path: Path, manager: Manager
) -> None:
    data_dir = tmp_path / "peer"
    data_dir.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(data_dir / "api.sock"))
        unix.listen()
        url = f"http://127.0.0.1:{tcp.getsockname()[1]}"
        with ended(ManagedPeer(data_dir, manager, sockets=(("api", unix), ("rnd.socket", tcp)))) as peer:
            peer.start()
            assert peer.call("node.status")["api"] == {"url": url, "socket": str(peer.socket_path)}
            assert status_of(url.removeprefix("http://"), url.removeprefix("http://")) == 200
            assert peer.stop() == 0
            assert peer.socket_path.is_socket()  # not its own to remove
            with socket.socket(socket.AF_UNIX) as early:
                early.settimeout(PATIENCE_S)
                early.connect(str(peer.socket_path))
                early.sendall(b"GET /healthz HTTP/1.1\r\nHost: rnd\r\n\r\n")
                peer.start()
                assert early.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        ("api", "0.0.0.0", "the API listens on the loopback only"),
        ("peer", "127.0.0.1", "the socket 'peer' that was handed over is none of rnd"),
    ],
)
def test_a_socket_that_the_api_would_not_open_itself_is_refused(
    tmp_path: Path, manager: Manager, name: str, address: str, words: str
) -> None:
    with (
        socket.create_server((address, 0)) as sock,
        ended(ManagedPeer(tmp_path / "peer", manager, sockets=((name, sock),))) as peer,
    ):
        peer.launch()
        assert end_of(peer) == 1
        assert words in peer.stderr()


def test_keys_that_the_manager_lays_out_are_taken_and_never_written_down(tmp_path: Path, manager: Manager) -> None:
    with running_peer(tmp_path / "earlier") as earlier:
        peer_id = earlier.call("node.status")["peer_id"]
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name in ("identity.key", "vault.key"):
        (folder / name).write_bytes((earlier.data_dir / name).read_bytes())
        (folder / name).chmod(0o440)  # as where access is given by a list
    with ended(ManagedPeer(tmp_path / "peer", manager, env={"CREDENTIALS_DIRECTORY": str(folder)})) as peer:
        peer.start()
        assert peer.call("node.status")["peer_id"] == peer_id
        assert list(peer.data_dir.glob("*.key")) == []


def test_two_identities_are_one_too_many(peer: ManagedPeer, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    with running_peer(tmp_path / "other") as other:
        (folder / "identity.key").write_bytes((other.data_dir / "identity.key").read_bytes())
    (folder / "identity.key").chmod(0o400)
    assert peer.stop() == 0
    peer.more["CREDENTIALS_DIRECTORY"] = str(folder)
    peer.launch()
    assert end_of(peer) == 1
    assert "are different keys: remove the file if the credential is the one" in peer.stderr()
