"""Numbers to places on paper: ranges, ticks, thinning and smoothing. Nothing here draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
MOST = 400
"""Points of a curve that are drawn one by one; of more, ranges and means of equally many neighbours are drawn."""
WIDEST = 1e300
"""What lies beyond is drawn at the edge: differences would overflow."""
SQUASHED = 40.0
"""A scale is cut where single values would make it this many times wider than all but 1% at either end."""


def number(value: float | None) -> str:
    """A value in a few characters: four digits, whole numbers whole, nan and inf as what they are.

    >>> number(0.000123456), number(12345.678), number(3.0), number(math.nan)
    ('0.0001235', '12,346', '3', 'nan')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return f"{value:g}"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def told_apart(values: Sequence[float]) -> list[str]:
    """Values in few characters, but enough that none looks like another.

    >>> told_apart([1.0, 1.00002])
    ['1', '1.00002']
    """
    texts = [number(value) for value in values]
    for digits in range(5, 13):
        if len(set(texts)) == len(set(values)):
            break
        texts = [f"{value:.{digits}g}" for value in values]
    return texts


@dataclass(frozen=True, slots=True)
class Scale:
    """From values between ``low`` and ``high`` to places between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; of one beyond the scale, the edge."""
        low, high, value = (self._of(self.low), self._of(self.high), self._of(min(max(value, self.low), self.high)))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, most: int = 5, *, whole: bool = False) -> list[float]:
        """Round values on the scale, few of them; ``whole``: whole numbers only."""
        found = log_ticks(self.low, self.high, most) if self.log else round_ticks(self.low, self.high, most)
        inside = [tick for tick in found if self.low <= tick <= self.high]
        return [tick for tick in inside if tick == int(tick)] if whole else inside


def within(values: Iterable[float]) -> list[float]:
    """Finite values beyond `WIDEST` at the edge; the others, nan and infinite ones among them, as they are."""
    return [min(max(value, -WIDEST), WIDEST) if math.isfinite(value) else value for value in values]


def several(count: int, noun: str) -> str:
    """A count and what is counted.

    >>> several(1, "value"), several(2000, "value")
    ('1 value', '2,000 values')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def not_finite(count: int) -> str:
    """That so many values are no numbers."""
    return f"{several(count, 'value')} {'is' if count == 1 else 'are'} nan or infinite"


def ordinal(count: int) -> str:
    """In figures.

    >>> ordinal(2), ordinal(13), ordinal(21)
    ('2nd', '13th', '21st')
    """
    last = {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{'th' if count % 100 in (11, 12, 13) else last}"


def scale_of(values: Iterable[float], start: float, end: float, *, log: bool = False, zero: bool = False) -> Scale:
    """A scale that holds all finite values, a little wider than they are.

    Args:
        values: any; what is not finite is left out.
        start, end: places of the lowest and the highest.
        log: logarithmic, where all are positive; else it is linear.
        zero: let it begin (or end) at zero.
    """
    known = [value for value in within(values) if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    log = log and low > 0
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if zero and low == high:
        high = 1.0
    elif low == high:
        apart = 0.5 * abs(low) or 0.5
        low, high = (low / 2, high * 2) if log else (low - apart, high + apart)
    elif log:
        low, high = low / 1.1, high * 1.1
    elif not zero:
        margin = 0.04 * (high - low)
        low, high = low - margin, high + margin
    return Scale(low, high, start, end, log)


def bulk(values: Sequence[float]) -> tuple[float, float] | None:
    """The range of all but 1% at either end, where the whole range is many times wider; else ``None``."""
    known = sorted(value for value in values if math.isfinite(value))
    if len(known) < 20:
        return None
    cut = max(1, len(known) // 100)
    low, high = known[cut], known[-1 - cut]
    inner, whole = high - low, known[-1] - known[0]
    return (low - 0.5 * inner, high + 0.5 * inner) if inner > 0 and whole / inner > SQUASHED else None


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten.

    >>> round_ticks(0.0, 1.0, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, min(last, first + most + 1) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, with twos and fives between them where they are few."""
    decades = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if len(decades) < 2:
        fine = [m * 10.0**power for power in range(decades.start - 1, decades.stop + 1) for m in (1, 2, 3, 5, 7)]
        inside = [tick for tick in fine if low <= tick <= high]
        return inside if len(inside) >= 2 else round_ticks(low, high, most)
    if len(decades) == 2:
        return [m * 10.0**power for power in range(decades.start - 1, decades.stop + 1) for m in (1, 3)]
    every = math.ceil(len(decades) / most)
    return [10.0**power for power in decades[::every]]


# ---------------------------------------------------------------------------------------------- curves
@dataclass(frozen=True, slots=True)
class Thinned:
    """A curve of few points.

    Attributes:
        points: the curve itself, or the means of neighbours.
        low, high: least and greatest of the neighbours, as long as ``points``; empty where nothing was thinned.
        every: points that became one.
        lost: points whose value is not finite, in the order of the curve.
    """

    points: list[Point]
    low: list[float]
    high: list[float]
    every: int
    lost: list[Point]


def thin(points: Sequence[Point], most: int = MOST) -> Thinned:
    """At most ``most`` points; the extremes of what they stand for are kept. A gap stays: its point has a nan."""
    lost = [(x, y) for x, y in points if not math.isfinite(y)]
    every = -(-len(points) // most) if len(points) > most else 1
    if every == 1:
        return Thinned([(x, y if math.isfinite(y) else math.nan) for x, y in points], [], [], 1, lost)
    means, low, high = [], [], []
    for i in range(0, len(points), every):
        part = points[i : i + every]
        known = [y for _, y in part if math.isfinite(y)] or [math.nan]
        means.append((part[len(part) // 2][0], math.fsum(y / len(known) for y in known)))
        low.append(min(known))
        high.append(max(known))
    return Thinned(means, low, high, every, lost)


def smooth(points: Sequence[Point], width: int) -> list[Point]:
    """A line through about ``width`` neighbours on both sides of every point, the near ones counting most.

    Gaps are left out. Lines and not means, which would lag behind the curve or be flat at its ends.
    """
    known = [(x, y) for x, y in points if math.isfinite(y)]
    values = within(y for _, y in known)
    low, high = min(values, default=0.0), max(values, default=0.0)
    if max(-low, high) > WIDEST**0.5:  # sums of products would overflow
        return known
    for _ in range(2):
        values = _local_lines(values, max(1, width // 2))
    return [(x, min(max(y, low), high)) for (x, _), y in zip(known, values, strict=True)]


def _local_lines(values: Sequence[float], reach: int) -> list[float]:
    """At every place the value of the line of least squares through a window, which is cut at the ends."""
    sums = [0.0, *itertools.accumulate(values)]
    products = [0.0, *itertools.accumulate(i * value for i, value in enumerate(values))]
    found = []
    for i in range(len(values)):
        start, end = max(0, i - reach), min(len(values), i + reach + 1)
        count, centre = end - start, (start + end - 1) / 2
        total = sums[end] - sums[start]
        apart = count * (count * count - 1) / 12
        slope = (products[end] - products[start] - centre * total) / apart if apart else 0.0
        found.append(total / count + slope * (i - centre))
    return found
