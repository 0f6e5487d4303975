"""Files that a client has uploaded are what the self-peer sends, and stay while an execution has them to send."""

from __future__ import annotations

import json

import pytest

from tests.running_peer import RpcError, RunningPeer

LONG_AGO = "2020-01-01T00:00:00.000Z"


def upload(peer: RunningPeer, name: str, content: bytes) -> str:
    status, body = peer.put(f"/upload/{name}", content)
    assert status == 201, body
    return f"upload:{json.loads(body)['name']}"


def shouting(peer: RunningPeer, script: str = "tr a-z A-Z", **source: str) -> tuple[int, int, int]:
    """Draw self-peer -> a program -> self-peer; return the workflow and its two connections."""
    workflow = peer.workflow("shouting")
    node = peer.node(workflow, peer.program("shout", script))
    into = peer.connect(workflow, None, node, **source)
    return workflow, into, peer.connect(workflow, node, None, destination_file_name="out.txt")


def listed(peer: RunningPeer) -> list[str]:
    return [item["name"] for item in peer.call("upload.list")["items"]]


def test_an_upload_is_sent_and_stays(peer: RunningPeer) -> None:
    workflow, into, home = shouting(peer)
    for text in (b"first\n", b"second\n"):
        source = upload(peer, text.decode().strip(), text)
        done = peer.run(workflow, inputs={str(into): source})
        assert done["status"] == "COMPLETED", done
        assert peer.results(done["id"]) == {(home, "out.txt"): text.upper()}
    assert listed(peer) == ["first", "second"]
    assert (peer.data_dir / "uploads" / "first").read_bytes() == b"first\n"


def test_a_connection_names_an_upload_before_it_is_there(peer: RunningPeer) -> None:
    workflow, into, home = shouting(peer, source_path="upload:words.txt")
    with pytest.raises(RpcError, match="There is no upload") as refused:
        peer.execute(workflow)
    assert refused.value.data["problems"][0]["connection_id"] == into
    upload(peer, "words.txt", b"abc")
    document = peer.call("workflow.export", workflow_id=workflow)
    assert document["connections"][0]["source_path"] == "upload:words.txt"
    imported = peer.call("workflow.import", document=document)["id"]
    done = peer.run(workflow)
    assert peer.results(done["id"]) == {(home, "out.txt"): b"ABC"}
    assert peer.run(imported)["status"] == "COMPLETED"


def test_an_upload_arrives_under_its_own_name(peer: RunningPeer) -> None:
    workflow = peer.workflow("named")
    mounts = [{"interface_type": "MOUNT", "path": "/in", "mount_function": "INPUT"}]
    node = peer.node(workflow, peer.program("list", 'ls "$RND_MOUNT_IN"', interfaces=mounts))
    into = peer.connect(workflow, None, node, "STDOUT->MOUNT")
    home = peer.connect(workflow, node, None, destination_file_name="out.txt")
    done = peer.run(workflow, inputs={str(into): upload(peer, "a_b-c.1", b"x")})
    assert peer.results(done["id"]) == {(home, "out.txt"): b"a_b-c.1\n"}


@pytest.mark.parametrize("path", ["upload:", "upload:../identity.key", "upload:.hidden", "upload:a/b", "relative"])
def test_what_is_no_upload_and_no_path_is_refused(peer: RunningPeer, path: str) -> None:
    workflow, into, _ = shouting(peer)
    with pytest.raises(RpcError) as refused:
        peer.execute(workflow, inputs={str(into): path})
    assert refused.value.code == -32602
    with pytest.raises(RpcError) as refused:
        peer.call("workflow.update_connection", workflow_id=workflow, connection_id=into, source_path=path)
    assert refused.value.code == -32602


def test_an_upload_is_kept_as_long_as_an_execution_has_it_to_send(peer: RunningPeer) -> None:
    workflow, into, _ = shouting(peer, "sleep 600")
    execution = peer.execute(workflow, inputs={str(into): upload(peer, "kept", b"x")})
    upload(peer, "forgotten", b"x")
    with pytest.raises(RpcError, match=f"is to be sent by execution {execution}") as refused:
        peer.call("upload.delete", name="kept")
    assert refused.value.code == 1200
    peer.call("service.create", name="copy", service_type="DATA", paths=["upload:kept"])
    assert peer.stop() == 0
    peer.sql("UPDATE uploads SET used_at = :then", then=LONG_AGO)
    peer.start()
    assert listed(peer) == ["kept"]
    peer.call("execution.cancel", execution_id=execution)
    peer.wait(execution)
    assert peer.stop() == 0
    peer.start()
    assert listed(peer) == []
    assert list((peer.data_dir / "uploads").iterdir()) == []


def test_the_description_of_the_api_says_so(peer: RunningPeer) -> None:
    methods = {method["name"]: method for method in peer.call("rpc.discover")["methods"]}
    for method, name in (("workflow.execute", "inputs"), ("workflow.add_connection", "source_path")):
        [parameter] = [each for each in methods[method]["params"] if each["name"] == name]
        assert "upload:NAME" in parameter["summary" if "summary" in parameter else "description"]
        assert "upload:[A-Za-z0-9_-]" in json.dumps(parameter["schema"])
