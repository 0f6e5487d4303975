"""The parts of an image's name, as the engine wants them."""

from __future__ import annotations

import pytest

from rnd.services.engine_images import name_and_tag

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("busybox", ("busybox", "latest")),
        ("python:3-slim", ("python", "3-slim")),
        ("registry.example:5000/team/tool", ("registry.example:5000/team/tool", "latest")),
        ("registry.example:5000/team/tool:1.2", ("registry.example:5000/team/tool", "1.2")),
        (f"busybox@{DIGEST}", ("busybox", DIGEST)),
        (f"registry.example:5000/team/tool@{DIGEST}", ("registry.example:5000/team/tool", DIGEST)),
        (f"registry.example:5000/team/tool:1.2@{DIGEST}", ("registry.example:5000/team/tool", DIGEST)),
    ],
)
def test_a_name_is_parted_from_its_digest_or_its_tag(image: str, parts: tuple[str, str]) -> None:
    assert name_and_tag(image) == parts
