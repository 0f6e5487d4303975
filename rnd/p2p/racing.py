"""Several ways to the same end, tried side by side: the next begins when those before it are slow or have failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


async def first_of(
    attempts: Sequence[Callable[[], Awaitable[Result | None]]],
    *,
    stagger_s: float,
    discard: Callable[[Result], Awaitable[None]],
) -> Result | None:
    """Return the first result that is not `None`; `None` once every attempt has failed, which is to return `None`.

    An attempt begins `stagger_s` after the one before, or as soon as one has failed. After a success the others are
    cancelled. A result that comes too late, or that nobody can take any more, is given to `discard`. What an attempt
    raises ends the race and arrives in an `ExceptionGroup`.
    """
    results: list[Result] = []
    moved = asyncio.Event()
    under_way = 0

    async def run(attempt: Callable[[], Awaitable[Result | None]]) -> None:
        nonlocal under_way
        result = await attempt()
        if result is not None and results:
            await discard(result)
        elif result is not None:
            results.append(result)
        under_way -= 1
        moved.set()

    try:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []
            for attempt in attempts:
                if tasks:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(stagger_s):
                            await moved.wait()
                if results:
                    break
                moved.clear()
                under_way += 1
                tasks.append(group.create_task(run(attempt)))
            while under_way and not results:
                moved.clear()
                await moved.wait()
            for task in tasks:
                task.cancel()
    except BaseException:
        for result in results:
            await discard(result)
        raise
    return results[0] if results else None
