"""The picture on a terminal, or as plain text where the output is none."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence

import click

from .reading import Curve, Heat, Picture, evenly, layers_named

WIDTH, LEAST = 100, 60
HEIGHT = 11
"""Lines of the losses."""
CELL = 5
"""Columns of a value in a heat map, and the gap before it."""
COLD_TO_HOT = (17, 18, 19, 25, 31, 37, 72, 107, 143, 179, 214)
"""Colours of the 256 of a terminal, dark blue to orange."""


def show(found: Picture) -> None:
    """Print everything that there is."""
    width = max(LEAST, shutil.get_terminal_size((WIDTH, 40)).columns if sys.stdout.isatty() else WIDTH)
    parts = [[title(found)], layers(found, width)]
    if found.heat is not None:
        parts.append(heat_maps(found, found.heat, width))
    parts.append(losses(found, width))
    click.echo("\n\n".join("\n".join(part) for part in parts if part))


def title(found: Picture) -> str:
    """What was done, in a line."""
    chosen, how = layers_named(found.chosen), f"(selection: {found.selection})"
    if not found.copies:
        return f"{found.folder}: {chosen} trained without a copy {how}"
    return f"{found.folder}: {chosen} copied; trained: {layers_named(found.copies)} of the deeper model {how}"


# ---------------------------------------------------------------------------------------------- layers
def layers(found: Picture, width: int) -> list[str]:
    """A bar for every layer of the base, on a logarithmic scale."""
    if not found.importance:
        return ["Importance of layers was not measured."]
    length = width - 40
    heads = ["Importance of layers: nats per token that general text loses without the layer (logarithmic scale)"]
    scale = log_scale(found.importance)
    for layer, value in enumerate(found.importance):
        chosen = layer in found.chosen
        bar = block() * max(1, round(length * scale(value)))
        row = f"{'*' if chosen else ' '} layer {layer:>3}  {value:>9.4f}  "
        end = f"  copied to {found.copies[found.chosen.index(layer)]}" if chosen and found.copies else ""
        heads.append(row + click.style(bar, fg="yellow" if chosen else "blue") + (end or ("  chosen" * chosen)))
    return heads


def log_scale(values: Sequence[float]) -> Callable[[float], float]:
    """From a value to 0 (the least) to 1 (the largest), by its logarithm; what is not above 0 counts as the least."""
    positive = [value for value in values if value > 0]
    if not positive:
        return lambda value: 0.0
    low, high = math.log(min(positive)), math.log(max(positive))
    span = high - low or 1.0
    low -= 0.1 * span  # the least one has a bar as well
    return lambda value: (math.log(value) - low) / (high - low) if value > 0 and high > low else 0.0


# ---------------------------------------------------------------------------------------------- tensors
def heat_maps(found: Picture, heat: Heat, width: int) -> list[str]:
    """Importance and multiplier side by side, a line for every tensor and a column for every measurement."""
    names = [f"  {tensor}" for _, tensor in heat.units]
    room = max(map(len, names))
    places = evenly(len(heat.steps), max(1, (width - room - 4) // (2 * CELL)))
    shown = [heat.steps[i] for i in places]
    left = "all" if len(places) == len(heat.steps) else f"{len(places)} of {len(heat.steps)}"
    lines = [
        f"Tensors at {left} measurements: importance for general text (mean |weight x gradient|) and the multiplier"
    ]
    lines.append("of the learning rate that it gives them")
    span = CELL * len(places)
    lines.append(f"{'':{room}}{' importance':<{span}}  {' multiplier'}")
    steps = "".join(f"{short_step(step):>{CELL}}" for step in shown)
    lines.append(f"{'  step':{room}}{steps}  {steps}")
    scale = log_scale([value for row in heat.importance for value in row])
    before = None
    for name, unit, importance, multiplier in zip(names, heat.units, heat.importance, heat.multiplier, strict=True):
        if unit[0] != before:
            before = unit[0]
            lines.append(f"layer {before} ({found.origin(before)})")
        one = "".join(cell(short(importance[i]), scale(importance[i])) for i in places)
        other = "".join(cell(f"{multiplier[i]:.2f}", multiplier[i] / 2) for i in places)
        lines.append(f"{name:{room}}{one}  {other}")
    means = "".join(f"{heat.mean_multiplier[i]:>{CELL}.2f}" for i in places)
    lines.append(f"{'mean of all numbers':{room}}{'':{span}}  {means}")
    return lines


def cell(text: str, heat: float) -> str:
    """A value in the colour of ``heat`` (0 to 1)."""
    place = round(min(1.0, max(0.0, heat)) * (len(COLD_TO_HOT) - 1))
    return " " + click.style(f"{text:>{CELL - 1}}", bg=COLD_TO_HOT[place], fg=231 if place < 6 else 16)


def short(value: float) -> str:
    """A number in four characters.

    >>> short(0.00123), short(4.5e-12), short(0.0)
    ('1e-3', '5e-12', '0')
    """
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def short_step(step: int) -> str:
    """A step in four characters: 24000 is 24k."""
    return str(step) if step < 10_000 else f"{step / 1000:.0f}k"


# ---------------------------------------------------------------------------------------------- losses
def losses(found: Picture, width: int) -> list[str]:
    """General and domain loss over the run, as letters on a grid."""
    general, domain = "held-out" if found.held_out[0] else "probe", "held-out" if found.held_out[1] else "training"
    curves = {"g": found.general, "d": found.domain}
    drawn = {letter: curve for letter, curve in curves.items() if curve}
    if not drawn:
        return ["No losses yet."]
    lines = [f"Losses, nats per token: g general ({general}), d domain ({domain})"]
    lines += grid(drawn, width - 12)
    ends = {"general": drawn.get("g", []), "domain": drawn.get("d", [])}
    return [*lines, ", ".join(f"{name} {changed(curve)}" for name, curve in ends.items() if curve)]


def changed(curve: Curve) -> str:
    """The first and the last value, or the only one."""
    first, last = curve[0][1], curve[-1][1]
    return f"{first:.3f}" if len(curve) == 1 else f"{first:.3f} -> {last:.3f} ({last - first:+.3f})"


def grid(curves: dict[str, Curve], columns: int) -> list[str]:
    """Curves as letters; a column without a point of its own lies on the line between its neighbours."""
    last = max(curve[-1][0] for curve in curves.values()) or 1
    values = [value for curve in curves.values() for _, value in curve]
    low, high = min(values), max(values)
    span = high - low or 1.0
    cells = [[" "] * columns for _ in range(HEIGHT)]
    for letter, curve in curves.items():
        for column in range(columns):
            value = between(curve, last * column / (columns - 1))
            if value is not None:
                row = round((HEIGHT - 1) * (high - value) / span)
                cells[row][column] = "*" if cells[row][column] not in (" ", letter) else letter
    colours = {"g": "cyan", "d": "yellow"}
    lines = []
    for row, line in enumerate(cells):
        label = f"{high - span * row / (HEIGHT - 1):8.3f} |" if row % 2 == 0 else f"{'':8} |"
        lines.append(label + "".join(click.style(c, fg=colours[c]) if c in colours else c for c in line).rstrip())
    end = f"step {last}"
    return [*lines, f"{'':8} +{'-' * columns}", f"{'':10}0{end:>{columns - 1}}"]


def between(curve: Curve, step: float) -> float | None:
    """The value at a step by linear interpolation; ``None`` before the first and after the last point."""
    for (left, one), (right, other) in itertools.pairwise(curve):
        if left <= step <= right:
            return one if right == left else one + (other - one) * (step - left) / (right - left)
    return curve[0][1] if len(curve) == 1 and step == curve[0][0] else None


def block() -> str:
    """A full block where the terminal can write it."""
    encoding = (sys.stdout.encoding or "ascii").lower()
    return "\u2588" if "utf" in encoding and os.environ.get("TERM") != "dumb" else "#"
