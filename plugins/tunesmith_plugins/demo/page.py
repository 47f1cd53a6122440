"""The report of the demo as a page: the table, pictures, what they say, and the commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_plugins.demo import result, stages

if TYPE_CHECKING:
    from tunesmith.report.markup import Markup
    from tunesmith.report.page import Page

SHOWN = 3
"""Problems whose answers are shown."""


def make(found: Mapping[str, Any], output: Path) -> Page:
    """The page of a finished demo."""
    from tunesmith.report.page import Page, grid, notice, table, verbatim

    said = [notice(result.limits(found), "warning" if found["quick"] else "info")]
    rows = result.table(found)
    made = Page("A small model through all stages", result.title(found))
    made.section("Result", table(result.HEAD, rows, numbers=range(1, len(result.HEAD))), *result.reading(found), *said)
    made.section("Pictures", grid(*_pictures(found, output)))
    answers = [[result.NAMES[method], prompt, text, right] for method, prompt, text, right in _answers(output)]
    made.section("Answers", "Most probable answers to sums that no stage has seen.",
                 table(["stage", "sum", "answer", "right"], answers))  # fmt: skip
    made.section("Runs", "Each has a page of its own.", table(["stage", "folder", "starts from"], _runs(found)))
    made.section("Commands", *(verbatim(command) for command in found["commands"]))
    return made


def _runs(found: Mapping[str, Any]) -> list[tuple[str, Markup, str]]:
    from tunesmith.report.markup import tag

    return [
        (
            result.NAMES[stage["method"]],
            tag("a", stage["folder"], href=f"{Path(stage['folder']).name}/report.html"),
            result.NAMES.get(stage["starts_from"], "random weights"),
        )
        for stage in found["stages"]
    ]


def _pictures(found: Mapping[str, Any], output: Path) -> list[Markup]:
    from tunesmith.report import svg

    names = [result.NAMES[stage["method"]] for stage in found["stages"]]
    right = {
        "sampled": [100 * stage["accuracy"]["value"] for stage in found["stages"]],
        "greedy": [100 * stage["greedy"]["value"] for stage in found["stages"]],
    }
    forgotten = [stage["forgetting"]["value"] if stage["forgetting"] else 0.0 for stage in found["stages"]]
    lines = [svg.Line(result.NAMES[method], _rewards(output, method)) for method in ("grpo", "rloo")]
    return [
        svg.bars("Right answers to unseen sums", names, right, unit="%"),
        svg.bars("Forgotten prose, against PT", names, forgotten, unit="nats per token"),
        svg.lines("Share of right answers while training", lines, x="step"),
    ]


def _rewards(output: Path, method: str) -> list[tuple[float, float]]:
    folder = stages.model_of(method, output).parent
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["step"], line["rewards/numeric/mean"]) for line in lines if "rewards/numeric/mean" in line]


def _answers(output: Path) -> list[tuple[str, str, str, str]]:
    """Method, prompt, most probable answer and whether it is right, for a few problems."""
    models = {str(stages.model_of(stage.method, output)): stage.method for stage in stages.STAGES}
    order = list(models.values())
    lines = map(json.loads, (output / "answers.jsonl").read_text(encoding="utf-8").splitlines())
    kept = [line for line in lines if line["greedy"] and line["row"] < SHOWN]
    kept.sort(key=lambda line: (line["row"], order.index(models[line["model"]])))
    return [
        (
            models[line["model"]],
            line["prompt"].strip(),
            line["completion"],
            "yes" if line["rewards"]["numeric"] else "no",
        )
        for line in kept
    ]
