"""What those who may operate, but do not own this peer, may have a node run (ruling 15): no more than other peers may."""

from __future__ import annotations

from collections.abc import Sequence

from rnd.rules.policy import container_override_refusal
from rnd.types.services import DockerSettings, Service, StandaloneSettings


def override_refusal(service: Service, entrypoint: Sequence[str] | None, cmd: Sequence[str] | None) -> str | None:
    """Return why a node may not replace what its service runs, or `None`; what says the same replaces nothing."""
    settings = service.settings
    if isinstance(settings, DockerSettings):
        return container_override_refusal(service.name, settings, entrypoint, cmd)
    if not isinstance(settings, StandaloneSettings):
        return None
    if entrypoint is not None and tuple(entrypoint) != (settings.executable,):
        return f"entrypoint: the owner of {service.name} lets nobody else choose what is executed"
    if cmd is not None and tuple(cmd) != settings.cmd and not settings.allow_override:
        return f"cmd: the owner of {service.name} lets nobody else choose its arguments"
    return None
