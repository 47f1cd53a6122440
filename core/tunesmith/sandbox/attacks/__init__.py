"""Attempts to get out of a sandbox, each a small program. ``python -m tunesmith.sandbox.attacks`` makes them all.

A new tier is ready when none of them gets through. Every program says that it has begun, and says ``ESCAPED`` where it
gets what it is after; what it does to things outside is looked at from outside as well. One that neither begins nor
ends as expected proves nothing, and is reported as unclear. `as_canary` runs an attack without a sandbox, where that
does no harm, to show that it would work.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from tunesmith.sandbox.attacks.prey import Prey
from tunesmith.sandbox.limits import MIB, Command, Ending, Limits, Outcome, Program, Python
from tunesmith.sandbox.pool import Sandbox
from tunesmith.sandbox.tiers import Tier

PRELUDE = '''
import os, sys, time
prey = {prey!r}
def escaped(what=""):
    print("ESCAPED", what, flush=True)
    sys.stdout.flush()
def known(data):
    """True where the secret is in the data."""
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    at = data.find(b"secret-")
    while at >= 0:
        value = 0xCBF29CE484222325
        for byte in data[at:at + prey["length"]]:
            value = (value ^ byte) * 0x100000001B3 % 2**64
        if value == prey["secret_hash"]:
            return True
        at = data.find(b"secret-", at + 1)
    return False
def call(number, *values):
    """A system call; its result or the negated error."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(v) if isinstance(v, int) else v for v in values])
    return -ctypes.get_errno() if result < 0 else result
print("BEGUN", flush=True)
'''


@dataclass(frozen=True)
class Attack:
    """An attempt.

    Attributes:
        name: what it tries.
        source: the program, or what makes one from the prey.
        endings: how a sandboxed attempt may end.
        limits: what it may use.
        canary: True where running it without a sandbox is harmless and shows that it works there.
        only: the tiers that it makes sense in; empty: all.
        seconds: within which it must be over.
        judge: looks at the outcome, and says what was reached, or ``None``.
        machine: the only processor it is written for, or empty.
    """

    name: str
    source: str | Callable[[Prey], Program]
    endings: tuple[Ending, ...] = ("ok",)
    limits: Limits = field(default_factory=lambda: Limits(wall=10.0, output=256 * 1024))
    canary: bool = False
    only: tuple[Tier, ...] = ()
    seconds: float = 20.0
    judge: Callable[[Outcome, Prey], str | None] | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an attempt.

    Attributes:
        attack: its name.
        tier: what it was made in.
        result: ``stopped``, ``ESCAPED``, or ``unclear`` where it did not do what it is meant to.
        detail: what is known.
    """

    attack: str
    tier: Tier
    result: Literal["stopped", "ESCAPED", "unclear"]
    detail: str


def attacks() -> list[Attack]:
    """All attempts that make sense on this machine."""
    import platform

    from tunesmith.sandbox.attacks import files, kernel, processes, resources

    found = [*files.ATTACKS, *processes.ATTACKS, *kernel.ATTACKS, *resources.ATTACKS]
    return [attack for attack in found if attack.machine in ("", platform.machine())]


def attempt(attack: Attack, sandbox: Sandbox, prey: Prey) -> Result:
    """Make one attempt."""
    start = time.monotonic()
    outcome = sandbox.run(program(attack, prey), b"", attack.limits)
    took = time.monotonic() - start
    said = outcome.stdout.decode("utf-8", "replace")
    reached = prey.reached() or (attack.judge(outcome, prey) if attack.judge else None)
    if "ESCAPED" in said or reached:
        line = next((line for line in said.splitlines() if "ESCAPED" in line), "")
        return Result(attack.name, sandbox.tier, "ESCAPED", reached or line)
    if took > attack.seconds:
        return Result(attack.name, sandbox.tier, "ESCAPED", f"it went on for {took:.0f} s")
    if outcome.ending not in attack.endings or ("BEGUN" not in said and isinstance(attack.source, str)):
        return Result(attack.name, sandbox.tier, "unclear", f"{outcome.ending}: {outcome.why[-300:]}")
    return Result(attack.name, sandbox.tier, "stopped", outcome.ending)


def program(attack: Attack, prey: Prey) -> Program:
    """The program of an attack."""
    return attack.source(prey) if callable(attack.source) else Python(text(attack.source, prey))


def text(source: str, prey: Prey) -> str:
    """The text of an attack, with what it is told of its prey."""
    return PRELUDE.format(prey=prey.known()) + source


def as_canary(attack: Attack, prey: Prey) -> bool:
    """Whether the attack works without a sandbox."""
    assert attack.canary and isinstance(attack.source, str)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", text(attack.source, prey)],
        capture_output=True,
        timeout=60,
        cwd=prey.folder,
        close_fds=False,
    )
    return b"ESCAPED" in done.stdout or prey.reached() is not None


def attempt_all(tiers: Iterable[Tier]) -> list[Result]:
    """Every attempt in every one of the tiers."""
    results = []
    for tier in tiers:
        sandbox = Sandbox(tier)
        with Prey() as prey:
            results += [
                attempt(attack, sandbox, prey) for attack in attacks() if not attack.only or tier in attack.only
            ]
    return results


def command(source: str, *, collect: str | None = None) -> Callable[[Prey], Program]:
    """An attack as a program that may write to its working folder, as compilers may."""
    from tunesmith.sandbox.tiers import open_interpreter

    def make(prey: Prey) -> Program:
        found = open_interpreter()
        assert found is not None
        files = {"attack.py": text(source, prey).encode()}
        return Command(
            (found[0], "-I", "-S", "attack.py"), files=files, writable=True, collect=collect, readable=(found[1],)
        )

    return make


SMALL = Limits(wall=10.0, memory=512 * MIB, output=256 * 1024)
