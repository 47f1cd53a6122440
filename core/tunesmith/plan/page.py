"""A plan as text for the terminal, and as plain values for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.config import Run
from tunesmith.plan.account import COMPONENTS, Memory, PhaseMemory
from tunesmith.plan.duration import Range, said
from tunesmith.plan.hardware import GB, Device

BAR = 30
ROLES = ("policy", "value", "reference", "reward")
UNDER, OVER = 0.08, 0.20
"""By how much full training on a processor took more, and less, than was predicted: see benchmarks/README.md."""
UNDER_SCATTERED = 0.65
"""The same of runs with adapters or activation checkpointing, whose memory glibc's allocator does not give back."""
UNCALIBRATED = 0.15
"""The same on a GPU, where nothing was measured."""


def bounds(memory: Memory, device: Device) -> tuple[float, float]:
    """Bytes that the run takes at least and at most."""
    setup = memory.held[0].setup
    scattered = setup.adapter or setup.checkpointing
    over, under = (OVER, UNDER_SCATTERED if scattered else UNDER) if device.cpu else (UNCALIBRATED, UNCALIBRATED)
    return memory.total * (1 - over), memory.total * (1 + under)


def room(device: Device) -> float:
    """Bytes that a prediction must be within for the run to fit for sure."""
    return device.memory / (1 + (UNDER_SCATTERED if device.cpu else UNCALIBRATED))


def verdict(memory: Memory, device: Device) -> str:
    """``fits``, ``may not fit`` or ``does not fit``."""
    low, high = bounds(memory, device)
    return "fits" if high <= device.memory else "does not fit" if low > device.memory else "may not fit"


def size(value: float) -> str:
    """``12.3`` in GB; small values with more digits."""
    return f"{value / GB:.1f}" if value >= GB else f"{value / GB:.2f}"


def table(phase: PhaseMemory, device: Device) -> list[str]:
    """Components by role at the peak, with bars of the device's memory."""
    roles = [role for role in ROLES if any(r == role and v >= 5e6 for (_, r), v in phase.parts.items())]
    header = f"{'GB':<16}" + "".join(f"{role:>11}" for role in roles) + f"{'total':>10}"
    lines = [header]
    whole = max(device.memory, phase.total)
    for component in COMPONENTS:
        total = phase.of(component)
        if total < 5e6:
            continue
        cells = [phase.parts.get((component, role), 0.0) for role in roles]
        bar = "#" * max(1, round(BAR * total / whole))
        row = "".join(f"{size(cell) if cell >= 5e6 else '-':>11}" for cell in cells)
        lines.append(f"{component:<16}{row}{size(total):>10}  {bar}")
    lines.append(f"{'together':<16}" + " " * 11 * len(roles) + f"{size(phase.total):>10}")
    return lines


def phases(memory: Memory) -> str:
    """The peak of every phase on one line."""
    return "  ".join(f"{phase.name} {size(phase.total)}" for phase in memory.phases)


def times(step: Range, steps: float | None) -> str:
    """A step, and the whole run where its length is known."""
    text = f"step   {said(step.low)} to {said(step.high)}, likely {said(step.likely)}"
    if steps is None:
        return f"{text}; --rows N or --max-steps N for the whole run"
    run = step.times(steps)
    return f"{text}\nrun    {steps:,.0f} steps: {said(run.low)} to {said(run.high)}, likely {said(run.likely)}"


def as_dict(memory: Memory, device: Device, run: Run) -> dict[str, Any]:
    """What a plan says of memory, in bytes."""
    low, high = bounds(memory, device)
    return {
        "method": run.method.name,
        "model": run.settings.model,
        "device": {"name": device.name, "memory": device.memory},
        "peak_phase": memory.peak.name,
        "total": round(memory.total),
        "low": round(low),
        "high": round(high),
        "verdict": verdict(memory, device),
        "phases": {
            phase.name: {
                "total": round(phase.total),
                "parts": [
                    {"component": component, "role": role, "bytes": round(value)}
                    for (component, role), value in phase.parts.items()
                    if value
                ],
            }
            for phase in memory.phases
        },
        "models": [{"role": held.role, "model": held.blueprint.name, **_states(held.states)} for held in memory.held],
        "largest_part_tokens": sum(texts.tokens for texts in memory.part),
        "parts_of_an_update": memory.parts,
        "notes": memory.notes,
    }


def _states(states: Any) -> Mapping[str, int]:
    return {name: getattr(states, name) for name in states.__slots__}
