"""Pages that have their reader do something do what they say: each command is run and what it prints compared."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.console_pages import PROJECT, check_steps, shell_in, steps_of, tool

DOCS = PROJECT / "docs"

pytestmark = pytest.mark.timeout(300)  # a page has some thirty commands, and waits for daemons in between


@pytest.mark.parametrize("page", ["tutorial.md", "how-to/encrypted-data.md", "how-to/stuck-job.md"])
def test_every_command_of_a_page_prints_what_is_shown(page: str, tmp_path: Path) -> None:
    steps = [step for step in steps_of(DOCS / page) if not step.machine]
    with shell_in(tmp_path) as shell:
        check_steps(steps, tmp_path, {"": shell})


def test_the_tutorial_goes_on_with_two_machines_of_which_one_cannot_be_dialled(tmp_path: Path) -> None:
    two_machines = tool("two_machines")
    steps = [step for step in steps_of(DOCS / "tutorial.md") if step.machine or step.file]
    with contextlib.ExitStack() as stack:
        try:
            office, home = stack.enter_context(two_machines.two_machines(tmp_path, behind_nat=True))
        except two_machines.CannotTry as reason:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(reason))
        shells = {
            name: stack.enter_context(shell_in(tmp_path, within=("ip", "netns", "exec", machine.namespace)))
            for name, machine in (("office", office), ("home", home))
        }
        check_steps(steps, tmp_path, shells)
