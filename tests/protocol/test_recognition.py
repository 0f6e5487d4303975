"""Which entries a receiver has: their bits on the wire, and where a stream stands that goes without them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.recognition import PresentRefused, find_place, read_present, size_of, write_present
from rnd.types.executions import FileEntry
from tests.protocol.parcels import Parcel, file_entry, folder_entry, parcels

FILE = file_entry("a", b"x")


@given(st.data())
def test_the_bits_say_what_they_were_made_of(data: st.DataObject) -> None:
    entries = [FILE] * data.draw(st.integers(1, 40))
    present = data.draw(st.frozensets(st.integers(0, len(entries) - 1)))
    bits = write_present(present, len(entries))
    assert read_present(bits, entries) == present
    assert len(bits) == ((len(entries) + 7) // 8 if present else 0)


def test_the_lowest_bit_of_the_first_byte_is_the_first_entry() -> None:
    assert write_present({0, 3, 8, 17}, 18) == bytes([0b0000_1001, 0b0000_0001, 0b0000_0010])
    assert write_present((), 18) == b""


@pytest.mark.parametrize("bits", [b"\x01", b"\x01\0\0", b"\0" * 3], ids=["too few", "too many", "too many zeros"])
def test_another_number_of_bits_is_refused(bits: bytes) -> None:
    with pytest.raises(PresentRefused, match="9 entries have another number"):
        read_present(bits, [FILE] * 9)


@pytest.mark.parametrize("index", [1, 2, 3, 7])
def test_only_files_with_content_can_be_there(index: int) -> None:
    entries: list[FileEntry] = [FILE, folder_entry("b/"), file_entry("c", b"")]
    assert read_present(bytes([1]), entries) == {0}
    with pytest.raises(PresentRefused, match="no file with content"):
        read_present(bytes([1 | 1 << index]), entries)


@given(parcels(), st.data())
def test_a_place_is_where_as_many_bytes_lie_before_it_as_have_come(parcel: Parcel, data: st.DataObject) -> None:
    entries = parcel.entries
    files = sorted(parcel.indices_of(parcel.content))
    present = data.draw(st.frozensets(st.sampled_from(files))) if files else frozenset()
    sent = [0 if index in present else entry.size_bytes for index, entry in enumerate(entries)]
    assert sum(sent) == sum(entry.size_bytes for entry in entries) - size_of(present, entries)
    for content_bytes in range(sum(sent) + 1):
        index, file_offset = find_place(entries, present, content_bytes)
        assert sum(sent[:index]) + file_offset == content_bytes
        assert file_offset == 0 if index == len(entries) else file_offset < sent[index]
