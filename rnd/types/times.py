"""Times as the database and the API write them: RFC 3339, UTC, milliseconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=64)  # one moment is written into many rows of one transaction
def to_text(moment: datetime) -> str:
    """Return an aware UTC `datetime` as `2026-01-31T12:00:00.000Z`, which sorts as text."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def from_text(text: str) -> datetime:
    """Return the aware UTC `datetime` of a stored time.

    Accepts what SQLite's `datetime('now')` writes too (a space, no zone: UTC), since people repair rows by hand.
    Raises `ValueError` for anything else.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is in no year from 1 to 9999 in UTC") from None
