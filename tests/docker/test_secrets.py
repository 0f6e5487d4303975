"""The password of a registry and the secrets of a container, on a whole daemon: nowhere but in the one file that the container reads."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from docker import APIClient

from tests.docker.contained import left_of
from tests.docker.registry import PASSWORD, USER
from tests.integration.canaries import SHARED_MEMORY, Canaries, Hit, at_rest, everywhere
from tests.running_peers import Peer, wait_until

SCRIPT = "sha256sum < $RND_SECRETS/key; touch /output/up; until test -e /output/go; do sleep 0.05; done"


def test_a_password_and_a_secret_are_nowhere_but_where_they_must_be(
    tmp_path: Path, engine: APIClient, pushed: tuple[str, str]
) -> None:
    canaries = Canaries()
    canaries.add("password", PASSWORD.encode())
    key = canaries.word("secret")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    peer = Peer(tmp_path / "peer", env={"TMPDIR": str(temporary), "RND_LOG_LEVEL": "DEBUG"})
    try:
        peer.start()
        service = peer.call(
            "service.create",
            name="kept",
            service_type="DOCKER",
            image=pushed[0],
            registry_auth={"username": USER, "password": PASSWORD},
            entrypoint=["/bin/sh", "-c"],
            cmd=[SCRIPT],
            user="0",
            secrets={"key": key},
        )
        engine.remove_image(pushed[1], force=True)  # so that it is pulled anew, by its digest, for the run
        workflow = peer.workflow("secrets")
        node = peer.node(workflow, service["id"])
        peer.connect(workflow, node, None)
        execution = peer.execute(workflow)
        wait_until(lambda: any(peer.data_dir.rglob("output/up")), lambda: f"it runs: {peer.stderr()}")
        known = {
            "workflow_id": [workflow],
            "execution_id": [execution],
            "service_id": [service["id"]],
            "node_id": [node],
            "job_execution_id": [1],
            "service_type": ["DOCKER"],
            "after_seq": [0],
            "wait_s": [0],
            "timeout_s": [0.1],
        }
        (container,) = left_of(engine, peer)
        inspected = [
            ("the engine's container", json.dumps(engine.inspect_container(container)).encode()),
            ("the engine's image", json.dumps(engine.inspect_image(pushed[1])).encode()),
        ]
        (seen,) = (path for path in SHARED_MEMORY.glob("rnd-secrets-*/key") if path.read_text() == key)
        assert seen.parent.stat().st_mode & 0o007 == 0
        found = set(canaries.hits([*everywhere((peer,), (tmp_path,), known), *inspected]))
        assert found == {Hit(secret="secret", place=str(seen))}
        next(peer.data_dir.rglob("output/up")).with_name("go").touch()
        assert peer.wait(execution)["status"] == "COMPLETED"
        wait_until(lambda: not seen.exists(), "the secret is gone with the container")
        assert canaries.hits(everywhere((peer,), (tmp_path,), known)) == []
        peer.process.send_signal(signal.SIGABRT)  # type: ignore[union-attr]  # as the bug that ends it would
        peer.process.wait(30)  # type: ignore[union-attr]  # a peer that runs has a process
        assert canaries.hits(at_rest((tmp_path,))) == []
    finally:
        peer.dispose()
        for container in left_of(engine, peer):
            engine.remove_container(container, v=True, force=True)
