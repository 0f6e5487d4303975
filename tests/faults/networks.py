"""Two daemons, each in a network namespace of its own, and a cable between them that the kernel can spoil."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.oracle import Site
from tests.faults.wired_site import CONFIG, ENV, start
from tests.running_peers import Peer, introduce

CABLE = "rnd0"
# Of 198.18.0.0/15, which is for trials between two networks (RFC 2544).
ADDRESSES = ("198.18.78.1", "198.18.78.2")
PORT = 30906
RATE = "100mbit"
"""What the cable carries: so slow that something is on its way when it is spoiled."""
_numbers = itertools.count()


class CannotTry(Exception):
    """This machine cannot make network namespaces; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CabledSite(Site):
    """Two daemons at either end of a cable."""

    namespaces: tuple[str, str]

    @contextlib.contextmanager
    def rule(self, end: int, *words: str) -> Iterator[None]:
        """Have a rule for what comes in at one end of the cable."""
        self._iptables(end, "-A", "INPUT", "-i", CABLE, "-p", "tcp", *words)
        try:
            yield
        finally:
            self._iptables(end, "-D", "INPUT", "-i", CABLE, "-p", "tcp", *words)

    @contextlib.contextmanager
    def loss(self, share: float) -> Iterator[None]:
        """Have that share of all packets lost, in either direction."""
        words = ("-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP")
        with self.rule(0, *words), self.rule(1, *words):
            yield

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """Have no cable."""
        _run("ip", "-n", self.namespaces[0], "link", "set", CABLE, "down")
        try:
            yield
        finally:
            _run("ip", "-n", self.namespaces[0], "link", "set", CABLE, "up")

    def hits(self, end: int) -> int:
        """Return how many packets the rules of one end have met."""
        table = self._iptables(end, "-L", "INPUT", "-v", "-x", "-n")
        return sum(int(line.split()[0]) for line in table.splitlines()[2:])

    def _iptables(self, end: int, *words: str) -> str:
        return _run("ip", "netns", "exec", self.namespaces[end], "iptables", "-w", "10", *words)


@contextlib.contextmanager
def running_cabled_site(place: Path) -> Iterator[CabledSite]:
    """Start the daemons of such a site; end them, and take the namespaces away, afterwards. Raises `CannotTry`."""
    if os.geteuid() != 0:
        raise CannotTry("network namespaces take root")
    place.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        number = next(_numbers)
        one, other = (stack.enter_context(_namespace(f"rnd-{end}{number}-{os.getpid()}")) for end in "ab")
        _run("ip", "-n", one, "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", other)
        for namespace, address in zip((one, other), ADDRESSES, strict=True):
            _run("ip", "-n", namespace, "address", "add", f"{address}/30", "dev", CABLE)
            # What is lost is a packet as long as those of a real cable, not one of 64 KiB that the kernel makes of many.
            _run("ip", "-n", namespace, "link", "set", "dev", CABLE, "gso_max_segs", "1", "up")
            pace = ("root", "tbf", "rate", RATE, "burst", "64kb", "latency", "50ms")
            _run("ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", CABLE, *pace)
        peers = [Peer(place / name, config=CONFIG, env=ENV) for name in ("home", "b")]
        for peer, namespace, address in zip(peers, (one, other), ADDRESSES, strict=True):
            peer.within, peer.listen_at = ("ip", "netns", "exec", namespace), f"{address}:{PORT}"
            stack.callback(peer.dispose)
        start(peers)
        introduce((peers[0], peers[1]))
        yield CabledSite(peers=peers, place=place, namespaces=(one, other))


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[str]:
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        _run("ip", "netns", "del", name)


def _run(*command: str) -> str:
    """Run a command of the system and return what it says. Raises `CannotTry` with its words where it fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    except FileNotFoundError as error:
        raise CannotTry(f"there is no {command[0]}") from error
    if done.returncode:
        raise CannotTry(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
