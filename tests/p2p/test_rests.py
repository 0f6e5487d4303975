"""Deliveries between two attempts: which may go on, when the next one may, and what is said of each."""

from __future__ import annotations

from rnd.p2p.rests import AGAIN_FIRST_S, AGAIN_MOST_S, REASONS_TOLD_MAX, SOON_S, Rest, Rests
from rnd.types.ids import PeerId, TransferId

PEER = PeerId("rnpeer")
ONE, TWO = TransferId("one"), TransferId("two")


def fail(rests: Rests, transfer_id: TransferId, at_s: float, *, bytes_done: int = 0, soon: bool = False) -> Rest:
    rest = rests.note_failure(transfer_id, PEER, bytes_done=bytes_done, has_failed=False)
    rests.begin(rest, is_soon=soon, begun_s=at_s, now_s=at_s)
    return rest


def test_a_pause_that_is_over_is_waited_for_no_more() -> None:
    """Whoever waits for a place, or has ended, is woken by news and not by the clock."""
    rests = Rests()
    fail(rests, ONE, 100.0)
    assert rests.next_over_s(100.0) == 100.0 + AGAIN_FIRST_S
    assert rests.resting(100.0) == {ONE}
    assert rests.next_over_s(101.0) is None
    assert rests.resting(101.0) == set()


def test_pauses_grow_to_their_bound_and_begin_anew_with_bytes() -> None:
    rests, pauses = Rests(), []
    for _ in range(12):
        pauses.append(fail(rests, ONE, 0.0, bytes_done=5).pause_s)
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == AGAIN_MOST_S
    assert fail(rests, ONE, 0.0, bytes_done=6).pause_s == AGAIN_FIRST_S


def test_failures_of_the_receiver_count_until_more_has_come_than_ever() -> None:
    rests = Rests()
    counts = [
        rests.note_failure(ONE, PEER, bytes_done=done, has_failed=True).failures for done in (10, 10, 0, 10, 11, 11)
    ]
    assert counts == [1, 2, 3, 4, 1, 2]


def test_a_link_that_comes_up_ends_the_pauses_for_its_peer() -> None:
    rests = Rests()
    for _ in range(10):
        fail(rests, ONE, 10.0)
    rests.peer_came(PEER, 11.0)
    assert rests.resting(11.0) == set()
    rest = rests.note_failure(ONE, PEER, bytes_done=0, has_failed=False)
    rests.begin(rest, is_soon=False, begun_s=10.5, now_s=12.0)
    assert rest.until_s == 12.0 + SOON_S


def test_a_receiver_that_is_only_not_ready_is_asked_soon() -> None:
    rests = Rests()
    for _ in range(10):
        rest = fail(rests, ONE, 0.0, soon=True)
    assert rest.pause_s == SOON_S


def test_what_has_ended_is_forgotten() -> None:
    rests = Rests()
    fail(rests, ONE, 0.0)
    fail(rests, TWO, 0.0)
    rests.forget(ONE)
    rests.forget(TransferId("never heard of"))
    assert ONE not in rests
    assert rests.resting(0.0) == {TWO}


def test_each_reason_is_news_once_whatever_its_numbers_and_only_so_many_are() -> None:
    rest = Rest(peer_id=PEER)
    assert rest.is_news("it has 1,234.5 bytes free")
    assert not rest.is_news("it has 99 bytes free")
    assert sum(rest.is_news("so" * count) for count in range(1, 100)) == REASONS_TOLD_MAX - 1
