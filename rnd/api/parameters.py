"""What a method's parameters may be: small declarative types that parse JSON into domain values, once, at the edge.

Each type refuses the wrong type, absurd sizes and hostile text with `BadParameter`, which names the parameter, and
says its own JSON Schema for the OpenRPC document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final, Protocol

from rnd.rules.reading import is_visible, plain
from rnd.rules.strict_json import JsonObject
from rnd.rules.upload_names import UPLOAD_NAME_PATTERN, UPLOAD_NAME_WORDS, UPLOAD_PREFIX, uploaded_name

MAX_INT64: Final = 2**63 - 1
MIN_INT64: Final = -(2**63)
MAX_NAME_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 10_000
MAX_PATH_BYTES: Final = 4096


class Omitted(Enum):
    """Marks a parameter that was not given and has no default."""

    OMITTED = "omitted"


OMITTED: Final = Omitted.OMITTED


class BadParameter(ValueError):
    """A parameter is missing or not what it has to be; `where` names it (`interfaces[2].path`)."""

    def __init__(self, where: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{where}: {message}")
        self.where = where
        self.hint = hint


class UnknownParameter(BadParameter):
    """There is no such parameter."""


class ParameterType(Protocol):
    """Parses one JSON value into a domain value, or raises `BadParameter`."""

    def parse(self, value: object, where: str) -> object:
        """Return the domain value."""

    def schema(self) -> JsonObject:
        """Return the JSON Schema of what `parse` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One declared parameter. Not required and without default: the handler is called without it."""

    name: str
    type: ParameterType
    required: bool = True
    default: object = OMITTED
    aliases: tuple[str, ...] = ()
    summary: str = ""


def required(
    name: str, parameter_type: ParameterType, summary: str = "", *, aliases: tuple[str, ...] = ()
) -> Parameter:
    """Return a parameter that every call must give."""
    return Parameter(name=name, type=parameter_type, summary=summary, aliases=aliases)


def optional(
    name: str,
    parameter_type: ParameterType,
    default: object = OMITTED,
    summary: str = "",
    *,
    aliases: tuple[str, ...] = (),
) -> Parameter:
    """Return a parameter that a call may leave out; the handler's own default holds where none is given here."""
    return Parameter(name=name, type=parameter_type, required=False, default=default, summary=summary, aliases=aliases)


def bind(parameters: Sequence[Parameter], positional: Sequence[object], named: Mapping[str, object]) -> dict[str, Any]:
    """Return the parsed arguments of a call by name. Raises `BadParameter` for the first thing that is wrong."""
    if len(positional) > len(parameters):
        raise BadParameter("params", f"at most {len(parameters)} are taken, {len(positional)} were given")
    given: dict[str, object] = {parameters[at].name: value for at, value in enumerate(positional)}
    given.update(named)
    return _parse_members(parameters, given, prefix="")


def _parse_members(parameters: Sequence[Parameter], given: dict[str, object], *, prefix: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for parameter in parameters:
        where = prefix + parameter.name
        value = given.pop(parameter.name, OMITTED)
        for alias in parameter.aliases:
            if alias in given:
                if value is not OMITTED:
                    raise BadParameter(prefix + alias, f"means the same as {parameter.name}; give one of them")
                value = given.pop(alias)
        if value is not OMITTED:
            arguments[parameter.name] = parameter.type.parse(value, where)
        elif parameter.required:
            raise BadParameter(where, "is missing")
        elif parameter.default is not OMITTED:
            arguments[parameter.name] = parameter.default
    if given:
        unknown = next(iter(given))
        known = ", ".join(parameter.name for parameter in parameters) or "none"
        raise UnknownParameter(f"{prefix}{shown(unknown)}", f"is not a parameter here (known: {known})")
    return arguments


def shown(text: str) -> str:
    """Return client text fit for a message: printable, and cut where it is long."""
    cut = text if len(text) <= 80 else text[:77] + "..."
    return "".join(char if char.isprintable() else "?" for char in cut)


def is_hostile(text: str) -> bool:
    """Tell whether a text holds characters that hide or reorder what a person sees."""
    return not is_visible(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """A whole number within 64 bits; `true` is not one."""

    minimum: int = MIN_INT64
    maximum: int = MAX_INT64

    def parse(self, value: object, where: str) -> int:
        """Return the number."""
        if type(value) is not int:
            raise BadParameter(where, "must be an integer")
        if not self.minimum <= value <= self.maximum:
            raise BadParameter(where, f"must be between {self.minimum} and {self.maximum}")
        return value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


ID: Final = Integer(minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A finite number as `float`."""

    minimum: float = -1e15
    maximum: float = 1e15

    def parse(self, value: object, where: str) -> float:
        """Return the number."""
        if type(value) is not int and type(value) is not float:
            raise BadParameter(where, "must be a number")
        if not self.minimum <= value <= self.maximum:  # false for NaN as well
            raise BadParameter(where, f"must be between {plain(self.minimum)} and {plain(self.maximum)}")
        return float(value)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Boolean:
    """`true` or `false`; 0 and 1 are neither."""

    def parse(self, value: object, where: str) -> bool:
        """Return the flag."""
        if not isinstance(value, bool):
            raise BadParameter(where, "must be true or false")
        return value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text of bounded length without NUL, possibly of several lines. `words` say to people what `pattern` says."""

    max_chars: int = MAX_TEXT_CHARS
    min_chars: int = 0
    pattern: str = ""
    words: str = ""

    def parse(self, value: object, where: str) -> str:
        """Return the text."""
        if not isinstance(value, str):
            raise BadParameter(where, "must be a string")
        if not self.min_chars <= len(value) <= self.max_chars:
            raise BadParameter(where, f"must have {self.min_chars} to {self.max_chars} characters, not {len(value)}")
        if "\0" in value:
            raise BadParameter(where, "must not hold a NUL character")
        if self.pattern and re.fullmatch(self.pattern, value) is None:
            raise BadParameter(where, self.words or f"must match {self.pattern}")
        return value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        schema: JsonObject = {"type": "string", "minLength": self.min_chars, "maxLength": self.max_chars}
        if self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})$"
        return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name that people read: one line, nothing invisible, no blank at either end."""

    max_chars: int = MAX_NAME_CHARS

    def parse(self, value: object, where: str) -> str:
        """Return the name."""
        name = Text(max_chars=self.max_chars, min_chars=1).parse(value, where)
        if is_hostile(name):
            raise BadParameter(where, "must not hold control or invisible characters")
        if name != name.strip():
            raise BadParameter(where, "must not begin or end with a blank")
        return name

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": self.max_chars}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPath:
    """An absolute path of this host. Whether it may be used is decided where it is used."""

    def parse(self, value: object, where: str) -> str:
        """Return the path."""
        path = Text(max_chars=MAX_PATH_BYTES, min_chars=1).parse(value, where)
        if len(path.encode("utf-8", errors="surrogatepass")) > MAX_PATH_BYTES:
            raise BadParameter(where, f"must have at most {MAX_PATH_BYTES} bytes")
        if not path.startswith("/"):
            raise BadParameter(where, "must be an absolute path")
        return path

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": MAX_PATH_BYTES, "pattern": "^/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePath:
    """What the self-peer sends: an absolute path of this host, or `upload:NAME` for a file sent by PUT /upload/NAME."""

    def parse(self, value: object, where: str) -> str:
        """Return the path, or the upload as it was named."""
        if isinstance(value, str) and value.startswith(UPLOAD_PREFIX):
            if uploaded_name(value) is None:
                raise BadParameter(where, f"must name an upload: upload: and then {UPLOAD_NAME_WORDS}")
            return value
        return HostPath().parse(value, where)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        pattern = f"^(?:/|{UPLOAD_PREFIX}{UPLOAD_NAME_PATTERN}$)"
        return {"type": "string", "minLength": 1, "maxLength": MAX_PATH_BYTES, "pattern": pattern}


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of an enumeration."""

    words: type[StrEnum]

    def parse(self, value: object, where: str) -> StrEnum:
        """Return the member of the enumeration."""
        if isinstance(value, str):
            for word in self.words:
                if value == word.value:
                    return word
        raise BadParameter(where, "must be one of " + ", ".join(word.value for word in self.words))

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "enum": [word.value for word in self.words]}


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One word of a few that have no enumeration of their own."""

    words: tuple[str, ...]

    def parse(self, value: object, where: str) -> str:
        """Return the word."""
        if not isinstance(value, str) or value not in self.words:
            raise BadParameter(where, "must be one of " + ", ".join(self.words))
        return value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Nullable:
    """`null`, or what the inner type takes."""

    inner: ParameterType

    def parse(self, value: object, where: str) -> object:
        """Return `None` or the inner value."""
        return None if value is None else self.inner.parse(value, where)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"anyOf": [self.inner.schema(), {"type": "null"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list of bounded length, parsed to a tuple."""

    items: ParameterType
    max_items: int = 1_000
    min_items: int = 0

    def parse(self, value: object, where: str) -> tuple[Any, ...]:
        """Return the items as a tuple."""
        if not isinstance(value, (list, tuple)):
            raise BadParameter(where, "must be a list")
        if not self.min_items <= len(value) <= self.max_items:
            raise BadParameter(where, f"must have {self.min_items} to {self.max_items} items, not {len(value)}")
        return tuple(self.items.parse(item, f"{where}[{at}]") for at, item in enumerate(value))

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {
            "type": "array",
            "items": self.items.schema(),
            "minItems": self.min_items,
            "maxItems": self.max_items,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """An object whose keys are data (`env`, `passphrases`). `key` turns the text of a key into what it means.

    `key_words` say to people what `key_pattern` says.
    """

    values: ParameterType
    key: Callable[[str, str], object] | None = None
    key_pattern: str = ".+"
    key_words: str = "must not be empty"
    max_items: int = 1_000

    def parse(self, value: object, where: str) -> dict[Any, Any]:
        """Return the mapping of parsed keys to parsed values."""
        if not isinstance(value, dict):
            raise BadParameter(where, "must be an object")
        if len(value) > self.max_items:
            raise BadParameter(where, f"must have at most {self.max_items} members, not {len(value)}")
        parsed: dict[Any, Any] = {}
        for key, item in value.items():
            inner = f"{where}.{shown(key)}"
            if re.fullmatch(self.key_pattern, key) is None:
                raise BadParameter(inner, f"the key {self.key_words}")
            parsed[key if self.key is None else self.key(key, inner)] = self.values.parse(item, inner)
        return parsed

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {
            "type": "object",
            "additionalProperties": self.values.schema(),
            "propertyNames": {"pattern": f"^(?:{self.key_pattern})$"},
            "maxProperties": self.max_items,
        }


def id_key(text: str, where: str) -> int:
    """Return a row id that stands as the key of an object."""
    return ID.parse(int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text, where)


ID_KEY_PATTERN: Final = "[1-9][0-9]{0,18}"
ID_KEY_WORDS: Final = "must be an id: a whole number from 1 up"
ENV_KEY_PATTERN: Final = "[A-Za-z_][A-Za-z0-9_]{0,127}"
ENV_KEY_WORDS: Final = "must be 1 to 128 letters, digits and _, and not begin with a digit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An object with declared members, built into a record. `build` may raise `ValueError` with a person's sentence."""

    members: tuple[Parameter, ...]
    build: Callable[..., object]

    def parse(self, value: object, where: str) -> object:
        """Return what `build` makes of the parsed members."""
        if not isinstance(value, dict):
            raise BadParameter(where, "must be an object")
        members = _parse_members(self.members, dict(value), prefix=f"{where}.")
        try:
            return self.build(**members)
        except ValueError as error:
            raise BadParameter(where, str(error)) from None

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {
            "type": "object",
            "properties": {member.name: member.type.schema() for member in self.members},
            "required": [member.name for member in self.members if member.required],
            "additionalProperties": not any(member.aliases for member in self.members),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyObject:
    """An object that other rules read (a workflow file); its size is bounded by the request's."""

    description: str = field(default="")

    def parse(self, value: object, where: str) -> JsonObject:
        """Return the object as it is."""
        if not isinstance(value, dict):
            raise BadParameter(where, "must be an object")
        return value

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "object", "description": self.description}
