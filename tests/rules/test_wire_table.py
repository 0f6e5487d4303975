"""The table by which the designer's mirror of the rules is tested is what the rules say today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_the_designers_table_of_wires_is_what_the_rules_say() -> None:
    spec = importlib.util.spec_from_file_location("wire_table", PROJECT / "tools" / "wire_table.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.TABLE.read_text(encoding="utf-8") == tool.text(), "run tools/wire_table.py"
