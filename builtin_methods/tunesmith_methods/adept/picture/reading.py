"""What there is to draw, read from the folder of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import ConfigError

from ..record import FILE

METRICS = "metrics.jsonl"
Curve = list[tuple[int, float]]
"""Steps and values."""


@dataclass(frozen=True, slots=True)
class Heat:
    """A value of every unit at every measurement.

    Attributes:
        steps: of the measurements, C of them.
        units: names of the rows, R of them: the layer and the tensor in it.
        importance, multiplier: ``[R][C]``.
        mean_multiplier: ``[C]``, over all numbers that are trained.
    """

    steps: list[int]
    units: list[tuple[int, str]]
    importance: list[list[float]]
    multiplier: list[list[float]]
    mean_multiplier: list[float]


@dataclass(frozen=True, slots=True)
class Picture:
    """A run.

    Attributes:
        selection: how layers were chosen.
        importance: of every layer of the base, in nats per token; empty where it was not measured.
        chosen: layers of the base.
        copies: where their copies stand in the deeper model; empty where they are trained themselves.
        heat: ``None`` where the tensors were not measured.
        general, domain: losses in nats per token.
        probe: loss on the rows that importance is measured on, at every measurement.
        training: loss of every step.
        held_out: whether ``general`` and ``domain`` are of held-out rows; else the one is ``probe``, and the other
            the mean of ``training`` over parts of the run.
    """

    folder: Path
    selection: str
    importance: list[float]
    chosen: list[int]
    copies: list[int]
    heat: Heat | None
    general: Curve
    probe: Curve
    domain: Curve
    training: Curve
    held_out: tuple[bool, bool]

    def origin(self, layer: int) -> str:
        """What a trained layer is, in words."""
        if layer in self.copies:
            return f"copy of {self.chosen[self.copies.index(layer)]}"
        return "trained itself"


def read(folder: Path) -> Picture:
    """Read a run.

    Raises:
        ConfigError: no run folder, or one that holds no record of layers.
    """
    path = folder / FILE
    if not path.is_file():
        what = f"{folder} holds no {FILE}" if folder.is_dir() else f"there is no folder {folder}"
        raise ConfigError(what, fix="give the folder of a run of `tunesmith run adept`")
    record = json.loads(path.read_text(encoding="utf-8"))
    lines = _lines(folder / METRICS)
    probe = [(int(refresh["step"]), _mean(refresh["general_loss"])) for refresh in record["refreshes"]]
    general = _curve(lines, f"eval/{_setting(folder, 'general_set')}/loss")
    domain = _curve(lines, f"eval/{_setting(folder, 'domain_set')}/loss")
    training = _curve(lines, "loss")
    return Picture(
        folder=folder,
        selection=record["selection"],
        importance=list(record["layer_importance"] or ()),
        chosen=list(record["chosen"]),
        copies=list(record["copies"]),
        heat=_heat(record["refreshes"]),
        general=general or probe,
        probe=probe,
        domain=domain or _means(training),
        training=training,
        held_out=(bool(general), bool(domain)),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the metrics; a run that is going on may be writing the last one."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _setting(folder: Path, name: str) -> str:
    """A setting of the run, which its run file always has."""
    import yaml

    path = folder / "run.yaml"
    return str(yaml.safe_load(path.read_text(encoding="utf-8")).get(name, "")) if path.is_file() else ""


def _curve(lines: Iterable[Mapping[str, Any]], key: str) -> Curve:
    return [(int(line["step"]), float(line[key])) for line in lines if key in line]


def _means(curve: Curve) -> Curve:
    """Over twentieths of the run, for losses of single batches jump."""
    size = max(1, len(curve) // 20)
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(part[-1][0], _mean([value for _, value in part])) for part in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _heat(refreshes: Sequence[Mapping[str, Any]]) -> Heat | None:
    if not refreshes:
        return None
    names = list(refreshes[-1]["importance"])
    return Heat(
        steps=[int(refresh["step"]) for refresh in refreshes],
        units=[layer_and_tensor(name) for name in names],
        importance=[[float(refresh["importance"][name]) for refresh in refreshes] for name in names],
        multiplier=[[float(refresh["multiplier"][name]) for refresh in refreshes] for name in names],
        mean_multiplier=[float(refresh["mean_multiplier"]) for refresh in refreshes],
    )


def layer_and_tensor(name: str) -> tuple[int, str]:
    """The layer of a parameter, and its name in it.

    >>> layer_and_tensor("model.layers.12.self_attn.q_proj.weight")
    (12, 'self_attn.q_proj')
    >>> layer_and_tensor("transformer.h.3.attn.c_attn.bias")
    (3, 'attn.c_attn.bias')
    """
    found = re.search(r"(?:^|\.)(\d+)\.(.+)$", name)
    return (int(found[1]), found[2].removesuffix(".weight")) if found else (-1, name)


def layers_named(layers: Sequence[int]) -> str:
    """In words.

    >>> layers_named([3]), layers_named([3, 5])
    ('layer 3', 'layers 3, 5')
    """
    return f"layer{'' if len(layers) == 1 else 's'} {', '.join(map(str, layers))}"


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` places out of ``count``, the first and the last among them.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    >>> evenly(3, 10)
    [0, 1, 2]
    """
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]
