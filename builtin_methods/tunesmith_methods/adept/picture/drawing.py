"""The picture as a PNG. matplotlib is imported here, where it is used: nothing else needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith import ConfigError, ResourceError

from .reading import Curve, Heat, Picture, evenly, layers_named

BLUE, ORANGE, GREY = "#4878a8", "#d9802e", "#9a9a9a"
INCHES_A_ROW = 0.19
LABELLED = 40
"""Layers up to which every one has its number below it."""


def save(found: Picture, path: Path) -> None:
    """Draw a run into a file.

    Raises:
        ConfigError: the file cannot be written.
        ResourceError: matplotlib is not installed.
    """
    figure = figure_of(found)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise ConfigError(f"--png: cannot write {path}", why=str(error)) from None


def figure_of(found: Picture) -> Any:
    """Everything that there is, as a figure of matplotlib. Raises `ResourceError` where that is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ResourceError(
            "a PNG needs matplotlib, which is not installed",
            why=str(error),
            fix="pip install matplotlib, or leave --png out: the picture on the terminal needs nothing",
        ) from None
    below = 0.0 if found.heat is None else 1.3 + INCHES_A_ROW * (len(found.heat.units) + len(gaps(found.heat)))
    figure = Figure(figsize=(12, 4.4 + below), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    figure.suptitle(heading(found), fontsize=12)
    upper, lower = figure.subfigures(2, 1, height_ratios=[4.4, below]) if below else (figure.subfigures(1, 1), None)
    bars, curves = upper.subplots(1, 2)
    draw_layers(bars, found)
    draw_losses(curves, found)
    if found.heat is not None:
        draw_heat(lower, found, found.heat)
    return figure


def heading(found: Picture) -> str:
    """What was done, in a line."""
    where = f"copied to {', '.join(map(str, found.copies))}" if found.copies else "trained without a copy"
    return f"{found.folder.name}: {layers_named(found.chosen)} {where} (selection: {found.selection})"


# ---------------------------------------------------------------------------------------------- layers
def draw_layers(axes: Any, found: Picture) -> None:
    """A bar for every layer of the base on a logarithmic scale, the chosen ones in another colour."""
    from matplotlib.patches import Patch

    axes.set_title("What general text loses without a layer", fontsize=10, loc="left")
    if not found.importance:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=GREY, transform=axes.transAxes)
        axes.set_axis_off()
        return
    places = range(len(found.importance))
    colours = [ORANGE if layer in found.chosen else BLUE for layer in places]
    bars = axes.bar(places, found.importance, color=colours)
    if min(found.importance) > 0:
        axes.set_yscale("log")
    if len(places) <= LABELLED:
        axes.set_xticks(places)
    if len(places) <= 12:
        axes.bar_label(bars, fmt="%.3g", fontsize=8, padding=2)
    axes.margins(x=0.02, y=0.12)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("layer of the base", fontsize=9)
    axes.set_ylabel("nats per token", fontsize=9)
    named = {ORANGE: "copied" if found.copies else "trained", BLUE: "left as it is"}
    axes.legend(handles=[Patch(color=colour, label=label) for colour, label in named.items()], fontsize=8)
    spare(axes)


# ---------------------------------------------------------------------------------------------- losses
def draw_losses(axes: Any, found: Picture) -> None:
    """General and domain loss, and the training loss behind them."""
    axes.set_title("Loss over the run", fontsize=10, loc="left")
    if found.training:
        axes.plot(*zip(*found.training, strict=True), color=GREY, alpha=0.35, lw=0.8, label="training, every step")
    if found.held_out[0] and found.probe:
        axes.plot(*zip(*found.probe, strict=True), color=BLUE, lw=1, ls=":", marker=".", ms=4, label="general, probe")
    above = bool(found.domain and found.general) and found.domain[-1][1] > found.general[-1][1]
    _curve(axes, found.domain, ORANGE, f"domain, {'held out' if found.held_out[1] else 'training'}", above=above)
    _curve(axes, found.general, BLUE, f"general, {'held out' if found.held_out[0] else 'probe'}", above=not above)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.12)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("nats per token", fontsize=9)
    axes.tick_params(labelsize=8)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    spare(axes)


def _curve(axes: Any, curve: Curve, colour: str, label: str, *, above: bool) -> None:
    """Points, and above or below the last one what has changed since the first."""
    if not curve:
        return
    axes.plot(*zip(*curve, strict=True), color=colour, lw=1.8, marker="o", ms=3.5, label=label)
    (_, first), (step, last) = curve[0], curve[-1]
    text = f"{last - first:+.3f} {label.partition(',')[0]}"
    offset = (0, 7 if above else -14)
    axes.annotate(text, (step, last), offset, textcoords="offset points", ha="right", fontsize=8, color=colour)


def spare(axes: Any) -> None:
    """No box around the plot."""
    axes.spines[["top", "right"]].set_visible(False)


# ---------------------------------------------------------------------------------------------- tensors
def draw_heat(figure: Any, found: Picture, heat: Heat) -> None:
    """Importance and multiplier of every tensor (rows) at every measurement (columns), a gap between layers."""
    from matplotlib.colors import LogNorm, TwoSlopeNorm

    positive = [value for row in heat.importance for value in row if value > 0] or [1.0]
    left, right = figure.subplots(1, 2, sharey=True)
    scale = LogNorm(min(positive), max(positive)) if min(positive) < max(positive) else None
    _map(figure, left, heat, heat.importance, "viridis", scale, "Importance of tensors: mean |weight x gradient|")
    top = max(2.0, max(value for row in heat.multiplier for value in row))
    middle = TwoSlopeNorm(1.0, 0.0, top)
    _map(figure, right, heat, heat.multiplier, "RdBu_r", middle, "Multiplier of the learning rate")
    rows = row_places(heat)
    left.set_yticks(rows, [tensor for _, tensor in heat.units], fontsize=7)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
    for layer, first in first_rows(heat).items():
        left.annotate(
            f"layer {layer} ({found.origin(layer)})", (0, first - 0.75), (-6, 0), fontsize=8, fontweight="bold",
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center",
        )  # fmt: skip


def _map(figure: Any, axes: Any, heat: Heat, values: list[list[float]], colours: str, scale: Any, title: str) -> None:
    grid = [[float("nan")] * len(heat.steps) for _ in range(round(row_places(heat)[-1]) + 1)]
    for place, row in zip(row_places(heat), values, strict=True):
        grid[place] = row
    image = axes.imshow(grid, aspect="auto", interpolation="nearest", cmap=colours, norm=scale)
    axes.set_title(title, fontsize=10, loc="left")
    ticks = evenly(len(heat.steps), 9)
    axes.set_xticks(ticks, [str(heat.steps[i]) for i in ticks], fontsize=8)
    axes.set_xlabel("measured at step", fontsize=9)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.9, aspect=30, pad=0.02).ax.tick_params(labelsize=7)


def gaps(heat: Heat) -> list[int]:
    """The rows of a heat map that start a layer."""
    layers = [layer for layer, _ in heat.units]
    return [row for row, layer in enumerate(layers) if row == 0 or layers[row - 1] != layer]


def row_places(heat: Heat) -> list[int]:
    """Where each row stands when every layer has a free row for its name before it."""
    starts = gaps(heat)
    return [row + sum(start <= row for start in starts) for row in range(len(heat.units))]


def first_rows(heat: Heat) -> dict[int, int]:
    """By layer, the place of its first row."""
    places = row_places(heat)
    return {heat.units[row][0]: places[row] for row in gaps(heat)}
