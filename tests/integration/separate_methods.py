"""Runs of built-in methods that were taken out, or taken away; started by a test in an environment of its own.

Arguments: a folder with the models and rows of the test, and the settings of one short run of every method as JSON.
Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from tunesmith import plugins
from tunesmith.cli.main import main
from tunesmith.config import Layers, resolve
from tunesmith.runner.launch import start

PACKAGE = "tunesmith_methods"


def run(registry: plugins.Registry, method: str, output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One step, and who provided the method and its loss."""
    made = resolve(registry, method, Layers(flags={**settings, "output": str(output), "max_steps": 1}))
    start(made, registry)
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return {
        "method": registry.owner(type(made.method)).origin,
        "objective": registry.owner(type(made.method.objective)).origin,
        "module": type(made.method).__module__,
        "steps": len(lines),
        "saved": (output / "model" / "config.json").is_file(),
    }


def copied(work: Path, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every method out of its own distribution, while all built-in ones and their losses are blocked."""
    folders = json.loads((work / "folders.json").read_text())
    registry = plugins.load(block=folders)
    found = {name: run(registry, name, work / "copied" / name, settings) for name, settings in runs.items()}
    return {"runs": found, "imported": sorted(name for name in sys.modules if name.split(".")[0] == PACKAGE)}


def deleted(work: Path, gone: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The toolkit without one of the folders."""
    import tunesmith_methods

    whole = Path(tunesmith_methods.__path__[0])
    part = work / f"without-{gone}" / PACKAGE
    part.mkdir(parents=True)
    for entry in whole.iterdir():
        if entry.name not in (gone, "__pycache__"):
            (part / entry.name).symlink_to(entry)
    _forget()
    sys.path.insert(0, str(part.parent))
    try:
        blocked = [name for name in json.loads((work / "copies.json").read_text())]
        said = {
            words[0]: _said(*words, *(f"--no-plugin={name}" for name in blocked))
            for words in (("list",), ("plugins", "--json"))
        }
        registry = plugins.load(block=blocked)
        others = {cls.name: plugin.name for plugin, cls in registry.current("method")}
        shown = {name: _said("show", f"method/{name}", *(f"--no-plugin={b}" for b in blocked))[0] for name in others}
        broken = {p.name: p.cause for p in registry.plugins if p.status == "broken"}
        method, settings = ("dpo", {**runs["dpo"], "objective": "dpop"}) if gone == "objectives" else ("pt", runs["pt"])
        method, settings = ("sft", runs["sft"]) if gone == "pt" else (method, settings)
        made = run(registry, method, work / f"without-{gone}" / "run", settings)
        return {"said": said, "shown": shown, "broken": broken, "methods": others, "run": made}
    finally:
        sys.path.remove(str(part.parent))
        _forget()


def _said(*words: str) -> tuple[int, str, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


if __name__ == "__main__":
    work, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
    found: dict[str, Any] = {"copied": copied(work, runs)}
    found["deleted"] = {name: deleted(work, name, runs) for name in json.loads((work / "folders.json").read_text())}
    print(json.dumps(found))
