"""Points at which this process can be made to die, for tests of what a crash leaves behind (design, section 7).

Each commit, message, rename and start of a program has a label. `RND_CRASH_AT=LABEL:N` ends the process by SIGKILL when it
comes to that label for the Nth time; `RND_CRASH_LABELS=FILE` writes down each label when it is first come to. With neither
set, as ever but in tests, a point is a look at one variable.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

AT: Final = "RND_CRASH_AT"
LABELS: Final = "RND_CRASH_LABELS"
_LOCAL_NAMES: Final = re.compile(r"\.<locals>\.(work|<lambda>)$")

_watch: Callable[[str], None] | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Heed what the environment says. Raises `ValueError` where it says no label and number."""
    global _watch
    label, _, number = environment.get(AT, "").rpartition(":")
    if AT in environment and not (label and number.isdecimal()):
        raise ValueError(f"{AT} is to be LABEL:N, as in 'commit JobRunner._cancel:1'")
    if AT in environment or LABELS in environment:
        _watch = _Watch(label, int(number or 0), environment.get(LABELS, "")).note


def reach(kind: str, name: str) -> None:
    """Come to a point: `kind` is what is about to happen, or has, and `name` of what."""
    if _watch is not None:
        _watch(f"{kind} {name}")


def reach_message(kind: str, text: str) -> None:
    """Come to a point of a message that is text by now."""
    if _watch is not None:
        _watch(f"{kind} {json.loads(text)['type']}")


def reach_commit(kind: str, works: Callable[[], list[object]]) -> None:
    """Come to a point of a transaction that does several callers' work."""
    if _watch is not None:
        for work in works():
            _watch(f"{kind} {name_of(work)}")


def name_of(work: object) -> str:
    """Return the name of the function in which a piece of work was defined."""
    while isinstance(work, functools.partial):
        work = next((each for each in (*work.args, *work.keywords.values()) if callable(each)), work.func)
    return _LOCAL_NAMES.sub("", getattr(work, "__qualname__", type(work).__name__))


class _Watch:
    """Counts points, in any thread."""

    def __init__(self, label: str, number: int, path: str) -> None:
        self._label = label
        self._number = number
        self._path = path
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, label: str) -> None:
        with self._lock:
            self._seen[label] += 1
            if self._path and self._seen[label] == 1:
                with open(self._path, "a") as file:
                    file.write(f"{label}\n")
            if label == self._label and self._seen[label] == self._number:
                os.kill(os.getpid(), signal.SIGKILL)
