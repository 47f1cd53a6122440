"""Time of a step: arithmetic over what a device can do, and bytes over its bandwidth where tokens come one by one.

A range and never one number: what share of the peak is reached, and how long rows and answers are, is not known before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunesmith.components import Phase
from tunesmith.config import Run
from tunesmith.plan.account import Held, Memory
from tunesmith.plan.hardware import Device

UTILISATION = (0.45, 0.35, 0.2)
"""Share of the peak arithmetic that training reaches: optimistic, likely, pessimistic. A prior: no run was measured."""
BANDWIDTH_SHARE = (0.7, 0.45, 0.2)
LAYER_SECONDS = (0.2e-3, 0.5e-3, 1.0e-3)
"""Overhead of one layer in one step of sampling on a GPU, where the processor hands every operation over."""
FILLED = (0.3, 0.6, 1.0)
"""Share of the longest length that rows and answers have on average."""


@dataclass(frozen=True, slots=True)
class Range:
    """Seconds: low, likely, high."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> Range:
        """All three times a factor."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)


def step_time(memory: Memory, run: Run, device: Device, devices: int) -> Range:
    """Seconds of an optimizer step, rewards that are no models left out."""
    return Range(*(_step(memory, run, device, devices, case) for case in range(3)))


def _step(memory: Memory, run: Run, device: Device, devices: int, case: int) -> float:
    seconds = 0.0
    for phase in memory.workload.phases:
        models = [held for role in phase.roles for held in memory.held if held.role == role] or memory.held[:1]
        if phase.does == "sample":
            seconds += _sampling(phase, models[0], run, device, devices, case)
        for held in models:
            flops = phase_flops(phase, held, FILLED[case])
            seconds += flops / (devices * device.flops * UTILISATION[case])
    return seconds


def phase_flops(phase: Phase, held: Held, filled: float = 1.0) -> float:
    """Operations of a phase in a model: 2 for a parameter and token forward, attention beside it.

    A backward pass takes twice that where all weights train, once where few do; checkpointing adds a forward pass.
    """
    texts, trees = phase.texts, phase.trees * phase.passes
    tokens = texts.tokens * filled * trees if phase.does != "sample" else texts.prompt * phase.trees
    scored = texts.scored * filled * trees if phase.does != "sample" else 0.0
    blueprint = held.blueprint
    body = max(0, held.states.parameters - 2 * blueprint.vocabulary * blueprint.hidden)
    if not held.setup.own_base:
        body = 12 * blueprint.layers * blueprint.hidden**2
    attention = 2 * blueprint.layers * blueprint.hidden * texts.longest * filled
    forward = tokens * (2 * body + attention)
    head = 0.0 if held.setup.score else 2 * scored * blueprint.vocabulary * blueprint.hidden
    if phase.does != "train" or not held.setup.trained:
        return forward + head
    few = held.setup.adapter or held.setup.trained_layers is not None
    return forward * (2 if few else 3) + head * (2 if few else 3) + (forward if held.setup.checkpointing else 0)


def _sampling(phase: Phase, held: Held, run: Run, device: Device, devices: int, case: int) -> float:
    """Every step of sampling reads all weights and the cache of what grows."""
    texts, blueprint = phase.texts, held.blueprint
    answers = math.ceil(phase.trees / devices) * texts.answers
    engine = run.method.generator.memory_needed(answers, texts.longest)  # type: ignore[attr-defined]  # what samples has one
    growing = max(1, min(answers, engine.cache_tokens // texts.longest)) if engine.cache_tokens else answers
    steps = texts.answer * FILLED[case] * math.ceil(answers / growing)
    width = held.setup.dtype.itemsize
    cache = 2 * blueprint.key_width * blueprint.layers * width * growing * (texts.prompt + texts.answer / 2)
    read = (held.states.parameters * width + cache) / (device.bandwidth * BANDWIDTH_SHARE[case])
    compute = 2 * held.states.parameters * growing / (device.flops * UTILISATION[case])
    handing_over = 0.0 if device.cpu else blueprint.layers * LAYER_SECONDS[case]
    return steps * max(read, compute, handing_over)


def said(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.4 h``, ``5.2 days``."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.0f} days" if seconds > 864_000 else f"{seconds / 86_400:.1f} days"
