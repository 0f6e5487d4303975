"""How commands end: the exit codes, and the one error that carries everything the person is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
EXECUTION_FAILED: Final = 3
AUTH: Final = 4
UNREACHABLE: Final = 5
STILL_RUNNING: Final = 6
EXECUTION_CANCELLED: Final = 7
UNWRITTEN: Final = 74
"""Standard output takes no more (a full disk): EX_IOERR of sysexits.h."""
INTERRUPTED: Final = 130

PERMISSION_DENIED_CODE: Final = 1600


class CommandFailed(Exception):
    """A command cannot do what was asked; the message is for the person, and `exit_code` for their script."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = REFUSED,
        hint: str = "",
        problems: Iterable[str] = (),
        error: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.problems = tuple(problems)
        self.error = error
        """The JSON-RPC error object as the daemon sent it, for `--json`."""


def usage(message: str, *, hint: str = "") -> CommandFailed:
    """Return the failure for arguments that make no sense."""
    return CommandFailed(message, exit_code=USAGE, hint=hint)


def refused_by_daemon(error: dict[str, Any]) -> CommandFailed:
    """Return the failure for a JSON-RPC error object: its sentence, its hint and each of its problems."""
    data = error.get("data")
    facts: dict[str, Any] = data if isinstance(data, dict) else {}
    message = str(error.get("message", "the daemon refused without a reason"))
    problems = [_problem_line(problem) for problem in facts.get("problems") or () if isinstance(problem, dict)]
    if problems:
        message = _without_problems(message, facts["problems"])
    if facts.get("reason") and str(facts["reason"]) not in message:
        message += f": {facts['reason']}"
    hint = str(facts.get("hint") or "")
    if problems and "data.problems" in hint:
        hint = ""  # it points a program to what stands here in plain words
    if facts.get("error_id"):
        hint = f"This is a fault of the daemon; its log says more under error_id={facts['error_id']}."
    code = error.get("code")
    return CommandFailed(
        message,
        exit_code=AUTH if code == PERMISSION_DENIED_CODE else REFUSED,
        hint=hint,
        problems=problems,
        error=error,
    )


def another_peers(failed: CommandFailed) -> bool:
    """Tell whether a call failed for another peer's sake, which says nothing about the next call."""
    return _facts(failed).get("error") in {"PEER_UNREACHABLE", "PEER_REFUSED"}


def in_plain_words(failed: CommandFailed, *, hint: str) -> CommandFailed:
    """Return a refusal of one parameter as somebody reads it who typed a word and no JSON; any other as it is."""
    facts = _facts(failed)
    if facts.get("error") != "INVALID_PARAMS":
        return failed
    message = failed.message.removeprefix(f"Invalid params: {facts.get('parameter')}: ")
    return CommandFailed(message, exit_code=failed.exit_code, hint=hint, error=failed.error)


def _facts(failed: CommandFailed) -> dict[str, Any]:
    data = (failed.error or {}).get("data")
    return data if isinstance(data, dict) else {}


def _without_problems(message: str, problems: list[dict[str, Any]]) -> str:
    """Return what is left to say when each problem stands on a line of its own."""
    repeated = all(str(problem.get("message", "")) in message for problem in problems)
    count = len(problems)
    return f"{count} problem{'s' if count != 1 else ''} found" if repeated else message


def _problem_line(problem: dict[str, Any]) -> str:
    places = [str(problem["place"])] if problem.get("place") else []
    places += [
        f"{word} {problem[key]}"
        for key, word in (("node_id", "node"), ("connection_id", "connection"))
        if problem.get(key) is not None
    ]
    return f"{', '.join(places)}: {problem.get('message', '')}" if places else str(problem.get("message", ""))
