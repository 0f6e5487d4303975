"""Captured streams: every byte, up to the cap, and a journal of whole lines."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.services.streams import CHUNK_BYTES, Capture, Journal, create_log, time_text

LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (stdout|stderr|rnd) (.*)", re.DOTALL)


def _capture(folder: Path, chunks: list[bytes], cap_bytes: int) -> tuple[Capture, Journal, bytes, list[bytes]]:
    """Pump chunks through one capture; return it, its journal, and what both files hold, the journal by lines."""
    directory = os.open(folder, os.O_RDONLY)
    sink = os.open(os.devnull, os.O_WRONLY)
    reader, writer = os.pipe()
    stream, journal_file = create_log(directory, "stdout.txt"), create_log(directory, "logs.txt")
    journal = Journal(journal_file, cap_bytes)
    capture = Capture("stdout", reader, stream, sink, cap_bytes, journal)
    try:
        for chunk in chunks:
            os.write(writer, chunk)
            assert capture.pump()
        os.close(writer)
        assert not capture.pump()
    finally:
        for descriptor in (directory, sink, reader, stream, journal_file):
            os.close(descriptor)
    text = (folder / "logs.txt").read_bytes()
    assert not text or text.endswith(b"\n")
    return capture, journal, (folder / "stdout.txt").read_bytes(), text.split(b"\n")[:-1]


@given(chunks=st.lists(st.binary(min_size=1, max_size=50) | st.just(b"a\nb\n") | st.just(b"\n"), max_size=12))
def test_uncut_streams_are_whole_and_the_journal_has_every_line(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    capture, journal, stream, lines = _capture(tmp_path_factory.mktemp("logs"), chunks, 1 << 20)
    whole = b"".join(chunks)
    assert stream == whole
    assert not capture.cut
    assert not journal.cut
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    matches = [LINE.fullmatch(line) for line in lines]
    assert [match and match.groups() for match in matches] == [(b"stdout", line) for line in expected]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=200), max_size=12), cap_bytes=st.integers(min_value=0, max_value=600)
)
def test_a_cut_stream_is_exactly_its_cap_and_says_so(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], cap_bytes: int
) -> None:
    capture, journal, stream, lines = _capture(tmp_path_factory.mktemp("logs"), chunks, cap_bytes)
    whole = b"".join(chunks)
    assert stream == whole[:cap_bytes]
    assert capture.cut == (len(whole) > cap_bytes)
    marks = [line for line in lines if b" rnd " in line and b"cut here" in line]
    assert len(marks) == capture.cut + journal.cut
    kept = sum(len(line) + 1 for line in lines if line not in marks)
    assert kept <= cap_bytes


def test_a_line_without_end_never_fills_the_memory(tmp_path: Path) -> None:
    chunks = [b"x" * (CHUNK_BYTES // 2)] * 9
    _, _, stream, lines = _capture(tmp_path, chunks, 1 << 30)
    assert stream == b"".join(chunks)
    assert b"".join(line.split(b" ", 2)[2] for line in lines) == stream
    assert max(map(len, lines)) < 2 * CHUNK_BYTES


def test_times_are_utc_with_milliseconds() -> None:
    assert time_text(0.0) == "1970-01-01T00:00:00.000Z"
    assert time_text(1769860800.9996) == "2026-01-31T12:00:00.999Z"


def test_a_full_disk_is_an_error_and_the_rest_can_still_be_drained(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    sink, full = os.open(os.devnull, os.O_WRONLY), os.open("/dev/full", os.O_WRONLY)
    capture = Capture("stdout", reader, full, sink, 100, Journal(full, 100))
    try:
        os.write(writer, b"lost")
        with pytest.raises(OSError, match="No space"):
            capture.pump()
        capture.give_up()
        os.write(writer, b"more")
        assert capture.pump()
        os.close(writer)
        assert not capture.pump()
    finally:
        for descriptor in (reader, sink, full):
            os.close(descriptor)
