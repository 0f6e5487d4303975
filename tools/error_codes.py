#!/usr/bin/env python3
"""Make the tables of docs/errors.md from rnd/types/errors.py and the envelope; the prose is written by hand.

Run it from anywhere after an error has changed. A test fails while they differ.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(PROJECT))

from rnd.api import envelope  # noqa: E402 - the project has to be found first
from rnd.types import errors  # noqa: E402 - the same
from rnd.types.errors import ApplicationError  # noqa: E402 - the same
from tools.made_part import MadePart, table_of  # noqa: E402 - the same

PROTOCOL = (
    (envelope.PARSE_ERROR, "PARSE_ERROR", "The body is no JSON, or JSON that says two things or none.",
     "`data.hint` says where: a key that stands twice, NaN, too deep, no UTF-8."),
    (envelope.INVALID_REQUEST, "INVALID_REQUEST", "It is JSON and no call of JSON-RPC 2.0.",
     '`data.hint` says what is missing; `"jsonrpc": "2.0"` has to be there.'),
    (envelope.METHOD_NOT_FOUND, "METHOD_NOT_FOUND", "There is no such method.",
     "`rpc.discover` lists them, as [rpc-methods.md](rpc-methods.md) does."),
    (envelope.INVALID_PARAMS, "INVALID_PARAMS", "A parameter is unknown, missing, or not what it has to be.",
     "The message and `data.parameter` name it."),
    (envelope.INTERNAL_ERROR, "INTERNAL", "A fault of the daemon.",
     "`data.error_id` is in its log, with what happened: `grep error_id=... logs/peer.log`."),
)  # fmt: skip


def application_errors() -> list[type[ApplicationError]]:
    """Return every error that has a code of its own, by its code. Those derived from it differ in words only."""
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ApplicationError)]
    return sorted((each for each in classes if "code" in vars(each)), key=lambda error: error.code)


def derived_from(error: type[ApplicationError]) -> list[type[ApplicationError]]:
    """Return the errors that are derived from one, of those that every part of rnd may raise."""
    return [each for each in vars(errors).values() if isinstance(each, type) and error in each.__bases__]


def hints(error: type[ApplicationError]) -> str:
    """Return what to do about an error, and what else in the cases that have a hint of their own."""
    own = [error.default_hint]
    own += [
        f"{inspect.getdoc(each)} {each.default_hint}" for each in derived_from(error) if "default_hint" in vars(each)
    ]
    return " ".join(own)


def tables() -> str:
    """Return the errors of the application and those of the protocol."""
    columns = ("code", "`data.error`", "when", "what to do")
    ours = [
        (str(error.code), f"`{error.error}`", inspect.getdoc(error) or "", hints(error))
        for error in application_errors()
    ]
    theirs = [(str(code), f"`{name}`", when, do) for code, name, when, do in PROTOCOL]
    return f"### Of the application\n\n{table_of(columns, ours)}\n\n### Of the protocol\n\n{table_of(columns, theirs)}"


PART = MadePart(name="errors.md", tool="error_codes.py", make=tables)

if __name__ == "__main__":
    PART.write()
