"""Bars and histograms."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from tunesmith.report.markup import Markup, tag
from tunesmith.report.svg.frame import COUNT, WIDTH, Frame, clipped, colour, figure, nothing, x_room, y_room
from tunesmith.report.svg.scales import Scale, not_finite, number, scale_of, several, within

MOST_BARS = 60
ROW = 18.0
"""Height of a horizontal bar with its gap."""


def bars(
    title: str,
    labels: Sequence[str],
    values: Mapping[str, Sequence[float]] | Sequence[float],
    *,
    unit: str = "",
    stacked: bool = False,
    marked: Collection[int] = (),
    log: bool = False,
    notes: Sequence[str] = (),
) -> Markup:
    """Upright bars.

    Args:
        title: what they show.
        labels: N names under the bars.
        values: N values, or several series of N by their names, side by side or (``stacked``) on each other.
        unit: of the values.
        marked: bars of a single series that stand out.
        log: a logarithmic scale where all values are positive.
        notes: what a reader must know.
    """
    series = dict(values) if isinstance(values, Mapping) else {"": values}
    finite = [value for row in series.values() for value in row if math.isfinite(value)]
    if not labels or not finite:
        return nothing(title)
    more, notes = len(labels) - MOST_BARS, list(notes)
    if more > 0:
        notes.append(f"the first {MOST_BARS} of {len(labels):,} are drawn")
    labels = labels[:MOST_BARS]
    tops = [sum(_known(row[i]) for row in series.values()) for i in range(len(labels))] if stacked else finite
    log = log and not stacked and min(finite) > 0
    frame = Frame(Scale(0, len(labels), *x_room()), scale_of(tops, *y_room(), log=log, zero=not log))
    every = -(-len(labels) * max(map(len, labels)) // 55)
    ticks = [(frame.x(i + 0.5), label) for i, label in enumerate(labels) if i % max(1, every) == 0]
    drawn = [frame.axes("", unit, x_ticks=ticks)]
    bases = [0.0] * len(labels)
    for place, (name, row) in enumerate(series.items()):
        lot = (place, len(series)) if not stacked else (0, 1)
        for i, label in enumerate(labels):
            if math.isfinite(row[i]):
                kind = colour(1 if i in marked else place)
                told = f"{label}{', ' if name else ''}{name}: {number(row[i])} {unit}".strip()
                drawn.append(_bar(frame, i, lot, bases[i], row[i], kind, told))
                bases[i] += row[i] if stacked else 0.0
    said = "; ".join(f"{name} {', '.join(map(number, row[:12]))}".strip() for name, row in series.items())
    legend = [(colour(i), name) for i, name in enumerate(series) if name]
    return figure(title, *drawn, says=f"Bars: {said}", legend=legend, notes=notes)


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _bar(frame: Frame, i: int, lot: tuple[int, int], base: float, value: float, kind: str, told: str) -> Markup:
    gap = 0.12
    width = (1 - 2 * gap) / lot[1]
    left, right = frame.x(i + gap + lot[0] * width), frame.x(i + gap + (lot[0] + 1) * width)
    ends = frame.y(frame.y.low if frame.y.log else base), frame.y(value if frame.y.log else base + value)
    return tag(
        "rect", tag("title", told), x=left, width=max(0.5, right - left), y=min(ends),
        height=max(0.6, abs(ends[0] - ends[1])), class_=f"bar {kind}",
    )  # fmt: skip


def rows(
    title: str,
    values: Mapping[str, Mapping[str, float]],
    *,
    unit: str = "",
    notes: Sequence[str] = (),
) -> Markup:
    """Lying bars, each a stack of named parts: a row for every key of ``values``."""
    if not values:
        return nothing(title)
    names = list(dict.fromkeys(name for parts in values.values() for name in parts))
    ends = [sum(_known(value) for value in parts.values()) for parts in values.values()]
    height = ROW * len(values) + 30
    left = min(WIDTH / 2, 8 + 5.6 * max(map(len, values)))
    across = scale_of(ends, left, WIDTH - 46, zero=True)
    drawn = []
    for i, (label, parts) in enumerate(values.items()):
        top, base = ROW * i + 6, 0.0
        drawn.append(tag("text", clipped(label, left), x=left - 4, y=top + ROW / 2 + 2, class_="end"))
        for name, value in parts.items():
            place, width = across(base), across(base + _known(value)) - across(base)
            kind = f"bar {colour(names.index(name))}"
            told = tag("title", f"{label}, {name}: {number(value)} {unit}")
            drawn.append(tag("rect", told, x=place, y=top, width=max(0.0, width), height=ROW - 5, class_=kind))
            base += _known(value)
        drawn.append(tag("text", f"{number(base)} {unit}", x=across(base) + 3, y=top + ROW / 2 + 2))
    said = "; ".join(f"{label} {number(end)} {unit}" for label, end in zip(values, ends, strict=True))
    legend = [(colour(i), name) for i, name in enumerate(names)] if len(names) > 1 else []
    return figure(title, *drawn, says=said, legend=legend, notes=notes, height=height)


def histogram(
    title: str, numbers: Sequence[float], *, bins: int = 24, x: str = "", line: float | None = None, said: str = ""
) -> Markup:
    """How often which values occur.

    Args:
        title: what is counted.
        numbers: the values; those that are not finite are counted in a note.
        bins: bars at most.
        x: name of the values.
        line: a value that is marked, such as a limit, with ``said`` as its name.
        said: see ``line``.
    """
    finite = [value for value in within(numbers) if math.isfinite(value)]
    if not finite:
        return nothing(title)
    low, high = min(finite), max(finite)
    whole = all(value == int(value) for value in finite) and high - low < bins
    low, high = (low - 0.5, high + 0.5) if whole or low == high else (low, high)
    bins = round(high - low) if whole else bins
    counts = counted(finite, low, high, bins)
    span = scale_of([low, high, *(() if line is None else (line,))], *x_room())
    frame = Frame(span, scale_of(counts, *y_room(), zero=True))
    drawn = [frame.axes(x, COUNT)]
    for i, count in enumerate(counts):
        first, last = low + (high - low) * i / bins, low + (high - low) * (i + 1) / bins
        told = number(round((first + last) / 2)) if whole else f"{number(first)} to {number(last)}"
        left, top = frame.x(first), frame.y(count)
        drawn.append(
            tag(
                "rect", tag("title", f"{told}: {count:,}"), x=left, width=max(0.5, frame.x(last) - left - 0.6), y=top,
                height=frame.y.start - top, class_="bar c0",
            )
        )  # fmt: skip
    notes = []
    if line is not None:
        drawn.append(tag("line", x1=frame.x(line), x2=frame.x(line), y1=frame.y.start, y2=frame.y.end, class_="mark"))
        notes.append(f"{said}: {number(line)}")
    if len(finite) < len(numbers):
        notes.append(not_finite(len(numbers) - len(finite)))
    mean = math.fsum(value / len(finite) for value in finite)
    says = f"{several(len(finite), 'value')} from {number(min(finite))} to {number(max(finite))}, mean {number(mean)}"
    return figure(title, *drawn, says=says, notes=[f"{says}", *notes])


def counted(numbers: Sequence[float], low: float, high: float, bins: int) -> list[int]:
    """How many of the numbers fall into each of equal parts of a range."""
    counts = [0] * bins
    for value in numbers:
        share = (value - low) / (high - low) if high > low else 0.0
        counts[min(bins - 1, max(0, int(share * bins)))] += 1
    return counts
