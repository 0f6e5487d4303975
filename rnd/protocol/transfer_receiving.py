"""The receiving end of a transfer, as a machine (document: Transfer Protocol; docs/wire.md, section 5)."""

from __future__ import annotations

from rnd.protocol.frames import Frame
from rnd.protocol.instructions import (
    Accept,
    Acknowledge,
    Complete,
    Discard,
    Duty,
    EndFile,
    Finish,
    Kept,
    LayOut,
    Offer,
    ReceiveInstruction,
    Recognise,
    Stop,
    TellPresent,
    TransferState,
    Write,
)
from rnd.protocol.manifest import Announced, ManifestReader, ManifestRefused
from rnd.protocol.offers import check_offer
from rnd.protocol.recognition import NONE_PRESENT, find_place, size_of, write_present
from rnd.protocol.sealed_streams import ChunkOpener, ReceiverSeal
from rnd.protocol.transfer import ACK_BYTES, OPEN, cut_words
from rnd.types.executions import FileEntry
from rnd.types.ids import PeerId


class ReceiveTransfer:
    """The receiving end of an offer, under the duty that was found for it.

    Every method returns the instructions that follow, effects before what is said of them: carry all of them out, in
    order, before the machine is told the next thing; an acknowledgement then means what it says. `begin` comes first.
    With `recognises` the content waits until `recognise` was told which files are here and need not come.
    Frames of a sealed transfer are taken as if they were open: plain bytes, or room for them that is filled before it is written.
    Hand what goes wrong with an effect to `fail`. After the link was lost, `kept` is what a fresh machine goes on from.
    """

    def __init__(
        self,
        offer: Offer,
        duty: Duty,
        *,
        sender_peer_id: PeerId,
        seal: ReceiverSeal | None = None,
        kept: Kept | None = None,
        recognises: bool = False,
        ack_bytes: int = ACK_BYTES,
    ) -> None:
        if offer.encrypted != (seal is not None):
            raise ValueError("a sealed transfer has a seal, and no other one")
        self.offer = offer
        self.state = TransferState.OFFERED
        self.reason = ""
        self.received = 0
        self.present: frozenset[int] | None = None if recognises and offer.size_bytes else NONE_PRESENT
        """The entries that were here and need not come; `None` until that is known."""
        self.recognised_bytes = 0
        self.opener: ChunkOpener | None = None
        """What opens each frame of a sealed transfer, once it is accepted."""
        self._seal = seal
        self._rejection = check_offer(offer, duty, sender_peer_id=sender_peer_id)
        self._kept = kept
        self._ack_bytes = ack_bytes
        self._acknowledged = 0
        self._manifest = ManifestReader(
            Announced(
                manifest_bytes=offer.manifest_bytes,
                manifest_sha256=offer.manifest_sha256,
                entry_count=offer.entry_count,
                file_count=offer.file_count,
                size_bytes=offer.size_bytes,
            ),
            max_folders=duty.max_entries,
        )
        self._entries: tuple[FileEntry, ...] | None = None
        self._index = 0
        self._file_offset = 0

    def begin(self) -> list[ReceiveInstruction]:
        """Take the offer, from where an earlier link left it, or reject it."""
        if self._rejection is not None:
            self.state = TransferState.REJECTED
            self.reason = self._rejection.reason
            return [self._rejection]
        self.state = TransferState.STREAMING
        instructions: list[ReceiveInstruction] = []
        if self._kept is not None and self._kept.is_part_of(self.offer):
            self._go_on(self._kept)
        elif self._kept is not None:
            instructions.append(Discard(reason="the sender offers other content than before"))
        if self._entries is None and self.offer.manifest_bytes == 0:
            self._entries = ()
            instructions.append(LayOut(entries=()))
        present = self._present_bits()
        share = None
        if self._seal is not None:
            share, self.opener = self._seal.agree(self.received, present=present)
            self.opener.end_at(self.stream_bytes)
        accept = Accept(transfer_id=self.offer.transfer_id, offset=self.received, present=present, seal=share)
        return [*instructions, accept]

    def take_frame(self, frame: Frame) -> list[ReceiveInstruction]:
        """Take the next bytes of the stream. Frames of a transfer that has ended are dropped."""
        if self.state not in OPEN:
            return []
        problem = self._frame_problem(frame)
        if problem:
            return self._object(problem)
        instructions: list[ReceiveInstruction] = []
        try:
            content = self._take_manifest(frame.payload, instructions)
        except ManifestRefused as error:
            return self._object(str(error))
        self._take_content(content, instructions)
        self.received += len(frame.payload)
        instructions += self._acknowledge()
        return instructions

    def acknowledge(self) -> list[ReceiveInstruction]:
        """Acknowledge what has come, however little: some time has passed since the last time."""
        if self.state is not TransferState.STREAMING or self.received == self._acknowledged:
            return []
        return self._say_received()

    def recognise(self, present: frozenset[int], *, bytes_read: int) -> list[ReceiveInstruction]:
        """These files are here, whole and verified; so much was read to know that. It holds also if the link was lost meanwhile."""
        if self._entries is None or self.present is not None:
            raise ValueError("what is here is asked once, when the manifest has come")
        if self.state not in (TransferState.STREAMING, TransferState.LINK_LOST):
            return []
        self._stand_without(present, self._entries)
        instructions: list[ReceiveInstruction] = []
        self._end_files(instructions)
        if self.state is TransferState.LINK_LOST:
            return instructions
        if self.opener is not None:
            self.opener.end_at(self.stream_bytes)
        bits = write_present(present, len(self._entries))
        return [
            *instructions,
            TellPresent(transfer_id=self.offer.transfer_id, bytes_read=bytes_read, present=bits),
            *self._acknowledge(),
        ]

    def take_complete(self, *, success: bool, error: str | None) -> list[ReceiveInstruction]:
        """The sender has sent all, or calls it off. Asked again after the end, the answer is the same again."""
        match self.state:
            case TransferState.STREAMING if not success:
                words = cut_words(error, "the sender called it off and did not say why")
                return self._end(TransferState.CALLED_OFF, words, is_answer=True)
            case TransferState.STREAMING if self.received != self.stream_bytes:
                words = f"it announced the end after {self.received:,} of {self.stream_bytes:,} bytes"
                return self._object(words, is_answer=True)
            case TransferState.STREAMING:
                self.state = TransferState.ANNOUNCED
                return [Finish()]
            case TransferState.OFFERED | TransferState.ANNOUNCED | TransferState.LINK_LOST:
                return []  # the answer to the first announcement is on its way
            case _:
                return [self._answer()]

    def mark_finished(self) -> list[ReceiveInstruction]:
        """All is in its place, durable and committed. It stays so if the link was lost meanwhile."""
        if self.received != self.stream_bytes or self.state not in (
            TransferState.ANNOUNCED,
            TransferState.LINK_LOST,
        ):
            raise ValueError(f"a transfer that is {self.state} at {self.received} bytes cannot be finished")
        has_link = self.state is TransferState.ANNOUNCED
        self.state = TransferState.DONE
        return [self._answer()] if has_link else []

    def fail(self, reason: str) -> list[ReceiveInstruction]:
        """Something went wrong here: the disk is full, a file is not what the manifest promised."""
        return self._end(TransferState.FAILED, reason)

    def call_off(self, reason: str) -> list[ReceiveInstruction]:
        """Nobody here waits for it any more."""
        return self._end(TransferState.CALLED_OFF, reason)

    def lose_link(self, reason: str = "the link was lost") -> None:
        """The link is gone, or nothing comes over it. Where the end was announced, finish and say `mark_finished` all the same."""
        if self.state in OPEN:
            self.state = TransferState.LINK_LOST
            self.reason = reason

    @property
    def kept(self) -> Kept | None:
        """What a fresh machine can go on from after the link was lost, if anything; a part of a manifest is not kept, nor is
        anything before it is known what is here.
        """
        if self.state is not TransferState.LINK_LOST or self._entries is None or self.present is None:
            return None
        return Kept(offer=self.offer, entries=self._entries, offset=self.received, present=self.present)

    @property
    def stream_bytes(self) -> int:
        """How long the stream is, without what is here already."""
        return self.offer.stream_bytes - self.recognised_bytes

    @property
    def content_bytes(self) -> int:
        """How much of the content is here, by this stream or from before."""
        return self.recognised_bytes + max(0, self.received - self.offer.manifest_bytes)

    def _go_on(self, kept: Kept) -> None:
        """Stand where an earlier machine stood; the files that end there have ended."""
        self._entries = kept.entries
        self._stand_without(kept.present, kept.entries)
        self.received = self._acknowledged = kept.offset
        content_bytes = kept.offset - self.offer.manifest_bytes
        self._index, self._file_offset = find_place(kept.entries, kept.present, content_bytes)

    def _stand_without(self, present: frozenset[int], entries: tuple[FileEntry, ...]) -> None:
        """Take files that are here out of the stream."""
        self.present = present
        self.recognised_bytes = size_of(present, entries)

    def _present_bits(self) -> bytes | None:
        """Return what is said to be here, `None` where that is not known yet."""
        if self.present is None:
            return None
        return write_present(self.present, self.offer.entry_count)

    def _acknowledge(self) -> list[ReceiveInstruction]:
        """Acknowledge what has come if it is all, or enough."""
        is_all = self.received == self.stream_bytes
        if not is_all and self.received - self._acknowledged < self._ack_bytes:
            return []
        return self._say_received()

    def _say_received(self) -> list[ReceiveInstruction]:
        self._acknowledged = self.received
        return [Acknowledge(transfer_id=self.offer.transfer_id, offset=self.received)]

    def _frame_problem(self, frame: Frame) -> str:
        state = self.state
        if state in OPEN and state is not TransferState.STREAMING:  # the link may be lost while a thread is here
            return f"it sent bytes when the transfer was {state}"
        if frame.stream != self.offer.stream:
            return f"it sent bytes of stream {frame.stream} as if they were of {self.offer.stream}"
        if frame.offset != self.received:
            return f"it sent bytes from {frame.offset:,} on where {self.received:,} was due"
        if not frame.payload:
            return "it sent a frame without bytes"
        end = frame.offset + len(frame.payload)
        if end > self.stream_bytes:
            without = " that are not here" if self.present else ""
            return f"it sent more than the announced {self.stream_bytes:,} bytes{without}"
        if self.present is None and end > self.offer.manifest_bytes:
            return "it sent content before it was told which of it is here"
        return ""

    def _take_manifest(self, data: memoryview, instructions: list[ReceiveInstruction]) -> memoryview:
        """Take what belongs to the manifest; return what does not."""
        if self._entries is not None:
            return data
        missing = self.offer.manifest_bytes - self.received
        self._manifest.feed(data[:missing])
        if len(data) >= missing:
            self._entries = self._manifest.finish()
            instructions.append(LayOut(entries=self._entries))
            if self.present is None:
                instructions.append(Recognise(entries=self._entries))
            else:
                self._end_files(instructions)
        return data[missing:]

    def _take_content(self, data: memoryview, instructions: list[ReceiveInstruction]) -> None:
        """Divide bytes among the files that they belong to."""
        while data:
            assert self._entries is not None
            count = min(len(data), self._entries[self._index].size_bytes - self._file_offset)
            instructions.append(Write(index=self._index, offset=self._file_offset, data=data[:count]))
            data = data[count:]
            self._file_offset += count
            self._end_files(instructions)

    def _end_files(self, instructions: list[ReceiveInstruction]) -> None:
        """End every file that is complete by now, empty ones too, and step over folders and what is here already."""
        assert self._entries is not None
        assert self.present is not None
        while self._index < len(self._entries):
            is_here = self._index in self.present
            if not is_here and self._file_offset < self._entries[self._index].size_bytes:
                break
            if not is_here and self._entries[self._index].sha256:
                instructions.append(EndFile(index=self._index))
            self._index += 1
            self._file_offset = 0

    def _object(self, what: str, *, is_answer: bool = False) -> list[ReceiveInstruction]:
        words = f"the sender broke the rules of a transfer: {what}"
        return self._end(TransferState.FAILED, words, is_answer=is_answer)

    def _end(self, state: TransferState, reason: str, *, is_answer: bool = False) -> list[ReceiveInstruction]:
        """Throw away what has come, and tell the sender: as the answer to its last request, or before there is one."""
        before = self.state
        if before not in OPEN and before is not TransferState.LINK_LOST:
            return []
        self.state = state
        self.reason = reason
        discard = Discard(reason=reason)
        if before is TransferState.LINK_LOST:
            return [discard]
        if is_answer or before is TransferState.ANNOUNCED:
            return [discard, self._answer()]
        return [discard, Stop(transfer_id=self.offer.transfer_id, reason=reason)]

    def _answer(self) -> Complete:
        return Complete(
            transfer_id=self.offer.transfer_id,
            success=self.state is TransferState.DONE,
            bytes_received=self.received,
            error=None if self.state is TransferState.DONE else self.reason,
        )
