"""One delivery that another peer is making to this one, and all of them: who has which place (document: Transfer Acceptance)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Final, TypeVar

from rnd.database.duties import OpenDuty
from rnd.p2p.copying_places import COPYING_MAX
from rnd.p2p.link import Link
from rnd.p2p.seals import Unsealing
from rnd.protocol.frames import Frame
from rnd.protocol.instructions import Complete, Offer
from rnd.protocol.transfer import ENDED
from rnd.protocol.transfer_messages import DataTransferComplete
from rnd.protocol.transfer_receiving import ReceiveTransfer
from rnd.types.errors import ToldToStop
from rnd.types.ids import PeerId, TransferId
from rnd.workers.delivery_log import ReceiverLog
from rnd.workers.pace import Pace
from rnd.workers.receiving import Receiving

INCOMING_MAX: Final = 64
"""How many deliveries come in at once, and one more of each sender that has none; others are asked to come again."""
INCOMING_OF_ONE_SENDER: Final = 8
INCOMING_FOR_ONE_ORDERER: Final = 16
"""For jobs that one other peer has ordered: it decides who sends to them, and may have made those up."""
NOTE_LAG_BYTES: Final = 6 << 20
NOTE_LAG_SHARE: Final = 40
"""How much may have come that is not noted as durable: so many bytes, or this part of all of them."""

T = TypeVar("T")

DutyKey = tuple[str, str, int]
"""What a duty is known by: its orchestrator, its execution's uid, its connection."""


@dataclass(slots=True)
class Reception:
    """One delivery that is coming in over one link."""

    link: Link
    offer: Offer
    machine: ReceiveTransfer
    unsealing: Unsealing
    receiving: Receiving
    lines: ReceiverLog
    idle_s: float
    dest_row: OpenDuty
    noted: int
    """How much of the stream was durable when that was last noted."""
    pace: Pace
    queue: deque[Frame | DataTransferComplete] = field(default_factory=deque)
    queued_bytes: int = 0
    looked_through_bytes: int = 0
    """How much has been read of what may be here already, until it is known what is."""
    noting: asyncio.Task[None] | None = None
    acknowledged_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When the sender was last told how far it is because time had passed, by the event loop's clock."""
    told_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    """When the row was last told how far it is, by the event loop's clock."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Complete | None = None
    called_off: str = ""

    def is_called_off(self) -> bool:
        """Say whether nothing more of it is to be taken; `called_off` says why."""
        return bool(self.called_off)

    def is_taken(self) -> bool:
        """Say whether more of it may come."""
        return not self.is_called_off() and self.machine.state not in ENDED

    @property
    def bytes_done(self) -> int:
        """How much of the content is here, as far as is known."""
        return max(self.looked_through_bytes, self.machine.content_bytes)

    @property
    def behind_bytes(self) -> int:
        """How much has come that is not noted as durable."""
        return self.machine.received - self.noted

    @property
    def lag_bytes(self) -> int:
        """How much that may be before it is waited for."""
        return max(NOTE_LAG_BYTES, self.offer.size_bytes // NOTE_LAG_SHARE)


class Receptions:
    """All deliveries that are coming in, by their streams and by the duties that they fill."""

    def __init__(self, self_peer_id: PeerId) -> None:
        self._self_peer_id = self_peer_id
        self._by_stream: dict[tuple[Link, int], Reception] = {}
        self._by_duty: dict[DutyKey, Reception] = {}
        self._held: set[DutyKey] = set()

    def __iter__(self) -> Iterator[Reception]:
        return iter(list(self._by_stream.values()))

    def add(self, reception: Reception) -> None:
        """Give a delivery its place."""
        self._by_stream[reception.link, reception.offer.stream] = reception
        self._by_duty[key_of(reception.offer)] = reception

    def forget(self, reception: Reception) -> None:
        """Take the place of a delivery back, if it is not another's by now."""
        if self._by_stream.get((reception.link, reception.offer.stream)) is reception:
            del self._by_stream[reception.link, reception.offer.stream]
        key = key_of(reception.offer)
        if self._by_duty.get(key) is reception:
            del self._by_duty[key]

    def of_stream(self, link: Link, stream: int) -> Reception | None:
        """Return the delivery that a frame belongs to."""
        return self._by_stream.get((link, stream))

    def find(self, link: Link, transfer_id: TransferId) -> Reception | None:
        """Return the delivery of this id that comes over this link."""
        return next((each for each in self if each.link is link and each.offer.transfer_id == transfer_id), None)

    @contextmanager
    def holding(self, key: DutyKey) -> Iterator[None]:
        """Let nobody else fill a duty while what has come of it is looked at or put away."""
        self._held.add(key)
        try:
            yield
        finally:
            self._held.discard(key)

    def is_in_hand(self, key: DutyKey) -> bool:
        """Say whether somebody fills a duty, or holds it."""
        return key in self._by_duty or key in self._held

    def is_free(self, link: Link, offer: Offer) -> bool:
        """Say whether neither the stream of an offer nor its duty is in use."""
        return (link, offer.stream) not in self._by_stream and not self.is_in_hand(key_of(offer))

    def has_place(self, sender: PeerId, offer: Offer) -> bool:
        """Say whether one more delivery may come in; nobody takes the places of others."""
        orderer = offer.ends.ordering_peer_id
        of_sender = sum(each.link.peer_id == sender for each in self._by_stream.values())
        for_orderer = sum(each.offer.ends.ordering_peer_id == orderer for each in self._by_stream.values())
        if of_sender >= INCOMING_OF_ONE_SENDER:
            return False
        if for_orderer >= INCOMING_FOR_ONE_ORDERER and orderer != self._self_peer_id:
            return False
        return len(self._by_stream) < INCOMING_MAX or not of_sender

    def queued_bytes(self) -> int:
        """Return how much of all deliveries waits in memory for the disk."""
        return sum(each.queued_bytes for each in self._by_stream.values() if each.is_taken())


class ReceivingThreads:
    """Where the disk work of deliveries is done. What may take long has threads of its own, so that nobody's bytes wait for it."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="rnd-receiving")
        self._stopping = threading.Event()
        self._is_shut = False
        self._copying = ThreadPoolExecutor(COPYING_MAX, thread_name_prefix="rnd-copying")

    async def do(self, work: Callable[[], T]) -> T:
        """Do work in a thread; return or raise what it does. Raises `ToldToStop` where nothing more is begun, as the others do."""
        return await self._begin(self._pool, work)

    async def do_long(self, work: Callable[[], T]) -> T:
        """Do what may read a whole delivery in a thread of those that copy."""
        return await self._begin(self._copying, work)

    def begin_copying(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begin to copy in a thread. That goes on when nobody waits for it any more: tell it to stop."""
        return self._begin(self._copying, work)

    def is_stopping(self) -> bool:
        """Say whether what takes long is to end where it stands, and to leave what is on the disk."""
        return self._stopping.is_set()

    def tell_to_stop(self) -> None:
        """Have what takes long end."""
        self._stopping.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self.tell_to_stop()
        self._is_shut = True
        for pool in (self._pool, self._copying):
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._is_shut:
            raise ToldToStop("this peer is stopping")
        # What the thread logs is about the same run.
        return asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)


def key_of(offer: Offer) -> DutyKey:
    """Return what the duty of an offer is known by."""
    ends = offer.ends
    return ends.ordering_peer_id, ends.execution_uid, ends.connection_id
