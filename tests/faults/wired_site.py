"""Three daemons whose only ways to each other are faulty wires."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults.faulty_wire import FaultyWire, faulty_wires
from tests.faults.oracle import Site
from tests.running_peers import Peer, introduce

SOUND_RATE_BYTES_S = 8 << 20
CONFIG = "window_bytes = 16_777_216\n[deadlines]\ncancel_by_s = 5\ncancel_grace_s = 0.5\n"
ENV = {"RND_STATUS_INTERVAL_S": "0.3", "RND_QUEUE_INTERVAL_S": "0.3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WiredSite(Site):
    """Three daemons, and for each the wire by which others come to it."""

    wires: Sequence[FaultyWire]

    def heal(self) -> None:
        """Have every wire be whole."""
        for wire in self.wires:
            wire.heal()

    @property
    def taken_bytes(self) -> int:
        """How many bytes everybody has said to the wires so far."""
        return sum(wire.taken_bytes for wire in self.wires)


@contextlib.contextmanager
def running_wired_site(place: Path) -> Iterator[WiredSite]:
    """Start the daemons of such a site; end them afterwards."""
    place.mkdir(parents=True, exist_ok=True)
    with faulty_wires(3, rate_bytes_s=SOUND_RATE_BYTES_S) as wires:
        peers = [
            Peer(place / name, config=CONFIG, env={**ENV, "RND_ADVERTISE": wire.address})
            for name, wire in zip(("home", "b", "c"), wires, strict=True)
        ]
        try:
            start(peers)
            for peer, wire in zip(peers, wires, strict=True):
                peer.address, wire.target = wire.address, listening_at(peer)
            home, b, c = peers
            introduce((home, b), (home, c))
            yield WiredSite(peers=peers, wires=wires, place=place)
        finally:
            for peer in peers:
                peer.dispose()


def start(peers: Sequence[Peer]) -> None:
    """Start daemons side by side."""
    with ThreadPoolExecutor(len(peers)) as threads:
        list(threads.map(Peer.start, peers))


def listening_at(peer: Peer) -> str:
    """Return where a daemon takes connections of peers, as it says in its log."""
    lines = [line for line in peer.log_lines() if "Listening for peers: address=" in line]
    return lines[-1].rpartition("=")[2]
