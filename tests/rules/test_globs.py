"""Include patterns: what they match, against a plain model, and in what time."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.globs import compile_globs, glob_problem


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "deep/er/a.csv", True),  # no slash: a name at any depth
        ("*.csv", "a.csv/b", False),
        ("a.csv", "x/a.csv", True),
        ("a?.csv", "ab.csv", True),
        ("a?.csv", "a/.csv", False),
        ("[ab].csv", "b.csv", True),
        ("[!ab].csv", "b.csv", False),
        ("*", ".hidden", True),
        ("**", "any/depth", True),
        ("out/*.csv", "out/a.csv", True),
        ("out/*.csv", "out/x/a.csv", False),
        ("out/*.csv", "x/out/a.csv", False),  # with a slash: the whole path
        ("/a.csv", "a.csv", True),
        ("/a.csv", "x/a.csv", False),
        ("out/**", "out/a", True),
        ("out/**", "out/a/b/c", True),
        ("out/**", "out", False),
        ("out/", "out/a/b", True),
        ("out/", "out", False),
        ("**/a.csv", "a.csv", True),
        ("**/a.csv", "x/y/a.csv", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/y/c", False),
        ("**/x*/y", "x1/z/x2/y", True),  # must go back after the first x
        ("**/x/**/y", "a/x/b/y", True),
        ("**/x/**/y", "a/x/b", False),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("empty", "some/empty/", True),  # an empty folder is matched by its name
        ("*.TXT", "a.txt", False),
    ],
)
def test_what_a_pattern_matches(pattern: str, path: str, matches: bool) -> None:
    assert glob_problem(pattern) is None
    assert compile_globs([pattern])(path) is matches


def test_any_of_several_patterns_is_enough() -> None:
    matches = compile_globs(["*.csv", "docs/**"])
    assert [matches(path) for path in ("x/a.csv", "docs/a.md", "a.md")] == [True, True, False]
    assert not compile_globs([])("a")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "is empty"),
        ("a\n", "has a control character"),
        ("a\0", "has a control character"),
        ("x" * 1025, "is longer than 1024 characters"),
        ("a//b", "has an empty part"),
        ("/", "has an empty part"),
        ("../a", "has the part '..'"),
        ("a/./b", "has the part '.'"),
        ("a**", "has '**' beside other characters"),
        ("x/[ab", "has '[' without its ']'"),
    ],
)
def test_patterns_that_make_no_sense_are_named(pattern: str, words: str) -> None:
    problem = glob_problem(pattern)
    assert problem is not None
    assert words in problem


PARTS = st.sampled_from(["a", "b", "ab", "ba"])


def model(tokens: list[str], parts: list[str]) -> bool:
    """Match by definition: ** is any number of parts, everything else one part by the rules of fnmatch."""
    if not tokens:
        return not parts
    if tokens[0] == "**":
        return model(tokens[1:], parts) or (bool(parts) and model(tokens, parts[1:]))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], tokens[0]) and model(tokens[1:], parts[1:])


@given(
    st.lists(st.sampled_from(["**", "*", "a", "a*", "?", "*b"]), min_size=2, max_size=5),
    st.lists(PARTS, min_size=1, max_size=6),
)
def test_patterns_match_as_defined(tokens: list[str], parts: list[str]) -> None:
    expected = model([*tokens, "*"] if tokens[-1] == "**" else tokens, parts)
    assert compile_globs(["/".join(tokens)])("/".join(parts)) is expected


def test_no_pattern_takes_long() -> None:
    matches = compile_globs(["*a" * 100 + "b", "**/" * 16 + "x", "[a-z]*" * 100 + "!"])
    began = time.process_time()
    assert not matches("/".join(["a" * 255] * 4))
    assert time.process_time() - began < 0.5
