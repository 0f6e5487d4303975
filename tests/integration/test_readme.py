"""The README's tour does what it says: every command of its console block is run and its output compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console_pages import PROJECT, check_steps, shell_in, steps_of
from tests.running_peer import RunningPeer


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[RunningPeer]:
    running = RunningPeer(tmp_path / "peer")
    running.start()
    yield running
    running.dispose()


def test_the_tour_of_the_readme_shows_what_happens(peer: RunningPeer, tmp_path: Path) -> None:
    shutil.copy(PROJECT / "docs/examples/word-count.json", tmp_path)
    shutil.copytree(PROJECT / "docs/examples/word-count", tmp_path / "word-count")
    steps = [step for step in steps_of(PROJECT / "README.md") if not step.machine]
    assert len(steps) > 5
    with shell_in(tmp_path, {"RND_DATA_DIR": str(peer.data_dir)}) as shell:
        check_steps(steps, tmp_path, {"": shell})
