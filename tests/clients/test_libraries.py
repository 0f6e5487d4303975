"""Public JSON-RPC clients speak to a daemon as their documentation has it: calls, notifications, batches, errors."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.running_peer import RunningPeer, running_peer

NPM = Path(__file__).with_name("npm")
MISSING = 10**9
NPM_WITHIN_S = 100.0

Spoken = dict[str, Any]
"""What a library made of the answers: `named` and `positional` a workflow each; `error` and `unknown` the code, message and data of a refusal."""


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    """One daemon for all libraries."""
    with running_peer(tmp_path_factory.mktemp("libraries") / "peer") as running:
        yield running


@pytest.fixture(scope="module")
def workflow(peer: RunningPeer) -> int:
    """A workflow to ask for."""
    return peer.workflow("asked for")


@pytest.fixture(scope="module")
def token(peer: RunningPeer) -> str:
    return (peer.data_dir / "api_token").read_text().strip()


@pytest.fixture(scope="module")
def url(peer: RunningPeer) -> str:
    return str(peer.call("node.status")["api"]["url"])


@pytest.fixture(scope="module")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libraries that the lock file names, and the program that speaks by them."""
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "speak.mjs"):
        shutil.copy(NPM / name, folder)
    npm_ci = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(npm_ci, cwd=folder, check=True, timeout=NPM_WITHIN_S)
    return folder


def library(name: str) -> ModuleType:
    """Return a module of the extra `clients`, which the rest does without."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


def by_jsonrpcclient(url: str, token: str, workflow: int) -> Spoken:
    """It makes and reads messages; how they travel is the caller's business."""
    jsonrpcclient, requests = library("jsonrpcclient"), library("requests")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"

    def send(message: Any) -> Any:
        response = session.post(f"{url}/rpc", json=message, timeout=20)
        response.raise_for_status()
        return jsonrpcclient.parse(response.json()) if response.content else None

    def refusal(message: Any) -> Spoken:
        error = send(message)
        assert isinstance(error, jsonrpcclient.Error)
        return {"code": error.code, "message": error.message, "data": error.data}

    create, get = "workflow.create", "workflow.get"
    named = send(jsonrpcclient.request(get, {"workflow_id": workflow})).result
    positional = send(jsonrpcclient.request(get, (workflow,))).result
    assert send(jsonrpcclient.notification(create, {"name": "noted by jsonrpcclient"})) is None
    batch = [
        jsonrpcclient.request(get, [workflow]),
        jsonrpcclient.notification(create, ["noted in a batch by jsonrpcclient"]),
        jsonrpcclient.request_uuid(get, [MISSING]),
    ]
    first, second = send(batch)
    return {
        "named": named,
        "positional": positional,
        "batch": [first.result, {"code": second.code, "message": second.message, "data": second.data}],
        "error": refusal(jsonrpcclient.request(get, {"workflow_id": MISSING})),
        "unknown": refusal(jsonrpcclient.request("no.such")),
    }


def by_pjrpc(url: str, token: str, workflow: int) -> Spoken:
    """A client of its own over requests; it wants `application/json` back and an error class for each code, or its own."""
    requests, backend = library("requests"), library("pjrpc.client.backend.requests")
    exceptions, common = library("pjrpc.client.exceptions"), library("pjrpc.common")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"

    def told(error: Any) -> Spoken:
        return {"code": error.code, "message": error.message, "data": error.data}

    def refusal(method: str, **params: Any) -> Spoken:
        with pytest.raises(exceptions.JsonRpcError) as refused:
            client.call(method, **params)
        return told(refused.value)

    with backend.Client(f"{url}/rpc", session=session) as client:
        named = client.call("workflow.get", workflow_id=workflow)
        positional = client.call("workflow.get", workflow)
        client.notify("workflow.create", name="noted by pjrpc")
        request = common.Request
        answers = client.send(
            common.BatchRequest(
                request(method="workflow.get", params=[workflow], id=1),
                request(method="workflow.create", params=["noted in a batch by pjrpc"]),
                request(method="workflow.get", params={"workflow_id": MISSING}, id="two"),
            )
        )
        first, second = answers
        return {
            "named": named,
            "positional": positional,
            "batch": [first.result, told(second.error)],
            "error": refusal("workflow.get", workflow_id=MISSING),
            "unknown": refusal("no.such"),
        }


def by_tinyrpc(url: str, token: str, workflow: int) -> Spoken:
    """It sends bytes without saying what they are, so both headers are the caller's."""
    client_module, jsonrpc = library("tinyrpc.client"), library("tinyrpc.protocols.jsonrpc")
    http = library("tinyrpc.transports.http")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    transport = http.HttpPostClientTransport(f"{url}/rpc", headers=headers, timeout=20)
    protocol = jsonrpc.JSONRPCProtocol()
    client = client_module.RPCClient(protocol, transport)

    def refusal(method: str, **params: Any) -> Spoken:
        with pytest.raises(jsonrpc.JSONRPCError) as refused:
            client.call(method, [], params)
        error = refused.value
        return {"code": error._jsonrpc_error_code, "message": error.message, "data": error.data}

    named = client.call("workflow.get", [], {"workflow_id": workflow})
    positional = client.call("workflow.get", [workflow], {})
    client.call("workflow.create", [], {"name": "noted by tinyrpc"}, one_way=True)
    batch = protocol.create_batch_request(
        [
            protocol.create_request("workflow.get", [workflow]),
            protocol.create_request("workflow.create", ["noted in a batch by tinyrpc"], one_way=True),
            protocol.create_request("workflow.get", [MISSING]),
        ]
    )
    answers = protocol.parse_reply(transport.send_message(batch.serialize()))
    first, second = answers
    error = {"code": second._jsonrpc_error_code, "message": second.error, "data": second.data}
    return {
        "named": named,
        "positional": positional,
        "batch": [first.result, error],
        "error": refusal("workflow.get", workflow_id=MISSING),
        "unknown": refusal("no.such"),
    }


def by_jsonrpclib_pelix(url: str, token: str, workflow: int) -> Spoken:
    """A proxy whose attributes are methods; it says `application/json-rpc`.

    It takes any status but 200 for a failure, so also the 204 that says that a notification was taken, and cannot go on with that connection.
    """
    jsonrpclib, jsonrpc = library("jsonrpclib"), library("jsonrpclib.jsonrpc")
    server, notified = (
        jsonrpclib.ServerProxy(f"{url}/rpc", headers={"Authorization": f"Bearer {token}"}) for _ in range(2)
    )

    def refusal(call: Callable[[], Any]) -> Spoken:
        with pytest.raises(jsonrpc.ProtocolError) as refused:
            call()
        code, message, *data = refused.value.args[0]  # it keeps the data of an application's errors alone
        return {"code": code, "message": message, "data": data[0] if data else None}

    named = server.workflow.get(workflow_id=workflow)
    positional = server.workflow.get(workflow)
    with pytest.raises(jsonrpc.TransportError, match="204"):
        notified._notify.workflow.create(name="noted by jsonrpclib-pelix")
    notified("close")()
    batch = jsonrpclib.MultiCall(server)
    batch.workflow.get(workflow)
    batch._notify.workflow.create("noted in a batch by jsonrpclib-pelix")
    batch.workflow.get(workflow_id=MISSING)
    answers = batch()
    spoken = {
        "named": named,
        "positional": positional,
        "batch": [answers[0], refusal(lambda: answers[1])],
        "error": refusal(lambda: server.workflow.get(workflow_id=MISSING)),
        "unknown": refusal(lambda: server.no.such()),
    }
    server("close")()
    return spoken


PYTHON = {
    "jsonrpcclient": by_jsonrpcclient,
    "pjrpc": by_pjrpc,
    "tinyrpc": by_tinyrpc,
    "jsonrpclib-pelix": by_jsonrpclib_pelix,
}


def check(peer: RunningPeer, workflow: int, name: str, spoken: Spoken) -> None:
    """See that the library has heard what was said, and that what it said without waiting for an answer was done."""
    asked_for = peer.call("workflow.get", workflow_id=workflow)
    assert spoken["named"] == spoken["positional"] == spoken["batch"][0] == asked_for
    assert spoken["error"] == spoken["batch"][1]
    assert (spoken["error"]["code"], spoken["error"]["data"]["error"]) == (1000, "NOT_FOUND")
    assert str(MISSING) in spoken["error"]["message"]
    assert spoken["error"]["data"]["hint"]
    assert spoken["unknown"]["code"] == -32601
    noted = f"noted by {name}", f"noted in a batch by {name}"
    question = f"SELECT count(*) FROM workflows WHERE name IN {noted}"
    peer.eventually(question, [(2,)])


@pytest.mark.parametrize("name", PYTHON)
def test_a_library_of_python(name: str, peer: RunningPeer, url: str, token: str, workflow: int) -> None:
    check(peer, workflow, name, PYTHON[name](url, token, workflow))


@pytest.mark.parametrize("name", ["json-rpc-2.0", "jayson"])
def test_a_library_of_npm(name: str, npm: Path, peer: RunningPeer, url: str, token: str, workflow: int) -> None:
    done = subprocess.run(
        ["node", npm / "speak.mjs", name, str(workflow)],
        env={"PATH": os.environ["PATH"], "RND_URL": url, "RND_TOKEN": token},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # node 18 remarks there that its fetch is new
    check(peer, workflow, name, json.loads(done.stdout))
