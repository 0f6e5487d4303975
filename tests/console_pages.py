"""Pages whose console blocks can be run as they stand: every command in one shell, what it prints compared with what is shown."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.running_peer import processes_below

PROJECT = Path(__file__).resolve().parent.parent
STEP_WITHIN_S = 90.0


def tool(name: str) -> ModuleType:
    """Return one of the scripts in tools/ as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", PROJECT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What may differ from run to run, and the word that stands for it on both sides.
MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "TRANSFER"),
    (r"\b[0-9a-f]{32}\b", "UID"),
    (r"rnd-invite:1/\S+", "INVITE"),
    (r"\brn[a-z2-7]{56}\b|\brn[a-z2-7]{6,12}(?=…)", "PEER"),
    (r"\b\d+\.\d+\.\d+\.\d+:\d+", "ADDRESS"),
    (r"\b\d+\.\d+\.\d+\b", "VERSION"),
    (r"(?<=\s)/\S*/(?=\w+/api\.sock)", "PLACE/"),
    (r"\b(\d+m )?\d+(\.\d+)?( ms|ms|s)\b", "SECONDS"),
    (r"\|\d+\.\d+(?=\||$)", "|SECONDS"),
    (r"\bnow\b|\bSECONDS ago\b", "WHEN"),
    (r"\bup(, SECONDS)?(?= )", "up"),
    (r" +[\d.]+ [KMG]?i?B/s", ""),
    (r"\b[\d.]+ [GT]iB\b", "ROOM"),
    (r"^(docker|standalone) jobs .*", r"\1 jobs"),
    (r" +", " "),
)
# What a terminal shows for a moment while an execution goes on, and a file keeps.
PROGRESS = re.compile(r"execution \d+(:| PENDING| RUNNING)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a page has its reader do: a file to write, or a command with what it prints.

    `machine` is what stands before the `$`: "" where there is only one.
    """

    command: str = ""
    shown: str = ""
    file: str = ""
    machine: str = ""


def steps_of(page: Path) -> list[Step]:
    """Return the steps of a page: its `console` blocks, and each block that has the name of a file behind its language."""
    steps = []
    blocks = re.findall(r"^```(\S+)(?: (\S+))?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for language, name, content in blocks:
        if name:
            steps.append(Step(file=name, shown=content))
        elif language == "console":
            _, *parts = re.split(r"^(\w*)\$ ", content, flags=re.MULTILINE)
            for machine, part in zip(parts[::2], parts[1::2], strict=True):
                lines = part.splitlines(keepends=True)
                more = list(itertools.takewhile(lambda line: line.startswith("> "), lines[1:]))
                command = "".join([lines[0], *(line.removeprefix("> ") for line in more)]).rstrip("\n")
                steps.append(Step(command=command, shown="".join(lines[1 + len(more) :]), machine=machine))
    return steps


class Shell:
    """A shell in which one command after the other is run, as somebody types them; `within` is what its command line begins with."""

    def __init__(self, place: Path, environment: Mapping[str, str], within: Sequence[str] = ()) -> None:
        self._notes = place / f".shell-{id(self)}"
        command = self._notes / "bin" / "rnd"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(PROJECT))} exec {sys.executable} -m rnd "$@"\n')
        command.chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RND_")}
        own = {"PATH": f"{command.parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [*within, "bash"],
            cwd=place,
            env={**clean, **own, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._count = 0

    def run(self, command: str) -> str:
        """Run a command and return what it prints, on standard output and on standard error. Raises `AssertionError`."""
        self._count += 1
        script, output, code = (self._notes / f"{self._count}.{kind}" for kind in ("sh", "out", "code"))
        script.write_text(command + "\n")
        assert self._process.stdin is not None
        self._process.stdin.write(
            f"source {script} </dev/null >{output} 2>&1; echo $? >{code}.new; mv {code}.new {code}\n"
        )
        self._process.stdin.flush()
        deadline = time.monotonic() + STEP_WITHIN_S
        while not code.exists():
            printed = output.read_text(errors="replace") if output.exists() else ""
            assert time.monotonic() < deadline, f"not within {STEP_WITHIN_S:g} s: {command}\n{printed}"
            time.sleep(0.02)
        return output.read_text(errors="replace")

    def close(self) -> None:
        """End the shell; what it has started goes on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(STEP_WITHIN_S)


def masked(output: str) -> list[str]:
    """Return the lines of an output with words in place of what differs from run to run."""
    lines = [line for line in output.splitlines() if not PROGRESS.match(line)]
    for pattern, word in MASKS:
        lines = [re.sub(pattern, word, line) for line in lines]
    return [line.strip() for line in lines]


def is_as_shown(output: str, shown: str) -> bool:
    """Tell whether an output is what a page shows, where a line of three dots stands for any lines."""
    pattern = "".join("(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in masked(shown))
    return re.fullmatch(pattern, "".join(line + "\n" for line in masked(output))) is not None


def check_steps(steps: Sequence[Step], place: Path, shells: Mapping[str, Shell]) -> None:
    """Do what a page says, each command in the shell of its machine. Raises `AssertionError` with the first that prints something else."""
    assert len(steps) > 3
    for step in steps:
        if step.file:
            (place / step.file).write_text(step.shown)
        else:
            output = shells[step.machine].run(step.command)
            wrong = f"{step.machine}$ {step.command}\n{output}\n--- is not what is shown:\n{step.shown}"
            assert is_as_shown(output, step.shown), wrong


@contextlib.contextmanager
def shell_in(place: Path, environment: Mapping[str, str] | None = None, within: Sequence[str] = ()) -> Iterator[Shell]:
    """Open a shell; end it, and whatever it has left running in `place`, afterwards."""
    shell = Shell(place, environment or {}, within)
    try:
        yield shell
    finally:
        shell.close()
        for pid in processes_below(place):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
