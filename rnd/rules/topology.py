"""The graph of a workflow: in which order jobs stand, where a cycle is, and what each node is called by people."""

from __future__ import annotations

import graphlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rnd.rules.reading import is_visible
from rnd.types.ids import NodeId
from rnd.types.workflows import WorkflowConnection, WorkflowNode

NODE_NAME_CHARACTERS_MAX: Final = 128
# Leaves room for ` (node 9223372036854775807)`, so that what a node is called is always fit to be its name.
_SERVICE_NAME_CHARACTERS: Final = 100


def job_order(nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection]) -> tuple[WorkflowNode, ...]:
    """Return the nodes so that none stands before one that feeds it; where there is a choice, by `order`, then by id.

    Raises `graphlib.CycleError` where that cannot be.
    """
    by_id = {node.id: node for node in nodes}
    sorter = _sorter(nodes, connections)
    sorter.prepare()
    waiting: list[tuple[int, NodeId]] = []
    ordered: list[WorkflowNode] = []
    while sorter.is_active():
        for node_id in sorter.get_ready():
            heapq.heappush(waiting, (by_id[node_id].order, node_id))
        _, first = heapq.heappop(waiting)
        ordered.append(by_id[first])
        sorter.done(first)
    return tuple(ordered)


def find_cycle(nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection]) -> tuple[NodeId, ...] | None:
    """Return one cycle along the connections, its lowest node first and again last, or `None`."""
    try:
        _sorter(nodes, connections).prepare()
    except graphlib.CycleError as error:
        circle: list[NodeId] = error.args[1][:-1]
        start = circle.index(min(circle))
        return (*circle[start:], *circle[:start], circle[start])
    return None


def node_name_problem(name: str) -> str | None:
    """Return why people cannot call a node so, or `None`."""
    if not name.strip():
        return "must not be empty"
    if len(name) > NODE_NAME_CHARACTERS_MAX:
        return f"must have at most {NODE_NAME_CHARACTERS_MAX} characters"
    if not is_visible(name):
        return "must not hold control or invisible characters"
    if name != name.strip():
        return "must not begin or end with a blank"
    return None


def node_names(nodes: Sequence[WorkflowNode]) -> Mapping[NodeId, str]:
    """Return a name for each node that no other node has: its own, which stays as it is given, else its service's.

    Where a service's name is taken, `(node 7)` is added.
    """
    own = {node.id for node in nodes if node.name}
    names = {node.id: node.name or node.service_name[:_SERVICE_NAME_CHARACTERS].rstrip() or "node" for node in nodes}
    while True:
        counts = Counter(names.values())
        shared = [node_id for node_id, name in names.items() if counts[name] > 1 and node_id not in own]
        if not shared:
            return names
        for node_id in shared:
            names[node_id] = f"{names[node_id]} (node {node_id})"


def _sorter(
    nodes: Sequence[WorkflowNode], connections: Sequence[WorkflowConnection]
) -> graphlib.TopologicalSorter[NodeId]:
    """Return the graph of all connections between nodes that exist; the self-peer is no node of it."""
    sorter: graphlib.TopologicalSorter[NodeId] = graphlib.TopologicalSorter({node.id: () for node in nodes})
    known = {node.id for node in nodes}
    for connection in connections:
        source, destination = connection.from_node_id, connection.to_node_id
        if source is not None and destination is not None and source in known and destination in known:
            sorter.add(destination, source)
    return sorter
