"""Zeros that arrive take up no room on the disk, wherever they are, and are there all the same."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from rnd.protocol.instructions import EndFile, LayOut, StagingInstruction, Write
from rnd.workers import part_file
from rnd.workers import receiving as receiving_module
from rnd.workers.part_file import HOLE_FROM_BYTES
from rnd.workers.receiving import Receiving
from tests.protocol.parcels import file_entry
from tests.workers.carrying import manifest_of
from tests.workers.test_taking_up import DONE, FRAME_BYTES, go_on, stopped

PIECE_BYTES = 1 << 20
ZEROS = bytes(PIECE_BYTES)
SLACK_BYTES = 64 << 10


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "data" / "7"


def received(destination: Path, pieces: list[bytes]) -> Path:
    """Receive one file in these pieces; return where it is."""
    entry = file_entry("f", b"".join(pieces))
    steps: list[StagingInstruction] = [LayOut(entries=(entry,))]
    offset = 0
    for piece in pieces:
        steps.append(Write(index=0, offset=offset, data=memoryview(piece)))
        offset += len(piece)
    receiving = Receiving(destination)
    receiving.carry_out([*steps, EndFile(index=0)])
    receiving.finish()
    assert manifest_of(destination) == [entry]
    return destination / "f"


@pytest.mark.parametrize("form", ["0", "000", "x0", "0x", "x0x", "x00000x0", "0x0x0x0", "xxx0", "s0x", "x0s"])
def test_zeros_take_up_no_room(destination: Path, form: str) -> None:
    """`x`: bytes; `0`: zeros; `s`: bytes that end within a block of the disk."""
    kinds = {"x": os.urandom(PIECE_BYTES), "0": ZEROS, "s": os.urandom(100_001)}
    pieces = [kinds[letter] for letter in form]
    data_bytes = sum(len(piece) for piece in pieces if piece is not ZEROS)
    path = received(destination, pieces)
    assert path.stat().st_blocks * 512 <= data_bytes + SLACK_BYTES
    assert path.read_bytes() == b"".join(pieces)


def test_room_that_was_reserved_is_given_back_where_zeros_come(destination: Path) -> None:
    receiving = Receiving(destination)
    entry = file_entry("f", b"x" + bytes(100 << 20))
    first, zeros = memoryview(b"x"), memoryview(ZEROS)
    receiving.carry_out([LayOut(entries=(entry,)), Write(index=0, offset=0, data=first)])
    (path,) = destination.parent.glob(".7.part/f")
    assert path.stat().st_blocks * 512 >= 64 << 20
    receiving.carry_out([Write(index=0, offset=1, data=zeros)])
    facts = path.stat()
    assert (facts.st_size, facts.st_blocks * 512 <= SLACK_BYTES) == (1 + PIECE_BYTES, True)
    receiving.carry_out([Write(index=0, offset=1 + PIECE_BYTES, data=first)])
    assert path.stat().st_blocks * 512 >= 64 << 20, "room is reserved again for the bytes after them"
    receiving.discard()


@pytest.mark.parametrize("piece", [bytes(HOLE_FROM_BYTES - 1), ZEROS[1:] + b"x", b"x" + ZEROS[1:]])
def test_what_is_not_all_zeros_or_is_short_is_written(destination: Path, piece: bytes) -> None:
    path = received(destination, [piece])
    assert path.stat().st_blocks * 512 >= len(piece)


@pytest.mark.parametrize("noted_at", range(1, 12))
def test_what_was_cut_among_zeros_goes_on_there(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, noted_at: int
) -> None:
    monkeypatch.setattr(receiving_module, "NOTED_FROM_BYTES", 1)
    monkeypatch.setattr(part_file, "HOLE_FROM_BYTES", 1)
    root = tmp_path / "root"
    root.mkdir()
    content = bytearray(11 * FRAME_BYTES)
    for _ in range(2):
        place = random.Random(noted_at).randrange(10 * FRAME_BYTES)
        content[place : place + 1000] = os.urandom(1000)
    (root / "f").write_bytes(content)
    noted = stopped(root, destination, noted_at=noted_at, stopped_at=noted_at)
    kept, journey = go_on(root, destination)
    assert noted is not None
    assert kept is not None
    assert kept.offset == noted.offset
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)
