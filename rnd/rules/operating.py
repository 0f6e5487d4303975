"""What those who may operate, but do not own this peer, may have a node run (ruling 15): no more than other peers may."""

from __future__ import annotations

from collections.abc import Sequence

from rnd.rules.policy import container_mount_refusal, container_override_refusal
from rnd.types.services import DockerSettings, Service, ServiceInterface, StandaloneSettings


def override_refusal(
    service: Service,
    entrypoint: Sequence[str] | None,
    cmd: Sequence[str] | None,
    interfaces: Sequence[ServiceInterface] = (),
) -> str | None:
    """Return why a node may not replace what its service runs, or `None`; what says the same replaces nothing.

    `interfaces` are the node's: a MOUNT of its own could take the place of what a container has there.
    """
    settings = service.settings
    if isinstance(settings, DockerSettings):
        words = container_override_refusal(service.name, settings, entrypoint, cmd)
        return words or container_mount_refusal(service, settings, interfaces)
    if not isinstance(settings, StandaloneSettings):
        return None
    if entrypoint is not None and tuple(entrypoint) != (settings.executable,):
        return f"entrypoint: the owner of {service.name} lets nobody else choose what is executed"
    if cmd is not None and tuple(cmd) != settings.cmd and not settings.allow_override:
        return f"cmd: the owner of {service.name} lets nobody else choose its arguments"
    return None
