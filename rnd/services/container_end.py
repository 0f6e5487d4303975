"""How a run in a container has ended, in the words of an `Observation`. Pure, but for none of it being believed blindly.

The first process of a container is the engine's own small init, so that signals reach the program and its dead children
are reaped. It ends with 128 + N where the program was killed by signal N, and says so itself where there is no program.
"""

from __future__ import annotations

import re
import signal
from typing import Any, Final, NamedTuple

SIGNALLED: Final = 128
NOT_STARTED: Final = frozenset({1, 126, 127})
"""How docker's init ends where there is no program, and, with 1, podman's."""
_INIT_WORDS: Final = re.compile(
    r"\[FATAL tini \(\d+\)\] exec (?P<program>.*) failed: (?P<words>.*)"
    r"|ERROR \(catatonit:\d+\): failed to exec pid1: (?P<podman>.*)"
)
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z")
NEVER: Final = "0001-"
"""How the engine's moments begin that have not come."""


class Circumstances(NamedTuple):
    """What is known of a run beside what the engine says of its end."""

    memory_bytes: int
    read_only_root: bool
    program: str = ""
    stderr_tail: str = ""
    streams_cut: tuple[str, ...] = ()
    streams_lost: bool = False
    fault: str = ""
    cancelled: bool = False
    shaken: bool = False


def account(state: dict[str, Any], around: Circumstances) -> dict[str, Any]:
    """Return the fields of an observation for the `State` of a container that has exited."""
    code = int(state.get("ExitCode", 0))
    started_at, ended_at = _moment(state.get("StartedAt")), _moment(state.get("FinishedAt"))
    if started_at and ended_at:
        ended_at = max(started_at, ended_at)  # the engine may note the start of a short one after its end
    facts = {
        "started_at": started_at,
        "ended_at": ended_at,
        "streams_cut": list(around.streams_cut),
        "streams_lost": around.streams_lost,
    }
    if code in NOT_STARTED and (said := _INIT_WORDS.match(around.stderr_tail)):
        program, words = said["program"] or around.program, said["words"] or said["podman"]
        return rejected(f"the program {program} cannot be started in the container: {words}", **facts)
    if around.shaken and code == 0 and not around.fault:
        words = "the container engine went away while it ran, and whether the program had finished is not known"
        return lost(words, **facts)
    number = code - SIGNALLED if code > SIGNALLED and _is_signal(code - SIGNALLED) else None
    if around.fault:
        number = signal.SIGKILL
    return {
        "phase": "EXITED",
        "exit_code": code if number is None else None,
        "signal": None if number is None else int(number),
        "reason": _reason(state, around, code, number),
        **facts,
    }


def rejected(words: str, **facts: object) -> dict[str, Any]:
    """Return the fields for a program that was never started."""
    return {"phase": "REJECTED", "reason": words, **facts}


def lost(words: str, **facts: object) -> dict[str, Any]:
    """Return the fields for a run that is gone."""
    return {"phase": "LOST", "reason": words, **facts}


def _reason(state: dict[str, Any], around: Circumstances, code: int, number: int | None) -> str:
    if around.fault:
        return around.fault
    if around.cancelled:
        return "ended because it was cancelled"
    if state.get("OOMKilled") and code != 0:
        return f"killed by the memory limit of {around.memory_bytes} bytes"
    words = [str(state.get("Error") or "")]
    if around.shaken:
        words.append("the container engine went away while it ran")
    if number is not None:
        words.append(f"ended by {signal.Signals(number).name}")
    if code != 0:
        words.append(_hint(around))
    return "; ".join(filter(None, words))


def _hint(around: Circumstances) -> str:
    said = around.stderr_tail
    if "Read-only file system" in said and around.read_only_root:
        return "the container's root is read-only: a program can write to /output, /tmp and its writable mounts"
    if "Operation not permitted" in said or "Permission denied" in said:
        return "the program has no capabilities and is not root: it may need cap_add or user of the service"
    return ""


def _is_signal(number: int) -> bool:
    return number in {int(each) for each in signal.Signals}


def _moment(text: object) -> str | None:
    """Return a moment of the engine, nanoseconds and all, in our form; `None` where it has not come."""
    found = _MOMENT.fullmatch(str(text))
    if found is None or str(text).startswith(NEVER):
        return None
    return f"{found[1]}.{(found[2] or '')[:3].ljust(3, '0')}Z"
