"""Where deliveries have arrived: listed for the same sender and orderer only, the newest first, and forgotten in time."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

import pytest

from rnd.database import arrived_folders
from rnd.database.arrived_folders import KEPT_FOR, OF_TWO_MAX
from rnd.types.ids import PeerId

SENDER, ORDERER, OTHER = PeerId("rnsender"), PeerId("rnorderer"), PeerId("rnother")
INSTANT = timedelta(milliseconds=1)


def remember(
    conn: sqlite3.Connection, folder: str, now: datetime, *, sender: PeerId = SENDER, orderer: PeerId = ORDERER
) -> None:
    arrived_folders.remember(conn, folder, sender=sender, orderer=orderer, entry_count=len(folder), now=now)


def listed(conn: sqlite3.Connection, *, sender: PeerId = SENDER, orderer: PeerId = ORDERER) -> list[str]:
    known = [each.folder for each in arrived_folders.list_folders(conn, sender=sender, orderer=orderer)]
    assert arrived_folders.knows_any(conn, sender=sender, orderer=orderer) == bool(known)
    return known


def test_the_newest_comes_first(conn: sqlite3.Connection, now: datetime) -> None:
    for folder in ("first", "second", "a"):
        remember(conn, folder, now)
    assert listed(conn) == ["a", "second", "first"]
    assert [each.entry_count for each in arrived_folders.list_folders(conn, sender=SENDER, orderer=ORDERER)] == [
        1,
        6,
        5,
    ]


def test_all_are_listed_whosever_they_are(conn: sqlite3.Connection, now: datetime) -> None:
    remember(conn, "mine", now)
    remember(conn, "theirs", now, sender=OTHER, orderer=SENDER)
    assert arrived_folders.list_all(conn) == ["theirs", "mine"]


@pytest.mark.parametrize(("sender", "orderer"), [(OTHER, ORDERER), (SENDER, OTHER), (ORDERER, SENDER)])
def test_what_came_from_another_sender_or_for_another_orderer_is_not_listed(
    conn: sqlite3.Connection, now: datetime, sender: PeerId, orderer: PeerId
) -> None:
    remember(conn, "theirs", now)
    assert listed(conn, sender=sender, orderer=orderer) == []
    remember(conn, "mine", now, sender=sender, orderer=orderer)
    assert listed(conn, sender=sender, orderer=orderer) == ["mine"]
    assert listed(conn) == ["theirs"]


def test_what_came_long_ago_is_forgotten_whosever_it_is(conn: sqlite3.Connection, now: datetime) -> None:
    remember(conn, "old", now - KEPT_FOR - INSTANT)
    remember(conn, "young", now - KEPT_FOR)
    remember(conn, "other", now, sender=OTHER)
    assert listed(conn) == ["young"]


def test_so_many_of_two_peers_are_remembered_and_one_more_takes_the_place_of_the_oldest(
    conn: sqlite3.Connection, now: datetime
) -> None:
    remember(conn, "other", now, sender=OTHER)
    for number in range(OF_TWO_MAX):
        remember(conn, str(number), now)
    assert listed(conn)[-1] == "0"
    remember(conn, "more", now)
    assert listed(conn) == ["more", *map(str, range(OF_TWO_MAX - 1, 0, -1))]
    assert listed(conn, sender=OTHER) == ["other"]


def test_what_is_gone_is_struck_out(conn: sqlite3.Connection, now: datetime) -> None:
    for folder in ("a", "b", "c"):
        remember(conn, folder, now)
    ids = [each.id for each in arrived_folders.list_folders(conn, sender=SENDER, orderer=ORDERER)]
    arrived_folders.forget(conn, [ids[0], ids[2], 404])
    assert listed(conn) == ["b"]
