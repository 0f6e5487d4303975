"""Reading JSON: every misreading noted with its place."""

from __future__ import annotations

from typing import Any

import pytest

from rnd.rules.reading import Bounds, MalformedDocument, Reading, is_storable, suggestion
from rnd.types.enums import JobStatus


@pytest.mark.parametrize(
    ("method", "value", "note"),
    [
        ("text", 1, "a.b: must be a string, not a number"),
        ("text", None, "a.b: must be a string, not null"),
        ("text", "x\0", "a.b: must not hold NUL or half a surrogate pair"),
        ("text", "x\udc80", "a.b: must not hold NUL or half a surrogate pair"),
        ("integer", True, "a.b: must be a whole number, not a boolean"),
        ("integer", 1.0, "a.b: must be a whole number, not a number"),
        ("integer", 2**63, "a.b: is too large a number"),
        ("number", "1", "a.b: must be a number, not a string"),
        ("number", False, "a.b: must be a number, not a boolean"),
        ("number", float("nan"), "a.b: must be a finite number of reasonable size"),
        ("number", 10**400, "a.b: must be a finite number of reasonable size"),
        ("flag", 1, "a.b: must be true or false, not a number"),
        ("items", {}, "a.b: must be a list, not an object"),
        ("items", object(), "a.b: must be a list, not object"),
        ("json_object", [], "a.b: must be an object, not a list"),
    ],
)
def test_a_wrong_value_is_noted_with_its_place(method: str, value: object, note: str) -> None:
    reading = Reading()
    getattr(reading, method)(value, "a.b")
    with pytest.raises(MalformedDocument) as caught:
        reading.finish()
    assert caught.value.misreadings == (note,)


def test_right_values_pass() -> None:
    reading = Reading()
    assert reading.text("é", "") == "é"
    assert reading.integer(-(2**63), "") == -(2**63)
    assert reading.number(2, "") == 2.0
    assert reading.flag(True, "") is True
    assert reading.items([1, 2], "x") == [("x[0]", 1), ("x[1]", 2)]
    assert reading.word("IDLE", "", JobStatus) is JobStatus.IDLE
    reading.finish()


def test_words_outside_an_enumeration_are_noted() -> None:
    reading = Reading()
    reading.word("idle", "s", JobStatus)
    reading.word(["IDLE"], "t", JobStatus)
    listed = "must be one of IDLE, READY, RUNNING, COMPLETED, ERRORED, CANCELLED"
    assert reading.misreadings == [f"s: {listed}, not idle", f"t: {listed}, not a list"]


def test_unknown_keys_come_with_a_suggestion() -> None:
    reading = Reading()
    reading.json_object({"nmae": 1, "zzz": 2, 3: 4}, "", known=("name", "order"))
    assert reading.misreadings == ["nmae: unknown key (did you mean name?)", "zzz: unknown key", "3: unknown key"]


def test_required_fields_are_missed_once_and_optional_ones_are_not() -> None:
    reading = Reading()
    item = reading.json_object({"null": None, "list": ["a", "b"]}, "top")
    values: list[Any] = [
        item.text("a"), item.integer("b"), item.number("c"), item.flag("d"), item.word("e", JobStatus), item.items("f"),
        item.take("g"),
    ]  # fmt: skip
    assert values == ["", 0, 0.0, False, JobStatus.IDLE, [], None]
    assert reading.misreadings == [f"top.{key}: is missing" for key in "abcdefg"]
    reading.misreadings.clear()
    assert item.text("a", "x") == "x"
    assert item.integer("b", 7) == 7
    assert item.number("c", 0.5) == 0.5
    assert item.flag("d", default=True) is True
    assert item.word("e", JobStatus, JobStatus.READY) is JobStatus.READY
    assert item.items("f", optional=True) == []
    assert item.texts("list") == ("a", "b")
    assert item.texts("null") == ()
    assert [item.texts_or_none("null"), item.text_or_none("null"), item.integer_or_none("x")] == [None] * 3
    assert item.word_or_none("null", JobStatus) is None
    assert item.take("list") == ["a", "b"]
    assert reading.misreadings == []


def test_what_is_no_object_does_not_miss_its_fields() -> None:
    reading = Reading()
    item = reading.json_object("text", "top")
    assert item.text("a") == ""
    assert item.take("b") is None
    assert reading.misreadings == ["top: must be an object, not a string"]


def test_small_words() -> None:
    assert suggestion("servce", ["service", "x"]) == " (did you mean service?)"
    assert suggestion("q", ["service"]) == ""
    assert is_storable("a\n")
    assert not is_storable("\ud800")


def test_what_strangers_send_is_bounded() -> None:
    reading = Reading(bounds=Bounds(items=2, characters=3, misreadings=3))
    assert reading.items([1, 2], "a") == [("a[0]", 1), ("a[1]", 2)]
    assert reading.text("abc", "b") == "abc"
    assert reading.items([1, 2, 3], "c") == []
    assert reading.text("abcd", "d") == ""
    assert reading.misreadings == ["c: must have at most 2 items", "d: must have at most 3 characters"]
    with pytest.raises(MalformedDocument, match=r"c: .*; d: .*; e: must be a string"):
        reading.text(1, "e")
