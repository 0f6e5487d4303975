"""The page about the workflow file says what the format is."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

from rnd.rules.workflow_file import Layout, emit_workflow_file, parse_workflow_file

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "workflow-file.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    return str(found)


def test_both_examples_are_of_the_format() -> None:
    complete = parse_workflow_file(tomllib.loads(block("toml")))
    assert [node.name for node in complete.nodes] == ["stations", "clean", "join"]
    assert parse_workflow_file(emit_workflow_file(complete)) == complete
    assert len(parse_workflow_file(json.loads(block("json"))).connections) == 3


def test_every_field_that_an_export_can_hold_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", PAGE))
    assert {field.name for field in fields(Layout)} <= explained
    document = emit_workflow_file(parse_workflow_file(tomllib.loads(block("toml"))))
    assert set(document) <= explained
    for part in ("nodes", "connections"):
        items = document[part]
        assert isinstance(items, list)
        assert {key for item in items for key in item} <= explained
