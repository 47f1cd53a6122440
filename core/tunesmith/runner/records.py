"""What a run leaves behind for people and programs: run.yaml, manifest.json, metrics.jsonl, data_report.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

from tunesmith import unsandboxed
from tunesmith.config import Run
from tunesmith.plugin_versions import versions
from tunesmith.plugins import Registry
from tunesmith.runfile import dump
from tunesmith.step_lines import keep_lines

RUN_FILE = "run.yaml"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
MANIFEST = "manifest.json"
PACKAGES = ("tunesmith", "torch", "transformers", "accelerate", "peft", "datasets", "bitsandbytes", "tokenizers")


class MetricsFile:
    """``metrics.jsonl``: one object per optimizer step (or evaluation), flushed at once.

    Args:
        path: the file.
        after: keep only what was written for steps up to this one, when a run goes on.
    """

    def __init__(self, path: Path, after: int) -> None:
        keep_lines(path, after)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


class SamplesFile:
    """``samples.jsonl``: one object per sampled completion; made when the first is written."""

    def __init__(self, path: Path) -> None:
        self.path, self._goes_on = path, False

    def write(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Append the completions of a step. When a run goes on, those that it had sampled already are replaced."""
        if not self._goes_on:
            keep_lines(self.path, step - 1)
            self._goes_on = True
        lines = (json.dumps({"step": step, **sample}, default=str) + "\n" for sample in samples)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)


def write_run_file(folder: Path, run: Run) -> None:
    """The resolved run file, every default written out."""
    text = dump(run.dump())
    (folder / RUN_FILE).write_text(f"# every setting of this run; `tunesmith run {RUN_FILE}` repeats it\n{text}")


def write_manifest(
    folder: Path,
    registry: Registry,
    sources: Sequence[Mapping[str, Any]],
    processes: int,
    start: Mapping[str, Any] | None = None,
) -> None:
    """Plugins and their versions, hashes of the data, state of the code, environment; and every start of the run.

    ``start``: what this start works with; those before its step are kept.
    """
    starts = [before for before in _manifest(folder).get("starts", ()) if start and start["step"]]
    manifest = {
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "processes": processes,
        "unsandboxed_code": unsandboxed.allowed(),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "plugins": versions(registry),
        "replaced": list(registry.notes),
        "data": list(sources),
        "git": _git_state(),
        "starts": [*starts, *([start] if start else [])],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def note_end(folder: Path, end: Mapping[str, Any], memory: Mapping[str, Any] | None = None) -> None:
    """Add to the manifest how the last start of the run ended, and its predicted and measured memory."""
    manifest = _manifest(folder)
    if memory is not None:
        manifest["memory"] = dict(memory)
    if manifest.get("starts"):
        manifest["starts"][-1]["ended"] = end
    aside = folder / f".writing-{MANIFEST}"
    aside.write_text(json.dumps({**manifest, "ended": end}, indent=1), encoding="utf-8")
    os.replace(aside, folder / MANIFEST)


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the run in the folder so far; empty where there is none, or a crash has cut it short."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_data_report(folder: Path, report: Mapping[str, Any]) -> None:
    """What became of the rows."""
    (folder / "data_report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def _git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the folder that the run was started from, or ``None`` outside a repository."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "clean": not status.stdout.strip()}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: before -> now`` for every value that differs."""
    lines = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {old!r} -> {new!r}")
    return lines
