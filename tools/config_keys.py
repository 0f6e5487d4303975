#!/usr/bin/env python3
"""Make the table of docs/configuration.md from rnd/types/config.py and config_keys.py; the prose is written by hand.

Run it from anywhere after a key has changed. A test fails while they differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(PROJECT))

from rnd.config import config_keys, load_config, variable_of  # noqa: E402 - the project has to be found first
from rnd.types.config_keys import BOUNDS, MEANINGS, YEAR_S  # noqa: E402 - the project is not installed here
from tools.made_part import MadePart, table_of  # noqa: E402 - the same

UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
TIMES = ((YEAR_S, "y"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def spelt(key: str, value: object) -> str:
    """Return a value as a person writes it in a sentence: 24 h, 1 GiB."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value) or "none"
    if isinstance(value, (int, float)):
        suffix = key.rpartition("_")[2]
        units = {"bytes": UNITS, "s": TIMES}.get(suffix, ())
        for size, unit in units:
            if value >= size and value % size == 0:
                return f"{value / size:,.0f} {unit}"
        return f"{value:,g}" + {"bytes": " B", "s": " s"}.get(suffix, "") if value else "0"
    return f"`{value}`" if value else "empty"


def table() -> str:
    """Return one row a key: what it is by default, what it takes, its variable, what it means."""
    loaded = load_config(environment={"HOME": "/nowhere"}, system_directory=PROJECT / "nowhere")
    rows = []
    for key in config_keys():
        default = "see there" if key == "data_dir" else spelt(key, loaded.value(key))
        bounds = ", ".join(spelt(key, bound) for bound in BOUNDS.get(key, ()))
        rows.append((f"`{key}`", default, bounds, f"`{variable_of(key)}`", MEANINGS[key]))
    return table_of(("key", "default", "from, to", "variable", "meaning"), rows)


PART = MadePart(name="configuration.md", tool="config_keys.py", make=table)

if __name__ == "__main__":
    PART.write()
