"""Few deliveries at a time hash or copy what is here already, and no sender keeps all others from it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from rnd.p2p import paused_receptions
from rnd.p2p.copying_places import COPYING_MAX, COPYING_OF_ONE_SENDER, CopyingPlaces
from rnd.protocol.transfer_messages import DataTransferAccept, DataTransferReject
from rnd.types.ids import PeerId
from rnd.types.peers import RejectionCode
from tests.core.core_peer import Machine
from tests.p2p.one_receiver import SENDER, Parcel, Receiver, play

GREEDY, MODEST = PeerId("rngreedy"), PeerId("rnmodest")
LONG_S = 10.0


class Copying:
    """Somebody who copies until told to end."""

    def __init__(self, places: CopyingPlaces, sender: PeerId, *, within_s: float = LONG_S) -> None:
        self._places, self._sender, self._within_s = places, sender, within_s
        self.may_end = asyncio.Event()
        self.has_place: bool | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._places.place(self._sender, within_s=self._within_s) as self.has_place:
            await self.may_end.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_sender_that_wants_everything_leaves_a_place_to_others() -> None:
    async def test() -> None:
        places = CopyingPlaces()
        greedy = [Copying(places, GREEDY) for _ in range(10)]
        await settle()
        assert [each.has_place for each in greedy].count(True) == COPYING_OF_ONE_SENDER < COPYING_MAX
        modest = Copying(places, MODEST, within_s=0)
        await settle()
        assert modest.has_place
        greedy[0].may_end.set()
        await settle()
        assert [each.has_place for each in greedy].count(True) == COPYING_OF_ONE_SENDER + 1
        assert greedy[COPYING_OF_ONE_SENDER].has_place, "who has waited longest comes first"
        for each in [*greedy, modest]:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in [*greedy, modest]), return_exceptions=True)
        last = [Copying(places, PeerId(f"rn{number}"), within_s=0) for number in range(COPYING_MAX + 1)]
        await settle()
        assert [each.has_place for each in last] == [True] * COPYING_MAX + [False], "all places are free again"
        for each in last:
            each.may_end.set()
        await asyncio.gather(*(each.task for each in last))

    asyncio.run(test())


def test_who_waits_too_long_has_none_and_takes_none() -> None:
    async def test() -> None:
        places = CopyingPlaces()
        busy = [Copying(places, PeerId(f"rn{number}")) for number in range(COPYING_MAX)]
        await settle()
        async with places.place(MODEST, within_s=0.01) as has_place:
            assert not has_place
        for each in busy:
            each.may_end.set()
        await asyncio.gather(*(each.task for each in busy))
        assert not places._taken.total()
        assert not places._waiting

    asyncio.run(test())


def test_an_offer_of_which_something_has_come_waits_for_a_place_and_any_other_does_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paused_receptions, "PLACE_WITHIN_S", 0.05)

    async def test(receiver: Receiver) -> None:
        places = receiver.incoming._intake._places
        parcel = Parcel(bytes(range(256)) * (9 << 12))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(COPYING_OF_ONE_SENDER):
                assert await stack.enter_async_context(places.place(SENDER, within_s=0))
            assert isinstance(await receiver.offer(**parcel.fields), DataTransferAccept)
            receiver.send(parcel, end=4 << 20)
            await receiver.until_written(parcel, 4 << 20)
            receiver.lose_link()
            await receiver.until_transfer_is("PENDING")
            paused = receiver.incoming._paused._paused.popitem()[1]  # as if it were one too many to be kept open
            paused.receiving.let_go()
            answer = await receiver.offer(2, **parcel.fields)
            assert isinstance(answer, DataTransferReject)
            assert answer.code is RejectionCode.BUSY
            assert "others look through" in answer.reason
        again = await receiver.offer_again(3, **parcel.fields)
        assert again.offset == 4 << 20
        receiver.send(parcel, 3, begin=again.offset)
        assert (await receiver.announce(3)).success

    play(machine, test)
