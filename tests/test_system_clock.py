"""The daemon's clock goes on steadily while somebody sets the wall clock, and follows it slowly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rnd.system_clock import SystemClock

YEAR_S = 365 * 86_400.0


class Host:
    """Two clocks of a test: one that runs, and one that is set."""

    def __init__(self) -> None:
        self.steady_s = 100.0
        self.step_s = 1_800_000_000.0

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.steady_s + self.step_s, lambda: self.steady_s)

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.steady_s + self.step_s, UTC)


def test_the_clock_is_the_hosts_while_nobody_sets_that() -> None:
    host = Host()
    clock = host.clock()
    for _ in range(5):
        host.steady_s += 1000.25
        assert abs(clock.now() - host.wall()) < timedelta(milliseconds=1)


@pytest.mark.parametrize("step_s", [7200.0, -7200.0, YEAR_S, -YEAR_S])
def test_a_step_of_the_wall_clock_moves_a_deadline_by_a_hundredth_at_most(step_s: float) -> None:
    host = Host()
    clock = host.clock()
    before = clock.now()
    host.step_s += step_s
    assert clock.now() == before
    host.steady_s += 900.0
    passed_s = (clock.now() - before).total_seconds()
    assert passed_s == pytest.approx(909.0 if step_s > 0 else 891.0)


def test_the_clock_comes_back_to_the_wall_clock_in_the_end() -> None:
    host = Host()
    clock = host.clock()
    host.step_s -= 60.0
    last = clock.now()
    for _ in range(70):
        host.steady_s += 100.0
        now = clock.now()
        assert now > last
        last = now
    assert abs(last - host.wall()) < timedelta(milliseconds=1)


def test_the_clock_of_a_host_is_its_time() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=1)
