"""Calls of the API's methods that are near what their schemas want: right words and types, and something wrong here and there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rnd.api.methods import MethodTable
from rnd.api.parameters import Parameter
from tests.fuzz.mutation import Mutator

OFTEN_WRONG: Final = 0.15
_TEXTS: Final = (
    "a", "cat", "Count words", "x" * 200, "STDIN", "STDOUT", "MOUNT", "/in", "/usr/bin/true", "192.0.2.1:1", "upload:a", "10",
    "*.txt", "00112233-4455-6677-8899-aabbccddeeff", "*",
)  # fmt: skip


class Schemas:
    """Makes calls from a method table. `known` are values by the name of a parameter that exist where they are sent."""

    def __init__(self, table: MethodTable, known: Mapping[str, Sequence[Any]] | None = None) -> None:
        self._methods = {
            name: {parameter.name: _Member(parameter) for parameter in method.parameters}
            for name, method in table.methods.items()
        }
        self.names = tuple(self._methods)
        self.known: dict[str, list[Any]] = {name: list(values) for name, values in (known or {}).items()}

    def call(self, mutator: Mutator, names: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
        """Return a method and named parameters."""
        random = mutator.random
        name = random.choice(names or self.names)
        members = self._methods[name]
        given = {
            each: self._value(mutator, each, member.schema)
            for each, member in members.items()
            if member.required or random.random() < 0.4
        }
        if random.random() < OFTEN_WRONG:
            given.pop(random.choice(list(given)), None) if given and random.random() < 0.5 else given.update({"a": 1})
        return name, given

    def _value(self, mutator: Mutator, name: str, schema: Mapping[str, Any]) -> Any:
        random = mutator.random
        if random.random() < OFTEN_WRONG:
            return mutator.odd_value()
        if name in self.known and random.random() < 0.8:
            return random.choice(self.known[name])
        if "enum" in schema:
            return random.choice(schema["enum"])
        for either in ("anyOf", "oneOf"):
            if either in schema:
                return self._value(mutator, name, random.choice(schema[either]))
        kind = schema.get("type")
        match random.choice(kind) if isinstance(kind, list) else kind:
            case "integer":
                low, high = schema.get("minimum", -5), schema.get("maximum", 1_000)
                return random.choice((low, high, random.randint(low, min(high, low + 10)), low - 1, high + 1))
            case "number":
                return random.choice((schema.get("minimum", 0), 1, 0.5, 1e6))
            case "boolean":
                return random.random() < 0.5
            case "null":
                return None
            case "array":
                items = schema.get("items", {})
                return [self._value(mutator, name, items) for _ in range(random.choice((0, 1, 1, 2, 5)))]
            case "object":
                return self._members(mutator, schema)
            case _:
                return random.choice(_TEXTS)

    def _members(self, mutator: Mutator, schema: Mapping[str, Any]) -> dict[str, Any]:
        wanted = schema.get("required", ())
        made = {
            name: self._value(mutator, name, inner)
            for name, inner in schema.get("properties", {}).items()
            if name in wanted or mutator.random.random() < 0.4
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            made[mutator.random.choice(("A", "1", "KEY_2", ""))] = self._value(mutator, "", more)
        return made


class _Member:
    def __init__(self, parameter: Parameter) -> None:
        self.required = parameter.required
        self.schema: Mapping[str, Any] = parameter.type.schema()
