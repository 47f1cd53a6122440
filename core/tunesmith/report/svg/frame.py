"""What all pictures share: the figure around them, axes, and what a screen reader says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.report.markup import Markup, tag
from tunesmith.report.svg.scales import Scale, told_apart

WIDTH, HEIGHT = 360.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 34.0
"""Room for the axes."""
COUNT = "count"
"""Name of a vertical axis that has whole numbers only."""
COUNTED = frozenset({"step", "tokens"})
"""Names of axes that have whole numbers only."""
LETTER = 5.3
"""Room that a letter of a label takes, about."""
COLOURS = 8
"""Colours of the style; series beyond begin again."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Two scales on a paper."""

    x: Scale
    y: Scale
    height: float = HEIGHT

    def axes(self, x_name: str = "", y_name: str = "", *, x_ticks: Sequence[tuple[float, str]] | None = None) -> Markup:
        """Grid, numbers and names; ``x_ticks``: places and texts in place of round numbers."""
        bottom, right = self.y.start, self.x.end
        parts = []
        ticks = self.y.ticks(4, whole=y_name == COUNT)
        for tick, label in zip(ticks, told_apart(ticks), strict=True):
            place = self.y(tick)
            parts.append(tag("line", x1=self.x.start, x2=right, y1=place, y2=place, class_="rule"))
            parts.append(tag("text", label, x=self.x.start - 4, y=place + 3.5, class_="end"))
        if x_ticks is None:
            ticks = self.x.ticks(whole=x_name in COUNTED)
            x_ticks = list(zip(map(self.x, ticks), told_apart(ticks), strict=True))
        parts += [tag("text", label, x=place, y=bottom + 12, class_="mid") for place, label in x_ticks]
        if x_name:
            parts.append(tag("text", x_name, x=right, y=bottom + 26, class_="end name"))
        if y_name:
            parts.append(tag("text", y_name, x=2, y=TOP - 1, class_="name"))
        return tag("g", *parts, class_="axes")


def x_room(width: float = WIDTH) -> tuple[float, float]:
    """First and last place of a horizontal axis."""
    return LEFT, width - RIGHT


def y_room(height: float = HEIGHT) -> tuple[float, float]:
    """Lowest and highest place of a vertical axis (SVG counts downwards)."""
    return height - BOTTOM, TOP + 4


def figure(
    title: str,
    *drawn: Markup,
    says: str,
    legend: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    height: float = HEIGHT,
    width: float = WIDTH,
    **attributes: object,
) -> Markup:
    """A picture with its title, legend and notes.

    Args:
        title: what it shows.
        drawn: the parts of the drawing.
        says: what a screen reader says in its place.
        legend: classes of colours and their meaning.
        notes: what a reader must know, such as that points were left out.
        height, width: of the drawing, in its own units.
        attributes: of the ``svg`` element, for the page's script.
    """
    drawing = tag(
        "svg", *drawn, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=f"{title}. {says}", **attributes
    )
    keys = [tag("span", tag("i", class_=kind), label) for kind, label in legend]
    return tag(
        "figure",
        tag("figcaption", title),
        drawing,
        *([tag("p", *keys, class_="legend")] if keys else ()),
        *(tag("p", note, class_="note") for note in notes),
        class_="wider" if width > WIDTH else None,
    )


def nothing(title: str, why: str = "no values") -> Markup:
    """In place of a picture for which there is nothing to draw."""
    return tag("figure", tag("figcaption", title), tag("p", why, class_="note"))


def colour(place: int) -> str:
    """The class of the colour of a series."""
    return f"c{place % COLOURS}"


def clipped(label: str, room: float) -> str:
    """A label that fits into so much room, its end left out where it is too long."""
    most = max(4, int((room - 6) / LETTER))
    return label if len(label) <= most else f"{label[: most - 3]}..."
