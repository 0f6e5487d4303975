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


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    # SUPPRESS everywhere: an option counts before and after the command, and a missing one overwrites nothing.
    group = parser.add_argument_group("common options")
    none = argparse.SUPPRESS
    group.add_argument("--json", action="store_true", default=none, help="print one JSON document")
    group.add_argument("-q", "--quiet", action="store_true", default=none, help="print ids only")
    group.add_argument("--data-dir", metavar="DIR", default=none, help="the peer's directory (RND_DATA_DIR)")
    group.add_argument("--url", metavar="URL", default=none, help="its address instead, http://HOST:PORT (RND_URL)")
    group.add_argument("--token-file", metavar="FILE", default=none, help="token for --url (RND_TOKEN_FILE, RND_TOKEN)")


def add_command(commands: Any, name: str, handler: str, summary: str, *, epilog: str = "") -> Parser:
    """Add a command that `handler` (`module:function`) runs."""
    # Any: argparse's own type for what add_subparsers returns is private.
    parser: Parser = commands.add_parser(name, help=summary, description=summary, epilog=epilog)
    parser.set_defaults(handler=handler, leaf=parser)
    add_common(parser)
    return parser


def add_list(parser: argparse.ArgumentParser, name: str, metavar: str, nargs: str, summary: str) -> None:
    """Add an argument that takes several words, those after an option too."""
    parser.add_argument(name, metavar=metavar, nargs=nargs, help=summary)
    parser.set_defaults(list_argument=name)


def add_group(commands: Any, name: str, summary: str) -> Any:
    """Add a command that has commands of its own, and return what takes them."""
    parser: Parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(incomplete=parser)
    add_common(parser)
    return parser.add_subparsers(metavar="COMMAND", parser_class=Parser, prog=parser.prog, title="commands")


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
