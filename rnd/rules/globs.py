"""The `include` patterns of a connection: globs over relative paths, matched in time that grows with the path alone."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Final

PATTERNS_MAX: Final = 100
PATTERN_CHARACTERS_MAX: Final = 1024

Matcher = Callable[[str], bool]
_PartMatcher = Callable[[str], object]

_CROSSING: Final = "**"


def compile_globs(patterns: Sequence[str]) -> Matcher:
    """Return a function that says whether a relative path matches any of the patterns.

    `*` and `?` and `[..]` stop at `/`; `**` as a part of its own stands for any number of parts. A pattern without `/`
    matches the last name of a path at any depth, one with `/` the whole path; one that ends in `/` everything below.
    An empty folder is written `name/` and matched as `name`.
    """
    matchers = [_compile(pattern) for pattern in patterns]

    def matches(relative_path: str) -> bool:
        parts = relative_path.rstrip("/").split("/")
        return any(matcher(parts) for matcher in matchers)

    return matches


def glob_problem(pattern: str) -> str | None:
    """Return why a pattern makes no sense, as the end of a sentence that begins with the pattern, or `None`."""
    if not pattern:
        return "is empty"
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        return f"is longer than {PATTERN_CHARACTERS_MAX} characters"
    if not pattern.isprintable():
        return "has a control character"
    for part in pattern.removeprefix("/").removesuffix("/").split("/"):
        if not part:
            return "has an empty part"
        if part in (".", ".."):
            return f"has the part {part!r}: patterns look below the folder that is carried"
        if _CROSSING in part and part != _CROSSING:
            return "has '**' beside other characters: it stands for whole folders, as in 'a/**/b.csv'"
        if "[" in part and not re.search(r"\[!?[^/][^\]]*\]", part):
            return "has '[' without its ']'"
    return None


def _compile(pattern: str) -> Callable[[Sequence[str]], bool]:
    if "/" not in pattern:
        matches_name = _part_matcher(pattern)
        return lambda parts: bool(matches_name(parts[-1]))
    tokens = [part for part in pattern.split("/") if part]
    if pattern.endswith("/") or tokens[-1:] == [_CROSSING]:
        # Everything below, but not the folder's own name: at least one part more.
        tokens = [*tokens, "*"] if tokens[-1:] == [_CROSSING] else [*tokens, _CROSSING, "*"]
    compiled = [None if token == _CROSSING else _part_matcher(token) for token in tokens]
    return lambda parts: _match_parts(compiled, parts)


def _part_matcher(part: str) -> _PartMatcher:
    # A part holds no '/', so the rules of fnmatch are ours. From 3.11 on it writes `*` as an atomic group: no
    # pattern can make it go back and forth.
    return re.compile(fnmatch.translate(part)).match


def _match_parts(compiled: Sequence[_PartMatcher | None], parts: Sequence[str]) -> bool:
    """Match part by part; `None` stands for `**`. Going back to the last `**` is enough, as in any wildcard match."""
    token = position = 0
    crossing, resume = -1, 0
    while position < len(parts):
        matcher = compiled[token] if token < len(compiled) else _never
        if matcher is None:
            crossing, resume = token, position
            token += 1
        elif matcher(parts[position]):
            token += 1
            position += 1
        elif crossing >= 0:
            resume += 1
            token, position = crossing + 1, resume
        else:
            return False
    return all(matcher is None for matcher in compiled[token:])


def _never(_part: str) -> object:
    return None
