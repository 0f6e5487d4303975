"""Pulls and builds that somebody waits for: one for all who want the same, and none that nobody wants any more (ruling 14)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from rnd.services import engine_images
from rnd.services.engine import Engine
from rnd.services.engine_images import Tell

AT_ONCE: Final = 3

Auth = dict[str, str]


class _Work(NamedTuple):
    """One pull: what becomes of it, the task that sees to it, and who is told."""

    outcome: asyncio.Future[None]
    task: asyncio.Task[None]
    listeners: list[Tell]


class ExecImages:
    """What is under way. Each has a task of the group, which is called off when the last who waits has gone."""

    def __init__(self, engine: Engine, group: asyncio.TaskGroup) -> None:
        self._engine = engine
        self._group = group
        self._room = asyncio.Semaphore(AT_ONCE)
        self._pulls: dict[tuple[str, str, str], _Work] = {}

    async def pull(self, image: str, auth: Auth | None, tell: Tell) -> None:
        """Have an image brought here, by one pull for all who want it now. Raises `EngineGone` and `EngineRefused`."""
        key = (image, auth["username"], auth["password"]) if auth else (image, "", "")
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = self._begin(lambda hear: engine_images.pull(self._engine, image, auth, hear))
            pull.outcome.add_done_callback(lambda _: self._forget(key, pull))
        pull.listeners.append(tell)
        try:
            await asyncio.shield(pull.outcome)
        finally:
            pull.listeners.remove(tell)
            if not pull.listeners:
                self._forget(key, pull)  # at once: whoever comes now is to begin anew
                pull.task.cancel()
                pull.outcome.cancel()

    async def build(self, context: int, tag: str, tell: Tell) -> None:
        """Build an image from a tar, an open file. Raises `EngineGone` and `EngineRefused`."""
        async with self._room:
            await engine_images.build(self._engine, context, tag, tell)

    def _forget(self, key: tuple[str, str, str], pull: _Work) -> None:
        if self._pulls.get(key) is pull:
            del self._pulls[key]

    def _begin(self, bring: Callable[[Tell], Awaitable[None]]) -> _Work:
        listeners: list[Tell] = []

        def hear(news: dict[str, Any]) -> None:
            for tell in tuple(listeners):
                tell(news)

        async def see_to_it() -> None:
            try:
                async with self._room:
                    await bring(hear)
            except Exception as error:  # noqa: BLE001 - handed on to all who wait
                if not outcome.done():
                    outcome.set_exception(error)
            else:
                if not outcome.done():
                    outcome.set_result(None)

        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return _Work(outcome, self._group.create_task(see_to_it()), listeners)
