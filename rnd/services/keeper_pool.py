"""The keepers of one spawner: forked when one is needed, or expected to be, rested after an ordinary run, let go when they are idle.

Standard library only, like all that the spawner imports.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from rnd.services import keeper, linux, processes

IDLE_KEEPERS_MAX = 64
IDLE_KEEPER_S = 5.0
UNTOLD = b"null"


class Kept(NamedTuple):
    """A run that has not ended, as far as the spawner must know it.

    `waiters` are called when it has, with the last line of its record, or with UNTOLD where its keeper did not say it.
    """

    engine_name: str
    secrets_directory: str
    waiters: list[Callable[[bytes], None]]


class KeeperLink:
    """A keeper that is alive, and the run that it has. `start` is in clock ticks since boot."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.start = processes.start_time(pid) or 0
        self.connection = connection
        self.kept: Kept | None = None
        self.idle_since = 0.0
        self.unread = bytearray()


class KeeperPool:
    """Gives keepers and takes them back."""

    def __init__(
        self, signals: linux.SignalQueue, sink: int, poller: select.poll, forget_all: Callable[[], None]
    ) -> None:
        """`poller` is told of every keeper's connection; `forget_all` closes, in a fork, what is the spawner's alone."""
        self._signals = signals
        self._sink = sink
        self._poller = poller
        self._forget_all = forget_all
        self._by_pid: dict[int, KeeperLink] = {}
        self._by_descriptor: dict[int, KeeperLink] = {}
        self._idle: list[KeeperLink] = []
        self._closed = False
        self._expected = 0

    def __contains__(self, pid: int) -> bool:
        return pid in self._by_pid

    @property
    def idle(self) -> bool:
        """Whether a keeper rests, which it does for a while only."""
        return bool(self._idle)

    @property
    def wanted(self) -> bool:
        """Whether there are fewer keepers than are expected to be needed."""
        return len(self._by_descriptor) < self._expected

    def expect(self, count: int) -> None:
        """Have `prepare_one` fork keepers until there are so many, those that have a run among them, or as many as may rest."""
        self._expected = 0 if self._closed else min(count, IDLE_KEEPERS_MAX)

    def prepare_one(self) -> None:
        """Fork a keeper that is expected to be needed. When there are enough, or no more can be had, none is expected any more."""
        try:
            if self.wanted:
                self.rest(self._fork())
        except OSError:
            self._expected = 0  # a run that needs one says why there is none
        if not self.wanted:
            self._expected = 0

    def pids(self) -> frozenset[int]:
        """Return the pids of all keepers that are not buried."""
        return frozenset(self._by_pid)

    def find(self, descriptor: int) -> KeeperLink | None:
        """Return the keeper at the other end of a connection."""
        return self._by_descriptor.get(descriptor)

    def take(self) -> KeeperLink:
        """Return a keeper without a run: the one that rested least, else a fresh one. Raises `OSError`."""
        return self._idle.pop() if self._idle else self._fork()

    def rest(self, link: KeeperLink) -> None:
        """Keep a keeper for the next run, unless there are enough."""
        if self._closed or len(self._idle) >= IDLE_KEEPERS_MAX:
            self.hang_up(link)
        else:
            link.idle_since = time.monotonic()
            self._idle.append(link)

    def dismiss_idle(self) -> None:
        """Let go of the keepers that have rested for long."""
        now = time.monotonic()
        while self._idle and now - self._idle[0].idle_since >= IDLE_KEEPER_S:
            self.hang_up(self._idle[0])

    def close(self) -> None:
        """Let go of every keeper as soon as it has no run."""
        self._closed = True
        self._expected = 0
        for link in tuple(self._idle):
            self.hang_up(link)

    def hang_up(self, link: KeeperLink) -> None:
        """Close the connection to a keeper, which ends when it has nothing to do."""
        if self._by_descriptor.pop(link.connection.fileno(), None) is None:
            return
        self._poller.unregister(link.connection.fileno())
        link.connection.close()
        if link in self._idle:
            self._idle.remove(link)

    def bury(self, pid: int) -> KeeperLink | None:
        """Forget a keeper that has ended and return it; `None` if the pid was no keeper's."""
        return self._by_pid.pop(pid, None)

    def _fork(self) -> KeeperLink:
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            ours.close()
            for link in self._by_descriptor.values():
                link.connection.close()
            self._forget_all()
            keeper.serve(theirs, self._signals, self._sink)
        theirs.close()
        ours.setblocking(False)
        link = KeeperLink(pid, ours)
        self._by_pid[pid] = self._by_descriptor[ours.fileno()] = link
        self._poller.register(ours.fileno(), select.POLLIN)
        return link
