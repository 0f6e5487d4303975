"""What the parameters of drawing may be: interfaces, places on the canvas, names of nodes and of files that arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rnd.api.parameters import BadParameter, Number, Text
from rnd.rules.interfaces import interfaces_from_json
from rnd.rules.paths import PATH_BYTES_MAX, relative_path_problem
from rnd.rules.strict_json import JsonObject
from rnd.rules.topology import NODE_NAME_CHARACTERS_MAX, node_name_problem
from rnd.types.services import ServiceInterface

MAX_INTERFACES: Final = 100
CANVAS: Final = Number(minimum=-1e9, maximum=1e9)


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The interfaces of a service or node; the document's own messages say what is wrong with one (1100)."""

    def parse(self, value: object, where: str) -> tuple[ServiceInterface, ...]:
        """Return the interfaces. Raises `ValidationFailed` with every problem."""
        if not isinstance(value, list):
            raise BadParameter(where, "must be a list")
        if len(value) > MAX_INTERFACES:
            raise BadParameter(where, f"must have at most {MAX_INTERFACES} items, not {len(value)}")
        return interfaces_from_json(value)

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        item: JsonObject = {
            "type": "object",
            "properties": {
                "interface_type": {"type": "string", "enum": ["STDIN", "STDOUT", "STDERR", "LOGS", "MOUNT"]},
                "path": {"type": "string"},
                "mount_function": {"anyOf": [{"enum": ["INPUT", "OUTPUT", "BOTH"]}, {"type": "null"}]},
                "required": {"type": "boolean"},
                "description": {"type": "string"},
            },
            "required": ["interface_type"],
        }
        return {"type": "array", "items": item, "maxItems": MAX_INTERFACES}


@dataclass(frozen=True, slots=True)
class CanvasPosition:
    """A place on the canvas in whole pixels; designers send fractions, the schema keeps integers."""

    def parse(self, value: object, where: str) -> int:
        """Return the rounded position."""
        return round(CANVAS.parse(value, where))

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return CANVAS.schema()


@dataclass(frozen=True, slots=True)
class DestinationName:
    """`name` or `folder/name` below the receiver's input, or `folder/`; never a way out of it."""

    def parse(self, value: object, where: str) -> str:
        """Return the name."""
        name = Text(min_chars=1, max_chars=PATH_BYTES_MAX).parse(value, where)
        problem = relative_path_problem(name.removesuffix("/"))
        if problem:
            raise BadParameter(where, problem)
        return name

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": PATH_BYTES_MAX}


@dataclass(frozen=True, slots=True)
class NodeName:
    """What people call a node; null or "" takes its name away again."""

    def parse(self, value: object, where: str) -> str:
        """Return the name, "" for none."""
        if value is None or value == "":
            return ""
        name = Text().parse(value, where)
        problem = node_name_problem(name)
        if problem:
            raise BadParameter(where, problem)
        return name

    def schema(self) -> JsonObject:
        """Return the JSON Schema."""
        return {"type": ["string", "null"], "maxLength": NODE_NAME_CHARACTERS_MAX}


INTERFACES: Final = Interfaces()
