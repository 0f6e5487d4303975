"""What the tests of rows stand on: real SQLite, in memory for single functions and in a file for the Database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rnd.database import migrations


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    """A connection to an empty database with the whole schema."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrations.migrate(connection, Path("memory"))
    yield connection
    connection.close()


@pytest.fixture
def now() -> datetime:
    """A moment with milliseconds, which is what the database keeps."""
    return datetime(2026, 1, 31, 12, 0, 0, 123_000, tzinfo=UTC)
