"""Values over two dimensions: heat maps, distributions over time, and the path of two values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunesmith.report.markup import Markup, tag
from tunesmith.report.svg.bars import counted
from tunesmith.report.svg.frame import BOTTOM, WIDTH, Frame, clipped, figure, nothing, x_room, y_room
from tunesmith.report.svg.scales import Point, Scale, not_finite, number, ordinal, scale_of, several, within

COLUMNS, WAY = 60, 60
"""Columns of a map and points of a path at most."""
BINS = 16
CELL = 13.0


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    log: bool = False,
    middle: float | None = None,
    x: str = "",
    notes: Sequence[str] = (),
) -> Markup:
    """A cell for every value, the stronger in colour the greater it is.

    Args:
        title: what it shows.
        rows, columns: R and C names, from the top and from the left.
        values: ``[R][C]``.
        log: colours by the logarithm, where all are positive.
        middle: a value without colour; what is above and what is below it get a colour each.
        x: what the columns are.
        notes: what a reader must know.
    """
    finite = [value for row in values for value in row if math.isfinite(value)]
    if not finite or not columns:
        return nothing(title)
    kept = list(range(0, len(columns), -(-len(columns) // COLUMNS)))
    notes = (
        [*notes, f"every {ordinal(kept[1])} of {len(columns):,} columns"] if len(kept) < len(columns) else list(notes)
    )
    left = min(WIDTH * 0.45, 8 + 5.4 * max(map(len, rows)))
    height = CELL * len(rows) + BOTTOM
    strength = _strength(finite, log, middle)
    width = (WIDTH - 10 - left) / len(kept)
    drawn = []
    for i, row in enumerate(rows):
        drawn.append(tag("text", clipped(row, left), x=left - 4, y=CELL * i + CELL * 0.75, class_="end"))
        for place, j in enumerate(kept):
            told = tag("title", f"{row}, {x} {columns[j]}: {number(values[i][j])}")
            kind, share = strength(values[i][j])
            drawn.append(
                tag("rect", told, x=left + place * width, y=CELL * i, width=width + 0.3, height=CELL - 1,
                    class_=f"cell {kind}", fill_opacity=share)
            )  # fmt: skip
    every = -(-len(kept) * max(len(columns[j]) for j in kept) // 40)
    for place, j in list(enumerate(kept))[:: max(1, every)]:
        middle_of = left + (place + 0.5) * width
        drawn.append(tag("text", columns[j], x=middle_of, y=CELL * len(rows) + 12, class_="mid"))
    drawn.append(tag("text", x, x=WIDTH - 10, y=CELL * len(rows) + 26, class_="end name"))
    notes.append(f"pale {number(min(finite) if middle is None else middle)}, strong {number(max(finite))}")
    size = f"{several(len(rows), 'row')}, {several(len(columns), 'column')}"
    says = f"{size}, values from {number(min(finite))} to {number(max(finite))}"
    legend = [("c1", f"above {number(middle)}"), ("c0", f"below {number(middle)}")] if middle is not None else []
    return figure(title, tag("g", *drawn, class_="axes"), says=says, legend=legend, notes=notes, height=height)


def _strength(finite: Sequence[float], log: bool, middle: float | None):  # type: ignore[no-untyped-def]
    """A function from a value to the class of its colour and how much of it there is, 0 to 1."""
    if middle is not None:
        far = max(abs(value - middle) for value in finite) or 1.0
        return lambda v: ("c1" if v > middle else "c0", min(1.0, abs(v - middle) / far)) if math.isfinite(v) else _LOST
    scale = scale_of(finite, 0.06, 1.0, log=log)
    return lambda v: ("c0", scale(v)) if math.isfinite(v) else _LOST


_LOST = ("lost", 1.0)


def spread(
    title: str,
    steps: Sequence[tuple[float, Sequence[float]]],
    *,
    x: str = "step",
    y: str = "",
    notes: Sequence[str] = (),
) -> Markup:
    """The distribution of values over time: a column of cells for neighbouring steps, and the mean before them.

    Args:
        title: of what.
        steps: the values of every step, in order; those that are not finite are counted in a note.
        x, y: names of the axes.
        notes: what a reader must know.
    """
    steps = [(step, within(values)) for step, values in steps if values]
    finite = [value for _, values in steps for value in values if math.isfinite(value)]
    if not finite:
        return nothing(title)
    every = -(-len(steps) // COLUMNS)
    parts = [steps[i : i + every] for i in range(0, len(steps), every)]
    bottom, top = y_room()
    distinct = sorted(set(finite))
    few = len(distinct) <= 3
    low, high = (min(finite), max(finite)) if min(finite) < max(finite) else (min(finite) - 0.5, max(finite) + 0.5)
    scale = Scale(low, high, bottom - 4 * few, top + 4 * few)
    frame = Frame(Scale(0, len(parts), *x_room()), scale)
    ticks = [(frame.x(i + 0.5), number(parts[i][0][0])) for i in range(0, len(parts), max(1, len(parts) // 6))]
    drawn = [frame.axes(x, y, x_ticks=ticks)]
    means = []
    for i, part in enumerate(parts):
        known = [value for _, values in part for value in values if math.isfinite(value)]
        if not known:
            continue
        means.append(f"{frame.x(i + 0.5):.1f},{frame.y(math.fsum(v / len(known) for v in known)):.1f}")
        drawn += _column(frame, i, part[0][0], known, (low, high))
    drawn.append(tag("polyline", points=" ".join(means), class_="series c1 line"))
    lost = sum(not math.isfinite(value) for _, values in steps for value in values)
    notes = [*notes, f"the stronger, the more of {several(len(finite), 'value')}; line: mean"]
    notes += [f"a column stands for {every} steps"] * (every > 1) + [not_finite(lost)] * (lost > 0)
    count = f"{several(len(finite), 'value')} at {several(len(steps), 'step')}"
    says = f"{count}, from {number(min(finite))} to {number(max(finite))}"
    return figure(title, *drawn, says=says, notes=notes)


def _column(frame: Frame, i: int, step: float, known: Sequence[float], ends: Point) -> list[Markup]:
    low, high = ends
    counts = counted(known, low, high, BINS)
    left, width = frame.x(i), frame.x(i + 1) - frame.x(i)
    tall = (frame.y(low) - frame.y(high)) / BINS
    cells = []
    for place, count in enumerate(counts):
        if count:
            edges = [low + (high - low) * (place + k) / BINS for k in (0, 1)]
            told = tag(
                "title",
                f"step {number(step)}: {count:,} of {len(known):,} from {number(edges[0])} to {number(edges[1])}",
            )
            cells.append(
                tag("rect", told, x=left, y=frame.y(low) - (place + 1) * tall, width=width + 0.2, height=tall + 0.2,
                    class_="cell c0", fill_opacity=0.12 + 0.88 * count / len(known))
            )  # fmt: skip
    return cells


def path(title: str, points: Sequence[Point], *, x: str, y: str, steps: Sequence[float] = ()) -> Markup:
    """Where two values went together: pale at the beginning, strong at the end.

    Args:
        title: what it shows.
        points: x and y of every step; those that are not finite are left out and counted.
        x, y: names of the axes.
        steps: the step of every point, for what a pointer is told.
    """
    points = list(zip(within([px for px, _ in points]), within([py for _, py in points]), strict=True))
    numbered = list(zip(steps or range(1, len(points) + 1), points, strict=True))
    known = [(step, px, py) for step, (px, py) in numbered if math.isfinite(px) and math.isfinite(py)]
    if not known:
        return nothing(title)
    every = -(-len(known) // WAY)
    parts = [known[i : i + every] for i in range(0, len(known), every)]
    means = [(p[0][0], math.fsum(q[1] for q in p) / len(p), math.fsum(q[2] for q in p) / len(p)) for p in parts]
    frame = Frame(
        scale_of([px for _, px, _ in means], *x_room()), scale_of([py for _, _, py in means], *y_room())
    )  # fmt: skip
    drawn = [frame.axes(x, y)]
    drawn.append(
        tag("polyline", points=" ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for _, a, b in means), class_="way")
    )
    for i, (step, a, b) in enumerate(means):
        told = tag("title", f"step {number(step)}: {x} {number(a)}, {y} {number(b)}")
        age = 0.15 + 0.85 * (i + 1) / len(means)
        drawn.append(tag("circle", told, cx=frame.x(a), cy=frame.y(b), r=2.6, class_="dot c0", fill_opacity=age))
    for word, (_, a, b) in (("start", means[0]), ("end", means[-1])):
        drawn.append(tag("text", word, x=frame.x(a), y=frame.y(b) - 5, class_="mid strong"))
    notes = [f"a point is the mean of {every} steps"] * (every > 1)
    lost = len(points) - len(known)
    notes += [f"{lost:,} points are not finite"] * (lost > 0)
    first, last = means[0], means[-1]
    says = f"from {x} {number(first[1])}, {y} {number(first[2])} to {x} {number(last[1])}, {y} {number(last[2])}"
    return figure(title, *drawn, says=says, notes=notes)
