"""The command `rnd`: reads the arguments, runs one command, and turns every end into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from rnd.cli.failures import INTERRUPTED, CommandFailed
from rnd.cli.parser import parse
from rnd.cli.session import Session
from rnd.cli.terminal import Terminal

BROKEN_PIPE: Final = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Usage errors leave by `SystemExit`, as argparse does it."""
    parsed = parse(sys.argv[1:] if arguments is None else arguments)
    terminal = Terminal(as_json=parsed.json, quiet=parsed.quiet)
    session = Session(parsed, terminal)
    try:
        return _run(session)
    except CommandFailed as failed:
        terminal.failure(failed)
        return failed.exit_code
    except KeyboardInterrupt:
        terminal.write_error("\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`rnd ps | head -1`); the interpreter must not complain about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    finally:
        session.close()


def _run(session: Session) -> int:
    # Each command's module is loaded only when it runs: that keeps the start of all the others short.
    module, _, function = session.arguments.handler.partition(":")
    code: int = getattr(import_module(f"rnd.cli.{module}"), function)(session)
    return code
