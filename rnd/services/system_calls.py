"""The seccomp filter of confined programs: which system calls there are for them, written as BPF.

Refused is what reaches other processes of the same user, namespaces and mounts, the network, and parts of the kernel
that programs rarely need and that had many holes. A call with a number beyond LAST_KNOWN does not exist here, so what
a newer kernel brings is closed until somebody has looked at it. Standard library only. Sources: seccomp(2), the
kernel's tables of system calls.
"""

from __future__ import annotations

import errno
import os
import struct

LAST_KNOWN = 466
"""removexattrat, of Linux 6.13: from 424 on a call has the same number on every machine."""

# name -> its number on x86_64 and on aarch64; `None` where there is no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes: their memory, descriptors, order of execution
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "perf_event_open": (298, 241),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "unshare": (272, 97),
    "setns": (308, 268),
    # files by handle, and watching all of a file system
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # large parts of the kernel with a history of holes; io_uring would also go past this filter
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "modify_ldt": (154, None),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
}
# Calls that name a process by their first argument: only 0, the caller itself, is fine.
_OWN_PROCESS = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
# Calls that name whose priority is meant by two arguments; the other value is the one for all of a user's processes.
_PRIORITIES = {"setpriority": ((141, 140), 2), "ioprio_set": ((251, 30), 3)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_NEW_NAMESPACES = 0x7E020000
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10

_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16


def problem() -> str:
    """Return why there is no filter for this machine, or ""."""
    machine = os.uname().machine
    if machine in _MACHINES:
        return ""
    return f"there is no list of the system calls of {machine}; there are lists of {' and '.join(_MACHINES)}"


def build_filter(*, network: bool) -> bytes:
    """Return the filter of a confined program; with `network` it may have sockets of the internet.

    Raises `KeyError` on a machine that `problem` speaks of.
    """
    column, machine = _MACHINES[os.uname().machine]
    code = [
        _load(_MACHINE_AT),
        *_unless(_EQUAL, machine, errno.ENOSYS),  # the other calling conventions of the processor
        _load(_NUMBER_AT),
        *_if(_GREATER, LAST_KNOWN, errno.ENOSYS),  # also all of x32, whose numbers have bit 30
        *_if(_EQUAL, _CLONE3[column], errno.ENOSYS),  # its flags lie in memory; libraries fall back to clone
    ]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            code += _if(_EQUAL, number, errno.EPERM)
    code += _for_call(_CLONE[column], [_argument(0), *_if(_ANY_BIT, _NEW_NAMESPACES, errno.EPERM)])
    for own in _OWN_PROCESS.values():
        code += _for_call(own[column], [_argument(0), *_unless(_EQUAL, 0, errno.EPERM)])
    for pair, of_user in _PRIORITIES.values():
        own_only = [_argument(0), *_if(_EQUAL, of_user, errno.EPERM), _argument(1), *_unless(_EQUAL, 0, errno.EPERM)]
        code += _for_call(pair[column], own_only)
    families = (_AF_UNIX, _AF_INET, _AF_INET6) if network else (_AF_UNIX,)
    code += _for_call(_SOCKET[column], _only_families(*families))
    code += _for_call(_SOCKETPAIR[column], _only_families(_AF_UNIX))
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def _only_families(*families: int) -> list[bytes]:
    """Return code that allows these; an address family that is not there is what a library is prepared for."""
    rest = len(families)
    tests = [_instruction(_EQUAL, family, yes=rest - at) for at, family in enumerate(families)]
    return [_argument(0), *tests, _fail(errno.EAFNOSUPPORT)]


def _for_call(number: int, code: list[bytes]) -> list[bytes]:
    """Return `code`, which may leave another word than the call's number loaded, for this call alone; then it is allowed."""
    whole = [*code, _instruction(_RETURN, _ALLOW)]
    return [_instruction(_EQUAL, number, no=len(whole)), *whole]


def _if(test: int, value: int, error: int) -> list[bytes]:
    return [_instruction(test, value, no=1), _fail(error)]


def _unless(test: int, value: int, error: int) -> list[bytes]:
    return [_instruction(test, value, yes=1), _fail(error)]


def _fail(error: int) -> bytes:
    return _instruction(_RETURN, _ERROR | error)


def _argument(at: int) -> bytes:
    """Load the lower half of an argument: what is looked at here are ints, and flags below 2**32."""
    return _load(_ARGUMENTS_AT + 8 * at)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
