"""Commits that must come about: what a manager has found out or decided is kept until the database takes it (design, section 7).

A person who holds the database locked at the sqlite3 shell, or a disk that is full for a while, must neither end the
daemon nor turn a job that has succeeded into a failed one.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from rnd.database.connection import Database
from rnd.database.news import News
from rnd.log import get_logger
from rnd.types.errors import DatabaseNotNow
from rnd.types.log_events import LogEvent

T = TypeVar("T")

PAUSE_S: Final = 1.0
"""How long to wait before the same write is tried again."""

log = get_logger()


async def insist(database: Database, work: Callable[[sqlite3.Connection, News], T]) -> tuple[T, News]:
    """Commit `work`, however long the database is locked or full; return its value and the news to publish.

    Each try gets empty news, so that nothing is told twice. Other errors of `work` reach the caller at once. There is
    no bound: the daemon has nothing better to do than to write this down, and stopping it ends the wait.
    """
    told = False
    while True:
        try:
            return await database.write(functools.partial(_with_news, work))
        except DatabaseNotNow as trouble:
            if not told:
                log.warning(LogEvent.DATABASE_WAITS, reason=str(trouble))
                told = True
        await asyncio.sleep(PAUSE_S)


def _with_news(work: Callable[[sqlite3.Connection, News], T], conn: sqlite3.Connection) -> tuple[T, News]:
    news = News()
    return work(conn, news), news
