"""What tests have measured: one JSON object a line, in the file that `RND_TEST_FIGURES` names; nowhere without it."""

from __future__ import annotations

import json
import os
from pathlib import Path


def note_figures(stage: str, **figures: object) -> None:
    """Write down what one test of a stage of tools/soak has measured, and show it."""
    line = json.dumps({"stage": stage, **figures})
    print(line)
    path = os.environ.get("RND_TEST_FIGURES")
    if path:
        with Path(path).open("a") as file:
            file.write(f"{line}\n")
