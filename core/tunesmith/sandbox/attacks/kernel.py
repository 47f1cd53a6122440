"""Attacks on the kernel's wider doors."""

from __future__ import annotations

from tunesmith.sandbox.attacks import Attack

TRY = """
import platform
column = {{"x86_64": 0, "aarch64": 1}}[platform.machine()]
for name, numbers, values in {calls}:
    got = call(numbers[column], *values)
    print(name, got)
    if got not in (-1, -38, -13):  # EPERM, ENOSYS, EACCES
        escaped(name)
"""
NAMESPACES = """[
    ("unshare", (272, 97), (0x10000000,)), ("unshare", (272, 97), (0x20000,)), ("unshare", (272, 97), (0x40000000,)),
    ("setns", (308, 268), (0, 0)), ("clone3", (435, 435), (0, 0)), ("chroot", (161, 51), (b"/tmp",)),
    ("mount", (165, 40), (b"none", b"/tmp", b"tmpfs", 0, 0)), ("umount2", (166, 39), (b"/proc", 2)),
    ("pivot_root", (155, 41), (b"/", b"/")), ("fsopen", (430, 430), (b"tmpfs", 0)),
    ("open_tree", (428, 428), (-100, b"/", 1)), ("move_mount", (429, 429), (-1, b"", -1, b"", 0)),
]"""
DOORS = """[
    ("io_uring_setup", (425, 425), (1, 0)), ("userfaultfd", (323, 282), (0,)), ("bpf", (321, 280), (0, 0, 0)),
    ("keyctl", (250, 219), (0, -3, 0)), ("add_key", (248, 217), (b"user", b"x", b"x", 1, -3)),
    ("perf_event_open", (298, 241), (0, 0, -1, -1, 0)), ("kcmp", (312, 272), (1, 1, 0, 0, 0)),
    ("open_by_handle_at", (304, 265), (-100, 0, 0)), ("name_to_handle_at", (303, 264), (-100, b"/", 0, 0, 0)),
    ("init_module", (175, 105), (0, 0, b"")), ("kexec_load", (246, 104), (0, 0, 0, 0)),
    ("syslog", (103, 116), (3, 0, 0)), ("reboot", (169, 142), (0, 0, 0, 0)), ("quotactl", (179, 60), (0, 0, 0, 0)),
    ("personality", (135, 92), (0x0400000,)), ("sethostname", (170, 161), (b"x", 1)),
    ("memfd_create", (319, 279), (b"x", 0)), ("shmget", (29, 194), (0, 4096, 0o1777)),
    ("msgget", (68, 186), (0, 0o1777)), ("mq_open", (240, 180), (b"x", 0o102, 0o600, 0)),
    ("pidfd_getfd", (438, 438), (-1, 0, 0)), ("fanotify_init", (300, 262), (0, 0)), ("acct", (163, 89), (0,)),
    ("settimeofday", (164, 170), (0, 0)), ("swapon", (167, 224), (b"/x", 0)),
]"""

ATTACKS = [
    Attack("make namespaces and mounts", TRY.format(calls=NAMESPACES)),
    Attack("use the kernel's wide doors (io_uring, bpf, userfaultfd, keys, ...)", TRY.format(calls=DOORS)),
    Attack(
        "make a namespace with clone",
        """
import ctypes, platform
column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
for flag in (0x10000000, 0x20000000, 0x40000000, 0x20000):
    got = call((56, 220)[column], flag | 17, 0, 0, 0, 0)
    if got == 0:
        os._exit(0)
    if got > 0:
        escaped(hex(flag))
""",
    ),
    Attack(
        "use calls that are newer than the filter",
        TRY.format(calls='[("x", (n, n), (0,) * 6) for n in range(452, 480)]'),
    ),
    Attack(
        "use the 32-bit numbers of the processor",
        "got = call(0x40000000 + 39)\nescaped(got)\n",
        endings=("runtime_error",),
        machine="x86_64",
    ),
    Attack(
        "type into the terminal",
        """
import fcntl, termios
for number in (0, 1, 2):
    try:
        fcntl.ioctl(number, 0x5412, b"x")
        escaped(number)
    except OSError as error:
        print(error)
try:
    with open("/dev/tty", "wb") as stream:
        stream.write(b"x")
    escaped("tty")
except OSError as error:
    print(error)
""",
    ),
    Attack(
        "become root, by itself or by programs that may",
        """
import glob
if os.getuid() == 0 or os.geteuid() == 0:
    escaped("is root")
for act in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0), lambda: os.setgroups([0])):
    try:
        act()
        escaped()
    except OSError as error:
        print(error)
try:
    status = open("/proc/self/status").read()
except OSError:
    status = ""
for line in status.splitlines():
    if line.startswith(("CapPrm", "CapEff", "CapAmb")) and int(line.split()[1], 16):
        escaped(line)
    if line.startswith("NoNewPrivs") and line.split()[1] != "1":
        escaped(line)
""",
    ),
    Attack(
        "raise its limits",
        """
import resource
for kind in (resource.RLIMIT_NPROC, resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        escaped(kind)
    except (OSError, ValueError) as error:
        print(error)
""",
    ),
]
