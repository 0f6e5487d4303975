"""Runs the command `rnd` as a person does: a process of its own, with an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rnd:
    """The command, bound to a data directory; called with its arguments."""

    data_dir: Path
    home: Path

    def __call__(self, *arguments: str | Path, stdin: str = "", **variables: str) -> Done:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env=self.environment(variables),
            input=stdin.encode(),
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
        return Done(code=done.returncode, out=_text(done.stdout), err=_text(done.stderr))

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "rnd", *map(str, arguments)]

    def environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.startswith(("COV", "PATH", "LD_"))}
        own = {
            "HOME": str(self.home),
            "PYTHONPATH": str(PROJECT),
            "RND_DATA_DIR": str(self.data_dir),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }
        return {**kept, **own, **(variables or {})}


def _text(output: bytes) -> str:
    # Not by universal newlines: a carriage return on the terminal is something that tests look for.
    return output.decode("utf-8", errors="surrogateescape")
