"""An engine of a newer API than the one that is here, played by a proxy that says what such an engine would, and one that is too old."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from rnd.services.docker_service import DockerExecutor
from rnd.services.executor import Executor
from tests.docker import test_images
from tests.docker.engine import IMAGE, SOCKET
from tests.docker.engine_versions import NEWEST, OLDEST, VersionedEngine
from tests.docker.test_docker_service import DockerRuns
from tests.docker.test_kills import exec_of
from tests.services.conformance import ExecutorConformance, eventually


@pytest.fixture
def newer(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VersionedEngine]:
    """An engine that speaks 1.52, and nothing before 1.44; whoever asks in another version fails the test.

    `data_dir` comes first, since it says that the real one is to be asked.
    """
    found = VersionedEngine(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", found.url)
    yield found
    found.close()
    assert (found.asked - {NEWEST}, found.refused) == (set(), [])


@pytest.mark.usefixtures("newer")
class TestConformance(DockerRuns, ExecutorConformance):
    """The DOCKER executor does there what every executor must do."""

    def test_it_is_the_newer_one_that_is_asked(self, data_dir: Path) -> None:
        async def test(executor: Executor) -> None:
            assert ((await executor.check()).version or "").endswith(f"(API {NEWEST})")

        self.go(data_dir, test)


@pytest.mark.usefixtures("newer")
class TestImages(test_images.TestImages):
    """Images are looked up, pulled and built there as here."""


@pytest.mark.usefixtures("newer")
class TestRecovery(DockerRuns):
    """What is asked when nobody remembers the first answers."""

    def test_a_run_is_taken_up_again_with_all_its_output(self, data_dir: Path) -> None:
        run = self.order(
            data_dir, "head -c 3000000 /dev/urandom | tee all; touch up; until test -e go; do sleep 0.05; done; exit 7"
        )

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            os.kill(exec_of(data_dir), signal.SIGKILL)
            waiting = asyncio.ensure_future(executor.wait(handle))
            assert [each.state for each in await executor.containers()] == ["running"]
            (run.directory / "output/go").touch()
            end = await waiting
            assert (end.exit_code, end.streams_cut) == (7, ())
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert (run.directory / "logs/stdout.txt").read_bytes() == (run.directory / "output/all").read_bytes()

    def test_a_cancel_of_a_paused_container(self, data_dir: Path, engine: APIClient) -> None:
        run = self.order(data_dir, "trap 'exit 5' TERM; touch up; while :; do sleep 0.05; done")

        async def test(executor: Executor) -> None:
            assert isinstance(executor, DockerExecutor)
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            [own] = await executor.containers()
            engine.pause(own.container_id)
            await executor.cancel(handle, 20.0)
            assert (await executor.wait(handle)).exit_code == 5
            await executor.cleanup(handle)

        self.go(data_dir, test)


def test_an_engine_that_is_too_old_is_refused_in_words(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = VersionedEngine(tmp_path, newest="1.40", oldest="1.12")
    monkeypatch.setenv("DOCKER_HOST", older.url)

    async def test() -> None:
        executor = DockerExecutor(data_dir)
        health = await executor.check()
        assert (health.available, health.reason) == (
            False, f"the container engine at {older.path} speaks API 1.40, and 1.41 is needed: Docker 20.10 or newer",
        )  # fmt: skip
        await executor.close()

    asyncio.run(test())
    older.close()


class TestProxy:
    """What plays the newer engine does so."""

    @pytest.mark.parametrize(
        ("version", "words"),
        [
            ("1.41", "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"),
            ("1.53", "client version 1.53 is too new. Maximum supported API version is 1.52"),
        ],
    )  # fmt: skip
    def test_a_version_that_is_not_spoken_is_refused(
        self, tmp_path: Path, engine: APIClient, version: str, words: str
    ) -> None:
        proxy = VersionedEngine(tmp_path)
        assert ask(proxy.path, f"/v{version}/info") == (400, {"message": words})
        assert ask(SOCKET, f"/v{engine.api_version}/info")[0] == 200
        proxy.close()

    @pytest.mark.usefixtures("engine")
    def test_it_says_which_versions_it_speaks(self, tmp_path: Path) -> None:
        proxy = VersionedEngine(tmp_path)
        _, said = ask(proxy.path, "/version")
        [own] = [part["Details"] for part in said["Components"] if part["Name"] == "Engine"]
        assert {(each["ApiVersion"], each["MinAPIVersion"]) for each in (said, own)} == {(NEWEST, OLDEST)}
        assert ask_head(proxy.path, "/_ping")["Api-Version"] == NEWEST
        proxy.close()

    def test_an_image_is_told_of_as_each_version_does(self, tmp_path: Path, image_id: str) -> None:
        proxy = VersionedEngine(tmp_path)
        old, new = (ask(proxy.path, f"/v{version}/images/{IMAGE}/json")[1] for version in (OLDEST, NEWEST))
        real = ask(SOCKET, f"/v1.41/images/{IMAGE}/json")[1]
        assert old["Id"] == new["Id"] == real["Id"] == image_id
        assert set(real) - set(old) == {"VirtualSize"}
        assert {"Container", "ContainerConfig", "Parent", "DockerVersion", "Author"} <= set(old) - set(new)
        assert {name: value for name, value in real["Config"].items() if value} == new["Config"]
        proxy.close()

    def test_a_stream_is_carried_byte_for_byte(self, tmp_path: Path, engine: APIClient, image_id: str) -> None:
        proxy = VersionedEngine(tmp_path)
        container = engine.create_container(
            image_id, ["sh", "-c", "head -c 2000000 /dev/urandom; echo end >&2"], network_disabled=True
        )["Id"]
        try:
            engine.start(container)
            engine.wait(container)
            path = f"/containers/{container}/logs?stdout=1&stderr=1"
            kind, through = read(proxy.path, f"/v{NEWEST}{path}")
            plain, direct = read(SOCKET, f"/v1.41{path}")
            assert through == direct
            assert len(through) > 2_000_000
            assert kind == "application/vnd.docker.multiplexed-stream" != plain
        finally:
            engine.remove_container(container)
            proxy.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def ask(socket_path: str, path: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    connection = _Connection(socket_path)
    connection.request("GET", path)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def ask_head(socket_path: str, path: str) -> http.client.HTTPMessage:
    """Return the headers of an answer."""
    connection = _Connection(socket_path)
    connection.request("HEAD", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.headers


def read(socket_path: str, path: str) -> tuple[str | None, bytes]:
    """Return the type and the bytes of an answer."""
    connection = _Connection(socket_path)
    connection.request("GET", path)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.headers["Content-Type"], data
