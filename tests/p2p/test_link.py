"""A link ends by itself, whatever its connection does under it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import WSMessage, WSMsgType

from rnd.p2p.link import Link, LinkKind, WebSocket
from rnd.protocol.link_messages import Ack
from rnd.protocol.messages import Hello, Message
from rnd.protocol.session import PROTOCOL_MAX, PROTOCOL_MIN, CloseCode, Session
from rnd.protocol.transfer_messages import DataTransferComplete
from tests.p2p.peers import ALICE, BOB
from tests.protocol.parcels import TRANSFER

HELLO = Hello(protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX, instance_id="0" * 32, name="alice", addresses=None)


class BrokenSocket:
    """A websocket whose connection breaks with the first word, and whose transport has forgotten everything then."""

    closed = False
    close_code = 1006

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def send_str(self, _text: str) -> None:
        raise ConnectionResetError("Cannot write to closing transport")

    def get_extra_info(self, _name: str) -> Any:
        raise AttributeError("'NoneType' object has no attribute '_get_extra_info'")

    async def close(self, *, code: int) -> None:
        assert code == CloseCode.SILENT
        self._over.set()

    def __aiter__(self) -> BrokenSocket:
        return self

    async def __anext__(self) -> Any:
        await self._over.wait()
        raise StopAsyncIteration


class User:
    """Who is told what happens."""

    def __init__(self) -> None:
        self.closed: list[Link] = []

    def link_opened(self, _link: Link, _hello: Hello) -> CloseCode | None:
        raise AssertionError("nobody has greeted")

    def link_closed(self, link: Link) -> None:
        self.closed.append(link)

    async def answer(self, _link: Link, _message: Message) -> Message:
        raise AssertionError("nobody has asked")

    def take(self, _link: Link, _message: Message) -> None:
        raise AssertionError("nobody has spoken")

    def take_frame(self, _link: Link, _frame: bytes) -> None:
        raise AssertionError("nobody has sent")


class BriefSocket(BrokenSocket):
    """A websocket that brings these texts, and ends."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self._messages = [WSMessage(WSMsgType.TEXT, text, None) for text in texts]

    async def send_str(self, _text: str) -> None:
        pass

    async def close(self, *, code: int) -> None:
        pass

    async def __anext__(self) -> WSMessage:
        if not self._messages:
            raise StopAsyncIteration
        return self._messages.pop(0)


class ThoughtfulUser(User):
    """Takes its time to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_answer, self.is_told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def link_opened(self, _link: Link, _hello: Hello) -> CloseCode | None:
        return None

    def link_closed(self, link: Link) -> None:
        super().link_closed(link)
        self.is_told.set()

    async def answer(self, _link: Link, _message: Message) -> Message:
        self.is_asked.set()
        await self.may_answer.wait()
        return Ack()


def test_that_a_link_is_lost_is_told_while_an_answer_is_in_work() -> None:
    async def test() -> None:
        other = Session(hello=HELLO, peer_id=ALICE.peer_id)
        greeting = other.greet()
        other.handle(Session(hello=HELLO, peer_id=BOB.peer_id).greet())
        _, question = other.ask(DataTransferComplete(transfer_id=TRANSFER, success=True, bytes_received=0, error=None))
        user = ThoughtfulUser()
        link = Link(
            cast(WebSocket, BriefSocket(greeting, question)),
            LinkKind.DATA,
            peer_id=BOB.peer_id,
            dialled=True,
            hello=HELLO,
            user=user,
        )
        running = asyncio.create_task(link.run())
        async with asyncio.timeout(5):
            await user.is_asked.wait()
            await user.is_told.wait()
            assert not running.done()
            user.may_answer.set()
            await running
        assert user.closed == [link]

    asyncio.run(test())


def test_a_connection_that_breaks_with_the_first_word_ends_the_link_and_raises_nothing() -> None:
    async def test() -> None:
        user = User()
        link = Link(
            cast(WebSocket, BrokenSocket()),
            LinkKind.CONTROL,
            peer_id=BOB.peer_id,
            dialled=True,
            hello=HELLO,
            user=user,
        )
        async with asyncio.timeout(5):
            await link.run()
        assert user.closed == [link]
        assert not link.is_open

    asyncio.run(test())
