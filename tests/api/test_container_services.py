"""Offering containers over the API: images are pinned, credentials stay hidden, and what is not safe or not there is refused."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.api.rendering import render
from rnd.database import offered_services
from rnd.p2p.questions import offer_of
from rnd.services.executor import Health
from rnd.services.images import RegistryAuth
from rnd.types.config import Deadlines
from rnd.types.ids import ServiceId
from tests.api.conftest import Peer
from tests.core.core_peer import ScriptedContainers
from tests.scripted_images import ScriptedImages, image_facts

numbers = itertools.count(1)
AUTH = RegistryAuth(username="robot", password="hush hush")
LOOSE = {
    "network": "bridge",
    "user": "1000:1000",
    "read_only_root": False,
    "tmpfs_bytes": 0,
    "cap_add": ["CHOWN", "SETUID"],
}


@dataclass(frozen=True, slots=True)
class Site:
    """A peer with a scripted engine."""

    peer: Peer
    images: ScriptedImages
    containers: ScriptedContainers

    def call(self, method: str, /, **params: Any) -> Any:
        answer = self.peer.call(method, **params)
        Draft7Validator(self.peer.api.server.table.methods[method].result).validate(answer)
        return answer

    def create(self, **more: Any) -> Any:
        return self.call("service.create", **docker(**more))

    def refusal(self, **more: Any) -> Any:
        return self.peer.refusal("service.create", **docker(**more))


def docker(**more: Any) -> dict[str, Any]:
    known = {"name": f"container {next(numbers)}", "service_type": "DOCKER", "image": "busybox"}
    return {name: value for name, value in {**known, **more}.items() if value is not ...}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    images, containers = ScriptedImages(), ScriptedContainers()
    images.put("busybox", facts=image_facts(1, "docker.io/library/busybox"))
    peer = Peer(
        tmp_path / "peer",
        images=images,
        executors={"docker": containers},
        deadlines=Deadlines(image_pull_s=0.3),
    )
    yield Site(peer, images, containers)
    peer.close()


# ---------------------------------------------------------------- images


def test_an_image_that_is_here_is_pinned_as_it_is(site: Site) -> None:
    created = site.create()
    facts = site.images.here["busybox"]
    assert (created["image"], created["image_id"], created["digest"]) == ("busybox", facts.image_id, facts.digest)
    assert created["service_path"] == "busybox"
    assert [interface["interface_type"] for interface in created["interfaces"]] == ["STDIN", "STDOUT", "STDERR", "LOGS"]
    assert site.images.pulled == []
    assert "warn" not in created
    assert site.call("service.get", service_id=created["id"]) == created


def test_without_a_word_a_container_gets_the_safe_defaults_and_with_one_what_was_said(site: Site) -> None:
    created = site.create()
    safe = {name: created[name] for name in LOOSE}
    assert safe == {"network": "none", "user": "", "read_only_root": True, "tmpfs_bytes": 64 << 20, "cap_add": []}
    assert (created["entrypoint"], created["cmd"], created["allow_override"]) == (None, None, False)
    given = docker(
        **LOOSE,
        entrypoint=["sh", "-c"],
        cmd=["true"],
        env={"LANG": "C"},
        limits={"memory_bytes": 1 << 30, "gpus": 1},
        timeout_s=5,
    )
    loose = site.call("service.create", **given)
    assert {name: loose[name] for name in given} == given
    named = site.create(cap_add=["CAP_CHOWN", "setuid", "CHOWN"])
    assert named["cap_add"] == ["CHOWN", "SETUID"]


def test_an_image_that_is_not_here_is_pulled_and_everybody_can_see_it(site: Site) -> None:
    facts = image_facts(2)
    site.images.offer("registry.example:5000/team/tool:1", facts=facts)
    created = site.create(image="registry.example:5000/team/tool:1")
    assert created["image_id"] == facts.image_id
    assert site.images.pulled == [("registry.example:5000/team/tool:1", None)]
    events = site.peer.call("events.poll", after_seq=0, types=["image.progress"])["items"]
    assert events[-1]["data"] == {
        "service_name": created["name"],
        "image": "registry.example:5000/team/tool:1",
        "status": "Extracting",
        "bytes_done": 1000,
        "bytes_total": 1000,
    }


def test_an_image_is_built_from_a_folder_of_this_host(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    assert "no Dockerfile" in site.refusal(image=..., build_context=str(folder)).message
    (folder / "Dockerfile").write_text("FROM scratch\n")
    created = site.create(name="Train Model", image=..., build_context=str(folder))
    assert (created["image"], created["digest"]) == ("rnd/train-model", "")
    assert site.create(image="own/tool:2", build_context=str(folder))["image"] == "own/tool:2"
    assert site.images.built[1:] == [(folder, "rnd/train-model"), (folder, "own/tool:2")]


def test_a_build_sees_no_folder_that_is_closed_to_services(site: Site, tmp_path: Path) -> None:
    for folder, code in ((tmp_path, 1600), (tmp_path / "peer", 1600), (tmp_path / "nowhere", 1000)):
        assert site.refusal(image=..., build_context=str(folder)).code == code
    (tmp_path / "file").write_text("")
    assert site.refusal(image=..., build_context=str(tmp_path / "file")).data["parameter"] == "build_context"
    digest = "a@sha256:" + "0" * 64
    assert site.refusal(image=digest, build_context="/opt").data["parameter"] == "image"
    assert site.images.built == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"image": ...}, "image"),
        ({"image": "Not An Image"}, "image"),
        ({"image": "--privileged"}, "image"),
        ({"network": "host"}, "network"),
        ({"user": "root"}, "user"),
        ({"user": "0:0:0"}, "user"),
        ({"cap_add": ["CHOWN", "SYS_ADMIN"]}, "cap_add[1]"),
        ({"cap_add": ["ALL"]}, "cap_add[0]"),
        ({"tmpfs_bytes": 1 << 40}, "tmpfs_bytes"),
        ({"registry_auth": {"username": "x"}}, "registry_auth.password"),
        ({"registry_auth": {"username": "x", "password": "y", "email": "z"}}, "registry_auth.email"),
        ({"secrets": {"x" * 101: "y"}}, "secrets"),
        ({"secrets": {"x": None}}, "secrets"),
        ({"executable": "/bin/sh"}, "executable"),
        ({"confine": "never"}, "confine"),
        ({"host_paths": [{"path": "/etc"}]}, "host_paths"),
        ({"working_directory": "/"}, "working_directory"),
        ({"paths": ["/tmp"]}, "paths"),
    ],
)
def test_what_no_container_may_have_is_refused_by_name(site: Site, changes: dict[str, Any], where: str) -> None:
    error = site.refusal(**changes)
    assert (error.code, error.data["parameter"]) == (-32602, where)


def test_a_mount_over_what_a_container_has_of_its_own_is_refused(site: Site) -> None:
    error = site.refusal(interfaces=[{"interface_type": "MOUNT", "path": "/proc/x", "mount_function": "INPUT"}])
    assert (error.code, error.data["problems"][0]["check"]) == (1100, "mount_target")


def test_what_a_registry_and_an_engine_say_reaches_the_owner(site: Site) -> None:
    error = site.refusal(image="nobody/nothing")
    assert (error.code, error.data["error"]) == (1400, "EXECUTOR_UNAVAILABLE")
    assert error.message.startswith("The image nobody/nothing is not on this machine and cannot be pulled: ")
    assert "pull access denied for nobody/nothing" in error.message
    assert "docker load" in error.data["hint"]
    site.images.trouble = "no engine answers at /var/run/docker.sock"
    assert site.refusal().message == "no engine answers at /var/run/docker.sock"
    site.images.broken = True
    error = site.refusal()
    assert (error.code, error.message) == (1400, "the container engine cannot be asked: [Errno 32] Broken pipe")


def test_no_registry_is_asked_for_an_id(site: Site) -> None:
    error = site.refusal(image="sha256:" + "5" * 64)
    assert error.message == f"The image sha256:{'5' * 64} is not on this machine"
    assert site.images.pulled == []


def test_a_pull_that_takes_too_long_is_given_up(site: Site) -> None:
    site.images.holds = True
    error = site.refusal(image="slow/slow")
    assert (error.code, error.message) == (1800, "slow/slow was not here within 0.3 s")
    assert site.images.cancelled == 1


def test_no_image_is_pulled_for_a_name_that_is_taken(site: Site) -> None:
    taken = site.create()["name"]
    assert site.refusal(name=taken, image="nobody/nothing").code == 1200
    assert site.images.pulled == []


def test_an_image_for_another_machine_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("rnd.api.container_services.emulates", lambda: False)
    site.images.put("far", facts=replace(image_facts(3), architecture="s390x"))
    error = site.refusal(image="far")
    assert error.message == "The image far cannot be used: it is built for s390x, and this machine is x86_64"
    monkeypatch.setattr("rnd.api.container_services.emulates", lambda: True)
    assert site.create(image="far")["image"] == "far"


def test_an_image_that_runs_nothing_needs_words(site: Site) -> None:
    site.images.put("empty", facts=replace(image_facts(4), cmd=()))
    assert site.refusal(image="empty").data["problems"][0]["check"] == "command"
    created = site.create(image="empty", cmd=["/tool"])
    error = site.peer.refusal("service.update", service_id=created["id"], cmd=None)
    assert error.data["problems"][0]["check"] == "command"


def test_letting_others_choose_what_runs_gets_a_warning(site: Site) -> None:
    assert "any program of its image" in site.create(allow_override=True)["warn"]
    assert "reaches the network" in site.create(allow_override=True, network="bridge")["warn"]


# ---------------------------------------------------------------- credentials


def _stored(site: Site) -> list[bytes]:
    async def read() -> list[bytes]:
        def work(conn: sqlite3.Connection) -> list[bytes]:
            return [bytes(row[0]) for row in conn.execute("SELECT sealed FROM sealed_secrets")]

        return await site.peer.api.database.read(work)

    return site.peer.run(read())


def test_credentials_reach_the_registry_and_nothing_else(site: Site, tmp_path: Path) -> None:
    facts = image_facts(5, "registry.example/team/tool")
    site.images.offer("registry.example/team/tool", facts=facts)
    given = {"username": AUTH.username, "password": AUTH.password}
    created = site.create(image="registry.example/team/tool", registry_auth=given)
    assert site.images.pulled == [("registry.example/team/tool", AUTH)]
    listed = site.call("service.list")
    found = site.peer.call("service.search", query="container")
    events = site.peer.call("events.poll", after_seq=0)
    for told in (created, listed, found, events):
        assert "hush" not in json.dumps(told)
        assert "registry_auth" not in json.dumps(told)
    assert len(_stored(site)) == 1
    for file in (tmp_path / "peer").glob("rnd.db*"):
        assert b"hush hush" not in file.read_bytes()
    secrets = site.peer.api.context.secrets
    assert site.peer.run(secrets.registry_auth(ServiceId(created["id"]), "registry.example")) == AUTH
    site.peer.call("service.delete", service_id=created["id"])
    assert _stored(site) == []


def test_kept_credentials_follow_the_image_within_their_registry_only(site: Site) -> None:
    for name in ("registry.example/a", "registry.example/b", "elsewhere.example/a"):
        site.images.offer(name, facts=image_facts(next(numbers), name))
    given = {"username": AUTH.username, "password": AUTH.password}
    service_id = site.create(image="registry.example/a", registry_auth=given)["id"]
    site.call("service.update", service_id=service_id, image="registry.example/b")
    site.call("service.update", service_id=service_id, image="elsewhere.example/a")
    assert site.images.pulled == [
        ("registry.example/a", AUTH),
        ("registry.example/b", AUTH),
        ("elsewhere.example/a", None),
    ]
    assert _stored(site) == []


def test_credentials_are_changed_and_forgotten(site: Site) -> None:
    given = {"username": AUTH.username, "password": AUTH.password}
    service_id = site.create(registry_auth=given)["id"]
    before = _stored(site)
    site.call("service.update", service_id=service_id, registry_auth={**given, "password": "new"})
    assert len(_stored(site)) == 1
    assert _stored(site) != before
    site.call("service.update", service_id=service_id, registry_auth=None)
    assert _stored(site) == []


# ---------------------------------------------------------------- changes


def test_a_changed_image_is_pinned_anew_and_is_another_revision(site: Site) -> None:
    created = site.create(cmd=["a"])
    other = image_facts(6)
    site.images.put("other:2", facts=other)
    changed = site.call("service.update", service_id=created["id"], image="other:2")
    assert (changed["image"], changed["image_id"], changed["revision"]) == ("other:2", other.image_id, 2)
    assert changed["cmd"] == ["a"]
    site.images.put("other:2", facts=image_facts(7))
    same = site.call("service.update", service_id=created["id"], description="words")
    assert (same["image_id"], same["revision"]) == (other.image_id, 2)
    again = site.call("service.update", service_id=created["id"], image="other:2")
    assert (again["image_id"], again["revision"]) == (image_facts(7).image_id, 3)


def test_terms_change_without_the_image_and_without_an_engine(site: Site) -> None:
    service_id = site.create(secrets={"a": "1", "b": "2"})["id"]
    site.images.trouble = "no engine"
    changed = site.call("service.update", service_id=service_id, **LOOSE, secrets={"a": None, "c": "3"})
    assert {name: changed[name] for name in LOOSE} == LOOSE
    assert (changed["secret_names"], changed["revision"]) == (["b", "c"], 2)
    error = site.peer.refusal("service.update", service_id=service_id, executable="/bin/sh")
    assert error.data["parameter"] == "executable"


def test_entrypoint_and_cmd_go_back_to_the_images_own(site: Site) -> None:
    service_id = site.create(entrypoint=["sh"], cmd=["x"])["id"]
    changed = site.call("service.update", service_id=service_id, entrypoint=None, cmd=None)
    assert (changed["entrypoint"], changed["cmd"]) == (None, None)


# ---------------------------------------------------------------- what is told


def test_interfaces_are_suggested_from_the_image(site: Site) -> None:
    facts = replace(image_facts(8), volumes=("/data", "/output"), working_directory="/app")
    site.images.put("tool", facts=facts)
    suggested = site.call("service.suggest_interfaces", service_type="DOCKER", image="tool")
    mounts = [(item["path"], item["mount_function"]) for item in suggested if item["interface_type"] == "MOUNT"]
    assert mounts == [("/app", "BOTH"), ("/data", "BOTH"), ("/output", "OUTPUT")]
    created = site.create(image="tool", interfaces=suggested)
    assert [item["path"] for item in created["interfaces"] if item["path"]] == ["/app", "/data", "/output"]
    error = site.peer.refusal("service.suggest_interfaces", service_type="DOCKER", image="not/here")
    assert (error.code, "not on this machine" in error.message) == (1400, True)
    assert site.images.pulled == []
    error = site.peer.refusal("service.suggest_interfaces", service_type="STANDALONE", image="tool")
    assert error.data["parameter"] == "image"


def test_the_node_says_whether_it_runs_containers(site: Site) -> None:
    site.containers.health = Health(available=True, version="20.10.24")
    assert site.call("node.status")["executors"]["docker"] == {"available": True, "version": "20.10.24"}
    assert site.call("node.capabilities")["docker"] == "20.10.24"
    site.containers.health = Health(available=False, reason="no engine answers")
    status = site.call("node.status")["executors"]["docker"]
    assert (status["available"], status["reason"]) == (False, "no engine answers")
    assert site.call("node.capabilities")["docker"] is None


def test_other_peers_learn_nothing_of_how_a_container_is_run(site: Site) -> None:
    created = site.create(
        env={"KEY": "private-value"}, registry_auth={"username": "u-private", "password": "p-private"}
    )
    database = site.peer.api.database
    service = site.peer.run(database.read(lambda conn: offered_services.get_service(conn, ServiceId(created["id"]))))
    offer = render(offer_of(service))
    assert not {"env", "image", "image_id", "digest", "user", "registry_auth", "secret_names"} & offer.keys()
    assert "private" not in json.dumps(offer)


def test_a_workflow_with_a_container_is_exported_and_imported_by_the_services_name(site: Site) -> None:
    created = site.create(
        name="train", interfaces=[{"interface_type": "MOUNT", "path": "/model", "mount_function": "OUTPUT"}]
    )
    workflow_id = site.call("workflow.create", name="drawn")["id"]
    node = site.call("workflow.add_node", workflow_id=workflow_id, service_id=created["id"], cmd=["true"])
    assert (node["service_type"], node["cmd"], node["entrypoint"]) == ("DOCKER", ["true"], None)
    site.call(
        "workflow.add_connection",
        workflow_id=workflow_id,
        from_node_id=node["node_id"],
        from_interface_type="MOUNT",
        to_node_id=None,
        to_interface_type="MOUNT",
    )
    document = site.call("workflow.export", workflow_id=workflow_id)
    assert "busybox" not in json.dumps(document)
    imported = site.call("workflow.import", document=document, name="again")
    (copied,) = site.call("workflow.list_nodes", workflow_id=imported["id"])["items"]
    assert (copied["service_id"], copied["service_type"], copied["cmd"]) == (created["id"], "DOCKER", ["true"])
    assert site.call("workflow.validate", workflow_id=imported["id"])["valid"]


def test_who_only_operates_chooses_what_a_container_runs_where_the_owner_allows_it(site: Site) -> None:
    async def refused(service_id: int) -> int:
        api = site.peer.api
        token = (await api.call("token.create", name=f"operator {service_id}", scope="operate"))["token"]
        workflow_id = (await api.call("workflow.create", name=f"w {service_id}"))["id"]
        params = {"workflow_id": workflow_id, "service_id": service_id, "entrypoint": ["sh"]}
        request = {"jsonrpc": "2.0", "id": 1, "method": "workflow.add_node", "params": params}
        async with api.tcp("POST", "/rpc", token=token, json=request) as response:
            answer = await response.json()
        return int(answer.get("error", {}).get("code", 0))

    assert site.peer.run(refused(site.create()["id"])) == 1600
    assert site.peer.run(refused(site.create(allow_override=True)["id"])) == 0
