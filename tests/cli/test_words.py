"""How facts read: sizes, times, tables; and that no text from outside can act on a terminal."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.cli import words
from rnd.rules.peer_id import peer_id_from_key

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_258_291, "1.2 MiB"), (1 << 40, "1.0 TiB"), (None, "-"),
     ((1 << 20) - 1, "1.0 MiB"), (1 << 62, "4096.0 PiB")],
)  # fmt: skip
def test_sizes_are_read_at_a_glance(amount: int | None, text: str) -> None:
    assert words.size(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.04, "0.0s"), (0.6, "0.6s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m 00s"), (185, "3m 05s"),
     (7380, "2h 03m"), (446400, "5d 04h"), (None, "-"), (-3, "0.0s")],
)  # fmt: skip
def test_durations_are_read_at_a_glance(amount: float | None, text: str) -> None:
    assert words.duration(amount) == text


@pytest.mark.parametrize(
    ("back_s", "text"),
    [(0, "now"), (12, "12s ago"), (185, "3m ago"), (7200, "2h ago"), (200_000, "2d ago"), (-2, "now"), (-60, "in 1m")],
)
def test_times_are_said_from_now(back_s: int, text: str) -> None:
    assert words.ago((NOON - timedelta(seconds=back_s)).isoformat(), now=NOON) == text


def test_old_times_are_dates_and_no_times_are_a_dash() -> None:
    assert words.ago("2025-06-15T12:00:00.000Z", now=NOON) == "2025-06-15"
    assert words.ago(None, now=NOON) == "-"
    assert words.took(None, None, now=NOON) == "-"
    assert words.took("2026-01-31T11:59:50.000Z", None, now=NOON) == "10s"


def test_a_table_is_aligned_whatever_its_characters() -> None:
    lines = words.table(("ID", "NAME", "SIZE"), [(1, "plain", "1 B"), (22, "数える", "10.5 MiB"), (3, "e\u0301", "-")])
    assert lines == [
        "ID  NAME        SIZE",
        " 1  plain        1 B",
        "22  数える  10.5 MiB",
        " 3  e\u0301              -",
    ]


def test_the_last_column_is_cut_to_the_terminal_and_says_so() -> None:
    lines = words.table(("ID", "TEXT"), [(1, "x" * 100)], columns=20)
    assert lines[1] == " 1  " + "x" * 15 + "…"


def test_wide_characters_are_not_broken_by_cutting() -> None:
    assert words.clip("数える数える", 6) == "数え…"
    assert words.width(words.clip("数える数える", 6)) <= 6


@given(st.text())
def test_safe_text_is_one_line_without_anything_that_acts(text: str) -> None:
    shown = words.safe(text)
    assert {unicodedata.category(character) for character in shown} <= set_of_harmless()
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 1


@given(st.text())
def test_safe_lines_keep_line_ends_and_tabs_only(text: str) -> None:
    shown = words.safe_lines(text).replace("\n", "").replace("\t", "")
    assert {unicodedata.category(character) for character in shown} <= set_of_harmless()


def set_of_harmless() -> set[str]:
    # All but control characters, surrogates and line separators; of the format characters (Cf) the few harmless stay.
    return {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
            "Sm", "Sc", "Sk", "So", "Zs", "Cf", "Co", "Cn"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202ecba", "abc\\u202ecba"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("Größe 数 👍", "Größe 数 👍"),
    ],
)
def test_what_acts_on_a_terminal_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert words.safe(text) == shown


def test_whole_ids_of_peers_are_cut_in_sentences_and_kept_in_paths() -> None:
    peer_id = peer_id_from_key(bytes(32))
    assert words.brief(f"peer {peer_id}: {peer_id} is away") == f"peer {peer_id[:12]}…: {peer_id[:12]}… is away"
    for other in (f"/workflows/{peer_id}/8", f"x{peer_id}", f"{peer_id}y", peer_id[:-1], peer_id.upper()):
        assert words.brief(other) == other
    assert words.brief("a\nb") == "a\\nb"
