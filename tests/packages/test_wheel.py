"""The wheel as people install it: by pip into an environment of its own, by pipx, by uv; and what the source distribution makes."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import rnd
from tests.packages.conftest import built

pytestmark = pytest.mark.timeout(600)

WITHIN_S = 300.0


def do(*command: str | Path, **variables: str | Path) -> str:
    """Run a command with nothing of this project in reach, and return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RND_", "PYTHON", "VIRTUAL_ENV"))}
    own: Mapping[str, str] = {name: str(value) for name, value in variables.items()}
    done = subprocess.run(
        command, cwd="/", env={**kept, **own}, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pip, pipx and uv."""
    place = tmp_path_factory.mktemp("installers") / "environment"
    do(sys.executable, "-m", "venv", place)
    do(place / "bin/pip", "install", "--quiet", "pipx", "uv")
    return place / "bin"


def by_pip(_: Path, wheel: Path, place: Path) -> Path:
    do(sys.executable, "-m", "venv", place / "environment")
    do(place / "environment/bin/pip", "install", "--quiet", wheel)
    do(place / "environment/bin/pip", "check")
    return place / "environment/bin/rnd"


def by_pipx(installers: Path, wheel: Path, place: Path) -> Path:
    own = {"PIPX_HOME": place / "pipx", "PIPX_BIN_DIR": place / "bin", "PIPX_MAN_DIR": place / "man"}
    do(installers / "pipx", "install", wheel, **own)
    return place / "bin/rnd"


def by_uv(installers: Path, wheel: Path, place: Path) -> Path:
    own = {"UV_TOOL_DIR": place / "uv", "UV_TOOL_BIN_DIR": place / "bin", "UV_CACHE_DIR": place / "cache"}
    do(installers / "uv", "tool", "install", "--python", sys.executable, wheel, **own)
    return place / "bin/rnd"


@pytest.mark.parametrize("install", [by_pip, by_pipx, by_uv], ids=["pip", "pipx", "uv"])
def test_what_is_installed_runs_a_workflow_of_two_peers(
    install: Callable[[Path, Path, Path], Path], installers: Path, tmp_path: Path
) -> None:
    command = install(installers, built("rnd_daemon-*.whl"), tmp_path)
    assert do(command, "--version") == f"rnd {rnd.__version__}\n"
    shown = do(command, "demo", HOME=tmp_path, TMPDIR=tmp_path)
    assert "execution 1 COMPLETED" in shown
    assert "rnd --data-dir " in shown


def test_the_wheel_has_what_runs_and_the_source_distribution_all_the_rest() -> None:
    with zipfile.ZipFile(built("rnd_daemon-*.whl")) as wheel:
        names = set(wheel.namelist())
        assert {"rnd/schema.sql", "rnd/py.typed", "rnd/web/static/main.js", "rnd/systemd/rnd.service"} <= names
        assert {name.split("/")[0] for name in names} == {"rnd", f"rnd_daemon-{rnd.__version__}.dist-info"}
    with tarfile.open(built("rnd_daemon-*.tar.gz")) as source:
        paths = {name.partition("/")[2] for name in source.getnames()}
    assert {
        "rnd/schema.sql",
        "tests/test_packaging.py",
        "docs/service.md",
        "tools/package",
        "tools/ui/build.mjs",
    } <= paths
    assert not [path for path in paths if "node_modules" in path or "__pycache__" in path]
