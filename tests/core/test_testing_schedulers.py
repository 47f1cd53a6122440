"""The checks of schedules: good ones pass, and every fault is found by the check that is meant for it."""

import math
from typing import ClassVar

import pytest
from pydantic import PrivateAttr

from tunesmith import Scheduler, plugins
from tunesmith.plugins import load
from tunesmith.testing import check

BUILT_IN = sorted(c.name for plugin, c in load().entries("scheduler") if plugin.distribution == plugins.GROUP)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_schedule_keeps_its_promises(registry, name):
    report = check(registry.get("scheduler", name))
    assert report.failed == []
    assert {finding.check for finding in report.skipped} <= {"end"}


class Falling(Scheduler):
    """A line from 1 to 0."""

    name: ClassVar[str] = "falling"

    def last_value(self):
        return 0.0

    def shape(self, step: int, total: int) -> float:
        return 1.0 - step / total


def test_a_schedule_that_keeps_its_promises_passes_every_check():
    report = check(Falling, warmup=0.1)
    assert report.failed == [] and report.skipped == []


class BelowZero(Falling):
    """Goes on below 0."""

    def shape(self, step, total):
        return 1.0 - 1.1 * step / total

    def last_value(self):
        return None


class NotFinite(Falling):
    """Divides by zero in its own way."""

    def shape(self, step, total):
        return math.nan if total == 7 and step == 3 else super().shape(step, total)


class NoNumber(Falling):
    """Returns text."""

    def shape(self, step, total):
        return "1.0" if total == 1000 and step == 999 else super().shape(step, total)


class NothingInOne(Falling):
    """Trains nothing in a run of one step."""

    def shape(self, step, total):
        return 1.0 - (step + 1) / total


class DividesByZero(Falling):
    """Falls over the run of one step."""

    def __call__(self, step, total):
        return super().__call__(step, total) * (1.0 if total > 1 or self.warmup else 1 / (total - 1))


class NoWarmup(Falling):
    """Leaves the warm-up out."""

    def __call__(self, step, total):
        return self.shape(step, total)


class OtherWarmup(Falling):
    """Takes the share of the warm-up for another."""

    def warmup_steps(self, total):
        return min(total, round(2 * self.warmup * total) if self.warmup < 1 else int(self.warmup))


class Counts(Falling):
    """Counts its calls instead of reading the step."""

    _calls: int = PrivateAttr(default=0)

    def __call__(self, step, total):
        self._calls = (self._calls + 1) % 1000
        return super().__call__(step, total) + 1e-6 * self._calls


class RemembersTheStart(Falling):
    """Measures from the first step that it is asked about."""

    _first: int | None = PrivateAttr(default=None)

    def shape(self, step, total):
        self._first = step if self._first is None else self._first
        return 1.0 - max(0, step - self._first) / total


class EndsElsewhere(Falling):
    """Says that it ends at a tenth."""

    def last_value(self):
        return 0.1


@pytest.mark.parametrize(
    ("fault", "name", "seen"),
    [
        (BelowZero, "values", "of 100: -"),
        (NotFinite, "values", "step 3 of 7: nan"),
        (NoNumber, "values", "step 999 of 1000: '1.0' is no number"),
        (NothingInOne, "single step", "the only step of a run has 0.0"),
        (DividesByZero, "single step", "ZeroDivisionError"),
        (NoWarmup, "warm-up", "step 0 of 1 warm-up steps: 1 and not 0.5"),
        (OtherWarmup, "warm-up", "warmup: 0.25 of 2 steps is 0 steps, and not 1"),
        (Counts, "pure", ", then "),
        (RemembersTheStart, "resumes", "resumed at step 1 of 7: step 1 is 1.0 and not"),
        (EndsElsewhere, "end", "last_value() is 0.1, and the last of 100,000 steps 1e-05"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_fault_is_found_by_its_check(failed_checks, fault, name, seen):
    found = failed_checks(fault)
    assert seen in found[name]
    beside = {
        RemembersTheStart: {"end"},
        Counts: {"warm-up", "resumes"},
        DividesByZero: {"values"},
        NothingInOne: {"values"},
    }
    assert set(found) - {name} <= beside.get(fault, set())
