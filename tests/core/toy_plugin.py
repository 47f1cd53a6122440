"""A plugin with one small component of most kinds. Tests load it as a user would: ``--plugin toy_plugin.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import click
from pydantic import Field

import tunesmith


@dataclass
class Numbers:
    values: Any


class ToySum(tunesmith.Objective):
    """Add everything up."""

    name: ClassVar[str] = "toy-sum"
    inputs: ClassVar[type] = tunesmith.TokenLogps
    beta: float = Field(default=0.1, gt=0)
    """Strength."""

    def __call__(self, x: Any) -> tunesmith.Loss:
        return tunesmith.Loss(x.logps.sum())


class ToyNumbers(tunesmith.Objective):
    """Reads something that no toy method supplies."""

    name: ClassVar[str] = "toy-numbers"
    inputs: ClassVar[type] = Numbers

    def __call__(self, x: Any) -> tunesmith.Loss:
        return tunesmith.Loss(x.values.sum())


class ToyRamp(tunesmith.Scheduler):
    """Straight line down."""

    name: ClassVar[str] = "toy-ramp"
    final: float = Field(default=0.0, ge=0)
    """Where it ends."""

    def shape(self, step: int, total: int) -> float:
        return 1 - (1 - self.final) * step / total


class ToyRows(tunesmith.Source):
    """As many rows as the word says: toy:3."""

    name: ClassVar[str] = "toy-rows"
    priority: ClassVar[int] = 100
    count: int = 1
    """Rows."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        return {"count": int(word.removeprefix("toy:"))} if word.startswith("toy:") else None

    def rows(self) -> Iterator[tunesmith.Row]:
        for number in range(self.count):
            yield tunesmith.Row({"toy": str(number)}, "toy", number + 1)


class ToyFormat(tunesmith.DataFormat):
    """A column called toy."""

    name: ClassVar[str] = "toy-format"
    produces: ClassVar[type] = tunesmith.Text
    columns: ClassVar[tuple[str, ...]] = ("toy",)

    def __call__(self, row: Mapping[str, Any]) -> tunesmith.Text:
        return tunesmith.Text(row["toy"])


class ToyTracker(tunesmith.Tracker):
    """Throws everything away."""

    name: ClassVar[str] = "toy-tracker"
    folder: Path = Path("nowhere")
    """Where nothing goes."""

    def open(self, run: tunesmith.RunInfo) -> Any:
        return None


class Toy(tunesmith.OfflineMethod):
    """Learn from toys.

    The second paragraph is not what `list` shows.
    """

    name: ClassVar[str] = "toy"
    consumes: ClassVar[type] = tunesmith.Text
    supplies: ClassVar[type] = tunesmith.TokenLogps
    card: ClassVar[tunesmith.Card] = tunesmith.Card(
        "Toys, a study (arXiv:0000.00000)", "Testing.", "3 rows.", "Little."
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-3,
        "epochs": 3,
        "schedule": {"name": "toy-ramp", "warmup": 0.1},
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-3}
    presets: ClassVar[Mapping[str, tunesmith.Preset]] = {
        "wooden": tunesmith.Preset("Slow and sturdy.", {"learning_rate": 1e-4, "patience": 9}),
    }

    objective: tunesmith.AnyObjective = Field(default="toy-sum")
    """Loss."""
    patience: int = Field(default=3, ge=1)
    """Steps to wait."""
    colour: Literal["red", "light-blue"] = "red"
    """Colour of the toy."""
    loud: bool = False
    """Make ``noise``."""
    sizes: tuple[float, ...] = (1.0, 2.0)
    """Sizes of the toys."""
    label: str | None = None
    """What is written on it."""
    shadow: tunesmith.AnyScheduler | None = None
    """Schedule of the shadow."""


@tunesmith.hookimpl
def tunesmith_register_methods():
    return [Toy]


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [ToySum, ToyNumbers]


@tunesmith.hookimpl
def tunesmith_register_schedulers():
    return [ToyRamp]


@tunesmith.hookimpl
def tunesmith_register_sources():
    return [ToyRows]


@tunesmith.hookimpl
def tunesmith_register_data_formats():
    return [ToyFormat]


@tunesmith.hookimpl
def tunesmith_register_trackers():
    return [ToyTracker]


@tunesmith.hookimpl
def tunesmith_register_commands(cli):
    @cli.command("toybox")
    def toybox() -> None:
        """Open the toy box."""
        click.echo("a toy box")
