"""Schedules: pure functions of the step, for the learning rate and for any weight that changes over a run.

All of them share their end points. With T steps in the run and W of them warm-up (steps count from 0):

- during the warm-up step s is (s + 1) / (W + 1), so neither its first step nor its last one is wasted at 0 or at the
  peak; W = 3 gives 1/4, 2/4, 3/4;
- step W, the first after the warm-up, is exactly 1;
- a decay over D steps would reach its floor at step T, one past the last, so no step is spent at a rate of 0. The
  last step, T - 1, stands at progress (D - 1) / D; what that gives is said with each schedule.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import Scheduler


class Constant(Scheduler):
    """The peak at every step after the warm-up."""

    name: ClassVar[str] = "constant"

    def last_value(self) -> float:
        """The peak."""
        return 1.0

    def shape(self, step: int, total: int) -> float:
        """Always 1."""
        return 1.0


class Decaying(Scheduler):
    """Base of the schedules that fall; not a schedule itself."""

    final: float = Field(default=0.0, ge=0, le=1)
    """Floor, as a share of the peak."""

    def last_value(self) -> float | None:
        """The floor."""
        return self.final

    def above_floor(self, height: float) -> float:
        """Stretch a height between 0 and 1 to between the floor and 1; both ends are exact in floating point."""
        return self.final + (1.0 - self.final) * height


class Linear(Decaying):
    """A straight line from the peak to the floor, which is 0 by default (arXiv:2502.15938).

    With D steps after the warm-up, the last step is final + (1 - final) / D: for D = 4 and final = 0 the steps are
    1, 3/4, 2/4, 1/4.
    """

    name: ClassVar[str] = "linear"

    def shape(self, step: int, total: int) -> float:
        """Progress p = step / total gives 1 - p."""
        return self.above_floor(1.0 - min(1.0, step / total))


class Cosine(Decaying):
    """Half a cosine from the peak to the floor, which is a tenth by default (arXiv:1608.03983, arXiv:2203.15556).

    With D steps after the warm-up, the last step is final + (1 - final) * sin(pi / 2D)^2: for D = 4 and final = 0 the
    steps are 1, 0.853553, 0.5, 0.146447, because (1 + cos(pi / 4)) / 2 = (2 + sqrt 2) / 4.
    """

    name: ClassVar[str] = "cosine"
    final: float = Field(default=0.1, ge=0, le=1)
    """Floor, as a share of the peak."""

    def shape(self, step: int, total: int) -> float:
        """Progress p = step / total gives (1 + cos(pi p)) / 2."""
        return self.above_floor((1.0 + math.cos(math.pi * min(1.0, step / total))) / 2.0)


class WSD(Decaying):
    """Warm-up, a long stable phase at the peak, and a decay at the end (arXiv:2404.06395, arXiv:2405.18392).

    The decay takes D = round(decay * T) steps, or all steps after the warm-up if there are fewer. Its last step is
    final + (1 - final) * h, where h is 1 / D for linear, 1 - sqrt(1 - 1 / D) for sqrt and sin(pi / 2D)^2 for cosine:
    for T = 8, decay = 0.5 and linear the steps are 1, 1, 1, 1, 1, 3/4, 2/4, 1/4.
    """

    name: ClassVar[str] = "wsd"
    decay: float = Field(default=0.2, ge=0, le=1)
    """Length of the decay, as a share of the whole run."""
    decay_shape: Literal["sqrt", "linear", "cosine"] = "sqrt"
    """How it falls with progress p: 1 - sqrt(p), 1 - p, or half a cosine."""

    def __call__(self, step: int, total: int) -> float:
        """The multiplier for 0-based ``step`` of ``total`` steps; the decay's length counts from the whole run."""
        length = min(round(self.decay * total), total - self.warmup_steps(total))
        done = step - (total - length)
        if done <= 0 or not length:
            return super().__call__(step, total)
        progress = min(1.0, done / length)
        if self.decay_shape == "sqrt":
            return self.above_floor(1.0 - math.sqrt(progress))
        if self.decay_shape == "linear":
            return self.above_floor(1.0 - progress)
        return self.above_floor((1.0 + math.cos(math.pi * progress)) / 2.0)

    def last_value(self) -> float:
        """The floor, or the peak where there is no decay."""
        return self.final if self.decay else 1.0

    def shape(self, step: int, total: int) -> float:
        """The stable phase: 1."""
        return 1.0


class InverseSqrt(Decaying):
    """The inverse square root of the step: no end to plan for (arXiv:1706.03762).

    Step s after the warm-up is sqrt(timescale / (timescale + s)), and never less than the floor; the length of the run
    does not matter. For timescale = 3: 1, sqrt(3/4) = 0.866025, sqrt(3/5) = 0.774597, sqrt(3/6) = 0.707107, and 1/2
    at s = 9.
    """

    name: ClassVar[str] = "inverse-sqrt"
    timescale: int = Field(default=1000, ge=1)
    """Steps after which the rate has fallen to 0.71 of the peak; after three times as many it is half."""

    def last_value(self) -> None:
        """It never ends, it only falls."""

    def shape(self, step: int, total: int) -> float:
        """The multiplier for ``step`` after the warm-up."""
        return max(self.final, math.sqrt(self.timescale / (self.timescale + step)))


@tunesmith.hookimpl
def tunesmith_register_schedulers() -> list[type[Scheduler]]:
    """Register the built-in schedules."""
    return [Constant, Linear, Cosine, WSD, InverseSqrt]
