"""What the tests of containers stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from rnd.services import exec_client
from tests.docker.engine import SOCKET, connect, import_image, running_engine
from tests.services.native_processes import assert_no_processes


@pytest.fixture(autouse=True)
def _is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have coverage follow into rnd-exec, which gets hardly any environment."""
    monkeypatch.setattr(exec_client, "ENVIRONMENT", (*exec_client.ENVIRONMENT, "COVERAGE_PROCESS_CONFIG"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[APIClient]:
    """The SDK's client of an engine that runs."""
    with running_engine(tmp_path_factory.mktemp("dockerd") / "log"):
        client = connect()
        yield client
        client.close()


@pytest.fixture(scope="session")
def image_id(engine: APIClient) -> str:
    """The id of an image with a shell in it."""
    return import_image(engine)


@pytest.fixture
def data_dir(tmp_path: Path, engine: APIClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory of which neither a process nor a container may be left at the end."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{SOCKET}")
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    yield directory
    left = [
        each
        for each in engine.containers(all=True, filters={"label": "rnd.directory"})
        if each["Labels"]["rnd.directory"].startswith(str(directory))
    ]
    for each in left:
        engine.remove_container(each["Id"], v=True, force=True)
    assert_no_processes(directory)
    assert not left
