"""argparse as `rnd` uses it: fast to build, plain when something is wrong, and times and sizes written with units."""

from __future__ import annotations

import argparse
import re
import sys
from functools import cache
from typing import Any, NoReturn

from rnd.cli.failures import USAGE


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows its width at once: argparse makes a formatter for every argument, and each would load shutil and ask again."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=_columns())


@cache
def _columns() -> int:
    from rnd.cli.terminal import terminal_columns

    return min(terminal_columns(), 100) - 2


class Parser(argparse.ArgumentParser):
    """argparse, speaking as the rest of `rnd` does when something is wrong."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        named.setdefault("allow_abbrev", False)
        named.setdefault("formatter_class", _Formatter)
        super().__init__(*positional, **named)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong on one line, with a suggestion where a word is mistyped, and leave with the usage code."""
        wrong = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if wrong:
            from difflib import get_close_matches

            known = re.findall(r"'([^']*)'", wrong[2])
            close = get_close_matches(wrong[1], known, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known)}"
            message = f"unknown: {wrong[1]!r}{meant}"
        from rnd.cli.words import safe

        sys.stderr.write(f"rnd: {safe(message)}\nhint: {self.prog} --help\n")
        sys.exit(USAGE)


def seconds(text: str) -> float:
    """Return a time such as `90`, `30s`, `1.5m`, `2h` or `7d` in seconds. Raises `argparse.ArgumentTypeError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhd]?)", text.strip(), re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90, 30s, 10m or 2h")
    return float(match[1]) * {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def size_bytes(text: str) -> int:
    """Return a size such as `4096`, `512M` or `4GiB` in bytes. Raises `argparse.ArgumentTypeError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4096, 512M or 4G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
