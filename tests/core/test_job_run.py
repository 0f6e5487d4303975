"""How the end of a run reads to a person, and what bounds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnd.core.job_run import failure_words
from rnd.services.executor import Observation, Phase


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (Observation(phase=Phase.EXITED, exit_code=3), "Process exited with code 3"),
        (
            Observation(phase=Phase.EXITED, exit_code=3, reason="out of memory"),
            "Process exited with code 3: out of memory",
        ),
        (Observation(phase=Phase.EXITED, signal=11), "Process killed by signal 11 (SIGSEGV)"),
        (Observation(phase=Phase.EXITED, signal=63), "Process killed by signal 63 (unknown)"),
        (Observation(phase=Phase.LOST), "lost: nobody wrote down how it ended"),
        (Observation(phase=Phase.LOST, reason="power"), "lost: power"),
        (Observation(phase=Phase.REJECTED), "the program could not be started"),
        (Observation(phase=Phase.REJECTED, reason="no memory"), "no memory"),
    ],
)
def test_an_end_in_words(tmp_path: Path, observation: Observation, words: str) -> None:
    assert failure_words(observation, tmp_path) == words


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (b"first\nlast words\n\n  \n", "last words"),
        (b"bell \x07 and \xff\n", "bell ? and \ufffd"),
        (b"x" * 5_000, "x" * 200),
        (b"\n" * 5_000, ""),
        (b"", ""),
    ],
)
def test_the_last_line_of_stderr_is_quoted_short_and_printable(tmp_path: Path, said: bytes, last: str) -> None:
    (tmp_path / "stderr.txt").write_bytes(said)
    words = failure_words(Observation(phase=Phase.EXITED, exit_code=1), tmp_path)
    expected = f"Process exited with code 1; last words on stderr: {last}" if last else "Process exited with code 1"
    assert words == expected
