"""What the runs over many inputs find: parsers that are wrong on purpose, each in its own way, and one that is right."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.fuzz.fuzzing import MEMORY_MAX, fuzz
from tests.fuzz.mutation import Mutator
from tests.fuzz.parsers import Parser

RUNS = 40
WRONG_AT = 30


def small(mutator: Mutator) -> bytes:
    return mutator.of_bytes(b"a")


def large(_: Mutator) -> bytes:
    return bytes(b"1" * (MEMORY_MAX + (8 << 20)))[:1]


def parser(parse: Callable[[object], object], specimen: Callable[[Mutator], object] = small) -> Parser:
    """Return a parser that may raise `KeyError`, and does other things at one of its inputs."""
    return Parser(name="wrong", specimen=specimen, parse=parse, errors=(KeyError,))


class Wrong:
    """Does one thing with one input, and nothing with the others."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self._deed = deed
        self._number = -1
        self.kept: object = None

    def __call__(self, _: object) -> None:
        self._number += 1
        if self._number == WRONG_AT:
            self.kept = self._deed()


def _raise(error: Exception) -> None:
    raise error


def _spin() -> None:
    while True:
        pass


def _take() -> None:
    b"1" * (MEMORY_MAX + (8 << 20))


def test_a_parser_that_is_right_passes_however_much_its_inputs_take_to_be_made() -> None:
    assert fuzz(parser(lambda _: None, large), RUNS) == RUNS
    assert fuzz(parser(lambda _: _raise(KeyError("as documented"))), RUNS) == 0


@pytest.mark.parametrize("deed", [lambda: _raise(ValueError("odd")), _take], ids=["another error", "much memory"])
def test_what_is_wrong_is_told_with_its_input(deed: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match=f"input {WRONG_AT} "):
        fuzz(parser(Wrong(deed)), RUNS)


def test_a_parser_that_keeps_much_is_found_though_no_input_takes_much() -> None:
    kept: list[bytes] = []
    with pytest.raises(AssertionError, match=re.escape("bytes more are in memory than before")):
        fuzz(parser(lambda _: kept.append(b"1" * (MEMORY_MAX // 16))), RUNS)


def test_a_parser_that_never_ends_is_found() -> None:
    with pytest.raises(AssertionError, match="TookTooLong"):
        fuzz(parser(Wrong(_spin)), RUNS)
