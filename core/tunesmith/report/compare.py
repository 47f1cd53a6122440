"""Runs side by side: those that differ in nothing but their seed are one group with a spread."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal

from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.report.folder import Curve, RunFolder
from tunesmith.report.overview import steps_done, total_steps, wall_seconds
from tunesmith.report.svg.scales import Point, number, smooth

Better = Literal["higher", "lower", "neither"]
KEY_METRICS: Mapping[str, Better] = {
    "reward": "higher",
    "pass_at_1": "higher",
    "rewards/*/mean": "higher",
    "eval/*": "lower",
    "loss": "lower",
    "mean_token_accuracy": "higher",
    "rewards/accuracies": "higher",
    "rewards/margins": "higher",
    "logps/chosen": "higher",
    "forgetting": "lower",
    "domain_gain": "higher",
    "kl_per_answer": "neither",
    "kl": "neither",
    "entropy": "neither",
    "completions/mean_length": "neither",
    "completions/clipped_ratio": "neither",
    "frac_reward_zero_std": "neither",
}
"""Metrics that are compared, in this order, and which way is better; of sampling methods ``loss`` says nothing."""
HIGHER = ("*accuracy", "*accuracies", "*margins")
LAST = 0.1
"""The final value of a metric of training is its mean over this last part of the steps."""
APART = frozenset({
    "output", "seed", "log_every", "save_every", "keep_checkpoints", "trackers", "plugins", "show_samples", "force",
})  # fmt: skip
"""Settings that do not make two runs different, or that are what the spread is over."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A number of several runs.

    Attributes:
        values: of the runs that have it.
        mean: of them; nan where there is none.
        sd: their deviation (n - 1); ``None`` for a single run.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the values."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def sd(self) -> float | None:
        """Of the values."""
        finite = all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if len(self.values) > 1 and finite else None

    def text(self, show: Callable[[float], str] = number) -> str:
        """Mean and deviation."""
        if not self.values:
            return "-"
        return show(self.mean) + (f" +- {show(self.sd)}" if self.sd is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """For programs; what is not finite becomes ``None``."""
        return {
            "mean": self.mean if math.isfinite(self.mean) else None,
            "sd": self.sd,
            "n": len(self.values),
            "values": [value if math.isfinite(value) else None for value in self.values],
        }


@dataclass(slots=True)
class Group:
    """Runs that differ in nothing but their seed, or that were put together on request.

    Attributes:
        settings: what they share, flat.
        runs: at least one.
        name: what tells it from the other groups.
        varies: settings in which its own runs differ.
    """

    settings: dict[str, Any]
    runs: list[RunFolder] = field(default_factory=list)
    name: str = ""
    varies: list[str] = field(default_factory=list)

    def over(self, of: Callable[[RunFolder], float | None]) -> Spread:
        """A number of each run."""
        found = (of(run) for run in self.runs)
        return Spread(tuple(value for value in found if value is not None))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the comparison: what it is, and a spread for each group."""

    name: str
    spreads: tuple[Spread, ...]
    show: Callable[[float], str] = number


@dataclass(frozen=True, slots=True)
class Comparison:
    """Groups side by side.

    Attributes:
        groups: at least one.
        differ: settings that differ between groups, with the value of each.
        rows: numbers.
        notes: what a reader must know.
    """

    groups: list[Group]
    differ: dict[str, list[Any]]
    rows: list[Row]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "schema": 1,
            "groups": [
                {
                    "name": group.name,
                    "method": group.runs[0].method,
                    "runs": [str(run.path) for run in group.runs],
                    "seeds": [run.settings.get("seed") for run in group.runs],
                    "numbers": {row.name: row.spreads[i].as_dict() for row in self.rows},
                }
                for i, group in enumerate(self.groups)
            ],
            "differ": self.differ,
            "notes": self.notes,
        }


def compare(runs: Sequence[RunFolder], metrics: Sequence[str] = (), by: Sequence[str] = ()) -> Comparison:
    """Group runs and hold the groups against each other.

    Args:
        runs: at least one.
        metrics: names (or patterns) of further metrics.
        by: settings whose values make a group; by default all but the seed.

    Raises:
        ConfigError: no run has such a setting.
    """
    groups = grouped(runs, by)
    differ = _differing(groups)
    _name(groups, differ)
    return Comparison(groups, differ, [*_metric_rows(groups, metrics), *_cost_rows(groups)], _notes(groups))


# ---------------------------------------------------------------------------------------------- groups
def grouped(runs: Sequence[RunFolder], by: Sequence[str] = ()) -> list[Group]:
    """Runs by their settings (by some of them alone, where ``by`` names any), in the order in which they were given."""
    groups: dict[str, Group] = {}
    found = [flat(run.settings) for run in runs]
    known = {key for settings in found for key in settings}
    for name in by:
        if name not in known:
            raise ConfigError(f"--by {name}: no run has such a setting{did_you_mean(name, known)}")
    for run, whole in zip(runs, found, strict=True):
        settings = {key: value for key, value in whole.items() if key.partition(".")[0] not in APART}
        key = json.dumps({name: whole.get(name) for name in by} if by else settings, sort_keys=True, default=str)
        group = groups.setdefault(key, Group(settings))
        group.runs.append(run)
        names = {*group.settings, *settings} if by else ()
        group.varies += [name for name in sorted(names) if group.settings.get(name) != settings.get(name)]
    for group in groups.values():
        group.varies = sorted(set(group.varies))
        group.settings = {name: value for name, value in group.settings.items() if name not in group.varies}
    return list(groups.values())


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under names with dots.

    >>> flat({"a": {"b": 1}, "c": [{"d": 2}]})
    {'a.b': 1, 'c.0.d': 2}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            found |= flat({str(i): item for i, item in enumerate(value)}, f"{name}.")
        else:
            found[name] = value
    return found


def _differing(groups: Sequence[Group]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(name for group in groups for name in group.settings))
    values = {name: [group.settings.get(name) for group in groups] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _name(groups: Sequence[Group], differ: Mapping[str, Sequence[Any]]) -> None:
    """The method, and where that is not enough the settings in which groups of one method differ."""
    for group in groups:
        alike = [i for i, other in enumerate(groups) if other.runs[0].method == group.runs[0].method]
        own = {name: values for name, values in differ.items() if any(values[i] != values[alike[0]] for i in alike)}
        told = [f"{name.rpartition('.')[2]} {_short(group.settings.get(name))}" for name in list(own)[:3]]
        group.name = ", ".join([group.runs[0].method, *told])
    names = [group.name for group in groups]
    for i, group in enumerate(groups):
        if names.count(group.name) > 1:
            group.name += f" ({names[: i + 1].count(group.name)})"


def _short(value: Any) -> str:
    text = number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"...{text[-21:]}"


# ---------------------------------------------------------------------------------------------- numbers
def _metric_rows(groups: Sequence[Group], wanted: Sequence[str]) -> list[Row]:
    rows = []
    for name, better in compared_metrics(groups, wanted).items():
        rows.append(Row(f"{name}, final", tuple(group.over(partial(final, name=name)) for group in groups)))
        if better != "neither":
            found = tuple(group.over(partial(best, name=name, better=better)) for group in groups)
            rows.append(Row(f"{name}, best", found))
    return rows


def compared_metrics(groups: Sequence[Group], wanted: Sequence[str] = ()) -> dict[str, Better]:
    """The metrics that any of the runs has, and which way is better."""
    names = list(dict.fromkeys(name for group in groups for run in group.runs for name in run.curves))
    sampled = "reward" in names
    patterns: dict[str, Better] = {**KEY_METRICS, **dict.fromkeys(wanted, "neither")}
    found: dict[str, Better] = {}
    for pattern, better in patterns.items():
        if pattern == "loss" and sampled and pattern not in wanted:
            continue
        for name in names:
            if fnmatchcase(name, pattern) and name not in found:
                upward = any(fnmatchcase(name, higher) for higher in HIGHER)
                found[name] = "higher" if upward else better
    return found


def final(run: RunFolder, name: str) -> float | None:
    """The last value of an evaluation; of a metric of training the mean over the last `LAST` of its steps."""
    curve = run.curve(name)
    if not curve.values:
        return None
    if name.startswith("eval/") or name in ("forgetting", "domain_gain"):
        return curve.last()
    last = curve.values[-max(1, round(LAST * len(curve.values))) :]
    return math.fsum(last) / len(last) if all(map(math.isfinite, last)) else math.nan


def best(run: RunFolder, name: str, better: Better) -> float | None:
    """The best value of an evaluation; of a metric of training the best of its smoothed course."""
    curve = run.curve(name)
    values = curve.finite() if name.startswith("eval/") else [value for _, value in smoothed(curve)]
    if not values:
        return None
    return max(values) if better == "higher" else min(values)


def smoothed(curve: Curve) -> list[Point]:
    """The course of a metric, means over about a tenth of the run."""
    return smooth(curve.points(), max(1, round(LAST * len(curve.values))))


def _cost_rows(groups: Sequence[Group]) -> list[Row]:
    from tunesmith.report.overview import duration

    def spreads(of: Callable[[RunFolder], float | None]) -> tuple[Spread, ...]:
        return tuple(group.over(of) for group in groups)

    rows = [
        Row("steps", spreads(lambda run: float(steps_done(run)))),
        Row("wall time", spreads(wall_seconds), duration),
        Row("tokens", spreads(lambda run: run.curve("num_tokens").last() if "num_tokens" in run.curves else None)),
    ]
    level = common_reward([run for group in groups for run in group.runs])
    if level is not None:
        rows.append(Row(f"KL at reward {number(level)}", spreads(lambda run: kl_at(run, level))))
        rows.append(Row(f"steps to reward {number(level)}", spreads(lambda run: step_at(run, level))))
    return rows


def common_reward(runs: Sequence[RunFolder]) -> float | None:
    """The greatest reward that the smoothed course of every run has reached, where all have rewards."""
    tops = [max((value for _, value in smoothed(run.curve("reward"))), default=None) for run in runs]
    known = [top for top in tops if top is not None]
    return min(known) if len(known) == len(runs) and len(runs) > 1 else None


def step_at(run: RunFolder, level: float) -> float | None:
    """The first step at which the smoothed reward has reached a level."""
    return next((step for step, value in smoothed(run.curve("reward")) if value >= level), None)


def kl_at(run: RunFolder, level: float) -> float | None:
    """The smoothed KL to the reference at that step."""
    step = step_at(run, level)
    course = next((smoothed(run.curve(name)) for name in ("kl_per_answer", "kl") if name in run.curves), [])
    return None if step is None else next((value for at, value in course if at >= step), None)


def _notes(groups: Sequence[Group]) -> list[str]:
    notes = []
    for group in groups:
        if group.varies:
            notes.append(f"{group.name}: its runs differ in {', '.join(group.varies)}")
        seeds = [run.settings.get("seed") for run in group.runs]
        if len(set(map(str, seeds))) < len(seeds):
            notes.append(f"{group.name}: the same seed more than once ({', '.join(map(str, seeds))})")
        for run in group.runs:
            total = total_steps(run)
            if total is not None and steps_done(run) < total:
                notes.append(f"{run.path}: {steps_done(run):,} of {total:,} steps")
            notes += [f"{run.path}: {problem}" for problem in run.problems]
    if all(len(group.runs) == 1 for group in groups):
        notes.append("one run each: without further seeds a difference may be chance")
    return notes
