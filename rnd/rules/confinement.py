"""When a native program has to run confined, and when an order is refused because it cannot (design: other people's code)."""

from __future__ import annotations

from typing import Final

from rnd.types.enums import Confine
from rnd.types.services import Sandbox, Service, StandaloneSettings

TIERS: Final = ("none", "landlock", "bubblewrap")
"""From the weakest to the strongest; what this version has is the first two."""


def why_confined(settings: StandaloneSettings, *, foreign: bool) -> str:
    """Return why an order has to run confined, as words after the service's name, or "" if it need not.

    `foreign` says that another peer orders it. What asks for a sandbox or for no network is confined whatever `confine`
    says: an owner who means never takes those away.
    """
    if settings.confine is Confine.ALWAYS:
        return "always runs confined"
    if settings.confine is Confine.AUTO and foreign:
        return "runs confined when another peer orders it"
    if settings.min_sandbox not in ("", TIERS[0]):
        return f"demands the sandbox {settings.min_sandbox}"
    if settings.network == "none":
        return "runs without network, which takes confinement"
    return ""


def confinement_refusal(service: Service, sandbox: Sandbox, *, foreign: bool) -> str | None:
    """Return why an order of a service is refused on a machine whose sandbox is `sandbox`, or `None`."""
    if not isinstance(service.settings, StandaloneSettings):
        return None
    why = why_confined(service.settings, foreign=foreign)
    if not why:
        return None
    if sandbox.tier == TIERS[0]:
        return f"service {service.name} {why}, and programs cannot be confined here: {sandbox.reason}"
    demanded = service.settings.min_sandbox
    if demanded and _rank(sandbox.tier) < _rank(demanded):
        return f"service {service.name} demands the sandbox {demanded}, and the one here is {sandbox.tier}"
    return None


def has_network(settings: StandaloneSettings) -> bool:
    """Say whether a confined program gets the network: only where its service says so."""
    return settings.network == "host"


def _rank(tier: str) -> int:
    """Return how strong a tier is; one that nobody knows is stronger than any."""
    return TIERS.index(tier) if tier in TIERS else len(TIERS)
