"""How fast each tensor of the copies learns: the more general text needs it, the slower. Plain numbers, no tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Calibration = Literal["all", "non-norm"]
Renormalize = Literal["none", "numel-mean-one"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A parameter tensor that has a learning rate of its own; ``norm``: it belongs to a norm."""

    size: int
    norm: bool


def multipliers(
    importance: Mapping[str, float],
    units: Mapping[str, Unit],
    *,
    calibration: Calibration = "non-norm",
    floor: float = 0.0,
    renormalize: Renormalize = "none",
) -> dict[str, float]:
    """``2 * (1 - I)`` with I scaled to [0, 1] over the units (arXiv:2510.10071, stage 2).

    The gains of norms are far more important than matrices, for each of their few numbers moves a whole channel. Scaled
    together with them, nearly all matrices would get 2. So with ``non-norm`` matrices are scaled over the range of
    what is no norm, and norms over the range of everything. Where all are equally important every unit gets 1.

    Args:
        importance: by unit, at least 0; any scale.
        units: the same names.
        calibration: what the range is taken over.
        floor: the least multiplier; the most important unit would get 0 and never move.
        renormalize: ``numel-mean-one`` divides by the mean over all numbers that are trained, so that the mean learning
            rate is the one that was asked for; multipliers may then exceed 2.
    """
    whole = _range(importance.values())
    others = [value for name, value in importance.items() if not units[name].norm]
    inner = _range(others) if calibration == "non-norm" and others else whole
    found = {}
    for name, value in importance.items():
        low, high = whole if units[name].norm else inner
        scaled = (value - low) / (high - low) if high > low else 0.5
        found[name] = max(floor, 2.0 * (1.0 - scaled))
    mean = mean_multiplier(found, units)
    if renormalize == "numel-mean-one" and mean > 0:
        found = {name: value / mean for name, value in found.items()}
    return found


def mean_multiplier(multiplier: Mapping[str, float], units: Mapping[str, Unit]) -> float:
    """The mean over all numbers that are trained, so weighted by the size of the units."""
    total = sum(units[name].size for name in multiplier)
    return sum(value * units[name].size for name, value in multiplier.items()) / total


def _range(values: Iterable[float]) -> tuple[float, float]:
    numbers = list(values)
    return min(numbers), max(numbers)
