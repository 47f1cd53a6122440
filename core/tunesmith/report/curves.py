"""Every metric of a run as a curve, under headings, those together that are read together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tunesmith.report import svg
from tunesmith.report.folder import Curve, RunFolder
from tunesmith.report.markup import Markup

SPAN = 100.0
"""A positive metric that spans more than this factor is drawn on a logarithmic scale where it may be."""
SHARE = "share"
"""What is between 0 and 1; its scale begins at 0."""
TOGETHER = 8
"""Curves in one picture at most."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of the metrics whose names match.

    Attributes:
        title: of the picture; names of the metrics follow where it holds one.
        patterns: of names, with ``*``.
        y: what the values are.
        band: a metric that is drawn as a spread around the only curve.
        log: whether a wide span is drawn logarithmically.
    """

    title: str
    patterns: tuple[str, ...]
    y: str = ""
    band: str = ""
    log: bool = False


GROUPS: Mapping[str, tuple[Chart, ...]] = {
    "Loss": (
        Chart("Loss", ("loss",)),
        Chart("Held-out loss", ("eval/*/loss",), "nats"),
        Chart("Loss by source", ("loss/*",), "nats per token"),
        Chart("Parts of the loss", ("*_loss",)),
        Chart("Accuracy of tokens", ("mean_token_accuracy",)),
        Chart("Accuracy, held out", ("eval/*accuracy", "eval/*accuracies")),
        Chart("Forgetting and gain", ("forgetting", "domain_gain"), "nats per token"),
    ),
    "Rewards": (
        Chart("Reward, and the spread within groups", ("reward",), band="reward_std"),
        Chart("Mean of each reward", ("rewards/*/mean",)),
        Chart("Spread of each reward", ("rewards/*/std",)),
        Chart("Answers without a score, by reward", ("rewards/*/*",), SHARE),
        Chart("Answers right", ("pass_at_*",), SHARE),
        Chart("Groups of equal rewards, answers without reward", ("frac_reward_zero_std", "rewards/unscored"), SHARE),
        Chart("Spread of rewards within groups", ("reward_std",)),
    ),
    "Answers": (
        Chart("Length of answers", ("completions/*length",), "tokens"),
        Chart("Answers cut off", ("completions/clipped_ratio",), SHARE),
    ),
    "Preferences": (
        Chart("Rewards of both answers", ("rewards/chosen", "rewards/rejected")),
        Chart("Margin", ("rewards/margins",)),
        Chart("Pairs in the right order", ("rewards/accuracies",), SHARE),
        Chart("Log-probability of answers", ("logps/*",), "nats"),
    ),
    "Policy": (
        Chart("Entropy", ("entropy",), "nats"),
        Chart("KL to the reference", ("kl", "kl_per_answer"), "nats"),
        Chart("Change of the policy within a step", ("approx_kl",), "nats"),
        Chart("Ratio of new to old policy", ("ratio/*",)),
        Chart("Tokens whose ratio is clipped", ("clip_ratio/*",), SHARE),
        Chart("Sampler and policy: difference", ("sampling/*difference/*",), "nats", log=True),
        Chart("Sampler and policy: ratio", ("sampling/*",)),
        Chart("Explained variance of the critic", ("explained_variance",)),
    ),
    "Optimizer": (
        Chart("Learning rate", ("learning_rate",)),
        Chart("Norm of the gradient", ("grad_norm",), log=True),
    ),
    "Data and speed": (
        Chart("Share of each source", ("mix/*",), SHARE),
        Chart("Tokens", ("num_tokens", "num_trained_tokens")),
        Chart("Epoch", ("epoch",)),
        Chart("Tokens per second", ("tokens_per_s",)),
        Chart("Seconds of a step", ("step_s", "time/*"), log=True),
    ),
}


def sections(run: RunFolder) -> list[tuple[str, list[Markup]]]:
    """Headings and pictures; every metric is in one of them."""
    left = dict(run.curves)
    found = []
    for heading, charts in GROUPS.items():
        pictures = [picture for chart in charts for picture in _drawn(run, chart, left)]
        if pictures:
            found.append((heading, pictures))
    others = _others(run, left)
    return [*found, ("Other metrics", others)] if others else found


def _drawn(run: RunFolder, chart: Chart, left: dict[str, Curve]) -> list[Markup]:
    """The pictures of a chart, several where it holds many curves; what is drawn is taken out of ``left``."""
    names = [name for pattern in chart.patterns for name in left if fnmatchcase(name, pattern)]
    names = list(dict.fromkeys(names))
    drawn = [picture(run, chart, names[i : i + TOGETHER]) for i in range(0, len(names), TOGETHER)]
    for name in (*names, chart.band) if names else ():
        left.pop(name, None)
    return drawn


def picture(run: RunFolder, chart: Chart, names: Sequence[str]) -> Markup:
    """Some metrics of a run in one picture."""
    lines = []
    for name in names:
        curve = run.curve(name)
        low, high = _spread(curve, run.curve(chart.band)) if len(names) == 1 and chart.band else ((), ())
        label = name if len(names) == 1 else short(name, names)
        lines.append(svg.Line(label, curve.points(), low=low, high=high, smoothed=not name.startswith("eval/")))
    marks = [svg.Mark(step, "went on") for step in run.resumed_at()]
    title = chart.title if len(names) != 1 or "*" not in "".join(chart.patterns) else f"{chart.title}: {names[0]}"
    logarithmic = chart.log and all(wide(run.curve(name)) for name in names)
    return svg.lines(title, lines, y=chart.y, marks=marks, log_y=logarithmic, zero=chart.y == SHARE)


def wide(curve: Curve) -> bool:
    """True for a metric that is positive and spans powers of ten."""
    values = curve.finite()
    return bool(values) and min(values) > 0 and max(values) / min(values) > SPAN


def _spread(curve: Curve, by: Curve) -> tuple[Sequence[float], Sequence[float]]:
    """Edges of a band around a curve; nan where there is no spread."""
    known = dict(by.points())
    around = [(value, known.get(step, math.nan)) for step, value in curve.points()]
    return (
        ([value - apart for value, apart in around], [value + apart for value, apart in around]) if known else ((), ())
    )


def _others(run: RunFolder, left: Mapping[str, Curve]) -> list[Markup]:
    """What no chart asks for: one picture a metric."""
    return [picture(run, Chart(name, (name,), log=True), [name]) for name in left]


def short(name: str, names: Sequence[str]) -> str:
    """A name without what it has in common with the others it stands beside.

    >>> short("rewards/math/mean", ["rewards/math/mean", "rewards/length/mean"])
    'math'
    """
    parts = [other.split("/") for other in names]
    own = name.split("/")
    first = 0
    while all(len(other) > first + 1 and other[first] == own[first] for other in parts) and len(own) > first + 1:
        first += 1
    last = len(own)
    while last - 1 > first and all(len(other) == len(own) and other[last - 1] == own[last - 1] for other in parts):
        last -= 1
    return "/".join(own[first:last])
