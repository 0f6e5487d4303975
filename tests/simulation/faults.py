"""What goes wrong in a simulated world, and when; all of it is drawn from the seed, and mended again in time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simulation.plan import FAULTS_UNTIL_S, Plan

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mishap. `lasts_s` is after how long it is mended; `number` is what its kind takes it for."""

    kind: str
    at_s: float
    peer: int
    other: int
    lasts_s: float
    number: int


Inflict = Callable[["World", Fault], bool]
"""Has a fault happen; says whether it did, since there may be nothing that it could befall, or it comes later."""

BEFORE_A_COMMIT: Final = "death before a commit"
AFTER_A_COMMIT: Final = "death after a commit"


def draw_faults(rng: random.Random, plan: Plan) -> list[Fault]:
    """Decide what goes wrong: in some worlds nothing, in some a lot."""
    faults: list[Fault] = []
    for _ in range(rng.choice((0, 1, 2, 3, 3, 4, 6, 8))):
        begun_s = rng.choice(plan.acts).at_s  # most of what can be harmed happens soon after somebody does something
        after_s = rng.choice((rng.uniform(0.0, 0.1), rng.uniform(0.0, 1.0), rng.uniform(0.0, 15.0)))
        at_s = min(begun_s + after_s, 0.9 * FAULTS_UNTIL_S)
        peer, other = rng.sample(range(plan.peers), 2)
        faults.append(
            Fault(
                kind=rng.choice(list(KINDS)),
                at_s=at_s,
                peer=peer,
                other=other,
                lasts_s=rng.choice((0.01, 0.5, 3.0, rng.uniform(0.0, 40.0))),
                number=rng.choice((1, 2, 3, 5, 8, rng.randint(1, 40))),
            )
        )
    return sorted(faults, key=lambda fault: fault.at_s)


def _die_at_commit(world: World, fault: Fault, *, durable: bool) -> bool:
    machine = world.machines[fault.peer]
    if machine.daemon is None:
        return False
    machine.daemon.database.dies_in = fault.number
    machine.daemon.database.is_durable = durable
    world.rest_s[fault.peer] = fault.lasts_s
    return False  # it is counted when it dies


def _kill(world: World, fault: Fault) -> bool:
    machine = world.machines[fault.peer]
    if machine.daemon is None:
        return False
    world.rest_s[fault.peer] = fault.lasts_s
    machine.crash("was killed")
    return True


def _power(world: World, fault: Fault) -> bool:
    machine = world.machines[fault.peer]
    world.rest_s[fault.peer] = fault.lasts_s
    machine.lose_power("lost its power")
    return True


def _stop(world: World, fault: Fault) -> bool:
    machine = world.machines[fault.peer]
    if machine.daemon is None:
        return False
    world.rest_s[fault.peer] = fault.lasts_s
    machine.stop()
    return True


def _cut(world: World, fault: Fault) -> bool:
    ends = world.net.between(fault.peer, fault.other)
    if ends:
        world.net.cut(ends[fault.number % len(ends)])
    return bool(ends)


def _cut_all(world: World, fault: Fault) -> bool:
    ends = world.net.between(fault.peer, fault.other)
    for end in ends:
        world.net.cut(end)
    return bool(ends)


def _halve(world: World, fault: Fault) -> bool:
    ends = world.net.between(fault.peer, fault.other)
    if ends:
        world.net.halve(ends[fault.number % len(ends)])
    return bool(ends)


def _lose_one_side(world: World, fault: Fault) -> bool:
    ends = world.net.between(fault.peer, fault.other)
    if ends:
        world.net.lose_one_side(ends[fault.number % len(ends)])
    return bool(ends)


def _part(world: World, fault: Fault) -> bool:
    world.net.part(fault.peer, fault.other)
    world.later(fault.lasts_s, world.net.join, fault.peer, fault.other)
    return True


def _isolate(world: World, fault: Fault) -> bool:
    for other in range(len(world.machines)):
        if other != fault.peer:
            world.net.part(fault.peer, other)
            world.later(fault.lasts_s, world.net.join, fault.peer, other)
    return True


def _slow(world: World, fault: Fault) -> bool:
    world.net.slow_down(fault.peer, fault.other, world.rng.choice((0.2, 2.0, 8.0)))
    world.later(fault.lasts_s + 5.0, world.net.slow_down, fault.peer, fault.other, 0.0)
    return True


def _step_clock(world: World, fault: Fault) -> bool:
    world.machines[fault.peer].clock.step_s += world.rng.choice((-60.0, -5.0, 5.0, 60.0))
    return True


def _engine_away(world: World, fault: Fault) -> bool:
    world.machines[fault.peer].engine.away_until_s = world.loop.time() + fault.lasts_s
    return True


KINDS: Final[dict[str, Inflict]] = {
    BEFORE_A_COMMIT: lambda world, fault: _die_at_commit(world, fault, durable=False),
    AFTER_A_COMMIT: lambda world, fault: _die_at_commit(world, fault, durable=True),
    "kill": _kill,
    "power cut": _power,
    "stop": _stop,
    "cut": _cut,
    "cut of all links": _cut_all,
    "half-open": _halve,
    "one side lost": _lose_one_side,
    "partition": _part,
    "isolation": _isolate,
    "slow": _slow,
    "clock step": _step_clock,
    "engine away": _engine_away,
}

FATAL_TO_JOBS: Final = ("power cut", "clock step", "engine away")
"""After these a job may end without having done its work; whatever else goes wrong is no excuse."""
