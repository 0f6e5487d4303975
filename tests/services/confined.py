"""A harness whose runs are all confined, and the word on where that cannot be tested."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rnd.services.confinement import HOLE
from rnd.services.executor import Confinement, Executor, JobRun, Place
from rnd.services.spawner_client import probe_confinement
from rnd.services.standalone_service import StandaloneExecutor
from tests.services.conformance import ExecutorHarness
from tests.services.native_processes import assert_no_processes


@functools.cache
def confinement_problem() -> str:
    """Return "" or why programs cannot be confined on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        return probe_confinement(Path(folder))


def require_confinement() -> None:
    """Skip the test where nothing can be confined; fail it where the walls have a hole, or in continuous integration."""
    problem = confinement_problem()
    if problem and (os.environ.get("CI") or problem.startswith(HOLE)):
        pytest.fail(f"programs cannot be confined here: {problem}")
    if problem:
        pytest.skip(f"programs cannot be confined here: {problem}")


def own_places(directory: Path) -> tuple[Place, ...]:
    """Return what every confined job sees of its own folder."""
    return (
        Place(path=directory / "input", own=True),
        Place(path=directory / "output", writable=True, own=True),
        Place(path=directory / "tmp", writable=True, own=True),
    )


class ConfinedHarness(ExecutorHarness):
    """Orders are confined to the job's own folders; `places` and `network` open more."""

    def order(
        self,
        data_dir: Path,
        script: str,
        *arguments: str,
        number: int = 1,
        places: tuple[Place, ...] = (),
        network: bool = False,
        **fields: Any,
    ) -> JobRun:
        """Return a confined run of a shell script."""
        directory = fields.get("directory", data_dir / "jobs" / str(number))
        fields.setdefault("confinement", Confinement(places=(*own_places(directory), *places), network=network))
        return super().order(data_dir, script, *arguments, number=number, **fields)


@asynccontextmanager
async def _opened(data_dir: Path) -> AsyncIterator[Executor]:
    executor = StandaloneExecutor(data_dir)
    try:
        yield executor
    finally:
        await executor.close()


class NativeConfinedHarness(ConfinedHarness):
    """The same, with the executor of native programs."""

    def open_executor(self, data_dir: Path) -> AbstractAsyncContextManager[Executor]:
        """Return the executor of native programs."""
        return _opened(data_dir)

    def assert_nothing_left(self, data_dir: Path) -> None:
        """Fail if a process is left."""
        assert_no_processes(data_dir)
