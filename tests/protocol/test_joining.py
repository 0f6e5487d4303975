"""Question and answer of pairing: golden bodies, and nothing but a refusal whatever comes in."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.joining import (
    JoinAnswer,
    JoinQuestion,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from rnd.types.errors import MalformedMessage
from tests.protocol.examples import RECORD
from tests.protocol.strategies import json_values, record

INVITE = json.loads((Path(__file__).parent / "golden" / "invite.json").read_text(encoding="utf-8"))
ASKED, ANSWERED = (Path(__file__).parent / "golden" / "join.txt").read_text(encoding="utf-8").splitlines()
QUESTION = JoinQuestion(invite_id=INVITE["invite_id"], name="desk", proof=INVITE["proofs"]["joiner"], addresses=None)
ANSWER = JoinAnswer(name="lab", proof=INVITE["proofs"]["inviter"], addresses=RECORD)


def test_golden_bodies_both_ways() -> None:
    assert (encode_question(QUESTION), encode_answer(ANSWER)) == (ASKED, ANSWERED)
    assert (decode_question(ASKED), decode_answer(ANSWERED)) == (QUESTION, ANSWER)


@given(record(JoinQuestion), record(JoinAnswer))
def test_bodies_come_back_as_they_were(question: JoinQuestion, answer: JoinAnswer) -> None:
    assert decode_question(encode_question(question)) == question
    assert decode_answer(encode_answer(answer)) == answer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"v": 2}, "v: must be 1"),
        ({"v": True}, "v: must be 1"),
        ({"type": "joined"}, "type: must be join"),
        ({"proof": INVITE["proofs"]["joiner"].upper()}, "proof: must match"),
        ({"invite_id": "../../etc/passwd"}, "invite_id: must match"),
        ({"name": None}, "name: must be a string"),
    ],
)
def test_a_question_that_is_none_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedMessage, match=words):
        decode_question(json.dumps(json.loads(ASKED) | changes))


@given(st.text() | json_values.map(json.dumps), st.sampled_from(sorted(json.loads(ASKED))), json_values)
def test_anything_is_decoded_or_refused(text: str, name: str, value: object) -> None:
    for body in (text, json.dumps(json.loads(ASKED) | {name: value})):
        with contextlib.suppress(MalformedMessage):
            decode_question(body)
        with contextlib.suppress(MalformedMessage):
            decode_answer(body)


def test_no_proof_shows() -> None:
    assert QUESTION.proof not in repr(QUESTION)
    assert ANSWER.proof not in repr(ANSWER)
