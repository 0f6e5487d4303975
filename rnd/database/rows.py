"""How columns become fields and back: times, JSON lists, interfaces, pages.

The document's own tables let most columns be NULL and people repair rows by hand, so what is read from them is read
kindly; what rnd writes is always whole.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeVar

from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.pages import Page
from rnd.types.services import ServiceInterface
from rnd.types.times import from_text, to_text

Item = TypeVar("Item")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a time that is missing in a row that was typed by hand."""

_ABOVE_EVERY_ID: Final = 2**63 - 1


def moment_or_none(text: str | None) -> datetime | None:
    """Return a stored time; `None` for NULL."""
    return None if text is None else from_text(text)


def moment_or_epoch(text: str | None) -> datetime:
    """Return a stored time that rnd always writes; `EPOCH` where somebody left it out."""
    return EPOCH if text is None else from_text(text)


def text_or_none(moment: datetime | None) -> str | None:
    """Return a time as it is stored; NULL for `None`."""
    return None if moment is None else to_text(moment)


def words_to_text(words: Sequence[str] | None) -> str | None:
    """Return a list of words (an entrypoint, globs) as JSON; NULL for `None`."""
    return None if words is None else json.dumps(list(words), ensure_ascii=False)


def words_from_text(text: str | None) -> tuple[str, ...] | None:
    """Return the words of a JSON list; `None` for NULL."""
    return None if text is None else tuple(json.loads(text))


def interfaces_to_text(interfaces: Sequence[ServiceInterface]) -> str:
    """Return declared interfaces as the JSON that services and nodes keep."""
    return json.dumps(
        [
            {
                "interface_type": interface.interface_type,
                "path": interface.path,
                "mount_function": interface.mount_function,
                "required": interface.required,
                "description": interface.description,
            }
            for interface in interfaces
        ],
        ensure_ascii=False,
    )


@lru_cache(maxsize=128)  # the nodes of a workflow and the turns of the queue read the same few again and again
def interfaces_from_text(text: str | None) -> tuple[ServiceInterface, ...]:
    """Return the interfaces of that JSON; none for NULL."""
    return tuple(
        ServiceInterface(
            interface_type=InterfaceType(item["interface_type"]),
            path=item.get("path") or "",
            mount_function=MountFunction(item["mount_function"]) if item.get("mount_function") else None,
            required=bool(item.get("required")),
            description=item.get("description") or "",
        )
        for item in json.loads(text or "[]")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """The rows of a list: two statements without their conditions, the conditions, and the values that these name."""

    select: str
    count: str
    where: str
    values: Mapping[str, object]


def read_page(
    conn: sqlite3.Connection,
    matching: Matching,
    read: Callable[[sqlite3.Row], Item],
    *,
    limit: int,
    after_id: int,
    newest_first: bool,
) -> Page[Item]:
    """Return what continues a list after an id: upwards, or downwards from the newest (0: from the end)."""
    total = conn.execute(matching.count + matching.where, matching.values).fetchone()[0]
    if newest_first:
        part, start = " AND id < :start ORDER BY id DESC LIMIT :limit", after_id or _ABOVE_EVERY_ID
    else:
        part, start = " AND id > :start ORDER BY id LIMIT :limit", after_id
    rows = conn.execute(
        matching.select + matching.where + part, {**matching.values, "start": start, "limit": limit + 1}
    ).fetchall()
    next_after_id = rows[limit - 1]["id"] if len(rows) > limit else None
    return Page(items=[read(row) for row in rows[:limit]], total=total, next_after_id=next_after_id)


def page_of(items: Sequence[Item], *, limit: int, total: int, id_of: Callable[[Item], int]) -> Page[Item]:
    """Return one page of `items`, which were asked for with `limit + 1` to see whether more follow."""
    more = len(items) > limit
    items = items[:limit]
    return Page(items=items, total=total, next_after_id=id_of(items[-1]) if more and items else None)
