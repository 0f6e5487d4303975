"""What is noted as durable is what was flushed, and nothing is after a flush that failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rnd.types.errors import TransferFailed
from rnd.workers import checkpoints
from rnd.workers import receiving as receiving_module
from rnd.workers.receiving import Receiving
from rnd.workers.sending import Sending
from tests.workers.carrying import Journey, OpenedSource, manifest_of, under_own_names

FRAME_BYTES = 20_000


@pytest.fixture(autouse=True)
def _all_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving_module, "NOTED_FROM_BYTES", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(os.urandom(50_000))
    (root / "b").write_bytes(os.urandom(100_000))
    return root


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "in" / "1"


def received(root: Path, destination: Path, *, frames: int) -> tuple[Receiving, int]:
    """Receive so many frames; return what did, and how much of the stream has come."""
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving, frame_bytes=FRAME_BYTES)
        journey.make(lose_link_after=frames)
    return receiving, journey.receiver.received


def refuse(_fd: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("frames", [2, 5], ids=["one file", "the file system"])
def test_a_flush_that_fails_is_the_end_of_a_delivery(
    root: Path, destination: Path, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiving, offset = received(root, destination, frames=frames)
    checkpoint = receiving.checkpoint(offset)
    assert checkpoint is not None
    monkeypatch.setattr(os, "fdatasync", refuse)
    monkeypatch.setattr(checkpoints, "sync_filesystem", refuse)
    with pytest.raises(TransferFailed, match="could not be written: Input/output error"):
        checkpoint.make_durable()
    assert not destination.with_name(".1.part.json").exists()


def test_the_file_system_is_flushed_through_what_was_open_from_the_beginning(root: Path, destination: Path) -> None:
    """The system tells of bytes that it could not write once, and only who had the file system open by then."""
    receiving, offset = received(root, destination, frames=5)
    destination.with_name(".1.part").rename(destination.with_name("elsewhere"))  # nobody could open it now
    checkpoint = receiving.checkpoint(offset)
    assert checkpoint is not None
    checkpoint.make_durable()
    assert destination.with_name(".1.part.json").exists()
    receiving.close()


def test_a_note_that_cannot_be_written_is_no_failure_to_write(root: Path, destination: Path) -> None:
    receiving, offset = received(root, destination, frames=5)
    checkpoint = receiving.checkpoint(offset)
    assert checkpoint is not None
    destination.with_name(".1.part.json.draft").mkdir()
    with pytest.raises(IsADirectoryError):
        checkpoint.make_durable()
    receiving.close()


def test_files_that_have_ended_are_flushed_before_anything_behind_them_is_noted(
    root: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first moment comes to nothing for want of descriptors; flushing the open file alone would not do at the second."""
    flushed: list[int] = []
    monkeypatch.setattr(checkpoints, "sync_filesystem", flushed.append)
    receiving, offset = received(root, destination, frames=5)
    with monkeypatch.context() as out_of_descriptors:
        out_of_descriptors.setattr(os, "dup", refuse)
        assert receiving.checkpoint(offset) is None
    for times in (1, 1):  # once they are durable, the open file will do
        checkpoint = receiving.checkpoint(offset)
        assert checkpoint is not None
        checkpoint.make_durable()
        assert len(flushed) == times
    receiving.close()


@pytest.mark.parametrize("is_settled", [False, True], ids=["called off", "arrived"])
def test_a_moment_that_is_noted_too_late_leaves_nothing(root: Path, destination: Path, is_settled: bool) -> None:
    """It was being flushed while the delivery came to its end, and its note would lie there for good."""
    receiving, offset = received(root, destination, frames=5)
    checkpoint = receiving.checkpoint(offset)
    assert checkpoint is not None
    if is_settled:
        receiving.tidy(tuple(manifest_of(root)))
    else:
        receiving.discard()
    checkpoint.make_durable()
    assert not list(destination.parent.glob(".1.part.json*"))
    receiving.close()
