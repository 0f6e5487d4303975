"""Schedules of what happens to wires, each drawn from a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import assert_never

from tests.faults.faulty_wire import DIRECTIONS, FaultyWire

LONGER_THAN_LIVENESS_S = (23.0, 28.0)
"""A link on which nothing shows that anybody is there is given up after 22.5 s (docs/wire.md, section 1)."""
LONG_SHARE = 0.12


class Kind(StrEnum):
    """What a wire can be made to do."""

    RESET = "reset"
    FINISH = "finish"
    STALL = "stall"
    HALF_OPEN = "half-open"
    FORGET = "forget"
    DRIP = "drip"
    REFUSE = "refuse"
    DELAY = "delay"
    SWALLOW = "swallow"
    CUT_EARLY = "cut early"


MOMENTS = (Kind.RESET, Kind.FINISH, Kind.FORGET)
LASTING = [Kind.STALL, Kind.HALF_OPEN, Kind.DRIP, Kind.REFUSE, Kind.SWALLOW]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: when it begins, for how long, on which wires; `amount` is of the unit that its kind has."""

    at_s: float
    kind: Kind
    wires: tuple[int, ...]
    duration_s: float
    direction: str
    amount: float

    def begin(self, wire: FaultyWire) -> None:
        """Let it begin on one wire."""
        match self.kind:
            case Kind.RESET:
                wire.cut(is_reset=True)
            case Kind.FINISH:
                wire.cut(is_reset=False)
            case Kind.STALL:
                wire.stall(*DIRECTIONS)
            case Kind.HALF_OPEN:
                wire.stall(self.direction)
            case Kind.FORGET:
                wire.forget(self.direction)
            case Kind.DRIP:
                wire.drip(self.amount)
            case Kind.REFUSE:
                wire.refuse()
                wire.cut(is_reset=True)
            case Kind.DELAY:
                wire.delay(self.amount)
            case Kind.SWALLOW:
                wire.swallow(self.direction, int(self.amount))
                wire.cut(is_reset=True)
            case Kind.CUT_EARLY:
                wire.cut_early(int(self.amount))
                wire.cut(is_reset=True)
            case _:
                assert_never(self.kind)

    def end(self, wire: FaultyWire) -> None:
        """Let it end on one wire."""
        match self.kind:
            case Kind.STALL | Kind.HALF_OPEN:
                wire.flow()
            case Kind.DRIP:
                wire.drip(None)
            case Kind.REFUSE:
                wire.accept()
            case Kind.DELAY:
                wire.delay(0.0)
            case Kind.SWALLOW:
                wire.swallow(self.direction, 0)
            case Kind.CUT_EARLY:
                wire.cut_early(None)

    def __str__(self) -> str:
        wires = "".join("hbc"[wire] for wire in self.wires)
        return (
            f"{self.at_s:.2f} s: {self.kind} on {wires} for {self.duration_s:.2f} s, {self.direction}, {self.amount:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What happens to the wires, whether it begins with the order or once every job is created, and when it is cancelled."""

    faults: tuple[Fault, ...]
    is_early: bool
    cancel_at_s: float | None

    def carry_out(self, wires: Sequence[FaultyWire], cancel: Callable[[], None]) -> list[str]:
        """Do all of it and heal the wires; return what was done when."""
        steps: list[tuple[float, str, Callable[[], None]]] = []
        for fault in self.faults:
            hit = [wires[number] for number in fault.wires]
            steps.append((fault.at_s, str(fault), partial(_each, fault.begin, hit)))
            if fault.duration_s:
                steps.append((fault.at_s + fault.duration_s, f"end of {fault.kind}", partial(_each, fault.end, hit)))
        if self.cancel_at_s is not None:
            steps.append((self.cancel_at_s, "cancel", cancel))
        begun_s = time.monotonic()
        done = []
        for at_s, words, step in sorted(steps, key=lambda each: each[0]):
            time.sleep(max(0.0, begun_s + at_s - time.monotonic()))
            step()
            done.append(f"{time.monotonic() - begun_s:6.2f} s  {words}")
        _each(FaultyWire.heal, wires)
        done.append(f"{time.monotonic() - begun_s:6.2f} s  all is healed")
        return done


def draw_schedule(rng: random.Random, *, peers: int) -> Schedule:
    """Draw one to four faults, which may overlap; now and then one of them lasts longer than liveness allows."""
    faults: list[Fault] = []
    at_s = rng.uniform(0, 1.0)
    long_one = rng.randrange(4) if rng.random() < LONG_SHARE else None
    for number in range(rng.randint(1, 4) if long_one is None else long_one + 1):
        kinds = (
            LASTING if number == long_one else [kind for kind in Kind if kind is not Kind.FORGET or rng.random() < 0.3]
        )
        duration_s = rng.uniform(*(LONGER_THAN_LIVENESS_S if number == long_one else (0.1, 3.0)))
        faults.append(_draw_fault(rng, rng.choice(kinds), at_s, duration_s, peers=peers))
        at_s += rng.uniform(0, 1.2)
    end_s = max(fault.at_s + fault.duration_s for fault in faults)
    return Schedule(
        faults=tuple(faults),
        is_early=rng.random() < 0.3,
        cancel_at_s=rng.uniform(0, min(end_s, 3.0)) if rng.random() < 0.25 else None,
    )


def _draw_fault(rng: random.Random, kind: Kind, at_s: float, duration_s: float, *, peers: int) -> Fault:
    amount = 0.0
    match kind:
        case Kind.DRIP:
            amount = rng.choice((500.0, 4_000.0, 60_000.0))
        case Kind.DELAY:
            amount = rng.uniform(0.05, 0.6)
        case Kind.SWALLOW:
            amount = rng.choice((1, rng.randint(2, 300), rng.randint(300, 4_000)))
        case Kind.CUT_EARLY:
            amount = rng.choice((rng.randint(0, 600), rng.randint(600, 4_000), rng.randint(4_000, 200_000)))
    return Fault(
        at_s=at_s,
        kind=kind,
        wires=tuple(range(peers)) if rng.random() < 0.6 else (rng.randrange(peers),),
        duration_s=0.0 if kind in MOMENTS else duration_s,
        direction=rng.choice(DIRECTIONS),
        amount=amount,
    )


def _each(do: Callable[[FaultyWire], None], wires: Sequence[FaultyWire]) -> None:
    for wire in wires:
        do(wire)
