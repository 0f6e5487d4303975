"""The sending end of a transfer, as a machine (document: Transfer Protocol; docs/wire.md, section 5)."""

from __future__ import annotations

from rnd.protocol.frames import PAYLOAD_BYTES_MAX
from rnd.protocol.instructions import Complete, Offer, SendBytes, SendInstruction, TransferState
from rnd.protocol.sealed_streams import CHUNK_BYTES_MAX, ChunkSealer, SealRefused, SenderSeal
from rnd.protocol.transfer import FRAME_BYTES, OPEN, WINDOW_BYTES, cut_words
from rnd.protocol.transfer_messages import SealShare
from rnd.types.peers import RejectionCode


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
        if self.state not in OPEN:
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
        elif bytes_received != self.offer.stream_bytes:
            self._object(f"it called {bytes_received:,} of {self.offer.stream_bytes:,} bytes complete")
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

    def lose_link(self) -> None:
        """The link is gone; what was to be said cannot be said any more."""
        self._last_words = None
        if self.state in OPEN:
            self.state = TransferState.LINK_LOST
            self.reason = "the link was lost"

    def _object(self, what: str) -> None:
        self._give_up(TransferState.FAILED, f"the receiver broke the rules of a transfer: {what}")

    def _give_up(self, state: TransferState, reason: str) -> None:
        if self.state not in OPEN:
            return
        self._last_words = Complete(transfer_id=self.offer.transfer_id, success=False, error=reason)
        self.state = state
        self.reason = reason
