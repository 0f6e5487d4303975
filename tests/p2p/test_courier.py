"""The courier: what is owed to other peers is told, struck out when it is on their record, and told again where it is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from rnd.database import outbox
from rnd.database.connection import Database
from rnd.p2p import courier as courier_module
from rnd.p2p.courier import Courier, OnAnswer
from rnd.p2p.peer_book import PeerBook
from rnd.p2p.peer_manager import PeerManager
from rnd.protocol.codec import fields_of
from rnd.protocol.messages import JobCancel, JobCancelResponse, Message
from rnd.types.errors import DatabaseBusy, PeerRefused, TimedOut
from rnd.types.ids import ExecutionUid, NodeId, PeerId
from rnd.types.peers import RefusalCode
from tests.p2p.peers import ALICE, BOB, until
from tests.seams import StillClock

UID = ExecutionUid("ab" * 16)
Answer = Callable[[JobCancel], Message]


def agree(_letter: JobCancel) -> Message:
    return JobCancelResponse(status=None)


class Town:
    """The peers that letters go to: who is linked, who is only introduced, and what each says."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = StillClock()
        self.linked: set[PeerId] = {ALICE.peer_id, BOB.peer_id}
        self.introduced: set[PeerId] = set()
        self.says: dict[PeerId, Answer] = {}
        self.told: list[tuple[PeerId, str]] = []
        self.gate: asyncio.Event | None = None
        """Holds back every answer while it is not set."""

    # ---- as links and book

    def is_connected(self, peer_id: PeerId) -> bool:
        return peer_id in self.linked

    def is_allowed(self, peer_id: PeerId) -> bool:
        return peer_id not in self.introduced

    def is_welcome(self, _peer_id: PeerId) -> bool:
        return True

    async def ask_by_any(self, peer_id: PeerId, message: Message, *, timeout_s: float) -> Message:
        assert isinstance(message, JobCancel)
        assert timeout_s > 0
        self.told.append((peer_id, message.reason))
        if self.gate is not None:
            await self.gate.wait()
        return self.says.get(peer_id, agree)(message)

    # ---- letters

    async def post(self, peer_id: PeerId, reason: str, *, node: int = 1, topic: str = JobCancel.type) -> None:
        body = fields_of(JobCancel(execution_uid=UID, node_id=NodeId(node), reason=reason))
        now = self.clock.now()
        await self.database.write(lambda conn: outbox.post(conn, peer_id, topic, f"{UID}/{node}", body, now=now))

    async def left(self, peer_id: PeerId) -> list[tuple[str, str | None]]:
        """Return the reasons of what is still owed to a peer, with why it is."""
        letters = await self.database.read(lambda conn: outbox.list_letters(conn, peer_id, limit=100))
        return [(str(letter.body["reason"]), letter.last_error) for letter in letters]

    def reasons(self, peer_id: PeerId) -> list[str]:
        return [reason for told, reason in self.told if told == peer_id]

    @contextlib.asynccontextmanager
    async def served(self, *, on_answer: OnAnswer | None = None) -> AsyncIterator[Courier]:
        """Run a courier."""
        courier = Courier(
            database=self.database,
            clock=self.clock,
            links=cast(PeerManager, self),
            book=cast(PeerBook, self),
            answers={} if on_answer is None else {JobCancel: on_answer},
        )
        task = asyncio.create_task(courier.run())
        courier.ring()
        try:
            yield courier
            assert not task.done(), task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def play(folder: Path, test: Callable[[Town], Awaitable[None]]) -> None:
    database = Database.open(folder / "rnd.db")

    async def whole() -> None:
        try:
            async with asyncio.timeout(20):
                await test(Town(database))
        finally:
            await database.close()

    asyncio.run(whole())


def refuses(code: str) -> Answer:
    def answer(_letter: JobCancel) -> Message:
        raise PeerRefused("it said no", reason="no", word=code)

    return answer


async def emptied(town: Town, peer_id: PeerId) -> None:
    async with asyncio.timeout(10):
        while await town.left(peer_id):
            await asyncio.sleep(0.01)


def test_letters_are_told_and_struck_out(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        for number in range(3):
            await town.post(ALICE.peer_id, f"letter {number}", node=number)
        async with town.served():
            await emptied(town, ALICE.peer_id)
        assert sorted(town.reasons(ALICE.peer_id)) == ["letter 0", "letter 1", "letter 2"]

    play(tmp_path, test)


def test_who_is_away_is_told_when_it_comes(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        town.linked.remove(ALICE.peer_id)
        await town.post(ALICE.peer_id, "you were away")
        await town.post(BOB.peer_id, "you were not")
        async with town.served() as courier:
            await emptied(town, BOB.peer_id)
            assert town.reasons(ALICE.peer_id) == []
            town.linked.add(ALICE.peer_id)
            courier.wake(ALICE.peer_id)
            await emptied(town, ALICE.peer_id)

    play(tmp_path, test)


def test_an_introduced_peer_is_told_without_a_control_link(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        town.linked.clear()
        town.introduced.add(ALICE.peer_id)
        await town.post(ALICE.peer_id, "by a data link")
        async with town.served():
            await emptied(town, ALICE.peer_id)

    play(tmp_path, test)


async def eventually(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait until something is asked and answered as expected."""
    async with asyncio.timeout(10):
        while await ask() != expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("word", [RefusalCode.NOT_PERMITTED, RefusalCode.NOT_FOUND, RefusalCode.UNSUPPORTED])
def test_what_a_peer_refuses_for_good_is_not_told_again(tmp_path: Path, word: RefusalCode) -> None:
    async def test(town: Town) -> None:
        town.says[ALICE.peer_id] = refuses(word)
        await town.post(ALICE.peer_id, "never")
        async with town.served():
            await emptied(town, ALICE.peer_id)
        assert town.reasons(ALICE.peer_id) == ["never"]

    play(tmp_path, test)


@pytest.mark.parametrize("word", [RefusalCode.BUSY, RefusalCode.INTERNAL, ""])
def test_what_a_peer_does_not_take_now_is_told_again_and_newer_letters_go_past_it(tmp_path: Path, word: str) -> None:
    async def test(town: Town) -> None:
        def answer(letter: JobCancel) -> Message:
            if letter.reason == "hard":
                return refuses(word)(letter)
            return agree(letter)

        town.says[ALICE.peer_id] = answer
        await town.post(ALICE.peer_id, "hard", node=1)
        async with town.served() as courier:
            await until(lambda: len(town.reasons(ALICE.peer_id)) >= 4)
            before = town.reasons(ALICE.peer_id).count("hard")
            await town.post(ALICE.peer_id, "easy", node=2)
            courier.ring()
            await until(lambda: "easy" in town.reasons(ALICE.peer_id))
            assert town.reasons(ALICE.peer_id).count("hard") <= before + 1
            await eventually(lambda: town.left(ALICE.peer_id), [("hard", "it said no")])
            town.says[ALICE.peer_id] = agree
            courier.wake(ALICE.peer_id)
            await emptied(town, ALICE.peer_id)

    play(tmp_path, test)


def test_who_does_not_answer_is_told_again_and_the_row_says_why(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        def silent(_letter: JobCancel) -> Message:
            raise TimedOut("not a word")

        town.says[ALICE.peer_id] = silent
        await town.post(ALICE.peer_id, "hello?")
        async with town.served():
            await until(lambda: len(town.told) >= 2)
            await eventually(lambda: town.left(ALICE.peer_id), [("hello?", "not a word")])

    play(tmp_path, test)


def test_a_letter_that_is_replaced_while_it_is_told_is_told_anew(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        town.gate = asyncio.Event()
        await town.post(ALICE.peer_id, "first words")
        async with town.served() as courier:
            await until(lambda: town.reasons(ALICE.peer_id) == ["first words"])
            await town.post(ALICE.peer_id, "last words")
            courier.ring()
            town.gate.set()
            await emptied(town, ALICE.peer_id)
        assert town.reasons(ALICE.peer_id) == ["first words", "last words"]

    play(tmp_path, test)


def test_trouble_with_one_peer_leaves_the_others_alone(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        def stumble(_letter: JobCancel) -> Message:
            raise ValueError("unforeseen")

        town.says[ALICE.peer_id] = stumble
        await town.post(ALICE.peer_id, "for alice")
        await town.post(BOB.peer_id, "for bob")
        async with town.served() as courier:
            await emptied(town, BOB.peer_id)
            await until(lambda: len(town.reasons(ALICE.peer_id)) >= 2)
            town.says[ALICE.peer_id] = agree
            courier.wake(ALICE.peer_id)
            await emptied(town, ALICE.peer_id)

    play(tmp_path, test)


def test_trouble_with_one_letter_leaves_the_others_alone(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        def answer(letter: JobCancel) -> Message:
            if letter.reason == "odd":
                raise ValueError("unforeseen")
            return agree(letter)

        town.says[ALICE.peer_id] = answer
        await town.post(ALICE.peer_id, "odd", node=1)
        await town.post(ALICE.peer_id, "even", node=2)
        async with town.served():
            await until(lambda: len(town.reasons(ALICE.peer_id)) >= 4)
            await eventually(lambda: town.left(ALICE.peer_id), [("odd", "internal error: ValueError")])
        assert town.reasons(ALICE.peer_id).count("even") == 1

    play(tmp_path, test)


def test_what_cannot_be_said_at_all_is_dropped(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        await town.post(ALICE.peer_id, "of another version", topic="job_dance")
        async with town.served():
            await emptied(town, ALICE.peer_id)
        assert town.told == []

    play(tmp_path, test)


def test_the_answer_is_acted_on_before_the_letter_is_struck_out(tmp_path: Path) -> None:
    """Where that cannot be done now, the letter is told again: the daemon may stop in between."""

    async def test(town: Town) -> None:
        heard: list[Message] = []

        async def on_answer(peer_id: PeerId, letter: Message, answer: Message) -> None:
            assert peer_id == ALICE.peer_id
            assert isinstance(letter, JobCancel)
            heard.append(answer)
            if len(heard) == 1:
                raise DatabaseBusy("locked")

        await town.post(ALICE.peer_id, "act on this")
        async with town.served(on_answer=on_answer):
            await emptied(town, ALICE.peer_id)
        assert heard == [JobCancelResponse(status=None)] * 2

    play(tmp_path, test)


def test_more_letters_than_go_at_once_all_arrive(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        count = 2 * courier_module.LETTERS_AT_ONCE + 3
        for number in range(count):
            await town.post(ALICE.peer_id, str(number), node=number)
        async with town.served():
            await emptied(town, ALICE.peer_id)
        assert sorted(map(int, town.reasons(ALICE.peer_id))) == list(range(count))

    play(tmp_path, test)
