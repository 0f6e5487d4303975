"""Declared parameter types refuse wrong types, absurd sizes and hostile text, and say so with the parameter's name."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from rnd.api.parameters import (
    ENV_KEY_PATTERN,
    ID,
    ID_KEY_PATTERN,
    MAX_INT64,
    MIN_INT64,
    AnyObject,
    BadParameter,
    Boolean,
    Choice,
    HostPath,
    Integer,
    ListOf,
    MapOf,
    Name,
    Nullable,
    Number,
    OneOf,
    ParameterType,
    Record,
    Text,
    bind,
    id_key,
    optional,
    required,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def make_point(*, x: int, y: int) -> tuple[int, int]:
    if x == y:
        raise ValueError("x and y must differ")
    return x, y


POINT = Record(members=(required("x", Integer()), optional("y", Integer(), 0)), build=make_point)

GOOD: list[tuple[ParameterType, Any, object]] = [
    (Integer(), 0, 0),
    (Integer(), MAX_INT64, MAX_INT64),
    (Integer(), MIN_INT64, MIN_INT64),
    (ID, 1, 1),
    (Number(), 1, 1.0),
    (Number(), -2.5, -2.5),
    (Boolean(), False, False),
    (Text(), "a\nb", "a\nb"),
    (Text(pattern="[a-z]+"), "abc", "abc"),
    (Name(), "Zählung A/B \N{SNOWMAN}", "Zählung A/B \N{SNOWMAN}"),
    (Name(max_chars=3), "abc", "abc"),
    (HostPath(), "/a b/ü", "/a b/ü"),
    (Choice(Colour), "red", Colour.RED),
    (OneOf(words=("none", "host")), "host", "host"),
    (Nullable(ID), None, None),
    (Nullable(ID), 5, 5),
    (ListOf(items=ID, max_items=2), [1, 2], (1, 2)),
    (ListOf(items=ID), [], ()),
    (MapOf(values=Text(), key_pattern=ENV_KEY_PATTERN), {"PATH": "/bin"}, {"PATH": "/bin"}),
    (MapOf(values=Text(), key=id_key, key_pattern=ID_KEY_PATTERN), {"12": "x"}, {12: "x"}),
    (POINT, {"x": 1}, (1, 0)),
    (AnyObject(), {"a": [1]}, {"a": [1]}),
]

BAD: list[tuple[ParameterType, Any, str]] = [
    (Integer(), True, "p"),
    (Integer(), 1.0, "p"),
    (Integer(), "1", "p"),
    (Integer(), None, "p"),
    (Integer(), MAX_INT64 + 1, "p"),
    (Integer(), MIN_INT64 - 1, "p"),
    (Integer(), 10**400, "p"),
    (ID, 0, "p"),
    (ID, -1, "p"),
    (Number(), True, "p"),
    (Number(), "1", "p"),
    (Number(), float("nan"), "p"),
    (Number(), float("inf"), "p"),
    (Number(), 10**400, "p"),
    (Number(minimum=0), -0.1, "p"),
    (Boolean(), 1, "p"),
    (Boolean(), "true", "p"),
    (Text(), 5, "p"),
    (Text(), ["a"], "p"),
    (Text(), "a\0b", "p"),
    (Text(max_chars=3), "abcd", "p"),
    (Text(min_chars=1), "", "p"),
    (Text(pattern="[a-z]+"), "abc\n", "p"),
    (Name(), "", "p"),
    (Name(), " a", "p"),
    (Name(), "a ", "p"),
    (Name(), "a\nb", "p"),
    (Name(), "a\tb", "p"),
    (Name(), "\x1b[31mred", "p"),
    (Name(), "a\x7f", "p"),
    (Name(), "a\u202eb", "p"),
    (Name(), "a\u200bb", "p"),
    (Name(), "a\u2028b", "p"),
    (Name(), "a\ue000b", "p"),
    (Name(), "x" * 201, "p"),
    (HostPath(), "relative", "p"),
    (HostPath(), "", "p"),
    (HostPath(), "/a\0b", "p"),
    (HostPath(), "/" + "x" * 4096, "p"),
    (HostPath(), "/" + "ü" * 2048, "p"),
    (Choice(Colour), "RED", "p"),
    (Choice(Colour), 1, "p"),
    (Choice(Colour), ["red"], "p"),
    (OneOf(words=("none",)), "nope", "p"),
    (OneOf(words=("none",)), {}, "p"),
    (Nullable(ID), 0, "p"),
    (ListOf(items=ID), "12", "p"),
    (ListOf(items=ID), {"0": 1}, "p"),
    (ListOf(items=ID, max_items=2), [1, 2, 3], "p"),
    (ListOf(items=ID, min_items=1), [], "p"),
    (ListOf(items=ID), [1, 0], "p[1]"),
    (ListOf(items=ListOf(items=ID)), [[1], [2, "x"]], "p[1][1]"),
    (MapOf(values=Text(), key_pattern=ENV_KEY_PATTERN), {"A=B": ""}, "p.A=B"),
    (MapOf(values=Text(), key_pattern=ENV_KEY_PATTERN), {"A\n": ""}, "p.A?"),
    (MapOf(values=Text(), key_pattern=ENV_KEY_PATTERN), {"A": 1}, "p.A"),
    (MapOf(values=Text(), max_items=1), {"A": "", "B": ""}, "p"),
    (MapOf(values=Text()), [], "p"),
    (MapOf(values=Text(), key=id_key, key_pattern=ID_KEY_PATTERN), {"0": "x"}, "p.0"),
    (MapOf(values=Text(), key=id_key, key_pattern=ID_KEY_PATTERN), {"-1": "x"}, "p.-1"),
    (MapOf(values=Text(), key=id_key, key_pattern=ID_KEY_PATTERN), {"9" * 19: "x"}, "p." + "9" * 19),
    (POINT, [1, 2], "p"),
    (POINT, {}, "p.x"),
    (POINT, {"x": 1, "z": 2}, "p.z"),
    (POINT, {"x": 0}, "p"),
    (AnyObject(), [], "p"),
    (AnyObject(), None, "p"),
]


@pytest.mark.parametrize(("kind", "value", "parsed"), GOOD)
def test_what_fits_is_parsed(kind: ParameterType, value: Any, parsed: object) -> None:
    result = kind.parse(value, "p")
    assert result == parsed
    assert type(result) is type(parsed)


@pytest.mark.parametrize(("kind", "value", "parsed"), GOOD)
def test_what_fits_fits_the_schema_too(kind: ParameterType, value: Any, parsed: object) -> None:
    Draft7Validator.check_schema(kind.schema())
    Draft7Validator(kind.schema()).validate(value)


@pytest.mark.parametrize(("kind", "value", "where"), BAD)
def test_what_does_not_fit_is_refused_by_name(kind: ParameterType, value: Any, where: str) -> None:
    with pytest.raises(BadParameter) as refused:
        kind.parse(value, "p")
    assert refused.value.where == where


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", [entry[0] for entry in GOOD], ids=lambda kind: type(kind).__name__)
@given(value=anything)
def test_no_value_breaks_a_type(kind: ParameterType, value: object) -> None:
    with contextlib.suppress(BadParameter):
        kind.parse(value, "p")


PARAMETERS = (
    required("id", ID),
    optional("cmd", ListOf(items=Text()), aliases=("commands",)),
    optional("limit", Integer(), 100),
)


def test_parameters_are_taken_by_name_and_by_position() -> None:
    assert bind(PARAMETERS, [], {"id": 1, "cmd": ["a"]}) == {"id": 1, "cmd": ("a",), "limit": 100}
    assert bind(PARAMETERS, [1, ["a"], 5], {}) == {"id": 1, "cmd": ("a",), "limit": 5}


def test_an_omitted_parameter_without_default_is_not_passed() -> None:
    assert bind(PARAMETERS, [1], {}) == {"id": 1, "limit": 100}


def test_an_alias_is_understood_and_parsed_alike() -> None:
    assert bind(PARAMETERS, [], {"id": 1, "commands": ["a"]})["cmd"] == ("a",)
    with pytest.raises(BadParameter, match="cmd"):
        bind(PARAMETERS, [], {"id": 1, "commands": 5})


def test_a_name_and_its_alias_together_are_refused() -> None:
    with pytest.raises(BadParameter, match="commands"):
        bind(PARAMETERS, [], {"id": 1, "commands": [], "cmd": []})


@pytest.mark.parametrize(
    ("positional", "named", "where"),
    [
        ([], {}, "id"),
        ([1, [], 5, 6], {}, "params"),
        ([], {"id": 1, "idd": 2}, "idd"),
        ([], {"id": 1, "x" * 500: 2}, "x" * 77 + "..."),
        ([], {"id": 1, "\x1b[31m": 2}, "?[31m"),
    ],
)
def test_a_wrong_set_of_parameters_is_refused_by_name(
    positional: list[object], named: dict[str, object], where: str
) -> None:
    with pytest.raises(BadParameter) as refused:
        bind(PARAMETERS, positional, named)
    assert refused.value.where == where
