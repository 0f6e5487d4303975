"""A link ends by itself, whatever its connection does under it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from rnd.p2p.link import Link, LinkKind, WebSocket
from rnd.protocol.messages import Hello, Message
from rnd.protocol.session import PROTOCOL_MAX, PROTOCOL_MIN, CloseCode
from tests.p2p.peers import BOB

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
