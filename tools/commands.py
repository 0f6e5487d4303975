#!/usr/bin/env python3
"""Make the commands and exit codes of docs/commands.md from the parser of `rnd`; the prose is written by hand.

Run it from anywhere after a command has changed. A test fails while they differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(PROJECT))

from rnd import daemon  # noqa: E402 - the project has to be found first
from rnd.cli import failures, main  # noqa: E402 - the same
from rnd.cli.manual import every_command, explained, flags_of, synopsis  # noqa: E402 - the same
from rnd.cli.parser import build_parser  # noqa: E402 - the same
from tools.made_part import MadePart, table_of  # noqa: E402 - the same

EXIT_CODES = (
    (failures.OK, "done; of `run`, `retry` and `watch`: the execution is COMPLETED; of `serve`: it was told to stop"),
    (
        failures.REFUSED,
        "refused: the message says why, the hint what to do; of `serve`: it cannot start, or cannot go on",
    ),
    (failures.USAGE, "the arguments, or the configuration, make no sense; nothing was done"),
    (failures.EXECUTION_FAILED, "the execution has FAILED"),
    (failures.AUTH, "the token does not allow it, or there is none"),
    (failures.UNREACHABLE, "no daemon answers"),
    (failures.STILL_RUNNING, "the time of `--timeout` has passed, and the execution goes on"),
    (failures.EXECUTION_CANCELLED, "the execution is CANCELLED"),
    (daemon.EXIT_DATABASE, "of `serve`: the database is damaged, or of a newer rnd; it is left as it is"),
    (daemon.EXIT_IN_USE, "of `serve`: another process has the data directory, or an address"),
    (failures.UNWRITTEN, "the answer could not be written, such as to a full disk; what was asked for is done"),
    (failures.INTERRUPTED, "Ctrl-C; an execution that was watched goes on"),
    (main.BROKEN_PIPE, "who read the output has gone, as with `rnd ps | head -n 1`"),
)


def section_of(words: str, summary: str, parser: argparse.ArgumentParser, said: list[tuple[str, ...]]) -> str:
    """Return the section of one command."""
    parts = [f"#### {words}", summary, f"```text\n{synopsis(words, parser)} [OPTION...]\n```"]
    rows = [(f"`{written}`", meaning) for _, written, meaning in explained(parser, said)]
    if rows:
        parts.append(table_of(("", "meaning"), rows))
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog.strip()}\n```")
    return "\n\n".join(parts)


def commands() -> str:
    """Return the options of all commands, each command with its own, and the exit codes."""
    root = build_parser()
    listed = list(every_command(root, "rnd", ""))[1:]
    common = [(f"`{written}`", meaning) for _, written, meaning in explained(root)]
    codes = [(str(code), meaning) for code, meaning in EXIT_CODES]
    parts = ["### Options of every command", table_of(("", "meaning"), common), "### Exit codes"]
    parts += [table_of(("code", "meaning"), codes), "### Commands"]
    parts += [section_of(words, summary, parser, flags_of(root)) for words, summary, parser in listed]
    return "\n\n".join(parts)


PART = MadePart(name="commands.md", tool="commands.py", make=commands)

if __name__ == "__main__":
    PART.write()
