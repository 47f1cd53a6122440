"""What a pipeline's folder remembers: for every stage what went in, what came out, and how the gates were passed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import ConfigError

FILE = "pipeline.json"


@dataclass(slots=True)
class Record:
    """What is known of a stage.

    Attributes:
        inputs: what its result depends on.
        finished: whether the result is there.
        result: hash of the model that it made.
        seconds: that it took, over all its starts.
        gates: hash of a gate to what it found.
        stale: whether a stage that it reads was run anew on request, so that this one may be too.
    """

    inputs: Mapping[str, Any]
    finished: bool = False
    result: str = ""
    seconds: float = 0.0
    gates: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stale: bool = False


class State:
    """``pipeline.json`` in the folder of a pipeline; written anew, aside and renamed, after every change."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.stages: dict[str, Record] = {}
        if not self.path.is_file():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.stages = {name: Record(**said) for name, said in content["stages"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path} cannot be read, so it is not known which stages are done",
                why=f"{type(error).__name__}: {error}",
                fix="delete it to run all stages anew with --overwrite",
            ) from None

    def save(self) -> None:
        """Write it down."""
        content = {"schema": 1, "stages": {name: asdict(record) for name, record in self.stages.items()}}
        aside = self.path.with_name(f".{FILE}")
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(aside, self.path)
