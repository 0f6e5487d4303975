"""A daemon dies at a labelled point, a commit, a message, a rename or the start of a program, and starts again: nothing is lost.

Every other label once, by one of the daemons that come to it; `RND_TEST_CRASH_ROLES=all` has every daemon die at every label that
it comes to, and `RND_TEST_CRASH_NUMBERS=1:3` says at which of the times it comes by.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.figures import note_figures
from tests.kills.crash_sites import ROLES, CrashSite, crash_site

SHARES = 6
"""The cases are shared out, so that several workers can have them, each with daemons of its own."""
NUMBERS = range(*map(int, os.environ.get("RND_TEST_CRASH_NUMBERS", "1:2").split(":")))
EVERY_ROLE = os.environ.get("RND_TEST_CRASH_ROLES", "") == "all"
FLOWS = ("run", "cancel")
TRIES = 2
"""Some points are come to only where two things happen in one order and not the other."""
COME_TO = 0.75
"""So much of the cases at least has to die where it should."""


@dataclass(frozen=True, slots=True)
class Case:
    """Who dies where in which flow."""

    flow: str
    role: str
    label: str


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashSite]:
    with crash_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def cases(crashing: CrashSite, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Every label with each daemon that comes to it, in the first flow in which it does."""
    folder = tmp_path_factory.mktemp("labels")
    found: dict[tuple[str, str], Case] = {}
    for flow in FLOWS:
        for role in ROLES:
            for label in crashing.labels(flow, role, folder / f"{flow}-{role}"):
                found.setdefault((role, label), Case(flow, role, label))
    return sorted(found.values(), key=lambda case: (case.label, case.role))


def chosen(cases: list[Case]) -> list[Case]:
    """Return all cases, or one for every other label, of another role each time."""
    if EVERY_ROLE:
        return cases
    by_label: dict[str, list[Case]] = {}
    for case in cases:
        by_label.setdefault(case.label, []).append(case)
    return [those[at % len(those)] for at, those in enumerate(list(by_label.values())[::2])]


@pytest.mark.timeout(3600 if EVERY_ROLE else 600)
@pytest.mark.parametrize("share", range(SHARES))
def test_whoever_dies_at_a_label_loses_nothing(crashing: CrashSite, cases: list[Case], share: int) -> None:
    mine = [(case, number) for case in chosen(cases) for number in NUMBERS][share::SHARES]
    wrong: list[str] = []
    passed_by: list[str] = []
    for case, number in mine:
        name = f"{case.role} at '{case.label}:{number}' in {case.flow}"
        try:
            if not any(crashing.die_at(case.flow, case.role, case.label, number) for _ in range(TRIES)):
                passed_by.append(name)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
            crashing.site.restore()
    what = f"crash labels, share {share + 1} of {SHARES}"
    note_figures("labels", what=what, cases=len(mine), passed_by=len(passed_by), wrong=len(wrong))
    assert not wrong, "\n".join(wrong)
    if len(NUMBERS) == 1:  # not every point is come to more often
        assert len(passed_by) <= (1 - COME_TO) * len(mine), passed_by
