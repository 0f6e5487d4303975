"""rsync and scp, beside which deliveries are measured: servers of our own on this machine, and what copies to them.

Each copier takes a source and a folder for it, and returns the seconds until what it wrote is flushed.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

Copier = Callable[[Path, Path], float]
By = Callable[[int], int]
"""Returns the port by way of which a port is reached."""


@contextlib.contextmanager
def running_copiers(kept: Path, root: Path, by: By) -> Iterator[dict[str, Copier]]:
    """Run the servers of those that are installed here; yield what copies to folders below `root`. Keys lie in `kept`."""
    copiers: dict[str, Copier] = {}
    with contextlib.ExitStack() as stack:
        if shutil.which("scp") and os.access(SSHD, os.X_OK):
            ssh = stack.enter_context(ssh_server(Path(tempfile.mkdtemp(prefix="ssh-", dir=kept)), by))
            copiers["scp"] = scp(ssh)
            if shutil.which("rsync"):
                copiers["rsync over ssh"] = rsync_ssh(ssh)
        if shutil.which("rsync"):
            copiers["rsync daemon"] = rsync_daemon(stack.enter_context(rsync_server(kept, root, by)), root)
        yield copiers


@contextlib.contextmanager
def ssh_server(folder: Path, by: By) -> Iterator[str]:
    """Run an sshd of our own on this machine; yield the `ssh` command that reaches it."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL)
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    try:
        reach, who = f"ssh -p {port} -i {folder}/user {options}", f"{getpass.getuser()}@127.0.0.1"
        for _ in range(100):
            if subprocess.run([*reach.split(), who, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.05)
        yield f"ssh -p {by(port)} -i {folder}/user {options}"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def rsync_server(kept: Path, folder: Path, by: By) -> Iterator[str]:
    """Run an rsync daemon of our own that takes files into `folder`; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = kept / f"rsyncd-{port}.conf"
    config.write_text(
        f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n[in]\npath = {folder}\nread only = no\n"
    )
    command = ["rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={port}", "--address=127.0.0.1"]
    server = subprocess.Popen(command)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            time.sleep(0.05)
        yield f"rsync://127.0.0.1:{by(port)}/in"
    finally:
        server.terminate()
        server.wait()


def timed(*commands: list[str]) -> float:
    """Return how long these commands take, one after the other."""
    begun = time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def scp(ssh: str) -> Copier:
    """Copy by scp, then flush."""
    _, *options = ssh.split()
    options[0] = "-P"
    return lambda source, target: timed(
        ["scp", "-q", "-r", *options, str(source), f"{getpass.getuser()}@127.0.0.1:{target}"],
        ["sync", "-f", str(target)],
    )


def rsync_ssh(ssh: str) -> Copier:
    """Copy by rsync over ssh, then flush."""
    return lambda source, target: timed(
        ["rsync", "-a", "-W", "-e", ssh, str(source), f"{getpass.getuser()}@127.0.0.1:{target}"],
        ["sync", "-f", str(target)],
    )


def rsync_daemon(url: str, root: Path) -> Copier:
    """Copy to an rsync daemon, in the clear, then flush."""
    return lambda source, target: timed(
        ["rsync", "-a", "-W", str(source), f"{url}/{target.relative_to(root)}"], ["sync", "-f", str(target)]
    )
