"""A link is given up when nothing shows that the other side lives, and never while its bytes move."""

from __future__ import annotations

from rnd.p2p.signs_of_life import LOOK_EVERY_S, PING_AFTER_S, SILENT_AFTER_S, TAKES_NOTHING_S, SignsOfLife
from rnd.p2p.tcp_progress import TcpProgress

PING_BYTES = 24


class Connection:
    """What the system says of a connection, whose other end a test plays; it is looked at every second."""

    def __init__(self) -> None:
        self.received = self.acknowledged = self.queued = 0
        self.now_s = 1_000.0
        self._came_at_s = self.now_s
        self.pings = 0
        self.signs = SignsOfLife(self._progress(), self.now_s)

    def come(self, count: int = 1) -> None:
        self.received += count
        self._came_at_s = self.now_s

    def send(self, count: int) -> None:
        self.queued += count

    def take(self, count: int) -> None:
        taken = min(count, self.queued)
        self.queued -= taken
        self.acknowledged += taken

    def look(self) -> str:
        """Let a second pass and return why the link is given up, if it is."""
        self.now_s += LOOK_EVERY_S
        self.signs.note(self._progress(), self.now_s)
        why = self.signs.why_given_up(self.now_s)
        if not why and self.signs.wants_ping(self.now_s):
            self.pings += 1
            self.queued += PING_BYTES
            self.signs.note_ping()
        return why

    def _progress(self) -> TcpProgress:
        return TcpProgress(self.received, self.now_s - self._came_at_s, self.acknowledged, self.queued, 0)


def seconds_until_given_up(connection: Connection, *, at_most: int = 1_000) -> tuple[int, str]:
    for second in range(1, at_most + 1):
        why = connection.look()
        if why:
            return second, why
    raise AssertionError(f"it was not given up for {at_most} s")


def test_a_peer_that_has_vanished_is_asked_once_and_given_up_when_nothing_was_queued() -> None:
    connection = Connection()
    second, why = seconds_until_given_up(connection)
    assert second == 23
    assert why == "no sign of life for 23 s"
    assert connection.pings == 1


def test_a_peer_that_has_vanished_is_given_up_as_soon_while_bytes_are_queued() -> None:
    connection = Connection()
    connection.send(1 << 20)
    for _ in range(100):
        connection.take(1_000)
        assert not connection.look()
    assert seconds_until_given_up(connection) == (SILENT_AFTER_S + 0.5, "no sign of life for 23 s")


def test_a_peer_whose_system_takes_bytes_lives_however_long_the_ping_stands_behind_them() -> None:
    connection = Connection()
    connection.send(8 << 20)
    for _ in range(8_000):
        connection.take(1_000)
        assert not connection.look()
    assert connection.pings == 1


def test_an_answer_may_take_its_time_from_when_the_ping_has_got_there() -> None:
    connection = Connection()
    connection.send(100_000)
    for _ in range(100):
        connection.take(1_000)
        assert not connection.look()
    connection.take(PING_BYTES)
    for _ in range(6):
        assert not connection.look()
    connection.come()
    for _ in range(int(PING_AFTER_S)):
        assert not connection.look()


def test_a_program_that_hangs_is_given_up_although_its_system_takes_the_ping() -> None:
    connection = Connection()
    for _ in range(int(PING_AFTER_S)):
        assert not connection.look()
    connection.take(PING_BYTES)
    second, _ = seconds_until_given_up(connection)
    assert second + PING_AFTER_S <= SILENT_AFTER_S + LOOK_EVERY_S + 0.5


def test_a_program_that_hangs_is_given_up_although_its_system_takes_a_trickle_as_well() -> None:
    connection = Connection()
    for second in range(40):
        connection.send(100)
        connection.take(1_000)
        if connection.look():
            assert second <= SILENT_AFTER_S + 3 * LOOK_EVERY_S
            return
    raise AssertionError("it was not given up")


def test_a_peer_that_speaks_now_and_then_is_never_asked() -> None:
    connection = Connection()
    for second in range(200):
        if second % 10 == 0:
            connection.come()
        assert not connection.look()
    assert not connection.pings


def test_a_peer_that_talks_and_takes_nothing_is_given_up() -> None:
    connection = Connection()
    connection.send(1)
    for second in range(200):
        connection.come()
        why = connection.look()
        if why:
            assert second + 1 == TAKES_NOTHING_S
            assert why == "nothing of what is sent was taken for 60 s"
            return
    raise AssertionError("it was not given up")


def test_what_came_while_this_process_was_busy_counts_from_when_it_came() -> None:
    connection = Connection()
    connection.come()
    connection.now_s += 20
    assert not connection.look()
    second, _ = seconds_until_given_up(connection)
    assert second <= SILENT_AFTER_S - 20
