"""Both ends of a transfer with each other: whatever the order of things and however often the link is lost, it arrives."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.frames import HEADER_BYTES, read_frame, write_header
from rnd.protocol.instructions import (
    Accept,
    Acknowledge,
    Complete,
    Finish,
    Kept,
    LeaveOut,
    ReceiveInstruction,
    Recognise,
    Reject,
    SendBytes,
    Stop,
    TellPresent,
    TransferState,
)
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.protocol.transfer_sending import SendTransfer
from rnd.types.peers import RejectionCode
from tests.protocol.parcels import DUTY, SENDER, Parcel, Shelf, parcels

WINDOW_BYTES = 60
FRAME_BYTES = 20


@dataclass(slots=True)
class Link:
    """One link between the two ends: what each has sent and the other has not got yet."""

    parcel: Parcel
    shelf: Shelf
    kept: Kept | None
    here: frozenset[int] | None = None
    """What the receiver has from before, if it looks at all."""
    stream: bytes = b""
    sender: SendTransfer = field(init=False)
    receiver: ReceiveTransfer = field(init=False)
    there: deque[bytearray | Complete] = field(default_factory=deque)
    back: deque[ReceiveInstruction] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.stream = self.parcel.stream
        self.sender = SendTransfer(
            self.parcel.offer, entries=self.parcel.entries, window_bytes=WINDOW_BYTES, frame_bytes=FRAME_BYTES
        )
        self.receiver = ReceiveTransfer(
            self.parcel.offer,
            DUTY,
            sender_peer_id=SENDER,
            kept=self.kept,
            recognises=self.here is not None,
            ack_bytes=WINDOW_BYTES - FRAME_BYTES,
        )
        self._act(self.receiver.begin())

    def step(self, choice: int) -> bool:
        """Do one thing of three, or the first that can be done; say whether there was any."""
        things = [self._send, self._arrive_there, self._arrive_back]
        return any(do() for do in things[choice:] + things[:choice])

    def lose(self) -> None:
        self.sender.lose_link()
        self.receiver.lose_link()

    def _send(self) -> bool:
        instruction = self.sender.take()
        match instruction:
            case LeaveOut(present=present):
                self.stream = self.parcel.stream_without(present)
            case SendBytes(stream=stream, offset=offset, length=length):
                message = bytearray(HEADER_BYTES) + self.stream[offset : offset + length]
                write_header(message, stream=stream, offset=offset)
                self.there.append(message)
            case Complete():
                self.there.append(instruction)
        assert self.sender.sent - self.sender.acknowledged <= WINDOW_BYTES
        return instruction is not None

    def _arrive_there(self) -> bool:
        if not self.there:
            return False
        message = self.there.popleft()
        if isinstance(message, Complete):
            self._act(self.receiver.take_complete(success=message.success, error=message.error))
        else:
            self._act(self.receiver.take_frame(read_frame(message)))
        return True

    def _arrive_back(self) -> bool:
        if not self.back:
            return False
        match self.back.popleft():
            case Accept(offset=offset, present=present):
                self.sender.accept(offset, present=present)
            case TellPresent(bytes_read=bytes_read, present=present):
                self.sender.take_present(present, bytes_read=bytes_read)
            case Reject(code=code, reason=reason):
                self.sender.reject(code, reason)
            case Acknowledge(offset=offset):
                self.sender.acknowledge(offset)
            case Complete(success=success, bytes_received=bytes_received, error=error):
                self.sender.complete(success=success, bytes_received=bytes_received, error=error)
            case Stop(reason=reason):
                self.sender.stop(reason)
        return True

    def _act(self, instructions: list[ReceiveInstruction]) -> None:
        self.shelf.carry_out(instructions)
        if any(isinstance(step, Recognise) for step in instructions):
            assert self.here is not None
            self.shelf.fill(self.parcel, self.here)
            size_bytes = sum(self.parcel.entries[index].size_bytes for index in self.here)
            self._act(self.receiver.recognise(self.here, bytes_read=size_bytes))
        if Finish() in instructions:
            instructions = self.receiver.mark_finished()
        self.back.extend(
            step
            for step in instructions
            if isinstance(step, (Accept, TellPresent, Reject, Acknowledge, Stop, Complete))
        )


def what_is_here(data: st.DataObject, parcel: Parcel) -> frozenset[int] | None:
    """Draw what a receiver has from before: any of the files with content, none of them, or nothing to look at."""
    files = sorted(parcel.indices_of(parcel.content))
    some = st.frozensets(st.sampled_from(files)) if files else st.just(frozenset[int]())
    return data.draw(some | st.none(), "here")


@given(
    parcels(),
    st.lists(st.lists(st.integers(0, 2), max_size=40), max_size=5),
    st.lists(st.integers(0, 2)),
    st.data(),
)
def test_whatever_is_lost_on_the_way_it_arrives(
    parcel: Parcel, lost: list[list[int]], choices: list[int], data: st.DataObject
) -> None:
    shelf = Shelf()
    kept = None
    for schedule in [*lost, None]:
        link = Link(parcel, shelf, kept, what_is_here(data, parcel))
        if schedule is None:
            turns = iter(choices)
            while link.step(next(turns, 0)):
                pass
        else:
            for choice in schedule:
                link.step(choice)
            link.lose()
        if link.receiver.state is TransferState.DONE:
            break
        kept = link.receiver.kept
    assert shelf.holds(parcel)
    assert link.receiver.state is TransferState.DONE
    if link.sender.state is TransferState.LINK_LOST:
        link.sender = SendTransfer(parcel.offer)
        link.sender.reject(RejectionCode.DONE, "it arrived before")
    assert link.sender.state is TransferState.DONE


@given(parcels(), st.data())
def test_what_is_here_is_never_sent(parcel: Parcel, data: st.DataObject) -> None:
    here = what_is_here(data, parcel)
    link = Link(parcel, shelf := Shelf(), None, here)
    while link.step(0):
        pass
    assert shelf.holds(parcel)
    assert link.sender.state is link.receiver.state is TransferState.DONE
    assert link.sender.sent == len(parcel.stream_without(here or ()))
    assert link.sender.content_bytes == link.receiver.content_bytes == parcel.offer.size_bytes
