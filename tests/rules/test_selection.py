"""What travels, under which names, and how providers share a folder."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.selection import SelectionError, carried_origins, deliveries, merge_providers, name_clash
from rnd.types.enums import InterfaceType, ServiceType
from rnd.types.executions import FileEntry


def entry(path: str) -> FileEntry:
    return FileEntry(relative_path=path, size_bytes=1, sha256="" if path.endswith("/") else "00")


def entries(*paths: str) -> list[FileEntry]:
    return [entry(path) for path in paths]


@pytest.mark.parametrize(
    ("kind", "values", "origins"),
    [
        ("STDOUT", {}, ("stdout", "output")),
        ("STDOUT", {"mounts": ["/data"]}, ("stdout", "output")),
        ("STDOUT", {"mounts": ["/output/"]}, ("stdout",)),
        ("STDOUT", {"peer_interface_type": "STDIN"}, ("stdout",)),
        ("STDOUT", {"destination_file_name": "x.txt"}, ("stdout",)),
        ("STDOUT", {"destination_file_name": "x/"}, ("stdout",)),
        ("STDOUT", {"destination_file_name": "x.txt", "include": ["*.csv"]}, ("stdout", "output")),
        ("STDOUT", {"peer_interface_type": "STDIN", "include": ["*.csv"]}, ("stdout", "output")),
        ("STDOUT", {"include": ["*.csv"], "mounts": ["/output"]}, ("stdout",)),
        ("STDOUT", {"service_type": "DATA"}, ("output",)),
        ("STDOUT", {"service_type": "DATA", "peer_interface_type": "STDIN"}, ("output",)),
        ("STDERR", {}, ("stderr",)),
        ("LOGS", {"include": ["*"]}, ("logs",)),
        ("MOUNT", {"interface_path": "/data/"}, ("mount:/data",)),
        ("MOUNT", {"interface_path": "/output", "peer_interface_type": "STDIN"}, ("mount:/output",)),
    ],
)
def test_what_a_connection_carries_is_declared(kind: str, values: Any, origins: tuple[str, ...]) -> None:
    assert carried(kind, **values) == origins


def carried(kind: str, **values: Any) -> tuple[str, ...]:
    return carried_origins(
        service_type=ServiceType(values.get("service_type", "DOCKER")),
        interface_type=InterfaceType(kind),
        interface_path=values.get("interface_path", ""),
        mounts=values.get("mounts", []),
        peer_interface_type=InterfaceType(values.get("peer_interface_type", "MOUNT")),
        destination_file_name=values.get("destination_file_name"),
        include=values.get("include", []),
    )


def test_stdin_carries_nothing_away() -> None:
    with pytest.raises(ValueError, match="STDIN"):
        carried("STDIN")


@pytest.mark.parametrize(
    ("paths", "include", "name", "expected"),
    [
        (["a", "d/b"], [], None, ["a", "d/b"]),
        (["a", "d/b", "e/"], [], "in/", ["in/a", "in/d/b", "in/e/"]),
        (["a.csv", "b.txt"], ["*.csv"], None, ["a.csv"]),
        (["a.csv", "b.txt"], ["*.csv"], "x.csv", ["x.csv"]),
        (["a", "empty/"], [], "x", ["x"]),
        (["d/a"], [], "x", ["x"]),
        ([], [], None, []),
        ([], [], "in/", []),
        (["a"], [], "", ["a"]),
    ],
)
def test_names_at_the_destination(paths: list[str], include: list[str], name: str | None, expected: list[str]) -> None:
    found = deliveries(entries(*paths), include, name)
    assert [target for _, target in found] == expected
    assert all(chosen in entries(*paths) for chosen, _ in found)


@pytest.mark.parametrize(
    ("paths", "include", "name", "words"),
    [
        (["a", "b", "c", "d"], ["*.csv"], None, "no file matches '*.csv'; there are 4 (a, b, c, ...)"),
        ([], ["*.csv", "x/"], None, "no file matches '*.csv' or 'x/'; there are none"),
        (["a"], ["b"], None, "no file matches 'b'; there is 1 (a)"),
        (["a", "b"], [], "x", "the name 'x' needs exactly one file, but there are 2 (a, b)"),
        ([], [], "x", "the name 'x' needs exactly one file, but there are none"),
        (["e/"], [], "x", "the name 'x' needs exactly one file, but there are none"),
        (["stdout.txt", "stdout.txt"], [], None, "two entries would both be called 'stdout.txt' at the destination"),
        (["a", "a/b"], [], "in/", "two entries would both be called 'in/a' at the destination"),
    ],
)
def test_what_cannot_be_delivered_says_why(paths: list[str], include: list[str], name: str | None, words: str) -> None:
    with pytest.raises(SelectionError) as caught:
        deliveries(entries(*paths), include, name)
    assert str(caught.value) == words


def test_providers_stand_side_by_side() -> None:
    one, two = entries("a", "d/x", "e/"), entries("b", "d/y", "e/", "d/")
    merged = merge_providers([("A", one), ("B", two)])
    assert [(index, found.relative_path) for index, found in merged] == [
        (0, "a"), (0, "d/x"), (0, "e/"), (1, "b"), (1, "d/y"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "two", "shared"),
    [
        (["a"], ["a"], "a"),
        (["d/a"], ["b", "d/a"], "d/a"),
        (["a"], ["a/b"], "a/b"),
        (["a/b"], ["a"], "a"),
        (["a/"], ["a"], "a"),
        (["a"], ["a/"], "a"),
        (["a/b"], ["a/b/c/d"], "a/b/c/d"),
    ],
)
def test_a_name_that_two_providers_share_names_both(one: list[str], two: list[str], shared: str) -> None:
    with pytest.raises(SelectionError, match=f"A and B both provide '{shared}'"):
        merge_providers([("A", entries(*one)), ("B", entries(*two))])


def test_the_provider_that_is_in_the_way_is_named_among_many() -> None:
    with pytest.raises(SelectionError, match="B and C both provide 'x/y'"):
        merge_providers([("A", entries("a")), ("B", entries("x")), ("C", entries("x/y"))])


PATHS = st.lists(st.sampled_from(["a", "b", "a/b", "a/", "a/b/", "b/c", "a/b/c"]), max_size=5)


@given(PATHS)
def test_a_clash_is_what_a_file_system_could_not_hold(paths: list[str]) -> None:
    held: dict[str, str] = {}
    fits = True
    for path in paths:
        parts = path.rstrip("/").split("/")
        for count in range(1, len(parts)):
            fits &= held.setdefault("/".join(parts[:count]), "folder") == "folder"
        kind = "folder" if path.endswith("/") else "file"
        name = path.rstrip("/")
        fits &= name not in held if kind == "file" else held.get(name, "folder") == "folder"
        held.setdefault(name, kind)
    assert (name_clash(paths) is None) is fits


@given(PATHS, PATHS)
def test_merging_succeeds_exactly_where_all_fit_side_by_side(one: list[str], two: list[str]) -> None:
    try:
        merge_providers([("A", entries(*one)), ("B", entries(*two))])
        merged = True
    except SelectionError:
        merged = False
    assert merged is (name_clash([*one, *two]) is None)
