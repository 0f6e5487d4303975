"""Whether the other side of a link is still there, judged by what its TCP connection does (docs/wire.md, section 1).

Whatever comes is a sign of life, and so is every byte of ours that the other system takes while more are in its way: on a slow line an
answer stands behind them. Once our ping has got there, only an answer counts: a system takes bytes for a program that hangs.
Without loop or clock; who looks is told what to do.
"""

from __future__ import annotations

from typing import Final

from rnd.p2p.tcp_progress import TcpProgress

PING_AFTER_S: Final = 15.0
"""How long nothing may come before the other side is asked for a sign of life."""
ANSWER_WITHIN_S: Final = 7.5
"""How long that may take from when the question has got there."""
SILENT_AFTER_S: Final = PING_AFTER_S + ANSWER_WITHIN_S
TAKES_NOTHING_S: Final = 60.0
"""How long the other side may let what we send lie, whatever it says itself."""
LOOK_EVERY_S: Final = 1.0
LOOK_IDLE_S: Final = 5.0
"""How often to look where nothing is on its way."""


class SignsOfLife:
    """The signs that the other side has given."""

    def __init__(self, progress: TcpProgress, now_s: float) -> None:
        self._last = progress
        self._came_at_s = self._lived_at_s = self._took_at_s = now_s
        self._until_s = now_s + SILENT_AFTER_S
        self._is_asked = False
        self._has_arrived = False
        self._was_empty = False

    def note(self, progress: TcpProgress, now_s: float) -> None:
        """Take note of a look at the connection."""
        has_come = progress.received > self._last.received
        has_taken = progress.acknowledged > self._last.acknowledged
        is_empty = not progress.queued
        if has_come:
            self._came_at_s = self._lived_at_s = now_s - progress.came_ago_s
            self._until_s = self._came_at_s + SILENT_AFTER_S
            self._is_asked = self._has_arrived = False
        elif has_taken and not is_empty and not self._has_arrived:
            self._lived_at_s = now_s
            self._until_s = now_s + SILENT_AFTER_S
        elif has_taken and not self._has_arrived:
            self._until_s = max(self._until_s, now_s + ANSWER_WITHIN_S)
        # One look is not enough: what this process still has may not have followed yet.
        self._has_arrived |= self._is_asked and is_empty and self._was_empty
        if has_taken or is_empty:
            self._took_at_s = now_s
        self._was_empty = is_empty
        self._last = progress

    def wants_ping(self, now_s: float) -> bool:
        """Say whether the other side is to be asked now; once, until something comes."""
        return not self._is_asked and now_s - self._came_at_s >= PING_AFTER_S

    def note_ping(self) -> None:
        """Take note that it was asked."""
        self._is_asked = True
        self._was_empty = False

    def why_given_up(self, now_s: float) -> str:
        """Return why the other side is not there any more, "" while it is."""
        if now_s >= self._until_s:
            return f"no sign of life for {now_s - self._lived_at_s:.0f} s"
        if now_s - self._took_at_s >= TAKES_NOTHING_S:
            return f"nothing of what is sent was taken for {now_s - self._took_at_s:.0f} s"
        return ""

    def pause_s(self, now_s: float) -> float:
        """Return when to look again."""
        if self._is_asked or self._last.queued:
            return LOOK_EVERY_S
        return min(LOOK_IDLE_S, max(0.0, self._came_at_s + PING_AFTER_S - now_s))
