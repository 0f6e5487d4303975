"""Images on their way to the engine's store: pulled or built for somebody who is told how far they are (ruling 14)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rnd.database.connection import Database
from rnd.database.events import record_event
from rnd.services.images import ImageFacts, Images, PullProgress, RegistryAuth, Tell
from rnd.types.enums import EventType
from rnd.types.errors import DatabaseGone, DatabaseNotNow, ExecutorUnavailable, RndError
from rnd.types.ids import ExecutionId
from rnd.types.seams import Clock

TELL_EVERY_S: Final = 1.0
"""How often one pull is news at most: each is a row of `events`, and a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What an image is brought here for: the members that its events have besides, and the execution they belong to."""

    members: Mapping[str, object]
    execution_id: ExecutionId | None = None


class ImagePulls:
    """Has images brought here, and writes `image.progress` events meanwhile."""

    def __init__(self, *, images: Images, database: Database, clock: Clock) -> None:
        self._images = images
        self._database = database
        self._clock = clock

    async def look_up(self, image: str) -> ImageFacts | None:
        """Return an image that is here, or `None`. Raises `ExecutorUnavailable`."""
        try:
            return await self._images.look_up(image)
        except OSError as error:
            raise _unreachable(error) from error

    async def pull(
        self, image: str, auth: RegistryAuth | None, purpose: Purpose, tell: Tell = lambda _: None
    ) -> ImageFacts:
        """Have an image brought here; `tell` hears of every step. The bound in time is the caller's.

        Raises `ExecutorUnavailable` with the words of the registry.
        """
        return await self._bring(lambda hear: self._images.pull(image, auth, hear), purpose, tell)

    async def build(self, context: Path, tag: str, purpose: Purpose) -> ImageFacts:
        """Have an image built from a folder. Raises `ExecutorUnavailable` with its last lines."""
        return await self._bring(lambda hear: self._images.build(context, tag, hear), purpose, lambda _: None)

    async def _bring(self, bring: Callable[[Tell], Awaitable[ImageFacts]], purpose: Purpose, tell: Tell) -> ImageFacts:
        news = _News(tell)
        outcome: ImageFacts | RndError
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell(news, purpose))
            try:
                outcome = await bring(news.take)
            except RndError as error:  # raised out of the group, which would wrap it
                outcome = error
            except OSError as error:
                outcome = _unreachable(error)
            finally:
                telling.cancel()
        if isinstance(outcome, RndError):
            raise outcome
        await self._record(news, purpose)
        return outcome

    async def _tell(self, news: _News, purpose: Purpose) -> None:
        while True:
            await news.there.wait()
            await self._record(news, purpose)
            await asyncio.sleep(TELL_EVERY_S)

    async def _record(self, news: _News, purpose: Purpose) -> None:
        """Write down the last news, if there are any. News are a courtesy: what cannot be written now is not."""
        progress = news.last
        if progress is None or not news.there.is_set():
            return
        news.there.clear()
        data = {
            **purpose.members,
            "image": progress.image,
            "status": progress.status,
            "bytes_done": progress.bytes_done,
            "bytes_total": progress.bytes_total,
        }
        now = self._clock.now()
        try:
            await self._database.write(
                lambda conn: record_event(
                    conn, EventType.IMAGE_PROGRESS, data, execution_id=purpose.execution_id, now=now
                )
            )
        except (DatabaseNotNow, DatabaseGone):
            return  # the next commit that matters meets the same


def _unreachable(error: OSError) -> ExecutorUnavailable:
    return ExecutorUnavailable(f"the container engine cannot be asked: {error}")


class _News:
    """The last that was heard of a pull, and whether it has yet to be told."""

    def __init__(self, tell: Tell) -> None:
        self.there = asyncio.Event()
        self.last: PullProgress | None = None
        self._tell = tell

    def take(self, progress: PullProgress) -> None:
        self.last = progress
        self.there.set()
        self._tell(progress)
