"""The messages as a table: every one of docs/wire.md is there, and knows who may send it and what answers it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from rnd.protocol.messages import MESSAGE_TYPES, Message
from rnd.types.peers import Caller, RefusalCode, RejectionCode

WIRE = (Path(__file__).resolve().parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
ANYBODYS = {"hello", "ping", "pong", "ack", "error"}


def documented_rows() -> dict[str, str]:
    """Return the rows of the tables of messages by the type that they begin with."""
    rows = re.findall(r"^\| `([a-z_]+)` \|(.*)\|$", WIRE, re.MULTILINE)
    return {word: rest for word, rest in rows if word != "GET"}


def test_every_documented_message_has_a_class_and_every_class_is_documented() -> None:
    answers = set(re.findall(r"`([a-z_]+_(?:response|accept|reject|complete))`", WIRE))
    assert set(documented_rows()) | answers | {"pong"} == set(MESSAGE_TYPES)


@pytest.mark.parametrize("message_type", list(MESSAGE_TYPES.values()), ids=list(MESSAGE_TYPES))
def test_a_message_is_a_frozen_record_that_names_its_fields_as_documented(message_type: type[Message]) -> None:
    assert dataclasses.is_dataclass(message_type)
    assert message_type.__dataclass_params__.frozen  # type: ignore[attr-defined]  # what dataclass leaves behind
    assert "__dict__" not in dir(message_type)
    for field in dataclasses.fields(message_type):
        assert field.kw_only
        if field.name != "report":
            assert f"`{field.name}`" in WIRE


@pytest.mark.parametrize("message_type", list(MESSAGE_TYPES.values()), ids=list(MESSAGE_TYPES))
def test_a_message_says_who_may_send_it(message_type: type[Message]) -> None:
    assert isinstance(message_type.caller, Caller)
    assert (message_type.caller is Caller.ANYBODY) == (message_type.type in ANYBODYS)


@pytest.mark.parametrize(("word", "row"), list(documented_rows().items()))
def test_the_documented_answers_are_the_answers(word: str, row: str) -> None:
    answer_cell = row.rsplit("|", 1)[-1]
    named = {found for found in re.findall(r"`([a-z_]+)`", answer_cell) if found in MESSAGE_TYPES} - {"error"}
    assert set(MESSAGE_TYPES[word].answered_by) == named
    assert all(MESSAGE_TYPES[answer].is_answer for answer in named)


def test_every_answer_answers_something() -> None:
    named = {answer for message_type in MESSAGE_TYPES.values() for answer in message_type.answered_by}
    answers = {word for word, message_type in MESSAGE_TYPES.items() if message_type.is_answer}
    assert named | {"error"} == answers


def test_the_words_of_refusals_are_the_documented_ones() -> None:
    listed = re.search(r"^`code`: (.*)\.$", WIRE, re.MULTILINE)
    assert listed is not None
    assert re.findall(r"`([a-z_]+)`", listed[1]) == [code.value for code in RefusalCode]
    rejections = re.search(r"^`code` of a rejection: ([^.]*)\.", WIRE, re.MULTILINE | re.DOTALL)
    assert rejections is not None
    assert re.findall(r"`([a-z_]+)`", rejections[1]) == [code.value for code in RejectionCode]
