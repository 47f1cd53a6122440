"""The card of a model: ``README.md`` as hubs show it, and ``tunesmith.json`` with how it came about, for programs.

The lineage travels with the model: what a run starts from brings its own, and the run adds itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.config import Run
from tunesmith.runfile import dump
from tunesmith.runner import records

FILE = "tunesmith.json"
SCHEMA = 1


def lineage_of(model: str | Path) -> list[dict[str, Any]]:
    """The runs that a model came from, the first one first; empty for a model that no run has made."""
    path = Path(model) / FILE
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["lineage"]
    return found


def write_card(folder: Path, run: Run, output: Path, steps: int) -> None:
    """Write the card of the model in a folder.

    Args:
        folder: the model's.
        run: that made it.
        output: folder of the run, whose records say what it was trained on.
        steps: optimizer steps that it took.
    """
    write_lineage(folder, run.settings.model, _run(run, output, steps))


def write_lineage(folder: Path, model: str, last: Mapping[str, Any]) -> None:
    """Write the card of a model that was made from another one.

    Args:
        folder: the model's.
        model: what it was made from.
        last: what was done, as `entry` gives it.
    """
    lineage = [*lineage_of(model), dict(last)]
    content = {"schema": SCHEMA, "lineage": lineage}
    (folder / FILE).write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    adapter = (folder / "adapter_config.json").is_file()
    (folder / "README.md").write_text(card(lineage, adapter=adapter), encoding="utf-8")


def entry(what: str, model: str, data: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """One line of a lineage: a method or command, what it started from, and the data that it read."""
    return {"method": what, "model": model, "data": list(data), **more, "versions": {"tunesmith": version("tunesmith")}}


def _run(run: Run, output: Path, steps: int) -> dict[str, Any]:
    manifest = json.loads((output / records.MANIFEST).read_text(encoding="utf-8"))
    report = json.loads((output / "data_report.json").read_text(encoding="utf-8"))
    used = {(source["group"], source["label"]): source["used"] for source in report["sources"]}
    data = [
        {**source, "rows": used.get((source["group"], source["label"]))}
        for source in manifest["data"]
        if source["group"] != "eval"
    ]
    settings = run.settings
    about = {"objective": run.method.objective.selector, "adapter": settings.adapter, "steps": steps}
    found = entry(run.method.selector, settings.model, data, **about, seed=settings.seed)
    found["versions"] |= {name: manifest["packages"][name] for name in ("torch", "transformers")}
    return found


def card(lineage: Sequence[Mapping[str, Any]], *, adapter: bool) -> str:
    """``README.md`` with the metadata that hubs read in front.

    Args:
        lineage: as in `lineage_of`.
        adapter: True where the folder holds an adapter and not a whole model.
    """
    first, last = lineage[0]["model"], lineage[-1]
    hub = not Path(first).exists() and not Path(first).is_absolute() and Path(first).suffix != ".json"
    methods = list(dict.fromkeys(str(one["method"]).rpartition("/")[2].replace(" ", "-") for one in lineage))
    head: dict[str, Any] = {"library_name": "peft" if adapter else "transformers", "tags": ["tunesmith", *methods]}
    if hub:
        head["base_model"] = first
    rows = [
        f"| {i} | `{one['method']}` | {one.get('objective', '')} | {_data(one)} | {one.get('steps', 0):,} |"
        for i, one in enumerate(lineage, start=1)
    ]
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    return "\n".join(
        [
            "---",
            dump(head).rstrip(),
            "---",
            "",
            "# Model card",
            "",
            f"{'An adapter' if adapter else 'A model'} made with tunesmith, from {_plain(first)}:",
            "",
            "| | method | loss | data | steps |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"{versions}. `{FILE}` has hashes of the data and the whole lineage.",
            "",
        ]
    )


def _data(one: Mapping[str, Any]) -> str:
    rows = [(source["label"], source.get("rows")) for source in one["data"]]
    return ", ".join(_plain(label) + (f" ({count:,} rows)" if count else "") for label, count in rows)


def _plain(text: str) -> str:
    """Text that Markdown takes as it is, in one cell of a table."""
    return "`" + "".join(char if char.isprintable() else " " for char in text).replace("`", "'").replace("|", "/") + "`"
