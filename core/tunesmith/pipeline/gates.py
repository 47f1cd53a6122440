"""Gates: what must hold of a stage's result before the next one begins.

A gate measures one number and gives it a window. It is written as one of

    {metric: forgetting, max: 0.1}                          the last value of a metric of the run, or the mean of `last`
    {answers: {data: ..., reward: ...}, min: 0.05, max: 0.95}   pass@1 of the stage's model on prompts
    {forgetting: {data: ..., since: stages.base}, max: 0.05}    by how much text got harder to predict, bits per byte
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tunesmith.errors import ConfigError, did_you_mean

Kind = Literal["metric", "answers", "forgetting"]
KINDS: tuple[Kind, ...] = ("metric", "answers", "forgetting")
ANSWERS: Mapping[str, type | tuple[type, ...]] = {
    "data": (str, dict), "reward": (str, dict, list), "measure": str, "samples": int, "max_new_tokens": int,
    "temperature": (int, float), "right": (int, float), "limit": int, "seed": int,
}  # fmt: skip
FORGETTING: Mapping[str, type | tuple[type, ...]] = {"data": (str, dict), "since": str, "max_length": int}
MEASURES = ("pass@1", "greedy pass@1", "mean reward")


@dataclass(frozen=True, slots=True)
class Gate:
    """A measure and its window.

    Attributes:
        kind: how the number is found.
        said: what the file says of that, with references as they were written.
        low, high: the window, both included; ``None``: open.
        last: lines of the metrics that are averaged.
    """

    kind: Kind
    said: Any
    low: float | None = None
    high: float | None = None
    last: int = 1

    @property
    def label(self) -> str:
        """What is measured, in words."""
        if self.kind == "metric":
            return f"{self.said}{f', mean of the last {self.last}' if self.last > 1 else ''}"
        if self.kind == "answers":
            rewards = self.said["reward"]
            names = [one if isinstance(one, str) else one.get("name") for one in _many(rewards)]
            return f"{self.said.get('measure', MEASURES[0])} by {' + '.join(map(str, names))}"
        return "forgetting in bits per byte"

    @property
    def window(self) -> str:
        """``at least 0.05, at most 0.95``."""
        parts = [("at least", self.low), ("at most", self.high)]
        return ", ".join(f"{word} {bound:g}" for word, bound in parts if bound is not None)

    def passes(self, value: float) -> bool:
        """True inside the window; a number that is not finite never is."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True, slots=True)
class Passage:
    """What a gate found.

    Attributes:
        gate, window: in words.
        value: the number.
        passed: whether it is inside the window.
        note: such as its interval.
    """

    gate: str
    window: str
    value: float
    passed: bool
    note: str = ""

    def line(self) -> str:
        """For people."""
        outcome = "passed" if self.passed else "NOT PASSED"
        return f"{self.gate}: {self.value:.4g}{f' ({self.note})' if self.note else ''}, {self.window}: {outcome}"


def read_gate(said: Any, where: str) -> Gate:
    """A gate as it is written in a file. Raises `ConfigError` for a key that it has not, or a window that is none."""
    kinds = [kind for kind in KINDS if isinstance(said, Mapping) and kind in said]
    if len(kinds) != 1:
        raise ConfigError(f"a gate measures one of {', '.join(KINDS)}", where=where, why=f"this one says {said!r}")
    [kind] = kinds
    known = {kind, "min", "max", *(["last"] if kind == "metric" else [])}
    for key in said:
        if key not in known:
            raise ConfigError(f"a gate has no {key!r}{did_you_mean(str(key), known)}", where=where)
    bounds = [said.get("min"), said.get("max")]
    numbers = [bound for bound in bounds if isinstance(bound, (int, float)) and not isinstance(bound, bool)]
    if not numbers or len(numbers) != sum(bound is not None for bound in bounds):
        raise ConfigError("a gate needs min, max, or both, as numbers", where=where)
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise ConfigError(f"min {numbers[0]:g} is above max {numbers[1]:g}", where=where)
    last = said.get("last", 1)
    if not isinstance(last, int) or last < 1:
        raise ConfigError(f"last: {last!r} is not a number of lines", where=where)
    if kind == "metric" and not isinstance(said[kind], str):
        raise ConfigError(f"metric: {said[kind]!r} is not the name of a metric", where=where)
    if kind != "metric":
        _check_keys(kind, said[kind], where)
    low, high = (None if bound is None else float(bound) for bound in bounds)
    return Gate(kind, said[kind], low, high, last)


def _check_keys(kind: Kind, said: Any, where: str) -> None:
    known = ANSWERS if kind == "answers" else FORGETTING
    if not isinstance(said, Mapping) or "data" not in said or (kind == "answers" and "reward" not in said):
        needed = "data and reward" if kind == "answers" else "data"
        raise ConfigError(f"{kind}: write a mapping with {needed}", where=where, why=f"keys: {', '.join(known)}")
    for key, value in said.items():
        if key not in known:
            raise ConfigError(f"{kind} has no {key!r}{did_you_mean(str(key), known)}", where=where)
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise ConfigError(f"{kind}.{key}: {value!r} is of the wrong kind", where=where)
    measure = said.get("measure", MEASURES[0])
    if kind == "answers" and measure not in MEASURES:
        raise ConfigError(
            f"answers.measure: {measure!r} is none of {', '.join(MEASURES)}{did_you_mean(measure, MEASURES)}",
            where=where,
        )


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


# ---------------------------------------------------------------------------------------------- measuring
def measure_gate(gate: Gate, said: Any, folder: Path, model: Path, start: str | None, options: Any) -> Passage:
    """Measure a gate.

    Args:
        gate: with its window.
        said: as ``gate.said``, references replaced by paths.
        folder: of the stage.
        model: of the stage.
        start: the model that the stage started from, where that is known.
        options: `tunesmith.pipeline.measure.Options`.

    Raises:
        ConfigError: the metric is not in the run's log; nothing to compare with.
    """
    if gate.kind == "metric":
        value, note = _metric(gate, folder), ""
    elif gate.kind == "answers":
        from tunesmith.pipeline.measure import answered

        value, note = answered(model, said, options)
    else:
        from tunesmith.pipeline.measure import forgotten

        since = said.get("since") or start
        if since is None:
            raise ConfigError("forgetting: a command starts from no model", fix="write since: stages.NAME, or a path")
        value, note = forgotten(str(since), model, said, options)
    return Passage(gate.label, gate.window, value, gate.passes(value), note)


def _metric(gate: Gate, folder: Path) -> float:
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    values = [line[gate.said] for line in lines if gate.said in line]
    if not values:
        known = sorted({key for line in lines for key in line} - {"step"})
        raise ConfigError(
            f"the gate's metric {gate.said!r} is not in {path}{did_you_mean(cast(str, gate.said), known)}",
            why=f"metrics: {', '.join(known) or 'none'}",
        )
    tail = values[-gate.last :]
    return float(sum(tail) / len(tail))
