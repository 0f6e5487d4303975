"""Text messages: records to JSON and back, as docs/wire.md (section 2) says and not otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rnd.protocol.fields import MARKS_MAX, MESSAGE_BYTES_MAX, NUMBER_MAX, Message
from rnd.protocol.messages import MESSAGE_TYPES
from rnd.protocol.shapes import BOUNDS, RecordShape, record_shape
from rnd.rules import strict_json
from rnd.rules.reading import MalformedDocument, Reading, is_visible
from rnd.rules.strict_json import NotStrictJson
from rnd.types.errors import MalformedMessage, UnknownMessage

VERSION: Final = 1
"""What `v` says: the version of this protocol that the messages of a link are of."""

_SHAPES: Final = {word: record_shape(message_type) for word, message_type in MESSAGE_TYPES.items()}
_TYPE_CHARACTERS_MAX: Final = 64
_REASON_CHARACTERS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message with its number, and the number of the message that it answers."""

    id: int
    reply_to: int | None
    message: Message


def encode(message: Message, *, id: int, reply_to: int | None = None) -> str:  # noqa: A002 - the wire's own word
    """Return the text of a message. Sentences for people are cut to what fits.

    Raises `MalformedMessage` where no peer would take it: a field is out of bounds, or all of it is larger than 4 MiB.
    """
    written: dict[str, object] = {"v": VERSION, "type": message.type, "id": id}
    if reply_to is not None:
        written["reply_to"] = reply_to
    try:
        text = strict_json.encode(written | fields_of(message)).decode()
    except (ValueError, TypeError, RecursionError):
        raise MalformedMessage("it holds what JSON cannot say", id=id, reply_to=reply_to) from None
    decode(text)
    return text


def decode(text: str) -> Envelope:
    """Return the message of a text. Raises `MalformedMessage` and `UnknownMessage`, and nothing else whatever it is."""
    fields = parse_object(text)
    number = _number(fields.get("id"))
    if number is None:
        raise MalformedMessage("id: must be a whole number from 1 up")
    reply_to = _number(fields.get("reply_to"))
    if reply_to is None and "reply_to" in fields:
        raise MalformedMessage("reply_to: must be a whole number from 1 up, or absent", id=number)
    word = fields.get("type")
    version = fields.get("v")
    if version != VERSION or isinstance(version, (bool, float)):
        raise MalformedMessage(f"v: must be {VERSION}", id=number, reply_to=reply_to)
    if not isinstance(word, str) or len(word) > _TYPE_CHARACTERS_MAX:
        raise MalformedMessage("type: must be the name of a message", id=number, reply_to=reply_to)
    message_type = MESSAGE_TYPES.get(word)
    if message_type is None:
        raise UnknownMessage(word, id=number, reply_to=reply_to)
    if reply_to is None and message_type.is_answer and not message_type.is_request():
        raise MalformedMessage(f"reply_to: is missing; {word} is an answer", id=number)
    if reply_to is not None and not message_type.is_answer:
        raise MalformedMessage(f"reply_to: {word} is no answer", id=number, reply_to=reply_to)
    try:
        message = message_from_fields(word, fields)
    except MalformedMessage as error:
        raise MalformedMessage(error.reason, id=number, reply_to=reply_to) from None
    return Envelope(id=number, reply_to=reply_to, message=message)


def fields_of(message: Message) -> dict[str, object]:
    """Return the fields of a message as JSON, without its envelope; sentences for people are cut to what fits.

    For what is written down now and sent later (table `outbox`).
    """
    return _SHAPES[message.type].write(message)


def message_from_fields(word: str, fields: object) -> Message:
    """Return the message of type `word` that `fields_of` was made of. Raises `MalformedMessage`, for an unknown type too."""
    shape = _SHAPES.get(word)
    if shape is None:
        raise MalformedMessage(f"type: {word!r} is no message of this version")
    message = read_fields(shape, fields)
    assert isinstance(message, Message)
    return message


def parse_object(text: str) -> strict_json.JsonObject:
    """Return the object of a text that is small enough and strict JSON. Raises `MalformedMessage`."""
    try:
        size_bytes = len(text.encode()) if len(text) <= MESSAGE_BYTES_MAX else len(text)
    except UnicodeEncodeError:
        raise MalformedMessage("it holds half a surrogate pair") from None
    if size_bytes > MESSAGE_BYTES_MAX:
        raise MalformedMessage(f"it is larger than {MESSAGE_BYTES_MAX} bytes")
    if text.count("[") + text.count("{") + text.count(",") > MARKS_MAX:
        raise MalformedMessage(f"it holds more than {MARKS_MAX} of the marks that open and part values")
    try:
        value = strict_json.parse_text(text)
    except NotStrictJson as error:
        raise MalformedMessage(str(error)) from None
    if not isinstance(value, dict):
        raise MalformedMessage("it is not an object")
    return value


def read_fields(shape: RecordShape, fields: object) -> object:
    """Return the record that an object's fields make. Raises `MalformedMessage`."""
    reading = Reading(bounds=BOUNDS)
    try:
        made = shape.read(reading, fields, "")
        reading.finish()
    except MalformedDocument as error:
        raise MalformedMessage(_reason(error)) from None
    return made


def _number(value: object) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= NUMBER_MAX
    return value if is_number and isinstance(value, int) else None


def _reason(error: MalformedDocument) -> str:
    """Return what is wrong in words that can be shown: cut, and without characters that hide or reorder text."""
    words = str(error)[:_REASON_CHARACTERS_MAX]
    return "".join(character if is_visible(character) else "?" for character in words)
