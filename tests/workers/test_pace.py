"""How fast a delivery goes, from notes of how much is done."""

from __future__ import annotations

from rnd.workers.pace import LATELY_S, Pace


def test_what_was_there_before_is_not_counted_as_moved() -> None:
    pace = Pace(900, 10.0)
    assert pace.note(1_000, 12.0) == 50.0
    assert pace.mean(1_100, 14.0) == 50.0


def test_only_what_has_moved_of_late_counts() -> None:
    pace = Pace(0, 0.0)
    for second in range(1, 11):
        pace.note(1_000 * second, float(second))
    stands = [pace.note(10_000, 10.0 + second) for second in range(1, 12)]
    assert stands == sorted(stands, reverse=True)
    assert stands[int(LATELY_S)] == 0.0


def test_no_time_and_no_bytes_give_no_rate() -> None:
    pace = Pace(5, 1.0)
    assert pace.note(9, 1.0) == 0.0
    assert pace.mean(9, 1.0) is None
    assert pace.note(3, 2.0) == 0.0
