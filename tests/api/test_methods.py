"""What a client is told where a handler meets trouble that is neither the client's fault nor the daemon's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rnd.api.methods import Method, MethodTable
from rnd.types.enums import Scope
from rnd.types.errors import DatabaseBusy, DatabaseFull, RndError


class AdminCall:
    scope = Scope.ADMIN


@pytest.mark.parametrize(
    ("trouble", "code", "word"),
    [(DatabaseBusy("locked"), 1800, "TIMED_OUT"), (DatabaseFull("full"), 1700, "LIMIT_EXCEEDED")],
)
def test_a_database_that_takes_no_write_now_is_said_and_is_no_internal_error(
    trouble: RndError, code: int, word: str
) -> None:
    async def handler(_call: object) -> None:
        raise trouble

    faults: list[str] = []

    def on_fault(name: str, _error: BaseException) -> str:
        faults.append(name)
        return "0"

    method = Method(name="thing.change", summary="", scope=Scope.ADMIN, handler=handler, result={})
    entry = MethodTable([method]).entries(on_fault)["thing.change"]
    wrapped: Any = asyncio.run(entry(AdminCall()))
    answer = wrapped._error
    assert (answer.code, answer.message, answer.data["error"]) == (code, str(trouble), word)
    assert "Nothing was changed" in answer.data["hint"]
    assert faults == []
