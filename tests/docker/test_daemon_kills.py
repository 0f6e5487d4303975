"""kill -9 of a whole daemon, alone or with its rnd-exec, at every step of a container's life: right after the restart all is well."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.docker.engine import IMAGE, import_image
from tests.docker.engine_proxy import EngineProxy
from tests.docker.registry import PASSWORD, USER, running_registry
from tests.running_peer import RunningPeer, running_peer
from tests.services.native_processes import name_of, processes_of

AT_ONCE_S = 15.0
"""Within which all is to be well after a restart; most of it is the daemon's own start."""
SCRIPT = "echo run >>runs; echo out; until test -e go; do sleep 0.05; done; echo done"
CREATE, START = "POST /containers/create", "POST /containers/ID/start"
STATE, REMOVE, PULL = "GET /containers/ID/json", "DELETE /containers/ID", "POST /images/create"

STEPS = {
    "before it is created": (CREATE, False),
    "created and nobody has heard of it": (CREATE, True),
    "before it is started": (START, False),
    "started and nobody has heard of it": (START, True),
    "exited and nobody has heard of it": (STATE, False),
    "its end is committed and it is not removed": (REMOVE, False),
    "removed and nobody has heard of it": (REMOVE, True),
}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[EngineProxy]:
    """What stands between the daemon's rnd-exec and the engine."""
    found = EngineProxy(tmp_path)
    yield found
    found.let_go(drop=True)
    found.close()


@pytest.fixture
def peer(tmp_path: Path, proxy: EngineProxy, image_id: str, engine: APIClient) -> Iterator[RunningPeer]:
    """A daemon that leaves nothing in the engine."""
    with running_peer(tmp_path / "data", env={"DOCKER_HOST": proxy.url}) as found:
        yield found
        eventually(lambda: not containers_of(engine, found))


@pytest.fixture(params=[False, True], ids=["the daemon", "the daemon and rnd-exec"])
def with_exec(request: pytest.FixtureRequest) -> bool:
    """Whether rnd-exec dies too."""
    return bool(request.param)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry."""
    with running_registry(tmp_path_factory.mktemp("registry") / "files") as address:
        yield address


def containers_of(engine: APIClient, peer: RunningPeer) -> list[dict[str, object]]:
    """Return what the engine has of a peer, in whatever state."""
    found = engine.containers(all=True, filters={"label": "rnd.directory"})
    return [each for each in found if each["Labels"]["rnd.directory"].startswith(f"{peer.data_dir}/")]


def eventually(is_so: Callable[[], object], within_s: float = AT_ONCE_S) -> None:
    """Wait for what must come soon."""
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until, "it does not come to be so"
        time.sleep(0.02)


def offer(peer: RunningPeer, image: str = IMAGE, **more: object) -> int:
    """Offer the one container; return its service."""
    words = {"entrypoint": ["/bin/sh", "-c"], "cmd": [SCRIPT]}
    return int(peer.call("service.create", name="count", service_type="DOCKER", image=image, **words, **more)["id"])


def order(peer: RunningPeer, service: int) -> int:
    """Order one run whose output comes home; return its execution."""
    workflow = peer.workflow("once")
    peer.connect(workflow, peer.node(workflow, service), None, "STDOUT->MOUNT")
    return peer.execute(workflow)


def output_of(peer: RunningPeer) -> Path:
    """Return the output folder of the one job, once it is there."""
    found: list[Path] = []
    eventually(lambda: found.extend(peer.data_dir.glob("workflows/*/*/jobs/*/1/output")) or found)
    return found[0]


def kill(peer: RunningPeer, *, with_exec: bool) -> None:
    """End the daemon at once, and its rnd-exec in the same moment."""
    victims = [pid for pid in processes_of(peer.data_dir) if name_of(pid) == "rnd-exec"] if with_exec else []
    peer.kill()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def assert_ran_once(peer: RunningPeer, execution: int, engine: APIClient) -> None:
    """Hold everything against what it has to be."""
    ended = peer.wait(execution, timeout_s=AT_ONCE_S)
    assert (ended["status"], ended["error"]) == ("COMPLETED", None), peer.stderr()
    found = {path: content for (_, path), content in peer.results(execution).items()}
    assert found.pop("go", b"") == b""
    assert found == {"runs": b"run\n", "stdout.txt": b"out\ndone\n"}
    assert peer.sql("SELECT status, attempt, exit_code FROM job_executions") == [("COMPLETED", 1, 0)]
    eventually(lambda: not containers_of(engine, peer))
    assert "Traceback" not in peer.stderr()


@pytest.mark.parametrize("step", STEPS)
def test_the_daemon_is_killed_at_a_step(
    peer: RunningPeer, proxy: EngineProxy, engine: APIClient, step: str, with_exec: bool
) -> None:
    question, proxy.hold_answer = STEPS[step]
    proxy.hold_at = question if question in (CREATE, START) else ""
    execution = order(peer, offer(peer))
    output = output_of(peer)
    if question in (STATE, REMOVE):
        eventually((output / "runs").exists)
        proxy.hold_at = question
        (output / "go").touch()
    assert proxy.held.wait(AT_ONCE_S)
    if question == REMOVE:
        assert peer.sql("SELECT status FROM job_executions") == [("COMPLETED",)]
    kill(peer, with_exec=with_exec)
    # What the dead had asked and nobody had heard is lost with them; what waits for who lives on goes on.
    proxy.let_go(drop=with_exec and not proxy.hold_answer)
    (output / "go").touch()
    peer.start()
    assert_ran_once(peer, execution, engine)


@pytest.mark.parametrize("ends_meanwhile", [True, False], ids=["and it ends meanwhile", "and it runs on"])
def test_the_daemon_is_killed_while_the_container_runs(
    peer: RunningPeer, engine: APIClient, with_exec: bool, ends_meanwhile: bool
) -> None:
    execution = order(peer, offer(peer))
    output = output_of(peer)
    eventually((output / "runs").exists)
    kill(peer, with_exec=with_exec)
    if ends_meanwhile:
        (output / "go").touch()
        eventually(lambda: [each["State"] for each in containers_of(engine, peer)] == ["exited"])
    peer.start()
    (output / "go").touch()
    assert_ran_once(peer, execution, engine)


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "under way"])
def test_the_daemon_is_killed_while_the_image_is_pulled(
    peer: RunningPeer, proxy: EngineProxy, engine: APIClient, registry: str, with_exec: bool, heard: bool
) -> None:
    image = f"{registry}/team/count:1"
    import_image(engine, image, f"LABEL number={os.getpid()}")
    assert "error" not in engine.push(image, auth_config={"username": USER, "password": PASSWORD})
    engine.remove_image(image)
    service = offer(peer, image, registry_auth={"username": USER, "password": PASSWORD})
    engine.remove_image(image)
    proxy.hold_at, proxy.hold_answer = PULL, heard
    try:
        execution = order(peer, service)
        assert proxy.held.wait(AT_ONCE_S)
        assert peer.sql("SELECT status, run_by, pull_by IS NULL FROM job_executions") == [("RUNNING", None, 0)]
        kill(peer, with_exec=with_exec)
        proxy.let_go(drop=not heard)
        peer.start()
        (output_of(peer) / "go").touch()
        assert_ran_once(peer, execution, engine)
    finally:
        for left in engine.images(name=f"{registry}/team/count"):
            engine.remove_image(left["Id"], force=True)
