"""A container engine that is not there is asked for again and again, and leaves nothing open."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from rnd.services.engine import Engine, EngineGone


def test_asking_an_engine_that_is_away_leaves_no_socket_open(tmp_path: Path) -> None:
    async def ask() -> int:
        engine = Engine(f"unix://{tmp_path}/nobody.sock")
        counts = []
        for _ in range(5):
            with pytest.raises(EngineGone, match=r"nobody\.sock does not answer: .*No such file"):
                await engine.facts()
            counts.append(len(os.listdir("/proc/self/fd")))
        engine.close()
        return counts[-1] - counts[0]

    gc.disable()
    try:
        assert asyncio.run(ask()) == 0
    finally:
        gc.enable()
