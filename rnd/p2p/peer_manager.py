"""The PeerManager: links to other peers, from the first dial to the last word (document: Architecture; design: Peers).

One control link a pair, kept up by whoever can dial; data links as bytes are expected. Who speaks on them is known by
key; whether it may is looked up in the PeerBook at every message. Handlers are given by those whose messages they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from rnd.database import address_records, peers
from rnd.database.connection import Database
from rnd.log import get_logger
from rnd.p2p.data_links import BRIEF_PAUSE_S, RETRY_FIRST_S, RETRY_MOST_S, DataLinks
from rnd.p2p.dialing import Dialer
from rnd.p2p.link import FRAME_BYTES_MAX, TEXT_BYTES_MAX, Link, LinkKind
from rnd.p2p.link_watch import WebSocket
from rnd.p2p.listener import PeerListener, peer_of
from rnd.p2p.peer_book import PeerBook
from rnd.protocol.address_records import verify_record
from rnd.protocol.messages import Hello, Message, Ping, Refusal
from rnd.protocol.session import CloseCode, ControlLink, newcomer_stays
from rnd.rules.addresses import PeerAddress, parse_peer_address
from rnd.rules.policy import Standing
from rnd.types.errors import (
    ApplicationError,
    Conflict,
    DatabaseGone,
    DatabaseNotNow,
    LimitExceeded,
    MalformedAddresses,
    NotAdmitted,
    NotFound,
    PeerRefused,
    PeerUnreachable,
    PermissionDenied,
    RndError,
    StaleState,
)
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.peers import AddressRecord, Caller, RefusalCode
from rnd.types.seams import Clock, Entropy

CONNECT_TIMEOUT_S: Final = 15.0
"""How long a question waits for a link that is not there yet."""
PING_EVERY_S: Final = 30.0
PING_TIMEOUT_S: Final = 10.0
REFRESH_EVERY_S: Final = 5.0
REACH_TIMEOUT_S: Final = 5.0
STRANGERS_TOLD_MAX: Final = 200
"""How many strangers' addresses are kept of those that one peer passes on: twice as many as a message may have."""
GOODBYE_S: Final = 1.0
"""How long a peer that stops waits for its links to close."""

AnswerTo = Callable[[PeerId, Message], Awaitable[Message]]
AnswerOnLink = Callable[[Link, Message], Awaitable[Message]]
TakeFrom = Callable[[Link, Message], None]
TakeFrame = Callable[[Link, bytes], None]

log = get_logger()


@dataclass(slots=True)
class _Contact:
    """What is known of reaching one peer. `kick` ends the pause before the next dial; `failure` is the last one's.

    `dials` counts the dials for its control link, and `turned_away` is the last of them that the peer itself refused.
    `news` is set by a link that is up and by a dial that was refused.
    `was_brief`: the last link ended as soon as it was open, so the next dial waits for its pause.
    """

    kick: asyncio.Event
    news: asyncio.Event
    failure: str = ""
    dials: int = 0
    turned_away: int = 0
    pause_s: float = RETRY_FIRST_S
    was_brief: bool = False
    keeper: asyncio.Task[None] | None = None


class PeerManager:
    """Holds every link and speaks on it."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        entropy: Entropy,
        dialer: Dialer,
        book: PeerBook,
        hello: Callable[[], Hello],
        peer_id: PeerId,
    ) -> None:
        """`hello` makes this side's greeting, with its addresses of now."""
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._dialer = dialer
        self._book = book
        self._hello = hello
        self._peer_id = peer_id
        self._control: dict[PeerId, Link] = {}
        self._data = DataLinks(
            book,
            dial=lambda peer_id: self._dial(peer_id, LinkKind.DATA),
            try_dial=lambda peer_id: self._try_dial(peer_id, LinkKind.DATA),
            jittered=self._jittered,
        )
        self._contacts: dict[PeerId, _Contact] = {}
        self._answers: dict[type[Message], AnswerTo] = {}
        self._link_answers: dict[type[Message], AnswerOnLink] = {}
        self._takers: dict[type[Message], TakeFrom] = {}
        self._take_frame: TakeFrame = lambda _link, _frame: None
        self._on_link_lost: list[Callable[[Link], None]] = []
        self._on_connected: list[Callable[[PeerId], None]] = []
        self._link_ended = asyncio.Event()
        self._on_reached: list[Callable[[PeerId], None]] = []
        self._group: asyncio.TaskGroup | None = None
        self.listener: PeerListener | None = None
        book.on_change = self._peers_changed

    # ---- who handles what

    def answer_with(self, handlers: Mapping[type[Message], AnswerTo]) -> None:
        """Have these requests answered so."""
        self._answers.update(handlers)

    def answer_on_links(self, handlers: Mapping[type[Message], AnswerOnLink]) -> None:
        """Have these requests answered so, where it matters over which link they came."""
        self._link_answers.update(handlers)

    def take_with(self, takers: Mapping[type[Message], TakeFrom], take_frame: TakeFrame) -> None:
        """Have messages that want no answer, and frames, taken so."""
        self._takers.update(takers)
        self._take_frame = take_frame

    def when_lost(self, tell: Callable[[Link], None]) -> None:
        """Have `tell` called with every link that ends."""
        self._on_link_lost.append(tell)

    def when_connected(self, tell: Callable[[PeerId], None]) -> None:
        """Have `tell` called when a peer's control link is up."""
        self._on_connected.append(tell)

    def when_reached(self, tell: Callable[[PeerId], None]) -> None:
        """Have `tell` called when any link to a peer is up (introduced ones have data links alone), or its address is new."""
        self._on_reached.append(tell)

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the listener's routes for links."""
        return (web.get(LinkKind.CONTROL, self._accept), web.get(LinkKind.DATA, self._accept))

    # ---- questions

    def is_connected(self, peer_id: PeerId) -> bool:
        """Say whether the control link to a peer is up."""
        link = self._control.get(peer_id)
        return link is not None and link.is_open

    def connected(self) -> list[PeerId]:
        """Return the peers whose control link is up."""
        return [peer_id for peer_id, link in self._control.items() if link.is_open]

    def rtt_s(self, peer_id: PeerId) -> float | None:
        """Return how long the last ping took; `None` without a link."""
        link = self._control.get(peer_id)
        return None if link is None else link.rtt_s

    def own_name(self, peer_id: PeerId) -> str:
        """Return what a linked peer calls itself; "" without a link."""
        link = self._control.get(peer_id)
        return "" if link is None or link.theirs is None else link.theirs.name

    def last_failure(self, peer_id: PeerId) -> str:
        """Return why the last dial to a peer failed; "" if it did not."""
        contact = self._contacts.get(peer_id)
        return "" if contact is None else contact.failure

    def why_away(self, peer_id: PeerId) -> str:
        """Return why nothing could be said to a peer now; "" while any link to it is up."""
        if self.is_connected(peer_id) or self._data.is_open(peer_id):
            return ""
        return self.last_failure(peer_id) or self._data.last_failure(peer_id) or "it has not come, and was not dialled"

    async def ask(
        self, peer_id: PeerId, message: Message, *, timeout_s: float, connect_s: float = CONNECT_TIMEOUT_S
    ) -> Message:
        """Ask an allowed peer over its control link, waiting for the link if need be.

        Raises `PeerUnreachable`, `PeerRefused`, `TimedOut`.
        """
        link = await self._reach(peer_id, connect_s)
        return await link.ask(message, timeout_s=timeout_s)

    async def ask_by_any(self, peer_id: PeerId, message: Message, *, timeout_s: float) -> Message:
        """Ask over the control link of an allowed peer, else over a data link: for what introduced peers say."""
        if self._book.is_allowed(peer_id):
            return await self.ask(peer_id, message, timeout_s=timeout_s)
        link = await self.data_link(peer_id)
        return await link.ask(message, timeout_s=timeout_s)

    async def _reach(self, peer_id: PeerId, connect_s: float) -> Link:
        link = self._control.get(peer_id)
        if link is not None and link.is_open:
            return link
        if not self._book.is_allowed(peer_id):
            raise PeerUnreachable(f"peer {peer_id} is not allowed here", hint="peer.set_state or peer.join allows it.")
        contact = self._contact(peer_id)
        contact.kick.set()
        before = contact.dials
        try:
            async with asyncio.timeout(connect_s):
                while (link := self._control.get(peer_id)) is None or not link.is_open:
                    if contact.turned_away > before:
                        raise NotAdmitted(contact.failure)
                    contact.news.clear()
                    await contact.news.wait()
        except TimeoutError:
            raise PeerUnreachable(contact.failure or f"no link to {peer_id} within {connect_s:g} s") from None
        return link

    # ---- data links

    def expect_bytes_from(self, peer_ids: Iterable[PeerId]) -> None:
        """Keep data links to these peers, dialled from here, and to no others for longer than they are used."""
        self._data.expect_from(peer_ids)

    async def data_link(self, peer_id: PeerId) -> Link:
        """Return an open data link to a peer. Raises `PeerUnreachable`, `PeerRefused`."""
        return await self._data.get(peer_id)

    async def why_unreachable(self, peer_id: PeerId) -> str | None:
        """Return why a peer cannot be dialled from here; `None` if it can: whether it admits this one is another matter."""
        if self.is_connected(peer_id):
            return None
        try:
            addresses = await self._addresses(peer_id)
            websocket, _ = await self._dialer.dial(
                peer_id, addresses, LinkKind.DATA, max_message_bytes=TEXT_BYTES_MAX, timeout_s=REACH_TIMEOUT_S
            )
        except PeerRefused:
            return None  # it has proven its key, and answered
        except PeerUnreachable as error:
            return error.message
        await websocket.close()
        return None

    def own_record(self) -> AddressRecord | None:
        """Return where this peer says it can be reached."""
        return self._hello().addresses

    # ---- living

    async def run(self) -> None:
        """Keep the links until cancelled; then say goodbye on each."""
        async with asyncio.TaskGroup() as group:
            self._group = self._data.group = group
            try:
                self._peers_changed()
                group.create_task(self._ping_all())
                await self._keep_book()
            finally:
                # The links live in the group, which ends with this block: from here on nothing is begun in it.
                self._group = self._data.group = None
                await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        """Close every link, and wait a moment for the others to hear it."""
        for link in self._links():
            link.close(CloseCode.GOING_AWAY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while self._links():
                    self._link_ended.clear()
                    await self._link_ended.wait()

    def _kick(self, peer_id: PeerId) -> None:
        """Have a peer that is kept linked dialled now."""
        contact = self._contacts.get(peer_id)
        if contact is not None:
            contact.kick.set()

    async def _keep_book(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY_S)
            try:
                await self._book.refresh()
            except DatabaseNotNow as trouble:
                log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
            self._data.close_idle()

    def connect(self, peer_id: PeerId) -> None:
        """Dial a peer now rather than after the pause."""
        self._contact(peer_id).kick.set()
        self._peers_changed()

    def disconnect(self, peer_id: PeerId, code: CloseCode = CloseCode.DONE) -> None:
        """End every link to a peer."""
        for link in self._links():
            if link.peer_id == peer_id:
                link.close(code)

    def _links(self) -> list[Link]:
        return [*self._control.values(), *self._data.all()]

    def _peers_changed(self) -> None:
        """Keep a dialling task for every allowed peer, and end the links of those that are not welcome any more."""
        for link in self._links():
            welcome = self._book.is_allowed if link.kind is LinkKind.CONTROL else self._book.is_welcome
            if not welcome(link.peer_id):
                link.close(CloseCode.NOT_PERMITTED)
        if self._group is None:
            return
        for peer in self._book.allowed():
            contact = self._contact(peer.peer_id)
            if contact.keeper is None or contact.keeper.done():
                contact.keeper = self._group.create_task(self._keep_control_link(peer.peer_id, contact))

    def _contact(self, peer_id: PeerId) -> _Contact:
        if peer_id not in self._contacts:
            self._contacts[peer_id] = _Contact(kick=asyncio.Event(), news=asyncio.Event())
        return self._contacts[peer_id]

    async def _keep_control_link(self, peer_id: PeerId, contact: _Contact) -> None:
        """Dial an allowed peer whenever there is no control link, with growing pauses; the loss of a steady one ends them."""
        while self._book.is_allowed(peer_id):
            contact.kick.clear()
            has_to_wait, contact.was_brief = contact.was_brief, False
            if peer_id not in self._control and not has_to_wait:
                await self._dial_control(peer_id, contact)
            if peer_id in self._control:
                contact.failure, rest_s = "", RETRY_MOST_S
            elif has_to_wait:
                rest_s = BRIEF_PAUSE_S
            else:
                rest_s, contact.pause_s = contact.pause_s, min(2 * contact.pause_s, RETRY_MOST_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._jittered(rest_s)):
                    await contact.kick.wait()

    async def _dial_control(self, peer_id: PeerId, contact: _Contact) -> None:
        """Dial a peer, and note why that came to nothing; who waits for the link is told where the peer wants none."""
        contact.dials += 1
        error = await self._try_dial(peer_id, LinkKind.CONTROL)
        contact.failure = "" if error is None else error.message
        if isinstance(error, PeerRefused):
            contact.turned_away = contact.dials
            contact.news.set()

    async def _try_dial(self, peer_id: PeerId, kind: LinkKind) -> ApplicationError | None:
        """Dial a peer; return why that came to nothing, if it did: whatever goes wrong with one peer is its own."""
        try:
            await self._dial(peer_id, kind)
        except DatabaseGone:
            raise
        except ApplicationError as error:
            log.debug(LogEvent.PEER_DIAL_FAILED, peer_id=peer_id, reason=error.message)
            return error
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where="dial", peer_id=peer_id)
            return PeerUnreachable(f"internal error: {type(error).__name__}")
        return None

    def _jittered(self, pause_s: float) -> float:
        return pause_s * (0.75 + self._entropy.random_bytes(1)[0] / 512)

    async def _dial(self, peer_id: PeerId, kind: LinkKind) -> Link:
        """Open a link and return it when the other side has greeted. Raises `PeerUnreachable`, `PeerRefused`."""
        addresses = await self._addresses(peer_id)
        websocket, address = await self._dialer.dial(peer_id, addresses, kind, max_message_bytes=_max_bytes(kind))
        link = Link(websocket, kind, peer_id=peer_id, dialled=True, hello=self._hello(), user=self)
        if self._group is None:
            await websocket.close()
            raise PeerUnreachable("this peer is stopping")
        self._group.create_task(self._live(link))
        if not await link.opened():
            raise PeerUnreachable(f"peer {peer_id} at {address} ended the link before it was open")
        return link

    async def _addresses(self, peer_id: PeerId) -> list[PeerAddress]:
        texts = await self._database.read(lambda conn: address_records.newest_addresses(conn, peer_id))
        found: list[PeerAddress] = []
        for text in texts:
            with contextlib.suppress(ValueError):
                found.append(parse_peer_address(text, names_allowed=True))
        if not found:
            raise PeerUnreachable(
                f"no address of peer {peer_id} is known", hint="It may dial this peer; else give its address."
            )
        return found

    async def _accept(self, request: web.Request) -> web.WebSocketResponse:
        kind = LinkKind(request.path)
        websocket = web.WebSocketResponse(max_msg_size=_max_bytes(kind), compress=False)
        await websocket.prepare(request)
        await self.live_on(websocket, kind, peer_of(request))
        return websocket

    async def live_on(self, websocket: WebSocket, kind: LinkKind, peer_id: PeerId) -> None:
        """Speak on a connection of a peer that has come here, until it ends."""
        await self._live(Link(websocket, kind, peer_id=peer_id, dialled=False, hello=self._hello(), user=self))

    async def _live(self, link: Link) -> None:
        if link.kind is LinkKind.DATA:
            self._data.add(link)
        try:
            await link.run()
        except DatabaseGone:
            raise
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="link", peer_id=link.peer_id)

    async def _ping_all(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for link in list(self._control.values()):
                await self._ping(link)

    async def _ping(self, link: Link) -> None:
        begun_s = self._clock.monotonic()
        with contextlib.suppress(ApplicationError):
            await link.ask(Ping(), timeout_s=PING_TIMEOUT_S)
            link.rtt_s = self._clock.monotonic() - begun_s
            log.debug(LogEvent.PONG_RECEIVED, peer_id=link.peer_id, rtt_ms=round(link.rtt_s * 1000, 1))

    async def ping(self, peer_id: PeerId, *, connect_s: float) -> float:
        """Return how long a peer takes to answer, in seconds. Raises `PeerUnreachable`, `TimedOut`."""
        link = await self._reach(peer_id, connect_s)
        begun_s = self._clock.monotonic()
        await link.ask(Ping(), timeout_s=PING_TIMEOUT_S)
        link.rtt_s = self._clock.monotonic() - begun_s
        return link.rtt_s

    # ---- what happens on links

    def link_opened(self, link: Link, hello: Hello) -> CloseCode | None:
        """See `LinkUser`."""
        welcome = self._book.is_allowed if link.kind is LinkKind.CONTROL else self._book.is_welcome
        if not welcome(link.peer_id):
            return CloseCode.NOT_PERMITTED
        if link.kind is LinkKind.CONTROL:
            other = self._control.get(link.peer_id)
            if other is not None and other.is_open and other.theirs is not None:
                established = self._as_control(other, other.theirs)
                if not newcomer_stays(established, self._as_control(link, hello)):
                    return CloseCode.DUPLICATE
                other.close(CloseCode.DUPLICATE)
            self._control[link.peer_id] = link
            log.info(LogEvent.PEER_CONNECTED, peer_id=link.peer_id, address="dialled" if link.dialled else "came here")
        if self._group is not None:
            self._group.create_task(self._note_greeting(link, hello))
        asyncio.get_running_loop().call_soon(self._note_open, link)
        return None

    def _note_open(self, link: Link) -> None:
        """Wake who waits for a link, once it counts as open."""
        if link.kind is LinkKind.DATA:
            self._data.wake(link.peer_id)
        else:
            self._contact(link.peer_id).news.set()

    def _as_control(self, link: Link, hello: Hello) -> ControlLink:
        dialler = self._peer_id if link.dialled else link.peer_id
        return ControlLink(dialler=dialler, instance_id=hello.instance_id)

    def link_closed(self, link: Link) -> None:
        """See `LinkUser`."""
        if self._control.get(link.peer_id) is link:
            del self._control[link.peer_id]
            log.warning(LogEvent.PEER_DISCONNECTED, peer_id=link.peer_id, reason=link.why_closed)
            contact = self._contacts.get(link.peer_id)
            if contact is not None and not link.was_told_to_leave:
                contact.pause_s = RETRY_FIRST_S
                contact.was_brief = not link.was_steady
                if contact.was_brief:
                    contact.failure = f"the link ended as soon as it was open: {link.why_closed}"
                contact.kick.set()
        for tell in self._on_link_lost:
            tell(link)
        if link.kind is LinkKind.DATA:
            self._data.drop(link)
        self._link_ended.set()

    async def _note_greeting(self, link: Link, hello: Hello) -> None:
        """Write down who is there and where it says it can be reached; then others may have words for it."""
        now = self._clock.now()
        record = hello.addresses
        is_good = record is not None and _is_signed(record)

        def work(conn: sqlite3.Connection) -> None:
            peers.touch_seen(conn, link.peer_id, instance_id=hello.instance_id, name=hello.name, now=now)
            if record is not None and is_good:
                address_records.store_record(conn, record, told_by=link.peer_id, now=now)

        try:
            await self._database.write(work)
        except DatabaseNotNow as trouble:
            log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
        if not link.is_open:
            return
        for tell in self._on_reached:
            tell(link.peer_id)
        if link.kind is LinkKind.CONTROL:
            self._data.wake(link.peer_id)  # its addresses may be new
            for tell in self._on_connected:
                tell(link.peer_id)
            await self._ping(link)

    async def learn(self, records: Iterable[AddressRecord], *, told_by: PeerId) -> None:
        """Keep address records that a peer has passed on, if their peers have signed them; of strangers only so many."""
        now = self._clock.now()
        good = [record for record in records if record.peer_id != self._peer_id and _is_signed(record)]

        def work(conn: sqlite3.Connection) -> list[PeerId]:
            new = [
                record.peer_id
                for record in good
                if address_records.store_record(conn, record, told_by=told_by, now=now)
            ]
            address_records.drop_strangers_told_by(conn, told_by, keep=STRANGERS_TOLD_MAX)
            return new

        for peer_id in await self._database.write(work) if good else ():
            if self._book.is_welcome(peer_id):
                self._data.wake(peer_id)
                self._kick(peer_id)
                for tell in self._on_reached:
                    tell(peer_id)

    async def answer(self, link: Link, message: Message) -> Message:
        """See `LinkUser`: the boundary at which whatever goes wrong with one request becomes its refusal."""
        if not may_send(message.caller, self._book.standing(link.peer_id)):
            return Refusal(code=RefusalCode.NOT_PERMITTED, reason=f"you may not send {message.type}")
        handler, on_link = self._answers.get(type(message)), self._link_answers.get(type(message))
        try:
            if on_link is not None and link.kind is LinkKind.DATA:
                return await on_link(link, message)
            if handler is not None:
                return await handler(link.peer_id, message)
            return Refusal(code=RefusalCode.UNSUPPORTED, reason=f"{message.type} is not answered on this link")
        except NotFound as error:
            return Refusal(code=RefusalCode.NOT_FOUND, reason=str(error))
        except PermissionDenied as error:
            return Refusal(code=RefusalCode.NOT_PERMITTED, reason=str(error))
        except (Conflict, StaleState) as error:
            return Refusal(code=RefusalCode.CONFLICT, reason=str(error))
        except (DatabaseNotNow, LimitExceeded) as error:
            return Refusal(code=RefusalCode.BUSY, reason=str(error))
        except DatabaseGone:
            raise
        except RndError as error:
            return Refusal(code=RefusalCode.INTERNAL, reason=str(error))
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where=message.type, peer_id=link.peer_id)
            return Refusal(code=RefusalCode.INTERNAL, reason="something went wrong here; it is in the log")

    def take(self, link: Link, message: Message) -> None:
        """See `LinkUser`."""
        taker = self._takers.get(type(message))
        if taker is not None and may_send(message.caller, self._book.standing(link.peer_id)):
            taker(link, message)

    def take_frame(self, link: Link, frame: bytes) -> None:
        """See `LinkUser`."""
        self._take_frame(link, frame)


def may_send(caller: Caller, standing: Standing) -> bool:
    """Say whether a peer of that standing may send a message at all; what it speaks of is checked by the handler."""
    match caller:
        case Caller.ANYBODY:
            return True
        case Caller.SENDER | Caller.RECEIVER:
            return standing in {Standing.ALLOWED, Standing.INTRODUCED}
        case _:
            return standing is Standing.ALLOWED


def _is_signed(record: AddressRecord) -> bool:
    try:
        verify_record(record)
    except MalformedAddresses:
        return False
    return True


def _max_bytes(kind: LinkKind) -> int:
    """Return the bound for aiohttp, which refuses a message that reaches it."""
    return 1 + (FRAME_BYTES_MAX if kind is LinkKind.DATA else TEXT_BYTES_MAX)
