"""Records of native runs that a job has written itself: what is read of them can be stored, and asks the system for nothing odd."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rnd.services import container_record, run_files
from rnd.services.executor import Phase
from rnd.services.run_end import moment, observation

RUN = "job-7"
STARTED = {
    "engine_name": RUN,
    "keeper_pid": 4_000,
    "keeper_start": 12_345,
    "boot_id": "b",
    "started_at": "2026-01-31T12:00:00.000Z",
    "secrets_directory": "",
}


def write(folder: Path, kind: str, text: str) -> str:
    (folder / f"{RUN}.{kind}").write_text(text)
    return os.fspath(folder)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = run_files.read(write(tmp_path, run_files.RECORD, json.dumps(STARTED) + "\n"), RUN)
    assert record is not None
    assert record.started._asdict() == STARTED


@pytest.mark.parametrize(
    "changes",
    [
        {"keeper_pid": float("inf")},
        {"keeper_pid": 1 << 70},
        {"keeper_pid": -1},
        {"keeper_pid": True},
        {"keeper_pid": "4000"},
        {"keeper_start": 1 << 70},
        {"keeper_start": None},
        {"boot_id": []},
        {"secrets_directory": {}},
    ],
)
def test_a_record_whose_keeper_cannot_be_is_none(tmp_path: Path, changes: dict[str, object]) -> None:
    assert run_files.read(write(tmp_path, run_files.RECORD, json.dumps(STARTED | changes) + "\n"), RUN) is None


@pytest.mark.parametrize("text", ["[" * 60_000 + "\n", '{"a":' * 10_000 + "\n", "\n\n\n"])
def test_a_record_without_end_is_none(tmp_path: Path, text: str) -> None:
    assert run_files.read(write(tmp_path, run_files.RECORD, text), RUN) is None


@pytest.mark.parametrize(
    ("said", "grace_s"),
    [
        ("3.5", 3.5),
        ("0", 0),
        ("Infinity", 0),
        ("NaN", 0),
        ("-1", 0),
        ("1e300", 0),
        ("9" * 400, 0),
        ("true", 1),
        ('"5"', 0),
    ],
)
def test_a_cancel_asks_for_a_grace_that_can_be_waited_for(tmp_path: Path, said: str, grace_s: float) -> None:
    folder = write(tmp_path, run_files.CANCEL, f'{{"grace_s": {said}}}')
    assert run_files.cancel_grace_s(folder, RUN) == grace_s


@pytest.mark.parametrize("kind", [run_files.RECORD, run_files.CANCEL, run_files.FAULT, container_record.RECORD])
@pytest.mark.parametrize(
    "make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["folder", "pipe", "link"]
)
def test_what_is_no_file_is_nothing_and_holds_nobody_up(tmp_path: Path, kind: str, make: object) -> None:
    make(tmp_path / f"{RUN}.{kind}")  # type: ignore[operator]  # a table of makers of several types
    folder = os.fspath(tmp_path)
    assert run_files.read(folder, RUN) is None
    assert container_record.read(folder, RUN) is None
    assert run_files.cancel_grace_s(folder, RUN) is None
    assert run_files.read_fault(folder, RUN) == ""


@pytest.mark.parametrize("step", ['{"cancel": ' + "9" * 400 + "}", "[" * 100_000, '{"ended": 3}', "3"])
def test_a_containers_record_that_makes_no_sense_is_none(tmp_path: Path, step: str) -> None:
    begun = container_record.Begun(RUN, "true", [], True, 1, 2, None, 0, "")
    container_record.begin(os.fspath(tmp_path), begun)
    with (tmp_path / f"{RUN}.{container_record.RECORD}").open("a") as file:
        file.write(f"{step}\n")
    assert container_record.read(os.fspath(tmp_path), RUN) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"exit_code": 1 << 70},
        {"exit_code": -1},
        {"exit_code": True},
        {"exit_code": "0"},
        {"exit_code": None, "signal": 9.0},
        {"exit_code": 0, "signal": "a"},
        {"leftovers_killed": float("inf")},
        {"streams_cut": 3},
        {"streams_cut": ["NONE"]},
        {"phase": "RUNNING"},
        {"phase": ["EXITED"]},
    ],
)
def test_an_end_that_cannot_be_is_lost(changes: dict[str, object]) -> None:
    assert observation({"phase": "EXITED", "exit_code": 0} | changes).phase is Phase.LOST


def test_the_words_of_an_end_can_be_stored_and_shown() -> None:
    seen = observation({"phase": "LOST", "reason": "a\0b\ud800c\u202ed\ne" + "x" * 10_000})
    assert seen.reason.startswith("a?b?c?d\ne")
    assert len(seen.reason) <= 4_000


@pytest.mark.parametrize("text", [None, "", 3, "never", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_that_is_none_is_none(text: object) -> None:
    assert moment(text) is None
