"""The units as they are installed: systemd finds nothing wrong with them, and they are as shut in as they promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rnd.cli.manual import manual_page
from rnd.cli.parser import _PARTS
from tests.cli.command import PROJECT, Rnd

UNITS = PROJECT / "rnd/systemd"
DROP_INS = sorted(path.name for path in (UNITS / "rnd.service.d").iterdir())


@pytest.fixture
def units(rnd: Rnd, root: Path) -> Path:
    """The folder of installed units, without drop-ins."""
    done = rnd("setup", "--root", root, "--no-start", "--docker")
    assert done.code == 0, done.err
    return root / "etc/systemd/system"


def analyze(units: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        check=False,
    )


def add(units: Path, drop_in: str) -> None:
    (units / "rnd.service.d").mkdir()
    shutil.copy(UNITS / "rnd.service.d" / drop_in, units / "rnd.service.d")


@pytest.mark.parametrize("drop_in", ["", *DROP_INS])
def test_systemd_finds_nothing_wrong_with_them(units: Path, drop_in: str) -> None:
    if drop_in:
        add(units, drop_in)
    names = ("rnd.service", "rnd.socket", "rnd@peer.service", "rnd-exec.service")
    done = analyze(units, "verify", "--man=no", *(units / name for name in names))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_nothing_wrong_with_the_one_of_a_person(rnd: Rnd, tmp_path: Path) -> None:
    assert rnd("setup", "--user").code == 0
    (tmp_path / "runtime").mkdir()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", rnd.home / ".config/systemd/user/rnd.service"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "runtime")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "drop_in", "tenths"),
    [
        ("rnd.service", "", 20),
        ("rnd.service", "docker.conf", 20),
        ("rnd.service", "credentials.conf", 20),
        ("rnd.service", "standalone.conf", 24),
        ("rnd@peer.service", "", 20),
        ("rnd-exec.service", "", 20),
    ],
)
def test_their_exposure_is_low(units: Path, name: str, drop_in: str, tenths: int) -> None:
    """In tenths of what `systemd-analyze security` says; it knows nothing of what a group such as docker may do."""
    if drop_in:
        add(units, drop_in)
    done = analyze(units, "security", "--offline=true", f"--threshold={tenths}", units / name)
    assert done.returncode == 0, done.stdout[-200:]
    assert analyze(units, "security", "--offline=true", "--threshold=5", units / name).returncode == 1  # it can bite


def test_one_of_several_peers_is_as_shut_in_as_the_only_one() -> None:
    assert _settings("rnd@.service") == {
        **_settings("rnd.service"),
        "ExecStart": [_settings("rnd.service")["ExecStart"][0] + "-%i"],
        "StateDirectory": ["rnd-%i"],
        "Environment": ["RND_NAME=%i"],
        "EnvironmentFile": ["-/etc/rnd/%i.env"],
    }


def _settings(name: str) -> dict[str, list[str]]:
    """Return what stands in the section of the service."""
    found: dict[str, list[str]] = {}
    section = (UNITS / name).read_text(encoding="utf-8").partition("[Service]")[2].partition("[Install]")[0]
    for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", section, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_every_drop_in_states_its_price() -> None:
    for name in DROP_INS:
        comment = re.match(r"(?:#.*\n)+", (UNITS / "rnd.service.d" / name).read_text(encoding="utf-8"))
        assert comment is not None, name
        assert "The price:" in comment[0], name


def test_the_manual_page_is_clean_and_has_every_command(tmp_path: Path) -> None:
    page = manual_page()
    (tmp_path / "rnd.1").write_text(page)
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", tmp_path / "rnd.1"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for name in (name for names in _PARTS.values() for name in names):
        assert f'.SS "rnd {name}' in page.replace("\\-", "-"), name
    assert "--no-start" in re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout)
