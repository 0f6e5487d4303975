"""The DOCKER executor does what every executor must do, against a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rnd.services.docker_service import DockerExecutor
from tests.docker.engine import DockerHarness
from tests.docker.exec_unit import ExecUnit
from tests.services.conformance import ExecutorConformance


class DockerRuns(DockerHarness):
    """Opens the executor as a daemon does."""

    @asynccontextmanager
    async def open_executor(self, data_dir: Path) -> AsyncIterator[DockerExecutor]:
        executor = DockerExecutor(data_dir)
        try:
            yield executor
        finally:
            await executor.close()

    def assert_nothing_left(self, data_dir: Path) -> None:
        """The fixture looks for containers and processes."""


class TestDockerConformance(DockerRuns, ExecutorConformance):
    """With rnd-exec as a service manager runs it; tests of everything else have the daemon start it."""

    @pytest.fixture(autouse=True)
    def _unit(self, data_dir: Path) -> Iterator[None]:
        with ExecUnit(data_dir):
            yield
