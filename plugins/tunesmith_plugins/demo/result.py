"""What the demo has measured: read, shown, and said in words that follow the numbers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith_plugins.demo import stages, sums

WIDTH = 88
MEASURED = {
    "accuracy": "how often is every model right, on sums that none has seen",
    "prose": "how well does every model still know English prose",
}
START = "sft"
"""The stage that those after it start from."""
NAMES = {"pt": "PT", "cpt": "CPT", "sft": "SFT", "dpo": "DPO", "grpo": "GRPO", "rloo": "RLOO"}
LEARNERS = ("dpo", "grpo", "rloo")


def read(output: Path, accuracy: Sequence[Mapping[str, Any]], prose: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every stage with what was measured of its model.

    Args:
        output: folder of the demo, which holds the answers.
        accuracy: what ``tunesmith eval --json`` said of all models, the cold start first.
        prose: the same of ``--text``, pre-training first.

    Returns:
        ``stages`` in order and ``held_out``, what was measured on. Estimates are ``value``, ``low`` and ``high``
        (95%); ``change`` is the accuracy less that of the cold start, prompt by prompt, and ``forgetting`` the loss on
        prose less that after pre-training, nats per token.
    """
    right, known = ({one["model"]: one for one in measured} for measured in (accuracy, prose))
    answers = [json.loads(line) for line in (output / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    found = []
    for stage in stages.STAGES:
        model = str(stages.model_of(stage.method, output))
        change = right[model]["change"]
        found.append(
            {
                "method": stage.method,
                "folder": str(output / stage.folder),
                "starts_from": stage.start,
                "accuracy": right[model]["pass@1"],
                "greedy": right[model]["greedy pass@1"],
                "change": change["pass@1"] if change and stage.method in LEARNERS else None,
                "format": formed([one for one in answers if one["model"] == model and not one["greedy"]]),
                "prose_loss": known[model]["text"]["loss"],
                "forgetting": known[model]["text"]["change"],
            }
        )
    first = prose[0]["text"]
    held_out = {
        "problems": accuracy[0]["prompts"],
        "samples": accuracy[0]["samples"],
        "documents": first["documents"],
        "tokens": first["tokens"],
    }
    return {"held_out": held_out, "stages": found}


def formed(answers: Sequence[Mapping[str, Any]]) -> float:
    """Share of the answers whose reward ``format`` is 1."""
    return sum(one["rewards"]["format"] == 1.0 for one in answers) / len(answers)


# ---------------------------------------------------------------------------------------------- for people
HEAD = ("", "right answers", "greedy", "format", "prose loss", "forgotten", "CPU s")


def table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for every stage: the columns of `HEAD`."""
    rows = []
    for stage in found["stages"]:
        accuracy, forgetting = stage["accuracy"], stage["forgetting"]
        rows.append(
            (
                NAMES[stage["method"]],
                f"{accuracy['value']:.1%} ({100 * accuracy['low']:.0f}-{100 * accuracy['high']:.0f})",
                f"{stage['greedy']['value']:.0%}",
                f"{stage['format']:.0%}",
                f"{stage['prose_loss']['value']:.3f}",
                f"{forgetting['value']:+.3f}" if forgetting else "",
                f"{found['cpu_seconds'][stage['method']]:.0f}",
            )
        )
    return rows


def show(found: Mapping[str, Any], output: Path) -> None:
    """Print the table, what it says, what it does not say, and where everything is."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(header_style="dim", box=None, pad_edge=False)
    for heading in HEAD:
        drawn.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in table(found):
        drawn.add_row(*row)
    console = Console(width=WIDTH, highlight=False)
    for line in title(found).splitlines():
        console.print(textwrap.fill(line, WIDTH), markup=False)
    console.print()
    console.print(drawn)
    for paragraph in (*reading(found), limits(found)):
        console.print(f"\n{textwrap.fill(paragraph, WIDTH, break_on_hyphens=False)}", markup=False)
    seconds = sum(found["cpu_seconds"].values())
    console.print(f"\n{seconds:.0f} s of CPU time, {found['seconds']:.0f} s in all.", markup=False)
    console.print(f"Page: {output / 'report.html'}; models: {output}/*/model", markup=False, soft_wrap=True)


def title(found: Mapping[str, Any]) -> str:
    """What the table shows."""
    sets = found["held_out"]
    return (
        f"Right: share of {sets['samples']} sampled answers to each of {sets['problems']} sums that no stage has seen "
        f"(95% interval over sums).\nProse: loss on {sets['documents']} texts that no stage has seen, nats per token."
    )


def reading(found: Mapping[str, Any]) -> list[str]:
    """What the numbers say, whatever they are."""
    by_method = {stage["method"]: stage for stage in found["stages"]}
    first = f"{_brought(by_method['pt'], by_method['cpt'])} {_cold_start(by_method['cpt'], by_method['sft'])}"
    learned = [_learned(by_method[method]) for method in LEARNERS]
    return [first, " ".join([*learned, _sharpened(by_method)]), _forgotten(found["stages"])]


def _brought(pt: Mapping[str, Any], cpt: Mapping[str, Any]) -> str:
    before, after = pt["accuracy"], cpt["accuracy"]
    if after["low"] > before["high"]:
        said = f"From worked sums in plain text (CPT) the model has learned to add and subtract: {_share(after)} right"
    else:
        said = f"CPT on worked sums has not brought the model to add and subtract yet: {_share(after)} right"
    return f"{said}, after {_share(before)} before; {_lost(cpt)}."


def _lost(stage: Mapping[str, Any]) -> str:
    """What a stage has cost of the prose that pre-training knew."""
    change = stage["forgetting"]
    if change is None:
        return "its loss on prose cannot be compared with that of pre-training"
    if change["low"] > 0:
        return f"with 15% replay it forgot {change['value']:.3f} nats per token of prose"
    return "with 15% replay it forgot nothing of the prose that could be told from chance"


def _cold_start(cpt: Mapping[str, Any], sft: Mapping[str, Any]) -> str:
    form = f"answers in the wanted form: {sft['format']:.0%}, after {cpt['format']:.0%}"
    if sft["format"] < cpt["format"] + 0.5:
        return f"The cold start (SFT) has not taught the form ({form})."
    return f"The cold start (SFT) taught the form ({form}), at {_share(sft['accuracy'])} right."


def _learned(stage: Mapping[str, Any]) -> str:
    change, name = stage["change"], NAMES[stage["method"]]
    size = f"{100 * change['value']:+.1f} points, {100 * change['low']:+.1f} to {100 * change['high']:+.1f}"
    if change["low"] > 0:
        return f"{name} made it better than the cold start ({size})."
    if change["high"] < 0:
        return f"{name} made it worse than the cold start ({size})."
    return f"{name} changed nothing that can be told from chance ({size})."


def _sharpened(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether the most probable answers gained as the sampled ones did."""
    gains = {NAMES[method]: found[method]["greedy"]["value"] - found[START]["greedy"]["value"] for method in LEARNERS}
    said = ", ".join(f"{name} {100 * gain:+.0f}" for name, gain in gains.items())
    return f"In its most probable answers (greedy) the change is, in points: {said}."


def _forgotten(found: Sequence[Mapping[str, Any]]) -> str:
    """What the stages after CPT, which replay nothing, have cost of what pre-training knew."""
    costs = {NAMES[stage["method"]]: stage["forgetting"] for stage in found[2:] if stage["forgetting"]}
    lost = {name: cost["value"] for name, cost in costs.items() if cost["low"] > 0}
    if not lost:
        return "No stage after CPT is worse at prose than pre-training left it, by more than chance."
    said = ", ".join(f"{name} {value:.2f}" for name, value in lost.items())
    return f"What it cost: nothing is replayed after CPT, and the loss on prose is above that of PT by {said}."


def limits(found: Mapping[str, Any]) -> str:
    """What the numbers do not say."""
    if found["quick"]:
        return "The quick demo is far too short to say anything about learning: it only shows that the commands work."
    return (
        f"What this does not show: it is one seed ({found['seed']}) of a tiny model on a toy task, and intervals are "
        f"over sums, not seeds. In {sums.WRONG:.0%} of the worked sums one digit is wrong on purpose, as in text of "
        "the wild: DPO, GRPO and RLOO mostly take mistakes away again. The three are not ranked by this: DPO is given "
        "right answers, the others find their own, and budgets differ. What CPT replays is exactly what PT has read, "
        "which one seldom has."
    )


def _share(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.0%}"
