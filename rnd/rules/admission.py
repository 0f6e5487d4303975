"""Who gets past the door: the answer to a connection attempt before any upgrade (docs/wire.md, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from rnd.rules.policy import Standing

NO_INVITE: Final = "no_invite"


class Door(StrEnum):
    """What a peer may ask for on the one port."""

    CONTROL = "/control"
    DATA = "/data"
    JOIN = "/join"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the body of a 403 says: a word for programs and a sentence for people."""

    error: str
    reason: str


_REASONS: Final = {
    Standing.STRANGER: "This peer does not know yours.",
    Standing.PENDING: "The owner of this peer has not allowed yours yet.",
    Standing.DENIED: "The owner of this peer denies yours.",
    Standing.INTRODUCED: "Your peer is here for the transfers of a job and may only ask for /data.",
    Standing.SELF: "This is your own peer.",
}


def admit(caller: Standing, door: Door, *, invite_is_live: bool) -> Refusal | None:
    """Return `None` if a peer gets past a door, else why not.

    `invite_is_live` is said of this very peer: a used invite is live only for the one that has used it. Denied peers get
    past no door, and nobody links to itself.
    """
    if caller is Standing.DENIED or caller is Standing.SELF:
        return _refused(caller)
    match door:
        case Door.CONTROL:
            return None if caller is Standing.ALLOWED else _refused(caller)
        case Door.DATA:
            return None if caller in {Standing.ALLOWED, Standing.INTRODUCED} else _refused(caller)
        case Door.JOIN:
            return None if invite_is_live else Refusal(error=NO_INVITE, reason="No invite is open for your peer here.")
        case _:
            assert_never(door)


def _refused(caller: Standing) -> Refusal:
    return Refusal(error=caller.value, reason=_REASONS[caller])
