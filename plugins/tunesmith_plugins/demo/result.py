"""What the runs of the demo have measured: read from their folders, and shown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("domain_before", "domain_after", "domain_gain", "general_before", "general_after", "forgetting")
WIDTH = 88


def read(folder: Path) -> dict[str, Any]:
    """The losses before the first step and after the last one, and what the method has made of them.

    Returns:
        Nats per token by the names in `COLUMNS`, and ``tokens`` trained on.
    """
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    before, *_, after = (line for line in lines if "forgetting" in line)
    return {
        "folder": str(folder),
        "tokens": max(line.get("num_tokens", 0) for line in lines),
        "domain_before": before["eval/domain/loss"],
        "domain_after": after["eval/domain/loss"],
        "domain_gain": after["domain_gain"],
        "general_before": before["eval/general/loss"],
        "general_after": after["eval/general/loss"],
        "forgetting": after["forgetting"],
    }


def held_out(folder: Path) -> dict[str, dict[str, int]]:
    """Documents and tokens of each evaluation set of a run."""
    report = json.loads((folder / "data_report.json").read_text(encoding="utf-8"))
    sets = [source for source in report["sources"] if source["group"] == "eval"]
    return {source["label"]: {"documents": source["used"], "tokens": source["trained"]} for source in sets}


# ---------------------------------------------------------------------------------------------- for people
def show(found: Mapping[str, Any]) -> None:
    """Print the table and what it says."""
    from rich.console import Console
    from rich.table import Table

    title = "held-out loss, nats per token (lower is better)"
    table = Table(title=title, title_justify="left", title_style="", header_style="dim", box=None, pad_edge=False)
    table.add_column("")
    for column in COLUMNS:
        style = "bold" if column in ("domain_gain", "forgetting") else ""
        table.add_column(column.replace("_", "\n", 1) if "_" in column else f"\n{column}", justify="right", style=style)
    for run in found["runs"]:
        table.add_row(run["name"], *(f"{run[column]:.3f}" for column in COLUMNS))
    console = Console(width=WIDTH, highlight=False)
    console.print(table)
    for paragraph in (reading(found), limits(found)):
        console.print(f"\n{textwrap.fill(paragraph, WIDTH, break_on_hyphens=False)}", markup=False)
    folders = [run["folder"] for run in found["runs"]]
    console.print(
        f"\n{found['seconds']:.0f} s. Models: {', '.join(f'{folder}/model' for folder in folders)}", markup=False
    )


def reading(found: Mapping[str, Any]) -> str:
    """What the numbers say, whatever they are."""
    without, replayed = found["runs"]
    sets = found["held_out"]
    start = (
        f"Both runs start from the same model, train on about as many tokens ({without['tokens']:,} and "
        f"{replayed['tokens']:,}), and are measured on the same documents, which no run has trained on: "
        f"source files ({sets['domain']['documents']}) and texts of English prose ({sets['general']['documents']}). "
    )
    if without["forgetting"] <= 0:
        return start + "Without replay nothing was forgotten here, so these runs say nothing about replay."
    cost = without["domain_gain"] - replayed["domain_gain"]
    return start + (
        f"Without replay the model got {without['domain_gain']:.3f} better at source code and "
        f"{without['forgetting']:.3f} worse at prose. With 15% replay it got {replayed['domain_gain']:.3f} better and "
        f"{_forgotten(without['forgetting'], replayed['forgetting'])}, for "
        f"{abs(cost):.3f} {'less' if cost > 0 else 'more'} gain."
    )


def _forgotten(without: float, replayed: float) -> str:
    if replayed <= 0:
        return "forgot nothing"
    change = 1 - replayed / without
    return f"{replayed:.3f} worse: {abs(change):.0%} {'less' if change > 0 else 'more'} forgetting"


def limits(found: Mapping[str, Any]) -> str:
    """What the numbers do not say."""
    if found["quick"]:
        return "The quick demo is far too short to say anything about replay: it only shows that the commands work."
    return (
        f"What this does not show: how much replay a real model needs. It is one seed ({found['seed']}) of a tiny "
        "model that has seen little text; what is replayed is exactly what it was pre-trained on, which one seldom "
        "has; and the two kinds of text are near, since source code holds docstrings. Losses of other tokenizers "
        "cannot be compared with these."
    )
