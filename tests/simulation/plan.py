"""What a seed decides before anything runs: peers, services, workflows, and who does what when.

Everything here is drawn from one `random.Random(seed)`, in one order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from rnd.types.enums import InterfaceType
from tests.simulation.programs import Program

FAULTS_UNTIL_S: Final = 45.0
"""By then everything that was to go wrong has, and is mended again."""
HOME: Final = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A DATA service: relative paths and sizes. `listed` are the peers that may get it, `None`: any."""

    name: str
    peer: int
    files: tuple[tuple[str, int], ...]
    listed: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A connection; nodes by their place, `HOME` for the self-peer."""

    start: int | None
    end: int | None
    from_type: InterfaceType
    to_type: InterfaceType
    file_name: str | None = None
    host_file: tuple[str, int] | None = None
    """What the self-peer sends: a name and a size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A workflow: which service each node is, in order, and the connections."""

    name: str
    owner: int
    nodes: tuple[Program | Data, ...]
    edges: tuple[Edge, ...]

    def peers(self) -> set[int]:
        """Return whose services take part."""
        return {node.peer for node in self.nodes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that an owner does: `execute`, `cancel` the newest execution of it, or `retry` that."""

    at_s: float
    what: str
    drawing: int


@dataclass(slots=True, kw_only=True)
class Plan:
    """Everything that is decided beforehand but the faults."""

    peers: int
    job_slots: tuple[int, ...]
    programs: dict[str, Program] = field(default_factory=dict)
    data: dict[str, Data] = field(default_factory=dict)
    drawings: list[Drawing] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    acquainted: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of peers that allow each other."""
    granted: list[tuple[int, str]] = field(default_factory=list)
    """Which peer may order which service that asks for a grant."""


def draw_plan(rng: random.Random) -> Plan:
    """Decide everything but the faults."""
    count = rng.choice((2, 2, 3, 3, 3, 4, 5))
    plan = Plan(peers=count, job_slots=tuple(rng.choice((1, 2, 4)) for _ in range(count)))
    for peer in range(count):
        for number in range(rng.randint(1, 2)):
            _add_data(plan, rng, peer, number)
        for number in range(rng.randint(1, 3)):
            _add_program(plan, rng, peer, number)
    for number in range(rng.choice((1, 1, 2, 2, 3))):
        plan.drawings.append(_draw(plan, rng, number))
    _draw_acts(plan, rng)
    _draw_acquaintances(plan, rng)
    return plan


def _add_data(plan: Plan, rng: random.Random, peer: int, number: int) -> None:
    name = f"data-{peer}-{number}"
    paths = rng.sample(("a.bin", "b.bin", "deep/c.bin", "deep/er/d.txt"), rng.choice((1, 1, 2, 3)))
    files = tuple((path, rng.choice((0, 17, 1000, 40_000, 150_000))) for path in sorted(paths))
    listed = None
    if rng.random() < 0.1:
        listed = tuple(sorted(rng.sample(range(plan.peers), rng.randint(1, plan.peers))))
    plan.data[name] = Data(name=name, peer=peer, files=files, listed=listed)


def _add_program(plan: Plan, rng: random.Random, peer: int, number: int) -> None:
    name = f"prog-{peer}-{number}"
    attempts = rng.choice((1, 1, 1, 2, 3))
    codes = rng.choices(((0,), (1, 0), (1, 1, 0), (1,)), weights=(88, 6, 3, 3))[0]
    durations = tuple(
        rng.choices((rng.uniform(0.01, 0.3), rng.uniform(0.3, 12.0), rng.uniform(30.0, 60.0)), weights=(5, 4, 1))[0]
        for _ in range(3)
    )
    paths = rng.sample(("x.out", "y.out", "sub/z.out"), rng.choice((0, 1, 1, 2, 3)))
    plan.programs[name] = Program(
        name=name,
        peer=peer,
        durations_s=durations,
        exit_codes=codes,
        stdout_bytes=rng.choice((0, 20, 3000, 70_000)),
        tree=tuple((path, rng.choice((1, 500, 30_000, 90_000))) for path in sorted(paths)),
        attempts=attempts,
        needs_grant=rng.random() < 0.08,
    )


def _draw(plan: Plan, rng: random.Random, number: int) -> Drawing:
    owner = rng.randrange(plan.peers)
    sources: list[Program | Data] = rng.choices(list(plan.data.values()), k=rng.randint(0, 2))
    programs: list[Program | Data] = rng.choices(list(plan.programs.values()), k=rng.randint(1, 5))
    nodes = (*sources, *programs)
    edges: list[Edge] = []
    for at, node in enumerate(nodes):
        if isinstance(node, Data):
            continue
        before = rng.sample(range(at), min(at, rng.choice((0, 1, 1, 1, 2, 3))))
        edges += [_edge(plan, rng, nodes, start, at, len(edges) + i) for i, start in enumerate(sorted(before))]
        if rng.random() < 0.15:
            edges.append(_from_home(rng, number, at, len(edges)))
    used = {edge.start for edge in edges}
    for at in range(len(nodes)):
        if at not in used or rng.random() < 0.3:
            edges.append(_edge(plan, rng, nodes, at, HOME, len(edges)))
    return Drawing(name=f"flow-{number}", owner=owner, nodes=nodes, edges=tuple(edges))


def _edge(
    plan: Plan, rng: random.Random, nodes: tuple[Program | Data, ...], start: int, end: int | None, number: int
) -> Edge:
    node = nodes[start]
    to_type = rng.choice((InterfaceType.STDIN, InterfaceType.MOUNT))
    if isinstance(node, Data):
        from_type = InterfaceType.STDOUT
        if len(node.files) > 1 and end is not HOME:
            to_type = InterfaceType.MOUNT  # several files have no order that standard input could go by
        is_tree = len(node.files) > 1
    else:
        is_tree = rng.random() < 0.4 and bool(node.tree)
        from_type = InterfaceType.MOUNT if is_tree else InterfaceType.STDOUT
        if is_tree:
            to_type = InterfaceType.MOUNT
    if end is HOME:
        to_type = InterfaceType.MOUNT  # the self-peer is a plain folder
    name = f"t{number}/" if is_tree else f"c{number}.bin"
    return Edge(
        start=start,
        end=end,
        from_type=from_type,
        to_type=to_type,
        file_name=None if to_type is InterfaceType.STDIN else name,
    )


def _from_home(rng: random.Random, drawing: int, end: int, number: int) -> Edge:
    to_type = rng.choice((InterfaceType.STDIN, InterfaceType.MOUNT))
    return Edge(
        start=HOME,
        end=end,
        from_type=InterfaceType.STDOUT,
        to_type=to_type,
        file_name=None if to_type is InterfaceType.STDIN else f"h{number}.bin",
        host_file=(f"host-{drawing}-{number}.bin", rng.choice((5, 2000, 60_000))),
    )


def _draw_acts(plan: Plan, rng: random.Random) -> None:
    for number in range(len(plan.drawings)):
        for _ in range(rng.choice((1, 1, 1, 2))):
            at_s = rng.uniform(0.0, 0.6 * FAULTS_UNTIL_S)
            plan.acts.append(Act(at_s=at_s, what="execute", drawing=number))
            if rng.random() < 0.25:
                plan.acts.append(Act(at_s=at_s + rng.choice((0.02, 1.0, 20.0)), what="cancel", drawing=number))
            if rng.random() < 0.3:
                plan.acts.append(Act(at_s=at_s + rng.uniform(5.0, 40.0), what="retry", drawing=number))
    plan.acts.sort(key=lambda act: act.at_s)


def _draw_acquaintances(plan: Plan, rng: random.Random) -> None:
    """Owners of workflows know whom they order from; of the others some know each other, and some are introduced."""
    needed = {
        (min(drawing.owner, peer), max(drawing.owner, peer))
        for drawing in plan.drawings
        for peer in drawing.peers() - {drawing.owner}
    }
    for one in range(plan.peers):
        for other in range(one + 1, plan.peers):
            if (one, other) in needed or rng.random() < 0.4:
                plan.acquainted.append((one, other))
    for drawing in plan.drawings:
        for node in drawing.nodes:
            if isinstance(node, Program) and node.needs_grant and rng.random() < 0.6:
                plan.granted.append((drawing.owner, node.name))
