"""A wake-up is never lost, and never costs more than one look."""

from __future__ import annotations

import asyncio

from rnd.workers.news_board import Bell


def test_what_rang_before_anybody_waited_is_heard_at_once() -> None:
    async def play() -> None:
        bell: Bell[int] = Bell()
        bell.ring(1)
        bell.ring(2, 1)
        assert await bell.wait(60) == {1, 2}
        assert await bell.wait(0) == set()

    asyncio.run(play())


def test_a_ring_without_ids_wakes_as_well() -> None:
    async def play() -> None:
        bell: Bell[int] = Bell()
        waiter = asyncio.create_task(bell.wait(60))
        await asyncio.sleep(0)
        bell.ring()
        assert await waiter == set()

    asyncio.run(play())


def test_a_ring_during_a_wait_that_is_cancelled_is_kept_for_the_next() -> None:
    async def play() -> None:
        bell: Bell[int] = Bell()
        waiter = asyncio.create_task(bell.wait(60))
        await asyncio.sleep(0)
        waiter.cancel()
        bell.ring(7)
        await asyncio.gather(waiter, return_exceptions=True)
        assert await bell.wait(0) == {7}

    asyncio.run(play())


def test_a_ring_and_no_time_left_are_a_ring() -> None:
    async def play() -> None:
        bell: Bell[int] = Bell()
        bell.ring(3)
        assert await bell.wait(0) == {3}

    asyncio.run(play())
