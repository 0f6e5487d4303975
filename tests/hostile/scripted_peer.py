"""A peer of which a test decides every word: any key, any message, any bytes, on links that it dials or takes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

from aiohttp import ClientWebSocketResponse, WSMsgType
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rnd.p2p.dialing import Dialer
from rnd.p2p.identity import Identity
from rnd.p2p.link import FRAME_BYTES_MAX
from rnd.protocol.address_records import sign_addresses
from rnd.protocol.codec import decode, encode
from rnd.protocol.frames import HEADER_BYTES, write_header
from rnd.protocol.messages import Ack, Hello, Message, Ping, Pong, Refusal
from rnd.protocol.session import PROTOCOL_MAX, PROTOCOL_MIN
from rnd.rules.addresses import PeerAddress, parse_peer_address
from rnd.types.errors import PeerRefused
from rnd.types.ids import PeerId
from rnd.types.peers import AddressRecord, RefusalCode

CONTROL, DATA = "/control", "/data"
ANSWER_WITHIN_S = 20.0

Reply = Callable[[Message], Message | None]
"""What a scripted peer answers to a request of the daemon; `None`: it stays silent."""


def answer_politely(message: Message) -> Message | None:
    """Answer as somebody who agrees with everything and does nothing."""
    match message:
        case Ping():
            return Pong()
        case _ if "ack" in message.answered_by:
            return Ack()
    return Refusal(code=RefusalCode.UNSUPPORTED, reason="nothing is scripted for that")


class ScriptedLink:
    """One websocket to a daemon. What comes is answered by `reply`, and kept."""

    def __init__(self, websocket: ClientWebSocketResponse, reply: Reply) -> None:
        self.websocket = websocket
        self.reply = reply
        self.heard: list[Message] = []
        self.frames: list[bytes] = []
        self.came = asyncio.Event()
        """Set with everything that comes, and at the end."""
        self.is_over = False
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._is_deaf = False

    @property
    def close_code(self) -> int | None:
        """The code with which the daemon has closed it."""
        return self.websocket.close_code

    def start_reading(self) -> None:
        """Hear what the daemon says from now on."""
        self._reading = asyncio.ensure_future(self._read())

    def stop_reading(self) -> None:
        """Hear nothing more after the message in hand; the socket fills."""
        self._is_deaf = True

    async def say(self, message: Message, *, reply_to: int | None = None) -> int:
        """Say a message that need not make sense here; return its number."""
        number = next(self._numbers)
        await self.websocket.send_str(encode(message, id=number, reply_to=reply_to))
        return number

    async def say_text(self, text: str) -> None:
        """Say any text; a `{id}` in it becomes the next number."""
        await self.websocket.send_str(text.replace("{id}", str(next(self._numbers))))

    async def ask_text(self, text: str, *, within_s: float = ANSWER_WITHIN_S) -> Message:
        """Say any text with a `{id}`, which wants an answer; return that."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.websocket.send_str(text.replace("{id}", str(number)))
        return await self.answer_to(number, within_s=within_s)

    async def say_bytes(self, data: bytes) -> None:
        """Send any binary message."""
        await self.websocket.send_bytes(data)

    async def send_frame(self, stream: int, offset: int, payload: bytes) -> None:
        """Send a frame of a stream."""
        frame = bytearray(HEADER_BYTES) + payload
        write_header(frame, stream=stream, offset=offset)
        await self.websocket.send_bytes(bytes(frame))

    async def ask(self, message: Message, *, within_s: float = ANSWER_WITHIN_S) -> Message:
        """Say a request and return its answer, a `Refusal` too."""
        return await self.answer_to(await self.begin(message), within_s=within_s)

    async def begin(self, message: Message) -> int:
        """Say a request whose answer is asked for later with `answer_to`."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.websocket.send_str(encode(message, id=number))
        return number

    async def answer_to(self, number: int, *, within_s: float = ANSWER_WITHIN_S) -> Message:
        """Return the answer to what was begun."""
        async with asyncio.timeout(within_s):
            answer = await self._waiting[number]
        del self._waiting[number]
        return answer

    async def until(self, found: Callable[[], bool], what: str, *, within_s: float = ANSWER_WITHIN_S) -> None:
        """Wait for something that the daemon says or does on this link."""
        try:
            async with asyncio.timeout(within_s):
                while not found():
                    self.came.clear()
                    await self.came.wait()
        except TimeoutError:
            raise AssertionError(f"not within {within_s:g} s: {what}; heard {self.heard}") from None

    async def until_over(self, *, within_s: float = ANSWER_WITHIN_S) -> int | None:
        """Wait until the daemon has ended the link; return its code."""
        await self.until(lambda: self.is_over, "the link is over", within_s=within_s)
        return self.close_code

    def heard_of(self, *kinds: type[Message]) -> list[Message]:
        """Return the messages of some kinds that came unasked."""
        return [message for message in self.heard if isinstance(message, kinds)]

    async def close(self) -> None:
        """End it from this side."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self.websocket.close()

    async def _read(self) -> None:
        try:
            async for data in self.websocket:
                if data.type is WSMsgType.BINARY:
                    self.frames.append(data.data)
                elif data.type is WSMsgType.TEXT:
                    await self._take(data.data)
                self.came.set()
                if self._is_deaf:
                    await asyncio.Event().wait()
        except ConnectionError:
            pass
        finally:
            self.is_over = True
            self.came.set()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError(f"the link was closed with {self.close_code}"))

    async def _take(self, text: str) -> None:
        envelope = decode(text)
        if envelope.reply_to is not None:
            waiting = self._waiting.get(envelope.reply_to)
            if waiting is not None and not waiting.done():
                waiting.set_result(envelope.message)
            return
        self.heard.append(envelope.message)
        if envelope.message.is_request():
            answer = self.reply(envelope.message)
            if answer is not None:
                await self.say(answer, reply_to=envelope.id)


class ScriptedPeer:
    """Somebody with a key. `async with` ends what it has dialled."""

    def __init__(self, name: str, *, reply: Reply = answer_politely) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.identity = Identity(self.key)
        self.peer_id: PeerId = self.identity.peer_id
        self.reply = reply
        self.links: list[ScriptedLink] = []
        self.dialer = Dialer(self.identity)

    def record(self, *addresses: str, issued_at_ms: int = 1_800_000_000_000) -> AddressRecord:
        """Return a record that this peer has signed."""
        return sign_addresses(self.peer_id, addresses, issued_at_ms=issued_at_ms, sign=self.key.sign)

    def hello(self, *, addresses: AddressRecord | None = None, instance: int = 1) -> Hello:
        """Return a greeting as the wire wants it."""
        return Hello(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            instance_id=f"{instance:032x}",
            name=self.name,
            addresses=addresses,
        )

    async def __aenter__(self) -> Self:
        await self.dialer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for link in self.links:
            await link.close()
        await self.dialer.__aexit__(None, None, None)

    async def dial(self, peer_id: str, address: str, kind: str) -> ScriptedLink:
        """Open a link on which nothing has been said. Raises `PeerRefused`, `PeerUnreachable`."""
        where: Sequence[PeerAddress] = [parse_peer_address(address, names_allowed=True)]
        websocket, _ = await self.dialer.dial(PeerId(peer_id), where, kind, max_message_bytes=FRAME_BYTES_MAX + 1)
        link = ScriptedLink(websocket, self.reply)
        self.links.append(link)
        return link

    async def link(self, peer_id: str, address: str, kind: str, *, hello: Hello | None = None) -> ScriptedLink:
        """Open a link and greet; returns when the daemon has greeted too. Raises `PeerRefused`."""
        link = await self.dial(peer_id, address, kind)
        link.start_reading()
        await link.say(self.hello() if hello is None else hello)
        await link.until(lambda: bool(link.heard_of(Hello)) or link.is_over, "the daemon greets")
        return link

    async def refusal(self, peer_id: str, address: str, kind: str) -> str | None:
        """Return the words with which a link is refused before it opens; `None` if it opens."""
        try:
            link = await self.dial(peer_id, address, kind)
        except PeerRefused as error:
            return str(error)
        await link.close()
        return None


@contextlib.asynccontextmanager
async def cast(*peers: ScriptedPeer) -> AsyncIterator[None]:
    """Have several peers act."""
    async with contextlib.AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(peer)
        yield
