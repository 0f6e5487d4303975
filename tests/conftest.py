"""What every test stands on: the package is found wherever pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

# Shared machines stall; a slow example is no failure there.
settings.register_profile("rnd", deadline=None)
settings.load_profile("rnd")
