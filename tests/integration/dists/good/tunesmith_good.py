"""A distribution as it should be: a method, a loss, a schedule and a command."""

from typing import Any, ClassVar

import click
from pydantic import Field

import tunesmith


class GoodLoss(tunesmith.Objective):
    """Likelihood of the good package."""

    name: ClassVar[str] = "good-loss"
    inputs: ClassVar[type] = tunesmith.TokenLogps
    weight: float = Field(default=1.0, gt=0)
    """Factor of the loss."""

    def __call__(self, x: tunesmith.TokenLogps) -> tunesmith.Loss:
        """Sum over the trained tokens."""
        return tunesmith.Loss(-self.weight * x.logps.sum())


class GoodMethod(tunesmith.OfflineMethod):
    """Train on text with the good package."""

    name: ClassVar[str] = "good-method"
    consumes: ClassVar[type] = tunesmith.Text
    supplies: ClassVar[type] = tunesmith.TokenLogps
    card: ClassVar[tunesmith.Card] = tunesmith.Card("-", "Never.", "None.", "None.")
    defaults: ClassVar[dict[str, Any]] = {"schedule": "good-ramp"}

    objective: tunesmith.AnyObjective = Field(default="good/good-loss")
    """Loss."""


class GoodRamp(tunesmith.Scheduler):
    """A straight line to zero."""

    name: ClassVar[str] = "good-ramp"

    def shape(self, step: int, total: int) -> float:
        """Fall from 1 to 0."""
        return 1 - step / total


@tunesmith.hookimpl
def tunesmith_register_methods():
    return [GoodMethod]


@tunesmith.hookimpl
def tunesmith_register_objectives():
    return [GoodLoss]


@tunesmith.hookimpl
def tunesmith_register_schedulers():
    return [GoodRamp]


@tunesmith.hookimpl
def tunesmith_register_commands(cli):
    @cli.command("good-morning")
    def good_morning() -> None:
        """Say good morning."""
        click.echo("good morning")
