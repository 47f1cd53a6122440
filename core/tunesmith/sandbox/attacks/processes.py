"""Attacks on other processes and on the network."""

from __future__ import annotations

from tunesmith.sandbox.attacks import Attack
from tunesmith.sandbox.limits import Limits

SIX = Limits(wall=1.0)
CONNECT = """
import socket
try:
    with socket.socket({family}, {kind}) as one:
        one.settimeout(2)
        {act}
        escaped()
except (OSError, AttributeError) as error:
    print(error)
"""

ATTACKS = [
    Attack(
        "connect to a service of this machine (TCP)",
        CONNECT.format(
            family="socket.AF_INET", kind="socket.SOCK_STREAM", act="one.connect(('127.0.0.1', prey['tcp']))"
        ),
        canary=True,
    ),
    Attack(
        "send a packet (UDP)",
        CONNECT.format(
            family="socket.AF_INET", kind="socket.SOCK_DGRAM", act="one.sendto(b'x', ('127.0.0.1', prey['udp']))"
        ),
        canary=True,
    ),
    Attack(
        "connect to an abstract socket of the trainer",
        CONNECT.format(
            family="socket.AF_UNIX", kind="socket.SOCK_STREAM", act="one.connect(chr(0) + prey['abstract'])"
        ),
        canary=True,
    ),
    Attack(
        "connect to a socket in a folder",
        CONNECT.format(family="socket.AF_UNIX", kind="socket.SOCK_STREAM", act="one.connect(prey['socket'])"),
        canary=True,
    ),
    Attack(
        "open sockets of rare families: netlink, packet, vsock, kernel cryptography",
        """
import socket
for family in (16, 17, 40, 38, 10, 2, 31, 44):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
            escaped(family)
        except OSError:
            pass
""",
        canary=True,
    ),
    Attack(
        "open a browser",
        "import webbrowser\nif webbrowser.open('http://127.0.0.1:%d/' % prey['tcp']) or os.environ.get('DISPLAY'):\n"
        "    escaped()\n",
        endings=("ok", "runtime_error"),
    ),
    Attack(
        "end the process that started it",
        """
for pid in (os.getppid(), prey["victim"]):
    for number in (9, 15, 19):
        try:
            os.kill(pid, number)
        except OSError as error:
            print(error)
""",
        endings=("ok", "runtime_error"),
    ),
    Attack(
        "end every process that it may",
        "import signal\nfor pid in (-1, 0, 1):\n    signal.signal(15, signal.SIG_IGN)\n    try:\n"
        "        os.kill(pid, 15)\n        os.kill(pid, 9)\n    except OSError as error:\n        print(error)\n",
        endings=("ok", "runtime_error"),
    ),
    Attack(
        "have the kernel signal another process",
        """
import fcntl
try:
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETOWN, prey["victim"])
    fcntl.fcntl(read, 10, 9)
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write, b"x")
    fd = os.pidfd_open(prey["victim"])
    __import__("signal").pidfd_send_signal(fd, 9)
except OSError as error:
    print(error)
""",
    ),
    Attack(
        "change limits, priority and processors of another process",
        """
import resource
for act in (lambda: resource.prlimit(prey["victim"], resource.RLIMIT_NOFILE, (5, 5)),
            lambda: os.setpriority(os.PRIO_PROCESS, prey["victim"], 19),
            lambda: os.sched_setaffinity(prey["victim"], {0}),
            lambda: os.sched_setscheduler(prey["victim"], os.SCHED_IDLE, os.sched_param(0))):
    try:
        act()
        escaped()
    except OSError as error:
        print(error)
""",
        canary=True,
    ),
    Attack(
        "debug another process",
        """
import platform
number = {"x86_64": 101, "aarch64": 117}[platform.machine()]
for pid in (os.getppid(), prey["victim"], prey["parent"]):
    for request in (16, 0x4206):
        if call(number, request, pid, 0, 0) >= 0:
            escaped(pid)
            call(number, 17, pid, 0, 0)
if call(number, 0, 0, 0, 0) >= 0:
    escaped("itself")
""",
    ),
    Attack(
        "read the memory of another process",
        """
import ctypes, platform
for pid in (prey["parent"], prey["victim"], os.getppid(), 1):
    try:
        with open("/proc/%d/mem" % pid, "rb", buffering=0) as stream:
            stream.seek(prey["address"])
            if known(stream.read(prey["length"])):
                escaped("mem")
    except (OSError, OverflowError) as error:
        print(error)
room = ctypes.create_string_buffer(prey["length"])
ours = (ctypes.c_size_t * 2)(ctypes.addressof(room), prey["length"])
theirs = (ctypes.c_size_t * 2)(prey["address"], prey["length"])
number = {"x86_64": 310, "aarch64": 270}[platform.machine()]
if call(number, prey["parent"], ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) > 0 and known(room.raw):
    escaped("process_vm_readv")
""",
        canary=True,
    ),
    Attack(
        "list the processes of this machine",
        """
try:
    seen = [name for name in os.listdir("/proc") if name.isdigit()]
    if len(seen) > 6 or any(os.path.exists("/proc/%d/cmdline" % prey[k]) and
                            known(open("/proc/%d/cmdline" % prey[k]).read()) for k in ("victim", "parent")):
        escaped(len(seen))
except OSError as error:
    print(error)
""",
        canary=True,
    ),
    Attack(
        "leave a process behind (double fork, own session, output closed)",
        """
if os.fork() == 0:
    try:
        os.setsid()
    except OSError:
        pass
    try:
        os.setpgid(0, 0)
    except OSError:
        pass
    if os.fork() == 0:
        for number in range(64):
            try:
                os.close(number)
            except OSError:
                pass
        time.sleep(120)
    os._exit(0)
time.sleep(0.1)
""",
    ),
    Attack(
        "keep the output open after the end",
        "if os.fork() == 0:\n    time.sleep(120)\n    os._exit(0)\n",
        seconds=5.0,
    ),
    Attack("stop itself", "import signal\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(100)\n",
           endings=("timeout",), limits=SIX, seconds=5.0),
    Attack(
        "ignore signals and spin",
        "import signal\nfor n in (2, 14, 15, 24):\n    signal.signal(n, signal.SIG_IGN)\nwhile True:\n    pass\n",
        endings=("timeout",),
        limits=SIX,
        seconds=5.0,
    ),
    Attack(
        "fork for ever",
        """
count = 0
pids = []
for _ in range(3000):
    try:
        pid = os.fork()
    except OSError:
        continue
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    count += 1
if count > 200:
    escaped(count)
print(count)
""",
        endings=("ok", "timeout", "memory"),
        limits=Limits(wall=3.0),
    ),
    Attack(
        "fork for ever, each child too",
        "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n",
        endings=("timeout", "memory"),
        limits=Limits(wall=1.0),
        seconds=6.0,
    ),
]  # fmt: skip
