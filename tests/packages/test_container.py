"""The container: built of dist/wheels on a Debian of this test's, it runs a workflow, says that it is well, and keeps its data."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import SOCKET, running_engine
from tests.packages.conftest import DIST, PROJECT, built
from tests.packages.short_run import short_run

pytestmark = pytest.mark.timeout(900)

IMAGE = f"rnd-package-test-{os.getpid()}"
BASE = f"{IMAGE}-base"
WITHIN_S = 600.0
UP_WITHIN_S = 60.0


def docker(*arguments: str | Path, check: bool = True) -> str:
    """Run the engine's command and return what it prints."""
    # The builder that every engine has, whatever is installed beside it.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_HOST": f"unix://{SOCKET}"}
    done = subprocess.run(
        ["docker", *arguments], env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0 or not check, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def image(bookworm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image."""
    if shutil.which("docker") is None:
        pytest.skip("there is no command docker")
    built("wheels/rnd_daemon-*.whl")
    engine = tmp_path_factory.mktemp("engine")
    with running_engine(engine / "dockerd.txt", engine / "users"):
        docker("import", bookworm, BASE)
        try:
            file = PROJECT / "tools/packaging/Containerfile"
            docker("build", "--build-arg", f"BASE={BASE}", "--tag", IMAGE, "--file", file, DIST)
            yield IMAGE
        finally:
            docker("image", "rm", "--force", IMAGE, BASE, check=False)
            docker("image", "prune", "--force", "--filter", "label=rnd.stage=made", check=False)


@contextlib.contextmanager
def running(image: str, *options: str) -> Iterator[str]:
    """A container of it, with a volume of its own."""
    name = f"{image}-1"
    try:
        own = ("--init", "--network", "none", "--name", name, "--volume", f"{name}:/var/lib/rnd")
        docker("run", "--detach", *own, *options, image)
        yield name
    finally:
        docker("rm", "--force", name, check=False)
        docker("volume", "rm", name, check=False)


def until_up(container: str) -> dict[str, Any]:
    """Return what the peer says of itself, when it does."""
    ends = time.monotonic() + UP_WITHIN_S
    while docker("exec", container, "rnd", "status", "-q", check=False) == "":
        assert time.monotonic() < ends, docker("logs", container)
        time.sleep(0.2)
    status = docker("exec", container, "rnd", "rpc", "node.status")
    return dict(json.loads(status))


def test_a_container_runs_a_workflow_and_is_the_same_peer_after_a_restart(image: str) -> None:
    with running(image) as container:
        before = until_up(container)
        assert before["executors"]["standalone"]["available"], before
        assert "SOME WORDS\n" in docker("exec", container, "bash", "-c", short_run(), "bash", "/tmp/tour")
        assert docker("exec", container, "id", "-un") == "rnd\n"
        [healthcheck] = json.loads(docker("inspect", "--format", "[{{json .Config.Healthcheck.Test}}]", container))
        docker("exec", container, *healthcheck[1:])

        docker("stop", "--time", "30", container)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0\n"  # it has ended in order
        docker("start", container)
        assert until_up(container)["peer_id"] == before["peer_id"]
        assert "COMPLETED" in docker("exec", container, "rnd", "ps")


@pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 12), reason="docs/confinement.md: Linux 6.12"
)
def test_other_peers_programs_are_confined_once_the_engine_lets_them_be(image: str) -> None:
    opened = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")
    with running(image) as container:
        until_up(container)
        assert "Other peers' orders for programs are refused" in docker("exec", container, "rnd", "doctor")
    with running(image, *(f"--security-opt={option}" for option in opened)) as container:
        until_up(container)
        assert "confined by landlock" in docker("exec", container, "rnd", "status")
