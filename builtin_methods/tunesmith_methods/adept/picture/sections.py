"""The picture as a section of a run's page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith import ConfigError

from .reading import Heat, Picture, layers_named, read

if TYPE_CHECKING:
    from tunesmith.report.markup import Markup

MOST_ROWS = 40
"""Tensors in a heat map at most; of more, those of a layer become their mean."""


def sections(folder: Path) -> list[tuple[str, list[Markup]]]:
    """The section of a run; none where the record of its layers cannot be read."""
    from tunesmith.report.markup import tag
    from tunesmith.report.page import grid

    try:
        found = read(folder)
    except (ConfigError, json.JSONDecodeError):  # the run was stopped while the record was being replaced
        return []
    chosen, how = layers_named(found.chosen), f"chosen by {found.selection}"
    if found.copies:
        said = f"Copied: {chosen} of the base ({how}); trained: {layers_named(found.copies)} of the deeper model."
    else:
        said = f"Trained without a copy: {chosen} ({how})."
    return [("Layers", [tag("p", said), grid(*_pictures(found))])]


def _pictures(found: Picture) -> list[Markup]:
    from tunesmith.report import svg

    drawn = []
    if found.importance:
        labels = [str(layer) for layer in range(len(found.importance))]
        marked = "copied" if found.copies else "trained"
        notes = [f"{marked}: {layers_named(found.chosen)}, in the other colour"]
        title = "What general text loses without a layer"
        drawn.append(
            svg.bars(title, labels, found.importance, unit="nats", marked=found.chosen, log=True, notes=notes)
        )  # fmt: skip
    drawn.append(_losses(found))
    if found.heat is not None:
        heat = _by_layer(found.heat) if len(found.heat.units) > MOST_ROWS else found.heat
        rows = [f"{layer} {tensor}" for layer, tensor in heat.units]
        origins = [f"layer {layer}: {found.origin(layer)}" for layer in dict.fromkeys(layer for layer, _ in heat.units)]
        columns = list(map(str, heat.steps))
        title = "Importance to general text: mean |weight x gradient|"
        drawn.append(svg.heat(title, rows, columns, heat.importance, log=True, x="step", notes=["; ".join(origins)]))
        title = "Multiplier of the learning rate"
        drawn.append(svg.heat(title, rows, columns, heat.multiplier, middle=1.0, x="step"))
        means = list(zip(map(float, heat.steps), heat.mean_multiplier, strict=True))
        drawn.append(svg.lines("Mean multiplier", [svg.Line("mean", means, smoothed=False)]))
    return drawn


def _losses(found: Picture) -> Markup:
    from tunesmith.report import svg

    general, domain = (" (held out)" if held else other for held, other in zip(found.held_out, _STAND_INS, strict=True))
    lines = [
        svg.Line(f"general{general}", found.general, smoothed=False),
        svg.Line(f"domain{domain}", found.domain, smoothed=False),
    ]
    if found.held_out[0]:
        lines.append(svg.Line("general (probe)", found.probe, smoothed=False))
    return svg.lines("Loss on general text and on the domain", [line for line in lines if line.points], y="nats")


_STAND_INS = (" (probe)", " (training)")


def _by_layer(heat: Heat) -> Heat:
    """Means over the tensors of a layer."""
    layers = list(dict.fromkeys(layer for layer, _ in heat.units))
    rows = {layer: [row for row, (own, _) in enumerate(heat.units) if own == layer] for layer in layers}

    def means(values: list[list[float]]) -> list[list[float]]:
        columns = range(len(heat.steps))
        return [
            [math.fsum(values[row][j] for row in rows[layer]) / len(rows[layer]) for j in columns] for layer in layers
        ]

    units = [(layer, f"mean of {len(rows[layer])} tensors") for layer in layers]
    return Heat(heat.steps, units, means(heat.importance), means(heat.multiplier), heat.mean_multiplier)
