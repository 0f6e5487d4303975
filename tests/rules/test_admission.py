"""Who gets past the door (docs/wire.md, section 1)."""

from __future__ import annotations

import pytest

from rnd.rules.admission import Door, admit
from rnd.rules.policy import Standing

# Standing: what /control, /data, /join without and /join with a live invite answer. None: come in.
TABLE = {
    Standing.STRANGER: ["stranger", "stranger", "no_invite", None],
    Standing.PENDING: ["pending", "pending", "no_invite", None],
    Standing.INTRODUCED: ["introduced", None, "no_invite", None],
    Standing.ALLOWED: [None, None, "no_invite", None],
    Standing.DENIED: ["denied", "denied", "denied", "denied"],
    Standing.SELF: ["self", "self", "self", "self"],
}
ATTEMPTS = [(Door.CONTROL, False), (Door.DATA, False), (Door.JOIN, False), (Door.JOIN, True)]


@pytest.mark.parametrize("caller", Standing)
def test_a_peer_gets_past_the_doors_that_its_standing_opens(caller: Standing) -> None:
    answers = [admit(caller, door, invite_is_live=live) for door, live in ATTEMPTS]
    assert [answer and answer.error for answer in answers] == TABLE[caller]


@pytest.mark.parametrize("caller", Standing)
@pytest.mark.parametrize("door", [Door.CONTROL, Door.DATA])
def test_an_invite_opens_no_link(caller: Standing, door: Door) -> None:
    assert admit(caller, door, invite_is_live=True) == admit(caller, door, invite_is_live=False)


@pytest.mark.parametrize("caller", Standing)
@pytest.mark.parametrize("door", Door)
@pytest.mark.parametrize("live", [False, True])
def test_a_refusal_is_a_word_and_a_sentence(caller: Standing, door: Door, live: bool) -> None:
    refusal = admit(caller, door, invite_is_live=live)
    if refusal is not None:
        assert refusal.error.isidentifier()
        assert refusal.reason.endswith(".")


def test_the_doors_are_the_paths_of_the_requests() -> None:
    assert [door.value for door in Door] == ["/control", "/data", "/join"]
