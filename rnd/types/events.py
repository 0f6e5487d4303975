"""What clients are told as it happens: one numbered event for each committed change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rnd.types.enums import EventType
from rnd.types.ids import ExecutionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A row of `events`. `seq` only grows; `data` is what JSON can hold; `execution_id` is set where one is meant."""

    seq: int
    time: datetime
    type: EventType
    execution_id: ExecutionId | None
    data: Mapping[str, object]
