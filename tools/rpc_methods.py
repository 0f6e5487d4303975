#!/usr/bin/env python3
"""Make the methods of docs/rpc-methods.md from the OpenRPC document that `rpc.discover` answers.

Run it from anywhere after the method table has changed. A test fails while the two differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(PROJECT))

from rnd import __version__  # noqa: E402 - the project has to be found first
from rnd.api import result_schemas  # noqa: E402 - the same
from rnd.api.method_table import build_table  # noqa: E402 - the same
from rnd.api.openrpc import describe  # noqa: E402 - the same
from tools.made_part import MadePart, table_of  # noqa: E402 - the same

Schema = Mapping[str, Any]

ID_MAX = (1 << 63) - 1
GROUPS = {
    "node": "This peer",
    "token": "Tokens",
    "peer": "Other peers",
    "grant": "Grants",
    "service": "Services",
    "workflow": "Workflows",
    "execution": "Executions",
    "job": "Jobs",
    "transfer": "Deliveries",
    "events": "Events",
    "auth": "Login",
    "upload": "Uploads",
    "rpc": "This description",
}

# The objects that several methods answer have a section each; their names are those of their schemas.
OBJECTS: dict[str, Schema] = {
    name.lower().replace("_", " "): schema
    for name, schema in vars(result_schemas).items()
    if name.isupper() and isinstance(schema, dict) and schema.get("properties")
}


def methods() -> list[dict[str, Any]]:
    """Return every method as `rpc.discover` describes it."""
    document: dict[str, Any] = json.loads(json.dumps(describe(build_table().methods.values(), version=__version__)))
    listed: list[dict[str, Any]] = document["methods"]
    return listed


def spelt(schema: Schema) -> str:
    """Return a schema as a person writes it: `a` or `b`, list of text, integer from 1."""
    if name := next((name for name, known in OBJECTS.items() if known == schema), ""):
        return f"[{name}](#{name.replace(' ', '-')})"
    if "anyOf" in schema:
        return " or ".join(spelt(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if schema.get("description", "").startswith("RFC 3339"):
        return "time"
    kinds = schema.get("type", "any value")
    if isinstance(kinds, list):
        return " or ".join(spelt({**schema, "type": kind}) for kind in kinds)
    match kinds:
        case "integer" | "number":
            return kinds + bounds(schema.get("minimum"), schema.get("maximum"))
        case "string":
            longest = schema.get("maxLength")
            return "text" if longest is None else f"text (at most {longest:,})"
        case "array":
            longest = schema.get("maxItems")
            return ("list of " if longest is None else f"list (at most {longest:,}) of ") + spelt(schema["items"])
        case "object" if schema.get("properties"):
            needed = schema.get("required", ())
            parts = [
                f"`{name}{'' if name in needed else '?'}`: {spelt(each)}" for name, each in schema["properties"].items()
            ]
            return "{" + "; ".join(parts) + "}"
        case "object" if isinstance(values := schema.get("additionalProperties"), Mapping):
            return f"object, its values {spelt(values)}"
        case _:
            return str(kinds)


def bounds(least: float | None, most: float | None) -> str:
    """Return what limits a number, as it follows the word for it; where only the type does, nothing."""
    if most is not None and most < ID_MAX:
        return f" from {least or 0:,} to {most:,}".replace(".0 ", " ").removesuffix(".0")
    return f" from {least:,}" if least else ""


def parameters_of(method: Mapping[str, Any]) -> str:
    """Return the table of a method's parameters."""
    rows = []
    for each in method["params"]:
        schema = each["schema"]
        left_out = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
        meaning = " ".join(text for text in (each.get("summary", ""), each.get("description", "")) if text)
        rows.append((f"`{each['name']}`", spelt(schema), "needed" if each["required"] else left_out, meaning))
    return table_of(("parameter", "takes", "left out", "meaning"), rows)


def answer_of(schema: Schema) -> str:
    """Return what a method answers, in a sentence."""
    members = schema.get("properties", {})
    if set(members) == {"items", "total", "next_after_id"}:
        return f"Answers a page, each item {spelt(members['items']['items'])}."
    return f"Answers {spelt(schema)}."


def section_of(method: Mapping[str, Any]) -> str:
    """Return the section of one method."""
    scope = method["x-scope"]
    parts = [
        f"#### {method['name']}",
        f"{method['summary']} Scope: " + ("none, before the login." if scope == "none" else f"`{scope}`."),
        *([parameters_of(method)] if method["params"] else ["No parameters."]),
        answer_of(method["result"]["schema"]),
    ]
    return "\n\n".join(parts)


def object_of(name: str, schema: Schema) -> str:
    """Return the section of one object."""
    needed = schema["required"]
    rows = [
        (f"`{member}`", spelt(each) + ("" if member in needed else "; not always there"))
        for member, each in schema["properties"].items()
    ]
    return f"#### {name}\n\n" + table_of(("member", "is"), rows)


def sections() -> str:
    """Return all methods, group by group, and the objects that they answer."""
    parts = []
    for group, listed in groupby(sorted(methods(), key=group_of), key=group_of):
        parts.append(f"### {list(GROUPS.values())[group]}")
        parts += [section_of(method) for method in listed]
    parts += ["### Objects", *(object_of(name, schema) for name, schema in OBJECTS.items())]
    return "\n\n".join(parts)


def group_of(method: Mapping[str, Any]) -> int:
    """Return the place of a method's group. Raises `ValueError` for one of no group."""
    return list(GROUPS).index(method["name"].partition(".")[0])


PART = MadePart(name="rpc-methods.md", tool="rpc_methods.py", make=sections)

if __name__ == "__main__":
    PART.write()
