"""Frames are as long as leaves within a moment: shorter on a slow line, and longer again where it is quick."""

from __future__ import annotations

import asyncio
import socket

from rnd.p2p.outflow import FIRST_BYTES, FRAMES_AHEAD, LONGEST_BYTES, SHORTEST_BYTES, Outflow
from rnd.p2p.tcp_progress import TcpProgress, look_at

TICK_S = 0.05
ANSWERED_WITHIN_S = 10.0


def progress(left: int, unsent: int) -> TcpProgress:
    return TcpProgress(received=0, came_ago_s=0.0, acknowledged=left, queued=unsent, unsent=unsent)


class Line:
    """A line of a rate; frames are given to it whenever there is room for one. It adds a thousandth, as headers do."""

    def __init__(self, rate_bytes_s: float) -> None:
        self.rate_bytes_s = rate_bytes_s
        self.outflow = Outflow(progress(0, 0))
        self.now_s = self.left = self.given = 0.0
        self.most_waiting = 0.0

    def run(self, seconds: float, *, longest: int = LONGEST_BYTES) -> None:
        until_s = self.now_s + seconds
        self.most_waiting = 0.0
        while self.now_s < until_s:
            while self.outflow.has_room:
                length = min(longest, self.outflow.frame_bytes)
                self.outflow.give(length, self.now_s)
                self.given += length * 1.001
                self._note()
            self.most_waiting = max(self.most_waiting, self.given - self.left)
            self.now_s += TICK_S
            self.left = min(self.given, self.left + TICK_S * self.rate_bytes_s)
            self._note()

    def _note(self) -> None:
        self.outflow.note(progress(int(self.left), int(self.given - self.left)), self.now_s)


def test_frames_become_short_on_a_slow_line_and_little_waits_on_it() -> None:
    line = Line(32_000)
    line.run(10)
    assert line.outflow.frame_bytes == SHORTEST_BYTES
    line.run(60)
    assert line.outflow.frame_bytes == SHORTEST_BYTES
    assert line.most_waiting / line.rate_bytes_s < 2.0
    assert line.left > 0.98 * line.rate_bytes_s * line.now_s


def test_frames_become_long_on_a_quick_line() -> None:
    line = Line(100e6)
    line.run(3)
    assert line.outflow.frame_bytes == LONGEST_BYTES
    assert line.left > 0.9 * line.rate_bytes_s * line.now_s


def test_frames_that_are_short_by_configuration_stay_so_and_fill_the_line_all_the_same() -> None:
    line = Line(100e6)
    line.run(3, longest=4_096)
    assert line.outflow.frame_bytes == FIRST_BYTES
    assert line.most_waiting >= FRAMES_AHEAD * FIRST_BYTES


def test_frames_with_their_headers_do_not_grow_beyond_twice_what_the_configuration_says() -> None:
    line = Line(100e6)
    line.run(3, longest=(1 << 20) + 16)
    assert line.outflow.frame_bytes == 2 << 20


def test_frames_become_short_when_the_line_does_and_long_again_with_it() -> None:
    line = Line(20e6)
    line.run(5)
    assert line.outflow.frame_bytes >= 2 << 20
    line.rate_bytes_s = 125_000
    line.run(120)
    assert line.outflow.frame_bytes <= FIRST_BYTES
    assert line.most_waiting / 20e6 < 1
    line.run(10)
    assert line.most_waiting / line.rate_bytes_s < 2.5
    line.rate_bytes_s = 20e6
    line.run(5)
    assert line.outflow.frame_bytes >= 2 << 20


def test_frames_between_which_nobody_looked_do_not_count_as_slow() -> None:
    outflow = Outflow(progress(0, 0))
    outflow.give(1_000, 0.0)
    outflow.note(progress(1_030, 0), 600.0)
    assert outflow.frame_bytes == FIRST_BYTES
    assert outflow.items_left == 1


def test_the_system_tells_what_has_come_what_was_taken_and_what_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        with other:
            one.setblocking(False)
            before, other_before = look_at(one), look_at(other)
            sent = 0
            try:
                while True:
                    sent += one.send(bytes(1 << 16))
            except BlockingIOError:
                pass
            after = asyncio.run(_settled(one))
            assert after.acknowledged + after.queued - before.acknowledged - before.queued == sent
            assert 0 < after.unsent <= after.queued
            assert look_at(other).received - other_before.received == after.left - before.left
            assert look_at(other).came_ago_s < ANSWERED_WITHIN_S


async def _settled(sock: socket.socket) -> TcpProgress:
    """Return what is known of a connection once nothing moves on it."""
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        before = look_at(sock)
        while True:
            await asyncio.sleep(0.1)
            now = look_at(sock)
            if now.left == before.left and now.acknowledged == now.left:
                return now
            before = now
