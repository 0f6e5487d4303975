"""What the tests of containers stand on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from rnd.services import exec_client
from tests.docker.engine import SOCKET, connect, import_image, running_engine
from tests.docker.registry import PASSWORD, USER, running_registry
from tests.services.native_processes import assert_no_processes


@pytest.fixture(autouse=True)
def _is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have coverage follow into rnd-exec, which gets hardly any environment."""
    monkeypatch.setattr(exec_client, "ENVIRONMENT", (*exec_client.ENVIRONMENT, "COVERAGE_PROCESS_CONFIG"))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test run, the same one in each of its workers."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[APIClient]:
    """The SDK's client of an engine that runs."""
    with running_engine(tmp_path_factory.mktemp("dockerd") / "log", shared_folder / "users of the engine"):
        client = connect()
        yield client
        client.close()


@pytest.fixture(scope="session")
def image_id(engine: APIClient, shared_folder: Path) -> str:
    """The id of an image with a shell in it: the first worker that needs it makes it, for a second one would take its name."""
    with (shared_folder / "id of the image").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        note.seek(0)
        image_id = note.read()
        if not image_id:
            image_id = import_image(engine)
            note.write(image_id)
        return image_id


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry."""
    with running_registry(tmp_path_factory.mktemp("registry") / "files") as address:
        yield address


@pytest.fixture
def pushed(engine: APIClient, registry: str) -> Iterator[tuple[str, str]]:
    """The name of an image that only the registry has, and its id."""
    name = f"{registry}/team/tool:1.2"
    changes = ('ENTRYPOINT ["/bin/echo"]', 'CMD ["hello"]', "VOLUME /data", "USER 5", "WORKDIR /work", "LABEL a=b")
    image_id = import_image(engine, name, *changes)
    said = engine.push(name, auth_config={"username": USER, "password": PASSWORD})
    assert "error" not in said, said
    engine.remove_image(name)
    yield name, image_id
    for left in engine.images(name=f"{registry}/team/tool"):
        engine.remove_image(left["Id"], force=True)


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
