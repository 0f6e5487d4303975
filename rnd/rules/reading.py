"""Reading plain JSON into records: every misreading is noted with the place where it stands, none stops the reading."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

INTEGER_LIMIT: Final = 2**63
"""SQLite's integers end here; a larger number could not be stored."""

# Control, format (bidirectional overrides, zero width), surrogate, private use, line and paragraph separators.
_HOSTILE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

Word = TypeVar("Word", bound=StrEnum)


class MalformedDocument(ValueError):
    """The document does not have the shape it should have; `misreadings` says where and how, all at once."""

    def __init__(self, misreadings: Sequence[str]) -> None:
        super().__init__("; ".join(misreadings))
        self.misreadings = tuple(misreadings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of a document from a stranger is read: items of a list, characters of a string, misreadings."""

    items: int
    characters: int
    misreadings: int


@dataclass(slots=True)
class Reading:
    """Collects what is wrong with one document while it is read; wrong values are replaced by empty ones.

    With `bounds`, longer lists and strings are wrong too, and reading stops where too much is wrong.
    """

    misreadings: list[str] = field(default_factory=list)
    bounds: Bounds | None = None

    def note(self, where: str, message: str) -> None:
        """Remember that something is wrong at `where` (`nodes[2].cmd`; "" is the document itself).

        Raises `MalformedDocument` at once where that is more than the bounds allow.
        """
        self.misreadings.append(f"{where}: {message}" if where else message)
        if self.bounds is not None and len(self.misreadings) >= self.bounds.misreadings:
            self.finish()

    def finish(self) -> None:
        """Raise `MalformedDocument` if anything was noted."""
        if self.misreadings:
            raise MalformedDocument(self.misreadings)

    def json_object(self, value: object, where: str, *, known: Iterable[str] | None = None) -> JsonObject:
        """Read an object. Keys outside `known` are noted with the nearest known one; `None` lets any key pass."""
        if not isinstance(value, dict):
            self.note(where, f"must be an object, not {_kind(value)}")
            return JsonObject(self, {}, where, malformed=True)
        fields = {key: item for key, item in value.items() if isinstance(key, str)}
        if known is not None:
            names = sorted(known)
            for key in value:
                if key not in names:
                    self.note(_below(where, str(key)), f"unknown key{suggestion(str(key), names)}")
        return JsonObject(self, fields, where)

    def items(self, value: object, where: str) -> list[tuple[str, object]]:
        """Read a list into pairs of place and value."""
        if not isinstance(value, list | tuple):
            self.note(where, f"must be a list, not {_kind(value)}")
            return []
        if self.bounds is not None and len(value) > self.bounds.items:
            self.note(where, f"must have at most {self.bounds.items} items")
            return []
        return [(f"{where}[{index}]", item) for index, item in enumerate(value)]

    def text(self, value: object, where: str) -> str:
        """Read a string that can be written down as UTF-8."""
        if not isinstance(value, str):
            self.note(where, f"must be a string, not {_kind(value)}")
            return ""
        if self.bounds is not None and len(value) > self.bounds.characters:
            self.note(where, f"must have at most {self.bounds.characters} characters")
            return ""
        if not is_storable(value):
            self.note(where, "must not hold NUL or half a surrogate pair")
            return ""
        return value

    def integer(self, value: object, where: str) -> int:
        """Read a whole number that fits SQLite's 64 bits."""
        if not isinstance(value, int) or isinstance(value, bool):
            self.note(where, f"must be a whole number, not {_kind(value)}")
            return 0
        if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
            self.note(where, "is too large a number")
            return 0
        return value

    def number(self, value: object, where: str) -> float:
        """Read a finite number."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.note(where, f"must be a number, not {_kind(value)}")
            return 0.0
        if not abs(value) < INTEGER_LIMIT:  # says no to NaN too
            self.note(where, "must be a finite number of reasonable size")
            return 0.0
        return float(value)

    def flag(self, value: object, where: str) -> bool:
        """Read true or false."""
        if not isinstance(value, bool):
            self.note(where, f"must be true or false, not {_kind(value)}")
            return False
        return value

    def word(self, value: object, where: str, words: type[Word]) -> Word:
        """Read one of the words of an enumeration."""
        if value in words.__members__.values():
            return words(str(value))
        listed = ", ".join(word.value for word in words)
        self.note(where, f"must be one of {listed}, not {value if isinstance(value, str) else _kind(value)}")
        return next(iter(words))


@dataclass(frozen=True, slots=True)
class JsonObject:
    """One object of the document with the place where it stands. A field that has no default is required."""

    reading: Reading
    fields: dict[str, object]
    where: str
    malformed: bool = False

    def place(self, key: str) -> str:
        """Return where a field of this object stands."""
        return _below(self.where, key)

    def has(self, key: str) -> bool:
        """Say whether the field is there and is not null."""
        return self.fields.get(key) is not None

    def take(self, key: str) -> object:
        """Return a required field as it is; its absence is noted."""
        if key not in self.fields and not self.malformed:
            self.reading.note(self.place(key), "is missing")
        return self.fields.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """Read a string."""
        if self._absent(key, default):
            return default or ""
        return self.reading.text(self.fields[key], self.place(key))

    def text_or_none(self, key: str) -> str | None:
        """Read a string that may be missing or null."""
        return self.text(key) if self.has(key) else None

    def integer(self, key: str, default: int | None = None) -> int:
        """Read a whole number."""
        if self._absent(key, default):
            return default or 0
        return self.reading.integer(self.fields[key], self.place(key))

    def integer_or_none(self, key: str) -> int | None:
        """Read a whole number that may be missing or null."""
        return self.integer(key) if self.has(key) else None

    def number(self, key: str, default: float | None = None) -> float:
        """Read a finite number."""
        if self._absent(key, default):
            return default or 0.0
        return self.reading.number(self.fields[key], self.place(key))

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Read true or false."""
        if self._absent(key, default):
            return bool(default)
        return self.reading.flag(self.fields[key], self.place(key))

    def word(self, key: str, words: type[Word], default: Word | None = None) -> Word:
        """Read a word of an enumeration."""
        if self._absent(key, default):
            return default or next(iter(words))
        return self.reading.word(self.fields[key], self.place(key), words)

    def word_or_none(self, key: str, words: type[Word]) -> Word | None:
        """Read a word of an enumeration that may be missing or null."""
        return self.word(key, words) if self.has(key) else None

    def items(self, key: str, *, optional: bool = False) -> list[tuple[str, object]]:
        """Read a list into pairs of place and value."""
        if optional and not self.has(key):
            return []
        if self._absent(key, None):
            return []
        return self.reading.items(self.fields[key], self.place(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings, empty where the field is missing or null."""
        return tuple(self.reading.text(value, where) for where, value in self.items(key, optional=True))

    def texts_or_none(self, key: str) -> tuple[str, ...] | None:
        """Read a list of strings that may be missing or null."""
        return self.texts(key) if self.has(key) else None

    def _absent(self, key: str, default: object) -> bool:
        """Say whether the field is not there, and note it where there is no default either."""
        if key in self.fields:
            return False
        if default is None and not self.malformed:
            self.reading.note(self.place(key), "is missing")
        return True


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the known word that is nearest, or "" where none is near."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def plain(number: float) -> str:
    """Return a number as people write it: 31622400 and 0.5, never 3.16224e+07."""
    return str(int(number)) if float(number).is_integer() else f"{number:.15g}"


def is_visible(text: str) -> bool:
    """Say whether a text holds no character that hides or reorders what a person sees."""
    if text.isascii():
        return text.isprintable()
    return not any(unicodedata.category(character) in _HOSTILE_CATEGORIES for character in text)


def is_storable(text: str) -> bool:
    """Say whether a text can be written to SQLite, files and wires: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _kind(value: object) -> str:
    """Return what a JSON value is called by people."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return type(value).__name__
