"""What the tests of deliveries between peers stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.core_peer import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which daemons come and go."""
    return Machine(tmp_path / "data")
