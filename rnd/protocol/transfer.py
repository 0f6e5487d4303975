"""One transfer between two peers, as each end sees it (document: Transfer Protocol; docs/wire.md, section 5).

Two machines without clock, loop or files. Each is told what the other side says and what has become of the link, and
answers with instructions; nothing else may be done to a transfer. What the other side does against the rules ends it with
words for both, and nothing more is taken. A machine serves one link: where that is lost, a fresh one goes on at the
offset that the receiver names.
"""

from __future__ import annotations

from typing import Final

from rnd.protocol.frames import PAYLOAD_BYTES_MAX, Frame
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
    SendBytes,
    SendInstruction,
    Stop,
    TransferState,
    Write,
)
from rnd.protocol.manifest import (
    Announced,
    ManifestReader,
    ManifestRefused,
)
from rnd.protocol.offers import check_offer
from rnd.protocol.sealed_streams import CHUNK_BYTES_MAX, ChunkOpener, ChunkSealer, ReceiverSeal, SealRefused, SenderSeal
from rnd.protocol.transfer_messages import SealShare
from rnd.types.executions import FileEntry
from rnd.types.ids import PeerId
from rnd.types.peers import RejectionCode

WINDOW_BYTES: Final = 32 << 20
"""How much a sender has on its way beyond the last acknowledgement."""
ACK_BYTES: Final = 4 << 20
"""How much a receiver takes before it acknowledges. With the longest frame it must fit in the window: else both wait."""
FRAME_BYTES: Final = 1 << 20
WORDS_MAX: Final = 1_000

_OPEN: Final = frozenset({TransferState.OFFERED, TransferState.STREAMING, TransferState.ANNOUNCED})
ENDED: Final = frozenset(TransferState) - _OPEN
"""Nothing more comes of a transfer in such a state; a machine whose link was lost leaves what it has to a fresh one."""


class SendTransfer:
    """The sending end, from the offer on, which has been sent when this is made.

    `take` gives the next instruction, one at a time, or `None` while there is something to wait for; ask again whenever
    the machine was told something, and after an end as well: the other side may have to be told. `state`, `code` (of a
    rejection) and `reason` are what has become of it.
    """

    def __init__(
        self,
        offer: Offer,
        *,
        seal: SenderSeal | None = None,
        window_bytes: int = WINDOW_BYTES,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        if offer.encrypted != (seal is not None):
            raise ValueError("a sealed transfer has a seal, and no other one")
        if not 1 <= frame_bytes <= min(PAYLOAD_BYTES_MAX, window_bytes):
            raise ValueError(f"frames of {frame_bytes} bytes do not fit a window of {window_bytes}")
        self.offer = offer
        self.state = TransferState.OFFERED
        self.code: RejectionCode | None = None
        self.reason = ""
        self.sent = 0
        self.acknowledged = 0
        self.sealer: ChunkSealer | None = None
        """What seals each frame of a sealed transfer, once it is accepted."""
        self.frame_bytes = frame_bytes if seal is None else min(frame_bytes, CHUNK_BYTES_MAX)
        self._seal = seal
        self._window_bytes = window_bytes
        self._last_words: Complete | None = None

    def take(self) -> SendInstruction | None:
        """Return the next thing to do. Never more than the window is on its way."""
        if self._last_words is not None:
            words, self._last_words = self._last_words, None
            return words
        if self.state is not TransferState.STREAMING:
            return None
        if self.sent == self.offer.stream_bytes:
            self.state = TransferState.ANNOUNCED
            return Complete(transfer_id=self.offer.transfer_id, success=True)
        return self._next_bytes()

    def take_bytes(self, first: SendBytes, *, at_most: int) -> list[SendBytes]:
        """Return `first` and what may be sent right after it, `at_most` so many in all; each counts as taken."""
        taken = [first]
        while len(taken) < at_most and self.sent < self.offer.stream_bytes and (more := self._next_bytes()):
            taken.append(more)
        return taken

    def _next_bytes(self) -> SendBytes | None:
        length = min(self.frame_bytes, self.offer.stream_bytes - self.sent)
        if self.sent + length - self.acknowledged > self._window_bytes:
            return None
        instruction = SendBytes(stream=self.offer.stream, offset=self.sent, length=length)
        self.sent += length
        return instruction

    def accept(self, offset: int, share: SealShare | None = None) -> None:
        """The receiver takes it and has everything below `offset`; `share` is its part in the seal."""
        if self.state not in _OPEN:
            return
        if self.state is not TransferState.OFFERED:
            self._object("it accepted the transfer twice")
        elif not 0 <= offset <= self.offer.stream_bytes:
            self._object(f"it asked for the stream from {offset:,} on, which has {self.offer.stream_bytes:,} bytes")
        elif self._agrees(offset, share):
            self.state = TransferState.STREAMING
            self.sent = self.acknowledged = offset

    def _agrees(self, offset: int, share: SealShare | None) -> bool:
        """Say whether the receiver's part in the seal fits, or whether there is none on either side."""
        try:
            if self._seal is not None:
                self.sealer = self._seal.agree(offset, share)
            elif share is not None:
                raise SealRefused("it sealed what was not offered sealed")
        except SealRefused as error:
            self._object(str(error))
            return False
        return True

    def reject(self, code: RejectionCode, reason: str) -> None:
        """The receiver does not take it. `done` is as good as an acknowledgement: it arrived before."""
        if self.state not in _OPEN:
            return
        if self.state is not TransferState.OFFERED:
            self._object("it rejected a transfer that it had accepted")
            return
        self.state = TransferState.DONE if code is RejectionCode.DONE else TransferState.REJECTED
        self.code = code
        self.reason = _words(reason, "the receiver did not say why")

    def acknowledge(self, offset: int) -> None:
        """The receiver has written everything below `offset`."""
        if self.state not in _OPEN:
            return
        if self.state is TransferState.OFFERED:
            self._object("it acknowledged bytes before it accepted the transfer")
        elif not self.acknowledged <= offset <= self.sent:
            self._object(f"it acknowledged {offset:,} when {self.acknowledged:,} to {self.sent:,} were possible")
        else:
            self.acknowledged = offset

    def complete(self, *, success: bool, bytes_received: int, error: str | None) -> None:
        """The receiver answers that all is durable, or that it has failed on its side."""
        if self.state not in _OPEN:
            return
        if not success:
            self.stop(error or "")
        elif self.state is not TransferState.ANNOUNCED:
            self._object("it called the transfer complete before all was sent")
        elif bytes_received != self.offer.stream_bytes:
            self._object(f"it called {bytes_received:,} of {self.offer.stream_bytes:,} bytes complete")
        else:
            self.state = TransferState.DONE
            self.acknowledged = self.sent

    def stop(self, reason: str) -> None:
        """The receiver says, before all has come, that it has failed on its side."""
        if self.state in _OPEN:
            self.state = TransferState.FAILED
            self.reason = _words(reason, "the receiver gave up and did not say why")

    def fail(self, reason: str) -> None:
        """What is to be sent cannot be read, or is not what was promised."""
        self._give_up(TransferState.FAILED, reason)

    def call_off(self, reason: str) -> None:
        """Somebody has cancelled it. Where the end was announced it may arrive all the same."""
        self._give_up(TransferState.CALLED_OFF, reason)

    def lose_link(self) -> None:
        """The link is gone; what was to be said cannot be said any more."""
        self._last_words = None
        if self.state in _OPEN:
            self.state = TransferState.LINK_LOST
            self.reason = "the link was lost"

    def _object(self, what: str) -> None:
        self._give_up(TransferState.FAILED, f"the receiver broke the rules of a transfer: {what}")

    def _give_up(self, state: TransferState, reason: str) -> None:
        if self.state not in _OPEN:
            return
        self._last_words = Complete(transfer_id=self.offer.transfer_id, success=False, error=reason)
        self.state = state
        self.reason = reason


class ReceiveTransfer:
    """The receiving end of an offer, under the duty that was found for it.

    Every method returns the instructions that follow, effects before what is said of them: carry all of them out, in
    order, before the machine is told the next thing; an acknowledgement then means what it says. `begin` comes first.
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
        ack_bytes: int = ACK_BYTES,
    ) -> None:
        if offer.encrypted != (seal is not None):
            raise ValueError("a sealed transfer has a seal, and no other one")
        self.offer = offer
        self.state = TransferState.OFFERED
        self.reason = ""
        self.received = 0
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
        share = None
        if self._seal is not None:
            share, self.opener = self._seal.agree(self.received)
        return [*instructions, Accept(transfer_id=self.offer.transfer_id, offset=self.received, seal=share)]

    def take_frame(self, frame: Frame) -> list[ReceiveInstruction]:
        """Take the next bytes of the stream. Frames of a transfer that has ended are dropped."""
        if self.state not in _OPEN:
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
        is_all = self.received == self.offer.stream_bytes
        if is_all or self.received - self._acknowledged >= self._ack_bytes:
            self._acknowledged = self.received
            instructions.append(Acknowledge(transfer_id=self.offer.transfer_id, offset=self.received))
        return instructions

    def take_complete(self, *, success: bool, error: str | None) -> list[ReceiveInstruction]:
        """The sender has sent all, or calls it off. Asked again after the end, the answer is the same again."""
        match self.state:
            case TransferState.STREAMING if not success:
                words = _words(error, "the sender called it off and did not say why")
                return self._end(TransferState.CALLED_OFF, words, is_answer=True)
            case TransferState.STREAMING if self.received != self.offer.stream_bytes:
                words = f"it announced the end after {self.received:,} of {self.offer.stream_bytes:,} bytes"
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
        if self.received != self.offer.stream_bytes or self.state not in (
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
        if self.state in _OPEN:
            self.state = TransferState.LINK_LOST
            self.reason = reason

    @property
    def kept(self) -> Kept | None:
        """What a fresh machine can go on from after the link was lost, if anything; a part of a manifest is not kept."""
        if self.state is not TransferState.LINK_LOST or self._entries is None:
            return None
        return Kept(offer=self.offer, entries=self._entries, offset=self.received)

    def _go_on(self, kept: Kept) -> None:
        """Stand where an earlier machine stood; the files that end there have ended."""
        self._entries = kept.entries
        self.received = self._acknowledged = kept.offset
        left = kept.offset - self.offer.manifest_bytes
        for entry in kept.entries:
            if left < entry.size_bytes:
                break
            left -= entry.size_bytes
            self._index += 1
        self._file_offset = left

    def _frame_problem(self, frame: Frame) -> str:
        if self.state is not TransferState.STREAMING:
            return f"it sent bytes when the transfer was {self.state}"
        if frame.stream != self.offer.stream:
            return f"it sent bytes of stream {frame.stream} as if they were of {self.offer.stream}"
        if frame.offset != self.received:
            return f"it sent bytes from {frame.offset:,} on where {self.received:,} was due"
        if not frame.payload:
            return "it sent a frame without bytes"
        if frame.offset + len(frame.payload) > self.offer.stream_bytes:
            return f"it sent more than the announced {self.offer.stream_bytes:,} bytes"
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
        """End every file that is complete by now, empty ones too, and step over folders."""
        assert self._entries is not None
        while self._index < len(self._entries) and self._file_offset == self._entries[self._index].size_bytes:
            if self._entries[self._index].sha256:
                instructions.append(EndFile(index=self._index))
            self._index += 1
            self._file_offset = 0

    def _object(self, what: str, *, is_answer: bool = False) -> list[ReceiveInstruction]:
        words = f"the sender broke the rules of a transfer: {what}"
        return self._end(TransferState.FAILED, words, is_answer=is_answer)

    def _end(self, state: TransferState, reason: str, *, is_answer: bool = False) -> list[ReceiveInstruction]:
        """Throw away what has come, and tell the sender: as the answer to its last request, or before there is one."""
        before = self.state
        if before not in _OPEN and before is not TransferState.LINK_LOST:
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


def _words(text: str | None, otherwise: str) -> str:
    """Return what the other side gave as its reason, not more of it than a person reads."""
    return text[:WORDS_MAX] if text else otherwise
