"""A comparison of runs as a page: numbers, what differs, and curves of groups with their spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tunesmith.report import svg
from tunesmith.report.compare import LAST, Comparison, Group, compared_metrics
from tunesmith.report.folder import Curve
from tunesmith.report.markup import Markup
from tunesmith.report.page import Page, details, grid, notice, table
from tunesmith.report.svg.scales import Point

PARTS = 120
"""Points of a curve in a comparison at most: means of neighbouring steps."""


def page(comparison: Comparison) -> Page:
    """The page of a comparison."""
    groups = comparison.groups
    runs = sum(len(group.runs) for group in groups)
    head = ["", *(f"{group.name} (n = {len(group.runs)})" for group in groups)]
    said = f"Final: mean over the last {LAST:.0%} of the steps. Best: of the smoothed course. Mean +- sd over runs."
    found = Page(f"{runs:,} runs in {len(groups):,} groups", *(notice(note, "warning") for note in comparison.notes))
    rows = [[row.name, *(spread.text(row.show) for spread in row.spreads)] for row in comparison.rows]
    found.section("Numbers", said, table(head, rows, numbers=range(1, len(head))))
    key = compared_metrics(groups)
    first, others = _curves(groups, list(key)), _curves(groups, [name for name in _names(groups) if name not in key])
    said = "Lines: mean of a group; bands: one standard deviation over its runs."
    folded = [details(f"{len(others):,} other metrics", grid(*others))] if others else []
    found.section("Curves", said, grid(*first, *_ways(groups)), *folded)
    if comparison.differ:
        differing = [[name, *map(str, values)] for name, values in comparison.differ.items()]
        found.section("Settings that differ", table(["setting", *(group.name for group in groups)], differing))
    listed = [[group.name, str(run.path), run.settings.get("seed", "?")] for group in groups for run in group.runs]
    return found.section("Runs", table(["group", "run", "seed"], listed))


def _names(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for run in group.runs for name in run.curves))


def _curves(groups: Sequence[Group], names: Sequence[str]) -> list[Markup]:
    drawn = []
    for name in names:
        lines = [line for i, group in enumerate(groups) if (line := _line(group, name, i)) is not None]
        if lines:
            drawn.append(svg.lines(name, lines))
    return drawn


def _line(group: Group, name: str, place: int) -> svg.Line | None:
    """The mean of a metric over the runs of a group, and a deviation to both sides."""
    curves = [run.curve(name) for run in group.runs if name in run.curves]
    if not curves:
        return None
    every = max(1, -(-max(len(curve.values) for curve in curves) // PARTS))
    by_step: dict[float, list[float]] = {}
    for curve in curves:
        for step, value in _means(curve, every):
            by_step.setdefault(step, []).append(value)
    points = [(step, math.fsum(values) / len(values)) for step, values in sorted(by_step.items())]
    smoothed = not name.startswith("eval/")
    if len(curves) < 2:
        return svg.Line(group.name, points, smoothed=smoothed, place=place)
    apart = [_deviation(values) for _, values in sorted(by_step.items())]
    low = [value - sd for (_, value), sd in zip(points, apart, strict=True)]
    high = [value + sd for (_, value), sd in zip(points, apart, strict=True)]
    return svg.Line(group.name, points, smoothed=smoothed, low=low, high=high, place=place)


def _means(curve: Curve, every: int) -> list[Point]:
    """Means of neighbouring steps, at the last of them."""
    points = curve.points()
    parts = (points[i : i + every] for i in range(0, len(points), every))
    return [(part[-1][0], math.fsum(value for _, value in part) / len(part)) for part in parts]


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def _ways(groups: Sequence[Group]) -> list[Markup]:
    """Reward against KL, a curve for each group."""
    lines = []
    for i, group in enumerate(groups):
        kl = _line(group, "kl_per_answer", i) or _line(group, "kl", i)
        reward = _line(group, "reward", i)
        if kl is not None and reward is not None:
            at = dict(reward.points)
            points = sorted((value, at[step]) for step, value in kl.points if step in at and math.isfinite(value))
            lines.append(svg.Line(group.name, points, place=i))
    return [svg.lines("Reward against KL", lines, x="KL", y="reward")] if lines else []
