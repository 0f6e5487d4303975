"""How a native run has ended, read from what its keeper wrote down. A job could write into its own record, so nothing in it
is taken for granted: what comes out of here can be stored, shown and sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rnd.rules.reading import is_visible
from rnd.services.executor import Observation, Phase
from rnd.types.enums import LogStream
from rnd.types.times import from_text

REASON_CHARACTERS_MAX: Final = 4_000
COUNT_MAX: Final = 1 << 31
_EXIT_CODE_MAX: Final = 255
_SIGNAL_MAX: Final = 64
_ENDS: Final = frozenset({Phase.EXITED, Phase.LOST, Phase.REJECTED})


def observation(ended: Mapping[str, Any]) -> Observation:
    """Return the end of a run; it is LOST where its record makes no sense."""
    try:
        return _checked(ended)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return Observation(phase=Phase.LOST, reason="the record of its end makes no sense; the job may have changed it")


def moment(text: object) -> datetime | None:
    """Return a time of a record; `None` where there is none, or what is there is no time."""
    try:
        return from_text(text) if isinstance(text, str) and text else None
    except ValueError:
        return None


def _checked(ended: Mapping[str, Any]) -> Observation:
    exit_code = _number(ended.get("exit_code"), 0, _EXIT_CODE_MAX)
    signal_number = _number(ended.get("signal"), 1, _SIGNAL_MAX)
    phase = Phase(ended["phase"])
    if phase not in _ENDS:
        raise ValueError("that is no end")
    if phase is Phase.EXITED and exit_code is None and signal_number is None:
        raise ValueError("neither exit code nor signal")
    return Observation(
        phase=phase,
        exit_code=exit_code,
        signal=signal_number,
        reason=_words(ended.get("reason", "")),
        started_at=moment(ended.get("started_at")),
        ended_at=moment(ended.get("ended_at")),
        streams_cut=tuple(LogStream(name) for name in ended.get("streams_cut", ())),
        leftovers_killed=_number(ended.get("leftovers_killed", 0), 0, COUNT_MAX) or 0,
    )


def _number(value: object, low: int, high: int) -> int | None:
    """Return a number of a record. Raises `ValueError` for what is none, or cannot be."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError("a number of the record cannot be")
    return value


def _words(value: object) -> str:
    """Return a sentence of a record, without what hides or reorders text."""
    words = str(value)[:REASON_CHARACTERS_MAX]
    return "".join(character if character == "\n" or is_visible(character) else "?" for character in words)
