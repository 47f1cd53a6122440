"""Curves over steps: single values, their smoothed course, spreads, and values that are no numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.report.markup import Markup, tag
from tunesmith.report.svg.frame import Frame, colour, figure, nothing, x_room, y_room
from tunesmith.report.svg.scales import Point, Scale, Thinned, bulk, not_finite, number, scale_of, several, smooth, thin

SMOOTHED = 25
"""Points from which on a curve is smoothed."""
PARTS = 20
"""The smoothed course is a mean over about one part in so many of the curve."""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve.

    Attributes:
        label: its name in the legend.
        points: x and y; y may be nan or infinite.
        smoothed: whether its smoothed course is drawn before it; else points are marked where they are few.
        low, high: a spread around it, as long as ``points``.
        place: of its colour, where it has the same in several pictures; else its place among the curves.
    """

    label: str
    points: Sequence[Point]
    smoothed: bool = True
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())
    place: int | None = None

    def kind(self, among: int) -> str:
        """The class of its colour, for the place that it has among the curves of a picture."""
        return colour(among if self.place is None else self.place)


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line with a name, such as where a run went on."""

    x: float
    label: str


def lines(
    title: str,
    series: Sequence[Line],
    *,
    x: str = "step",
    y: str = "",
    log_x: bool = False,
    log_y: bool = False,
    zero: bool = False,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Curves in one frame.

    A scale is logarithmic only where all values are positive. Where single values would hide all others the scale is
    cut, which is said; values that are not finite are marked at the upper edge and counted.
    """
    series = [line for line in series if line.points]
    if not series:
        return nothing(title)
    thinned = [thin(line.points) for line in series]
    notes: list[str] = []
    frame = Frame(
        scale_of([px for line in series for px, _ in line.points], *x_room(), log=log_x) if not _single(series)
        else Scale(series[0].points[0][0] - 1, series[0].points[0][0] + 1, *x_room()),
        _vertical(series, log_y, zero, notes),
    )  # fmt: skip
    drawn = [frame.axes(x, y), *(_mark(frame, mark) for mark in marks)]
    for place, (line, thin_) in enumerate(zip(series, thinned, strict=True)):
        drawn.append(_series(frame, line, thin_, place))
    notes += _notes(series, thinned, log_y and not frame.y.log)
    notes += [f"{mark.label}: {x} {number(mark.x)}" for mark in marks]
    named = len(series) > 1 or series[0].place is not None
    legend = [(line.kind(i), line.label) for i, line in enumerate(series)] if named else []
    says = "; ".join(map(_said, series))
    return figure(
        title, *drawn, says=says, legend=legend, notes=notes, class_="chart", data_x=x,
        data_from=frame.x.low, data_to=frame.x.high, data_log="log" if frame.x.log else None,
    )  # fmt: skip


def _single(series: Sequence[Line]) -> bool:
    return len({px for line in series for px, _ in line.points}) == 1


def _vertical(series: Sequence[Line], log: bool, zero: bool, notes: list[str]) -> Scale:
    values = [py for line in series for _, py in line.points]
    values += [edge for line in series for edge in (*line.low, *line.high)]
    positive = all(value > 0 for value in values if math.isfinite(value))
    inner = None if log and positive else bulk(values)
    if inner is not None:
        outside = [value for value in values if math.isfinite(value) and not inner[0] <= value <= inner[1]]
        notes.append(f"scale cut: {_beyond(outside)}")
        values = [value for value in values if inner[0] <= value <= inner[1]]
    return scale_of(values, *y_room(), log=log, zero=zero)


def _beyond(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"1 value beyond it, {number(values[0])}"
    return f"{len(values):,} values beyond it, from {number(min(values))} to {number(max(values))}"


def _series(frame: Frame, line: Line, thinned: Thinned, place: int) -> Markup:
    parts: list[Markup] = []
    low, high = (thinned.low, thinned.high) if thinned.low else (line.low, line.high)
    if low and len(low) == len(thinned.points):
        parts.append(_band(frame, [px for px, _ in thinned.points], low, high))
    curve = line.smoothed and len(thinned.points) >= SMOOTHED
    if not thinned.low or not curve:
        parts += _strokes(frame, thinned.points, "raw" if curve else "line")
    if curve:
        inside = [(px, py) for px, py in thinned.points if frame.y.low <= py <= frame.y.high]
        parts += _strokes(frame, smooth(inside, len(inside) // PARTS), "line")
    elif len(thinned.points) <= 40:
        parts += [
            tag("circle", cx=frame.x(px), cy=frame.y(py), r=2.0) for px, py in thinned.points if math.isfinite(py)
        ]
    parts += [_not_finite(frame, px) for px, _ in thin_marks(thinned.lost)]
    known = [(px, py) for px, py in thinned.points if math.isfinite(py)]
    return tag(
        "g", *parts, class_=f"series {line.kind(place)}", data_label=line.label,
        data_xs=" ".join(f"{px:.10g}" for px, _ in known), data_ys=" ".join(f"{py:.5g}" for _, py in known),
    )  # fmt: skip


def thin_marks(lost: Sequence[Point]) -> Sequence[Point]:
    """At most a hundred of the places of values that are not finite."""
    return lost[:: -(-len(lost) // 100)] if lost else ()


def _strokes(frame: Frame, points: Sequence[Point], kind: str) -> list[Markup]:
    """A polyline for every stretch without a gap."""
    stretches: list[list[str]] = [[]]
    for px, py in points:
        if math.isfinite(py):
            stretches[-1].append(f"{frame.x(px):.1f},{frame.y(py):.1f}")
        elif stretches[-1]:
            stretches.append([])
    return [tag("polyline", points=" ".join(part), class_=kind) for part in stretches if len(part) > 1]


def _band(frame: Frame, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Markup:
    known = [(px, a, b) for px, a, b in zip(xs, low, high, strict=True) if math.isfinite(a) and math.isfinite(b)]
    upper = [f"{frame.x(px):.1f},{frame.y(b):.1f}" for px, _, b in known]
    lower = [f"{frame.x(px):.1f},{frame.y(a):.1f}" for px, a, _ in reversed(known)]
    return tag("path", d=f"M{' '.join(upper + lower)}Z" if known else None, class_="band")


def _not_finite(frame: Frame, px: float) -> Markup:
    place, top = frame.x(px), frame.y.end
    return tag("path", d=f"M{place - 3:.1f},{top - 3:.1f}l6,6m0,-6l-6,6", class_="lost")


def _mark(frame: Frame, mark: Mark) -> Markup:
    place = frame.x(mark.x)
    return tag("line", x1=place, x2=place, y1=frame.y.start, y2=frame.y.end, class_="mark")


def _notes(series: Sequence[Line], thinned: Sequence[Thinned], linear: bool) -> list[str]:
    notes = []
    for line, thin_ in zip(series, thinned, strict=True):
        name = f"{line.label}: " if len(series) > 1 else ""
        if thin_.every > 1:
            notes.append(f"{name}{len(line.points):,} values; drawn: range and mean of every {thin_.every:,}")
        if thin_.lost:
            steps = ", ".join(number(px) for px, _ in thin_.lost[:5]) + (", ..." if len(thin_.lost) > 5 else "")
            notes.append(f"{name}{not_finite(len(thin_.lost))} (at {steps})")
    return notes + ["linear: not all values are positive"] * linear


def _said(line: Line) -> str:
    known = [(px, py) for px, py in line.points if math.isfinite(py)]
    if not known:
        return f"{line.label}: {several(len(line.points), 'value')}, none of them finite"
    (first_x, first), (last_x, last) = known[0], known[-1]
    least, most = min(py for _, py in known), max(py for _, py in known)
    count = several(len(line.points), "value")
    return (
        f"{line.label}: {count} from {number(first)} at {number(first_x)} to {number(last)} at "
        f"{number(last_x)}, least {number(least)}, greatest {number(most)}"
    )
