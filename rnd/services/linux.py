"""The few Linux calls that the standard library lacks, by ctypes: prctl, capabilities, mounts, signalfd, mallopt.

Loaded by the spawner before it forks, so that no job pays for it. Sources: prctl(2), capabilities(7), signalfd(2), mallopt(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys

PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_SECUREBITS = 28
SECCOMP_MODE_FILTER = 2
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
NO_ROOT_EVER = 0xEF
"""Every secure bit, and each locked: no user id means rights any more."""
M_ARENA_MAX = -8
SFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
SIGINFO_BYTES = 128
SIGSET_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """Make a system call for which there is no function; integers are passed as longs. Raises `OSError`."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *passed))


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    """Attach a file system, or change how one is attached (see the manual). Raises `OSError`."""
    _check(_libc.mount(source, target, kind, ctypes.c_ulong(flags), options))


def detach(target: bytes) -> None:
    """Take a mount and all on it out of sight; it goes when nobody uses it any more. Raises `OSError`."""
    _check(_libc.umount2(target, 2))  # MNT_DETACH


def unshare(flags: int) -> None:
    """Leave the namespaces that the CLONE_NEW flags name for new ones. Raises `OSError`."""
    _check(_libc.unshare(flags))


def drop_capabilities() -> None:
    """Give up every capability, also those that an exec as user 0 would bring back. Raises `OSError`."""
    number = 0
    while _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    if number == 0 or ctypes.get_errno() != errno.EINVAL:  # EINVAL: there is no capability of that number
        raise OSError(ctypes.get_errno(), "the capability bounding set cannot be emptied")
    _check(_libc.prctl(PR_SET_SECUREBITS, NO_ROOT_EVER, 0, 0, 0))
    _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _check(_libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()))


def filter_system_calls(program: bytes) -> None:
    """Install a seccomp filter, made of 8-byte BPF instructions; it stays over exec and fork. Raises `OSError`."""
    code = ctypes.create_string_buffer(program, len(program))

    class FilterProgram(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    whole = FilterProgram(len(program) // 8, ctypes.addressof(code))
    _check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0))


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
