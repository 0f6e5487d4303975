"""What every test stands on: the package is found wherever pytest was started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

PROJECT = Path(__file__).resolve().parent.parent
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

# Shared machines stall; a slow example is no failure there. In between, fewer examples do.
settings.register_profile("rnd", deadline=None, max_examples=int(os.environ.get("RND_TEST_EXAMPLES", "100")))
settings.load_profile("rnd")
