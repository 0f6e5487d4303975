"""The method table: each method's name, scope, parameters, result and handler, and how a call is run and bounded."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from rnd.api.envelope import INTERNAL_ERROR, INVALID_PARAMS, Error, Result, Success, internal_error_data
from rnd.api.parameters import BadParameter, Parameter, UnknownParameter, bind
from rnd.rules.strict_json import JsonObject
from rnd.types.enums import Scope
from rnd.types.errors import (
    ApplicationError,
    DatabaseBusy,
    DatabaseFull,
    DatabaseGone,
    LimitExceeded,
    PermissionDenied,
    TimedOut,
    ValidationFailed,
)

CALL_TIMEOUT_S: Final = 30.0

_RANK: Final = {Scope.READ: 0, Scope.OPERATE: 1, Scope.ADMIN: 2}

Handler = Callable[..., Awaitable[object]]
"""`async def handler(call, *, parameter, ...)`; the declared parameters arrive parsed and by name."""


Explain = Callable[[Any, Mapping[str, object], UnknownParameter], Awaitable[BadParameter]]


class ScopedCall(Protocol):
    """What running a method needs to know about a call."""

    @property
    def scope(self) -> Scope | None:
        """Return what the caller may do; `None`: it has not said who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method. `scope` `None`: open to callers that have not logged in yet. `timeout_s` `None`: bounds itself."""

    name: str
    summary: str
    scope: Scope | None
    handler: Handler
    result: JsonObject
    parameters: tuple[Parameter, ...] = ()
    timeout_s: float | None = CALL_TIMEOUT_S
    explain_unknown: Explain | None = None
    """Says more about a parameter that is none, where the object that is spoken of tells."""


class MethodTable:
    """Every method by name. Raises `ValueError` for two of the same name."""

    def __init__(self, methods: Iterable[Method]) -> None:
        self.methods: dict[str, Method] = {}
        for method in methods:
            self.add(method)

    def add(self, method: Method) -> None:
        """Add one method. Raises `ValueError` where its name is taken."""
        if method.name in self.methods:
            raise ValueError(f"method {method.name} is declared twice")
        self.methods[method.name] = method

    def entries(self, on_fault: Callable[[str, BaseException], str]) -> Mapping[str, Callable[..., Any]]:
        """Return what jsonrpcserver dispatches to. `on_fault(method, exception)` logs and returns an error id."""
        return {name: _entry(method, on_fault) for name, method in self.methods.items()}


def may(scope: Scope | None, needed: Scope | None) -> bool:
    """Tell whether a caller of `scope` may do what needs `needed`; each scope contains the one before."""
    return needed is None or (scope is not None and _RANK[scope] >= _RANK[needed])


def require_scope(scope: Scope | None, needed: Scope | None, what: str) -> None:
    """Raise `PermissionDenied` where the caller's scope does not contain the needed one."""
    if may(scope, needed):
        return
    if scope is None:
        raise PermissionDenied(f"{what} needs a login", hint="Send auth.login with a token first.")
    raise PermissionDenied(f"{what} needs a token of scope {needed}; this one has {scope}")


def error_data(error: ApplicationError) -> JsonObject:
    """Return the `data` member of an application error."""
    data: JsonObject = {"error": error.error, "hint": error.hint}
    if error.reason:
        data["reason"] = error.reason
    if isinstance(error, ValidationFailed):
        data["problems"] = [
            {
                "check": problem.check,
                "message": problem.message,
                **({} if problem.node_id is None else {"node_id": problem.node_id}),
                **({} if problem.connection_id is None else {"connection_id": problem.connection_id}),
                **({} if problem.place is None else {"place": problem.place}),
            }
            for problem in error.problems
        ]
    return data


def _entry(method: Method, on_fault: Callable[[str, BaseException], str]) -> Callable[..., Awaitable[Result]]:
    async def entry(call: ScopedCall, /, *positional: object, **named: object) -> Result:
        try:
            require_scope(call.scope, method.scope, method.name)
            return Success(await _run(method, call, bind(method.parameters, positional, named)))
        except UnknownParameter as error:
            explain = method.explain_unknown
            return _bad_parameter(method, error if explain is None else await explain(call, named, error))
        except BadParameter as error:
            return _bad_parameter(method, error)
        except ApplicationError as error:
            return Error(error.code, error.message, error_data(error))
        except DatabaseGone as error:  # the daemon ends with these words in its log
            told = internal_error_data(on_fault(method.name, error))
            return Error(INTERNAL_ERROR, str(error), {**told, "hint": "The daemon stops; its log says why."})
        except Exception as error:  # noqa: BLE001 - the boundary of one request: what went wrong stays in the log
            return Error(INTERNAL_ERROR, "Internal error", internal_error_data(on_fault(method.name, error)))

    # jsonrpcserver looks at the signature in every call; it always finds this one, without working it out again.
    entry.__signature__ = inspect.signature(entry)  # type: ignore[attr-defined]  # inspect documents it
    return entry


def _bad_parameter(method: Method, error: BadParameter) -> Result:
    hint = error.hint or f"rpc.discover says what {method.name} takes."
    return Error(
        INVALID_PARAMS,
        f"Invalid params: {error}",
        {"error": "INVALID_PARAMS", "parameter": error.where, "hint": hint},
    )


async def _run(method: Method, call: ScopedCall, arguments: dict[str, Any]) -> object:
    bound = asyncio.timeout(method.timeout_s)
    try:
        async with bound:
            return await method.handler(call, **arguments)
    except DatabaseBusy as error:
        raise TimedOut(str(error), hint="Nothing was changed: end that transaction, and try again.") from error
    except DatabaseFull as error:
        raise LimitExceeded(str(error), hint="Nothing was changed: free space on the peer's disk.") from error
    except TimeoutError:
        if not bound.expired():
            raise
        raise TimedOut(f"{method.name} did not finish within {method.timeout_s:g} s") from None
