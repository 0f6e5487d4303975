"""Reads a daemon's log as the document prints its lines: without the run that each of them is about."""

from __future__ import annotations

import re
from typing import Final

_RUN: Final = re.compile(r" execution_uid=\w+(?: orchestrator=\w+)?$")


def without_run(line: str) -> str:
    """Return a line without what says which run it is about; test_peers_run_in_logs.py sees to that part."""
    return _RUN.sub("", line)
