"""A token of scope `operate` runs services as their owner offers them, and reaches no file that it has not sent."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Peer
from tests.api.live_api import RpcError
from tests.running_peer import RunningPeer, running_peer

numbers = itertools.count(1)


class Operator:
    """A client over TCP that holds a token of scope `operate`."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._token = peer.call("token.create", name=f"operator {next(numbers)}", scope="operate")["token"]

    def call(self, method: str, /, **params: Any) -> Any:
        return self._peer.run(self._call(method, params))

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json"}
        async with self._peer.api.tcp("POST", "/rpc", token=self._token, data=body, headers=headers) as response:
            answer = await response.json()
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def denied(self, method: str, /, **params: Any) -> RpcError:
        with pytest.raises(RpcError) as refused:
            self.call(method, **params)
        assert (refused.value.code, refused.value.data["error"]) == (1600, "PERMISSION_DENIED"), refused.value
        assert refused.value.data["hint"]
        return refused.value


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Path]]:
    """A peer whose operators may name what lies below one folder."""
    folder = tmp_path_factory.mktemp("rooted")
    (folder / "open").mkdir()
    (folder / "open" / "fine.csv").write_text("fine")
    (folder / "secret.csv").write_text("secret")
    (folder / "open" / "way-out").symlink_to(folder / "secret.csv")
    peer = Peer(folder / "data", operate_roots=(str(folder / "open"),))
    yield peer, folder
    peer.close()


@pytest.fixture(scope="module")
def operator(peer: Peer) -> Operator:
    return Operator(peer)


@pytest.fixture(scope="module")
def cat(peer: Peer) -> int:
    return int(peer.call("service.create", name="cat", service_type="STANDALONE", executable="/bin/cat")["id"])


@pytest.fixture(scope="module")
def grep(peer: Peer) -> int:
    """A service whose owner lets others choose the arguments."""
    created = peer.call(
        "service.create", name="grep", service_type="STANDALONE", executable="/bin/grep", cmd=["a"], allow_override=True
    )
    return int(created["id"])


def test_an_operator_never_chooses_the_program(operator: Operator, cat: int, grep: int) -> None:
    workflow_id = operator.call("workflow.create", name="w")["id"]
    for service_id in (cat, grep):
        error = operator.denied(
            "workflow.add_node", workflow_id=workflow_id, service_id=service_id, entrypoint=["/bin/sh", "-c"]
        )
        assert "entrypoint" in error.message
    node_id = operator.call("workflow.add_node", workflow_id=workflow_id, service_id=cat)["id"]
    operator.denied("workflow.update_node", workflow_id=workflow_id, node_id=node_id, entrypoint=["/bin/sh"])
    assert operator.call("workflow.list_nodes", workflow_id=workflow_id)["items"][0]["entrypoint"] is None


def test_an_operator_chooses_arguments_where_the_owner_allows_it(operator: Operator, cat: int, grep: int) -> None:
    workflow_id = operator.call("workflow.create", name="w")["id"]
    operator.denied("workflow.add_node", workflow_id=workflow_id, service_id=cat, cmd=["/etc/shadow"])
    added = operator.call("workflow.add_node", workflow_id=workflow_id, service_id=grep, cmd=["b"])
    assert added["cmd"] == ["b"]
    # Its arguments do not come along to a service whose owner allows none.
    operator.denied("workflow.update_node", workflow_id=workflow_id, node_id=added["id"], service_id=cat)
    operator.call("workflow.update_node", workflow_id=workflow_id, node_id=added["id"], service_id=cat, cmd=None)


def test_what_says_the_same_as_the_service_is_no_override(operator: Operator, grep: int) -> None:
    workflow_id = operator.call("workflow.create", name="w")["id"]
    operator.call("workflow.add_node", workflow_id=workflow_id, service_id=grep, entrypoint=["/bin/grep"], cmd=["a"])


def test_an_import_brings_nothing_in_that_drawing_would_not(operator: Operator, cat: int, peer: Peer) -> None:
    node = {"name": "n", "service_name": "cat"}
    source = {"to": "n", "to_interface_type": "STDIN", "source_path": "/etc/hostname"}
    document = {"format": "rnd.workflow/1", "name": "smuggled", "nodes": [node], "connections": []}
    before = peer.call("workflow.list")["total"]
    for changed in (
        {**document, "nodes": [{**node, "entrypoint": ["/bin/sh", "-c"], "cmd": ["cat /etc/shadow"]}]},
        {**document, "nodes": [{**node, "cmd": ["/etc/shadow"]}]},
        {**document, "connections": [source]},
    ):
        operator.denied("workflow.import", document=changed)
    assert peer.call("workflow.list")["total"] == before
    sent = {**source, "source_path": "upload:a.csv"}
    assert operator.call("workflow.import", document={**document, "connections": [sent]})["id"]


def test_an_operator_names_no_file_of_the_host(operator: Operator, cat: int) -> None:
    workflow_id = operator.call("workflow.create", name="w")["id"]
    node_id = operator.call("workflow.add_node", workflow_id=workflow_id, service_id=cat)["id"]
    ends = {"from_node_id": None, "from_interface_type": "STDOUT", "to_node_id": node_id, "to_interface_type": "STDIN"}
    operator.denied("workflow.add_connection", workflow_id=workflow_id, source_path="/etc/hostname", **ends)
    added = operator.call("workflow.add_connection", workflow_id=workflow_id, source_path="upload:x", **ends)
    operator.denied(
        "workflow.update_connection", workflow_id=workflow_id, connection_id=added["id"], source_path="/etc/hostname"
    )
    operator.denied("workflow.execute", workflow_id=workflow_id, inputs={str(added["id"]): "/etc/hostname"})


def test_what_an_admin_has_said_is_changed_by_nobody_below(operator: Operator, cat: int, peer: Peer) -> None:
    """A file that an admin has named is not led to a service that hands it out."""
    workflow_id = peer.call("workflow.create", name="w")["id"]
    node_id = peer.call("workflow.add_node", workflow_id=workflow_id, service_id=cat)["id"]
    ends = {"from_node_id": None, "from_interface_type": "STDOUT", "to_node_id": node_id, "to_interface_type": "STDIN"}
    source = peer.call("workflow.add_connection", workflow_id=workflow_id, source_path="/etc/hostname", **ends)["id"]
    of_this = {"workflow_id": workflow_id}
    operator.denied("workflow.add_node", service_id=cat, **of_this)
    operator.denied("workflow.update_node", node_id=node_id, cmd=None, **of_this)
    operator.denied("workflow.delete_node", node_id=node_id, **of_this)
    home = {"from_node_id": node_id, "from_interface_type": "STDOUT", "to_node_id": None, "to_interface_type": "MOUNT"}
    operator.denied("workflow.add_connection", **home, **of_this)
    operator.denied("workflow.update_connection", connection_id=source, include=["*"], **of_this)
    operator.denied("workflow.delete_connection", connection_id=source, **of_this)
    moved = operator.call("workflow.update_node", node_id=node_id, gui_x=7, name="moved", **of_this)
    assert (moved["gui_x"], moved["name"]) == (7, "moved")
    document = operator.call("workflow.export", **of_this)
    operator.denied("workflow.import", document=document)
    assert operator.call("workflow.delete", **of_this)["deleted"]


def test_operate_roots_open_folders_and_no_way_out_of_them(rooted: tuple[Peer, Path]) -> None:
    peer, folder = rooted
    operator = Operator(peer)
    service_id = peer.call("service.create", name="cat", service_type="STANDALONE", executable="/bin/cat")["id"]
    workflow_id = operator.call("workflow.create", name="w")["id"]
    node_id = operator.call("workflow.add_node", workflow_id=workflow_id, service_id=service_id)["id"]
    ends = {"from_node_id": None, "from_interface_type": "STDOUT", "to_node_id": node_id, "to_interface_type": "STDIN"}
    for path in ("way-out", "../secret.csv", "../open/fine.csv"):
        denied = f"{folder}/open/{path}"
        operator.denied("workflow.add_connection", workflow_id=workflow_id, source_path=denied, **ends)
    operator.denied("workflow.add_connection", workflow_id=workflow_id, source_path=f"{folder}/data/rnd.db", **ends)
    fine = folder / "open" / "fine.csv"
    operator.call("workflow.add_connection", workflow_id=workflow_id, source_path=str(fine), **ends)
    # A file that was fine when it was drawn, and is a link by the time it is to be sent.
    fine.unlink()
    fine.symlink_to(folder / "secret.csv")
    operator.denied("workflow.execute", workflow_id=workflow_id)


def test_an_operator_runs_what_an_admin_has_drawn(tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    source.write_text("ein zwei\n")
    with running_peer(tmp_path / "data") as peer:
        workflow_id = peer.workflow("drawn by the owner")
        node_id = peer.node(workflow_id, peer.program("cat", "cat\n"), entrypoint=["/bin/sh", "-c"], cmd=["tr a-z A-Z"])
        peer.connect(workflow_id, None, node_id, source_path=str(source))
        home = peer.connect(workflow_id, node_id, None, "STDOUT->MOUNT", destination_file_name="loud.txt")
        token = peer.call("token.create", name="operator", scope="operate")["token"]
        started = over_tcp(peer, token, "workflow.execute", workflow_id=workflow_id)
        execution = peer.wait(started["execution_id"])
        assert execution["status"] == "COMPLETED"
        assert peer.results(execution["id"]) == {(home, "loud.txt"): b"EIN ZWEI\n"}


def over_tcp(peer: RunningPeer, token: str, method: str, /, **params: Any) -> Any:
    host, port = peer.call("node.status")["api"]["url"].removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        connection.request("POST", "/rpc", body, headers)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if "error" in answer:
        raise RpcError(answer["error"])
    return answer["result"]
