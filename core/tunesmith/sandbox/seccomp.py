"""Which system calls a program may make, as a filter that the kernel runs (classic BPF).

The lists name what is forbidden, so that ordinary programs and compilers work; calls that are newer than the lists do
not exist for the program.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

# name: (x86_64, aarch64); None where the architecture has no such call
CALLS: dict[str, tuple[int | None, int | None]] = {
    # no network: a socket pair is all that there is
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    # mounts, roots and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    # parts of the kernel with many doors
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "fanotify_init": (300, 262), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "lookup_dcookie": (212, 18), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "vhangup": (153, 58), "modify_ldt": (154, None), "personality": (135, 92),
    # memory that no limit counts
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # the machine
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "syslog": (103, 116), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171),
}  # fmt: skip
ABSENT = {"clone3", "memfd_create", "memfd_secret", "io_uring_setup", "io_uring_enter", "io_uring_register"}
"""Calls that the C library does without when they do not exist."""
GROUPS: dict[str, tuple[int | None, int | None]] = {"setsid": (112, 157), "setpgid": (109, 154)}
"""Calls by which a process would leave the group that is killed in the end."""
MODES: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "ioprio_set": (251, 30),
}  # fmt: skip
"""Calls that Landlock does not govern."""
SIGNALS: dict[str, tuple[int | None, int | None]] = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
}  # fmt: skip
"""Calls that send signals; Landlock governs them from its sixth version on."""
NEWEST = 451
"""The last call that may exist for a program; what came later is not in the lists."""

ON_OTHERS: dict[str, tuple[int, int, int]] = {
    "prlimit64": (302, 261, 0), "setpriority": (141, 140, 1), "sched_setaffinity": (203, 122, 0),
    "sched_setscheduler": (144, 119, 0), "sched_setparam": (142, 118, 0), "sched_setattr": (314, 274, 0),
}  # fmt: skip
"""Calls that change other processes of the same user, with the argument that is 0 for the caller itself."""

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
CLONE, CLONE3, IOCTL, MMAP = (56, 220), (435, 435), (16, 29), (9, 222)
NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
TERMINAL = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into the terminal."""
SHARED_ANONYMOUS = 0x21
"""MAP_SHARED and MAP_ANONYMOUS: memory that outlives the process it is counted for."""
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, EQUALS, HAS, AT_LEAST, AND, RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16


def supported() -> str | None:
    """Why there is no filter for this machine, or ``None``."""
    machine = platform.machine()
    return None if machine in ARCHITECTURES else f"there is no list of system calls for {machine} processors"


@cache
def make_filter(*, exposed: bool = False, signals: bool = False) -> bytes:
    """The filter as the kernel takes it.

    Args:
        exposed: the program has neither mounts nor process numbers of its own: also forbid changing modes, owners and
            times of files, leaving the process group, and changing other processes.
        signals: also forbid sending signals.
    """
    column, arch = ARCHITECTURES[platform.machine()]
    forbidden = {**CALLS, **({**MODES, **GROUPS} if exposed else {}), **(SIGNALS if signals else {})}
    code = [_op(LOAD, ARCH), _op(EQUALS, arch, 1, 0), _op(RETURN, KILL), _op(LOAD, NUMBER)]
    if column == 0:  # the 32-bit numbers of the same processor
        code += [_op(AT_LEAST, 0x40000000, 0, 1), _op(RETURN, KILL)]
    for name, numbers in {**forbidden, "clone3": CLONE3}.items():
        number = numbers[column]
        if number is not None:
            code += [_op(EQUALS, number, 0, 1), _fail(errno.ENOSYS if name in ABSENT else errno.EPERM)]
    code += [_op(AT_LEAST, NEWEST + 1, 0, 1), _fail(errno.ENOSYS)]
    code += _checked(CLONE[column], 0, [_op(HAS, NAMESPACES, 0, 1), _fail(errno.EPERM)])
    code += _checked(IOCTL[column], 1, [step for t in TERMINAL for step in (_op(EQUALS, t, 0, 1), _fail(errno.EPERM))])
    shared = [_op(AND, SHARED_ANONYMOUS), _op(EQUALS, SHARED_ANONYMOUS, 0, 1), _fail(errno.EPERM)]
    code += _checked(MMAP[column], 3, shared)
    for own in ON_OTHERS.values() if exposed else ():
        code += _checked(own[column], own[2], [_op(EQUALS, 0, 1, 0), _fail(errno.EPERM)])
    return b"".join([*code, _op(RETURN, ALLOW)])


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, otherwise, value)


def _fail(number: int) -> bytes:
    return _op(RETURN, ERRNO | number)


def _checked(number: int, argument: int, steps: list[bytes]) -> list[bytes]:
    """Steps over the low half of an argument of one call."""
    return [
        _op(EQUALS, number, 0, len(steps) + 2),
        _op(LOAD, ARGUMENTS + 8 * argument),
        *steps,
        _op(LOAD, NUMBER),
    ]
