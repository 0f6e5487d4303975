"""Images: looked up, pulled from a registry with a password, pinned by digest, built from a folder."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from docker import APIClient

from rnd.services.docker_service import DockerExecutor
from rnd.services.exec_server import OWN_LABELS
from rnd.services.images import ImageFacts, PullProgress, RegistryAuth
from rnd.types.errors import ExecutorUnavailable
from tests.docker.engine import IMAGE, import_image
from tests.docker.engine_proxy import EngineProxy
from tests.docker.registry import PASSWORD, USER
from tests.docker.test_docker_service import DockerRuns
from tests.services.native_processes import processes_of

AUTH = RegistryAuth(username=USER, password=PASSWORD)


class TestImages(DockerRuns):
    """Against a real engine and a real registry."""

    def ask(self, data_dir: Path, question: object) -> ImageFacts | None:
        """Ask an executor one thing and return its answer."""

        async def whole() -> ImageFacts | None:
            async with self.open_executor(data_dir) as executor:
                return await question(executor)  # type: ignore[operator, no-any-return]  # a lambda

        return asyncio.run(whole())

    def test_an_image_is_found_by_name_and_by_id(self, data_dir: Path) -> None:
        by_name = self.ask(data_dir, lambda executor: executor.look_up(IMAGE))
        assert by_name is not None
        assert (by_name.image_id, by_name.digest, by_name.working_directory) == (self.image_id, "", "/output")
        assert by_name.size_bytes > 100_000
        assert by_name.architecture
        assert self.ask(data_dir, lambda executor: executor.look_up(self.image_id)) == by_name

    @pytest.mark.parametrize("name", ["nobody/knows:this", "sha256:" + "0" * 64, "x@sha256:" + "0" * 64])
    def test_an_image_that_is_not_there_is_none(self, data_dir: Path, name: str) -> None:
        assert self.ask(data_dir, lambda executor: executor.look_up(name)) is None

    def test_the_labels_of_an_image_are_not_handed_on(self, data_dir: Path, engine: APIClient) -> None:
        """They are its containers' too, megabytes of them if its maker likes, and one answer of rnd-exec holds a few."""
        name = "rnd-test-labels:latest"
        self.image_id = import_image(engine, name, "LABEL chatter=xyz")

        async def look(executor: DockerExecutor) -> None:
            handle = await executor.submit(self.order(data_dir, "exit 0"))
            [own] = await executor.containers()
            labels = set(own.labels)
            await executor.wait(handle)
            await executor.cleanup(handle)
            assert labels == set(OWN_LABELS)
            reader, writer = await asyncio.open_unix_connection(data_dir / "run/exec.sock")
            writer.write(json.dumps({"id": 1, "op": "image", "image": name}).encode() + b"\n")
            answer = await reader.readline()
            assert json.loads(answer)["image"]["Id"] == self.image_id
            assert b"chatter" not in answer
            writer.close()
            await writer.wait_closed()

        try:
            self.ask(data_dir, look)
        finally:
            engine.remove_image(name, force=True)

    def test_a_pull_brings_the_image_with_its_digest_and_what_it_says_of_itself(
        self, data_dir: Path, pushed: tuple[str, str]
    ) -> None:
        name, image_id = pushed
        told: list[PullProgress] = []
        facts = self.ask(data_dir, lambda executor: executor.pull(name, AUTH, told.append))
        assert facts is not None
        assert facts.image_id == image_id
        assert facts.digest.startswith(name.rpartition(":")[0] + "@sha256:")
        assert (facts.entrypoint, facts.cmd, facts.volumes) == (("/bin/echo",), ("hello",), ("/data",))
        assert (facts.user, facts.working_directory) == ("5", "/work")
        assert {each.image for each in told} == {name}
        assert told[-1].bytes_done == told[-1].bytes_total

    def test_a_digest_brings_the_very_same_image_whatever_its_name_means_now(
        self, data_dir: Path, engine: APIClient, pushed: tuple[str, str]
    ) -> None:
        name, image_id = pushed
        first = self.ask(data_dir, lambda executor: executor.pull(name, AUTH, lambda _: None))
        assert first is not None
        engine.remove_image(image_id, force=True)
        other = import_image(engine, name, "LABEL a=c")
        engine.push(name, auth_config={"username": USER, "password": PASSWORD})
        engine.remove_image(name)
        assert other != image_id
        again = self.ask(data_dir, lambda executor: executor.pull(first.digest, AUTH, lambda _: None))
        assert again is not None
        assert (again.image_id, again.digest) == (image_id, first.digest)
        found = self.ask(data_dir, lambda executor: executor.look_up(first.digest))
        assert found == again

    def test_many_who_want_an_image_wait_for_one_pull(
        self, data_dir: Path, tmp_path: Path, pushed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = EngineProxy(tmp_path, engine=os.environ["DOCKER_HOST"].removeprefix("unix://"))
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        heard: list[list[PullProgress]] = [[] for _ in range(5)]

        async def five(executor: DockerExecutor) -> ImageFacts:
            pulls = [asyncio.ensure_future(executor.pull(pushed[0], AUTH, each.append)) for each in heard]
            await asyncio.sleep(0)
            pulls[0].cancel()  # whoever came first and goes does not take the others along
            facts = await asyncio.gather(*pulls[1:])
            assert len(set(facts)) == 1
            return facts[0]

        facts = self.ask(data_dir, five)
        proxy.close()
        assert facts is not None
        assert facts.image_id == pushed[1]
        assert proxy.questions.count("POST /images/create") == 1
        assert all(heard[1:])

    @pytest.mark.parametrize(
        ("name", "auth", "words"),
        [
            ("{registry}/team/tool:1.2", RegistryAuth(username=USER, password="wrong"), "auth"),
            ("{registry}/team/tool:1.2", None, "auth"),
            ("{registry}/team/none:1", AUTH, "not found"),
            ("127.0.0.1:1/team/tool:1", AUTH, "refused"),
        ],
        ids=["wrong password", "no password", "no such image", "no registry"],
    )
    def test_what_cannot_be_pulled_has_a_reason(
        self, data_dir: Path, registry: str, name: str, auth: RegistryAuth | None, words: str
    ) -> None:
        with pytest.raises(ExecutorUnavailable, match=words) as refused:
            self.ask(data_dir, lambda executor: executor.pull(name.replace("{registry}", registry), auth, print))
        assert PASSWORD not in str(refused.value)

    def test_the_password_shows_nowhere(
        self, data_dir: Path, engine: APIClient, pushed: tuple[str, str], capfd: pytest.CaptureFixture[str]
    ) -> None:
        seen: list[str] = []

        def look(_: PullProgress) -> None:
            for pid in processes_of(data_dir):
                for what in ("cmdline", "environ"):
                    seen.append((Path("/proc") / str(pid) / what).read_bytes().decode(errors="replace"))

        facts = self.ask(data_dir, lambda executor: executor.pull(pushed[0], AUTH, look))
        assert facts is not None
        assert seen
        files = [path.read_bytes().decode(errors="replace") for path in data_dir.rglob("*") if path.is_file()]
        everything = [*seen, *files, str(engine.inspect_image(pushed[1])), repr(facts), repr(AUTH), *capfd.readouterr()]
        assert not [text for text in everything if PASSWORD in text]

    def test_a_folder_is_built_without_network(self, data_dir: Path, tmp_path: Path, engine: APIClient) -> None:
        context = tmp_path / "context"
        context.mkdir()
        (context / "word").write_text("built\n")
        (context / "link").symlink_to("word")
        (context / "Dockerfile").write_text(
            f"FROM {IMAGE}\nCOPY word /word\nRUN cat /word; ls /sys/class/net | grep -v -e tunl -e sit -e gre -e ip6 >/net\n"
            'ENTRYPOINT ["/bin/cat", "/word", "/net"]\n'
        )
        told: list[PullProgress] = []
        tag = f"rnd/built-{os.getpid()}:latest"
        facts = self.ask(data_dir, lambda executor: executor.build(context, tag, told.append))
        assert facts is not None
        try:
            assert facts.entrypoint == ("/bin/cat", "/word", "/net")
            assert any("built" in each.status for each in told)
            terms = {"image_id": facts.image_id, "entrypoint": None, "cmd": None}
            _, directory = self.end_of(data_dir, "", container=terms)
            assert (directory / "logs/stdout.txt").read_text() == "built\nlo\n"
            assert list((data_dir / "run").glob("build-*")) == []
        finally:
            engine.remove_image(tag, force=True)

    @pytest.mark.parametrize(
        ("dockerfile", "words"),
        [("FROM {image}\nRUN echo last words; exit 3\n", "last words"), ("FRO x\n", "FRO"), (None, "no Dockerfile")],
    )
    def test_what_cannot_be_built_has_a_reason(
        self, data_dir: Path, tmp_path: Path, engine: APIClient, dockerfile: str | None, words: str
    ) -> None:
        context = tmp_path / "context"
        context.mkdir()
        if dockerfile is not None:
            (context / "Dockerfile").write_text(dockerfile.replace("{image}", IMAGE))
        with pytest.raises(ExecutorUnavailable, match=words):
            self.ask(data_dir, lambda executor: executor.build(context, "rnd/none:latest", lambda _: None))
        assert engine.images(name="rnd/none") == []
