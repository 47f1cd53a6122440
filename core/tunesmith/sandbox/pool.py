"""The sandbox as others use it."""

from __future__ import annotations

import errno
import logging
import marshal
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from tunesmith import unsandboxed
from tunesmith.errors import ConfigError
from tunesmith.sandbox import probes
from tunesmith.sandbox.execution import execute
from tunesmith.sandbox.limits import Calls, Command, Limits, Outcome, Program
from tunesmith.sandbox.tiers import Tier
from tunesmith.sandbox.workplace import check_names

log = logging.getLogger(__name__)
LONGEST = 4 * 2**20
"""Bytes of a program's text at most."""
PAUSES = (1.1, 2.2, 4.4)
"""Seconds between attempts where no process could be started: another program may hold all that our user may have, and
what runs is counted once a second."""


class Sandbox:
    """Runs programs, each in a fresh process tree that is gone when `run` returns.

    It may be used by several threads at once.

    Args:
        tier: ``auto`` takes the strongest that works here. A tier that is named is that tier or an error.
        concurrency: programs that `run_all` has running at a time; 0: one for each processor.

    Raises:
        ResourceError: the tier does not work here; with the reason, and what to do.
    """

    def __init__(self, tier: Literal["auto"] | Tier = "auto", *, concurrency: int = 0) -> None:
        if tier == "auto":
            self.tier: Tier = probes.strongest()
        elif tier == "none":
            if not unsandboxed.allowed():
                raise ConfigError("there is no leave to run code without a sandbox", fix=f"add {unsandboxed.FLAG}")
            self.tier = "none"
        else:
            probes.require(tier)
            self.tier = tier
        if self.tier == "none":
            log.warning("MODEL-WRITTEN CODE RUNS WITHOUT A SANDBOX: it can read and change what you can")
        self.concurrency = concurrency or len(os.sched_getaffinity(0))

    def run(self, program: Program, stdin: bytes = b"", limits: Limits | None = None) -> Outcome:
        """Run one program and wait for its end. What it does never raises; see `Outcome.ending`."""
        refused = _refused(program)
        if refused:
            return Outcome("refused", refused)
        outcome = execute(self.tier, program, stdin, limits or Limits())
        for pause in PAUSES:
            if not _crowded_out(outcome):
                break
            time.sleep(pause)
            outcome = execute(self.tier, program, stdin, limits or Limits())
        return outcome

    def run_all(self, jobs: Iterable[tuple[Program, bytes, Limits]]) -> list[Outcome]:
        """Run several at a time; the outcomes are in the order of the jobs."""
        listed: Sequence[tuple[Program, bytes, Limits]] = list(jobs)
        if len(listed) < 2 or self.concurrency < 2:
            return [self.run(*job) for job in listed]
        # a program dies with the thread that started it, and every thread waits for its program
        with ThreadPoolExecutor(min(self.concurrency, len(listed))) as threads:
            return list(threads.map(lambda job: self.run(*job), listed))


def _crowded_out(outcome: Outcome) -> bool:
    """Whether the sandbox itself found no room for a process; the program has not run then."""
    return outcome.ending == "infrastructure" and f"[Errno {errno.EAGAIN}]" in outcome.why


def _refused(program: Program) -> str | None:
    if isinstance(program, Command):
        bad = check_names(program.files, program.collect)
        return None if bad is None else f"{bad!r} is no plain file name"
    if len(program.source) > LONGEST:
        return f"its text is longer than {LONGEST:,} characters"
    try:
        program.source.encode("utf-8")
    except UnicodeEncodeError:
        return "its text holds half of a surrogate pair"
    if isinstance(program, Calls):
        return _refused_calls(program)
    return None


def _refused_calls(program: Calls) -> str | None:
    try:
        marshal.dumps([(list(args), dict(kwargs)) for args, kwargs in program.calls])
    except (TypeError, ValueError):
        return "its arguments are not plain data"
    if not all(part.isidentifier() for part in program.function.split(".")):
        return f"{program.function!r} is no name of a function"
    return None
