"""Checks of a schedule: a pure function of the step that is a usable number everywhere."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.components import Scheduler
from tunesmith.plugins import Registry
from tunesmith.testing.report import Finding, failed, ok, skipped
from tunesmith.testing.suite import Suite

LENGTHS = (1, 2, 3, 7, 10, 100, 1000)
"""Steps of the runs that it is asked about."""
LONG = 100_000
"""Steps of a run at whose end it should have come to its end."""
NEAR = 1e-3
"""How near the last step of a long run is to what the schedule says it comes to."""
WARMUPS = (1, 3, 0.25, 0.999, 5_000)


@contextmanager
def subject(scheduler: Scheduler, registry: Registry) -> Iterator[Scheduler]:
    """The schedule itself."""
    yield scheduler


def fresh(scheduler: Scheduler) -> Scheduler:
    """Another with the same settings, as a run that is resumed makes it."""
    return type(scheduler).model_validate(dict(scheduler))


def values(scheduler: Scheduler) -> Finding:
    """At every step of runs of all lengths it is a finite number that is not negative."""
    lowest, highest = math.inf, -math.inf
    for total in LENGTHS:
        for step in range(total):
            value = scheduler(step, total)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return failed(f"step {step} of {total}: {value!r} is no number")
            if not math.isfinite(value) or value < 0:
                return failed(f"step {step} of {total}: {value}")
            lowest, highest = min(lowest, value), max(highest, value)
    return ok(f"from {lowest:g} to {highest:g} in runs of 1 to {LENGTHS[-1]:,} steps")


def single_step(scheduler: Scheduler) -> Finding:
    """A run of one step trains, with and without warm-up."""
    for warmup in (0, *WARMUPS):
        value = with_warmup(scheduler, warmup)(0, 1)
        if not (math.isfinite(value) and value > 0):
            return failed(f"the only step of a run has {value} with warmup: {warmup:g}; nothing would be trained")
    return ok(f"{scheduler(0, 1):g}")


def warm_up(scheduler: Scheduler) -> Finding:
    """The setting ``warmup`` does what its help says: a straight line from 0, of that many steps or that share."""
    for warmup in WARMUPS:
        for total in (1, 2, 10, 100):
            warmed = with_warmup(scheduler, warmup)
            count = warmed.warmup_steps(total)
            wanted = min(total, round(warmup * total) if warmup < 1 else int(warmup))
            if count != wanted:
                return failed(f"warmup: {warmup:g} of {total} steps is {wanted} steps, and not {count}")
            for step in range(count):
                value, right = warmed(step, total), (step + 1) / (count + 1)
                if not math.isclose(value, right, rel_tol=1e-9):
                    return failed(f"step {step} of {count} warm-up steps: {value:g} and not {right:g}")
    return ok("a straight line, in steps and as a share")


def with_warmup(scheduler: Scheduler, warmup: float) -> Scheduler:
    """The same schedule after another warm-up."""
    return type(scheduler).model_validate({**dict(scheduler), "warmup": warmup})


def pure(scheduler: Scheduler) -> Finding:
    """The value depends on the step and the length alone, not on what was asked before or how often."""
    asked = [(step, total) for total in (7, 100) for step in range(total)]
    first = {one: scheduler(*one) for one in asked}
    for step, total in random.Random(0).sample(asked, len(asked)):
        again = scheduler(step, total)
        if not same(again, first[step, total]):
            return failed(f"step {step} of {total}: {first[step, total]!r}, then {again!r}")
    return ok(f"{len(asked)} steps, asked in order and in no order")


def resumes(scheduler: Scheduler) -> Finding:
    """A run that goes on from the middle gets the values that it would have got without stopping."""
    for total in (7, 100):
        unbroken = fresh(scheduler)
        whole = [unbroken(step, total) for step in range(total)]
        for start in {1, total // 2, total - 1}:
            resumed = fresh(scheduler)
            for step in range(start, total):
                value = resumed(step, total)
                if not same(value, whole[step]):
                    return failed(
                        f"resumed at step {start} of {total}: step {step} is {value!r} and not {whole[step]!r}"
                    )
    return ok("the same values from the middle of a run on")


def same(one: float, other: float) -> bool:
    """True for equal values; NaN, which another check is about, is itself."""
    return one == other or (one != one and other != other)


def end(scheduler: Scheduler) -> Finding:
    """At the end of a long run it has come to where it says."""
    declared = scheduler.last_value()
    last = with_warmup(scheduler, 0)(LONG - 1, LONG)
    if declared is None:
        return skipped(f"it does not say where it ends; the last of {LONG:,} steps is {last:g}")
    if abs(last - declared) > NEAR:
        return failed(f"last_value() is {declared:g}, and the last of {LONG:,} steps {last:g}")
    return ok(f"{declared:g}")


SUITE = Suite(
    Scheduler.kind,
    subject,
    {
        "values": values,
        "single step": single_step,
        "warm-up": warm_up,
        "pure": pure,
        "resumes": resumes,
        "end": end,
    },
)
