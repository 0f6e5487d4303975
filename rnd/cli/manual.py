"""The manual page rnd(1), made by walking the parser, so that it is never behind."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from typing import Final

from rnd import __version__
from rnd.cli.parser import EPILOG, OVERVIEW, build_parser

_FILES: Final = (
    ("/etc/rnd/rnd.toml, /etc/rnd/conf.d/*.toml", "the configuration; `rnd config show --origin` lists every key"),
    ("$XDG_CONFIG_HOME/rnd/rnd.toml", "the same, of one person"),
    ("/var/lib/rnd, $XDG_STATE_HOME/rnd", "the data directory of a service of the machine, of a service of one person"),
)


def manual_page() -> str:
    """Return the page in the language of man(7)."""
    title, _, overview = OVERVIEW.partition("\n")
    lines = [
        f'.TH RND 1 "" "rnd {__version__}" "rnd"',
        *(".SH NAME", rf"rnd \- {_text(title.removeprefix('rnd ').rstrip('.'))}"),
        *(".SH SYNOPSIS", r".B rnd", r".I COMMAND", r"[\fIOPTION\fR...]"),
        *(".SH DESCRIPTION", ".nf", *map(_text, overview.strip().splitlines()), ".fi"),
        ".SH COMMANDS",
    ]
    root = build_parser()
    for words, summary, parser in every_command(root, "rnd", ""):
        lines += _command(words, summary, parser, [] if parser is root else flags_of(root))
    lines += [".SH FILES"]
    for name, meaning in _FILES:
        lines += [".TP", rf"\fI{_text(name)}\fR", _text(meaning)]
    lines += [".SH EXIT STATUS", ".nf", *map(_text, EPILOG.strip().splitlines()), ".fi"]
    return "\n".join(lines) + "\n"


def every_command(
    parser: argparse.ArgumentParser, words: str, summary: str
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield every command that does something, the root with its options first."""
    # argparse has no public way to look at its tree; these names are as old as the module.
    children = next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)
    if children is None or words == "rnd":
        yield words, summary, parser
    if children is not None:
        helps = {choice.dest: choice.help or "" for choice in children._choices_actions}
        for name, child in children.choices.items():
            yield from every_command(child, f"{words} {name}", helps.get(name, ""))


def synopsis(words: str, parser: argparse.ArgumentParser) -> str:
    """Return a command with its arguments, options aside: `rnd cancel [EXECUTION...]`."""
    positionals = [a for a in parser._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction)]
    return " ".join([words, *map(_placeholder, positionals)])


def explained(
    parser: argparse.ArgumentParser, said: Collection[tuple[str, ...]] = ()
) -> Iterator[tuple[argparse.Action, str, str]]:
    """Yield each option that is not `said` already, and each argument that has a meaning: as it is written, and that."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        if action.option_strings and tuple(action.option_strings) not in said:
            follows = f" {_placeholder(action)}" if action.nargs != 0 else ""
            yield action, ", ".join(action.option_strings) + follows, action.help or ""
        elif not action.option_strings and action.help:
            yield action, _placeholder(action), action.help


def flags_of(parser: argparse.ArgumentParser) -> list[tuple[str, ...]]:
    """Return the options of a parser, each with all its spellings."""
    return [tuple(action.option_strings) for action in parser._actions]


def _command(words: str, summary: str, parser: argparse.ArgumentParser, said: list[tuple[str, ...]]) -> list[str]:
    """Return the section of one command; options that are `said` already are left out."""
    lines = [f'.SS "{_text(synopsis(words, parser))}"']
    lines += [_text(summary)] if summary else []
    for action, written, meaning in explained(parser, said):
        lines += [".TP", rf"\f{'B' if action.option_strings else 'I'}{_text(written)}\fR", _text(meaning)]
    if parser.epilog and parser.prog != "rnd":
        lines += [".PP", ".nf", *map(_text, parser.epilog.strip().splitlines()), ".fi"]
    return lines


def _placeholder(action: argparse.Action) -> str:
    word = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    match action.nargs:
        case "?":
            return f"[{word}]"
        case "*":
            return f"[{word}...]"
        case "+":
            return f"{word}..."
        case _:
            return word


def _text(text: str) -> str:
    """Return text as roff takes it: no dash is a hyphen, and nothing at the start of a line is a request."""
    escaped = " ".join(text.split("\n")).replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
