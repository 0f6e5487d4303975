"""Which orders run confined, and which are refused because they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from rnd.rules.confinement import confinement_refusal, has_network, why_confined
from rnd.types.enums import Confine
from rnd.types.services import Sandbox, StandaloneSettings
from tests.rules.conftest import Make

NONE = Sandbox(reason="the kernel has no Landlock")
LANDLOCK = Sandbox(tier="landlock", reason="")


def _settings(**fields: Any) -> StandaloneSettings:
    return StandaloneSettings(executable="/bin/cat", **fields)


@pytest.mark.parametrize(
    ("fields", "own", "foreign"),
    [
        ({}, "", "runs confined when another peer orders it"),
        ({"confine": Confine.NEVER}, "", ""),
        ({"confine": Confine.ALWAYS}, "always runs confined", "always runs confined"),
        ({"network": "host"}, "", "runs confined when another peer orders it"),
        ({"network": "none", "confine": Confine.NEVER}, *["runs without network, which takes confinement"] * 2),
        ({"min_sandbox": "landlock", "confine": Confine.NEVER}, *["demands the sandbox landlock"] * 2),
        ({"min_sandbox": "none"}, "", "runs confined when another peer orders it"),
    ],
)
def test_who_orders_and_what_the_owner_says_decide(fields: dict[str, Any], own: str, foreign: str) -> None:
    settings = _settings(**fields)
    assert (why_confined(settings, foreign=False), why_confined(settings, foreign=True)) == (own, foreign)


def test_only_a_service_that_says_so_has_the_network() -> None:
    assert [has_network(_settings(network=network)) for network in ("", "none", "host")] == [False, False, True]


@pytest.mark.parametrize(
    ("fields", "sandbox", "words"),
    [
        (
            {},
            NONE,
            "runs confined when another peer orders it, and programs cannot be confined here: the kernel has no",
        ),
        ({"confine": Confine.NEVER}, NONE, None),
        ({}, LANDLOCK, None),
        ({"min_sandbox": "landlock"}, LANDLOCK, None),
        ({"min_sandbox": "bubblewrap"}, LANDLOCK, "demands the sandbox bubblewrap, and the one here is landlock"),
        ({"min_sandbox": "of tomorrow"}, LANDLOCK, "demands the sandbox of tomorrow, and the one here is landlock"),
        (
            {"min_sandbox": "landlock", "confine": Confine.NEVER},
            NONE,
            "demands the sandbox landlock, and programs cannot",
        ),
    ],
)
def test_what_cannot_be_confined_is_refused_in_words(
    make: Make, fields: dict[str, Any], sandbox: Sandbox, words: str | None
) -> None:
    service = make.service(1, settings=_settings(**fields))
    refusal = confinement_refusal(service, sandbox, foreign=True)
    assert refusal is None if words is None else words in (refusal or "")


def test_data_is_never_confined(make: Make) -> None:
    assert confinement_refusal(make.service(1, service_type="DATA"), NONE, foreign=True) is None
