"""Containers of real daemons, as the engine itself knows them: how often each was started, and what is left."""

from __future__ import annotations

import time
from typing import Any

from docker import APIClient

from tests.docker.engine import IMAGE
from tests.running_peers import Peer


def contain(peer: Peer, name: str, script: str) -> dict[str, Any]:
    """Offer a script that runs in a container."""
    words = {"entrypoint": ["/bin/sh", "-c"], "cmd": [script]}
    service: dict[str, Any] = peer.call("service.create", name=name, service_type="DOCKER", image=IMAGE, **words)
    return service


def starts_of(engine: APIClient, peer: Peer, job_id: int, since: int) -> int:
    """Return how often the engine has started a container for a job of a peer."""
    filters = {"event": "start", "label": [f"rnd.peer={peer.peer_id}", f"rnd.job={job_id}"]}
    return sum(1 for _ in engine.events(since=since, until=int(time.time()) + 1, filters=filters, decode=True))


def left_of(engine: APIClient, peer: Peer) -> list[str]:
    """Return the containers that the engine has of a peer, in whatever state."""
    return [each["Id"] for each in engine.containers(all=True, filters={"label": f"rnd.peer={peer.peer_id}"})]
