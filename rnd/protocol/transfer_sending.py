"""The sending end of a transfer, as a machine (document: Transfer Protocol; docs/wire.md, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from rnd.protocol.frames import PAYLOAD_BYTES_MAX
from rnd.protocol.instructions import Complete, LeaveOut, Offer, SendBytes, SendInstruction, TransferState
from rnd.protocol.recognition import NONE_PRESENT, PresentRefused, read_present, size_of
from rnd.protocol.sealed_streams import CHUNK_BYTES_MAX, ChunkSealer, SealRefused, SenderSeal
from rnd.protocol.transfer import FRAME_BYTES, OPEN, WINDOW_BYTES, cut_words
from rnd.protocol.transfer_messages import SealShare
from rnd.types.executions import FileEntry
from rnd.types.peers import RejectionCode


class SendTransfer:
    """The sending end, from the offer on, which has been sent when this is made.

    `take` gives the next instruction, one at a time, or `None` while there is something to wait for; ask again whenever
    the machine was told something, and after an end as well: the other side may have to be told. `state`, `code` (of a
    rejection) and `reason` are what has become of it. `entries` are those of its manifest: without them nothing can be left
    out.
    """

    def __init__(
        self,
        offer: Offer,
        *,
        entries: Sequence[FileEntry] = (),
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
        self.present = NONE_PRESENT
        """The entries that are left out, since the receiver has them."""
        self.recognised_bytes = 0
        self.bytes_read = 0
        """How much of what it may have the receiver has looked through, where it says so."""
        self.sealer: ChunkSealer | None = None
        """What seals each frame of a sealed transfer, once it is accepted."""
        self.frame_bytes = frame_bytes if seal is None else min(frame_bytes, CHUNK_BYTES_MAX)
        self._now_bytes = self.frame_bytes
        self._entries = entries
        self._awaits_present = False
        self._leave_out: LeaveOut | None = None
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
        if self._leave_out is not None:
            leave_out, self._leave_out = self._leave_out, None
            return leave_out
        if self.sent == self.stream_bytes and not self._awaits_present:
            self.state = TransferState.ANNOUNCED
            return Complete(transfer_id=self.offer.transfer_id, success=True)
        return self._next_bytes()

    def shorten_frames(self, frame_bytes: int) -> None:
        """Make frames of at most so many bytes from now on, and never of more than was said at first."""
        self._now_bytes = max(1, min(self.frame_bytes, frame_bytes))

    def take_bytes(self, first: SendBytes, *, at_most: int) -> list[SendBytes]:
        """Return `first` and what may be sent right after it, `at_most` so many in all; each counts as taken."""
        taken = [first]
        while len(taken) < at_most and (more := self._next_bytes()):
            taken.append(more)
        return taken

    @property
    def stream_bytes(self) -> int:
        """How long the stream is, without what is left out."""
        return self.offer.stream_bytes - self.recognised_bytes

    @property
    def content_bytes(self) -> int:
        """How much of the content the receiver has said it has, by sending or from before."""
        if self._awaits_present:
            return self.bytes_read
        return self.recognised_bytes + max(0, self.acknowledged - self.offer.manifest_bytes)

    def _next_bytes(self) -> SendBytes | None:
        end = self.offer.manifest_bytes if self._awaits_present else self.stream_bytes
        length = min(self._now_bytes, end - self.sent)
        if length == 0 or self.sent + length - self.acknowledged > self._window_bytes:
            return None
        instruction = SendBytes(stream=self.offer.stream, offset=self.sent, length=length)
        self.sent += length
        return instruction

    def accept(self, offset: int, share: SealShare | None = None, *, present: bytes | None = b"") -> None:
        """The receiver takes it, has the entries that are `present` (`None`: it will say), and everything below `offset` of the
        stream without them; `share` is its part in the seal.
        """
        if self.state not in OPEN:
            return
        if self.state is not TransferState.OFFERED:
            self._object("it accepted the transfer twice")
        elif (
            self._takes_out(present or b"")
            and self._may_begin(offset, present)
            and self._agrees(offset, share, present)
        ):
            self.state = TransferState.STREAMING
            self.sent = self.acknowledged = offset
            self._awaits_present = present is None

    def take_present(self, present: bytes | None, *, bytes_read: int) -> None:
        """The receiver says which entries it has; `None`: it is still looking, and has read so much of its own files."""
        if self.state not in OPEN:
            return
        if not self._awaits_present or self.sent < self.offer.manifest_bytes:
            self._object("it said what it has when nobody waited for that")
        elif not self.bytes_read <= bytes_read <= self.offer.size_bytes:
            self._object(f"it had read {bytes_read:,} bytes of its own after {self.bytes_read:,}")
        else:
            self.bytes_read = bytes_read
            if present is not None and self._takes_out(present):
                self._awaits_present = False

    def _takes_out(self, bits: bytes) -> bool:
        """Take out of the stream what these bits name; false if they cannot be."""
        try:
            self.present = read_present(bits, self._entries)
        except PresentRefused as error:
            self._object(str(error))
            return False
        self.recognised_bytes = size_of(self.present, self._entries)
        if self.present:
            self._leave_out = LeaveOut(present=self.present)
        if self.sealer is not None:
            self.sealer.end_at(self.stream_bytes)
        return True

    def _may_begin(self, offset: int, present: bytes | None) -> bool:
        """Say whether the receiver can want the stream from there on. Who does not know the manifest cannot have content."""
        manifest_bytes = self.offer.manifest_bytes
        if not 0 <= offset <= self.stream_bytes:
            self._object(f"it asked for the stream from {offset:,} on, which has {self.stream_bytes:,} bytes")
        elif (present is None and offset > manifest_bytes) or (present and offset < manifest_bytes):
            self._object(f"it asked for the stream from {offset:,} on, which does not go with the files that it has")
        return self.state in OPEN

    def _agrees(self, offset: int, share: SealShare | None, present: bytes | None) -> bool:
        """Say whether the receiver's part in the seal fits, or whether there is none on either side."""
        try:
            if self._seal is not None:
                self.sealer = self._seal.agree(offset, share, present=present)
                self.sealer.end_at(self.stream_bytes)
            elif share is not None:
                raise SealRefused("it sealed what was not offered sealed")
        except SealRefused as error:
            self._object(str(error))
            return False
        return True

    def reject(self, code: RejectionCode, reason: str) -> None:
        """The receiver does not take it. `done` is as good as an acknowledgement: it arrived before."""
        if self.state not in OPEN:
            return
        if self.state is not TransferState.OFFERED:
            self._object("it rejected a transfer that it had accepted")
            return
        self.state = TransferState.DONE if code is RejectionCode.DONE else TransferState.REJECTED
        self.code = code
        self.reason = cut_words(reason, "the receiver did not say why")

    def acknowledge(self, offset: int) -> None:
        """The receiver has written everything below `offset`."""
        if self.state not in OPEN:
            return
        if self.state is TransferState.OFFERED:
            self._object("it acknowledged bytes before it accepted the transfer")
        elif not self.acknowledged <= offset <= self.sent:
            self._object(f"it acknowledged {offset:,} when {self.acknowledged:,} to {self.sent:,} were possible")
        else:
            self.acknowledged = offset

    def complete(self, *, success: bool, bytes_received: int, error: str | None) -> None:
        """The receiver answers that all is durable, or that it has failed on its side."""
        if self.state not in OPEN:
            return
        if not success:
            self.stop(error or "")
        elif self.state is not TransferState.ANNOUNCED:
            self._object("it called the transfer complete before all was sent")
        elif bytes_received != self.stream_bytes:
            self._object(f"it called {bytes_received:,} of {self.stream_bytes:,} bytes complete")
        else:
            self.state = TransferState.DONE
            self.acknowledged = self.sent

    def stop(self, reason: str) -> None:
        """The receiver says, before all has come, that it has failed on its side."""
        if self.state in OPEN:
            self.state = TransferState.FAILED
            self.reason = cut_words(reason, "the receiver gave up and did not say why")

    def fail(self, reason: str) -> None:
        """What is to be sent cannot be read, or is not what was promised."""
        self._give_up(TransferState.FAILED, reason)

    def call_off(self, reason: str) -> None:
        """Somebody has cancelled it. Where the end was announced it may arrive all the same."""
        self._give_up(TransferState.CALLED_OFF, reason)

    def lose_link(self, reason: str = "the link was lost") -> None:
        """The link is gone; what was to be said cannot be said any more."""
        self._last_words = None
        self.pause(reason)

    def pause(self, reason: str) -> None:
        """No more of it can be sent now; what has come is kept, as far as the receiver knows how to."""
        if self.state in OPEN:
            self.state = TransferState.LINK_LOST
            self.reason = cut_words(reason, "the receiver stands still and did not say why")

    def _object(self, what: str) -> None:
        self._give_up(TransferState.FAILED, f"the receiver broke the rules of a transfer: {what}")

    def _give_up(self, state: TransferState, reason: str) -> None:
        if self.state not in OPEN:
            return
        self._last_words = Complete(transfer_id=self.offer.transfer_id, success=False, error=reason)
        self.state = state
        self.reason = reason
