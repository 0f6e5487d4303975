"""Offering services over the API: what is documented works, secrets stay secret, the rest is refused as documented."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.database import offered_services
from rnd.services.service_secrets import ServiceSecrets
from tests.api.conftest import Peer
from tests.api.live_api import PEER_ID, LiveApi, run_with_api

numbers = itertools.count(1)


def create(peer: Peer, **more: Any) -> dict[str, Any]:
    created: dict[str, Any] = peer.call("service.create", **standalone(**more))
    return created


def standalone(**more: Any) -> dict[str, Any]:
    return {"name": f"service {next(numbers)}", "service_type": "STANDALONE", "executable": "/bin/cat", **more}


def data(*paths: Path | str, **more: Any) -> dict[str, Any]:
    return {"name": f"data {next(numbers)}", "service_type": "DATA", "paths": [str(path) for path in paths], **more}


def check(peer: Peer, method: str, answer: object) -> None:
    """Check an answer against the result schema that `rpc.discover` promises."""
    Draft7Validator(peer.api.server.table.methods[method].result).validate(answer)


# ---------------------------------------------------------------- STANDALONE


def test_a_program_is_offered_with_everything_that_was_said_of_it(peer: Peer) -> None:
    given = standalone(
        description="copies",
        commands=["-u"],
        env={"LANG": "C"},
        working_directory="/tmp",
        limits={"memory_bytes": 1 << 30, "cpus": 0.5},
        timeout_s=5,
        allow_override=False,
        confine="always",
        host_paths=[{"path": "/opt"}, {"path": "/srv", "writable": True}],
        network="none",
        retry_safe=True,
        retry={"attempts": 3, "backoff_s": 0.5},
        access="granted",
        pricing_amount=1.5,
        pricing_type="PER_RUN",
    )
    created = peer.call("service.create", **given)
    check(peer, "service.create", created)
    for field in given.keys() - {"commands", "host_paths"}:
        assert created[field] == given[field], field
    assert created["cmd"] == ["-u"]
    assert created["host_paths"] == [{"path": "/opt", "writable": False}, {"path": "/srv", "writable": True}]
    assert created["status"] == "ACTIVE"
    assert [interface["interface_type"] for interface in created["interfaces"]] == ["STDIN", "STDOUT", "STDERR", "LOGS"]
    assert "warn" not in created
    assert peer.call("service.get", service_id=created["id"]) == created


def test_declared_mounts_come_beside_the_streams(peer: Peer) -> None:
    created = create(peer, interfaces=[{"interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT"}])
    kinds = [(interface["interface_type"], interface["mount_function"]) for interface in created["interfaces"]]
    assert kinds == [("STDIN", None), ("STDOUT", None), ("STDERR", None), ("LOGS", None), ("MOUNT", "INPUT")]


@pytest.mark.parametrize("kind", ["missing", "folder", "plain", "fifo", "dangling"])
def test_an_executable_that_cannot_be_run_is_unavailable(peer: Peer, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    match kind:
        case "folder":
            path.mkdir()
        case "plain":
            path.write_text("#!/bin/sh\n")
        case "fifo":
            os.mkfifo(path, 0o755)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
    error = peer.refusal("service.create", **standalone(executable=str(path)))
    assert (error.code, error.data["error"]) == (1400, "EXECUTOR_UNAVAILABLE")
    assert str(path) in error.message
    assert error.data["hint"]


def test_containers_are_unavailable_with_a_way_to_go(peer: Peer) -> None:
    error = peer.refusal("service.create", name="c", service_type="DOCKER", image="busybox")
    assert (error.code, error.data["error"]) == (1400, "EXECUTOR_UNAVAILABLE")
    assert error.message == "This peer runs no containers"
    assert "STANDALONE" in error.data["hint"]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"executable": "cat"}, "executable"),
        ({"executable": "../bin/cat"}, "executable"),
        ({"executable": "/bin/cat\0"}, "executable"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"cmd": "not a list"}, "cmd"),
        ({"cmd": ["a", 5]}, "cmd[1]"),
        ({"env": {"A=B": "x"}}, "env.A=B"),
        ({"env": {"A": None}}, "env.A"),
        ({"limits": {"memory_bytes": True}}, "limits.memory_bytes"),
        ({"limits": {"cpu": 1}}, "limits.cpu"),
        ({"limits": {"pids": 10**12}}, "limits.pids"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"confine": "sometimes"}, "confine"),
        ({"network": "bridge"}, "network"),
        ({"cmd": None}, "cmd"),
        ({"host_paths": [{"path": "x"}]}, "host_paths[0].path"),
        ({"secrets": {"../x": "y"}}, "secrets.../x"),
        ({"secrets": {"x": None}}, "secrets"),
        ({"retry": {"attempts": 0}}, "retry.attempts"),
        ({"retry_safe": "yes"}, "retry_safe"),
        ({"pricing_amount": -1}, "pricing_amount"),
        ({"paths": ["/tmp"]}, "paths"),
        ({"image": "busybox"}, "image"),
        ({"service_type": "VM"}, "service_type"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_parameters_are_refused_by_name(peer: Peer, changes: dict[str, Any], where: str) -> None:
    error = peer.refusal("service.create", **standalone(**changes))
    assert (error.code, error.data["parameter"]) == (-32602, where)


def test_what_a_type_needs_is_asked_for_by_name(peer: Peer) -> None:
    assert peer.refusal("service.create", name="x", service_type="STANDALONE").data["parameter"] == "executable"
    assert peer.refusal("service.create", name="x", service_type="DATA").data["parameter"] == "paths"


def test_retrying_needs_the_owners_word_that_it_is_safe(peer: Peer) -> None:
    error = peer.refusal("service.create", **standalone(retry={"attempts": 2}))
    assert (error.code, error.data["problems"][0]["check"]) == (1100, "retry_safe")


def test_a_name_is_offered_once(peer: Peer) -> None:
    created = create(peer)
    error = peer.refusal("service.create", **standalone(name=created["name"]))
    assert (error.code, error.data["error"]) == (1200, "CONFLICT")


@pytest.mark.parametrize(
    ("interfaces", "message"),
    [
        ([{"interface_type": "PIPE"}], "Invalid interface type: PIPE"),
        ([{"interface_type": "MOUNT", "path": "/a", "mount_function": "X"}], "Invalid mount function: X"),
    ],
)
def test_wrong_interfaces_are_refused_in_the_documents_words(
    peer: Peer, interfaces: list[dict[str, str]], message: str
) -> None:
    error = peer.refusal("service.create", **standalone(interfaces=interfaces))
    assert (error.code, error.data["problems"][0]["message"]) == (1100, message)


@pytest.mark.parametrize("path", ["", "relative", "/", "/proc", "/dev/shm", "/a/../b"])
def test_mounts_at_forbidden_places_are_refused(peer: Peer, path: str) -> None:
    mount = {"interface_type": "MOUNT", "path": path, "mount_function": "BOTH"}
    assert peer.refusal("service.create", **standalone(interfaces=[mount])).code == 1100


@pytest.mark.parametrize("name", ["sh", "bash", "env", "python3.11", "mylink"])
def test_an_interpreter_whose_arguments_others_may_choose_gets_a_warning(peer: Peer, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.symlink_to("/bin/sh")
    assert "arguments" in create(peer, executable=str(path), allow_override=True)["warn"]
    assert "warn" not in create(peer, executable=str(path))
    assert "warn" not in create(peer, executable="/bin/cat", allow_override=True)


def test_host_paths_stay_outside_the_data_directory(peer: Peer) -> None:
    for path in (peer.data_dir, peer.data_dir / "rnd.db", peer.data_dir.parent, "/"):
        error = peer.refusal("service.create", **standalone(host_paths=[{"path": str(path)}]))
        assert error.code == 1600, path


# ---------------------------------------------------------------- secrets


def test_secrets_are_write_only(peer: Peer) -> None:
    created = create(peer, secrets={"api-key": "hunter2-hunter2", "other": "x"})
    assert created["secret_names"] == ["api-key", "other"]
    changed = peer.call("service.update", service_id=created["id"], secrets={"other": None, "third": "y"})
    assert changed["secret_names"] == ["api-key", "third"]
    told = json.dumps([created, changed, peer.call("service.get", service_id=created["id"]), peer.call("service.list")])
    assert "hunter2" not in told
    files = [path for path in peer.data_dir.rglob("*") if path.is_file()]
    assert any(path.name == "rnd.db" for path in files)
    assert not any(b"hunter2" in path.read_bytes() for path in files)


def test_the_jobs_secrets_are_what_was_given(peer: Peer) -> None:
    created = create(peer, secrets={"a": "ä\n", "b": ""})

    async def opened() -> dict[str, bytes]:
        api = peer.api
        service = await api.database.read(lambda conn: offered_services.get_service(conn, created["id"]))
        return dict(await ServiceSecrets(api.database, api.vault).of_service(service))

    assert peer.run(opened()) == {"a": "ä\n".encode(), "b": b""}


# ---------------------------------------------------------------- DATA


def test_a_folder_is_offered_as_a_snapshot(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "sub" / "b.txt").write_text("world!")
    created = peer.call("service.create", **data(tmp_path, egress="listed", egress_peers=[PEER_ID]))
    check(peer, "service.create", created)
    assert (created["file_count"], created["size_bytes"], created["encrypted"]) == (2, 11, False)
    assert (created["egress"], created["egress_peers"]) == ("listed", [PEER_ID])
    assert [interface["interface_type"] for interface in created["interfaces"]] == ["STDOUT"]


def test_data_of_the_data_directory_or_of_nowhere_is_refused_all_at_once(peer: Peer, tmp_path: Path) -> None:
    error = peer.refusal("service.create", **data(peer.data_dir, tmp_path / "nowhere", "/dev/null"))
    assert error.code == 1100
    assert len(error.data["problems"]) == 3


def test_data_comes_from_allowed_roots_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "open", tmp_path / "closed"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.txt").write_text("x")
    (inside / "link").symlink_to(outside)

    async def test(api: LiveApi) -> None:
        await api.call("service.create", **data(inside / "a.txt"))
        for path in (outside, outside / "a.txt", inside / "link", inside / ".." / "closed"):
            assert (await api.refusal("service.create", **data(path))).code == 1100, path

    run_with_api(tmp_path / "data", test, allowed_roots=(str(inside),))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"paths": []}, "paths"),
        ({"paths": ["relative"]}, "paths[0]"),
        ({"paths": ["upload:../x"]}, "paths[0]"),
        ({"paths": ["upload:.hidden"]}, "paths[0]"),
        ({"paths": "x"}, "paths"),
        ({"passphrase": ""}, "passphrase"),
        ({"executable": "/bin/cat"}, "executable"),
        ({"egress": "everywhere"}, "egress"),
        ({"egress_peers": ["a/b"]}, "egress_peers[0]"),
    ],
)
def test_wrong_data_parameters_are_refused_by_name(peer: Peer, changes: dict[str, Any], where: str) -> None:
    error = peer.refusal("service.create", **{**data("/etc/hostname"), **changes})
    assert (error.code, error.data["parameter"]) == (-32602, where)


@pytest.mark.parametrize("rules", [{"egress": "listed"}, {"egress_peers": [PEER_ID]}])
def test_a_list_of_peers_and_its_rule_belong_together(peer: Peer, rules: dict[str, Any]) -> None:
    error = peer.refusal("service.create", **data("/etc/hostname", **rules))
    assert (error.code, error.data["problems"][0]["check"]) == (1100, "egress")


def test_data_has_no_other_interface_than_stdout(peer: Peer) -> None:
    error = peer.refusal("service.create", **data("/etc/hostname", interfaces=[{"interface_type": "STDERR"}]))
    messages = [problem["message"] for problem in error.data["problems"]]
    assert error.code == 1100
    assert "DATA service must have STDOUT interface" in messages


def test_encrypted_data_is_opened_by_its_passphrase_alone(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a very plain text")
    created = peer.call("service.create", **data(tmp_path / "a.txt", passphrase="correct horse"))
    assert created["encrypted"] is True
    error = peer.refusal("service.unlock", service_id=created["id"], passphrase="wrong")
    assert (error.code, error.data["error"]) == (1600, "PERMISSION_DENIED")
    unlocked = peer.call("service.unlock", service_id=created["id"], passphrase="correct horse")
    check(peer, "service.unlock", unlocked)
    snapshot = peer.data_dir / "services"
    assert not any(b"very plain" in path.read_bytes() for path in snapshot.rglob("*") if path.is_file())


# ---------------------------------------------------------------- changing and finding


def test_a_change_that_could_alter_a_result_raises_the_revision(peer: Peer) -> None:
    created = create(peer)
    ids = {"service_id": created["id"]}
    renamed = peer.call("service.update", **ids, description="new words")
    check(peer, "service.update", renamed)
    assert (renamed["revision"], renamed["description"]) == (1, "new words")
    changed = peer.call("service.update", **ids, executable="/bin/tac" if os.path.exists("/bin/tac") else "/bin/ls")
    assert changed["revision"] == 2
    assert changed["service_path"] == changed["executable"]
    assert peer.refusal("service.update", **ids, executable="/no/such").code == 1400
    assert peer.refusal("service.update", **ids, egress="any_job").data["parameter"] == "egress"
    assert peer.refusal("service.update", **ids, retry={"attempts": 5}).code == 1100


def test_data_that_is_no_longer_listed_forgets_its_peers(peer: Peer) -> None:
    created = peer.call("service.create", **data("/etc/hostname", egress="listed", egress_peers=[PEER_ID]))
    opened = peer.call("service.update", service_id=created["id"], egress="any_job", downloadable=False)
    assert (opened["egress"], opened["egress_peers"], opened["downloadable"]) == ("any_job", [], False)
    assert opened["revision"] == 1
    error = peer.refusal("service.update", service_id=created["id"], egress="listed")
    assert error.code == 1100


def test_status_is_set_and_lists_are_narrowed_by_it(peer: Peer) -> None:
    created = create(peer)
    stopped = peer.call("service.set_status", service_id=created["id"], status="INACTIVE")
    check(peer, "service.set_status", stopped)
    assert stopped["status"] == "INACTIVE"
    listed = peer.call("service.list", status="INACTIVE", service_type="STANDALONE")
    check(peer, "service.list", listed)
    assert created["id"] in [item["id"] for item in listed["items"]]
    assert peer.refusal("service.set_status", service_id=created["id"], status="GONE").code == -32602


def test_a_deleted_service_is_gone_with_its_snapshot(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    created = peer.call("service.create", **data(tmp_path))
    snapshot = peer.data_dir / "services" / created["service_path"]
    assert snapshot.is_dir()
    assert peer.call("service.delete", service_id=created["id"])["deleted"] is True
    assert not snapshot.exists()
    assert peer.refusal("service.get", service_id=created["id"]).message == f"Service {created['id']} not found"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("service.get", {}),
        ("service.update", {"description": "x"}),
        ("service.delete", {}),
        ("service.set_status", {"status": "ACTIVE"}),
        ("service.unlock", {"passphrase": "x"}),
    ],
)
def test_an_unknown_service_is_not_found(peer: Peer, method: str, params: dict[str, Any]) -> None:
    error = peer.refusal(method, service_id=999_999, **params)
    assert (error.code, error.message) == (1000, "Service 999999 not found")


def test_services_are_found_by_their_words_and_strangers_are_unreachable(peer: Peer) -> None:
    created = create(peer, name="Word Counter", description="counts words")
    found = peer.call("service.search", query="counter")
    check(peer, "service.search", found)
    assert [(item["id"], item["peer_id"]) for item in found["items"]] == [(created["id"], PEER_ID)]
    assert found["unreachable"] == []
    peer.call("service.set_status", service_id=created["id"], status="INACTIVE")
    assert peer.call("service.search", query="counter")["items"] == []
    assert len(peer.call("service.search", query="counter", active_only=False)["items"]) == 1
    elsewhere = peer.call("service.search", peer_ids=["rnsomebody"])
    assert elsewhere == {
        "items": [],
        "unreachable": [{"peer_id": "rnsomebody", "reason": "not connected"}],
        "total": 0,
        "next_offset": None,
    }


def test_interfaces_are_suggested_by_type(peer: Peer) -> None:
    suggested = peer.call("service.suggest_interfaces", service_type="DOCKER")
    check(peer, "service.suggest_interfaces", suggested)
    assert [item["interface_type"] for item in suggested] == ["STDIN", "STDOUT", "STDERR", "LOGS"]
    assert peer.refusal("service.suggest_interfaces", service_type="DOCKER", image="x").code == 1400


def test_the_document_discovers_itself(peer: Peer) -> None:
    document = peer.call("rpc.discover")
    check(peer, "rpc.discover", document)
    assert {method["name"] for method in document["methods"]} == set(peer.api.server.table.methods)


def test_the_node_tells_its_state_and_what_it_can_do(peer: Peer) -> None:
    status = peer.call("node.status")
    check(peer, "node.status", status)
    assert status["peer_id"] == PEER_ID
    capabilities = peer.call("node.capabilities")
    check(peer, "node.capabilities", capabilities)
    assert capabilities["cpu_cores"] >= 1
    assert capabilities["executors"]["docker"]["available"] is False


def test_an_update_says_what_a_service_of_that_type_takes(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    data = peer.call("service.create", name="fixed", service_type="DATA", paths=[str(tmp_path / "a.txt")])["id"]
    error = peer.refusal("service.update", service_id=data, paths=[str(tmp_path)])
    assert (error.code, error.data["parameter"]) == (-32602, "paths")
    assert "egress" in error.message
    assert "executable" not in error.message
    assert "new service" in error.data["hint"]
    program = peer.call("service.create", name="runs", service_type="STANDALONE", executable="/bin/cat")["id"]
    for unknown in ("paths", "egress", "colour"):
        error = peer.refusal("service.update", service_id=program, **{unknown: "any_job"})
        assert "is not a parameter of a STANDALONE service (known: access, allow_override" in error.message
        assert "egress_peers" not in error.message
