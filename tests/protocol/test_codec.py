"""Text messages: golden examples byte for byte, every message round, and nothing but two errors whatever comes in."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.protocol.codec import decode, encode, fields_of, message_from_fields
from rnd.protocol.messages import (
    MESSAGE_TYPES,
    Ack,
    CapabilitiesResponse,
    JobLogsResponse,
    JobRequestMessage,
    JobResponseMessage,
    Message,
    Ping,
    Refusal,
)
from rnd.types.errors import MalformedMessage, UnknownMessage
from rnd.types.peers import RefusalCode
from tests.protocol.examples import EXAMPLES, JOB
from tests.protocol.strategies import BY_TYPE, json_values, messages

GOLDEN = (Path(__file__).parent / "golden" / "messages.txt").read_text(encoding="utf-8").splitlines()
BY_WORD: dict[str, dict[str, Any]] = {json.loads(line)["type"]: json.loads(line) for line in GOLDEN}
ABSENT_BEFORE = {"reuse_of", "reused", "image_digest", "paused"}
"""Fields that peers of earlier releases neither say nor know."""
PING: dict[str, Any] = {"v": 1, "type": "ping", "id": 1}


def decode_or_refuse(text: str) -> None:
    """Decode, and let pass only the errors that are named."""
    with contextlib.suppress(MalformedMessage, UnknownMessage):
        decode(text)


def refusal(text: str) -> MalformedMessage:
    with pytest.raises(MalformedMessage) as caught:
        decode(text)
    return caught.value


def changed(word: str, **changes: Any) -> str:
    return json.dumps(BY_WORD[word] | changes)


@pytest.mark.parametrize(
    ("line", "example"), list(zip(GOLDEN, EXAMPLES, strict=True)), ids=[json.loads(line)["type"] for line in GOLDEN]
)
def test_golden_messages_both_ways(line: str, example: tuple[Message, int | None]) -> None:
    message, reply_to = example
    assert encode(message, id=8, reply_to=reply_to) == line
    envelope = decode(line)
    assert (envelope.id, envelope.reply_to, envelope.message) == (8, reply_to, message)


def test_every_message_has_a_golden_example() -> None:
    assert set(BY_WORD) == set(MESSAGE_TYPES)


@pytest.mark.parametrize("word", BY_TYPE)
@given(data=st.data(), number=st.integers(1, 2**63 - 1))
def test_every_message_comes_back_as_it_was(word: str, data: st.DataObject, number: int) -> None:
    message = data.draw(BY_TYPE[word])
    reply_to = 5 if message.is_answer else None
    text = encode(message, id=number, reply_to=reply_to)
    envelope = decode(text)
    assert (envelope.id, envelope.reply_to, envelope.message) == (number, reply_to, message)
    assert encode(envelope.message, id=number, reply_to=reply_to) == text


@given(message=messages)
def test_what_is_written_down_now_can_be_sent_later(message: Message) -> None:
    stored = json.dumps(fields_of(message))
    assert message_from_fields(message.type, json.loads(stored)) == message


@given(message=messages)
def test_fields_from_the_future_are_ignored(message: Message) -> None:
    reply_to = 5 if message.is_answer else None
    fields = json.loads(encode(message, id=3, reply_to=reply_to))
    assert decode(json.dumps(fields | {"from_the_future": {"a": [1]}})).message == message


@pytest.mark.parametrize("line", GOLDEN, ids=[json.loads(line)["type"] for line in GOLDEN])
def test_no_field_may_be_missing(line: str) -> None:
    fields = json.loads(line)
    for name in set(fields) - {"id", *ABSENT_BEFORE}:
        error = (
            refusal(json.dumps({key: value for key, value in fields.items() if key != name}))
            if (name != "reply_to" or fields["type"] != "data_transfer_complete")
            else None
        )
        if error is not None:
            assert error.id == 8
            assert name in error.reason


@pytest.mark.parametrize("line", GOLDEN[-2:], ids=["job_request", "job_response"])
def test_what_earlier_releases_do_not_say_is_read_as_not_said(line: str) -> None:
    """Their messages are today's without these fields, and so are today's that have nothing to say there."""
    fields = {name: value for name, value in json.loads(line).items() if name not in ABSENT_BEFORE}
    envelope = decode(json.dumps(fields))
    assert isinstance(envelope.message, JobRequestMessage | JobResponseMessage)
    said = encode(envelope.message, id=8, reply_to=envelope.reply_to)
    assert json.loads(said) == fields


@given(st.text())
def test_any_text_is_decoded_or_refused(text: str) -> None:
    decode_or_refuse(text)


@given(json_values)
def test_any_json_is_decoded_or_refused(value: object) -> None:
    decode_or_refuse(json.dumps(value))


@given(st.sampled_from(GOLDEN), st.data())
def test_golden_messages_with_a_part_cut_doubled_or_replaced_are_decoded_or_refused(
    line: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, len(line)))
    middle = data.draw(st.sampled_from(["", line[start:end] * 2]) | st.text(max_size=10) | json_values.map(json.dumps))
    decode_or_refuse(line[:start] + middle + line[end:])


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in below for found in paths_of(inner, (*path, key)))]


@given(st.sampled_from(GOLDEN), st.data())
def test_golden_messages_with_a_value_of_another_kind_are_decoded_or_refused(line: str, data: st.DataObject) -> None:
    fields = json.loads(line)
    *way, last = data.draw(st.sampled_from(paths_of(fields)[1:]))
    place = fields
    for key in way:
        place = place[key]
    place[last] = data.draw(
        json_values | st.integers() | st.sampled_from([10**400, -1, 1e308, True, "\udcff", "", [[]]])
    )
    decode_or_refuse(json.dumps(fields))


WRONG_TEXTS = {
    "nothing": ("", "not JSON"),
    "no object": ("[]", "not an object"),
    "a key twice": ('{"v":1,"type":"ping","id":1,"id":2}', "same key twice"),
    "a key twice deep inside": ('{"v":1,"type":"ping","id":1,"x":{"a":1,"a":1}}', "same key twice"),
    "NaN": ('{"v":1,"type":"ping","id":1,"x":NaN}', "NaN"),
    "Infinity": ('{"v":1,"type":"ping","id":1,"x":-Infinity}', "Infinity"),
    "a number beyond all": ('{"v":1,"type":"ping","id":1,"x":1e999}', "too large"),
    "a number of many digits": ('{"v":1,"type":"ping","id":1,"x":' + "9" * 10_000 + "}", "too long"),
    "33 levels": ('{"v":1,"type":"ping","id":1,"x":' + "[" * 32 + "]" * 32 + "}", "nested deeper"),
    "a bomb": ("[" * 100_000, "nested deeper"),
    "half a surrogate pair": ('{"v":1,"type":"ping","id":1,"x":"\\udc00"}', "surrogate"),
    "half a surrogate pair, bare": ('{"v":1,"type":"ping","id":1,"x":"\udc00"}', "surrogate"),
    "more than 4 MiB": ('{"v":1,"type":"ping","id":1,"x":"' + "é" * (2 * 1024 * 1024) + '"}', "larger than"),
    "more values than anybody needs": (
        '{"v":1,"type":"ping","id":1,"x":[' + "{}," * 125_000 + "0]}",
        "more than 250000",
    ),
    "no id": ('{"v":1,"type":"ping"}', "id:"),
}


@pytest.mark.parametrize(("text", "words"), WRONG_TEXTS.values(), ids=WRONG_TEXTS.keys())
def test_what_is_no_message_at_all_has_no_id_to_answer(text: str, words: str) -> None:
    error = refusal(text)
    assert error.id is None
    assert words in error.reason


def test_32_levels_and_4_mib_are_allowed() -> None:
    assert decode('{"v":1,"type":"ping","id":1,"x":' + "[" * 31 + "]" * 31 + "}").message == Ping()
    head, tail = '{"v":1,"type":"ping","id":1,"x":"', '"}'
    room = 4 * 1024 * 1024 - len(head) - len(tail)
    assert decode(head + "x" * room + tail).message == Ping()
    assert "larger" in refusal(head + "x" * (room + 1) + tail).reason


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "1", None, [], 2**63])
def test_an_id_is_a_whole_number_from_1_up(number: object) -> None:
    assert refusal(json.dumps(PING | {"id": number})).id is None
    assert refusal(json.dumps({"v": 1, "type": "ack", "id": 4, "reply_to": number})).id == 4


@pytest.mark.parametrize("version", [0, 2, True, 1.0, "1", None])
def test_another_version_is_malformed(version: object) -> None:
    assert refusal(json.dumps(PING | {"v": version})).reason == "v: must be 1"


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(UnknownMessage) as caught:
        decode('{"v":1,"type":"job_pause","id":9,"reply_to":3}')
    assert (caught.value.type, caught.value.id, caught.value.reply_to) == ("job_pause", 9, 3)
    assert refusal(json.dumps(PING | {"type": "x" * 65})).id == 1


def test_answers_answer_and_requests_do_not() -> None:
    assert "is an answer" in refusal('{"v":1,"type":"ack","id":1}').reason
    assert "is no answer" in refusal('{"v":1,"type":"ping","id":1,"reply_to":1}').reason


JOB_FIELDS = BY_WORD["job_request"]["job"]
RECORD_FIELDS = BY_WORD["hello"]["addresses"]
WRONG_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("hello", {"protocol_min": 0}, "protocol_min: must be from 1"),
    ("hello", {"instance_id": "0F" * 16}, "instance_id: must match"),
    ("hello", {"name": "x" * 257}, "name: must have at most 256"),
    ("hello", {"name": "a\0b"}, "name: must not hold NUL"),
    ("hello", {"addresses": RECORD_FIELDS | {"issued_at_ms": 1}}, "addresses: the signature"),
    ("hello", {"addresses": RECORD_FIELDS | {"addresses": ["192.0.2.1:30906"] * 5}}, "at most 4 items"),
    ("error", {"code": "nonsense"}, "code: must be one of"),
    ("error", {"reason": "x" * 4097}, "reason: must have at most 4096"),
    ("job_request", {"start_by_s": True}, "start_by_s: must be a number"),
    ("job_request", {"start_by_s": -1}, "start_by_s: must be from 0"),
    ("job_request", {"start_by_s": 1.1e9}, "start_by_s: must be from 0"),
    ("job_request", {"check_only": 0}, "check_only: must be true or false"),
    ("job_request", {"execution_uid": "00" * 15}, "execution_uid: must match"),
    ("job_request", {"execution_uid": "00" * 16 + "\n"}, "execution_uid: must match"),
    ("job_request", {"workflow_job_id": 31.0}, "workflow_job_id: must be a whole number"),
    ("job_request", {"workflow_job_id": -31}, "workflow_job_id: must be from 0"),
    ("job_request", {"workflow_job_id": 2**63}, "workflow_job_id: is too large"),
    ("job_request", {"addresses": [RECORD_FIELDS] * 101}, "addresses: must have at most 100 items"),
    ("job_request", {"job": JOB_FIELDS | {"executor_peer_id": "peer_worker"}}, "job.executor_peer_id: a peer id"),
    ("job_request", {"job": JOB_FIELDS | {"cmd": ["x" * 131_073]}}, "job.cmd[0]: must have at most"),
    ("job_request", {"job": JOB_FIELDS | {"cmd": ["x"] * 5_001}}, "job.cmd: must have at most"),
    ("job_request", {"job": JOB_FIELDS | {"name": "x" * 257}}, "job.name: must have at most"),
    ("job_request", {"job": []}, "job: must be an object"),
    ("job_status_request", {"node_ids": [1] * 1_001}, "node_ids: must have at most 1000 items"),
    ("job_status_update", {"exit_code": 2**31}, "exit_code: must be from"),
    ("job_status_update", {"attempt": 0}, "attempt: must be from 1"),
    ("job_response", {"job_execution_id": 0}, "job_execution_id: must be from 1"),
    ("job_response", {"reused": 1}, "reused: must be true or false"),
    ("job_request", {"reuse_of": "00" * 15}, "reuse_of: must match"),
    ("job_status_update", {"started_at": "2026-01-31"}, "started_at: must be a time"),
    ("job_status_update", {"started_at": "2026-02-31T12:00:00.000Z"}, "started_at: must be a time"),
    ("job_status_update", {"started_at": "2026-01-31T12:00:00.000+00:00"}, "started_at: must be a time"),
    ("job_logs_request", {"limit_bytes": 1024 * 1024 + 1}, "limit_bytes: must be from 1"),
    ("job_logs_request", {"stream": "stdin"}, "stream: must be one of stdout"),
    ("job_logs_response", {"data": "QQ"}, "data: must be at most"),
    ("job_logs_response", {"data": "QR=="}, "data: must be at most"),
    ("job_logs_response", {"data": "Q Q="}, "data: must be at most"),
    ("job_logs_response", {"data": "é"}, "data: must be at most"),
    ("job_logs_response", {"data": "A" * 1_398_108}, "data: must be at most"),
    ("capabilities_response", {"capabilities": []}, "capabilities: must be an object"),
    ("data_transfer_request", {"stream": 2**32}, "stream: must be from 0"),
    ("data_transfer_request", {"transfer_id": "0123"}, "transfer_id: must match"),
    ("data_transfer_request", {"ordering_peer_id": "rn"}, "ordering_peer_id: a peer id has 58"),
]


@pytest.mark.parametrize(("word", "changes", "words"), WRONG_FIELDS)
def test_a_field_out_of_bounds_is_named(word: str, changes: dict[str, Any], words: str) -> None:
    error = refusal(changed(word, **changes))
    assert error.id == 8
    assert words in error.reason


def test_a_flood_of_wrong_values_is_not_read_to_its_end() -> None:
    text = changed("job_request", job=JOB_FIELDS | {"interfaces": [{}] * 5_000})
    assert len(refusal(text).reason) <= 1_000
    assert (
        "at most 5000 interface_peers"
        in refusal(
            changed(
                "job_request",
                job=JOB_FIELDS
                | {
                    "interfaces": [
                        JOB_FIELDS["interfaces"][0]
                        | {"interface_peers": JOB_FIELDS["interfaces"][0]["interface_peers"] * 2_501}
                    ]
                    * 2
                },
            )
        ).reason
    )


def test_a_reason_never_hides_anything() -> None:
    error = refusal(changed("error", code="\u202egnp\n" + "x" * 5_000))
    assert error.reason.isprintable()
    assert len(error.reason) == 1_000


def test_nobody_learns_where_files_lie_here() -> None:
    interface = JOB.interfaces[0]
    secret = replace(interface.interface_peers[0], source_path="/home/someone/dataset.csv")
    job = replace(JOB, interfaces=(replace(interface, interface_peers=(secret,)), *JOB.interfaces[1:]))
    message, _ = EXAMPLES[5]
    assert isinstance(message, JobRequestMessage)
    text = encode(replace(message, job=job), id=8)
    assert "source_path" not in text
    assert text == GOLDEN[5]


def test_a_path_of_files_here_that_another_peer_names_is_ignored() -> None:
    fields = json.loads(GOLDEN[5])
    fields["job"]["interfaces"][0]["interface_peers"][0]["source_path"] = "/etc/passwd"
    message = decode(json.dumps(fields)).message
    assert isinstance(message, JobRequestMessage)
    assert message.job == JOB


def test_sentences_for_people_are_cut_and_cleaned_so_that_they_can_be_said() -> None:
    said = decode(encode(Refusal(code=RefusalCode.INTERNAL, reason="\udcff\0" + "x" * 5_000), id=1, reply_to=1)).message
    assert isinstance(said, Refusal)
    assert said.reason == "??" + "x" * 4_093 + "…"


@pytest.mark.parametrize(
    "message",
    [
        JobResponseMessage(accepted=False, job_execution_id=None, service_revision=None, reasons=("no",) * 1_001),
        JobLogsResponse(data=bytes(1024 * 1024 + 1), next_offset=0, eof=True),
        CapabilitiesResponse(capabilities={"x": float("nan")}),
        CapabilitiesResponse(capabilities={"x": "\udcff"}),
        CapabilitiesResponse(capabilities={"x": {1, 2}}),
        CapabilitiesResponse(capabilities={"x": "x" * 5_000_000}),
    ],
    ids=["a list too long", "bytes too many", "NaN", "half a surrogate pair", "no JSON", "too large"],
)
def test_what_no_peer_would_take_is_not_said(message: Message) -> None:
    with pytest.raises(MalformedMessage):
        encode(message, id=1, reply_to=1)


def test_an_answer_needs_a_question_to_be_said() -> None:
    with pytest.raises(MalformedMessage):
        encode(Ack(), id=1)
    with pytest.raises(MalformedMessage):
        encode(Ping(), id=0)


def test_what_a_job_wrote_does_not_show_in_logs() -> None:
    assert "secret" not in repr(JobLogsResponse(data=b"secret", next_offset=6, eof=True))
