"""How each kind of field is read from JSON and written as JSON, found from the annotations of the messages."""

from __future__ import annotations

import base64
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol, Union, get_args, get_origin, get_type_hints

from rnd.protocol.address_records import ADDRESSES_MAX, verify_record
from rnd.protocol.fields import (
    ARGUMENT_CHARACTERS_MAX,
    ITEMS_MAX,
    NAME_CHARACTERS_MAX,
    Absent,
    Binary,
    Inline,
    Items,
    Mark,
    Measure,
    Text,
    Whole,
)
from rnd.rules.definition import job_from_json, job_to_json
from rnd.rules.explain import Check
from rnd.rules.peer_id import key_from_peer_id
from rnd.rules.reading import Bounds, JsonObject, Reading
from rnd.types.definitions import JobPlan
from rnd.types.errors import MalformedAddresses
from rnd.types.ids import ExecutionUid, PeerId, TransferId
from rnd.types.orders import JobStatusReport
from rnd.types.peers import AddressRecord
from rnd.types.services import ServiceInterface
from rnd.types.times import from_text, to_text

BOUNDS: Final = Bounds(items=ITEMS_MAX, characters=ARGUMENT_CHARACTERS_MAX, misreadings=20)

# Records of other rooms cannot say themselves what the wire allows in them.
_MARKS: Final[Mapping[tuple[type, str], Mark]] = {
    (JobStatusReport, "attempt"): Whole(least=1),
    (JobStatusReport, "error_message"): Text(for_people=True),
    (JobStatusReport, "exit_code"): Whole(least=-(2**31), most=2**31 - 1),
    (JobStatusReport, "exit_signal"): Whole(most=255),
    (JobStatusReport, "remark"): Text(for_people=True),
    (JobStatusReport, "image_digest"): Absent(Text(for_people=True)),
    (Check, "check"): Text(for_people=True),
    (Check, "evidence"): Text(for_people=True),
    (ServiceInterface, "description"): Text(for_people=True),
    (AddressRecord, "addresses"): Items(ADDRESSES_MAX),
}
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_PATTERNS: Final[Mapping[object, str]] = {
    ExecutionUid: "[0-9a-f]{32}",
    TransferId: "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}


class Shape(Protocol):
    """One kind of field. What is wrong with a value is noted in the reading; the value returned then means nothing."""

    def read(self, reading: Reading, value: object, where: str) -> Any:
        """Return the value that JSON stands for."""

    def write(self, value: Any) -> object:
        """Return the JSON of a value; whether it is within bounds shows when it is read again."""


@dataclass(frozen=True, slots=True)
class _TextShape:
    mark: Text

    def read(self, reading: Reading, value: object, where: str) -> str:
        if isinstance(value, str) and len(value) > self.mark.longest:
            reading.note(where, f"must have at most {self.mark.longest} characters")
            return ""
        text = reading.text(value, where)
        if self.mark.pattern and isinstance(value, str) and not re.fullmatch(self.mark.pattern, text):
            reading.note(where, f"must match {self.mark.pattern}")
        return text

    def write(self, value: str) -> str:
        if not self.mark.for_people:
            return value
        clean = value.encode(errors="replace").decode().replace("\0", "?")
        return clean if len(clean) <= self.mark.longest else clean[: self.mark.longest - 1] + "…"


class _PeerIdShape:
    def read(self, reading: Reading, value: object, where: str) -> str:
        text = reading.text(value, where)
        if isinstance(value, str):
            note_peer_id(reading, text, where)
        return text

    def write(self, value: str) -> str:
        return value


@dataclass(frozen=True, slots=True)
class _WholeShape:
    mark: Whole

    def read(self, reading: Reading, value: object, where: str) -> int:
        number = reading.integer(value, where)
        if not self.mark.least <= number <= self.mark.most:
            reading.note(where, f"must be from {self.mark.least} to {self.mark.most}")
        return number

    def write(self, value: int) -> int:
        return value


@dataclass(frozen=True, slots=True)
class _MeasureShape:
    mark: Measure

    def read(self, reading: Reading, value: object, where: str) -> float:
        number = reading.number(value, where)
        if not 0 <= number <= self.mark.most:
            reading.note(where, f"must be from 0 to {self.mark.most:g}")
        return number

    def write(self, value: float) -> float:
        return value


class _FlagShape:
    def read(self, reading: Reading, value: object, where: str) -> bool:
        return reading.flag(value, where)

    def write(self, value: bool) -> bool:
        return value


@dataclass(frozen=True, slots=True)
class _WordShape:
    words: type[StrEnum]

    def read(self, reading: Reading, value: object, where: str) -> StrEnum:
        return reading.word(value, where, self.words)

    def write(self, value: StrEnum) -> str:
        return str(value)


class _TimeShape:
    """RFC 3339 in UTC with milliseconds, written in one way only."""

    def read(self, reading: Reading, value: object, where: str) -> datetime | None:
        text = reading.text(value, where)
        if _TIME.fullmatch(text):
            try:
                return from_text(text)
            except ValueError:
                pass
        reading.note(where, "must be a time such as 2026-01-31T12:00:00.000Z")
        return None

    def write(self, value: datetime) -> str:
        return to_text(value)


@dataclass(frozen=True, slots=True)
class _BinaryShape:
    """Base64, standard and padded. Only the one canonical text of some bytes is taken."""

    mark: Binary

    def read(self, reading: Reading, value: object, where: str) -> bytes:
        if not isinstance(value, str) or len(value) > (self.mark.longest + 2) // 3 * 4:
            reading.note(where, f"must be at most {self.mark.longest} bytes in base64")
            return b""
        try:
            decoded = base64.b64decode(value, validate=True)
        except ValueError:
            decoded = b""
        if base64.b64encode(decoded).decode("ascii") != value or len(decoded) > self.mark.longest:
            reading.note(where, f"must be at most {self.mark.longest} bytes in base64")
        return decoded

    def write(self, value: bytes) -> str:
        return base64.b64encode(value).decode("ascii")


class _ObjectShape:
    """Any JSON object, as it is."""

    def read(self, reading: Reading, value: object, where: str) -> Mapping[str, object]:
        return reading.json_object(value, where).fields

    def write(self, value: Mapping[str, object]) -> dict[str, object]:
        return dict(value)


@dataclass(frozen=True, slots=True)
class _NullableShape:
    inner: Shape

    def read(self, reading: Reading, value: object, where: str) -> object:
        return None if value is None else self.inner.read(reading, value, where)

    def write(self, value: object) -> object:
        return None if value is None else self.inner.write(value)


@dataclass(frozen=True, slots=True)
class _ListShape:
    inner: Shape
    mark: Items

    def read(self, reading: Reading, value: object, where: str) -> tuple[object, ...]:
        if isinstance(value, list) and len(value) > self.mark.most:
            reading.note(where, f"must have at most {self.mark.most} items")
            return ()
        return tuple(self.inner.read(reading, item, place) for place, item in reading.items(value, where))

    def write(self, value: tuple[object, ...]) -> list[object]:
        return [self.inner.write(item) for item in value]


class _JobShape:
    """One job of a definition, as rules/definition.py writes it, without the paths of anybody's own files."""

    def read(self, reading: Reading, value: object, where: str) -> JobPlan:
        job = job_from_json(reading.json_object(value, where), with_source_paths=False)
        for name in ("name", "service_name"):
            if len(getattr(job, name)) > NAME_CHARACTERS_MAX:
                reading.note(f"{where}.{name}", f"must have at most {NAME_CHARACTERS_MAX} characters")
        note_peer_id(reading, job.executor_peer_id, f"{where}.executor_peer_id")
        ends = [end for interface in job.interfaces for end in interface.interface_peers]
        if len(ends) > ITEMS_MAX:
            reading.note(where, f"must have at most {ITEMS_MAX} interface_peers")
        for peer_id in {end.peer_id for end in ends}:
            note_peer_id(reading, peer_id, f"{where}.interfaces: peer_id")
        return job

    def write(self, value: JobPlan) -> dict[str, object]:
        return job_to_json(value, with_source_paths=False)


@dataclass(frozen=True, slots=True)
class RecordShape:
    """A record, field by field. Every field is required but those with a default in `absent`; unknown ones are ignored."""

    record: type
    shapes: Mapping[str, Shape]
    inline: frozenset[str]
    absent: Mapping[str, object]

    def read(self, reading: Reading, value: object, where: str) -> Any:
        """Return the record, or `None` where something is wrong with it."""
        return self.read_object(reading.json_object(value, where))

    def read_object(self, item: JsonObject) -> Any:
        """Return the record that an object's fields make, or `None` where something is wrong with them."""
        reading = item.reading
        values: dict[str, Any] = {}
        for name, shape in self.shapes.items():
            if name in self.inline and isinstance(shape, RecordShape):
                values[name] = shape.read_object(item)
            elif name in item.fields:
                values[name] = shape.read(reading, item.fields[name], item.place(name))
            elif name in self.absent:
                values[name] = self.absent[name]
            else:
                item.take(name)
        if reading.misreadings:
            return None
        made = self.record(**values)
        if isinstance(made, AddressRecord):
            try:
                verify_record(made)
            except MalformedAddresses as error:
                reading.note(item.where, str(error))
        return made

    def write(self, value: object) -> dict[str, object]:
        """Return the object of a record."""
        written: dict[str, object] = {}
        for name, shape in self.shapes.items():
            said = getattr(value, name)
            if name in self.absent and said == self.absent[name]:
                continue
            inner = shape.write(said)
            if name in self.inline and isinstance(inner, dict):
                written |= inner
            else:
                written[name] = inner
        return written


def record_shape(record: type) -> RecordShape:
    """Return how a dataclass is read and written."""
    hints = get_type_hints(record, include_extras=True)
    shapes = {}
    inline = set()
    absent = {}
    for field in fields(record):
        hint, mark = _unwrap(hints[field.name])
        mark = _MARKS.get((record, field.name), mark)
        shapes[field.name] = _shape(hint, mark.bound if isinstance(mark, Absent) else mark)
        if isinstance(mark, Inline):
            inline.add(field.name)
        elif isinstance(mark, Absent):
            absent[field.name] = field.default
    return RecordShape(record=record, shapes=shapes, inline=frozenset(inline), absent=absent)


def note_peer_id(reading: Reading, text: str, where: str) -> None:
    """Note what is wrong with a peer id."""
    try:
        key_from_peer_id(text)
    except ValueError as error:
        reading.note(where, str(error))


def _unwrap(hint: object) -> tuple[object, Mark | None]:
    """Return an annotation without its mark, and the mark."""
    if get_origin(hint) is Annotated:
        inner, mark = get_args(hint)
        return inner, mark
    return hint, None


def _shape(hint: object, mark: Mark | None = None) -> Shape:
    """Return the shape of an annotation. What it does not know is an error of the message's author."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _shape(*_unwrap(hint))
    if origin in {Union, types.UnionType}:
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _NullableShape(_shape(inner, mark))
    if origin is tuple:
        return _ListShape(_shape(arguments[0]), mark if isinstance(mark, Items) else Items())
    if origin is Mapping:
        return _ObjectShape()
    if hint is PeerId:
        return _PeerIdShape()
    if hint in _PATTERNS:
        return _TextShape(Text(pattern=_PATTERNS[hint]))
    plain = getattr(hint, "__supertype__", hint)
    assert isinstance(plain, type), hint
    return _plain_shape(plain, mark)


def _plain_shape(kind: type, mark: Mark | None) -> Shape:
    if kind is bool:
        return _FlagShape()
    if kind is int:
        return _WholeShape(mark if isinstance(mark, Whole) else Whole())
    if kind is float:
        return _MeasureShape(mark if isinstance(mark, Measure) else Measure())
    if kind is str:
        return _TextShape(mark if isinstance(mark, Text) else Text())
    if kind is datetime:
        return _TimeShape()
    if kind is JobPlan:
        return _JobShape()
    if issubclass(kind, StrEnum):
        return _WordShape(kind)
    if kind is bytes and isinstance(mark, Binary):
        return _BinaryShape(mark)
    if is_dataclass(kind):
        return record_shape(kind)
    raise TypeError(f"no shape for {kind}")
