"""What tests of transfers share: content with its manifest, ends, duties, and a receiver's disk in memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from rnd.protocol.frames import Frame
from rnd.protocol.instructions import (
    Discard,
    Duty,
    EndFile,
    Ends,
    LayOut,
    Offer,
    ReceiveInstruction,
    SendInstruction,
    Write,
)
from rnd.protocol.manifest import Manifest, write_manifest
from rnd.protocol.offers import make_offer
from rnd.protocol.transfer_sending import SendTransfer
from rnd.types.executions import FileEntry
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId

STREAM = 7
TRANSFER = TransferId("3d6f0a52-8d5e-4c3c-9a58-3d1d0f6c2a11")
SENDER = PeerId("rnsender")
ENDS = Ends(
    ordering_peer_id=PeerId("rnorchestrator"),
    execution_uid=ExecutionUid("0" * 32),
    connection_id=ConnectionId(4),
    source_job_execution_id=JobExecutionId(11),
    dest_job_execution_id=JobExecutionId(12),
)
DUTY = Duty(source_peer_id=SENDER, ends=ENDS, max_bytes=64 << 30, max_entries=100_000)


def file_entry(path: str, content: bytes, *, executable: bool = False) -> FileEntry:
    return FileEntry(
        relative_path=path,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        executable=executable,
    )


def folder_entry(path: str) -> FileEntry:
    return FileEntry(relative_path=path, size_bytes=0, sha256="")


@dataclass(frozen=True, slots=True)
class Parcel:
    """Content by path, in the order in which it is sent; `None` is an empty folder."""

    content: dict[str, bytes | None]

    @property
    def entries(self) -> list[FileEntry]:
        return [
            folder_entry(path) if content is None else file_entry(path, content)
            for path, content in self.content.items()
        ]

    @property
    def manifest(self) -> Manifest:
        return write_manifest(self.entries)

    @property
    def stream(self) -> bytes:
        return self.manifest.data + b"".join(content or b"" for content in self.content.values())

    def stream_without(self, present: Collection[int]) -> bytes:
        """Return what is sent where these entries are at the receiver."""
        contents = enumerate(self.content.values())
        return self.manifest.data + b"".join(content or b"" for index, content in contents if index not in present)

    def indices_of(self, paths: Collection[str]) -> frozenset[int]:
        """Return the entries of these paths that are files with content."""
        return frozenset(
            index for index, (path, content) in enumerate(self.content.items()) if content and path in paths
        )

    @property
    def offer(self) -> Offer:
        return make_offer(self.manifest, ENDS, transfer_id=TRANSFER, stream=STREAM)


def parcels() -> st.SearchStrategy[Parcel]:
    """Files of a few bytes, empty ones and empty folders among them, in any order."""
    names = st.text("abäß \"\\'", min_size=1, max_size=3)
    file = st.tuples(names, st.binary(max_size=20) | st.none(), st.booleans())

    def parcel(drawn: list[tuple[str, bytes | None, bool]]) -> Parcel:
        content: dict[str, bytes | None] = {}
        for name, data, inside in drawn:
            path = f"in {name}/{name}" if inside else name
            content[path + "/" if data is None else path] = data
        # a name cannot be a file and a folder at once
        return Parcel({path: data for path, data in content.items() if data is not None or path[:-1] not in content})

    return st.lists(file, max_size=6).map(parcel)


@dataclass(slots=True)
class Shelf:
    """A receiver's disk: it checks each file at its end as the real one does."""

    entries: tuple[FileEntry, ...] | None = None
    files: dict[str, bytearray] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def carry_out(self, instructions: Sequence[ReceiveInstruction]) -> None:
        for instruction in instructions:
            match instruction:
                case LayOut(entries=entries):
                    assert self.entries is None
                    self.entries = entries
                case Write(index=index, offset=offset, data=data):
                    file = self.files.setdefault(self._path(index), bytearray())
                    assert len(file) == offset
                    assert len(data) > 0
                    file += data
                case EndFile(index=index):
                    path = self._path(index)
                    assert path not in self.ended
                    assert file_entry(path, bytes(self.files.setdefault(path, bytearray()))) == self._entry(index)
                    self.ended.add(path)
                case Discard():
                    self.entries = None
                    self.files.clear()
                    self.ended.clear()

    def fill(self, parcel: Parcel, present: Collection[int]) -> None:
        """Have these entries come from somewhere else than the stream."""
        for index in present:
            path = self._path(index)
            assert path not in self.files
            self.files[path] = bytearray(parcel.content[path] or b"")
            self.ended.add(path)

    def holds(self, parcel: Parcel) -> bool:
        """Say whether all of a parcel is here, every file verified."""
        files = {path: content for path, content in parcel.content.items() if content is not None}
        return self.entries == tuple(parcel.entries) and self.files == files and self.ended == set(files)

    def _entry(self, index: int) -> FileEntry:
        assert self.entries is not None
        return self.entries[index]

    def _path(self, index: int) -> str:
        path = self._entry(index).relative_path
        assert path not in self.ended
        return path


def frames_of(stream: bytes, cuts: Sequence[int], *, start: int = 0) -> list[Frame]:
    """Cut a stream into frames at these offsets."""
    points = sorted({start, len(stream), *(cut for cut in cuts if start < cut < len(stream))})
    return [frame_at(stream, begin, end) for begin, end in itertools.pairwise(points)]


def frame_at(stream: bytes, begin: int, end: int, *, number: int = STREAM) -> Frame:
    return Frame(stream=number, offset=begin, payload=memoryview(stream)[begin:end])


def drain(sender: SendTransfer) -> list[SendInstruction]:
    """Take all that a sender has to say now."""
    taken = []
    while (instruction := sender.take()) is not None:
        taken.append(instruction)
    return taken
