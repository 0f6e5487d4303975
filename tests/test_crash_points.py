"""Points at which a process can be made to die: nothing without its variables, and exactly there with them."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rnd.crash_points import AT, LABELS, name_of
from tests.running_peer import PROJECT

PASSES = """
import os
from rnd import crash_points

def work():
    pass

crash_points.arm(os.environ)
crash_points.reach("say", "ack")
crash_points.reach("say", "ack")
crash_points.reach_message("said", '{"type": "ack"}')
crash_points.reach_commit("commit", lambda: [work, print])
print("alive")
"""


def come_by(**variables: str) -> subprocess.CompletedProcess[str]:
    """Have a process come by some points."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RND_")}
    return subprocess.run(
        [sys.executable, "-c", PASSES],
        cwd=PROJECT,
        env={**plain, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("at", "survives"),
    [
        ("say ack:1", False),
        ("say ack:2", False),
        ("say ack:3", True),
        ("said ack:1", False),
        ("commit work:1", False),
        ("commit print:1", False),
        ("committed work:1", True),
    ],
)
def test_a_process_dies_where_it_is_told_to_and_nowhere_else(at: str, survives: bool) -> None:
    done = come_by(**{AT: at})
    assert (done.returncode, done.stdout) == ((0, "alive\n") if survives else (-signal.SIGKILL, ""))


def test_each_label_is_written_down_once_in_order(tmp_path: Path) -> None:
    done = come_by(**{LABELS: str(tmp_path / "labels")})
    assert done.stdout == "alive\n"
    assert (tmp_path / "labels").read_text() == "say ack\nsaid ack\ncommit work\ncommit print\n"


def test_without_its_variables_a_point_is_nothing() -> None:
    assert come_by().stdout == "alive\n"


@pytest.mark.parametrize("at", ["", "say ack", ":1", "say ack:", "say ack:x"])
def test_what_is_no_label_and_number_is_refused(at: str) -> None:
    done = come_by(**{AT: at})
    assert done.returncode == 1
    assert f"ValueError: {AT} is to be LABEL:N" in done.stderr


class Manager:
    """Commits what it is asked to, as those of the product do."""

    def commits(self) -> list[object]:
        def work() -> None: ...

        return [work, lambda: work, functools.partial(print, functools.partial(work))]


def test_work_is_named_after_the_function_that_has_it_done() -> None:
    assert [name_of(work) for work in Manager().commits()] == ["Manager.commits"] * 3
    assert name_of(functools.partial(print, "no work of ours")) == "print"
