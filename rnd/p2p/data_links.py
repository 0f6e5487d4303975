"""The links on which bytes go: dialled by who expects them, kept while they are expected (docs/wire.md, section 1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from rnd.p2p.link import Link
from rnd.p2p.peer_book import PeerBook
from rnd.protocol.session import CloseCode
from rnd.types.errors import ApplicationError, PeerRefused, PeerUnreachable
from rnd.types.ids import PeerId

RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 60.0
BRIEF_PAUSE_S: Final = 2.0
"""How long to wait before a peer is dialled again whose link ended soon after it was open."""
DIAL_AFTER_S: Final = 3.0
"""How long a sender waits for its receiver to dial before it does so itself."""
IDLE_S: Final = 60.0

Dial = Callable[[PeerId], Awaitable[Link]]
TryDial = Callable[[PeerId], Awaitable[ApplicationError | None]]


class DataLinks:
    """Holds the data links to all peers, open or about to be."""

    def __init__(self, book: PeerBook, *, dial: Dial, try_dial: TryDial, jittered: Callable[[float], float]) -> None:
        """`dial` opens a link or raises `PeerUnreachable` or `PeerRefused`, `try_dial` returns why it could not be, if so;
        `jittered` shakes a pause.
        """
        self._book = book
        self._dial = dial
        self._try_dial = try_dial
        self._jittered = jittered
        self._links: dict[PeerId, list[Link]] = {}
        self._came: dict[PeerId, asyncio.Event] = {}
        self._wanted: set[PeerId] = set()
        self._dialling: set[PeerId] = set()
        self._pauses_s: dict[PeerId, float] = {}
        """How long to wait before each peer is dialled that was dialled in vain, or did not keep the link."""
        self._failures: dict[PeerId, str] = {}
        """Why each peer that is expected to send could not be dialled last."""
        self._dials: dict[PeerId, asyncio.Future[Link]] = {}
        self.group: asyncio.TaskGroup | None = None
        """Where dialling goes on; `None` while nothing is dialled."""

    def all(self) -> list[Link]:
        """Return every link."""
        return [link for links in self._links.values() for link in links]

    def add(self, link: Link) -> None:
        """Hold a link, which is not open yet."""
        self._links.setdefault(link.peer_id, []).append(link)

    def wake(self, peer_id: PeerId) -> None:
        """Wake who waits for a link to a peer: one is open, or it has just said where it is to be dialled."""
        self._came_from(peer_id).set()

    def drop(self, link: Link) -> None:
        """Forget a link that has ended; dial anew if more is expected over it."""
        links = self._links.get(link.peer_id, [])
        if link in links:
            links.remove(link)
        if not links:
            self._links.pop(link.peer_id, None)
        if link.was_steady:
            self._pauses_s.pop(link.peer_id, None)
        elif link.theirs is not None:
            self._pauses_s[link.peer_id] = BRIEF_PAUSE_S
        if link.peer_id in self._wanted:
            self._keep(link.peer_id)

    def expect_from(self, peer_ids: Iterable[PeerId]) -> None:
        """Keep links to these peers, dialled from here, and to no others for longer than they are used."""
        wanted = dict.fromkeys(peer_ids)  # in their order, which a set would lose
        self._wanted = set(wanted)
        self._failures = {peer_id: words for peer_id, words in self._failures.items() if peer_id in wanted}
        for peer_id in wanted:
            self._keep(peer_id)

    def is_open(self, peer_id: PeerId) -> bool:
        """Say whether a link to a peer is up."""
        return bool(self._open(peer_id))

    def last_failure(self, peer_id: PeerId) -> str:
        """Return why the last dial to a peer that is expected to send failed; "" if it did not."""
        return self._failures.get(peer_id, "")

    async def get(self, peer_id: PeerId) -> Link:
        """Return an open link to a peer, one on which it is the client if there is one; the newest, since who dials again has
        lost the one before.

        A receiver is expected to dial; if it does not soon, this side does. Raises `PeerUnreachable`, `PeerRefused`.
        """
        deadline = asyncio.get_running_loop().time() + DIAL_AFTER_S
        while not (links := self._open(peer_id)):
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s > 0:
                await self._await_open(peer_id, left_s)
                continue
            try:
                return await self._reach(peer_id)
            except (PeerUnreachable, PeerRefused):
                if not self._open(peer_id):  # it may have dialled meanwhile
                    raise
        return min(reversed(links), key=lambda link: link.dialled)

    async def _reach(self, peer_id: PeerId) -> Link:
        """Dial a peer, once for all who want to reach it now: it takes a bounded number of connections."""
        under_way = self._dials.get(peer_id)
        if under_way is not None:
            return await asyncio.shield(under_way)
        under_way = self._dials[peer_id] = asyncio.get_running_loop().create_future()
        try:
            link = await self._dial(peer_id)
        except BaseException as error:
            told = error if isinstance(error, ApplicationError) else PeerUnreachable("the dial was called off")
            under_way.set_exception(told)
            under_way.exception()  # nobody else may have waited for it
            raise
        else:
            under_way.set_result(link)
            return link
        finally:
            del self._dials[peer_id]

    def close_idle(self) -> None:
        """Close what has carried nothing for long and is expected to carry nothing."""
        now_s = asyncio.get_running_loop().time()
        for link in self.all():
            is_idle = link.is_open and not link.deliveries and now_s - link.used_at_s > IDLE_S
            if is_idle and link.peer_id not in self._wanted:
                link.close(CloseCode.DONE)

    def _open(self, peer_id: PeerId) -> list[Link]:
        return [link for link in self._links.get(peer_id, ()) if link.is_open]

    def _keep(self, peer_id: PeerId) -> None:
        """Have one task, and no more, dial a peer."""
        if self.group is not None and peer_id not in self._dialling and not self._open(peer_id):
            self._dialling.add(peer_id)
            self.group.create_task(self._dial_until_open(peer_id))

    def _is_missed(self, peer_id: PeerId) -> bool:
        return peer_id in self._wanted and self._book.is_welcome(peer_id) and not self._open(peer_id)

    async def _dial_until_open(self, peer_id: PeerId) -> None:
        """Dial a peer that is to send bytes, again and again while they are expected; the sender may come itself."""
        try:
            while self._is_missed(peer_id):
                pause_s = self._pauses_s.get(peer_id, 0.0)
                if pause_s:
                    await self._await_open(peer_id, self._jittered(pause_s))
                self._pauses_s[peer_id] = min(max(RETRY_FIRST_S, 2 * pause_s), RETRY_MOST_S)
                if self._is_missed(peer_id):
                    error = await self._try_dial(peer_id)
                    self._failures[peer_id] = "" if error is None else error.message
        finally:
            self._dialling.discard(peer_id)

    async def _await_open(self, peer_id: PeerId, timeout_s: float) -> None:
        """Return when some link to a peer is open, or when the time is up."""
        came = self._came_from(peer_id)
        came.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await came.wait()

    def _came_from(self, peer_id: PeerId) -> asyncio.Event:
        return self._came.setdefault(peer_id, asyncio.Event())
