"""A registry of our own on this machine (Debian's docker-registry), open or with a password."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from tests.docker.engine import unfit

USER = "lab"
PASSWORD = "c4n4ry-0f-the-registry"
START_TIMEOUT_S = 30.0


@contextlib.contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """Run a registry that wants a password; yield its address."""
    binary = shutil.which("docker-registry")
    if binary is None:
        unfit("there is no registry to pull from (Debian: docker-registry)")
    assert binary is not None
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    word = subprocess.run(
        ["perl", "-e", 'print crypt($ARGV[0], "\\$2y\\$05\\$abcdefghijklmnopqrstuu")', PASSWORD],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (folder / "passwords").write_text(f"{USER}:{word}\n")
    config = f"""
        version: 0.1
        log: {{level: error}}
        storage: {{filesystem: {{rootdirectory: {folder}/store}}, delete: {{enabled: true}}}}
        http: {{addr: "{address}"}}
        auth: {{htpasswd: {{realm: test, path: {folder}/passwords}}}}
    """
    (folder / "config.yml").write_text(textwrap.dedent(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > until:
                unfit(f"the registry does not start: {(folder / 'log').read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
