"""No parser of somebody else's bytes raises anything but its own errors, takes long, or takes much memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.fuzz.files import Files
from tests.fuzz.fuzzing import fuzz
from tests.fuzz.parsers import PARSERS, Parser

pytestmark = pytest.mark.timeout(7_200)

OF_FILES = (
    "workflow file JSON", "workflow file TOML", "configuration", "run record", "container record", "part note", "identity", "vault key",
)  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name.replace(" ", "-"))
def test_a_parser_raises_its_own_errors_only(parser: Parser) -> None:
    fuzz(parser)


@pytest.mark.parametrize("name", OF_FILES, ids=lambda name: name.replace(" ", "-"))
def test_a_parser_of_files_raises_its_own_errors_only(name: str) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # a disk would be most of what it costs
        parsers = {parser.name: parser for parser in Files(Path(folder) / "files").parsers()}
        assert tuple(parsers) == OF_FILES
        fuzz(parsers[name])
