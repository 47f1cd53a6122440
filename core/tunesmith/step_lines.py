"""Files of JSON lines that say their step, of a run that may have been cut short and goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append what is known of a step, in place of what a run that goes on has written of it and of later ones."""
    keep_lines(path, line["step"] - 1)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str) + "\n")


def keep_lines(path: Path, after: int) -> None:
    """Keep only the lines that were written for steps up to ``after``; make the file where there is none."""
    kept = []
    if path.exists():
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= after]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(line: str) -> float:
    """The step of a line; a line cut short by a crash counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")
