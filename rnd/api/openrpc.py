"""The OpenRPC 1.3 document, generated from the method table: the reference that clients read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rnd.api.methods import Method
from rnd.api.parameters import OMITTED, Parameter
from rnd.rules.strict_json import JsonObject, JsonValue
from rnd.types import errors

OPENRPC_VERSION: Final = "1.3.2"

_APPLICATION_ERRORS: Final[tuple[type[errors.ApplicationError], ...]] = (
    errors.NotFound,
    errors.ValidationFailed,
    errors.Conflict,
    errors.PeerUnreachable,
    errors.PeerRefused,
    errors.ExecutorUnavailable,
    errors.TransferFailed,
    errors.PermissionDenied,
    errors.LimitExceeded,
    errors.TimedOut,
)


def describe(methods: Iterable[Method], *, version: str) -> JsonObject:
    """Return the OpenRPC document of these methods, in their order."""
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "rnd",
            "version": version,
            "description": "JSON-RPC 2.0 interface of one rnd peer. Times are RFC 3339 in UTC; durations end in _s, "
            "sizes in _bytes. Every application error carries data.error and data.hint.",
        },
        "methods": [_method(method) for method in methods],
        "components": {
            "errors": {
                error.error: {"code": error.code, "message": (error.__doc__ or "").strip()}
                for error in _APPLICATION_ERRORS
            }
        },
    }


def _method(method: Method) -> JsonObject:
    return {
        "name": method.name,
        "summary": method.summary,
        "tags": [{"name": method.name.split(".")[0]}],
        "paramStructure": "either",
        "params": [_parameter(parameter) for parameter in method.parameters],
        "result": {"name": method.name.replace(".", "_") + "_result", "schema": method.result},
        "errors": [{"$ref": f"#/components/errors/{error.error}"} for error in _APPLICATION_ERRORS],
        "x-scope": "none" if method.scope is None else method.scope.value,
    }


def _parameter(parameter: Parameter) -> JsonObject:
    schema = parameter.type.schema()
    default = parameter.default
    if default is not OMITTED and default is not None:
        schema = {**schema, "default": _json(default)}
    descriptor: JsonObject = {"name": parameter.name, "required": parameter.required, "schema": schema}
    if parameter.summary:
        descriptor["summary"] = parameter.summary
    if parameter.aliases:
        descriptor["description"] = "Also accepted as " + ", ".join(parameter.aliases) + "."
    return descriptor


def _json(default: object) -> JsonValue:
    match default:
        case str() | bool() | int() | float():
            return default
        case tuple():
            return [_json(item) for item in default]
        case dict():
            return {str(key): _json(item) for key, item in default.items()}
        case _:
            raise TypeError(f"{default!r} cannot be a default")
