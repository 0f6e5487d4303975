"""The JSON-RPC 2.0 envelope: what comes in as bytes, is run by jsonrpcserver one call at a time, and goes out as bytes.

jsonrpcserver runs a single call. Around it stands what it leaves open: a strict parser, batches in order with one
answer a member and a bound, error texts that never quote an exception, and answers that are always JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

from rnd.rules.strict_json import JsonObject, JsonValue, NotStrictJson, encode, parse

with warnings.catch_warnings():
    # It reads its own schema in a way that Python 3.11 and 3.12 warn of; nobody who runs rnd could act on that.
    warnings.simplefilter("ignore", DeprecationWarning)
    from jsonrpcserver import Error, Result, Success, async_dispatch_to_serializable

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
LIMIT_EXCEEDED: Final = 1700

MAX_ANSWER_BYTES: Final = 8 << 20
"""When the answers to the members of one batch are this long, those that follow are refused."""

_MEMBERS: Final = frozenset({"jsonrpc", "method", "params", "id"})

Entries = Mapping[str, Callable[..., Any]]
"""Method name to coroutine function: `entry(call, /, *args, **kwargs)` returns a jsonrpcserver `Result`."""


class Envelope:
    """Answers request texts. `on_fault` logs an exception that escaped from an answer and returns its error id.

    Of a batch whose answers have `max_answer_bytes` together, no further member is run: it is refused.
    """

    def __init__(
        self,
        entries: Entries,
        *,
        max_batch: int,
        on_fault: Callable[[str, BaseException], str],
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._entries = dict(entries)
        self._max_batch = max_batch
        self._max_answer_bytes = max_answer_bytes
        self._on_fault = on_fault

    async def answer(self, body: bytes, call: object) -> bytes | None:
        """Return the answer to a request text, or `None` where nothing is to be said (notifications)."""
        try:
            request = parse(body)
        except NotStrictJson as error:
            return encode(error_answer(PARSE_ERROR, "Parse error", _data("PARSE_ERROR", str(error))))
        if not isinstance(request, list):
            return await self._answer_member(request, call)
        if not request:
            return encode(_invalid("a batch must not be empty"))
        if len(request) > self._max_batch:
            return encode(
                error_answer(
                    LIMIT_EXCEEDED,
                    f"A batch takes at most {self._max_batch} calls",
                    {"error": "LIMIT_EXCEEDED", "hint": "Send the calls in several batches."},
                )
            )
        answers: list[bytes] = []
        answer_bytes = 0
        for member in request:
            if (
                answer_bytes >= self._max_answer_bytes
                and (refusal := _no_more(member, self._max_answer_bytes)) is not None
            ):
                answers.append(encode(refusal))
            elif (answer := await self._answer_member(member, call)) is not None:
                answers.append(answer)
                answer_bytes += len(answer)
        return b"[" + b",".join(answers) + b"]" if answers else None

    async def _answer_member(self, member: JsonValue, call: object) -> bytes | None:
        problem = request_problem(member)
        if problem:
            return encode(_invalid(problem))
        answer: Any = await async_dispatch_to_serializable(
            member,  # parsed already; the deserializer below hands it on
            self._entries,
            context=call,
            deserializer=_as_it_is,
            validator=_as_it_is,
        )
        if answer is None:
            return None
        if "error" in answer and answer["error"]["code"] == METHOD_NOT_FOUND:
            answer["error"]["data"] = _data("METHOD_NOT_FOUND", "rpc.discover lists every method.")
        try:
            return encode(answer)
        except (TypeError, ValueError) as error:
            error_id = self._on_fault(str(answer.get("id")), error)
            return encode(internal_error_answer(error_id, answer.get("id")))


def request_problem(member: JsonValue) -> str:
    """Return what keeps a value from being a JSON-RPC 2.0 request, or "" where nothing does."""
    if not isinstance(member, dict):
        return "a request must be an object"
    if member.get("jsonrpc") != "2.0":
        return 'jsonrpc must be "2.0"'
    if not isinstance(member.get("method"), str):
        return "method must be a string"
    if not isinstance(member.get("params", {}), (dict, list)):
        return "params must be an object or a list"
    request_id = member.get("id")
    if isinstance(request_id, (bool, dict, list)):
        return "id must be a string, a number or null"
    if not member.keys() <= _MEMBERS:
        return "a request has only the members jsonrpc, method, params and id"
    return ""


def _no_more(member: JsonValue, limit: int) -> JsonObject | None:
    """Return the refusal of a member that would make a long answer longer, `None` where it adds nothing to it."""
    if not isinstance(member, dict) or "id" not in member or request_problem(member):
        return None
    return error_answer(
        LIMIT_EXCEEDED,
        f"The answers to a batch have at most {limit >> 20} MiB together",
        {"error": "LIMIT_EXCEEDED", "hint": "This call was not made: send it again, in a batch of its own."},
        member["id"],
    )


def error_answer(code: int, message: str, data: JsonObject, request_id: JsonValue = None) -> JsonObject:
    """Return an error response object."""
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message, "data": data}, "id": request_id}


def internal_error_answer(error_id: str, request_id: JsonValue) -> JsonObject:
    """Return the answer to a fault of ours: an id to look for in the log, and nothing about the fault itself."""
    return error_answer(INTERNAL_ERROR, "Internal error", internal_error_data(error_id), request_id)


def internal_error_data(error_id: str) -> JsonObject:
    """Return the data of a -32603 error."""
    return {"error": "INTERNAL", "error_id": error_id}


def _invalid(problem: str) -> JsonObject:
    return error_answer(INVALID_REQUEST, "Invalid Request", _data("INVALID_REQUEST", problem))


def _data(error: str, reason: str) -> JsonObject:
    return {"error": error, "hint": reason}


def _as_it_is(value: Any) -> Any:
    return value


__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "Entries",
    "Envelope",
    "Error",
    "Result",
    "Success",
    "error_answer",
    "internal_error_answer",
    "internal_error_data",
    "request_problem",
]
