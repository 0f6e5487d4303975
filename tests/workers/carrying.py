"""Carries a transfer from one end's files to the other's through both machines, over a link that is a list of messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from rnd.protocol.frames import HEADER_BYTES, read_frame, write_header
from rnd.protocol.instructions import (
    Accept,
    Acknowledge,
    Complete,
    Discard,
    EndFile,
    Finish,
    Kept,
    LayOut,
    LeaveOut,
    Offer,
    ReceiveInstruction,
    Recognise,
    Reject,
    SendBytes,
    StagingInstruction,
    Stop,
    TellPresent,
    TransferState,
    Write,
)
from rnd.protocol.offers import make_offer
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.protocol.transfer_sending import SendTransfer
from rnd.types.errors import CalledOff, TransferFailed
from rnd.types.executions import FileEntry
from rnd.workers.earlier_files import EarlierFile
from rnd.workers.files import OpenTree, hash_tree, scan_tree
from rnd.workers.receiving import Receiving
from rnd.workers.sending import Sending
from tests.protocol.parcels import DUTY, ENDS, SENDER, STREAM, TRANSFER


def manifest_of(root: Path) -> list[FileEntry]:
    return hash_tree(root, scan_tree(root, max_files=100_000, max_file_bytes=1 << 40))


def under_own_names(entries: Sequence[FileEntry]) -> list[tuple[FileEntry, str]]:
    return [(entry, entry.relative_path) for entry in entries]


def offer_of(sending: Sending) -> Offer:
    return make_offer(sending.manifest, ENDS, transfer_id=TRANSFER, stream=STREAM)


def read_all(sending: Sending, *, start: int = 0, piece_bytes: int = 1 << 16) -> bytes:
    """Read the stream to its end in pieces of this size."""
    stream = bytearray(sending.stream_bytes - start)
    for offset in range(0, len(stream), piece_bytes):
        sending.read_into(memoryview(stream)[offset : offset + piece_bytes], start + offset)
    return bytes(stream)


class Journey:
    """One link's worth of a transfer. The receiver's own failures go to its machine, as its shell does it."""

    def __init__(
        self,
        sending: Sending,
        receiving: Receiving,
        *,
        kept: Kept | None = None,
        earlier: Mapping[str, EarlierFile] | None = None,
        frame_bytes: int = 1 << 16,
        window_bytes: int = 1 << 20,
    ) -> None:
        """`earlier` is where files may have arrived before, by their paths in this transfer."""
        offer, entries = offer_of(sending), sending.manifest.entries
        self.sender = SendTransfer(offer, entries=entries, window_bytes=window_bytes, frame_bytes=frame_bytes)
        self.receiver = ReceiveTransfer(
            offer,
            DUTY,
            sender_peer_id=SENDER,
            kept=kept,
            recognises=earlier is not None,
            ack_bytes=window_bytes - frame_bytes,
        )
        self.frames_sent = 0
        self.commits = True
        """Whether what is in its place is committed; else the receiver ends there, as a killed process does."""
        self._earlier = earlier or {}
        self._sending = sending
        self._receiving = receiving
        self._buffers = deque(bytearray(HEADER_BYTES + frame_bytes) for _ in range(window_bytes // frame_bytes + 1))
        self._way: deque[tuple[bytearray, int] | Complete] = deque()

    def make(self, *, lose_link_after: int | None = None) -> None:
        """Go to the end, or until so many frames have arrived."""
        self._act(self.receiver.begin())
        while self._send() or self._way:
            if lose_link_after is not None and self.frames_sent >= lose_link_after:
                self.sender.lose_link()
                self.receiver.lose_link()
                return
            if self._way:
                self._arrive()

    @property
    def states(self) -> tuple[TransferState, TransferState]:
        return self.sender.state, self.receiver.state

    def _send(self) -> bool:
        instruction = self.sender.take()
        match instruction:
            case SendBytes(stream=stream, offset=offset, length=length):
                buffer = self._buffers.popleft()
                try:
                    self._sending.read_into(memoryview(buffer)[HEADER_BYTES : HEADER_BYTES + length], offset)
                except (TransferFailed, CalledOff) as error:
                    self.sender.fail(str(error))
                    return True
                write_header(buffer, stream=stream, offset=offset)
                self._way.append((buffer, HEADER_BYTES + length))
            case LeaveOut(present=present):
                self._sending.leave_out(present)
            case Complete():
                self._way.append(instruction)
        return instruction is not None

    def _arrive(self) -> None:
        message = self._way.popleft()
        if isinstance(message, Complete):
            self._act(self.receiver.take_complete(success=message.success, error=message.error))
            return
        buffer, size = message
        self.frames_sent += 1
        self._act(self.receiver.take_frame(read_frame(memoryview(buffer)[:size])))
        self._buffers.append(buffer)

    def _recognise(self, entries: Sequence[FileEntry]) -> list[ReceiveInstruction]:
        indices = {entry.relative_path: index for index, entry in enumerate(entries)}
        earlier = {indices[path]: file for path, file in self._earlier.items()}
        present = self._receiving.fill(earlier, has_room=lambda _: True)
        return self.receiver.recognise(present, bytes_read=0)

    def _act(self, instructions: Sequence[ReceiveInstruction]) -> None:
        effects: list[StagingInstruction] = [
            step for step in instructions if isinstance(step, (LayOut, Write, EndFile, Discard))
        ]
        try:
            self._receiving.carry_out(effects)
            for step in instructions:
                if isinstance(step, Recognise):
                    self._act(self._recognise(step.entries))
            if Finish() in instructions:
                entries = self._receiving.finish(self.receiver.received)
                if not self.commits:
                    return
                self._receiving.settle()
                self._receiving.tidy(entries)
                instructions = self.receiver.mark_finished()
        except (TransferFailed, CalledOff) as error:
            instructions = self.receiver.fail(str(error))
        for step in instructions:
            match step:
                case Accept(offset=offset, present=present):
                    self.sender.accept(offset, present=present)
                case TellPresent(bytes_read=bytes_read, present=present):
                    self.sender.take_present(present, bytes_read=bytes_read)
                case Reject(code=code, reason=reason):
                    self.sender.reject(code, reason)
                case Acknowledge(offset=offset):
                    self.sender.acknowledge(offset)
                case Complete(success=success, bytes_received=count, error=error_words):
                    self.sender.complete(success=success, bytes_received=count, error=error_words)
                case Stop(reason=reason):
                    self.sender.stop(reason)


class OpenedSource:
    """Opens entries of a folder as its readers' owner; says how many were opened and how many are open at once."""

    def __init__(self, root: Path) -> None:
        self.tree = OpenTree(root)
        self.opened: list[str] = []
        self.open_now = 0
        self.most_open = 0

    def __call__(self, entry: FileEntry) -> CountedReader:
        fd, _ = self.tree.open_file(entry.relative_path)
        self.opened.append(entry.relative_path)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        return CountedReader(self, fd)


class CountedReader:
    """A reader that gives a prime number of bytes at most, as no file does, and counts itself."""

    def __init__(self, source: OpenedSource, fd: int) -> None:
        self._source = source
        self._file = open(fd, "rb", buffering=0)  # noqa: SIM115 - closed by close

    def readinto(self, buffer: memoryview, /) -> int | None:
        return self._file.readinto(buffer[:60_013])

    def close(self) -> None:
        self._file.close()
        self._source.open_now -= 1
