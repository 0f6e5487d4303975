"""Whole transfers from disk to disk, through both machines and every link that is lost on the way."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnd.protocol.instructions import Kept, StagingInstruction, TransferState, Write
from rnd.rules.paths import DEPTH_MAX
from rnd.types.errors import TransferFailed
from rnd.workers.receiving import Receiving
from rnd.workers.sending import Sending
from tests.workers.carrying import Journey, OpenedSource, manifest_of, under_own_names

DONE = (TransferState.DONE, TransferState.DONE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "void").mkdir(parents=True)
    (root / "big").write_bytes(os.urandom(400_000))
    (root / "empty").write_bytes(b"")
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "sub" / "other").write_bytes(os.urandom(100_000))
    (root / "zero").write_bytes(b"")
    return root


@contextmanager
def sending_of(root: Path) -> Iterator[Sending]:
    source = OpenedSource(root)
    try:
        with Sending(source, under_own_names(manifest_of(root))) as sending:
            yield sending
    finally:
        source.tree.close()
    assert source.open_now == 0
    assert source.most_open <= 1


def test_content_exec_bits_and_empty_folders_survive(root: Path, tmp_path: Path) -> None:
    with sending_of(root) as sending:
        journey = Journey(sending, Receiving(tmp_path / "in" / "1"))
        journey.make()
    assert journey.states == DONE
    assert manifest_of(tmp_path / "in" / "1") == manifest_of(root)
    assert os.listdir(tmp_path / "in") == ["1"]


@pytest.mark.parametrize("frame_bytes", [17_001, 50_000])
def test_a_link_may_be_lost_after_any_frame(root: Path, tmp_path: Path, frame_bytes: int) -> None:
    lost_after = 0
    while True:
        receiving = Receiving(tmp_path / "in" / "1")
        with sending_of(root) as sending:
            first = Journey(sending, receiving, frame_bytes=frame_bytes, window_bytes=3 * frame_bytes)
            first.make(lose_link_after=lost_after)
        if first.states == DONE:
            break
        kept = first.receiver.kept
        with sending_of(root) as sending:
            again = Journey(sending, receiving, kept=kept, frame_bytes=30_000)
            again.make()
        assert again.states == DONE, (lost_after, again.sender.reason, again.receiver.reason)
        assert manifest_of(tmp_path / "in" / "1") == manifest_of(root)
        lost_after += 1
    assert lost_after > 400_000 // frame_bytes


def test_a_link_may_be_lost_many_times_and_nothing_is_written_twice(root: Path, tmp_path: Path) -> None:
    moved: list[int] = []
    receiving = Receiving(tmp_path / "in" / "1", progress=moved.append)
    kept: Kept | None = None
    links = 0
    while True:
        links += 1
        with sending_of(root) as sending:
            journey = Journey(sending, receiving, kept=kept, frame_bytes=20_000, window_bytes=60_000)
            journey.make(lose_link_after=2)
        if journey.states == DONE:
            break
        kept = journey.receiver.kept
    assert links > 10
    assert sum(moved) == sum(entry.size_bytes for entry in manifest_of(root))
    assert manifest_of(tmp_path / "in" / "1") == manifest_of(root)


def change_a_byte(root: Path, offset: int) -> None:
    with (root / "big").open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("lost_after", [None, 1, 3])
def test_a_source_that_changes_on_the_way_never_arrives(root: Path, tmp_path: Path, lost_after: int | None) -> None:
    receiving = Receiving(tmp_path / "in" / "1")
    kept = None
    with sending_of(root) as sending:
        if lost_after is not None:
            first = Journey(sending, receiving)
            first.make(lose_link_after=lost_after)
            kept = first.receiver.kept
        change_a_byte(root, 399_999)
        sending.close()
        journey = Journey(sending, receiving, kept=kept)
        journey.make()
        assert journey.states == (TransferState.FAILED, TransferState.FAILED)
        assert journey.sender.reason == "the file big did not arrive as promised: its SHA-256 is another"
        assert os.listdir(tmp_path / "in") == []
        with pytest.raises(TransferFailed, match="big has changed: its SHA-256 is not the promised one"):
            sending.verify()


def test_what_has_arrived_before_its_source_changes_arrives_as_promised(root: Path, tmp_path: Path) -> None:
    receiving = Receiving(tmp_path / "in" / "1")
    promised = manifest_of(root)
    with sending_of(root) as sending:
        first = Journey(sending, receiving)
        first.make(lose_link_after=3)
        change_a_byte(root, 0)
        journey = Journey(sending, receiving, kept=first.receiver.kept)
        journey.make()
    assert journey.states == DONE
    assert manifest_of(tmp_path / "in" / "1") == promised


def test_bytes_that_change_on_the_way_never_arrive(root: Path, tmp_path: Path) -> None:
    class Spoilt(Receiving):
        def carry_out(self, instructions: Iterable[StagingInstruction]) -> None:
            for instruction in instructions:
                if isinstance(instruction, Write) and instruction.index == 0:
                    instruction.data[0] ^= 1
                super().carry_out([instruction])

    with sending_of(root) as sending:
        journey = Journey(sending, Spoilt(tmp_path / "in" / "1"))
        journey.make()
    assert journey.states == (TransferState.FAILED, TransferState.FAILED)
    assert journey.sender.reason == "the file big did not arrive as promised: its SHA-256 is another"
    assert os.listdir(tmp_path / "in") == []


def test_ten_thousand_small_files_share_frames(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in range(100):
        (root / f"{folder}").mkdir(parents=True)
        for name in range(100):
            (root / f"{folder}" / f"{name}").write_bytes(b"%d/%d" % (folder, name))
    with sending_of(root) as sending:
        journey = Journey(sending, Receiving(tmp_path / "in" / "1"), frame_bytes=1 << 18)
        journey.make()
        frames_needed = -(-sending.stream_bytes // (1 << 18))
    assert journey.states == DONE
    assert journey.frames_sent == frames_needed
    assert manifest_of(tmp_path / "in" / "1") == manifest_of(root)


def test_the_deepest_and_longest_names_arrive(tmp_path: Path) -> None:
    root = tmp_path / "root"
    deep = "/".join(["d"] * (DEPTH_MAX - 1))
    wide = "/".join(["w" * 255, "x" * 255, "y" * 255, 'z"\\' * 60])
    for name in (f"{deep}/f", wide):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"here")
    with sending_of(root) as sending:
        journey = Journey(sending, Receiving(tmp_path / "in" / "1"))
        journey.make()
    assert journey.states == DONE
    assert manifest_of(tmp_path / "in" / "1") == manifest_of(root)


def sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def test_memory_does_not_grow_with_the_content(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    sparse(root / "huge", 96 << 20)
    with sending_of(root) as sending:
        journey = Journey(sending, Receiving(tmp_path / "in" / "1"), frame_bytes=1 << 18, window_bytes=1 << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracemalloc.start()
        try:
            journey.make()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert journey.states == DONE
    assert peak < 1 << 20
    assert grown_kib < 16 << 10


def test_a_resumed_file_is_hashed_again_in_bounded_memory(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    sparse(root / "huge", 96 << 20)
    with sending_of(root) as sending:
        tracemalloc.start()
        try:
            sending.read_into(memoryview(bytearray(10)), sending.stream_bytes - 10)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2 << 20
