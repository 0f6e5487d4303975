"""A link ends by itself, whatever its connection does under it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

import pytest
from aiohttp import WSMessage, WSMsgType

from rnd.p2p import link as links
from rnd.p2p.link import Link, LinkKind, WebSocket
from rnd.protocol.link_messages import Ack
from rnd.protocol.messages import Hello, Message, Ping
from rnd.protocol.session import PROTOCOL_MAX, PROTOCOL_MIN, CloseCode, Session
from rnd.protocol.transfer_messages import DataTransferComplete
from rnd.types.errors import TimedOut
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


class SlowSocket(BriefSocket):
    """A websocket whose connection takes no more than the other end has read."""

    def __init__(self, sock: socket.socket, *texts: str) -> None:
        super().__init__(*texts)
        self._sock = sock

    def get_extra_info(self, _name: str) -> Any:
        return self._sock

    async def send_str(self, text: str) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, text.encode())

    async def close(self, *, code: int) -> None:
        self._over.set()

    async def __anext__(self) -> WSMessage:
        if not self._messages:
            await self._over.wait()
        return await super().__anext__()


class PatientUser(User):
    """Lets a link be open."""

    def link_opened(self, _link: Link, _hello: Hello) -> CloseCode | None:
        return None


def test_the_time_for_an_answer_begins_when_the_question_has_left() -> None:
    async def test(one: socket.socket, other: socket.socket) -> None:
        greeting = Session(hello=HELLO, peer_id=ALICE.peer_id).greet()
        link = Link(
            cast(WebSocket, SlowSocket(one, greeting)),
            LinkKind.DATA,
            peer_id=BOB.peer_id,
            dialled=True,
            hello=HELLO,
            user=PatientUser(),
        )
        running = asyncio.create_task(link.run())
        assert await link.opened()
        with contextlib.suppress(BlockingIOError):
            while one.send(bytes(1 << 16)):
                pass
        asking = asyncio.create_task(link.ask(Ping(), timeout_s=0.1))
        assert not (await asyncio.wait([asking], timeout=0.5))[0]
        reading = asyncio.create_task(asyncio.to_thread(read_all, other))
        with pytest.raises(TimedOut, match=r"has not answered for 0.1 s"):
            await asking
        link.close(CloseCode.DONE)
        await running
        one.close()
        await reading

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        one.setblocking(False)
        with other:
            asyncio.run(asyncio.wait_for(test(one, other), 20))


class DeafSocket(SlowSocket):
    """A websocket whose goodbye has to wait until the other end has read what was sent before."""

    async def close(self, *, code: int) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await self.send_str(f"goodbye {code}")
        finally:
            self._over.set()


@pytest.mark.parametrize("code", [CloseCode.DONE, CloseCode.MALFORMED, CloseCode.NOT_PERMITTED])
def test_a_goodbye_that_nobody_takes_holds_no_link(monkeypatch: pytest.MonkeyPatch, code: CloseCode) -> None:
    monkeypatch.setattr(links, "CLOSE_TIMEOUT_S", 0.2)

    async def test(one: socket.socket) -> None:
        greeting = Session(hello=HELLO, peer_id=ALICE.peer_id).greet()
        user = PatientUser()
        link = Link(
            cast(WebSocket, DeafSocket(one, greeting)),
            LinkKind.DATA,
            peer_id=BOB.peer_id,
            dialled=True,
            hello=HELLO,
            user=user,
        )
        running = asyncio.create_task(link.run())
        assert await link.opened()
        with contextlib.suppress(BlockingIOError):
            while one.send(bytes(1 << 16)):
                pass
        link.close(code)
        await running
        assert user.closed == [link]

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        one.setblocking(False)
        with other:
            asyncio.run(asyncio.wait_for(test(one), 5))


def read_all(sock: socket.socket) -> None:
    """Read until the other end closes."""
    while sock.recv(1 << 16):
        pass
