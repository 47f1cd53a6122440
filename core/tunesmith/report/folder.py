"""The folder of a run as a report reads it: whatever is missing, cut short or broken is noted and left out."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import ConfigError
from tunesmith.report.svg.scales import Point

RUN_FILE, MANIFEST, METRICS, SAMPLES = "run.yaml", "manifest.json", "metrics.jsonl", "samples.jsonl"
DATA_REPORT, LOG, FINAL = "data_report.json", "log.txt", "model"
MOST_STEPS = 400
"""Steps whose samples are read; of longer runs evenly many, the first and the last among them."""
_LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+): (.*)$")
_STEP = re.compile(rb'^\{"step": (\d+)')


@dataclass(slots=True)
class Curve:
    """A metric over steps."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def points(self) -> list[Point]:
        """Steps and values, in order."""
        return list(zip(self.steps, self.values, strict=True))

    def finite(self) -> list[float]:
        """The values that are finite."""
        return [value for value in self.values if math.isfinite(value)]

    def last(self) -> float:
        """The last value, nan where there is none."""
        return self.values[-1] if self.values else math.nan


@dataclass(frozen=True, slots=True)
class LogLine:
    """A message of log.txt."""

    level: str
    logger: str
    said: str


@dataclass(slots=True)
class RunFolder:
    """What a run has left behind.

    Attributes:
        path: the folder.
        settings: run.yaml.
        manifest: manifest.json.
        curves: metrics by name, in the order in which they were first written.
        trained: steps that were trained, in order.
        samples: lines of samples.jsonl, of at most `MOST_STEPS` steps.
        sampled_steps, all_sampled_steps: steps that `samples` are of, and all that have samples.
        data: data_report.json.
        log: log.txt.
        problems: what could not be read, in words.
    """

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    trained: list[int] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    sampled_steps: int = 0
    all_sampled_steps: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    log: list[LogLine] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        """Name of the method, as the run file writes it."""
        return str(self.settings.get("method", "?"))

    @property
    def finished(self) -> bool:
        """True where the final model is there."""
        return (self.path / FINAL).is_dir()

    @property
    def starts(self) -> list[dict[str, Any]]:
        """What is known of every start of the run, the resumed ones among them."""
        return [dict(start) for start in self.manifest.get("starts", ()) if isinstance(start, Mapping)]

    @property
    def ended(self) -> dict[str, Any]:
        """How the run ended, or nothing where it goes on or was killed."""
        return _mapping(self.manifest.get("ended"))

    def curve(self, name: str) -> Curve:
        """A metric; an empty curve where it was not measured."""
        return self.curves.get(name, Curve())

    def resumed_at(self) -> list[int]:
        """First steps after the run went on."""
        return [int(start["step"]) + 1 for start in self.starts[1:] if isinstance(start.get("step"), int)]

    def gaps(self) -> list[tuple[int, int]]:
        """First and last steps of stretches that metrics.jsonl lacks."""
        pairs = zip([0, *self.trained], self.trained, strict=False)
        return [(before + 1, now - 1) for before, now in pairs if now > before + 1]


def read(folder: Path, *, samples: bool = True) -> RunFolder:
    """Read the folder of a run, finished or not.

    Args:
        folder: of the run.
        samples: whether to read what it has sampled.

    Raises:
        ConfigError: it is not the folder of a run.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", fix="give the --output of a run")
    if not any((folder / name).is_file() for name in (RUN_FILE, METRICS)):
        raise ConfigError(
            f"{folder} is not the folder of a run",
            why=f"it holds neither {RUN_FILE} nor {METRICS}",
            fix="give the --output of a run that has begun to train",
        )
    found = RunFolder(folder)
    found.settings = _settings(found)
    found.manifest = _object(found, MANIFEST)
    found.data = _object(found, DATA_REPORT)
    _read_metrics(found)
    found.log = _log_lines(found)
    if samples:
        _read_samples(found)
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(found: RunFolder, name: str) -> str:
    try:
        return (found.path / name).read_text(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        found.problems.append(f"{name} could not be read: {error.strerror}")
        return ""


def _settings(found: RunFolder) -> dict[str, Any]:
    import yaml

    try:
        return _mapping(yaml.load(_text(found, RUN_FILE), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError:
        found.problems.append(f"{RUN_FILE} is not valid YAML")
        return {}


def _object(found: RunFolder, name: str) -> dict[str, Any]:
    text = _text(found, name)
    try:
        return _mapping(json.loads(text)) if text else {}
    except ValueError:
        found.problems.append(f"{name} is not valid JSON")
        return {}


# ---------------------------------------------------------------------------------------------- lines
def _records(found: RunFolder, name: str, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Objects of JSON lines; broken ones are counted. A last line without an end is one that is being written."""
    broken = 0
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            broken += line.endswith(b"\n")
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), (int, float)) and math.isfinite(record["step"]):
            yield record
        else:
            broken += 1
    if broken:
        found.problems.append(f"{broken:,} lines of {name} could not be read")


def _open(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from file


def _read_metrics(found: RunFolder) -> None:
    for record in _records(found, METRICS, _open(found.path / METRICS)):
        step = record.pop("step")
        for name, value in record.items():
            if value is None:
                value = math.nan
            if isinstance(value, (int, float)):
                curve = found.curves.setdefault(name, Curve())
                curve.steps.append(step)
                curve.values.append(_float(value))
        if "step_s" in record or "loss" in record:
            found.trained.append(int(step))


def _float(value: float) -> float:
    """As a float; an integer that is none becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _read_samples(found: RunFolder) -> None:
    path = found.path / SAMPLES
    steps = sorted({step for line in _open(path) if (step := _step(line)) is not None})
    every = [steps[i] for i in evenly(len(steps), MOST_STEPS)]
    wanted = set(every)
    lines = (line for line in _open(path) if (step := _step(line)) is None or step in wanted)
    found.samples = [record for record in _records(found, SAMPLES, lines) if record["step"] in wanted]
    found.sampled_steps, found.all_sampled_steps = len(wanted), len(steps)


def _step(line: bytes) -> int | None:
    match = _STEP.match(line)
    return int(match[1]) if match else None


def evenly(count: int, most: int) -> Sequence[int]:
    """At most ``most`` places out of ``count``, the first and the last among them.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    """
    if count <= most:
        return list(range(count))
    if most < 2:
        return [count - 1][:most]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _log_lines(found: RunFolder) -> list[LogLine]:
    lines: list[LogLine] = []
    for line in _text(found, LOG).split("\n"):
        match = _LOG_LINE.match(line)
        if match:
            lines.append(LogLine(match[1], match[2], match[3]))
        elif line and lines:
            lines[-1] = LogLine(lines[-1].level, lines[-1].logger, f"{lines[-1].said}\n{line}")
    return lines
