"""Tells clients what happened: rows of the events table after each commit, and progress that is not worth a row.

A subscription is a cursor over the events table, not a queue: nobody's slowness costs memory or holds up others, and
whoever comes back with `after_seq` misses nothing that is still kept. Recent events are kept in memory so that many
subscribers cost one query a commit.

Progress of transfers is not durable. It carries the seq of the last event that the subscription was sent, so seq never
goes back, and a client that resumes after it misses no durable event. At most `PROGRESS_PER_S` a transfer are sent;
of several that a slow subscriber has not taken, it gets the newest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from rnd.database.connection import Database
from rnd.database.events import list_events, newest_seq, oldest_seq
from rnd.log import get_logger
from rnd.types.enums import EventType
from rnd.types.errors import RndError
from rnd.types.events import Event
from rnd.types.ids import ExecutionId, TransferId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock

PAGE: Final = 500
RECENT_EVENTS: Final = 5_000
PROGRESS_PER_S: Final = 4
MAX_PACED_TRANSFERS: Final = 1_000

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Events that were asked for and are gone: the client has to read the objects anew."""

    after_seq: int
    oldest_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a transfer is; never stored."""

    time: datetime
    execution_id: ExecutionId | None
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a subscription is to be told next; `seq` is where it stands afterwards."""

    events: Sequence[Event]
    progress: Sequence[Progress]
    dropped: Dropped | None
    seq: int


class EventHub:
    """Follows the events table and wakes those who wait for news. `run` belongs into the daemon's TaskGroup."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._recent: deque[Event] = deque()
        self._recent_after = 0  # the events above this seq, up to the newest known, are all in `_recent`
        self._newest = 0
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._subscriptions: set[Subscription] = set()
        self._idle = True
        self._paced: dict[TransferId, float] = {}
        database.on_commit(self._changed.set)

    async def run(self) -> None:
        """Follow the table until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._subscriptions:
                self._idle = True
                continue
            try:
                await self._catch_up()
            except RndError as error:  # nothing is lost: the next commit makes up for it
                log.error(LogEvent.INTERNAL_ERROR, where="following events", exc_info=error)

    def subscribe(
        self, *, types: Collection[EventType], execution_id: ExecutionId | None, after_seq: int
    ) -> Subscription:
        """Return a subscription to what follows `after_seq`; `close` it when it is no longer read."""
        subscription = Subscription(self, self._database, frozenset(types), execution_id, after_seq)
        self._subscriptions.add(subscription)
        self._changed.set()
        return subscription

    async def newest_seq(self) -> int:
        """Return the seq of the newest event that is committed, 0 where there is none yet."""
        return await self._database.read(newest_seq)

    def publish_progress(
        self, transfer_id: TransferId, data: Mapping[str, object], *, execution_id: ExecutionId | None
    ) -> None:
        """Tell subscribers how far a transfer is, at most `PROGRESS_PER_S` times a second a transfer; never waits."""
        if not self._subscriptions:
            return
        now_s = self._clock.monotonic()
        if now_s - self._paced.get(transfer_id, -1.0) < 1 / PROGRESS_PER_S:
            return
        if len(self._paced) >= MAX_PACED_TRANSFERS:
            self._paced = {key: at_s for key, at_s in self._paced.items() if now_s - at_s < 1.0}
        self._paced[transfer_id] = now_s
        progress = Progress(
            time=self._clock.now(), execution_id=execution_id, data={"transfer_id": transfer_id, **data}
        )
        for subscription in self._subscriptions:
            subscription.offer(transfer_id, progress)
        self._wake()

    # ------------------------------------------------------------------ for subscriptions

    def recent_after(self, seq: int) -> Sequence[Event] | None:
        """Return all known events above `seq` from memory, or `None` where memory does not know of that seq."""
        if self._idle or not self._recent_after <= seq <= self._newest:
            return (
                None  # a seq from beyond is news that is on its way, or of another life of this database: the rows tell
            )
        newer: list[Event] = []
        for event in reversed(self._recent):
            if event.seq <= seq:
                break
            newer.append(event)
        return newer[::-1]

    @property
    def news(self) -> asyncio.Event:
        """Return the event that is set by the next news; take it before looking, so that none is missed."""
        return self._news

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)

    # ------------------------------------------------------------------ private

    async def _catch_up(self) -> None:
        if self._idle:
            self._recent.clear()
            self._newest = await self._database.read(newest_seq)
            self._recent_after = self._newest
            self._idle = False
        page = PAGE
        while page == PAGE:
            events = await self._database.read(partial(list_events, after_seq=self._newest, limit=PAGE))
            page = len(events)
            if events:
                self._recent.extend(events)
                self._newest = events[-1].seq
        while len(self._recent) > RECENT_EVENTS:
            self._recent_after = self._recent.popleft().seq
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Subscription:
    """A cursor over the events. `next` is for one reader."""

    def __init__(
        self,
        hub: EventHub,
        database: Database,
        types: frozenset[EventType],
        execution_id: ExecutionId | None,
        after_seq: int,
    ) -> None:
        self._hub = hub
        self._database = database
        self._types = types
        self._execution_id = execution_id
        self._progress: dict[TransferId, Progress] = {}
        self.seq = after_seq

    async def next(self) -> Batch:
        """Wait for news that this subscription is about, and return it."""
        while True:
            news = self._hub.news
            batch = await self._look()
            if batch.events or batch.progress or batch.dropped:
                return batch
            await news.wait()

    async def poll(self) -> Batch:
        """Return what there is to tell now, from the table itself; perhaps nothing."""
        return await self._database.read(self._read_page)

    def offer(self, transfer_id: TransferId, progress: Progress) -> None:
        """Take a transfer's progress if the subscription is about it; a newer one replaces one not yet taken."""
        wanted = not self._types or EventType.TRANSFER_PROGRESS in self._types
        if wanted and self._execution_id in (None, progress.execution_id):
            self._progress[transfer_id] = progress

    def close(self) -> None:
        """End the subscription."""
        self._hub.drop(self)

    async def _look(self) -> Batch:
        recent = self._hub.recent_after(self.seq)
        batch = await self.poll() if recent is None else self._of_recent(recent)
        self.seq = batch.seq
        if batch.events or batch.dropped:
            return batch
        progress, self._progress = tuple(self._progress.values()), {}
        return Batch(events=(), progress=progress, dropped=None, seq=self.seq)

    def _of_recent(self, recent: Sequence[Event]) -> Batch:
        events = [event for event in recent if self._wants(event)]
        return Batch(events=events, progress=(), dropped=None, seq=recent[-1].seq if recent else self.seq)

    def _wants(self, event: Event) -> bool:
        return (not self._types or event.type in self._types) and (
            self._execution_id is None or event.execution_id == self._execution_id
        )

    def _read_page(self, conn: sqlite3.Connection) -> Batch:
        newest = newest_seq(conn)
        oldest = oldest_seq(conn)
        dropped = None
        after = self.seq
        if after > newest:  # the client speaks of another life of this database
            dropped = Dropped(after_seq=after, oldest_seq=oldest)
            after = newest
        elif after + 1 < oldest:
            dropped = Dropped(after_seq=after, oldest_seq=oldest)
        events = list_events(
            conn,
            after_seq=after,
            types=self._types or None,
            execution_id=self._execution_id,
            limit=PAGE,
        )
        seq = events[-1].seq if len(events) == PAGE else max(after, newest)
        return Batch(events=events, progress=(), dropped=dropped, seq=seq)
