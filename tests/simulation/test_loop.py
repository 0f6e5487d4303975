"""The virtual loop and the wire by themselves: time jumps, the dead stay silent, order holds."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.loop import OWNER, Standstill, VirtualLoop

THREAD_S = 0.5


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A loop in which what runs in a thread takes half a second."""
    with contextlib.closing(VirtualLoop(lambda: THREAD_S)) as loop:
        yield loop


class _Somebody:
    def __init__(self) -> None:
        self.dead = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    async def wait_long() -> float:
        await asyncio.sleep(86_400.0)
        return loop.time()

    assert loop.run_until_complete(wait_long()) == 86_400.0


def test_what_is_due_at_one_time_comes_in_the_order_in_which_it_was_asked_for(loop: VirtualLoop) -> None:
    came: list[int] = []

    async def all_of_it() -> None:
        for number in range(50):
            loop.call_at(1.0, came.append, number)
        await asyncio.sleep(2.0)

    loop.run_until_complete(all_of_it())
    assert came == list(range(50))


def test_work_for_a_thread_is_done_in_the_loop_a_moment_later(loop: VirtualLoop) -> None:
    async def work() -> tuple[str, float]:
        return await asyncio.to_thread(lambda: "done"), loop.time()

    assert loop.run_until_complete(work()) == ("done", THREAD_S)


def test_nothing_of_who_is_dead_runs_any_more_not_even_what_it_would_do_at_its_end(loop: VirtualLoop) -> None:
    somebody = _Somebody()
    traces: list[str] = []

    async def live() -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
                traces.append("lives")
        finally:
            traces.append("tidies up")

    async def world() -> None:
        task = loop.create_task(live(), context=somebody.context)
        await asyncio.sleep(2.5)
        somebody.dead = True
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio has no public way to drop a task of a machine that died
        await asyncio.sleep(10.0)

    loop.run_until_complete(world())
    assert traces == ["lives", "lives"]


def test_a_world_in_which_nothing_can_happen_any_more_is_told(loop: VirtualLoop) -> None:
    async def wait_for_nobody() -> None:
        await loop.create_future()

    with pytest.raises(Standstill):
        loop.run_until_complete(wait_for_nobody())
