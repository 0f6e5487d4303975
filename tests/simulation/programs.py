"""What the programs of a simulated world do: all that they leave follows from their name, attempt and inputs.

So the oracle can say, byte by byte, what every program must have read and what must come home.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rnd.services.executor import JobRun

IN: Final = "/in"
OUT: Final = "/out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that a peer offers. Its n-th start takes the n-th duration and ends with the n-th code, the last for good."""

    name: str
    peer: int
    durations_s: tuple[float, ...]
    exit_codes: tuple[int, ...]
    stdout_bytes: int
    tree: tuple[tuple[str, int], ...]
    """What it leaves in /out: relative paths and sizes."""
    attempts: int = 1
    needs_grant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a job has before it: standard input, and the files of its MOUNT /in."""

    stdin: bytes
    files: Mapping[str, bytes]

    def digest(self) -> str:
        """Return what stands for all of it."""
        digest = hashlib.sha256(b"%d " % len(self.stdin) + self.stdin)
        for path in sorted(self.files):
            digest.update(f"\n{path} {len(self.files[path])} ".encode() + self.files[path])
        return digest.hexdigest()


def read_inputs(run: JobRun) -> Inputs:
    """Read what a job has on disk."""
    root = run.directory / "mounts" / IN.strip("/")
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return Inputs(stdin=b"".join(path.read_bytes() for path in run.stdin_files), files=files)


def stdout_of(program: Program, attempt: int, inputs: Inputs) -> bytes:
    """Return what a program says."""
    return _bytes(program.stdout_bytes, program.name, "stdout", attempt, inputs.digest())


def tree_of(program: Program, attempt: int, inputs: Inputs) -> dict[str, bytes]:
    """Return what a program leaves in /out."""
    digest = inputs.digest()
    return {path: _bytes(size, program.name, path, attempt, digest) for path, size in program.tree}


def leave(run: JobRun, program: Program, inputs: Inputs, *, is_whole: bool) -> None:
    """Write what a program leaves; half of it where it did not come to a good end."""
    logs, out = run.directory / "logs", run.directory / "mounts" / OUT.strip("/")
    for folder in (logs, run.directory / "output", out):
        folder.mkdir(parents=True, exist_ok=True)
    said = stdout_of(program, run.attempt, inputs)
    left = tree_of(program, run.attempt, inputs)
    if not is_whole:
        said = said[: len(said) // 2]
        left = {path: content[: len(content) // 2] for path, content in list(left.items())[:1]}
        left["half-done.tmp"] = said
    (logs / "stdout.txt").write_bytes(said)
    (logs / "stderr.txt").write_bytes(b"")
    (logs / "logs.txt").write_bytes(said)
    for path, content in left.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)


def data_bytes(name: str, path: str, size: int) -> bytes:
    """Return the content of a file of a DATA service or of a host."""
    return _bytes(size, name, path)


def _bytes(size: int, *words: object) -> bytes:
    return hashlib.shake_128(" ".join(map(str, words)).encode()).digest(size)
