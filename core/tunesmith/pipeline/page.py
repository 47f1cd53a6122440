"""``report.html`` of a pipeline: its stages, their gates, where the model comes from, and the page of every run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.pipeline.spec import Pipeline, Stage
from tunesmith.pipeline.state import Record
from tunesmith.report.markup import Markup, tag
from tunesmith.report.overview import duration
from tunesmith.report.page import Page, notice, table
from tunesmith.runner.card import FILE as CARD
from tunesmith.runner.card import lineage_of

REPORT = "report.html"


def write_page(pipeline: Pipeline, records: Mapping[str, Record], models: Mapping[str, Path]) -> Path:
    """Write the page of a pipeline as far as it has come, and return its path.

    Args:
        pipeline: what is to be done.
        records: what is known of the stages that were started.
        models: folder of every stage's model.

    Raises:
        OSError: the page cannot be written.
    """
    return pipeline_page(pipeline, records, models).write(pipeline.output / REPORT)


def pipeline_page(pipeline: Pipeline, records: Mapping[str, Record], models: Mapping[str, Path]) -> Page:
    """The page of a pipeline."""
    known = [(stage, records.get(stage.name)) for stage in pipeline.stages]
    finished = sum(record is not None and record.finished for _, record in known)
    seconds = sum(record.seconds for _, record in known if record is not None)
    page = Page(
        f"Pipeline: {pipeline.output.resolve().name}",
        f"{finished} of {len(known)} stages done, {duration(seconds)} in all.",
    )
    gates = [row for stage, record in known if record is not None for row in _gates(stage, record)]
    failed = [row for row in gates if row[-1] == "not passed"]
    said = [notice(f"{name}: {gate} is {value}, not {window}", "error") for name, gate, value, _, window, _ in failed]
    rows = [_stage_row(pipeline, stage, record, any(row[0] == stage.name for row in failed)) for stage, record in known]
    head = ["stage", "what", "reads", "standing", "took", "gates", "page"]
    page.section("Stages", *said, table(head, rows, numbers=[4]))
    if gates:
        page.section("Gates", table(["stage", "gate", "found", "", "window", "outcome"], gates, numbers=[2]))
    page.section("Where the model comes from", *_lineage(known, models))
    return page


def _stage_row(pipeline: Pipeline, stage: Stage, record: Record | None, held: bool) -> list[object]:
    reads = ", ".join(stage.references()) or str(stage.settings.get("model", ""))
    took = "" if record is None else duration(record.seconds)
    gates = "" if record is None else f"{len(_passages(stage, record))} of {len(stage.gates)}" if stage.gates else ""
    return [stage.name, stage.what, reads, _standing(record, held), took, gates, _link(pipeline, stage)]


def _standing(record: Record | None, held: bool) -> str:
    if record is None:
        return "to do"
    if not record.finished:
        return "stopped"
    return "to do anew" if record.stale else "held up by a gate" if held else "done"


def _link(pipeline: Pipeline, stage: Stage) -> Markup | str:
    """The page of a run; the folder of what has none."""
    folder = pipeline.output / stage.name
    if (folder / REPORT).is_file():
        return tag("a", REPORT, href=f"{stage.name}/{REPORT}")
    if stage.writes and (folder / stage.writes).is_file():
        return tag("a", stage.writes, href=f"{stage.name}/{stage.writes}")
    return ""


def _passages(stage: Stage, record: Record) -> list[Mapping[str, Any]]:
    """What the gates of a stage found last; the record also holds gates that the file has no more."""
    wanted = {(gate.label, gate.window) for gate in stage.gates}
    return [said for said in record.gates.values() if (said["gate"], said["window"]) in wanted]


def _gates(stage: Stage, record: Record) -> Iterator[tuple[str, ...]]:
    for said in _passages(stage, record):
        outcome = "passed" if said["passed"] else "not passed"
        yield stage.name, said["gate"], f"{said['value']:.4g}", said["note"], said["window"], outcome


def _lineage(known: Sequence[tuple[Stage, Record | None]], models: Mapping[str, Path]) -> Iterator[Markup | str]:
    """The runs behind the model of the last stage that has one."""
    made = [stage.name for stage, record in known if record is not None and record.finished and not stage.writes]
    for name in reversed(made):
        if not (models[name] / CARD).is_file():
            continue
        try:
            lineage = lineage_of(models[name])
        except (ValueError, KeyError):
            yield notice(f"{models[name] / CARD} cannot be read", "warning")
            return
        rows = [
            (i, one["method"], one.get("model", ""), ", ".join(map(_data, one.get("data", ()))), one.get("steps", ""))
            for i, one in enumerate(lineage, start=1)
        ]
        yield f"The model of {name}, in {models[name]}:"
        yield table(["", "method", "starts from", "data", "steps"], rows, numbers=[0, 4])
        return


def _data(source: Mapping[str, Any]) -> str:
    rows = source.get("rows")
    return str(source.get("label", json.dumps(source))) + (f" ({rows:,} rows)" if rows else "")
