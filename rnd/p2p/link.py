"""One websocket to another peer: sends, receives, and matches answers to questions (docs/wire.md, sections 1 and 2).

What is said is decided by `protocol/session.py`; here are the socket, the deadlines, and the tasks that answer. What
comes in is handed over in its order: frames and what wants no answer at once, questions each to a task of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, assert_never

from aiohttp import WSMsgType

from rnd import crash_points
from rnd.log import get_logger
from rnd.p2p.link_watch import LinkWatch, WebSocket
from rnd.p2p.outflow import FRAMES_AHEAD
from rnd.p2p.signs_of_life import LOOK_EVERY_S
from rnd.protocol.messages import Hello, Message, Refusal
from rnd.protocol.session import Close, CloseCode, Deliver, Ignored, Opened, Resolve, Send, Session
from rnd.types.errors import (
    LinkEnded,
    LinkNotOpen,
    MalformedMessage,
    NothingToAnswer,
    PeerRefused,
    PeerUnreachable,
    TimedOut,
    TooManyWaiting,
)
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.peers import RefusalCode

TEXT_BYTES_MAX: Final = 4 << 20
FRAME_BYTES_MAX: Final = (8 << 20) + 16
HELLO_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 15.0
"""How long the goodbye may take, with the other side's. One that stands behind bytes that nobody takes would never be said."""
STEADY_AFTER_S: Final = 5.0
QUEUE_BYTES: Final = 2 << 20
"""How much may wait to be written, at most, before a sender of frames has to wait; less where frames are short, on a slow line."""

ANSWERS_AT_ONCE: Final = 64
"""How many answers are made at a time on a link, and none while so much of those before waits to be written."""
UNWANTED_BYTES_S: Final = 64 << 20
"""How fast bytes are read that nobody wants: they are decrypted all the same, and everybody else waits for that."""
REFLEX_BYTES: Final = 1 << 20
"""How much of what is answered without thought may wait: who asks that much and reads nothing is given up."""

log = get_logger()


class _Frame(NamedTuple):
    """A binary message in the buffer of somebody who wants it back."""

    content: memoryview
    give_back: Callable[[], None]

    def __len__(self) -> int:
        return len(self.content)


class LinkKind(StrEnum):
    """What a link is for; its path."""

    CONTROL = "/control"
    DATA = "/data"


class LinkUser(Protocol):
    """Who is told what happens on a link."""

    def link_opened(self, link: Link, hello: Hello) -> CloseCode | None:
        """The peer has greeted; return why the link has to be closed at once, if so."""

    def link_closed(self, link: Link) -> None:
        """The link is over, whether it ever opened or not. What is still being answered has nobody to go to."""

    async def answer(self, link: Link, message: Message) -> Message:
        """Answer a request; what goes wrong is a `Refusal`, never an exception."""

    def take(self, link: Link, message: Message) -> None:
        """Take a message that wants no answer, in the order of arrival."""

    def take_frame(self, link: Link, frame: bytes) -> None:
        """Take a binary message, in the order of arrival."""


class Link:
    """One websocket with its session. `run` lives as long as the link does."""

    def __init__(
        self, websocket: WebSocket, kind: LinkKind, *, peer_id: PeerId, dialled: bool, hello: Hello, user: LinkUser
    ) -> None:
        """`dialled`: this side has; `hello` is its own greeting."""
        self.kind = kind
        self.peer_id = peer_id
        self.dialled = dialled
        self.theirs: Hello | None = None
        """The greeting of the other side, once it has come."""
        self.rtt_s: float | None = None
        self._websocket = websocket
        self._watch = LinkWatch(websocket)
        self._session = Session(hello=hello, peer_id=peer_id)
        self._user = user
        self._queue: deque[str | _Frame] = deque()
        self._queued_bytes = 0
        self._mark = 0
        self._has_work = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._reflex_bytes = 0
        self._turns = asyncio.Semaphore(ANSWERS_AT_ONCE)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._opened = asyncio.Event()
        self._opened_at_s: float | None = None
        self._close_code: CloseCode | None = None
        self._why_closed = ""
        self.used_at_s = 0.0
        """When the last message went or came, by the event loop's clock."""
        self.deliveries = 0
        """How many are under way on it from here: they may wait for long for what the other side says next."""
        self.unwanted_bytes = 0
        """How much has come that nobody wants, since that was waited for."""
        self._over = asyncio.Event()
        self._is_told = False
        self._close_asked = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Say whether the other side has greeted and the link has not ended."""
        return self._opened.is_set() and self._close_code is None and not self._websocket.closed

    @property
    def was_told_to_leave(self) -> bool:
        """Say whether this side has closed the link on purpose."""
        return self._close_code in {CloseCode.NOT_PERMITTED, CloseCode.DUPLICATE, CloseCode.GOING_AWAY}

    @property
    def was_steady(self) -> bool:
        """Say whether it has been open for long enough that dialling anew at once is no dialling in a circle."""
        return self._opened_at_s is not None and asyncio.get_running_loop().time() - self._opened_at_s >= STEADY_AFTER_S

    @property
    def why_closed(self) -> str:
        """Return the words for the log of how the link ended."""
        if self._why_closed:
            return self._why_closed
        if self._close_code is None or self._close_code is CloseCode.DONE:
            code = self._websocket.close_code
            return "the connection ended" if code is None else f"closed by the other side with code {code}"
        return self._close_code.name.lower().replace("_", " ")

    @property
    def _words_of_end(self) -> str:
        return f"the link to {self.peer_id} has ended" + (f": {self._why_closed}" if self._why_closed else "")

    @property
    def frame_bytes(self) -> int:
        """How long a frame should be at most, so that what comes after it need not wait long."""
        return self._watch.frame_bytes

    @property
    def mark(self) -> int:
        """The place among all that is said on this link where the next thing will stand, for `has_left`."""
        return self._mark

    def has_left(self, mark: int) -> bool:
        """Say whether all that was said before a mark is on the wire; also where nobody can know."""
        return self._watch.has_left(mark)

    async def opened(self) -> bool:
        """Wait for the other side's greeting; False if the link ends before."""
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(self._opened.wait()), group.create_task(self._over.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        return self.is_open

    # ---- speaking

    async def ask(self, message: Message, *, timeout_s: float) -> Message:
        """Send a request and return its answer.

        The time counts from when the request is on the wire: on a slow line there may be much before it. Raises `PeerRefused` with
        the other side's words, `LinkEnded` where the link is not open or ends, `PeerUnreachable` where too many questions
        wait for an answer, `TimedOut`.
        """
        number: int | None = None
        try:
            number, text = self._session.ask(message)
            crash_points.reach("say", message.type)
            answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            self._say(text)
            await self._await_answer(answer, self._mark, timeout_s)
            reply = answer.result()
        except TooManyWaiting as error:
            raise PeerUnreachable(str(error)) from error
        except MalformedMessage as error:
            raise PeerRefused(f"what is to be said to {self.peer_id} cannot be said: {error.reason}") from error
        except LinkNotOpen as error:
            raise LinkEnded(self._words_of_end) from error
        finally:
            if number is not None:
                self._waiting.pop(number, None)
                self._session.give_up(number)
        if isinstance(reply, Refusal):
            raise PeerRefused(f"peer {self.peer_id} refused: {reply.reason}", reason=reply.reason, word=reply.code)
        return reply

    async def _await_answer(self, answer: asyncio.Future[Message], mark: int, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        until_s, pause_s = loop.time() + timeout_s, min(LOOK_EVERY_S, timeout_s)
        while not (await asyncio.wait([answer], timeout=pause_s))[0]:
            now_s = loop.time()
            if not self.has_left(mark):
                until_s = now_s + timeout_s
            elif now_s >= until_s:
                raise TimedOut(f"peer {self.peer_id} has not answered for {timeout_s:g} s")
            else:
                pause_s = until_s - now_s  # exact where little is left, so that no rounding makes it a circle

    def tell(self, message: Message) -> None:
        """Send a message that wants no answer. Raises `PeerUnreachable`."""
        try:
            text = self._session.tell(message)
            crash_points.reach("say", message.type)
            self._say(text)
        except LinkNotOpen as error:
            raise PeerUnreachable(self._words_of_end) from error

    async def tell_in_turn(self, message: Message) -> None:
        """Send a message that wants no answer as soon as there is room for it. Raises `PeerUnreachable`."""
        await self._has_room.wait()
        self.tell(message)

    async def send_frame(self, frame: memoryview, give_back: Callable[[], None]) -> None:
        """Send a binary message as soon as there is room for it; `give_back` is called once its buffer may be used again.

        That is when the socket's layer has encrypted it, when the link ends, or at once with `PeerUnreachable`.
        """
        try:
            await self._has_room.wait()
        except BaseException:
            give_back()
            raise
        if not self.is_open:
            give_back()
            raise PeerUnreachable(self._words_of_end)
        self._put(_Frame(frame, give_back))

    def _say(self, text: str) -> None:
        self._put(text)

    def _put(self, item: str | _Frame) -> None:
        """Queue what is to be sent. Texts are numbered in the order in which they stand here, so nothing may pass another."""
        self.used_at_s = asyncio.get_running_loop().time()
        self._mark += 1
        self._queue.append(item)
        self._queued_bytes += len(item)
        if self._queued_bytes > self._room_bytes:
            self._has_room.clear()
        self._has_work.set()

    @property
    def _room_bytes(self) -> int:
        return min(QUEUE_BYTES, FRAMES_AHEAD * self.frame_bytes)

    def close(self, code: CloseCode, why: str = "") -> None:
        """Have the link closed; `run` sees to it. `why` are words for people, where the code does not say enough."""
        if self._close_code is None:
            self._close_code = code
            self._why_closed = why
        self._close_asked.set()

    # ---- living

    async def run(self) -> None:
        """Greet, then receive until the link ends; its user is told at once, though answers may still be made for a while.

        What goes wrong with it ends it and nothing else.
        """
        self._watch.begin()
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(part)
                    for part in (
                        self._close_when_asked(),
                        self._expect_greeting(),
                        self._send(),
                        self._watch.run(self._give_up, group),
                    )
                ]
                self._say(self._session.greet())
                try:
                    await self._receive(group)
                finally:
                    self._end()
                    for helper in helpers:
                        helper.cancel()
                await asyncio.wait(helpers)
                await self._shut()
                self._tell_user()
        finally:
            self._end()
            self._tell_user()

    def _tell_user(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._user.link_closed(self)

    async def _receive(self, group: asyncio.TaskGroup) -> None:
        async for message in self._websocket:
            self.used_at_s = asyncio.get_running_loop().time()
            match message.type:
                case WSMsgType.TEXT:
                    for instruction in self._session.handle(message.data):
                        self._follow(instruction, group)
                case WSMsgType.BINARY:
                    if self.kind is not LinkKind.DATA or not self._opened.is_set():
                        self.close(CloseCode.MALFORMED)
                    elif self.is_open:
                        self._user.take_frame(self, message.data)
                case _:
                    return
            if self._close_code is not None:
                return
            if self.unwanted_bytes:
                pause_s, self.unwanted_bytes = self.unwanted_bytes / UNWANTED_BYTES_S, 0
                await asyncio.sleep(pause_s)

    def _follow(
        self, instruction: Opened | Deliver | Resolve | Send | Close | Ignored, group: asyncio.TaskGroup
    ) -> None:
        match instruction:
            case Opened(hello=hello):
                self.theirs = hello
                code = self._user.link_opened(self, hello)
                if code is not None:
                    self.close(code)
                    return
                self._opened.set()
                self._opened_at_s = asyncio.get_running_loop().time()
            case Deliver(id=number, message=message):
                if message.is_request():
                    group.create_task(self._answer(number, message))
                else:
                    self._user.take(self, message)
            case Resolve(id=number, message=message):
                waiting = self._waiting.pop(number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case Send(text=text):
                self._say(text)
                self._reflex_bytes += len(text)
                if self._reflex_bytes > REFLEX_BYTES:
                    self.close(CloseCode.SILENT, "it asks and does not read the answers")
            case Close(code=code, reason=reason):
                log.warning(LogEvent.PEER_LINK_CLOSED, peer_id=self.peer_id, code=int(code), reason=reason)
                self.close(code)
            case Ignored(reply_to=number, cause=cause):
                log.debug(LogEvent.PEER_ANSWER_IGNORED, peer_id=self.peer_id, reply_to=number, cause=cause)
            case _:
                assert_never(instruction)

    async def _answer(self, number: int, message: Message) -> None:
        async with self._turns:
            await self._has_room.wait()
            reply = await self._user.answer(self, message)
            self._say_answer(number, reply)

    def _say_answer(self, number: int, reply: Message) -> None:
        try:
            try:
                text = self._session.answer(number, reply)
                crash_points.reach("say", reply.type)
                self._say(text)
            except MalformedMessage as error:
                log.error(LogEvent.PEER_ANSWER_UNSAID, peer_id=self.peer_id, type=reply.type, reason=error.reason)
                refusal = Refusal(code=RefusalCode.INTERNAL, reason="the answer cannot be said; it is in the log")
                self._say(self._session.answer(number, refusal))
        except (LinkNotOpen, NothingToAnswer):
            pass  # the link has ended meanwhile; who asked asks again on the next one

    async def _send(self) -> None:
        """Write what is queued, in order, and no more at a time than leaves soon."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while self._queue:
                await self._watch.await_way()
                item = self._queue.popleft()
                self._watch.give(len(item))
                try:
                    if isinstance(item, str):
                        await self._websocket.send_str(item)
                        crash_points.reach_message("said", item)
                    else:
                        await self._websocket.send_bytes(item.content)  # type: ignore[arg-type]  # any buffer will do
                except (ConnectionError, RuntimeError):
                    self.close(CloseCode.SILENT, "the connection broke")
                    return
                finally:
                    if not isinstance(item, str):
                        item.give_back()
                self._queued_bytes -= len(item)
                if self._queued_bytes <= self._room_bytes:
                    self._has_room.set()
            self._reflex_bytes = 0

    async def _expect_greeting(self) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await self._opened.wait()
        except TimeoutError:
            self.close(CloseCode.SILENT, f"no greeting for {HELLO_TIMEOUT_S:g} s")

    def _give_up(self, why: str) -> None:
        log.warning(LogEvent.PEER_LINK_GIVEN_UP, peer_id=self.peer_id, link=self.kind, reason=why)
        self.close(CloseCode.SILENT, why)

    async def _close_when_asked(self) -> None:
        await self._close_asked.wait()
        await self._shut()

    async def _shut(self) -> None:
        code = CloseCode.DONE if self._close_code is None else self._close_code
        if code is CloseCode.SILENT:
            self._watch.cut()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._websocket.close(code=int(code))
        except TimeoutError:
            self._watch.cut()

    def _end(self) -> None:
        """Nothing more comes: whoever waits for an answer learns that."""
        if self._close_code is None:
            self._close_code = CloseCode.DONE
        self._session.end()
        self._over.set()
        self._has_room.set()
        unsent, self._queue = self._queue, deque()
        for item in unsent:
            if not isinstance(item, str):
                item.give_back()
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(LinkEnded(self._words_of_end))
