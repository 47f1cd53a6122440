"""How many sandboxed programs a second: the section `sandbox` of `rewards.py`."""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SOURCE = "print(int(input()) * 2)"
SUBREAPER = 36


def sandbox_rows(count: int, repeats: int) -> list[list[str]]:
    """For no sandbox at all and for each tier: processor time and clock time of a trivial Python program."""
    from tunesmith.sandbox import Limits, Python, Sandbox, probes

    # what a tier starts may be waited for by another process than ours; as its reaper we get its times too
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    ways: dict[str, Callable[[int], list[bytes]]] = {"no sandbox (`python -I -S`)": bare}
    for probe in probes():
        if probe.works:
            for concurrency in sorted({1, len(os.sched_getaffinity(0))}):
                sandbox = Sandbox(probe.tier, concurrency=concurrency)

                def run(number: int, sandbox: Sandbox = sandbox) -> list[bytes]:
                    return [o.stdout for o in sandbox.run_all([(Python(SOURCE), b"21\n", Limits())] * number)]

                ways[f"{probe.tier}, {concurrency} at a time"] = run
    return [[name, *measured(way, count, repeats)] for name, way in ways.items()]


def bare(number: int) -> list[bytes]:
    command = [getattr(sys, "_base_executable", sys.executable), "-I", "-S", "-c", SOURCE]
    return [subprocess.run(command, input=b"21\n", capture_output=True, check=True).stdout for _ in range(number)]


def measured(way: Callable[[int], list[bytes]], count: int, repeats: int) -> list[str]:
    """Milliseconds of processor time of one program, programs a second of it, programs a second by the clock."""
    way(3)
    cpus, walls = [], []
    for _ in range(repeats):
        before, start = used(), time.perf_counter()
        if way(count) != [b"42\n"] * count:
            raise RuntimeError("a program did not give what it should")
        walls.append(count / (time.perf_counter() - start))
        cpus.append((used() - before) / count)
    cpu = statistics.median(cpus)
    return [f"{1000 * cpu:.1f}", f"{1 / cpu:.0f}", f"{statistics.median(walls):.0f}"]


def used() -> float:
    """Seconds of processor time so far: ours and that of all that has ended below us."""
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.005)
        except ChildProcessError:
            break
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def run_sandbox(repeats: int) -> None:
    """The table of the sandbox."""
    from rewards import table

    columns = ("trivial Python programs", "ms of CPU time each", "a second of CPU time", "a second by the clock")
    table("Programs a second, with all processes that a sandbox needs", columns, sandbox_rows(150, repeats))
