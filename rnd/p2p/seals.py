"""This peer's part in sealed transfers: fresh keys signed with its identity, and sealed frames opened where threads work
(docs/wire.md, section 5, Sealed transfers).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from rnd.p2p.identity import Identity
from rnd.protocol.frames import Frame
from rnd.protocol.instructions import Offer, ReceiveInstruction, Unseal
from rnd.protocol.sealed_streams import ChunkOpener, ReceiverSeal, SenderSeal, Ways, answer_seal
from rnd.protocol.sealing import KEY_BYTES, TAG_BYTES
from rnd.protocol.transfer_messages import SealShare
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.types.ids import PeerId
from rnd.types.seams import Entropy

ENTRIES_AT_ONCE: Final = 1_000
"""How many entries a delivery may have whose frames the machine is told of on the event loop: each may cost 5 microseconds."""

T = TypeVar("T")


class InThread(Protocol):
    """Does work in a thread and returns or raises what it does."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Seals:
    """Makes this peer's part in the seal of each attempt."""

    def __init__(self, identity: Identity, entropy: Entropy) -> None:
        self._identity = identity
        self._entropy = entropy

    def offer(self, offer: Offer, receiver: PeerId) -> SenderSeal | None:
        """Return the sender's part; `None` where the offer is of an open transfer."""
        if not offer.encrypted:
            return None
        ways = Ways(sender=self._identity.peer_id, receiver=receiver)
        secret = self._entropy.random_bytes(KEY_BYTES)
        return SenderSeal(offer, ways, secret=secret, sign=self._identity.sign)

    def answer(self, offer: Offer, sender: PeerId, theirs: SealShare | None) -> ReceiverSeal | None:
        """Return the receiver's part; `None` where the offer is of an open transfer. Raises `SealRefused`."""
        ways = Ways(sender=sender, receiver=self._identity.peer_id)
        secret = self._entropy.random_bytes(KEY_BYTES)
        return answer_seal(offer, ways, theirs, secret=secret, sign=self._identity.sign)


class Unsealing:
    """Hands the frames of one delivery to its machine, and has sealed ones opened in a thread.

    The machine is told in a thread as well where the delivery has many entries: one frame may bring or end all of them.
    One buffer serves all sealed frames. The machine reads the bytes of a manifest, so these are opened before it is told of them;
    of content it only has to know how much it is, so that is opened right before it is hashed and written.
    """

    def __init__(self, machine: ReceiveTransfer, in_thread: InThread) -> None:
        self._machine = machine
        self._in_thread = in_thread
        self._plain = memoryview(b"")

    async def take_frame(self, frame: Frame) -> list[ReceiveInstruction]:
        """Return what follows from a frame. Carry it out before the thread is given anything else. Raises `SealBroken`."""
        machine = self._machine
        if machine.opener is None:
            return await self._tell(frame)
        plain = Frame(stream=frame.stream, offset=frame.offset, payload=self._room(len(frame.payload) - TAG_BYTES))
        unseal = _unseal(machine.opener, frame, plain)
        is_due = bool(plain.payload) and frame.offset == machine.received
        if is_due and machine.received < machine.offer.manifest_bytes:
            await self._in_thread(unseal.open)
            return await self._tell(plain)
        before = machine.received
        instructions = await self._tell(plain)
        # What was taken is to be opened, also where the link was lost meanwhile: a next one goes on behind it.
        return [unseal, *instructions] if machine.received > before else instructions

    async def _tell(self, frame: Frame) -> list[ReceiveInstruction]:
        if self._machine.offer.entry_count <= ENTRIES_AT_ONCE:
            return self._machine.take_frame(frame)
        return await self._in_thread(partial(self._machine.take_frame, frame))

    def _room(self, length: int) -> memoryview:
        if length > len(self._plain):
            self._plain = memoryview(bytearray(length))
        return self._plain[: max(0, length)]


def _unseal(opener: ChunkOpener, frame: Frame, plain: Frame) -> Unseal:
    return Unseal(open=partial(opener.open, frame.payload, offset=frame.offset, into=plain.payload))
