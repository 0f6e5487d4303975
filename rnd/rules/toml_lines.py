"""Where in a TOML file each key is set, so that whoever reads of a value also reads the line to change.

Python's reader keeps no lines. This one looks at a document that Python's has taken, so it need not check anything:
what strings and comments hold is blanked first, and what is left is headers, keys and values.
"""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = re.compile(
    r'"{3}(?:\\.|[^\\])*?"{3,5}'
    r"|'{3}.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*",
    re.DOTALL,
)
_HEADER: Final = re.compile(r"\s*\[+\s*([\w.\- \t]+?)\s*\]+\s*")
_KEY: Final = re.compile(r"\s*([\w.\- \t]+?)\s*=")


def lines_of_keys(text: str) -> dict[str, int]:
    """Return the line, from 1 on, that names each key or table, such as `limits.file_bytes`; a quoted key has none."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(_WORDS.sub(_blank, text).split("\n"), 1):
        if header := _HEADER.fullmatch(line):
            table = _plain(header[1])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{table}.{_plain(key[1])}" if table else _plain(key[1]), number)
    return lines


def _plain(name: str) -> str:
    return ".".join(part.strip() for part in name.split("."))


def _blank(word: re.Match[str]) -> str:
    # A mark in place of a string keeps a line that begins with a quoted key from looking like another key.
    return "" if word[0].startswith("#") else '"' + "\n" * word[0].count("\n")
