"""JSON as RFC 8259 means it: no duplicate keys, no NaN or Infinity, bounded depth, nothing that is not Unicode.

Python's own parser accepts all of those; two programs that read such a text differently are how checks are bypassed.
"""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]

MAX_DEPTH: Final = 32


class NotStrictJson(ValueError):
    """The text is not JSON, or is JSON that two readers could read differently."""


def parse(body: bytes, *, max_depth: int = MAX_DEPTH) -> JsonValue:
    """Return the value of a JSON text in UTF-8. Raises `NotStrictJson`; its message never quotes the text."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotStrictJson("the text is not UTF-8") from None
    return parse_text(text, max_depth=max_depth)


def parse_text(text: str, *, max_depth: int = MAX_DEPTH) -> JsonValue:
    """Return the value of a JSON text that holds no half of a surrogate pair. Raises `NotStrictJson` as `parse`."""
    try:
        value: JsonValue = _DECODER.decode(text)
    except NotStrictJson:
        raise
    except RecursionError:
        raise NotStrictJson(f"nested deeper than {max_depth}") from None
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"not JSON at character {error.pos}") from None
    except ValueError:  # an integer of more digits than Python converts
        raise NotStrictJson("a number is too long") from None
    # The walk costs more than the parse, so texts that cannot break its rules skip it.
    if text.count("[") + text.count("{") > max_depth or "\\ud" in text or "\\uD" in text:
        _check_depth_and_unicode(value, max_depth)
    return value


def encode(value: object) -> bytes:
    r"""Return a value as compact JSON in UTF-8. Raises `ValueError` or `TypeError` for what JSON cannot say.

    File names that are not Unicode reach us as lone surrogates; they leave as `\udcXX` escapes, which is valid JSON.
    """
    return _ENCODER.encode(value).encode("utf-8", errors="backslashreplace")


def _no_constants(name: str) -> NoReturn:
    raise NotStrictJson(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotStrictJson("a number is too large")
    return number


def _unique_keys(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson("an object has the same key twice")
    return members


def _check_depth_and_unicode(value: JsonValue, max_depth: int) -> None:
    level: list[JsonValue] = [value]
    depth = 0
    while level:
        inner: list[JsonValue] = []
        for item in level:
            match item:
                case str():
                    _check_unicode(item)
                case dict():
                    inner.extend(item)
                    inner.extend(item.values())
                case list():
                    inner.extend(item)
                case _:
                    pass
        if any(isinstance(item, (dict, list)) for item in level):
            depth += 1
            if depth > max_depth:
                raise NotStrictJson(f"nested deeper than {max_depth}")
        level = inner


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotStrictJson("a string holds half a surrogate pair") from None


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_no_constants, parse_float=_finite, strict=True
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
