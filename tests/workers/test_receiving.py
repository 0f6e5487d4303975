"""Received files: verified, durable and there by one rename, or not there at all."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rnd.protocol.instructions import Discard, EndFile, LayOut, StagingInstruction, Write
from rnd.types.errors import CalledOff, TransferFailed
from rnd.workers.receiving import Receiving
from tests.protocol.parcels import file_entry, folder_entry
from tests.workers.carrying import manifest_of

BIG = os.urandom(100_000)
ENTRIES = (
    file_entry("a", BIG),
    file_entry("b/empty", b""),
    file_entry("b/run", b"#!/bin/sh\n", executable=True),
    folder_entry("void/"),
)


def write(index: int, data: bytes, *, offset: int = 0) -> Write:
    return Write(index=index, offset=offset, data=memoryview(data))


WHOLE: tuple[StagingInstruction, ...] = (
    LayOut(entries=ENTRIES),
    write(0, BIG[:70_000]),
    write(0, BIG[70_000:], offset=70_000),
    EndFile(index=0),
    EndFile(index=1),
    write(2, b"#!/bin/sh\n"),
    EndFile(index=2),
)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "data" / "input" / "7"


def test_content_exec_bits_and_empty_folders_arrive(destination: Path) -> None:
    moved: list[int] = []
    receiving = Receiving(destination, progress=moved.append)
    for instruction in WHOLE:
        receiving.carry_out([instruction])
        assert not destination.exists()
    assert receiving.finish() == ENTRIES
    assert manifest_of(destination) == list(ENTRIES)
    assert os.listdir(destination.parent) == ["7"]
    assert sum(moved) == 100_010


def test_nothing_at_all_is_an_empty_folder(destination: Path) -> None:
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=())])
    assert receiving.finish() == ()
    assert list(destination.iterdir()) == []


def test_what_an_earlier_run_left_is_replaced(destination: Path) -> None:
    (destination / "old").mkdir(parents=True)
    part = destination.parent / ".7.part"
    part.mkdir()
    (part / "a").symlink_to("/etc/passwd")
    receiving = Receiving(destination)
    receiving.carry_out(WHOLE)
    receiving.finish()
    assert manifest_of(destination) == list(ENTRIES)
    assert os.listdir(destination.parent) == ["7"]


@pytest.mark.parametrize(
    ("instructions", "words"),
    [
        ([write(0, BIG[:-1]), EndFile(index=0)], "the file a arrived with 99,999 bytes; 100,000 were promised"),
        ([write(0, BIG + b"!"), EndFile(index=0)], "the file a arrived with 100,001 bytes"),
        (
            [write(0, bytes([BIG[0] ^ 1]) + BIG[1:]), EndFile(index=0)],
            "the file a did not arrive as promised: its SHA-256 is another",
        ),
        ([write(1, b"!"), EndFile(index=1)], "the file b/empty arrived with 1 bytes; 0 were promised"),
        ([EndFile(index=0)], "the file a arrived with 0 bytes"),
    ],
)
def test_what_is_not_as_promised_leaves_nothing(
    destination: Path, instructions: list[StagingInstruction], words: str
) -> None:
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=ENTRIES)])
    with pytest.raises(TransferFailed, match=words):
        receiving.carry_out(instructions)
    assert os.listdir(destination.parent) == []
    with pytest.raises(ValueError, match="nothing is laid out"):
        receiving.finish()


@pytest.mark.parametrize("done", range(1, len(WHOLE)))
def test_what_is_not_whole_cannot_be_finished(destination: Path, done: int) -> None:
    receiving = Receiving(destination)
    receiving.carry_out(WHOLE[:done])
    with pytest.raises(TransferFailed, match="have not arrived"):
        receiving.finish()
    assert os.listdir(destination.parent) == []


@pytest.mark.parametrize(
    "instructions",
    [
        [write(0, b"x", offset=1)],
        [write(0, b"x"), write(0, b"x", offset=2)],
        [write(0, b"x"), write(2, b"x")],
        [LayOut(entries=ENTRIES), write(0, b"x"), EndFile(index=2)],
    ],
)
def test_bytes_out_of_order_are_a_mistake_of_ours_and_leave_nothing(
    destination: Path, instructions: list[StagingInstruction]
) -> None:
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=ENTRIES)])
    with pytest.raises(ValueError, match="was"):
        receiving.carry_out(instructions)
    assert os.listdir(destination.parent) == []


def test_nothing_is_written_before_there_is_a_manifest(destination: Path) -> None:
    with pytest.raises(ValueError, match="nothing is laid out"):
        Receiving(destination).carry_out([write(0, b"x")])


@pytest.mark.parametrize("done", range(len(WHOLE) + 1))
def test_what_is_discarded_leaves_nothing_and_may_come_again(destination: Path, done: int) -> None:
    receiving = Receiving(destination)
    receiving.carry_out([*WHOLE[:done], Discard(reason="called off")])
    assert not destination.parent.exists() or os.listdir(destination.parent) == []
    receiving.discard()
    receiving.carry_out(WHOLE)
    receiving.finish()
    assert manifest_of(destination) == list(ENTRIES)


@pytest.mark.parametrize("asked", range(6))
def test_receiving_is_called_off(destination: Path, asked: int) -> None:
    answers = iter([False] * asked + [True])
    receiving = Receiving(destination, cancelled=lambda: next(answers))
    with pytest.raises(CalledOff):
        receiving.carry_out(WHOLE)
        receiving.finish()
    assert os.listdir(destination.parent) == []


def test_a_name_that_the_disk_holds_already_is_not_written_through(destination: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=ENTRIES)])
    (destination.parent / ".7.part" / "a").symlink_to(secret)
    with pytest.raises(TransferFailed, match="7 could not be written: File exists"):
        receiving.carry_out([write(0, b"x")])
    assert secret.read_bytes() == b"mine"
    assert os.listdir(destination.parent) == []


def test_a_folder_that_may_not_be_durable_does_not_stay(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    receiving = Receiving(destination)
    receiving.carry_out(WHOLE)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TransferFailed, match="7 could not be written: Input/output error"):
        receiving.finish()
    assert os.listdir(destination.parent) == []


def test_all_is_flushed_in_its_place_before_it_is_called_finished(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    flush = os.fsync

    def watch(fd: int) -> None:
        flush(fd)
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink())

    monkeypatch.setattr(os, "fsync", watch)
    receiving = Receiving(destination)
    receiving.carry_out(WHOLE)
    assert flushed == []
    receiving.finish()
    below = [destination / name for name in ("a", "b", "b/empty", "b/run", "void")]
    above = [destination, *destination.parents[:3]]
    assert sorted(flushed) == sorted([*below, *above])


FILL_A_SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from rnd.types.errors import TransferFailed
from tests.protocol.parcels import file_entry
from tests.workers.test_receiving import EndFile, LayOut, Receiving, write
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
content = os.urandom(3 << 20)
receiving = Receiving(disk / "d")
try:
    receiving.carry_out([LayOut(entries=(file_entry("f", content),)), write(0, content), EndFile(index=0)])
except TransferFailed as error:
    assert "d could not be written: No space left on device" in str(error), error
    assert "Free some space" in error.hint
else:
    sys.exit("a full disk was not noticed")
assert list(disk.iterdir()) == []
"""


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    subprocess.run(
        ["unshare", "--mount", "--map-root-user", sys.executable, "-c", FILL_A_SMALL_DISK, str(tmp_path)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_a_promise_reserves_little_room(destination: Path) -> None:
    promised = file_entry("huge", BIG)
    promised = replace(promised, size_bytes=8 << 30)
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=(promised,)), write(0, b"x")])
    (path,) = destination.parent.glob(".7.part/huge")
    facts = path.stat()
    assert facts.st_size == 1
    assert facts.st_blocks * 512 <= 65 << 20
    receiving.discard()


def test_what_stands_still_gives_back_the_room_that_was_reserved_for_it(destination: Path) -> None:
    promised = replace(file_entry("huge", BIG), size_bytes=8 << 30)
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=(promised,)), write(0, b"x")])
    (path,) = destination.parent.glob(".7.part/huge")
    reserved = path.stat().st_blocks
    receiving.give_back_room()
    assert path.stat().st_blocks * 512 <= 1 << 16 < reserved * 512
    receiving.carry_out([write(0, b"yz", offset=1)])
    assert path.read_bytes() == b"xyz"
    assert path.stat().st_blocks >= reserved
    receiving.discard()


def test_what_nobody_can_go_on_with_is_deleted_when_it_is_let_go(destination: Path) -> None:
    receiving = Receiving(destination)
    receiving.carry_out(WHOLE[:2])
    receiving.let_go()
    assert os.listdir(destination.parent) == []
