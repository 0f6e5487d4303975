"""The JSON-RPC 2.0 envelope: every example of the specification, and what jsonrpcserver leaves open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.api.envelope import Envelope
from rnd.api.methods import Method, MethodTable
from rnd.api.parameters import Boolean, Integer, ListOf, Number, Text, optional, required
from rnd.types.enums import Scope
from rnd.types.errors import Conflict, NotFound, PeerRefused, Problem, ValidationFailed
from rnd.types.ids import NodeId


@dataclass(frozen=True)
class Caller:
    scope: Scope | None = Scope.ADMIN


class Spec:
    """The methods of the specification's examples, a few that fail, and what was logged."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.running = 0
        self.most_running = 0
        self.faults: list[tuple[str, BaseException]] = []
        number = Number()
        anything = ListOf(items=Number(), max_items=100)
        methods = [
            self._method("subtract", self.subtract, required("minuend", number), required("subtrahend", number)),
            self._method("sum", self.sum, *[optional(name, number) for name in "abc"]),
            self._method("update", self.note, *[optional(name, number) for name in "abcde"]),
            self._method("notify_hello", self.note, optional("a", number)),
            self._method("notify_sum", self.note, *[optional(name, number) for name in "abc"]),
            self._method("get_data", self.get_data),
            self._method("slow", self.slow, required("number", Integer())),
            self._method("crash", self.crash),
            self._method("unsayable", self.unsayable),
            self._method("refuse", self.refuse, required("how", Text())),
            self._method("hang", self.hang, timeout_s=0.01),
            self._method("many", self.note, required("numbers", anything)),
            self._method("flag", self.note, required("on", Boolean())),
            Method(name="admin", summary="", scope=Scope.ADMIN, handler=self.note, result={}),
            Method(name="operate", summary="", scope=Scope.OPERATE, handler=self.note, result={}),
            Method(name="open", summary="", scope=None, handler=self.note, result={}),
        ]
        self.table = MethodTable(methods)
        self.envelope = Envelope(self.table.entries(self.log), max_batch=50, on_fault=self.log)

    def _method(self, name: str, handler: Callable[..., Any], *parameters: Any, timeout_s: float = 30) -> Method:
        return Method(
            name=name,
            summary="",
            scope=Scope.READ,
            handler=handler,
            parameters=parameters,
            result={},
            timeout_s=timeout_s,
        )

    def log(self, method: str, error: BaseException) -> str:
        self.faults.append((method, error))
        return f"id{len(self.faults)}"

    async def subtract(self, _call: Caller, *, minuend: float, subtrahend: float) -> float:
        return minuend - subtrahend

    async def sum(self, _call: Caller, **numbers: float) -> float:
        return sum(numbers.values())

    async def note(self, _call: Caller, **given: object) -> bool:
        self.done.append(given)
        return True

    async def get_data(self, _call: Caller) -> list[object]:
        return ["hello", 5]

    async def slow(self, _call: Caller, *, number: int) -> int:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.done.append(number)
        self.running -= 1
        return number

    async def crash(self, _call: Caller) -> None:
        raise RuntimeError("the passphrase is hunter2")

    async def unsayable(self, _call: Caller) -> float:
        return float("nan")

    async def hang(self, _call: Caller) -> None:
        await asyncio.Event().wait()

    async def refuse(self, _call: Caller, *, how: str) -> None:
        raise {
            "not_found": NotFound("Service 5 not found"),
            "conflict": Conflict("taken", hint="Choose another name."),
            "peer": PeerRefused("no", reason="we are closed"),
            "validation": ValidationFailed(
                [
                    Problem(check="jobs", message="Workflow must have at least one job"),
                    Problem(check="service", message="Service 7 not found", node_id=NodeId(3)),
                ]
            ),
        }[how]

    def ask(self, body: str | bytes, caller: Caller | None = None) -> Any:
        raw = body.encode() if isinstance(body, str) else body
        answer = asyncio.run(self.envelope.answer(raw, caller or Caller()))
        return None if answer is None else json.loads(answer)

    def call(self, method: str, params: object = None, caller: Caller | None = None) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            request["params"] = params  # type: ignore[assignment]  # tests send anything
        return self.ask(json.dumps(request), caller)


def without_data(answer: Any) -> Any:
    """Return answers with only what the specification's examples show of errors."""
    if isinstance(answer, list):
        return [without_data(one) for one in answer]
    if isinstance(answer, dict) and "error" in answer:
        return {**answer, "error": {key: answer["error"][key] for key in ("code", "message")}}
    return answer


INVALID = {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None}
PARSE_ERROR = {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None}

# https://www.jsonrpc.org/specification, section 7, in its order.
EXAMPLES: list[tuple[str, object]] = [
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        {"jsonrpc": "2.0", "result": 19, "id": 1},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        {"jsonrpc": "2.0", "result": -19, "id": 2},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        {"jsonrpc": "2.0", "result": 19, "id": 4},
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    (
        '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"},
    ),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        PARSE_ERROR,
    ),
    ("[]", INVALID),
    ("[1]", [INVALID]),
    ("[1,2,3]", [INVALID, INVALID, INVALID]),
    (
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
        ]""",
        [
            {"jsonrpc": "2.0", "result": 7, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            INVALID,
            {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
        ]""",
        None,
    ),
]


@pytest.mark.parametrize(("request_text", "expected"), EXAMPLES)
def test_every_example_of_the_specification(request_text: str, expected: object) -> None:
    assert without_data(Spec().ask(request_text)) == expected


def test_a_notification_is_run_although_nothing_is_answered() -> None:
    spec = Spec()
    assert spec.ask('{"jsonrpc":"2.0","method":"update","params":[1,2]}') is None
    assert spec.done == [{"a": 1.0, "b": 2.0}]


@pytest.mark.parametrize(
    "request_text",
    ['{"jsonrpc":"2.0","method":"crash"}', '{"jsonrpc":"2.0","method":"subtract","params":[]}'],
)
def test_a_notification_that_fails_answers_nothing_either(request_text: str) -> None:
    assert Spec().ask(request_text) is None


def test_an_id_of_null_is_a_call_and_not_a_notification() -> None:
    answer = Spec().ask('{"jsonrpc":"2.0","method":"get_data","id":null}')
    assert answer == {"jsonrpc": "2.0", "result": ["hello", 5], "id": None}


@pytest.mark.parametrize(
    "request_text",
    [
        "1",
        '"x"',
        "null",
        "true",
        "{}",
        '{"method":"sum","id":1}',
        '{"jsonrpc":"1.0","method":"sum","id":1}',
        '{"jsonrpc":2.0,"method":"sum","id":1}',
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","method":null,"id":1}',
        '{"jsonrpc":"2.0","method":"sum","params":null,"id":1}',
        '{"jsonrpc":"2.0","method":"sum","params":3,"id":1}',
        '{"jsonrpc":"2.0","method":"sum","id":{}}',
        '{"jsonrpc":"2.0","method":"sum","id":[1]}',
        '{"jsonrpc":"2.0","method":"sum","id":true}',
        '{"jsonrpc":"2.0","method":"sum","id":1,"parms":[1]}',
    ],
)
def test_what_is_no_request_is_an_invalid_request(request_text: str) -> None:
    assert without_data(Spec().ask(request_text)) == INVALID


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_json_are_a_parse_error(literal: str) -> None:
    answer = Spec().ask(f'{{"jsonrpc":"2.0","method":"sum","params":[{literal}],"id":1}}')
    assert without_data(answer) == PARSE_ERROR


def test_a_duplicate_key_is_a_parse_error_and_nothing_is_run() -> None:
    spec = Spec()
    assert without_data(spec.ask('{"jsonrpc":"2.0","method":"update","method":"get_data","id":1}')) == PARSE_ERROR
    assert spec.done == []


def test_too_deep_a_request_is_a_parse_error() -> None:
    deep = "[" * 31 + "]" * 31
    answer = Spec().ask(f'{{"jsonrpc":"2.0","method":"many","params":[{deep}],"id":1}}')
    assert without_data(answer) == PARSE_ERROR


def test_a_batch_runs_in_order_and_one_call_at_a_time() -> None:
    spec = Spec()
    batch = [{"jsonrpc": "2.0", "id": n, "method": "slow", "params": [n]} for n in range(50)]
    answers = spec.ask(json.dumps(batch))
    assert [answer["id"] for answer in answers] == list(range(50))
    assert spec.done == list(range(50))
    assert spec.most_running == 1


def test_the_answer_to_a_batch_is_bounded() -> None:
    """What comes after the bound is refused, and was not done; a notification adds nothing and is done."""
    spec = Spec()
    envelope = Envelope(spec.table.entries(spec.log), max_batch=50, on_fault=spec.log, max_answer_bytes=100)
    members = [{"jsonrpc": "2.0", "id": n, "method": "slow", "params": [n]} for n in range(9)]
    notification = {"jsonrpc": "2.0", "method": "slow", "params": [9]}
    body = json.dumps([*members, notification, {"jsonrpc": "2.0"}]).encode()
    answers = json.loads(asyncio.run(envelope.answer(body, Caller())) or b"")
    done = [answer["result"] for answer in answers if "result" in answer]
    assert 0 < len(done) < 9
    assert spec.done == [*done, 9]
    refused = answers[len(done) : 9]
    assert [answer["id"] for answer in refused] == list(range(len(done), 9))
    assert {(answer["error"]["code"], answer["error"]["data"]["error"]) for answer in refused} == {
        (1700, "LIMIT_EXCEEDED")
    }
    assert answers[9]["error"]["code"] == -32600


def test_a_batch_past_the_limit_is_refused_whole() -> None:
    spec = Spec()
    batch = [{"jsonrpc": "2.0", "id": n, "method": "slow", "params": [n]} for n in range(51)]
    answer = spec.ask(json.dumps(batch))
    assert answer["error"]["code"] == 1700
    assert answer["error"]["data"]["error"] == "LIMIT_EXCEEDED"
    assert answer["id"] is None
    assert spec.done == []


def test_an_exception_is_told_by_its_id_only() -> None:
    spec = Spec()
    answer = spec.call("crash")
    assert answer["error"] == {
        "code": -32603,
        "message": "Internal error",
        "data": {"error": "INTERNAL", "error_id": "id1"},
    }
    assert spec.faults[0][0] == "crash"
    assert "hunter2" in str(spec.faults[0][1])


def test_a_result_that_json_cannot_say_is_an_internal_error_of_that_call_alone() -> None:
    spec = Spec()
    answers = spec.ask('[{"jsonrpc":"2.0","method":"unsayable","id":1},{"jsonrpc":"2.0","method":"get_data","id":2}]')
    assert answers[0]["error"]["code"] == -32603
    assert answers[0]["id"] == 1
    assert answers[1]["result"] == ["hello", 5]
    assert len(spec.faults) == 1


def test_a_call_that_takes_too_long_is_timed_out() -> None:
    answer = Spec().call("hang")
    assert (answer["error"]["code"], answer["error"]["data"]["error"]) == (1800, "TIMED_OUT")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("not_found", {"code": 1000, "message": "Service 5 not found"}),
        ("conflict", {"code": 1200, "message": "taken"}),
        ("peer", {"code": 1301, "message": "no"}),
        ("validation", {"code": 1100, "message": "Workflow must have at least one job; Service 7 not found"}),
    ],
)
def test_application_errors_carry_their_code_word_and_hint(how: str, error: dict[str, object]) -> None:
    answer = Spec().call("refuse", [how])
    assert without_data(answer)["error"] == error
    assert answer["error"]["data"]["hint"]
    assert answer["error"]["data"]["error"].isupper()


def test_every_problem_is_told_with_the_ids_it_has() -> None:
    data = Spec().call("refuse", ["validation"])["error"]["data"]
    assert data["problems"] == [
        {"check": "jobs", "message": "Workflow must have at least one job"},
        {"check": "service", "message": "Service 7 not found", "node_id": 3},
    ]


def test_another_peers_own_words_are_the_reason() -> None:
    assert Spec().call("refuse", ["peer"])["error"]["data"]["reason"] == "we are closed"


@pytest.mark.parametrize(
    ("method", "params", "names"),
    [
        ("subtract", {"minuend": 1}, "subtrahend"),
        ("subtract", {"minuend": 1, "subtrahend": 2, "extra": 3}, "extra"),
        ("subtract", [1, 2, 3], "params"),
        ("subtract", {"minuend": "1", "subtrahend": 2}, "minuend"),
        ("subtract", {"minuend": True, "subtrahend": 2}, "minuend"),
        ("flag", {"on": 1}, "on"),
        ("many", {"numbers": [1, "2"]}, "numbers[1]"),
        ("get_data", {"call": 1}, "call"),
        ("get_data", {"self": 1}, "self"),
        ("get_data", {"": 1}, ""),
    ],
)
def test_a_bad_parameter_is_named(method: str, params: object, names: str) -> None:
    error = Spec().call(method, params)["error"]
    assert error["code"] == -32602
    assert names in error["message"]
    assert error["data"]["parameter"] == names


@pytest.mark.parametrize(
    ("scope", "method", "allowed"),
    [
        (Scope.READ, "get_data", True),
        (Scope.READ, "operate", False),
        (Scope.READ, "admin", False),
        (Scope.OPERATE, "operate", True),
        (Scope.OPERATE, "admin", False),
        (Scope.ADMIN, "operate", True),
        (Scope.ADMIN, "admin", True),
        (None, "get_data", False),
        (None, "open", True),
    ],
)
def test_each_scope_contains_the_one_before(scope: Scope | None, method: str, allowed: bool) -> None:
    spec = Spec()
    answer = spec.call(method, caller=Caller(scope))
    if allowed:
        assert "result" in answer
    else:
        assert answer["error"]["code"] == 1600
        assert spec.done == []


requests = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["2.0", "sum", "crash", "slow"]),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["jsonrpc", "method", "params", "id", "x"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(requests)
def test_any_json_is_answered_as_the_specification_says(request_value: object) -> None:
    answer = Spec().ask(json.dumps(request_value))
    members = request_value if isinstance(request_value, list) else [request_value]
    answers = answer if isinstance(answer, list) else [answer]
    if answer is None:
        assert all(isinstance(member, dict) and "id" not in member for member in members)
        return
    for one in answers:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)
        assert "id" in one
    if isinstance(request_value, list) and request_value:
        assert isinstance(answer, list)
        assert len(answer) <= len(request_value)


@given(st.binary(max_size=100))
def test_any_bytes_are_answered_with_json(body: bytes) -> None:
    answer = Spec().ask(body)
    assert answer is None or isinstance(answer, (dict, list))
