"""What a user installs is whole: the wheel has every module, the schema as a real file, and the command."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rnd

PROJECT = Path(__file__).resolve().parent.parent
LEFT_BEHIND = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "node_modules")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    top = tmp_path_factory.mktemp("a path with a space")
    shutil.copytree(PROJECT, top / "src", ignore=LEFT_BEHIND, symlinks=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(top)]
    subprocess.run([*pip, *options, str(top / "src")], check=True, timeout=100)
    (path,) = top.glob("rnd_daemon-*.whl")
    return zipfile.Path(path)


def test_the_schema_ships_as_a_real_file(wheel: zipfile.Path) -> None:
    assert (wheel / "rnd" / "schema.sql").read_text(encoding="utf-8") == (PROJECT / "schema.sql").read_text(
        encoding="utf-8"
    )


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.Path) -> None:
    shipped = {name for name in wheel.root.namelist() if name.startswith("rnd/")}
    kept = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "rnd").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert kept - shipped == set()
    assert [name for name in wheel.root.namelist() if name.startswith(("tests/", "tools/", "docs/"))] == []


def test_the_wheel_brings_the_command_and_its_version(wheel: zipfile.Path) -> None:
    (info,) = (path for path in wheel.iterdir() if path.name.endswith(".dist-info"))
    entry_points = configparser.ConfigParser()
    entry_points.read_string((info / "entry_points.txt").read_text(encoding="utf-8"))
    assert entry_points["console_scripts"]["rnd"] == "rnd.cli.main:main"
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert f"\nVersion: {rnd.__version__}\n" in metadata
    assert "\nName: rnd-daemon\n" in metadata
