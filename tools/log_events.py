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

sys.path.insert(0, str(PROJECT))

from rnd.types.log_events import LogEvent  # noqa: E402 - the project has to be found first
from tools.made_part import MadePart, table_of  # noqa: E402 - the same


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
            (
                f"`{event.name}`",
                f"`{event}`",
                event.level.upper(),
                ", ".join(f"`{name}`" for name in event.also),
                event.meaning,
            )
            for event in events
        ]
        parts.append(f"### {title}\n\n" + table_of(("event", "text", "level", "then", "meaning"), rows))
    return "\n\n".join(parts)


PART = MadePart(name="log-events.md", tool="log_events.py", make=tables)

if __name__ == "__main__":
    PART.write()
