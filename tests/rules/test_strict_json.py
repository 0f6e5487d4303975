"""JSON that two readers could read differently is refused; everything else is read as Python reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.strict_json import MAX_DEPTH, NotStrictJson, encode, parse, parse_text

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**30), max_value=10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_what_is_encoded_is_read_back(value: object) -> None:
    assert parse(encode(value)) == value
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_no_bytes_get_past_it_but_json(body: bytes) -> None:
    try:
        value = parse(body)
    except NotStrictJson:
        return
    assert json.loads(body) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b"NaN",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b"1e999",
        b"[-1e400]",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"c":2,"b":3}}',
        b'{"\\u0061":1,"a":2}',
        b"\xff",
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        b'"\\ud800"',
        b'["\\uDC00x"]',
        b'{"\\ud83d":1}',
        b'"\x01"',
        b"1" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[1] 2",
    ],
)
def test_texts_that_are_not_strict_json_are_refused(text: bytes) -> None:
    with pytest.raises(NotStrictJson):
        parse(text)


def test_the_refusal_never_quotes_the_text() -> None:
    with pytest.raises(NotStrictJson) as refused:
        parse(b'{"passphrase": "hunter2" "x"}')
    assert "hunter2" not in str(refused.value)


def test_depth_is_taken_up_to_the_limit_and_no_further() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(NotStrictJson):
        parse(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    mixed = b'{"a":[' * 16 + b"1" + b"]}" * 16
    assert parse(mixed)
    with pytest.raises(NotStrictJson):
        parse(b"[" + mixed + b"]")


def test_many_brackets_beside_each_other_are_not_deep() -> None:
    assert parse(b"[" + b",".join([b"[1]"] * 500) + b"]") == [[1]] * 500


def test_whole_surrogate_pairs_are_read() -> None:
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_a_text_is_read_as_its_bytes_are() -> None:
    assert parse_text('["é"]') == parse('["é"]'.encode()) == ["é"]
    with pytest.raises(NotStrictJson):
        parse_text('{"a":1,"a":2}')


def test_file_names_that_are_not_unicode_leave_as_escapes() -> None:
    assert encode({"path": "a\udc80b"}) == b'{"path":"a\\udc80b"}'


def test_what_json_cannot_say_is_not_said() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(float("nan"))
    with pytest.raises(TypeError):
        encode(object())
