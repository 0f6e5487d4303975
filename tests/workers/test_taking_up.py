"""What has come of a delivery before a restart is taken up where it was noted last, or not at all."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rnd.protocol.instructions import Kept, LayOut, TransferState
from rnd.types.errors import CalledOff, ToldToStop
from rnd.workers import part_notes, part_stamps
from rnd.workers import receiving as receiving_module
from rnd.workers.earlier_files import EarlierFile
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
    assert set(os.listdir(destination.parent)) == {"1"}


def part_of(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.part")


def beside(destination: Path, kind: str) -> Path:
    return part_of(destination).with_name(f".{destination.name}.part.{kind}")


SPOILT: list[tuple[str, Callable[[Path], object]]] = [
    ("no note", lambda to: beside(to, "json").unlink()),
    ("half a note", lambda to: os.truncate(beside(to, "json"), 20)),
    ("a note that is nested without end", lambda to: beside(to, "json").write_text("[" * 100_000)),
    ("another kind of note", lambda to: beside(to, "json").write_text('[1, "x"]')),
    ("an offset beyond the end", lambda to: _set_offset(to, 10**9)),
    ("an offset in the manifest", lambda to: _set_offset(to, 1)),
    ("no manifest", lambda to: beside(to, "manifest").unlink()),
    ("half a manifest", lambda to: os.truncate(beside(to, "manifest"), 50)),
    ("a verified file is gone", lambda to: (part_of(to) / "a").unlink()),
    ("a verified file is short", lambda to: os.truncate(part_of(to) / "a", 29_999)),
    ("a verified file is another", lambda to: (part_of(to) / "a").write_bytes(b"?" * 30_000)),
    ("a verified file was written to", lambda to: _touch_one_byte(part_of(to) / "a")),
    ("a verified file is a link", lambda to: _link_away(part_of(to) / "a")),
    ("the open file is gone", lambda to: (part_of(to) / "big").unlink()),
    ("the open file is short", lambda to: os.truncate(part_of(to) / "big", 10)),
    ("the open file is a link", lambda to: _link_away(part_of(to) / "big")),
    ("the folder is gone", lambda to: part_of(to).rename(to.parent / "elsewhere")),
]


def _set_offset(destination: Path, offset: int) -> None:
    note = beside(destination, "json")
    text = note.read_text()
    note.write_text(text[: text.index('"offset"')] + f'"offset": {offset}}}')


def _touch_one_byte(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))


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
    assert set(os.listdir(destination.parent)) <= {"1", "elsewhere"}


def test_other_content_than_was_noted_comes_anew(root: Path, destination: Path) -> None:
    stopped(root, destination, noted_at=5, stopped_at=5)
    (root / "zero").write_bytes(b"0")
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)


def test_bytes_that_the_disk_has_changed_meanwhile_never_arrive(root: Path, destination: Path) -> None:
    stopped(root, destination, noted_at=5, stopped_at=5)
    _touch_one_byte(part_of(destination) / "big")
    kept, journey = go_on(root, destination)
    assert kept is not None
    assert journey.states == (TransferState.FAILED, TransferState.FAILED)
    assert "big did not arrive as promised" in journey.receiver.reason
    assert os.listdir(destination.parent) == []


def test_what_is_touched_and_still_right_goes_on(root: Path, destination: Path) -> None:
    noted = stopped(root, destination, noted_at=5, stopped_at=5)
    (part_of(destination) / "a").touch()
    kept, journey = go_on(root, destination)
    assert noted is not None
    assert kept is not None
    assert kept.offset == noted.offset
    assert journey.states == DONE


@pytest.mark.parametrize("boot", ["another", ""], ids=["after another boot", "when nobody knows"])
def test_all_is_hashed_again_unless_the_system_has_run_since(
    root: Path, destination: Path, boot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may leave a file in its size and without its bytes, and nothing of that in its times."""
    stopped(root, destination, noted_at=5, stopped_at=5)
    verified = part_of(destination) / "a"
    before = verified.stat()
    _touch_one_byte(verified)
    monkeypatch.setattr(part_stamps, "stamp_of", lambda status: (status.st_size,))
    assert before.st_size == verified.stat().st_size
    note = beside(destination, "json")
    fields = json.loads(note.read_text())
    stamps = part_stamps.PartStamps()
    stamps.add(0, before)
    note.write_text(json.dumps({**fields, "stamps": str(stamps)}))
    monkeypatch.setattr(part_notes, "boot_id", lambda: boot)
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)


def killed_before_commit(root: Path, destination: Path) -> None:
    """Receive all of it, put it in its place, and end as a process that is killed then."""
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, Receiving(destination), frame_bytes=FRAME_BYTES)
        journey.commits = False
        journey.make()
    assert destination.is_dir()
    assert not part_of(destination).exists()


def test_what_is_in_its_place_and_not_committed_does_not_come_again(root: Path, destination: Path) -> None:
    killed_before_commit(root, destination)
    kept, journey = go_on(root, destination)
    assert kept is not None
    assert kept.offset == journey.sender.offer.stream_bytes
    assert journey.frames_sent == 0
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)
    assert os.listdir(destination.parent) == ["1"]


def test_what_is_in_its_place_and_was_altered_before_it_was_committed_comes_anew(root: Path, destination: Path) -> None:
    killed_before_commit(root, destination)
    _touch_one_byte(destination / "big")
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_in_its_place_can_be_discarded_until_it_is_settled(
    root: Path, destination: Path, settled: bool
) -> None:
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving)
        journey.commits = settled
        journey.make()
    receiving.discard()
    assert os.listdir(destination.parent) == (["1"] if settled else [])


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("call", ["open", "lstat", "readv"])
def test_what_cannot_be_looked_at_now_stays_as_it_is(
    root: Path, destination: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = stopped(root, destination, noted_at=5, stopped_at=5)
    assert noted is not None

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending, monkeypatch.context() as refusing:
        offer = offer_of(sending)
        refusing.setattr(os, call, refuse)
        with pytest.raises(OSError, match=os.strerror(code)):
            Receiving(destination).take_up(offer, max_folders=100)
    kept, journey = go_on(root, destination)
    assert kept is not None
    assert kept.offset == noted.offset
    assert journey.states == DONE


def left(root: Path, destination: Path) -> tuple[Receiving, Kept]:
    """Receive some frames, and leave what came to another link."""
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving, frame_bytes=FRAME_BYTES)
        journey.make(lose_link_after=5)
    receiving.give_back_room()
    assert journey.receiver.kept is not None
    return receiving, journey.receiver.kept


@pytest.mark.parametrize(
    "touch",
    [
        lambda part: _touch_one_byte(part / "a"),
        lambda part: _touch_one_byte(part / "big"),
        lambda part: (part / "a").unlink(),
        lambda part: (part / "big").unlink(),
        lambda part: part.rename(part.with_name("elsewhere")),
    ],
)
def test_what_was_touched_while_no_link_was_there_is_noticed(
    root: Path, destination: Path, touch: Callable[[Path], object]
) -> None:
    receiving, kept = left(root, destination)
    assert receiving.is_as_left(kept)
    touch(part_of(destination))
    assert not receiving.is_as_left(kept)
    receiving.close()


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


# ---- what has come before


@pytest.fixture
def earlier(root: Path, tmp_path: Path) -> Path:
    """A folder in which the same has arrived before."""
    folder = tmp_path / "earlier" / "7"
    shutil.copytree(root, folder)
    return folder


def all_of(folder: Path) -> dict[str, EarlierFile]:
    """Return every file with content of a folder, by the path that it also has in what is offered."""
    return {
        entry.relative_path: EarlierFile(folder, entry.relative_path)
        for entry in manifest_of(folder)
        if entry.size_bytes
    }


def delivered(root: Path, destination: Path, earlier: Mapping[str, EarlierFile]) -> tuple[set[str], Journey]:
    """Deliver the content of `root` where files of it may have arrived before; return what was recognised."""
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving, earlier=earlier, frame_bytes=FRAME_BYTES)
        journey.make()
    entries = manifest_of(root)
    assert journey.states == DONE
    assert manifest_of(destination) == entries
    assert os.listdir(destination.parent) == [destination.name]
    present = journey.receiver.present or frozenset()
    size_bytes = sum(entries[index].size_bytes for index in present)
    assert journey.sender.sent == journey.sender.offer.stream_bytes - size_bytes
    return {entries[index].relative_path for index in present}, journey


def test_what_has_come_before_is_copied_and_not_sent(root: Path, destination: Path, earlier: Path) -> None:
    files = all_of(earlier)
    assert delivered(root, destination, files)[0] == set(files) == {"a", "big", "sub/other", "sub/run"}


def test_of_many_files_the_one_that_has_changed_is_sent(root: Path, destination: Path, earlier: Path) -> None:
    (root / "a").write_bytes(os.urandom(30_000))
    recognised, journey = delivered(root, destination, all_of(earlier))
    assert recognised == {"big", "sub/other", "sub/run"}
    assert journey.sender.sent == journey.sender.offer.manifest_bytes + 30_000


def test_a_file_is_recognised_under_another_name_and_gets_its_own_bit(
    root: Path, destination: Path, earlier: Path
) -> None:
    (root / "sub" / "run").chmod(0o644)
    recognised, _ = delivered(root, destination, {"sub/run": EarlierFile(earlier, "sub/run")})
    assert recognised == {"sub/run"}
    (root / "a").rename(root / "moved")
    recognised, _ = delivered(root, destination.parent.parent / "other" / "2", {"moved": EarlierFile(earlier, "a")})
    assert recognised == {"moved"}


CHANGED: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "other bytes": (lambda at: (at / "a").write_bytes(b"?" * 30_000), {"a"}),
    "no bytes": (lambda at: (at / "a").write_bytes(b""), {"a"}),
    "a byte more": (lambda at: os.truncate(at / "a", 30_001), {"a"}),
    "gone": (lambda at: (at / "sub" / "run").unlink(), {"sub/run"}),
    "a link": (lambda at: _link_away(at / "big"), {"big"}),
    "a folder": (lambda at: ((at / "a").unlink(), (at / "a").mkdir()), {"a"}),
    "its folder is a link": (lambda at: _link_away(at / "sub"), {"sub/other", "sub/run"}),
    "all of it is gone": (lambda at: at.rename(at.with_name("elsewhere")), {"a", "big", "sub/other", "sub/run"}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_not_there_as_it_came_is_sent(root: Path, destination: Path, earlier: Path, name: str) -> None:
    spoil, changed = CHANGED[name]
    files = all_of(earlier)
    spoil(earlier)
    assert delivered(root, destination, files)[0] == set(files) - changed


def test_what_there_is_no_room_for_is_sent(root: Path, destination: Path, earlier: Path) -> None:
    """It then waits for room as all other bytes do."""
    entries = manifest_of(root)
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=tuple(entries))])
    files = {
        index: EarlierFile(earlier, entry.relative_path) for index, entry in enumerate(entries) if entry.size_bytes
    }
    present = receiving.fill(files, has_room=lambda size_bytes: size_bytes < 100_000)
    assert [entries[index].relative_path for index in present] == ["a"]
    assert not (part_of(destination) / "big").exists()


def test_copying_that_is_called_off_leaves_nothing(root: Path, destination: Path, earlier: Path) -> None:
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=tuple(manifest_of(root)))])
    seen: list[int] = []
    with pytest.raises(CalledOff):
        receiving.fill(
            {0: EarlierFile(earlier, "a"), 1: EarlierFile(earlier, "big")},
            has_room=lambda _: True,
            progress=seen.append,
            cancelled=lambda: bool(seen),
        )
    assert seen == [30_000]
    assert os.listdir(destination.parent) == []


def test_copying_that_is_told_to_stop_leaves_what_is_on_the_disk(root: Path, destination: Path, earlier: Path) -> None:
    seen: list[int] = []
    receiving = Receiving(destination, is_stopping=lambda: bool(seen))
    receiving.carry_out([LayOut(entries=tuple(manifest_of(root)))])
    with pytest.raises(ToldToStop):
        receiving.fill(
            {0: EarlierFile(earlier, "a"), 1: EarlierFile(earlier, "big")},
            has_room=lambda _: True,
            progress=seen.append,
            cancelled=lambda: bool(seen),  # as well: what was told first counts
        )
    assert (part_of(destination) / "a").read_bytes() == (root / "a").read_bytes()
    files = all_of(earlier)
    assert delivered(root, destination, files)[0] == set(files)


@pytest.mark.parametrize("ends_again_after", [0, 1])
def test_hashing_that_is_told_to_stop_leaves_what_has_come(
    root: Path, destination: Path, ends_again_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_notes, "boot_id", lambda: f"of the start before test {ends_again_after}")
    noted = stopped(root, destination, noted_at=4, stopped_at=5)
    assert noted is not None
    monkeypatch.undo()
    monkeypatch.setattr(receiving_module, "NOTED_FROM_BYTES", 1)
    asked: list[None] = []

    def is_stopping() -> bool:
        asked.append(None)
        return len(asked) > ends_again_after

    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending, pytest.raises(ToldToStop):
        Receiving(destination, is_stopping=is_stopping).take_up(offer_of(sending), max_folders=100)
    kept, journey = go_on(root, destination)
    assert kept == noted
    assert journey.states == DONE


def stopped_among_recognised(root: Path, destination: Path, earlier: Path, *, frames: int) -> Kept:
    """Recognise `big`, receive so many frames, note that, and end as a killed process does."""
    receiving = Receiving(destination)
    with Sending(OpenedSource(root), under_own_names(manifest_of(root))) as sending:
        journey = Journey(sending, receiving, earlier={"big": EarlierFile(earlier, "big")}, frame_bytes=FRAME_BYTES)
        journey.make(lose_link_after=frames)
    kept = journey.receiver.kept
    assert kept is not None
    checkpoint = receiving.checkpoint(kept.offset)
    assert checkpoint is not None
    checkpoint.make_durable()
    receiving.close()
    return kept


@pytest.mark.parametrize("frames", range(1, 6))
def test_what_was_recognised_need_not_come_after_a_restart_either(
    root: Path, destination: Path, earlier: Path, frames: int
) -> None:
    noted = stopped_among_recognised(root, destination, earlier, frames=frames)
    shutil.rmtree(earlier)
    kept, journey = go_on(root, destination)
    assert kept == noted
    assert {kept.entries[index].relative_path for index in kept.present} == {"big"}
    assert journey.states == DONE
    assert journey.sender.sent == journey.sender.offer.stream_bytes - 150_000
    assert manifest_of(destination) == manifest_of(root)


def _set_present(destination: Path, bits: bytes) -> None:
    note = beside(destination, "json")
    fields = json.loads(note.read_text())
    note.write_text(json.dumps({**fields, "present": base64.b64encode(bits).decode()}))


SPOILT_RECOGNISED: dict[str, Callable[[Path], object]] = {
    "the file that was here is gone": lambda to: (part_of(to) / "big").unlink(),
    "the file that was here is short": lambda to: os.truncate(part_of(to) / "big", 149_999),
    "too many bits": lambda to: _set_present(to, b"\x02\0\0\0"),
    "a folder was here": lambda to: _set_present(to, b"\xff"),
    "no bits are noted": lambda to: beside(to, "json").write_text(
        json.dumps(
            {key: value for key, value in json.loads(beside(to, "json").read_text()).items() if key != "present"}
        )
    ),
    "an offset beyond what is left": lambda to: _set_offset(to, 10**5 * 2),
}


@pytest.mark.parametrize("name", SPOILT_RECOGNISED)
def test_what_does_not_bear_out_what_was_recognised_comes_anew(
    root: Path, destination: Path, earlier: Path, name: str
) -> None:
    stopped_among_recognised(root, destination, earlier, frames=3)
    SPOILT_RECOGNISED[name](destination)
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
    assert journey.sender.sent == journey.sender.offer.stream_bytes
    assert manifest_of(destination) == manifest_of(root)


def test_a_process_that_ends_while_it_copies_what_is_here_leaves_nothing_to_go_on_from(
    root: Path, destination: Path, earlier: Path
) -> None:
    receiving = Receiving(destination)
    receiving.carry_out([LayOut(entries=tuple(manifest_of(root)))])
    receiving.fill({1: EarlierFile(earlier, "big")}, has_room=lambda _: True)
    assert set(os.listdir(destination.parent)) == {".1.part", ".1.part.manifest"}
    receiving.close()
    kept, journey = go_on(root, destination)
    assert kept is None
    assert journey.states == DONE
    assert manifest_of(destination) == manifest_of(root)


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
