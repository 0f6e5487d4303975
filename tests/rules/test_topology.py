"""Order, cycles and names."""

from __future__ import annotations

import graphlib
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.topology import find_cycle, job_order, node_name_problem, node_names


def edge(make: Any, number: int, source: int | None, destination: int | None) -> Any:
    return make.connection(number, (source, "STDOUT"), (destination, "STDIN"))


def test_feeders_stand_first_and_choices_go_by_order_then_id(make: Any) -> None:
    nodes = [make.node(3), make.node(1, order=5), make.node(2), make.node(4, order=-1)]
    connections = [edge(make, 1, 3, 2), edge(make, 2, None, 1), edge(make, 3, 1, None), edge(make, 4, 99, 1)]
    assert [node.id for node in job_order(nodes, connections)] == [4, 3, 2, 1]
    assert find_cycle(nodes, connections) is None


def test_a_cycle_is_found_from_its_lowest_node(make: Any) -> None:
    nodes = [make.node(number) for number in (1, 2, 3, 4)]
    connections = [edge(make, 1, 1, 3), edge(make, 2, 3, 4), edge(make, 3, 4, 2), edge(make, 4, 2, 3)]
    assert find_cycle(nodes, connections) == (2, 3, 4, 2)
    with pytest.raises(graphlib.CycleError):
        job_order(nodes, connections)


def test_a_node_that_feeds_itself_is_a_cycle(make: Any) -> None:
    assert find_cycle([make.node(1)], [edge(make, 1, 1, 1)]) == (1, 1)


def test_names_are_the_services_names_unless_two_share_one(make: Any) -> None:
    nodes = [make.node(1, "a"), make.node(2, "b"), make.node(7, "b"), make.node(8, service_name="")]
    assert node_names(nodes) == {1: "a", 2: "b (node 2)", 7: "b (node 7)", 8: "node"}


def test_a_name_that_is_given_is_kept_and_the_service_gives_way(make: Any) -> None:
    nodes = [make.node(1, "a"), make.node(2, "b", own_name="a"), make.node(7, "b", own_name="c"), make.node(8, "b")]
    assert node_names(nodes) == {1: "a (node 1)", 2: "a", 7: "c", 8: "b"}


def test_what_a_node_is_called_is_always_fit_to_be_its_name(make: Any) -> None:
    nodes = [make.node(node_id, "s" * 99 + " long") for node_id in (1, 2**63 - 1)]
    assert [node_name_problem(name) for name in node_names(nodes).values()] == [None, None]


@pytest.mark.parametrize("name", ["a", "n" * 128, "Stationen säubern", "count (node 3)"])
def test_a_name_that_people_can_read_is_fine(name: str) -> None:
    assert node_name_problem(name) is None


@pytest.mark.parametrize("name", ["", " ", "n" * 129, "a\tb", "a\nb", "a\x00", " a", "a ", "a\u202eb", "a\u200bb"])
def test_a_name_that_nobody_could_type_or_see_is_refused(name: str) -> None:
    assert node_name_problem(name)


def test_names_stay_apart_even_from_names_that_look_made(make: Any) -> None:
    nodes = [make.node(1, "b"), make.node(7, "b"), make.node(3, "b (node 7)")]
    assert len(set(node_names(nodes).values())) == 3


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=12))
def test_either_there_is_an_order_or_there_is_a_cycle(make: Any, pairs: list[tuple[int, int]]) -> None:
    nodes = [make.node(number) for number in range(1, 7)]
    connections = [edge(make, number, *pair) for number, pair in enumerate(pairs, 1)]
    circle = find_cycle(nodes, connections)
    if circle is None:
        position: dict[int, int] = {node.id: place for place, node in enumerate(job_order(nodes, connections))}
        assert len(position) == 6
        assert all(position[source] < position[destination] for source, destination in pairs)
    else:
        assert circle[0] == circle[-1]
        assert all(step in pairs for step in itertools.pairwise(circle))
