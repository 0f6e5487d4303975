"""Who dials for bytes, how often, and what those who wait for a link get."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from rnd.p2p import data_links
from rnd.p2p.data_links import DataLinks
from rnd.p2p.link import Link
from rnd.p2p.peer_book import PeerBook
from rnd.protocol.session import CloseCode
from rnd.types.errors import PeerUnreachable
from rnd.types.ids import PeerId
from tests.p2p.peers import BOB

BOBS = BOB.peer_id


@dataclass(eq=False)
class OpenLink:
    """As much of a link as is asked of one here."""

    dialled: bool
    peer_id: PeerId = BOBS
    is_open: bool = True
    was_steady: bool = True
    theirs: object = None
    used_at_s: float = 0.0
    deliveries: int = 0

    def close(self, code: CloseCode) -> None:
        assert code is CloseCode.DONE
        self.is_open = False


class Line:
    """Dials that a test answers, and everything that is held."""

    def __init__(self) -> None:
        self.dials = 0
        self.answer: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self.links = DataLinks(
            cast(PeerBook, None), dial=self.dial, try_dial=self.try_dial, jittered=lambda pause_s: pause_s
        )

    async def dial(self, _peer: PeerId) -> Link:
        self.dials += 1
        return await self.answer

    async def try_dial(self, _peer: PeerId) -> str:
        raise AssertionError("nothing is expected here")

    def comes(self, *, dialled: bool) -> Link:
        link = cast(Link, OpenLink(dialled))
        self.links.add(link)
        self.links.wake(BOBS)
        return link


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_links, "DIAL_AFTER_S", 0.05)


def play(test: Any) -> None:
    async def whole() -> None:
        async with asyncio.timeout(10):
            await test(Line())

    asyncio.run(whole())


async def waiting(line: Line, count: int) -> list[asyncio.Task[Link]]:
    """Have so many wait for a link until this side dials."""
    tasks = [asyncio.create_task(line.links.get(BOBS)) for _ in range(count)]
    while not line.dials:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return tasks


def test_all_who_want_to_reach_a_peer_share_one_dial() -> None:
    async def test(line: Line) -> None:
        tasks = await waiting(line, 40)
        line.answer.set_result(cast(Link, OpenLink(dialled=True)))
        assert len({id(await task) for task in tasks}) == 1
        assert line.dials == 1

    play(test)


def test_a_dial_that_fails_fails_for_all_who_waited_and_the_next_is_another() -> None:
    async def test(line: Line) -> None:
        tasks = await waiting(line, 5)
        line.answer.set_exception(PeerUnreachable("nobody is there"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["nobody is there"] * 5
        line.answer = asyncio.get_running_loop().create_future()
        line.answer.set_result(link := cast(Link, OpenLink(dialled=True)))
        assert await line.links.get(BOBS) is link
        assert line.dials == 2

    play(test)


def test_who_goes_does_not_leave_the_others_waiting() -> None:
    async def test(line: Line) -> None:
        first, second = await waiting(line, 2)
        first.cancel()
        with pytest.raises(PeerUnreachable, match="called off"):
            await second

    play(test)


def test_a_link_that_the_peer_has_dialled_meanwhile_serves_though_the_dial_fails() -> None:
    async def test(line: Line) -> None:
        (task,) = await waiting(line, 1)
        theirs = line.comes(dialled=False)
        line.answer.set_exception(PeerUnreachable("its old address is dead"))
        assert await task is theirs

    play(test)


def test_a_link_that_comes_before_this_side_dials_is_taken() -> None:
    async def test(line: Line) -> None:
        task = asyncio.create_task(line.links.get(BOBS))
        await asyncio.sleep(0)
        theirs = line.comes(dialled=False)
        assert await task is theirs
        assert line.dials == 0

    play(test)


def test_of_several_links_the_newest_is_taken_that_the_peer_has_dialled() -> None:
    """The one before may be lost at its other end only, which shows here later."""

    async def test(line: Line) -> None:
        line.comes(dialled=False)
        newest = line.comes(dialled=False)
        line.comes(dialled=True)
        assert await line.links.get(BOBS) is newest

    play(test)


def test_a_link_is_idle_only_where_no_delivery_waits_for_what_comes_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_links, "IDLE_S", 0.05)

    async def test(line: Line) -> None:
        link = line.comes(dialled=False)
        link.used_at_s, link.deliveries = asyncio.get_running_loop().time(), 1
        line.links.close_idle()
        await asyncio.sleep(0.1)
        line.links.close_idle()
        assert link.is_open
        link.deliveries = 0
        line.links.close_idle()
        assert not link.is_open

    play(test)
