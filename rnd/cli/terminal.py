"""Where words go: data to standard output, everything else to standard error, and the lines that are drawn again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from rnd.cli import words
from rnd.cli.failures import UNWRITTEN, CommandFailed

_COLOURS: Final[Mapping[str, str]] = {
    "COMPLETED": "32",
    "ACTIVE": "32",
    "ok": "32",
    "accepted": "32",
    "allowed": "32",
    "RUNNING": "36",
    "READY": "36",
    "FAILED": "31",
    "ERRORED": "31",
    "wrong": "31",
    "refused": "31",
    "no way": "31",
    "denied": "31",
    "CANCELLED": "33",
    "INACTIVE": "33",
    "warn": "33",
}


class Terminal:
    """The two streams of one command, and how it was asked to speak.

    `as_json` puts one JSON document on standard output and nothing else there; `quiet` keeps ids only.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        environment = os.environ if environment is None else environment
        # https://no-color.org: set and not empty
        plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") in {None, "dumb"}
        self.is_terminal = self._out.isatty()
        self.is_live = (
            self._err.isatty() and not as_json and not quiet and environment.get("TERM") not in {None, "dumb"}
        )
        self._colour_out = self.is_terminal and not plain
        self._colour_err = self._err.isatty() and not plain
        for stream in (self._out, self._err):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                # A stream that cannot say a character says its escape instead of ending the command.
                reconfigure(errors="backslashreplace")

    # ------------------------------------------------------------------ data

    def data(self, value: object) -> None:
        """Print the one JSON document of a `--json` command, so that `jq` and `json.loads` take it as it is."""
        # Escaped to ASCII: nothing in it can act on a terminal.
        self._write(self._out, json.dumps(value, indent=2 if self.is_terminal else None) + "\n")

    def listed(self, items: Sequence[Mapping[str, Any]], *, total: int | None = None, key: str = "id") -> bool:
        """Print a list for a program, as one document or one `key` a line; False where a person is to see it."""
        if self.as_json:
            self.data({"items": items, "total": len(items) if total is None else total})
        elif self.quiet:
            for item in items:
                self.line(words.safe(item[key]))
        return self.as_json or self.quiet

    def line(self, text: str = "") -> None:
        """Print one line of the answer. Texts from outside must have gone through `words.safe`."""
        self._write(self._out, text + "\n")

    def text(self, text: str) -> None:
        """Print text as it is: logs and such, already made safe where that is due."""
        self._write(self._out, text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; its cells are made safe here."""
        columns = terminal_columns() if self.is_terminal else 0
        for line in words.table(headings, rows, columns=columns, paint=self.paint if self._colour_out else None):
            self.line(line)

    def facts(self, facts: Sequence[tuple[str, object]]) -> None:
        """Print names and values, one pair a line, aligned; a value of `None` is left out."""
        shown = [(name, value) for name, value in facts if value is not None]
        longest = max((words.width(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"{words.pad(name, longest)}  {self.paint(words.safe(value))}".rstrip())

    def paint(self, text: str, *, on_error: bool = False) -> str:
        """Return the text in the colour of the status word it consists of, where colours are wanted."""
        colour = _COLOURS.get(text.strip())
        wanted = self._colour_err if on_error else self._colour_out
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and wanted else text

    # ------------------------------------------------------------------ everything else

    def note(self, text: str) -> None:
        """Print a remark to standard error, unless only ids or JSON were asked for."""
        if not self.quiet and not self.as_json:
            self._write(self._err, text + "\n")

    def failure(self, failed: CommandFailed) -> None:
        """Say what went wrong: the sentence, each problem, the hint; with `--json` also as a document."""
        self._write(self._err, f"rnd: {words.brief(failed.message)}\n")
        for problem in failed.problems:
            self._write(self._err, f"  - {words.brief(problem)}\n")
        if failed.hint:
            self._write(self._err, f"hint: {words.safe(failed.hint)}\n")
        if self.as_json:
            error = failed.error or {"message": failed.message, "data": {"hint": failed.hint}}
            self.data({"error": {**error, "exit_code": failed.exit_code}})

    def live(self) -> LiveLines:
        """Return the lines that a watching command draws again and again (on a terminal only)."""
        return LiveLines(self)

    def write_error(self, text: str) -> None:
        """Write raw text to standard error (prompts, and the lines that are drawn again)."""
        self._write(self._err, text)

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            # What could not be written is still in the stream, which would be written again on the way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is self._out:
                why = error.strerror or str(error)
                raise CommandFailed(f"the answer cannot be written: {why}", exit_code=UNWRITTEN) from None


class LiveLines:
    """A few lines at the end of the terminal that are replaced in place: two ANSI codes, nothing else."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._drawn: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what was drawn last. Lines must be safe; longer than the terminal is wide, they are cut."""
        columns, height = terminal_columns(), terminal_lines()
        kept = [words.clip(line, columns - 1) for line in lines]
        if len(kept) > height - 1:
            kept = [*kept[: height - 2], f"... {len(kept) - height + 2} more"]
        if kept == self._drawn:
            return
        painted = "".join(self._painted(line) + "\x1b[K\n" for line in kept)
        self._terminal.write_error(self._back() + painted + ("\x1b[J" if len(kept) < len(self._drawn) else ""))
        self._drawn = kept

    def clear(self) -> None:
        """Take the lines away."""
        if self._drawn:
            self._terminal.write_error(self._back() + "\x1b[J")
            self._drawn = []

    def _back(self) -> str:
        return f"\x1b[{len(self._drawn)}F" if self._drawn else ""

    def _painted(self, line: str) -> str:
        return "  ".join(self._terminal.paint(cell, on_error=True) for cell in line.split("  "))


def terminal_columns() -> int:
    """Return how wide the terminal is."""
    return _terminal_size()[0]


def terminal_lines() -> int:
    """Return how many lines the terminal has."""
    return _terminal_size()[1]


def _terminal_size() -> tuple[int, int]:
    for descriptor in (1, 2, 0):
        try:
            found = os.get_terminal_size(descriptor)
        except OSError:
            continue
        if found.columns > 0 and found.lines > 0:
            return max(found.columns, 20), max(found.lines, 4)
    return 80, 24


def now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def member(value: Mapping[str, Any], *names: str) -> Any:
    """Return the first of the named members that is there and not null."""
    return next((value[name] for name in names if value.get(name) is not None), None)
