"""Attacks on memory, time and what reads the output."""

from __future__ import annotations

from tunesmith.sandbox.attacks import Attack
from tunesmith.sandbox.attacks.prey import Prey
from tunesmith.sandbox.limits import MIB, Limits, Outcome


def _terminal(outcome: Outcome, _: Prey) -> str | None:
    return "a control sequence came through" if "\x1b" in outcome.why or "\x9b" in outcome.why else None


def _bounded(outcome: Outcome, _: Prey) -> str | None:
    kept = len(outcome.stdout) + len(outcome.stderr)
    return f"{kept} bytes were kept" if kept > 2 * MIB else None


ATTACKS = [
    Attack(
        "800 MB in one process",
        "data = bytearray(800_000_000)\nescaped()\n",
        endings=("memory",),
    ),
    Attack(
        "four processes of 250 MB",
        """
read, write = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        data = bytearray(b"x") * 250_000_000
        os.write(write, b"x")
        time.sleep(5)
        os._exit(0)
for _ in range(4):
    os.read(read, 1)
time.sleep(0.5)
escaped()
""",
        endings=("memory",),
    ),
    Attack(
        "memory that no process is counted for: shared and anonymous, unmapped",
        """
import mmap
held = []
for number in range(8):
    try:
        room = mmap.mmap(-1, 100_000_000)
    except OSError as error:
        print(error)
        continue
    held.append(room)
    if os.fork() == 0:
        for at in range(0, 100_000_000, 4096):
            room[at] = 1
        os._exit(0)
    os.wait()
if len(held) == 8:
    escaped()
""",
        endings=("ok", "memory"),
    ),
    Attack(
        "memory in pipes, sockets and its own input",
        """
import socket
held = []
total = 0
for _ in range(2000):
    try:
        held.append(os.pipe())
        os.set_blocking(held[-1][1], False)
        total += os.write(held[-1][1], bytes(1 << 20))
    except OSError:
        break
for _ in range(2000):
    try:
        pair = socket.socketpair()
    except OSError:
        break
    held.append(pair)
    pair[0].setblocking(False)
    try:
        while True:
            total += pair[0].send(bytes(1 << 16))
    except OSError:
        pass
try:
    os.ftruncate(0, 1 << 40)
    escaped("input")
except OSError:
    pass
try:
    for _ in range(600):
        total += os.pwrite(0, bytes(1 << 20), total)
except OSError:
    pass
print(total)
if total > 256 << 20:
    escaped(total)
""",
        endings=("ok", "memory"),
    ),
    Attack(
        "endless output",
        "while True:\n    os.write(1, b'x' * 65536)\n",
        endings=("output_limit",),
        seconds=5.0,
        judge=_bounded,
    ),
    Attack(
        "endless errors",
        "while True:\n    os.write(2, b'x' * 65536)\n",
        endings=("timeout",),
        limits=Limits(wall=1.0),
        seconds=5.0,
        judge=_bounded,
    ),
    Attack(
        "endless reports on every descriptor",
        """
while True:
    for number in range(3, 64):
        try:
            os.write(number, b"x" * 65536)
        except OSError:
            pass
""",
        endings=("output_limit", "timeout"),
        limits=Limits(wall=1.0),
        seconds=6.0,
        judge=_bounded,
    ),
    Attack(
        "commands for the terminal in what is shown",
        "sys.stderr.write('\\x1b]0;owned\\x07\\x1b[2J\\x9b31m' * 3)\nsys.exit(3)\n",
        endings=("runtime_error",),
        judge=_terminal,
    ),
    Attack("crash the interpreter by recursion", """
sys.setrecursionlimit(10**9)
def deeper(f):
    return sorted([1, 2], key=lambda _: deeper(f))
deeper(1)
""", endings=("runtime_error", "memory", "timeout")),
    Attack("endless sleep", "time.sleep(1000)\n", endings=("timeout",), limits=Limits(wall=1.0), seconds=4.0),
    Attack(
        "more processor time than it has, in several processes",
        "for _ in range(3):\n    os.fork()\nwhile True:\n    pass\n",
        endings=("timeout",),
        limits=Limits(wall=1.5, cpu=1.0),
        seconds=6.0,
    ),
]  # fmt: skip
