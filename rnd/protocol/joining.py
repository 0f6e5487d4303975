"""The question and the answer of `POST /join`, with which an invite is redeemed (docs/wire.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rnd.protocol.codec import VERSION, parse_object, read_fields
from rnd.protocol.fields import InviteId, Name, Sha256
from rnd.protocol.shapes import RecordShape, record_shape
from rnd.rules import strict_json
from rnd.types.errors import MalformedMessage
from rnd.types.peers import AddressRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinQuestion:
    """The joiner knows the secret of this invite."""

    invite_id: InviteId
    name: Name
    proof: Sha256 = field(repr=False)
    addresses: AddressRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAnswer:
    """So does the inviter, and the joiner is allowed from now on."""

    name: Name
    proof: Sha256 = field(repr=False)
    addresses: AddressRecord | None


_QUESTION: Final = record_shape(JoinQuestion)
_ANSWER: Final = record_shape(JoinAnswer)


def encode_question(question: JoinQuestion) -> str:
    """Return the body of the request. Raises `MalformedMessage` where nobody would take it."""
    text = _encode("join", _QUESTION, question)
    decode_question(text)
    return text


def decode_question(text: str) -> JoinQuestion:
    """Return the question of a body. Raises `MalformedMessage` and nothing else."""
    question = _decode("join", _QUESTION, text)
    assert isinstance(question, JoinQuestion)
    return question


def encode_answer(answer: JoinAnswer) -> str:
    """Return the body of the response. Raises `MalformedMessage` where nobody would take it."""
    text = _encode("joined", _ANSWER, answer)
    decode_answer(text)
    return text


def decode_answer(text: str) -> JoinAnswer:
    """Return the answer of a body. Raises `MalformedMessage` and nothing else."""
    answer = _decode("joined", _ANSWER, text)
    assert isinstance(answer, JoinAnswer)
    return answer


def _encode(word: str, shape: RecordShape, record: object) -> str:
    return strict_json.encode({"v": VERSION, "type": word} | shape.write(record)).decode()


def _decode(word: str, shape: RecordShape, text: str) -> object:
    fields = parse_object(text)
    version = fields.get("v")
    if version != VERSION or isinstance(version, (bool, float)):
        raise MalformedMessage(f"v: must be {VERSION}")
    if fields.get("type") != word:
        raise MalformedMessage(f"type: must be {word}")
    return read_fields(shape, fields)
