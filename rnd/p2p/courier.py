"""The courier: tells other peers what the outbox holds for them, as soon as they are there (design: Durability).

A message is struck out when the other side has answered that it is on record; until then it is told again at every
new link and after every pause. Telling twice is harmless: whoever is told knows by key and number what is new. What a
peer does not take now waits for its pause alone: newer letters go past it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from rnd.core.side_by_side import side_by_side
from rnd.database import outbox
from rnd.database.connection import Database
from rnd.database.outbox import Letter
from rnd.log import get_logger
from rnd.p2p.peer_book import PeerBook
from rnd.p2p.peer_manager import PeerManager
from rnd.protocol.codec import message_from_fields
from rnd.protocol.messages import Message
from rnd.types.errors import (
    DatabaseGone,
    DatabaseNotNow,
    MalformedMessage,
    PeerRefused,
    RndError,
)
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.peers import PASSING
from rnd.types.seams import Clock

LETTERS_AT_ONCE: Final = 64
ANSWER_TIMEOUT_S: Final = 30.0
GATHER_S: Final = 0.01
"""How long to wait after a change: more of them follow as a rule, of which only the newest of a key is told."""
LOOK_EVERY_S: Final = 5.0
"""How often the outbox is looked at although nobody rang."""
AGAIN_FIRST_S: Final = 0.1
AGAIN_MOST_S: Final = 30.0
"""How long to wait before a peer is told again what it did not take, if it does not come anew before."""

OnAnswer = Callable[[PeerId, Message, Message], Awaitable[None]]
"""Is told what a peer has answered to a letter: the peer, the letter, the answer."""

log = get_logger()


@dataclass(slots=True)
class _Round:
    """How far a peer has been told: letters up to `after_id` wait until `again_at_s`, those beyond it go at once."""

    after_id: int = 0
    again_at_s: float = 0.0
    pause_s: float = 0.0


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
        self._rounds: dict[PeerId, _Round] = {}

    def ring(self) -> None:
        """Have the outbox looked at: a row has changed, or a peer has come."""
        self._rung.set()

    def wake(self, peer_id: PeerId) -> None:
        """Tell a peer now what is there for it: it has just come."""
        self._rounds.pop(peer_id, None)
        self._rung.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    async with asyncio.timeout(self._pause_s()):
                        await self._rung.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(GATHER_S)
                self._rung.clear()
                try:
                    newest = await self._database.read(outbox.newest_letters)
                except DatabaseNotNow as trouble:
                    log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
                    continue
                for peer_id, letter_id in newest:
                    if self._may_go(peer_id, letter_id):
                        self._under_way.add(peer_id)
                        group.create_task(self._serve(peer_id))

    def _pause_s(self) -> float:
        now_s = asyncio.get_running_loop().time()
        pauses = [
            round_.again_at_s - now_s
            for peer_id, round_ in self._rounds.items()
            if round_.after_id and self._is_reachable(peer_id)
        ]
        return min(LOOK_EVERY_S, max(AGAIN_FIRST_S, min(pauses, default=LOOK_EVERY_S)))

    def _is_reachable(self, peer_id: PeerId) -> bool:
        """Say whether it is worth while to tell a peer something: an introduced one is dialled for it."""
        return self._links.is_connected(peer_id) or (
            self._book.is_welcome(peer_id) and not self._book.is_allowed(peer_id)
        )

    def _may_go(self, peer_id: PeerId, newest_letter: int) -> bool:
        if peer_id in self._under_way or not self._is_reachable(peer_id):
            return False
        round_ = self._rounds.get(peer_id)
        return (
            round_ is None or newest_letter > round_.after_id or round_.again_at_s <= asyncio.get_running_loop().time()
        )

    async def _serve(self, peer_id: PeerId) -> None:
        """Tell one peer what there is: the boundary at which whatever goes wrong leaves the others alone."""
        round_ = self._rounds.setdefault(peer_id, _Round())
        if round_.again_at_s <= asyncio.get_running_loop().time():
            round_.after_id = 0
        is_whole = round_.after_id == 0
        try:
            if not await self._tell(peer_id, round_):
                self._rest(round_)
            elif is_whole:
                self._rounds.pop(peer_id, None)
        except DatabaseGone:
            raise
        except DatabaseNotNow as trouble:
            log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
            self._rest(round_)
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="courier", peer_id=peer_id)
            self._rest(round_)
        finally:
            self._under_way.discard(peer_id)
            self._rung.set()

    async def _tell(self, peer_id: PeerId, round_: _Round) -> bool:
        """Tell a peer everything beyond what waits; say whether it took it all."""
        took_all = True
        while letters := await self._database.read(
            lambda conn: outbox.list_letters(conn, peer_id, after_id=round_.after_id, limit=LETTERS_AT_ONCE)
        ):
            troubles = await side_by_side(self._deliver(letter) for letter in letters)
            round_.after_id = letters[-1].id
            await self._note(list(zip(letters, troubles, strict=True)))
            took_all &= not any(troubles)
        return took_all

    def _rest(self, round_: _Round) -> None:
        round_.pause_s = min(AGAIN_MOST_S, max(AGAIN_FIRST_S, 2 * round_.pause_s))
        round_.again_at_s = asyncio.get_running_loop().time() + round_.pause_s

    async def _deliver(self, letter: Letter) -> str | None:
        """Tell one thing; return why it has to be told again, `None` if it is off the table.

        The boundary at which whatever goes wrong with one letter leaves the others alone.
        """
        try:
            return await self._say(letter)
        except DatabaseGone:
            raise
        except RndError as error:
            return str(error)
        except Exception as error:
            log.exception(LogEvent.INTERNAL_ERROR, where=letter.topic, peer_id=letter.peer_id)
            return f"internal error: {type(error).__name__}"

    async def _say(self, letter: Letter) -> str | None:
        try:
            message = message_from_fields(letter.topic, letter.body)
        except MalformedMessage as error:
            log.error(LogEvent.PEER_ANSWER_UNSAID, peer_id=letter.peer_id, type=letter.topic, reason=str(error))
            return None
        try:
            reply = await self._links.ask_by_any(letter.peer_id, message, timeout_s=ANSWER_TIMEOUT_S)
        except PeerRefused as error:
            if error.word in PASSING or not error.word:
                return str(error)
            log.warning(LogEvent.PEER_LETTER_REFUSED, peer_id=letter.peer_id, type=letter.topic, reason=error.reason)
            return None
        on_answer = self._answers.get(type(message))
        if on_answer is not None:
            await on_answer(letter.peer_id, message, reply)
        return None

    async def _note(self, told: list[tuple[Letter, str | None]]) -> None:
        """Strike out what is on the other peer's record; of the rest note why it is not."""

        def work(conn: sqlite3.Connection) -> None:
            for letter, trouble in told:
                if trouble is None:
                    outbox.strike_out(conn, letter.id)
                else:
                    outbox.note_failure(conn, letter.id, trouble)

        await self._database.write(work)
