"""tools/quickstart ends with the right counts whatever the text is, may be repeated, and leaves nothing running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
QUICKSTART = PROJECT / "tools" / "quickstart"

HOSTILE_TEXT = (
    b"\n\n\nThe first line, after three empty ones.\r\n"
    + "Größe, naïve, 数える, \u2028 e\u0301 and The the THE\n".encode()
    + b"\x00nul\x00bytes \xff\xfe and-hyphens it's\n"
    + b"one huge line " * 60_000
    + b"\n"
    + b"X" * 300_000
    + b"\n\nthe last line has no end"
)


def counts_of(text: bytes) -> list[str]:
    r"""Return what `tr -cs A-Za-z '\n' | tr A-Z a-z | sed '/^$/d' | sort | uniq -c` prints in the C locale."""
    words = Counter(word.decode().lower() for word in re.findall(rb"[A-Za-z]+", text))
    return [f"{words[word]:7d} {word}" for word in sorted(words)]


def run_quickstart(place: Path, *arguments: str) -> str:
    own = {"QUICKSTART_DIR": str(place), "TOOLS_ENVIRONMENT": sys.prefix, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [str(QUICKSTART), *arguments],
        env={**os.environ, **own},
        cwd=place.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def processes_that_know(place: Path) -> list[str]:
    """Return the command lines of processes that name `place` or work in it."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            directory = os.readlink(process / "cwd")
        except (OSError, ValueError):
            continue
        if process.name.isdigit() and (str(place) in command or directory.startswith(str(place))):
            found.append(f"{process.name} {command}")
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "a place with spaces"


@pytest.mark.parametrize("text", [HOSTILE_TEXT, b"", b"\n", b"word"], ids=["hostile", "empty", "no word", "one word"])
def test_the_counts_are_those_of_tr_sort_and_uniq(place: Path, text: bytes) -> None:
    file = place.parent / "a -strange name.txt"
    file.write_bytes(text)
    output = run_quickstart(place, str(file))
    (counts,) = (place / "results").rglob("counts.txt")
    assert counts.read_text().splitlines() == counts_of(text), output
    assert processes_that_know(place) == []


def test_it_can_be_repeated_and_shows_where_to_look(place: Path) -> None:
    run_quickstart(place)
    output = run_quickstart(place)
    text = (PROJECT / "README.md").read_bytes() + (PROJECT / "LICENSE").read_bytes()
    (counts,) = (place / "results").rglob("counts.txt")
    assert counts.read_text().splitlines() == counts_of(text)
    assert "identical" in output
    for word in ("sqlite3 -readonly home/rnd.db", "grep ", "curl -s --unix-socket home/api.sock"):
        assert word in output
    assert processes_that_know(place) == []


def test_an_unknown_option_and_a_missing_file_are_refused(place: Path) -> None:
    for argument in ("--fast", str(place.parent / "nothing")):
        done = subprocess.run([str(QUICKSTART), argument], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 2
        assert "tools/quickstart:" in done.stderr
