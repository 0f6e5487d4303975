"""Containers of a whole daemon: ended by their time and by a limit, and those that no job of it is known for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import NotFound

from rnd.core.container_sweep import LOOK_AGAIN_S
from tests.docker.engine import IMAGE, unfit
from tests.running_peer import RunningPeer, running_peer
from tests.running_peers import wait_until

GONE_WITHIN_S = 15.0
AS_LONG_AS_IT_MAY = ["sh", "-c", "trap exit TERM; sleep 1000 & wait"]
"""A first process is ended by no signal that it does not ask for."""
AN_HOUR_ON = ("env", "FAKETIME=+61m", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1")
PRELOADED = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.fixture
def peer(tmp_path: Path, image_id: str) -> Iterator[RunningPeer]:
    """A daemon, on an engine that has the image."""
    assert image_id
    with running_peer(tmp_path / "data", env={"RND_DEADLINES_CANCEL_GRACE_S": "0.5"}) as found:
        yield found


def offer(peer: RunningPeer, script: str, **more: object) -> int:
    words = {"entrypoint": ["/bin/sh", "-c"], "cmd": [script]}
    return int(peer.call("service.create", name="it", service_type="DOCKER", image=IMAGE, **words, **more)["id"])


def names_of(engine: APIClient, peer: RunningPeer) -> set[str]:
    """Return what the engine has below the data directory, in whatever state."""
    found = engine.containers(all=True, filters={"label": "rnd.directory"})
    return {each["Names"][0][1:] for each in found if each["Labels"]["rnd.directory"].startswith(f"{peer.data_dir}/")}


@pytest.mark.parametrize(
    ("script", "terms", "words"),
    [
        (
            "trap '' TERM; touch up; while :; do sleep 0.05; done",
            {"timeout_s": 2},
            "timed out after 2 s (timeout_s of service it)",
        ),
        (
            "exec tail /dev/zero",
            {"limits": {"memory_bytes": 32 << 20}},
            f"killed by the memory limit of {32 << 20} bytes",
        ),
    ],
    ids=["time", "memory"],
)
def test_a_job_that_is_ended_says_why_and_its_container_goes(
    peer: RunningPeer, engine: APIClient, script: str, terms: dict[str, Any], words: str
) -> None:
    workflow = peer.workflow("ended")
    peer.node(workflow, offer(peer, script, **terms))
    assert peer.run(workflow)["status"] == "FAILED"
    ((status, error),) = peer.sql("SELECT status, error_message FROM job_executions")
    assert (status, words in error) == ("ERRORED", True), error
    wait_until(lambda: not names_of(engine, peer), lambda: f"{names_of(engine, peer)} go", within_s=GONE_WITHIN_S)


def test_a_container_of_no_job_is_told_and_goes_after_an_hour_and_those_of_others_stay(
    peer: RunningPeer, engine: APIClient
) -> None:
    """Others' are without our labels, of another data directory, or of one whose name begins as ours does."""
    if not PRELOADED:
        unfit("there is no clock to set for one process alone (Debian: faketime)")
    offer(peer, "true")
    ours = f"rnd-nobodys-{os.getpid()}"
    folders = {
        ours: f"{peer.data_dir}/workflows/rnA/1/jobs/rnB/99",
        f"{ours}-none": None,
        f"{ours}-elsewhere": "/elsewhere/workflows/rnA/1/jobs/rnB/99",
        f"{ours}-nearly": f"{peer.data_dir}-2/workflows/rnA/1/jobs/rnB/99",
    }
    made: list[str] = []
    try:
        for name, folder in folders.items():
            known = {"rnd.job": "99", "rnd.attempt": "1", "rnd.engine_name": "job-99-1"}
            labels = {} if folder is None else {"rnd.directory": folder, **known}
            body = {"Image": IMAGE, "Cmd": AS_LONG_AS_IT_MAY, "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
            made.append(engine.create_container_from_config(body, name)["Id"])
            engine.start(made[-1])
        peer.stop()
        peer.start()
        told = f"Container of no job: name={ours} "
        wait_until(lambda: any(told in line for line in peer.log_lines()), "it is told")
        assert all(engine.inspect_container(each)["State"]["Running"] for each in made)
        peer.stop()
        peer.within = (*AN_HOUR_ON, f"LD_PRELOAD={PRELOADED[0]}")
        peer.start()
        # Under libfaketime a sleep of the daemon's may end with EINVAL; what comes of that look is another one.
        wait_until(lambda: not names_of(engine, peer), "it goes", within_s=LOOK_AGAIN_S + GONE_WITHIN_S)
        assert not [line for line in peer.log_lines() if f"{ours}-" in line]
        assert all(engine.inspect_container(each)["State"]["Running"] for each in made[1:])
    finally:
        for each in made:
            with contextlib.suppress(NotFound):
                engine.remove_container(each, force=True)
