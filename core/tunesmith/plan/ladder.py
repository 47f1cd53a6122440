"""The smallest changes of settings that make a run fit, each computed, with what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from tunesmith.config import Run
from tunesmith.errors import TunesmithError
from tunesmith.plan.account import Memory
from tunesmith.plan.changes import Change, changed, now, options, together
from tunesmith.plan.duration import step_time
from tunesmith.plan.kinds import critic_kind
from tunesmith.plan.memory import Estimate

MOST_TOGETHER = 4
MOST_SHOWN = 3
SLACK = 1.05
"""What is near enough to the limit, roughly, to be computed exactly."""
MOST_TRIED = 5


@dataclass(frozen=True, slots=True)
class Rung:
    """A change of settings.

    Attributes:
        settings: by name.
        bytes: of memory with them.
        cost: what is given up, as a phrase.
        slower: time of a step as a multiple of that without them.
    """

    settings: Mapping[str, Any]
    bytes: float
    cost: str
    slower: float = 1.0

    @property
    def flags(self) -> str:
        """As they are written on the command line."""
        return " ".join(_flag(name, value) for name, value in self.settings.items())


def _flag(name: str, value: Any) -> str:
    if "." in name:
        return f"--set {name}={value}"
    return f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")


def climb(run: Run, estimate: Estimate, limit: float) -> list[Rung]:
    """The sets of changes that bring a run below so many bytes, of as few changes as possible, cheapest first.

    Where none does, the one that comes nearest. Sets are compared roughly; what is returned is computed.
    """
    memory, rough = estimate.of(run), replace(estimate, rough=True)
    known = list(options(run, memory))
    nearest: tuple[float, Sequence[Change]] | None = None
    for count in range(1, MOST_TOGETHER + 1):
        near: list[Sequence[Change]] = []
        for chosen in combinations(known, count):
            size = _size(run, rough, chosen)
            if size is not None and (nearest is None or size < nearest[0]):
                nearest = size, chosen
            if size is not None and size <= SLACK * limit:
                near.append(chosen)
        fits = _exact(run, estimate, memory, near, limit)
        if fits:
            return fits
    return [] if nearest is None else [_rung(run, estimate, nearest[1], memory)]


def _exact(run: Run, estimate: Estimate, memory: Memory, near: Sequence[Sequence[Change]], limit: float) -> list[Rung]:
    """Of those that are near the limit, the first few that are within."""
    fits: list[Rung] = []
    for chosen in near[:MOST_TRIED]:
        rung = _rung(run, estimate, chosen, memory)
        if rung.bytes <= limit and rung.settings not in [other.settings for other in fits]:
            fits.append(rung)
        if len(fits) == MOST_SHOWN:
            break
    return fits


def _size(run: Run, estimate: Estimate, chosen: Sequence[Change]) -> float | None:
    """Bytes with the changes; ``None`` where they contradict each other, or the run would refuse them."""
    settings = together(chosen)
    if settings is None:
        return None
    other = changed(run, settings)
    try:
        if "value" in other.method.active_roles():
            critic_kind(other.method, other.settings)
        return estimate.of(other).total
    except TunesmithError:
        return None


def _rung(run: Run, estimate: Estimate, chosen: Sequence[Change], before: Memory) -> Rung:
    settings = together(chosen) or {}
    other = changed(run, settings)
    memory = estimate.of(other)
    times = [step_time(m, r, estimate.device, estimate.devices).likely for m, r in ((memory, other), (before, run))]
    told = {name: value for name, value in settings.items() if now(run, name) != value}
    return Rung(told, memory.total, "; ".join(dict.fromkeys(change.cost for change in chosen)), times[0] / times[1])


def sharded(memory: Memory, devices: int) -> Mapping[str, float]:
    """Bytes of a device where states are spread over ``devices``: stages 1 to 3 of ZeRO (arXiv:1910.02054).

    Computed: runs hold everything on every device. Stage 3 keeps the two largest gathered layers beside its share.
    """
    peak, stages = memory.peak, {}
    kept = 1 - 1 / devices
    saved = 0.0
    for stage, component in ((1, "optimizer"), (2, "gradients"), (3, "weights")):
        saved += kept * peak.of(component)
        gathered = sum(2 * held.states.weights / max(1, held.blueprint.layers) for held in memory.held[:1])
        stages[f"ZeRO-{stage}" + (" (FSDP)" if stage == 3 else "")] = memory.total - saved + (stage == 3) * gathered
    return stages
