"""What has come of a delivery before a restart is taken up where it was noted last, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnd.protocol.instructions import Kept, TransferState
from rnd.workers import receiving as receiving_module
from rnd.workers.receiving import Receiving
from rnd.workers.sending import Sending
from tests.workers.carrying import Journey, OpenedSource, manifest_of, offer_of, under_own_names

FRAME_BYTES = 20_000
DONE = (TransferState.DONE, TransferState.DONE)


@pytest.fixture(autouse=True)
def _all_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving_module, "NOTED_FROM_BYTES", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "void").mkdir(parents=True)
    (root / "a").write_bytes(os.urandom(30_000))
    (root / "big").write_bytes(os.urandom(150_000))
    (root / "empty").write_bytes(b"")
    (root / "sub" / "other").write_bytes(os.urandom(50_000))
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "zero").write_bytes(b"")
    return root


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "in" / "1"


def stopped(root: Path, destination: Path, *, noted_at: int, stopped_at: int) -> Kept | None:
    """Receive up to one frame, note that, receive up to another, and end as a killed process does."""
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        first = Journey(sending, receiving, frame_bytes=FRAME_BYTES)
        first.make(lose_link_after=noted_at)
        kept = first.receiver.kept
        checkpoint = None if kept is None else receiving.checkpoint(kept.offset)
        if kept is not None:
            Journey(sending, receiving, kept=kept, frame_bytes=FRAME_BYTES).make(lose_link_after=stopped_at - noted_at)
        if checkpoint is not None:
            checkpoint.make_durable()
    receiving.close()
    return kept


def go_on(root: Path, destination: Path) -> tuple[Kept | None, Journey]:
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        kept = receiving.take_up(offer_of(sending), max_folders=100)
        journey = Journey(sending, receiving, kept=kept, frame_bytes=FRAME_BYTES)
        journey.make()
    return kept, journey


@pytest.mark.parametrize(
    ("noted_at", "more"), [(noted_at, more) for noted_at in range(1, 12) for more in (0, 1, 4) if noted_at + more < 12]
)
def test_it_goes_on_from_what_was_noted(root: Path, destination: Path, noted_at: int, more: int) -> None:
    noted = stopped(root, destination, noted_at=noted_at, stopped_at=noted_at + more)
    assert noted is not None
    kept, journey = go_on(root, destination)
    assert kept is not None
    assert kept.offset == noted.offset == min(noted_at * FRAME_BYTES, journey.sender.offer.stream_bytes)
    assert kept.entries == tuple(manifest_of(root))
    assert journey.states == DONE
    assert journey.frames_sent == -(-(journey.sender.offer.stream_bytes - kept.offset) // FRAME_BYTES)
    assert manifest_of(destination) == manifest_of(root)
    assert set(os.listdir(destination.parent)) == {"1", ".1.manifest"}


def part_of(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.part")


def beside(destination: Path, kind: str) -> Path:
    return part_of(destination).with_name(f".{destination.name}.part.{kind}")


SPOILT: list[tuple[str, Callable[[Path], object]]] = [
    ("no note", lambda to: beside(to, "json").unlink()),
    ("half a note", lambda to: os.truncate(beside(to, "json"), 20)),
    ("another kind of note", lambda to: beside(to, "json").write_text('[1, "x"]')),
    ("an offset beyond the end", lambda to: _set_offset(to, 10**9)),
    ("an offset in the manifest", lambda to: _set_offset(to, 1)),
    ("no manifest", lambda to: beside(to, "manifest").unlink()),
    ("half a manifest", lambda to: os.truncate(beside(to, "manifest"), 50)),
    ("a verified file is gone", lambda to: (part_of(to) / "a").unlink()),
    ("a verified file is short", lambda to: os.truncate(part_of(to) / "a", 29_999)),
    ("the open file is gone", lambda to: (part_of(to) / "big").unlink()),
    ("the open file is short", lambda to: os.truncate(part_of(to) / "big", 10)),
    ("the open file is a link", lambda to: _link_away(part_of(to) / "big")),
    ("the folder is gone", lambda to: part_of(to).rename(to.parent / "elsewhere")),
]


def _set_offset(destination: Path, offset: int) -> None:
    note = beside(destination, "json")
    text = note.read_text()
    note.write_text(text[: text.index('"offset"')] + f'"offset": {offset}}}')


def _link_away(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize(("what", "spoil"), SPOILT, ids=[what for what, _ in SPOILT])
def test_what_does_not_bear_out_its_note_comes_anew(
    root: Path, destination: Path, what: str, spoil: Callable[[Path], object]
) -> None:
    assert stopped(root, destination, noted_at=5, stopped_at=7) is not None
    spoil(destination)
    kept, journey = go_on(root, destination)
    assert kept is None, what
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)
    assert set(os.listdir(destination.parent)) <= {"1", ".1.manifest", "elsewhere"}


def test_other_content_than_was_noted_comes_anew(root: Path, destination: Path) -> None:
    stopped(root, destination, noted_at=5, stopped_at=5)
    (root / "zero").write_bytes(b"0")
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)


def test_bytes_that_the_disk_has_changed_meanwhile_never_arrive(root: Path, destination: Path) -> None:
    stopped(root, destination, noted_at=5, stopped_at=5)
    with (part_of(destination) / "big").open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    kept, journey = go_on(root, destination)
    assert kept is not None
    assert journey.states == (TransferState.FAILED, TransferState.FAILED)
    assert "big did not arrive as promised" in journey.receiver.reason
    assert os.listdir(destination.parent) == []


def test_nothing_is_noted_of_what_is_short(root: Path, destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving_module, "NOTED_FROM_BYTES", 1 << 20)
    assert stopped(root, destination, noted_at=5, stopped_at=5) is not None
    assert os.listdir(destination.parent) == [".1.part"]
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE


def test_what_is_discarded_leaves_no_notes(root: Path, destination: Path) -> None:
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving, frame_bytes=FRAME_BYTES)
        journey.make(lose_link_after=5)
    assert set(os.listdir(destination.parent)) == {".1.part", ".1.part.manifest"}
    receiving.discard()
    assert os.listdir(destination.parent) == []


def arrived(root: Path, destination: Path) -> None:
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving)
        journey.make()
    assert journey.states == DONE


def recognised(root: Path, earlier: Path, destination: Path) -> Kept | None:
    """Offer the content of `root` where it may have arrived before; return what is kept, with all of it in its place."""
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        kept = receiving.fill_from(earlier, offer_of(sending), max_folders=100)
        journey = Journey(sending, receiving, kept=kept)
        journey.make()
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)
    assert (journey.frames_sent == 0) == (kept is not None)
    return kept


def test_what_has_come_before_is_copied_and_not_sent(root: Path, destination: Path, tmp_path: Path) -> None:
    arrived(root, destination)
    again, third = tmp_path / "again" / "2", tmp_path / "third" / "3"
    assert recognised(root, destination, again) is not None
    assert recognised(root, again, third) is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda at: (at / "a").write_bytes(b"?" * 30_000),
        lambda at: (at / "a").write_bytes(b""),
        lambda at: (at / "sub" / "run").unlink(),
        lambda at: (at / "zero").write_bytes(b"0"),
        lambda at: _link_away(at / "big"),
        lambda at: at.rename(at.with_name("elsewhere")),
        lambda at: at.with_name(f".{at.name}.manifest").unlink(),
        lambda at: os.truncate(at.with_name(f".{at.name}.manifest"), 100),
    ],
)
def test_what_is_not_there_as_it_came_is_sent(
    root: Path, destination: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    arrived(root, destination)
    spoil(destination)
    assert recognised(root, destination, tmp_path / "again" / "2") is None


def test_other_content_is_sent(root: Path, destination: Path, tmp_path: Path) -> None:
    arrived(root, destination)
    (root / "a").write_bytes(os.urandom(30_000))
    assert recognised(root, destination, tmp_path / "again" / "2") is None


def test_what_was_noted_stays_when_it_is_let_go(root: Path, destination: Path) -> None:
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        Journey(sending, receiving, frame_bytes=FRAME_BYTES).make(lose_link_after=5)
    receiving.let_go()
    assert set(os.listdir(destination.parent)) == {".1.part", ".1.part.manifest"}
    Receiving(destination).clear_away()
    assert os.listdir(destination.parent) == []


def test_notes_of_other_content_do_not_speak_for_what_came_after_them(
    root: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file of the other content has the size that was noted, and is not it."""
    assert stopped(root, destination, noted_at=5, stopped_at=5) is not None
    destination.with_name(".1.part.json.draft").write_text("half")
    other = destination.parent.parent / "other"
    other.mkdir()
    (other / "a").write_bytes(os.urandom(30_000))
    (other / "big").write_bytes(os.urandom(80_000))
    monkeypatch.setattr(receiving_module, "NOTED_FROM_BYTES", 1 << 20)
    assert stopped(other, destination, noted_at=5, stopped_at=5) is not None
    assert os.listdir(destination.parent) == [".1.part"]
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
