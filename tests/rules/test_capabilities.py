"""What a peer says it can run, and what a program is built for."""

from __future__ import annotations

from typing import Any

import pytest

from rnd.rules.capabilities import Capabilities, capability_refusal, platform_refusal, read_capabilities
from rnd.types.enums import ServiceType

SAID: dict[str, Any] = {
    "platform": "linux",
    "architecture": "aarch64",
    "executors": {
        "docker": {"available": False, "reason": "no daemon answers"},
        "standalone": {"available": True, "version": "1"},
    },
}


@pytest.mark.parametrize("kind", [ServiceType.DATA, ServiceType.STANDALONE])
def test_what_a_peer_can_run_is_not_refused(kind: ServiceType) -> None:
    assert capability_refusal(kind, read_capabilities(SAID)) is None


def test_what_a_peer_cannot_run_is_refused_with_its_machine_and_its_reason() -> None:
    refusal = capability_refusal(ServiceType.DOCKER, read_capabilities(SAID))
    assert refusal == "that peer (linux/aarch64) runs no DOCKER jobs: no daemon answers"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"executors": None},
        {"executors": []},
        {"executors": {"docker": None, "standalone": "no"}},
        {"executors": {"docker": {}, "standalone": {"available": "no"}}},
        {"executors": {"standalone": {"available": None, "reason": 7}}, "platform": 3},
    ],
)
def test_what_a_peer_does_not_say_refuses_nothing(said: dict[str, Any]) -> None:
    there = read_capabilities(said)
    assert there == Capabilities()
    assert [capability_refusal(kind, there) for kind in ServiceType] == [None] * len(ServiceType)


def test_a_refusal_without_words_still_names_the_kind() -> None:
    there = read_capabilities({"executors": {"standalone": {"available": False}}})
    assert capability_refusal(ServiceType.STANDALONE, there) == "that peer runs no STANDALONE jobs"


def header(machine: int, *, big: bool = False) -> bytes:
    order = "big" if big else "little"
    return b"\x7fELF\x02" + (b"\x02" if big else b"\x01") + bytes(12) + machine.to_bytes(2, order)


@pytest.mark.parametrize(
    ("beginning", "machine", "built_for"),
    [
        (header(62), "x86_64", None),
        (header(3), "x86_64", None),
        (header(183), "x86_64", "aarch64"),
        (header(62), "aarch64", "x86_64"),
        (header(40), "aarch64", None),
        (header(22, big=True), "x86_64", "s390x"),
        (header(999), "x86_64", None),
        (header(62), "loongarch64", None),
        (b"#!/bin/sh\nexit 0\n# more", "x86_64", None),
        (b"\x7fELF", "x86_64", None),
        (b"", "x86_64", None),
    ],
)
def test_a_program_for_another_machine_is_told_by_its_header(
    beginning: bytes, machine: str, built_for: str | None
) -> None:
    refusal = platform_refusal(beginning, machine)
    if built_for is None:
        assert refusal is None
    else:
        assert refusal == f"it is built for {built_for}, and this machine is {machine}"
