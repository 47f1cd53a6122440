"""What a run has sampled: distributions over time, and the answers themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.report import svg
from tunesmith.report.folder import RunFolder, evenly
from tunesmith.report.markup import Markup, join, tag
from tunesmith.report.page import details, verbatim
from tunesmith.report.svg.scales import several

MOST_SHOWN, STEPS_SHOWN = 200, 12
"""Answers in the table at most, and steps that they are of."""
PROMPT, ANSWER, COLUMNS = 1000, 1500, 600
"""Characters of a text that the table shows."""
Sample = Mapping[str, Any]


def labels(samples: Iterable[Sample]) -> list[str]:
    """Names of the rewards, in the order of the run file."""
    return list(dict.fromkeys(label for sample in samples for label in _mapping(sample.get("rewards"))))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    """A number of a line; nan for what is none."""
    return float(value) if isinstance(value, (int, float)) else math.nan


# ---------------------------------------------------------------------------------------------- pictures
def pictures(run: RunFolder) -> list[Markup]:
    """Rewards and lengths as distributions over the run; empty where nothing was sampled."""
    if not run.samples:
        return []
    steps = list(dict.fromkeys(int(sample["step"]) for sample in run.samples))
    by_step: dict[int, list[Sample]] = {step: [] for step in steps}
    for sample in run.samples:
        by_step[int(sample["step"])].append(sample)

    few = run.sampled_steps < run.all_sampled_steps
    notes = [f"of {run.sampled_steps:,} of the {run.all_sampled_steps:,} steps that sampled"] if few else []

    def over_time(title: str, of: Any, y: str) -> Markup:
        values = [(step, [_number(of(one)) for one in by_step[step] if of(one) is not None]) for step in steps]
        return svg.spread(title, values, y=y, notes=notes)

    drawn = [over_time("Reward of the answers", lambda sample: sample.get("reward"), "reward")]
    names = labels(run.samples)
    if len(names) > 1:
        for name in names:
            drawn.append(
                over_time(
                    f"Reward: {name}", lambda sample, name=name: _mapping(sample.get("rewards")).get(name), "score"
                )
            )
    drawn.append(over_time("Length of the answers", lambda sample: sample.get("length"), "tokens"))
    drawn.append(_last_lengths(by_step[steps[-1]], run))
    return drawn


def _last_lengths(samples: Sequence[Sample], run: RunFolder) -> Markup:
    limit = run.settings.get("max_new_tokens")
    lengths = [_number(sample.get("length")) for sample in samples]
    near = isinstance(limit, int) and max(lengths, default=0) > limit / 2
    return svg.histogram(
        "Length of the answers of the last step", lengths, x="tokens", line=limit if near else None,
        said="max_new_tokens",
    )  # fmt: skip


def paths(run: RunFolder) -> list[Markup]:
    """Reward against KL, and against the length of answers: where a policy pays for its reward."""
    reward = dict(run.curve("reward").points())
    found: list[Markup] = []
    for name, title in (("kl_per_answer", "KL"), ("kl", "KL"), ("completions/mean_length", "length")):
        other = dict(run.curve(name).points())
        steps = [step for step in other if step in reward]
        if len(steps) < 2 or (title == "KL" and found):
            continue
        unit = "KL to the reference, nats" if title == "KL" else "tokens of an answer"
        points = [(other[step], reward[step]) for step in steps]
        found.append(svg.path(f"Reward against {title}", points, x=unit, y="reward", steps=steps))
    return found + _contributions(run)


def _contributions(run: RunFolder) -> list[Markup]:
    """What each reward adds to the whole, where there are several."""
    said = run.settings.get("rewards")
    names = labels(run.samples[:1])
    if not isinstance(said, list) or len(said) != len(names) or len(names) < 2:
        return []
    lines = []
    for name, settings in zip(names, said, strict=True):
        weight = _number(_mapping(settings).get("weight", 1.0))
        points = [(step, weight * value) for step, value in run.curve(f"rewards/{name}/mean").points()]
        lines.append(svg.Line(f"{name} x {weight:g}", points))
    return [svg.lines("What each reward adds (weight x mean)", lines, y="reward")]


# ---------------------------------------------------------------------------------------------- table
def table(run: RunFolder) -> list[Markup]:
    """Answers of a few steps with everything that is known of them, with a filter; empty where nothing was sampled."""
    chosen = _chosen(run.samples)
    if not chosen:
        return []
    names = labels(chosen)
    head = head_of(names)
    rows, before = [], None
    for sample in chosen:
        group = (sample["step"], sample.get("source"), sample.get("row"))
        if group != before or sample.get("sample") == 0:
            rows.append(_group_row(sample, len(head)))
        before = group
        rows.append(_row(sample, names))
    body = tag("table", tag("thead", tag("tr", *(tag("th", name) for name in head))), tag("tbody", *rows), id="samples")
    steps = len({sample["step"] for sample in chosen})
    said = f"{several(len(chosen), 'answer')} of {several(steps, 'step')}"
    said += ", evenly over the run" if steps > 1 else ""
    if len(chosen) < len(run.samples) or run.sampled_steps < run.all_sampled_steps:
        said += f"; samples.jsonl holds those of all {run.all_sampled_steps:,} steps that sampled"
    return [tag("p", said, class_="dim"), _filter(chosen), tag("div", body, class_="wide tall")]


def head_of(names: Sequence[str]) -> list[str]:
    """The columns of the table; a single reward is the whole reward."""
    return ["#", "reward", *(names if len(names) > 1 else ()), "advantage", "tokens", "stop", "answer"]


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    """Whole groups of a few steps, alike many of each."""
    steps = list(dict.fromkeys(sample["step"] for sample in samples))
    kept = [steps[i] for i in evenly(len(steps), STEPS_SHOWN)]
    found: list[Sample] = []
    for step in kept:
        room = MOST_SHOWN // len(kept)
        own = [sample for sample in samples if sample["step"] == step]
        end = min(room, len(own))
        while 0 < end < len(own) and own[end].get("sample") not in (0, None) and end < 2 * room:
            end += 1  # the rest of a group
        found += own[:end]
    return found


def _group_row(sample: Sample, width: int) -> Markup:
    columns = {name: value for name, value in _mapping(sample.get("columns")).items() if value is not None}
    where = f"step {sample['step']}, row {sample.get('row', '?')}"
    parts = [tag("span", where, class_="dim"), verbatim(_passage(sample.get("prompt")), PROMPT)]
    if columns:
        written = json.dumps(columns, ensure_ascii=False, default=str)
        parts.append(details(f"columns: {', '.join(map(str, columns))}", verbatim(written, COLUMNS)))
    return tag("tr", tag("td", *parts, colspan=width), class_="group")


def _row(sample: Sample, names: Sequence[str]) -> Markup:
    rewards, states = _mapping(sample.get("rewards")), _mapping(sample.get("states"))
    said = [_score(rewards.get(name), states.get(name)) for name in names]
    total = svg.number(_number(sample.get("reward"))) if sample.get("reward") is not None else join(said[:1] or ["-"])
    advantage = sample.get("advantage")
    numbers = [
        sample.get("sample", "?"),
        total,
        *(said if len(names) > 1 else ()),
        "-" if advantage is None else svg.number(_number(advantage)),
        sample.get("length", "?"),
    ]
    stop = str(sample.get("stop", "?"))
    cells = [tag("td", value, class_="n", data_name=name) for name, value in zip(head_of(names), numbers, strict=False)]
    cells += [tag("td", stop, data_name="stop"), tag("td", verbatim(_passage(sample.get("completion")), ANSWER))]
    return tag("tr", *cells, data_stop=stop, data_step=sample["step"])


def _score(score: Any, state: Any) -> Markup | str:
    if score is None:
        return tag("span", state or "no score", class_="state")
    return svg.number(_number(score))


def _passage(said: Any) -> str:
    """A text, or messages with the roles before them."""
    if isinstance(said, str):
        return said
    if isinstance(said, list) and all(isinstance(message, Mapping) for message in said):
        return "\n".join(f"{message.get('role', '?')}: {message.get('content', '')}" for message in said)
    return json.dumps(said, ensure_ascii=False, default=str)


def _filter(samples: Sequence[Sample]) -> Markup:
    """What the page's script filters the table by; hidden where no script runs."""
    choices = []
    for name in ("step", "stop"):
        values = list(dict.fromkeys(str(sample.get(name, "?")) for sample in samples))
        options = [tag("option", f"every {name}", value=""), *(tag("option", value, value=value) for value in values)]
        choices.append(tag("select", *options, name=name, aria_label=name))
    words = tag("input", type="search", placeholder="words", aria_label="words that an answer or its prompt holds")
    return tag("div", words, *choices, tag("output"), class_="filter", data_filters="samples", hidden=True)
