"""A real container engine for the tests: the one that runs, or a dockerd that is started for them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from rnd.services.executor import Container, JobRun, Mount
from tests.services.conformance import ExecutorHarness

SOCKET = os.environ.get("RND_TEST_ENGINE_SOCKET", "/var/run/docker.sock")
"""Another engine's, such as podman's, takes what test_docker_service.py and test_probes.py ask."""
START_TIMEOUT_S = 60.0
BUSYBOX = Path("/bin/busybox")
IMAGE = "rnd-test:latest"


def connect(path: str = SOCKET) -> APIClient:
    """Return the SDK's client of an engine that answers."""
    return APIClient(f"unix://{path}", version="auto", timeout=60)


def is_up(path: str = SOCKET) -> bool:
    """Say whether an engine answers; the SDK would leave a connection open where none does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(START_TIMEOUT_S)
        try:
            probe.connect(path)
            probe.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in probe.recv(1 << 12)
        except OSError:
            return False


def stop_accepting(listener: socket.socket, acceptor: threading.Thread) -> None:
    """Close a listening socket once the thread that waits at it has gone.

    One that is left waiting at a closed socket may be at the next one that gets the same number, and take its connections.
    """
    with contextlib.suppress(OSError):  # it is closed already
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    listener.close()


def unfit(reason: str) -> None:
    """Skip, or fail where tests of containers are demanded: by RND_TEST_DOCKER=1, and in continuous integration."""
    if os.environ.get("RND_TEST_DOCKER") == "1" or os.environ.get("CI"):
        pytest.fail(f"containers are to be tested, but {reason}")
    pytest.skip(reason)


@contextlib.contextmanager
def running_engine(log: Path, users: Path) -> Iterator[None]:
    """See to it that an engine runs meanwhile: what was started here is stopped here, once no other worker uses it.

    `users` is a file that every worker of the test run has locked as long as it needs the engine.
    """
    with users.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
            _await_engine()
        elif not is_up():
            with _started_engine(log):
                yield
                fcntl.flock(lock, fcntl.LOCK_EX)
            return
        yield


@contextlib.contextmanager
def _started_engine(log: Path) -> Iterator[None]:
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        unfit("no container engine runs here and none can be started (needs root and Debian's docker.io)")
    with log.open("wb") as output:
        dockerd = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not is_up():
            if dockerd.poll() is not None or time.monotonic() > until:
                unfit(f"dockerd does not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.1)
        yield
    finally:
        dockerd.terminate()
        dockerd.wait(START_TIMEOUT_S)


def _await_engine() -> None:
    """Return when an engine answers: of several workers the first one starts it."""
    until = time.monotonic() + START_TIMEOUT_S
    while not is_up():
        if time.monotonic() > until:
            unfit("no container engine runs here")
        time.sleep(0.1)


def import_image(client: APIClient, name: str = IMAGE, *changes: str) -> str:
    """Make an image of busybox alone and return its id."""
    busybox = shutil.which("busybox")
    if busybox is None:
        unfit("there is no busybox to make an image of (Debian: busybox-static)")
    assert busybox is not None
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w") as tar:
        for folder in ("bin", "etc", "usr", "var", "output", "run", "tmp"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add(busybox, arcname="bin/busybox")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        passwd = b"root:x:0:0:root:/:/bin/sh\n"
        member = tarfile.TarInfo("etc/passwd")
        member.size, member.mode = len(passwd), 0o644
        tar.addfile(member, io.BytesIO(passwd))
    repository, _, tag = name.rpartition(":")
    client.import_image_from_data(
        pack.getvalue(), repository=repository, tag=tag, changes=["WORKDIR /output", *changes]
    )
    return str(client.inspect_image(name)["Id"])


class DockerHarness(ExecutorHarness):
    """Runs of shell scripts in containers of the test image."""

    counts_leftovers = False
    many = 40
    image_id = ""

    @pytest.fixture(autouse=True)
    def _image(self, image_id: str) -> None:
        self.image_id = image_id

    def jobs_folder(self, data_dir: Path) -> Path:
        return data_dir / "workflows/rnA/1/jobs/rnB"

    def order(self, data_dir: Path, script: str, *arguments: str, number: int = 1, **fields: Any) -> JobRun:
        """Return a run of a script in a container; `container` overrides single fields of it."""
        terms = fields.pop("container", {})
        attempt = fields.get("attempt", 1)
        run = super().order(data_dir, script, *arguments, number=number, **fields)
        defaults: dict[str, Any] = {
            # Of this test alone: where somebody else has the name, the engine is asked once more than a test counts on.
            "name": f"job-{number}-{hashlib.sha256(bytes(data_dir)).hexdigest()[:8]}",
            "image": IMAGE,
            "image_id": self.image_id,
            "digest": "",
            "entrypoint": run.argv[:1],
            "cmd": run.argv[1:],
            "mounts": (Mount(source=run.directory / "output", target="/output", writable=True),),
            "labels": {"rnd.peer": "rnTEST", "rnd.job": str(number), "rnd.attempt": str(attempt)},
        }
        fields_of_run = {name: getattr(run, name) for name in JobRun.__dataclass_fields__}
        return JobRun(**(fields_of_run | {"argv": (), "container": Container(**(defaults | terms))}))
