"""The README's tour does what it says: every command of its console block is run and its output compared."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import RunningPeer

PROJECT = Path(__file__).resolve().parent.parent.parent

# What may differ from run to run, and the word that stands for it on both sides.
MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"\b\d+\.\d+s\b", "SECONDS"),
    (r"\|\d+\.\d+\|", "|SECONDS|"),
    (r"\bnow\b|\b\d+s ago\b", "WHEN"),
    (r" +", " "),
)


def masked(output: str) -> list[str]:
    for pattern, word in MASKS:
        output = re.sub(pattern, word, output)
    return [line.strip() for line in output.splitlines()]


def console_steps() -> list[tuple[str, str]]:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    steps = [step.partition("\n") for block in blocks for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in steps]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[RunningPeer]:
    running = RunningPeer(tmp_path / "peer")
    running.start()
    yield running
    running.dispose()


def test_the_tour_of_the_readme_shows_what_happens(peer: RunningPeer, tmp_path: Path) -> None:
    shutil.copy(PROJECT / "docs/examples/word-count.json", tmp_path)
    shutil.copytree(PROJECT / "docs/examples/word-count", tmp_path / "word-count")
    command = tmp_path / "bin" / "rnd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(PROJECT))} exec {sys.executable} -m rnd "$@"\n')
    command.chmod(0o755)
    own = {"PATH": f"{command.parent}:{os.environ['PATH']}", "RND_DATA_DIR": str(peer.data_dir), "LC_ALL": "C.UTF-8"}
    steps = console_steps()
    assert len(steps) > 5
    for line, output in steps:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert masked(done.stdout) == masked(output), f"$ {line}\n{done.stderr}"
