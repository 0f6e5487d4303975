#!/usr/bin/env python3
"""Make the tables of docs/log-events.md from rnd/types/log_events.py; the prose around them is written by hand.

Run it from anywhere after the catalogue has changed. A test fails while the two differ.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CATALOGUE = PROJECT / "rnd" / "types" / "log_events.py"
PAGE = PROJECT / "docs" / "log-events.md"
BEGIN = "<!-- The tables below are made by tools/log_events.py; do not edit them by hand. -->"
END = "<!-- End of the tables. -->"

sys.path.insert(0, str(PROJECT))

from rnd.types.log_events import LogEvent  # noqa: E402 - the project has to be found first


def sections() -> list[tuple[str, list[LogEvent]]]:
    """Return the catalogue's sections, title and events, as its source groups them by `# -- title` comments."""
    found: list[tuple[str, list[LogEvent]]] = []
    for line in CATALOGUE.read_text(encoding="utf-8").splitlines():
        if title := re.fullmatch(r"    # -- (.+)", line):
            found.append((title[1], []))
        elif member := re.match(r"    ([A-Z][A-Z0-9_]*) = ", line):
            found[-1][1].append(LogEvent[member[1]])
    return found


def tables() -> str:
    """Return every section as a Markdown table: event, text, level, fields that follow the text, meaning."""
    parts = []
    for title, events in sections():
        rows = [
            f"| `{event.name}` | `{event}` | {event.level.upper()} | {', '.join(f'`{name}`' for name in event.also)} "
            f"| {event.meaning} |".replace("  |", " |")
            for event in events
        ]
        parts.append(
            "\n".join([f"### {title}", "", "| event | text | level | then | meaning |", "|---|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts)


def page_with_tables(page: str) -> str:
    """Return the page with its tables made anew. Raises `ValueError` when a marker is gone."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has lost one of its two markers")
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
