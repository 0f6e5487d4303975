"""One page of a list: what every list method answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """`items` in ascending id order, `total` of all that match, and the id to continue after (`None`: the end)."""

    items: Sequence[Item]
    total: int
    next_after_id: int | None
