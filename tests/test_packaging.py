"""What a user installs is whole: the source distribution makes a wheel with every module, the schema as a real file, and the command."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import rnd

PROJECT = Path(__file__).resolve().parent.parent
LEFT_BEHIND = shutil.ignore_patterns(
    ".[!c]*", ".coverage*", "build", "dist", "*.egg-info", "__pycache__", "node_modules"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    top = tmp_path_factory.mktemp("a path with a space")
    shutil.copytree(PROJECT, top / "src", ignore=LEFT_BEHIND, symlinks=True)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, top], cwd=top / "src", check=True, timeout=100, capture_output=True)
    (path,) = top.glob("rnd?daemon-*.tar.gz")  # setuptools has written either
    return path


@pytest.fixture(scope="module")
def wheel(source: Path) -> zipfile.Path:
    """The wheel that it makes."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(source.parent)]
    subprocess.run([*pip, *options, str(source)], check=True, timeout=100)
    (path,) = source.parent.glob("rnd_daemon-*.whl")
    return zipfile.Path(path)


def test_the_source_distribution_is_the_whole_project(source: Path) -> None:
    with tarfile.open(source) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}
        assert [member.name for member in archive.getmembers() if not (member.isdir() or member.isfile())] == []
    kept = {
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "schema.sql",
        "setup.cfg",
        "pyproject.toml",
        "MANIFEST.in",
        ".ci/run",
    }
    for folder in ("docs", "rnd", "systemd", "tests", "tools"):
        found = (path for path in (PROJECT / folder).resolve().rglob("*") if path.is_file())
        kept |= {
            str(Path(folder) / path.relative_to((PROJECT / folder).resolve()))
            for path in found
            if not {"__pycache__", "node_modules"} & set(path.parts)
        }
    assert kept - files == set()
    assert [name for name in files if "node_modules" in name or name.endswith(".pyc")] == []


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
