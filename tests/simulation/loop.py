"""The event loop of a simulated world: time stands still while anything is ready, and then jumps to the next timer.

Whatever runs belongs to somebody (the context variable `OWNER`): once that one is dead, nothing of it runs any more, no
`finally` either. That is how the plug is pulled. Nothing here looks at the host's clock, and nothing runs in a thread:
what is handed to an executor is called a moment later, whole, in the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Protocol

STEPS_AT_A_MOMENT_MAX: Final = 200_000
"""How much may run without time passing before that is taken for a loop without end."""


class Owner(Protocol):
    """Whom callbacks and tasks belong to."""

    dead: bool
    tasks: list[asyncio.Task[Any]]


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("OWNER", default=None)


class Standstill(Exception):
    """The world runs in a circle: time does not pass any more."""


class WorldFailed(BaseException):
    """The first thing that is not as it must be ends the world."""


class VirtualTask(asyncio.Task[Any]):
    """A task whose place in a set depends on its number, so that sets of tasks have the same order in every process."""

    def __init__(self, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], *, number: int, **more: Any) -> None:
        self.number = number
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self.number


class VirtualFuture(asyncio.Future[Any]):
    """A future of the same kind."""

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a selector. `thread_s` says how long what runs in a thread keeps its caller waiting."""

    def __init__(self, thread_s: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__()
        self.now_s = 0.0
        self.thread_s = thread_s
        self.steps = 0
        self.problems: list[str] = []
        """What is not as it must be; the first ends everything."""
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._at_this_moment = 0
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now_s

    # ---- what the base class leaves open

    def _write_to_self(self) -> None:
        """There is no other thread that could have to wake this one."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    # ---- tasks and futures

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        return VirtualFuture(number=self._next_number(), loop=self)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        task = VirtualTask(coro, loop=loop, number=self._next_number(), **more)
        context = more.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            owner.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # narrower than the loop that it takes the place of
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return  # nobody has begun with it
            try:
                value = func(*args)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                future.set_exception(error)
            else:
                future.set_result(value)

        self.call_later(self.thread_s(), work)
        return future

    # ---- running

    def call_at(  # type: ignore[override]  # narrower than the loop that it takes the place of
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """What is due at the same time comes in the order in which it was asked for."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self._next_number(), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _run_once(self) -> None:
        timers = self._timers
        ready = self._ready  # type: ignore[attr-defined]  # the event loop's own insides, which its stubs leave out
        while timers and timers[0][2]._cancelled:  # type: ignore[attr-defined]  # the event loop's own insides, which its stubs leave out
            heapq.heappop(timers)
        if not ready and not self._stopping:  # type: ignore[attr-defined]  # the event loop's own insides, which its stubs leave out
            if not timers:
                raise Standstill("nothing is left that could happen")
            if timers[0][0] > self.now_s:
                self.now_s = timers[0][0]
                self._at_this_moment = 0
        while timers and timers[0][0] <= self.now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None and owner.dead:
                continue
            self.steps += 1
            self._at_this_moment += 1
            handle._run()
        if self.problems:
            raise WorldFailed(self.problems[0])
        if self._at_this_moment > STEPS_AT_A_MOMENT_MAX:
            raise Standstill(f"{self._at_this_moment} steps at {self.now_s:.3f} s")
