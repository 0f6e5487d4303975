"""The few Linux calls that the standard library lacks, by ctypes: subreaper, no_new_privs, process name, signalfd, mallopt.

Loaded by the spawner before it forks, so that no job pays for it. Sources: prctl(2), signalfd(2), mallopt(3).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
M_ARENA_MAX = -8
SFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
SIGINFO_BYTES = 128
SIGSET_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Not inherited over fork."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def forgo_privileges() -> None:
    """Let no program below gain rights by set-user-id or file capabilities. Inherited; cannot be taken back."""
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def name_process(name: bytes) -> None:
    """Set the name that ps and top show, at most 15 bytes."""
    _check(_libc.prctl(PR_SET_NAME, name, 0, 0, 0))


def share_one_heap() -> None:
    """Let every thread that is yet to come allocate from one heap, so that any of them reuses what another has freed.

    The C library else gives each thread a heap of its own, and keeps in each what its biggest work once needed. Threads
    seldom meet at the one heap's lock: most of what they allocate they do under the interpreter's. Only glibc has this.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


class SignalQueue:
    """Signals as something to poll: they stay blocked, and none is lost between two looks."""

    def __init__(self, signals: frozenset[signal.Signals]) -> None:
        """Block `signals` and open a descriptor (`fd`) that is readable while one of them is pending."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self._mask = ctypes.create_string_buffer(SIGSET_BYTES)
        _check(_libc.sigemptyset(self._mask))
        for number in signals:
            _check(_libc.sigaddset(self._mask, int(number)))
        self.fd = self._open()

    def reopen(self) -> None:
        """Open a descriptor of one's own after a fork; the inherited one is closed."""
        os.close(self.fd)
        self.fd = self._open()

    def take(self) -> set[int]:
        """Return the numbers of the signals that have come since the last look."""
        arrived: set[int] = set()
        while True:
            try:
                records = os.read(self.fd, 16 * SIGINFO_BYTES)
            except BlockingIOError:
                return arrived
            arrived.update(
                int.from_bytes(records[at : at + 4], sys.byteorder) for at in range(0, len(records), SIGINFO_BYTES)
            )

    def _open(self) -> int:
        return _check(_libc.signalfd(-1, self._mask, SFD_NONBLOCK_CLOEXEC))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
