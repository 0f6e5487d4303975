"""The courier: tells other peers what the outbox holds for them, as soon as they are there (design: Durability).

A message is struck out when the other side has answered that it is on record; until then it is told again at every
new link and after every pause. Telling twice is harmless: whoever is told knows by key and number what is new.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from rnd.database import outbox
from rnd.database.connection import Database
from rnd.database.outbox import Letter
from rnd.log import get_logger
from rnd.p2p.peer_book import PeerBook
from rnd.p2p.peer_manager import PeerManager
from rnd.protocol.codec import message_from_fields
from rnd.protocol.messages import Message
from rnd.types.errors import (
    ApplicationError,
    DatabaseGone,
    DatabaseNotNow,
    MalformedMessage,
    PeerRefused,
    UnknownMessage,
)
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.peers import RefusalCode
from rnd.types.seams import Clock

LETTERS_AT_ONCE: Final = 64
ANSWER_TIMEOUT_S: Final = 30.0
AGAIN_S: Final = 5.0
"""How long to wait before a peer that did not take everything is told again, if nothing happens before."""

OnAnswer = Callable[[PeerId, Message, Message], Awaitable[None]]
"""Is told what a peer has answered to a letter: the peer, the letter, the answer."""

log = get_logger()


class Courier:
    """Carries letters, one task a peer at a time."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        links: PeerManager,
        book: PeerBook,
        answers: Mapping[type[Message], OnAnswer],
    ) -> None:
        self._database = database
        self._clock = clock
        self._links = links
        self._book = book
        self._answers = answers
        self._rung = asyncio.Event()
        self._under_way: set[PeerId] = set()
        self._resting: dict[PeerId, float] = {}

    def ring(self) -> None:
        """Have the outbox looked at: a row has changed, or a peer has come."""
        self._rung.set()

    def wake(self, peer_id: PeerId) -> None:
        """Tell a peer now what is there for it: it has just come."""
        self._resting.pop(peer_id, None)
        self._rung.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    async with asyncio.timeout(AGAIN_S):
                        await self._rung.wait()
                except TimeoutError:
                    pass
                self._rung.clear()
                for peer_id in await self._database.read(outbox.list_addressees):
                    if self._may_go(peer_id):
                        self._under_way.add(peer_id)
                        group.create_task(self._serve(peer_id))

    def _may_go(self, peer_id: PeerId) -> bool:
        now_s = asyncio.get_running_loop().time()
        return (
            peer_id not in self._under_way
            and self._resting.get(peer_id, 0.0) <= now_s
            and (
                self._links.is_connected(peer_id)
                or (self._book.is_welcome(peer_id) and not self._book.is_allowed(peer_id))
            )
        )

    async def _serve(self, peer_id: PeerId) -> None:
        """Tell one peer what there is: the boundary at which whatever goes wrong leaves the others alone."""
        try:
            while letters := await self._database.read(
                lambda conn: outbox.list_letters(conn, peer_id, limit=LETTERS_AT_ONCE)
            ):
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._deliver(letter)) for letter in letters]
                if not all(task.result() for task in tasks):
                    self._resting[peer_id] = asyncio.get_running_loop().time() + AGAIN_S
                    return
        except DatabaseGone:
            raise
        except DatabaseNotNow as trouble:
            log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="courier", peer_id=peer_id)
            self._resting[peer_id] = asyncio.get_running_loop().time() + AGAIN_S
        finally:
            self._under_way.discard(peer_id)
            self._rung.set()

    async def _deliver(self, letter: Letter) -> bool:
        """Tell one thing; say whether it is off the table."""
        try:
            message = message_from_fields(letter.topic, letter.body)
        except (MalformedMessage, UnknownMessage) as error:
            log.error(LogEvent.PEER_ANSWER_UNSAID, peer_id=letter.peer_id, type=letter.topic, reason=str(error))
            await self._strike_out(letter)
            return True
        try:
            reply = await self._links.ask_by_any(letter.peer_id, message, timeout_s=ANSWER_TIMEOUT_S)
        except PeerRefused as error:
            if error.word in {RefusalCode.BUSY, RefusalCode.INTERNAL, ""}:
                await self._note(letter, str(error))
                return False
            log.warning(LogEvent.PEER_LETTER_REFUSED, peer_id=letter.peer_id, type=letter.topic, reason=error.reason)
            await self._strike_out(letter)
            return True
        except ApplicationError as error:
            await self._note(letter, str(error))
            return False
        on_answer = self._answers.get(type(message))
        if on_answer is not None:
            await on_answer(letter.peer_id, message, reply)
        await self._strike_out(letter)
        return True

    async def _strike_out(self, letter: Letter) -> None:
        await self._database.write(lambda conn: outbox.strike_out(conn, letter.id))

    async def _note(self, letter: Letter, error: str) -> None:
        def work(conn: sqlite3.Connection) -> None:
            outbox.note_failure(conn, letter.id, error)

        await self._database.write(work)
