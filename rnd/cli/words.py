"""How facts read for a person: safe text, sizes, times, tables. Pure; whatever peers or jobs wrote is hostile here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

# Control characters (C0 but for what `safe_lines` allows, DEL, C1), line separators, and the characters that turn the
# direction of text, hide in it or tag it: a terminal or a reader could be fooled by each of them.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_UNSAFE_IN_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_NAMES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_PEER_ID: Final = re.compile(r"(?<![/\w])(rn[a-z2-7]{10})[a-z2-7]{46}(?![/\w])")

_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def safe(text: object) -> str:
    """Return text on one line that does nothing to a terminal: every control character is shown as its escape."""
    return _UNSAFE.sub(_escape, str(text))


def brief(text: object) -> str:
    """Return safe text with the beginnings of peers' ids in place of whole ones, as tables show them and commands take them.

    Parts of paths stay as they are.
    """
    return _PEER_ID.sub(r"\1…", safe(text))


def safe_lines(text: str) -> str:
    """Return text that does nothing to a terminal but go to new lines and tab stops."""
    return _UNSAFE_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character in _NAMES:
        return _NAMES[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def size(size_bytes: float | None) -> str:
    """Return a size as `1.2 MiB`."""
    if size_bytes is None:
        return "-"
    amount, unit = float(size_bytes), 0
    # 1023.95 would be printed as 1024.0
    while amount >= 1023.95 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} B" if unit == 0 else f"{amount:.1f} {_SIZES[unit]}"


def duration(seconds: float | None) -> str:
    """Return a duration as `0.6s`, `12s`, `3m 05s`, `2h 03m` or `5d 04h`."""
    if seconds is None:
        return "-"
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def moment(text: object) -> datetime | None:
    """Return the aware time of an RFC 3339 text, or `None` where there is none."""
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def ago(text: object, *, now: datetime) -> str:
    """Return how long ago a time was, `12s ago`; past a month its date."""
    then = moment(text)
    if then is None:
        return "-"
    seconds = (now - then).total_seconds()
    if seconds < 1:
        # Clocks of two machines differ a little; minutes ahead are said as they are.
        return "now" if seconds > -5 else f"in {_roughly(-seconds)}"
    return f"{_roughly(seconds)} ago" if seconds < 31 * 86400 else f"{then.astimezone():%Y-%m-%d}"


def _roughly(seconds: float) -> str:
    for step, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= step:
            return f"{int(seconds // step)}{unit}"
    return f"{int(seconds)}s"


def took(started: object, ended: object, *, now: datetime) -> str:
    """Return how long something took, or has taken so far."""
    start = moment(started)
    if start is None:
        return "-"
    return duration(((moment(ended) or now) - start).total_seconds())


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # most texts never need it

    return sum(0 if combining(c) or c == "\u200d" else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return the text filled up with blanks to a number of columns."""
    blanks = " " * max(columns - width(text), 0)
    return blanks + text if right else text + blanks


def clip(text: str, columns: int) -> str:
    """Return the text cut to a number of columns, with `…` where something is left out."""
    if width(text) <= columns:
        return text
    kept, used = "", 0
    for character in text:
        used += width(character)
        if used > columns - 1:
            break
        kept += character
    return kept + "…"


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    columns: int = 0,
    paint: Callable[[str], str] | None = None,
) -> list[str]:
    """Return the lines of a table, two blanks between columns, numbers and sizes to the right.

    `columns` is the width of the terminal (0: none): the last column is cut to fit. `paint` colours a cell after it
    was measured; it gets cells with their blanks.
    """
    cells = [[safe(cell) if cell is not None else "-" for cell in row] for row in rows]
    right = [_is_numeric([row[i] for row in cells if row[i] != "-"]) for i in range(len(headings))]
    widths = [max([width(headings[i]), *(width(row[i]) for row in cells)]) for i in range(len(headings))]
    lines = []
    for number, row in enumerate([list(headings), *cells]):
        padded = [pad(cell, widths[i], right=right[i]) for i, cell in enumerate(row)]
        if columns:
            before = sum(widths[:-1]) + 2 * (len(row) - 1)
            padded[-1] = clip(padded[-1].rstrip() if not right[-1] else padded[-1], max(columns - before, 10))
        if not right[-1]:
            padded[-1] = padded[-1].rstrip()
        if paint is not None and number:
            padded = [paint(cell) for cell in padded]
        lines.append("  ".join(padded).rstrip())
    return lines


def _is_numeric(cells: Sequence[str]) -> bool:
    return bool(cells) and all(_NUMERIC.fullmatch(cell) for cell in cells)


_NUMERIC: Final = re.compile(r"\d[\d.]*( [KMGTP]?i?B)?")


def count(number: int, noun: str) -> str:
    """Return `1 job` or `3 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
